"""Features that a label should not be able to say much of: what a score has to exceed to mean something.

| control | what it is | what its score tells |
|---|---|---|
| shuffled labels | each feature against the label of another | whether scoring finds what is not there |
| other tokens | each feature's activations, dealt out to other tokens | the same of labels and scores together |
| random directions | directions at random, active as often as the features | what any direction would get |
| untrained model | the same in the model with new weights, or a dictionary of one | what needs no training |

"Other tokens" is at chance if nothing leaks, and "shuffled labels" nearly: features share text. The others need not be:
tokens can be told apart in any direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.autointerp.sources import Sampled, shard_of
from interpwidgets.features.shard import activations
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model

if TYPE_CHECKING:
    from interpwidgets.autointerp.sources import OfStore

__all__ = ["other_tokens", "random_directions", "their_features", "untrained"]

_CONTEXTS = 16  # run at a time


def other_tokens(source: OfStore, features: Sequence[int], seed: int) -> Sampled:
    """The features' activations, dealt out to other tokens: as many, as strong, together; of nothing in the text."""
    dense, counted = _dense(source, source.model, source.dictionary, features)
    rows = np.flatnonzero(counted)
    dense[rows] = dense[np.random.default_rng([seed, 1]).permutation(rows)]
    return Sampled(source.store, source.pool.tolist(), dense, seed)


def random_directions(source: OfStore, model: Model, features: Sequence[int], seed: int) -> Sampled:
    """Random directions of what is read, each above the bound that makes it active as often as one of the features."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(source.dictionary.d_in, len(features), generator=generator)
    directions = directions / directions.norm(dim=0)
    parts, counted = [], []
    for x, some in _read(source, model):
        parts.append((x.float().cpu() @ directions).numpy())
        counted.append(some)
    dense, here = np.concatenate(parts), np.concatenate(counted)
    for column, feature in enumerate(features):
        density = source.store[feature].density
        bound = np.quantile(dense[here, column], 1 - density)
        dense[:, column] = np.where(dense[:, column] > bound, dense[:, column] - bound, 0)
    dense[~here] = 0
    return Sampled(source.store, source.pool.tolist(), dense, seed)


def their_features(
    source: OfStore, model: Model, dictionary: Dictionary, features: Sequence[int], seed: int
) -> Sampled:
    """Features of another model and dictionary on the same text."""
    dense, _ = _dense(source, model, dictionary, features)
    return Sampled(source.store, source.pool.tolist(), dense, seed)


def untrained(model: Model, seed: int) -> Model:
    """The model with new weights: as its class draws them from the config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = type(model.module)
        module = kind(model.module.config).to(model.device).eval()
    return Model(module, model.tokenizer, name=f"{model.name} untrained")


def _dense(
    source: OfStore, model: Model, dictionary: Dictionary, features: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What features do in the pool [token, feature], and which tokens count: all but `<bos>` at the start."""
    parts, counted = [], []
    columns = torch.tensor(list(features))
    for x, some in _read(source, model, dictionary):
        with torch.no_grad():
            found = dictionary.encode(x)[:, columns.to(x.device)].float().clamp(min=0).cpu().numpy()
        parts.append(found * some[:, None])
        counted.append(some)
    return np.concatenate(parts), np.concatenate(counted)


def _read(
    source: OfStore, model: Model, dictionary: Dictionary | None = None
) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """What a dictionary reads in the pool, some contexts at a time: [token, d_in], and which tokens count."""
    pool, bos = source.pool.tolist(), source.store.about["corpus"]["bos"]
    for first in range(0, len(pool), _CONTEXTS):
        shard = shard_of(source.store, pool[first : first + _CONTEXTS])
        lengths = np.diff(shard.starts)
        tokens = torch.split(torch.from_numpy(shard.tokens.astype(np.int64)), lengths.tolist())
        ids = torch.nn.utils.rnn.pad_sequence(list(tokens), batch_first=True)
        counted = np.ones(len(shard.tokens), dtype=bool)
        begins = shard.starts[:-1]
        counted[begins[shard.tokens[begins] == (-1 if bos is None else bos)]] = False
        yield activations(model, dictionary or source.dictionary, ids, torch.from_numpy(lengths)), counted
