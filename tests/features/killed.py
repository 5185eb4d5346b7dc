"""Builds a store in a process of its own, writing its state after every shard; see `test_killed.py`."""

import sys

import numpy as np
from features.conftest import random_corpus, random_dictionary, random_model

from interpwidgets.features import FeatureStore, build, finish, shard

folder, seed, engine = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
build.PAUSE, build.WARM, shard.SHARD, finish.RANGE = -1.0, 3, 60, 7
print("ready", flush=True)
FeatureStore.build(
    folder, random_model(), random_dictionary(), random_corpus(np.random.default_rng(seed), 60), context=12,
    progress=False, engine=engine, workers=2 if engine else None,
)  # fmt: skip
