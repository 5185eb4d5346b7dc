"""A small store of the shipped dictionary, built on fresh text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import interpwidgets as iw
from interpwidgets.models.corpora import storyteller

torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> iw.FeatureStore:
    seed = int(np.random.default_rng().integers(1 << 30))
    corpus = storyteller.batch(seed=seed, step=0, rows=160, length=128, repeats=0.1, side="heldout")
    folder = tmp_path_factory.mktemp("autointerp") / "store"
    model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
    return iw.FeatureStore.build(folder, model, sae, corpus, progress=False)
