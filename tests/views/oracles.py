"""Slow, explicit versions of what the views compute, in float64; and patterns to try them on."""

from __future__ import annotations

import math

import numpy as np

from interpwidgets.tokens import Tokens

WORDS = ["the", " cat", " sat", " on", "\n", "<s>", " mat", ".", " dog", "a"]


def pattern(rng: np.random.Generator, layers: int, heads: int, queries: int, keys: int, causal: bool = False):
    """Random softmax rows, from peaked to diffuse, float32 `[layer, head, query, key]`."""
    scores = rng.normal(size=(layers, heads, queries, keys)) * rng.choice([0.3, 2.0, 8.0], size=(layers, heads, 1, 1))
    if causal:
        scores[..., np.triu(np.ones((queries, keys), dtype=bool), k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def words(rng: np.random.Generator, count: int) -> list[str]:
    return [WORDS[i] for i in rng.integers(len(WORDS), size=count)]


class Given:
    """A source that holds one signed array, and remembers what it was asked."""

    name = "given"

    def __init__(self, weights, tokens: Tokens | None = None, key_tokens: Tokens | None = None, causal: bool = False):
        self.weights, self.shape, self.causal = weights, weights.shape, causal
        self.query_tokens = tokens or Tokens.numbered(self.shape[2])
        self.key_tokens = key_tokens or (
            self.query_tokens if self.shape[2] == self.shape[3] else Tokens.numbered(self.shape[3])
        )
        self.asked: list[tuple[int, int, tuple[int, ...], slice]] = []

    def block(self, layer, head, queries, keys):
        self.asked.append((layer, head, tuple(int(q) for q in queries), keys))
        return self.weights[layer, head][queries][:, keys].astype(np.float32)


class Recorded:
    """A stand-in for a `Recording`: prompts that answer `attention(i)`."""

    def __init__(self, *sources):
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def attention(self, prompt: int):
        return self.sources[prompt]


def pool(weights, row_step: int, column_step: int, signed: bool = False):
    """Maximum (of largest magnitude, if signed) and mean of each cell, one cell at a time."""
    rows, columns = math.ceil(len(weights) / row_step), math.ceil(weights.shape[1] / column_step)
    top, mean = np.zeros((rows, columns)), np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            cell = [
                float(weights[i, j])
                for i in range(row * row_step, min((row + 1) * row_step, len(weights)))
                for j in range(column * column_step, min((column + 1) * column_step, weights.shape[1]))
            ]
            top[row, column] = max(cell, key=abs) if signed else max(cell)
            mean[row, column] = sum(cell) / len(cell)
    return top, mean


def decode(codes, meta):
    """What codes stand for, from the description in pyramid.py: code 0 is 0, the rest divide the octaves under high."""
    last = 127 if codes.dtype == np.int8 else 255
    values = np.empty(codes.shape)
    for place, code in np.ndenumerate(codes):
        size = abs(int(code))
        if last == 127 and code == -128:
            values[place] = math.nan
        elif size == 0:
            values[place] = 0
        else:
            below = meta["octaves"] * (last - size) / (last - 1)  # octaves under the highest
            values[place] = math.copysign(meta["high"] * 2.0**-below, int(code))
    return values
