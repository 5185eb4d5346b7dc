"""Whether a feature is one thing or two: do two clusters of its examples want two labels?

The examples to learn from are split in two by the tokens around them, and each half is given its own label. A feature
is *two* if both are true of the examples held out:

1. each half's own label finds its examples, and the other's does not; more than when the halves are exchanged at
   random, which is the null distribution (an exact permutation test: the labels stay as they are);
2. two labels together detect the feature better than the one label that is made from all examples, by an interval
   that leaves zero out. A label such as "one of: ␣Paris, ␣Rome" says two things and needs no second one.

Any set of points can be split in two halves that look apart; that alone says nothing, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.evidence import Evidence
from interpwidgets.autointerp.labeler import Labeler, judged
from interpwidgets.autointerp.texts import Snippet
from interpwidgets.stats import interval

__all__ = ["Kinds", "kinds"]

_LEAST = 4  # examples of either half, on either side
_DRAWS = 999
_STARTS = 8
_REACH = (-1, 0, 1)  # tokens around the strongest that an example is clustered by

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Kinds:
    """What two halves of a feature's examples say."""

    labels: tuple[str, str]  # of either half
    apart: float  # how much better a half's own label finds it than the other's: −1 to 1
    p: float  # share of random exchanges in which they are as far apart; 1 where there was too little to tell
    gain: float  # by how much two labels detect the feature better than one (balanced accuracy)
    low: float  # of its interval
    high: float
    n: int  # active examples held out

    @property
    def two(self) -> bool:
        """Whether the feature is two things, at 5 %; for many features at once see `Report.two`."""
        return self.p <= 0.05 and self.low > 0

    def __str__(self) -> str:
        said = "two kinds" if self.two else "one kind, as far as can be told"
        one, other = self.labels
        return (
            f"{said}: {one!r} | {other!r}; apart by {self.apart:.2f} (p = {self.p:.3f}), two labels detect "
            f"{self.gain:+.3f} [{self.low:+.3f}, {self.high:+.3f}] better (n = {self.n})"
        )


def kinds(labeler: Labeler, label: str, evidence: Evidence, *, seed: int = 0) -> Kinds:
    """Split a feature's examples in two, label both halves, and see on held-out text whether that was needed."""
    train, test = evidence.positives("train"), evidence.positives("test")
    nothing = Kinds(("", ""), 0.0, 1.0, 0.0, 0.0, 0.0, len(test))
    if min(len(train), len(test)) < 2 * _LEAST:
        return nothing
    rng = np.random.default_rng([seed, evidence.feature])
    half, held = _halves(train, test, rng)
    if min(half.sum(), (~half).sum(), held.sum(), (~held).sum()) < _LEAST:
        return nothing
    silent = [snippet for snippet in evidence.train if not snippet.positive]
    made = []
    for mine in (half, ~half):
        found = labeler.label([*(train[i] for i in np.flatnonzero(mine)), *silent])
        if not found:
            return nothing
        made.append(found[0])
    texts = [snippet.text for snippet in evidence.test]
    one, other = (judged(labeler, each, texts) for each in made)
    active = np.array([snippet.positive for snippet in evidence.test])
    apart = np.where(held, 1, -1) * 0.5  # of an example: its own label's answer less the other's
    lead = one[active] - other[active]
    observed = float(2 * (_balance(held) * apart * lead).sum())
    drawn = [float(2 * (_balance(held) * apart * rng.permutation(lead)).sum()) for _ in range(_DRAWS)]
    p = (1 + sum(each >= observed - 1e-12 for each in drawn)) / (1 + _DRAWS)
    gain, low, high = _gain(judged(labeler, label, texts), np.maximum(one, other), active)
    return Kinds((made[0], made[1]), observed, p, gain, low, high, len(test))


def _balance(held: NDArray[np.bool_]) -> Floats:
    """Weights by which both halves count alike, and sum to one."""
    found: Floats = np.where(held, 0.5 / held.sum(), 0.5 / (~held).sum())
    return found


def _gain(single: Floats, both: Floats, active: NDArray[np.bool_]) -> tuple[float, float, float]:
    """How much balanced accuracy two labels add: a mean over examples, with its interval."""
    right = ((both > 0.5) == active).astype(float) - ((single > 0.5) == active)
    weight = np.where(active, 0.5 / active.sum(), 0.5 / max((~active).sum(), 1)) * len(active)
    low, high = interval(right * weight)
    return float((right * weight).mean()), float(low), float(high)


def _halves(
    train: Sequence[Snippet], test: Sequence[Snippet], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two clusters of the examples to learn from, and which of them those held out are closer to."""
    columns: dict[tuple[int, str], int] = {}
    for snippet in train:
        for key in _around(snippet):
            columns.setdefault(key, len(columns))

    def rows(snippets: Sequence[Snippet]) -> Floats:
        found = np.zeros((len(snippets), len(columns)))
        for row, snippet in zip(found, snippets, strict=True):
            row[[columns[key] for key in _around(snippet) if key in columns]] = 1
        return found

    points, others = rows(train), rows(test)
    best, centres = np.inf, points[:2]
    for _ in range(_STARTS):
        spread, found = _two_means(points, rng)
        if spread < best:
            best, centres = spread, found
    return _closer(points, centres), _closer(others, centres)


def _around(snippet: Snippet) -> list[tuple[int, str]]:
    """Which tokens are at the strongest activation and beside it."""
    at, words = int(snippet.activations.argmax()), snippet.text.words
    return [(step, words[at + step]) for step in _REACH if 0 <= at + step < len(words)]


def _two_means(points: Floats, rng: np.random.Generator) -> tuple[float, Floats]:
    """Lloyd's algorithm from two points drawn at random: what is left of the spread, and the centres."""
    centres = points[rng.choice(len(points), 2, replace=False)].copy()
    for _ in range(30):
        first = _closer(points, centres)
        if first.all() or not first.any():
            break
        new = np.stack([points[first].mean(0), points[~first].mean(0)])
        if np.array_equal(new, centres):
            break
        centres = new
    return float(np.square(points[:, None] - centres).sum(-1).min(1).sum()), centres


def _closer(points: Floats, centres: Floats) -> NDArray[np.bool_]:
    """Whether each point is closer to the first of two centres."""
    one, other = np.square(points[:, None] - centres).sum(-1).T
    found: NDArray[np.bool_] = one < other
    return found
