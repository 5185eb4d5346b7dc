"""The work on one shard of a corpus: run the model, encode, keep what is active. The same wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features.corpus import Corpus
from interpwidgets.features.files import whole
from interpwidgets.features.state import Active
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.models.splice import read

__all__ = ["SHARD", "Shard", "activations", "active_in", "read_active", "shard_of", "shards", "write_active"]

SHARD = 16_384  # tokens, about
_DENSE = 1 << 26  # activations computed at a time: 256 MB


@dataclass(frozen=True, eq=False)
class Shard:
    """Some contexts of a corpus, with their tokens: all that a worker has to be sent."""

    number: int
    tokens: NDArray[np.uint32]  # [token]
    starts: NDArray[np.int64]  # [context + 1], in the whole token file
    first: int  # the number of its first context
    bos: int | None


def shards(corpus: Corpus, context: int) -> list[tuple[int, int]]:
    """Cut a corpus into ranges of contexts."""
    step = max(1, SHARD // context)
    return [(first, min(first + step, len(corpus))) for first in range(0, len(corpus), step)]


def shard_of(corpus: Corpus, number: int, first: int, last: int) -> Shard:
    """One range with its tokens."""
    starts = corpus.starts[first : last + 1]
    return Shard(number, np.asarray(corpus.tokens[starts[0] : starts[-1]]), starts, first, corpus.bos)


@torch.no_grad()
def activations(model: Model, dictionary: Dictionary, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """What the dictionary reads, at the positions [row, pos] that are no padding: [token, d_in]."""
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    mask = None if bool(real.all()) else real.to(model.device, torch.long)
    found = read(model, ids.to(model.device), dictionary.reads, mask)
    x = torch.cat([found[site].flatten(2) for site in dictionary.reads], dim=-1)
    return x[real.to(x.device)].to(dictionary.W_dec.device, dictionary.W_dec.dtype)


def active_in(model: Model, dictionary: Dictionary, shard: Shard, batch: int) -> Active:
    """Every activation above zero in a shard; InputError if one is not a number."""
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    starts = torch.from_numpy(shard.starts - shard.starts[0])
    tokens = torch.from_numpy(shard.tokens.astype(np.int64))
    step = max(1, _DENSE // dictionary.d_dict)
    for first in range(0, len(starts) - 1, batch):
        edges = starts[first : first + batch + 1]
        lengths = edges.diff()
        rows = [tokens[start:end] for start, end in pairwise(edges.tolist())]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        x = activations(model, dictionary, ids, lengths)
        parts = range(0, len(x), step)
        found += [_above_zero(model, dictionary, x[part : part + step], int(edges[0]) + part) for part in parts]
    feature, token, value = (torch.cat([each[i] for each in found]).cpu().numpy() for i in range(3))
    context = np.searchsorted(shard.starts - shard.starts[0], token, side="right") - 1
    if shard.bos is not None:
        begins = token == (shard.starts - shard.starts[0])[context]
        kept = ~(begins & (shard.tokens[token] == shard.bos))
        feature, token, value, context = feature[kept], token[kept], value[kept], context[kept]
    order = np.argsort(feature, kind="stable")  # tokens are in order as they come
    return Active(
        feature[order].astype(np.int32), token[order] + shard.starts[0], context[order] + shard.first, value[order]
    )


@torch.no_grad()
def _above_zero(
    model: Model, dictionary: Dictionary, x: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(feature, token, value) of the activations above zero."""
    dense = dictionary.encode(x).float()  # [token, feature]
    if not bool(dense.sum(dtype=torch.float64).isfinite()):
        raise InputError(
            f"{dictionary!r} finds NaN or infinite activations in what {model!r} computes. Are the weights of both "
            "sound, and do they belong together?"
        )
    token, feature = (dense > 0).nonzero(as_tuple=True)
    return feature, token + first, dense[token, feature]


def write_active(path: Path, active: Active) -> None:
    """Keep a shard's activations, to read them again instead of computing them."""
    whole(path, lambda file: np.savez(file, **active._asdict()))


def read_active(path: Path) -> Active:
    """Read what `write_active` has written."""
    with np.load(path, allow_pickle=False) as found:
        return Active(**{name: found[name] for name in Active._fields})
