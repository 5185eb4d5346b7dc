"""The tensors that everyone is measured on, made from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
WORDS = ("the", " cat", " sat", " on", " a", " mat", ".", " and", " dog", " ran", " to", " it", " who", " saw", " us")


def tokens(length: int, seed: int = 0) -> list[str]:
    """A text of that many short tokens."""
    return [str(word) for word in np.random.default_rng(seed).choice(WORDS, size=length)]


def patterns(layers: int, heads: int, length: int, seed: int = 0) -> Floats:
    """Causal attention `[layer, head, query, key]`: noise on every head, and on most of them something to see.

    Four kinds in turn: diffuse; the first token; the token before; the token after an earlier copy. The noise makes
    the bytes incompressible, which is the worst case for pictures and changes nothing for JSON.
    """
    random = np.random.default_rng(seed)
    copies = np.arange(length) % max(2, length // 3)
    after = np.zeros((length, length), dtype=np.float32)
    after[:, 1:] = copies[:, None] == copies[None, :-1]
    mask = np.triu(np.ones((length, length), dtype=bool), k=1)
    attention = np.empty((layers, heads, length, length), dtype=np.float32)
    for layer in range(layers):
        for head in range(heads):
            scores = 2 * random.standard_normal((length, length), dtype=np.float32)
            kind = (layer + head) % 4
            if kind == 1:
                scores[:, 0] += 8
            elif kind == 2:
                np.einsum("ii->i", scores[1:, :-1])[:] += 10
            elif kind == 3:
                scores += 8 * after
            scores[mask] = -np.inf
            scores -= scores.max(axis=1, keepdims=True)
            np.exp(scores, out=scores)
            np.divide(scores, scores.sum(axis=1, keepdims=True), out=attention[layer, head])
    return attention


def queries_and_keys(layers: int, heads: int, length: int, d_head: int = 64, seed: int = 0) -> tuple[Any, Any]:
    """q and k `[layer, pos, head, d_head]` as torch tensors, from a text that repeats itself.

    Each head looks for a mixture of: the same token, the token before, the start. A position's code is a few rotations
    of different speeds, so that nearness falls off as in models with rotary embeddings.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    words = torch.randint(0, 500, (length,), generator=generator)
    words[length // 2 :] = words[: length - length // 2]
    half = d_head // 2
    speeds = 10000.0 ** (-torch.arange(half // 2) / (half // 2))
    angles = torch.arange(length)[:, None] * speeds  # [pos, half / 2]
    place = torch.cat([angles.cos(), angles.sin()], dim=1)  # [pos, half]
    before = torch.cat([(angles - speeds).cos(), (angles - speeds).sin()], dim=1)
    q = torch.empty(layers, length, heads, d_head)
    k = torch.empty(layers, length, heads, d_head)
    for layer in range(layers):
        meaning = noise(500, d_head - half)[words]  # [pos, d_head - half]
        for head in range(heads):
            near, same = ((2.0, 0.3), (0.3, 2.0), (1.0, 1.0))[(layer + head) % 3]
            q[layer, :, head] = torch.cat([near * before, same * meaning], dim=1)
            k[layer, :, head] = torch.cat([place, meaning], dim=1) + 0.5 * noise(length, d_head)
            k[layer, 0, head] += 0.5 * q[layer, :, head].mean(dim=0)
    return q, k
