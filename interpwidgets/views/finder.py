"""Which heads do this? Scores of every head against a template, or against a region someone painted.

A score is the attention that a head spends on the template's keys, averaged over the queries that have any: 0 to 1,
and comparable between heads. A high score says where a head looks, not what it does: ablate it to find out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from interpwidgets.views.source import AttentionSource, Floats, Ints

__all__ = ["TEMPLATES", "region_scores", "template_scores"]

TEMPLATES = {
    "previous token": "attention to the token just before",
    "induction": "attention to the token after an earlier copy of this one (prefix matching, Olsson et al. 2022)",
    "duplicate": "attention to earlier copies of this token",
    "first token": "attention to the first position",
    "self": "attention to the token itself",
}
_WEIGHTS = 1 << 28  # looked at for all heads together; longer prompts are scored on evenly spaced queries
_COPIES = 64  # earlier copies of a token that count, the latest first: frequent tokens have thousands


def template_scores(source: AttentionSource) -> dict[str, Floats]:
    """For each template, the score of every head, `[layer, head]`; zero where no query has such a key."""
    layers, heads, n_queries, n_keys = source.shape
    chosen = _queries(0, n_queries, layers * heads * n_keys)
    pairs = {name: _pairs(name, source, chosen) for name in TEMPLATES}  # (row of the block, key)
    scores = {name: np.zeros((layers, heads), dtype=np.float32) for name in TEMPLATES}
    for layer in range(layers):
        for head in range(heads):
            block = _weights(source, layer, head, chosen, slice(0, n_keys))
            for name, (rows, keys) in pairs.items():
                if len(rows):
                    scores[name][layer, head] = block[rows, keys].sum() / len(np.unique(rows))
    return scores


def region_scores(source: AttentionSource, queries: slice, keys: slice) -> Floats:
    """The attention that each head spends in a region, averaged over its queries, `[layer, head]`."""
    layers, heads, _, n_keys = source.shape
    chosen = _queries(queries.start, queries.stop, layers * heads * n_keys)
    scores = np.zeros((layers, heads), dtype=np.float32)
    for layer, head in np.ndindex(layers, heads):
        scores[layer, head] = _weights(source, layer, head, chosen, keys).sum(axis=1).mean()
    return scores


def _weights(source: AttentionSource, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
    """A block; in a difference, a token without a counterpart differs by nothing."""
    return np.nan_to_num(source.block(layer, head, queries, keys), nan=0.0)


def _queries(start: int, stop: int, weights_a_query: int) -> Ints:
    affordable = max(16, _WEIGHTS // weights_a_query)
    if stop - start <= affordable:
        return np.arange(start, stop)
    return np.unique(np.linspace(start, stop - 1, affordable).astype(np.int64))


def _pairs(template: str, source: AttentionSource, queries: Ints) -> tuple[Ints, Ints]:
    """The template's cells: indices into `queries`, and keys."""
    rows = np.arange(len(queries))
    if source.query_tokens is not source.key_tokens:  # another text, or the last few: only the first key has a meaning
        return (rows, np.zeros_like(rows)) if template == "first token" else _none()
    if template == "self":
        return rows, queries
    if template == "first token":
        return rows[queries > 0], np.zeros(int((queries > 0).sum()), dtype=np.int64)
    if template == "previous token":
        return rows[queries > 0], queries[queries > 0] - 1
    shift = 1 if template == "induction" else 0
    before = _earlier_copies(source.key_tokens.keys, queries)
    found = [(row, copy + shift) for row, copies in enumerate(before) for copy in copies if copy + shift < queries[row]]
    if not found:
        return _none()
    pairs: Ints = np.array(found, dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def _none() -> tuple[Ints, Ints]:
    nothing: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    return nothing, nothing


def _earlier_copies(tokens: Sequence[object], queries: Ints) -> list[list[int]]:
    """For each query, where its token stood before, the latest `_COPIES`."""
    wanted = set(queries.tolist())
    seen: dict[object, list[int]] = {}
    copies = []
    for position, token in enumerate(tokens):
        places = seen.setdefault(token, [])
        if position in wanted:
            copies.append(places[-_COPIES:])
        places.append(position)
    return copies
