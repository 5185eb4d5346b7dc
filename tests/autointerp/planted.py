"""Features that are exactly what they are said to be, over a corpus of random words: the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from interpwidgets.autointerp import Source
from interpwidgets.tokens import Tokens

WORDS = [f" w{number}" for number in range(24)] + [".", " Paris", " in", " Rome", " Oslo"]
PARIS, IN, ROME, STOP = (WORDS.index(word) for word in (" Paris", " in", " Rome", "."))

Plant = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # ids [pos] → where it is active [pos]


class Planted(Source):
    """Contexts of random words, and features that are functions of them; noise if they use the generator."""

    def __init__(
        self, rng: np.random.Generator, plants: Sequence[Plant], contexts: int = 400, length: int = 40
    ) -> None:
        common = np.full(len(WORDS), 1.0)
        common[[PARIS, IN, ROME, STOP]] = 2.0
        self.ids = rng.choice(len(WORDS), (contexts, length), p=common / common.sum())
        self.dense = np.zeros((len(plants), contexts, length), dtype=np.float32)
        for feature, plant in enumerate(plants):
            for row, ids in enumerate(self.ids):
                self.dense[feature, row] = plant(ids, rng) * rng.uniform(1, 5, length)
        self.pool = np.arange(contexts)

    def tokens(self, context: int) -> Tokens:
        ids = self.ids[context]
        return Tokens(tuple(WORDS[i] for i in ids), ids.astype(np.int64))

    def values(self, feature: int, contexts: Sequence[int]) -> list[np.ndarray]:
        return [self.dense[feature, context] for context in contexts]

    def places(self, feature: int) -> list[tuple[int, int]]:
        where = np.argwhere(self.dense[feature] > 0)
        where = where[np.random.default_rng(0).permutation(len(where))[:120]]
        return [(int(context), int(position)) for context, position in where]

    def near(self, feature: int) -> list[int]:
        return [other for other in range(len(self.dense)) if other != feature]


def is_(*tokens: int) -> Plant:
    return lambda ids, rng: np.isin(ids, tokens)


def after(*tokens: int) -> Plant:
    return lambda ids, rng: np.concatenate([[False], np.isin(ids[:-1], tokens)])


def both(one: Plant, other: Plant) -> Plant:
    return lambda ids, rng: one(ids, rng) & other(ids, rng)


def either(one: Plant, other: Plant) -> Plant:
    return lambda ids, rng: one(ids, rng) | other(ids, rng)


def noise(share: float) -> Plant:
    return lambda ids, rng: rng.random(len(ids)) < share
