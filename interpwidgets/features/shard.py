"""The work on one shard of a corpus: run the model, encode, keep what is active. The same wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

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
    token, feature, value = (torch.cat([each[i] for each in found]).cpu().numpy() for i in range(3))
    if shard.bos is not None:
        begins = np.zeros(len(tokens), dtype=bool)
        first_of = shard.starts[:-1] - shard.starts[0]
        begins[first_of] = shard.tokens[first_of] == shard.bos
        kept = ~begins[token]
        token, feature, value = token[kept], feature[kept], value[kept]
    begin = np.concatenate([[0], np.cumsum(np.bincount(token, minlength=len(tokens)))])
    by_feature = sparse.csr_matrix((value, feature, begin), shape=(len(tokens), dictionary.d_dict)).tocsc()
    context = np.repeat(np.arange(shard.first, shard.first + len(shard.starts) - 1), np.diff(shard.starts))
    return Active(
        np.repeat(np.arange(dictionary.d_dict, dtype=np.int32), np.diff(by_feature.indptr)),
        by_feature.indices + shard.starts[0],
        context[by_feature.indices],
        by_feature.data,
    )


@torch.no_grad()
def _above_zero(
    model: Model, dictionary: Dictionary, x: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(token, feature, value) of the activations above zero, by token."""
    if dictionary.kind == "topk":
        values, which = dictionary.largest(dictionary.before(x))
        values = values.float()
        token, place = (values > 0).nonzero(as_tuple=True)
        feature = which[token, place]
    else:
        values = dictionary.encode(x).float()  # [token, feature]
        token, place = (values > 0).nonzero(as_tuple=True)
        feature = place
    if not bool(values.sum().isfinite()) and not bool(values.isfinite().all()):
        raise InputError(
            f"{dictionary!r} finds NaN or infinite activations in what {model!r} computes. Are the weights of both "
            "sound, and do they belong together?"
        )
    return token + first, feature, values[token, place]


def write_active(path: Path, active: Active) -> None:
    """Keep a shard's activations, to read them again instead of computing them."""
    small = active._replace(token=active.token.astype(np.uint32), context=active.context.astype(np.uint32))
    whole(path, lambda file: np.savez(file, **small._asdict()))


def read_active(path: Path) -> Active:
    """Read what `write_active` has written."""
    with np.load(path, allow_pickle=False) as found:
        feature, token, context, value = (found[name] for name in Active._fields)
    return Active(feature, token.astype(np.int64), context.astype(np.int64), value)
