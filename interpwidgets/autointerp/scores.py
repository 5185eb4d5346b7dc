"""What a label is worth: how well it predicts, on text that it was not made from, where its feature is active.

- *detection*: is the feature active anywhere in this text? (half of the texts: yes)
- *fuzzing*: are the marked tokens the active ones? (every active text twice, the second time other tokens marked)
- *simulation*: how active is it at each token? (correlation, and the share of variance explained)

Bills et al. 2023; Paulo et al. 2024. Detection and fuzzing are balanced accuracies and areas under the ROC curve, with
chance at ½; a correlation is 0 by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from interpwidgets.autointerp.evidence import Evidence
from interpwidgets.autointerp.labeler import Labeler, judged
from interpwidgets.autointerp.texts import Snippet
from interpwidgets.models.scorecard import Score

__all__ = ["LEAST", "SCORES", "scores"]

SCORES = {
    "detection": 0.5,
    "detection_auc": 0.5,
    "fuzzing": 0.5,
    "fuzzing_auc": 0.5,
    "correlation": 0.0,
    "explained_variance": 0.0,
}
"""What is measured, and what it is by chance."""

LEAST = 4  # examples of either kind, to say anything
_RESAMPLES = 2000
_FITTED = 8  # examples of either kind that the scale of predictions is fitted on

Floats = NDArray[np.float64]


def scores(
    labeler: Labeler,
    label: str,
    evidence: Evidence,
    *,
    simulation: bool = True,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Score a label on the examples held out; each with a bootstrap interval over contexts (BCa: Efron 1987).

    A score is NaN with n = 0 if there are fewer than four examples of either kind, and without `simulation` those of
    it are. Where every answer is right, resampling would say [1, 1]: the lower end is then that of Clopper and Pearson
    for the rarer kind, and likewise where every answer is wrong. What a prediction of 1 means for the activation is
    fitted on some of the examples that the label is from.
    """
    test = evidence.test
    positives = [snippet for snippet in test if snippet.positive]
    found = {name: Score(name, np.nan, np.nan, np.nan, 0, chance) for name, chance in SCORES.items()}
    if min(len(positives), len(test) - len(positives)) < LEAST:
        return found
    draws = _Draws(test, level, seed)
    right = np.array([snippet.positive for snippet in test])
    said = judged(labeler, label, [snippet.text for snippet in test])
    found |= draws.yes_no("detection", said, right, np.arange(len(test)))

    marks, right, items = _marked(test, np.random.default_rng([seed, evidence.feature]))
    said = judged(labeler, label, [test[i].text for i in items], marks)
    found |= draws.yes_no("fuzzing", said, right, items)

    if not simulation:
        return found
    rows = labeler.predict(label, [snippet.text for snippet in test])
    silent = [snippet for snippet in evidence.train if not snippet.positive]
    some = [*evidence.positives("train")[:_FITTED], *silent[:_FITTED]]
    learnt = labeler.predict(label, [snippet.text for snippet in some])
    return found | draws.simulation(rows, _line(learnt, some))


def _marked(
    test: Sequence[Snippet], rng: np.random.Generator
) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_], NDArray[np.int64]]:
    """Marks on the active texts, right ones and as many wrong ones: marks, whether right, which text."""
    marks, right, items = [], [], []
    for number, snippet in enumerate(test):
        active, count = snippet.active, int(snippet.active.sum())
        off = np.flatnonzero(~active & ~snippet.text.tokens.special)
        if not count or not len(off):
            continue
        wrong = np.zeros(len(active), dtype=bool)
        wrong[rng.permutation(off)[:count]] = True
        marks += [active, wrong]
        right += [True, False]
        items += [number, number]
    return marks, np.array(right, dtype=bool), np.array(items, dtype=np.int64)


def _line(rows: Sequence[Floats], train: Sequence[Snippet]) -> tuple[float, float]:
    """From probabilities to activations: the line of least squares on the examples that the label is from."""
    x = np.concatenate(rows)
    y = np.concatenate([snippet.activations for snippet in train]).astype(np.float64)
    if not x.std():
        return float(y.mean()), 0.0
    slope = float(np.cov(x, y, bias=True)[0, 1] / x.var())
    return float(y.mean() - slope * x.mean()), slope


class _Draws:
    """How often each context counts: once; all but one of them; as drawn, those with the feature and others apart."""

    def __init__(self, test: Sequence[Snippet], level: float, seed: int) -> None:
        self.test, self.level = test, level
        contexts, self.place = np.unique([snippet.context for snippet in test], return_inverse=True)
        positive = np.zeros(len(contexts), dtype=bool)
        np.logical_or.at(positive, self.place, [snippet.positive for snippet in test])
        rng = np.random.default_rng(seed)
        draws = np.zeros((_RESAMPLES, len(contexts)))
        for kind in (True, False):
            (which,) = np.nonzero(positive == kind)
            if len(which):
                draws[:, which] = rng.multinomial(len(which), np.full(len(which), 1 / len(which)), _RESAMPLES)
        every = np.ones((1, len(contexts)))
        self.counts = np.concatenate([every, 1 - np.eye(len(contexts)), draws])  # [count, context]

    def yes_no(self, name: str, said: Floats, right: NDArray[np.bool_], items: NDArray[np.int64]) -> dict[str, Score]:
        """Balanced accuracy and area under the curve of answers [item], about texts."""
        weights = self.counts[:, self.place[items]]
        yes, no = weights[:, right], weights[:, ~right]
        with np.errstate(invalid="ignore"):  # a draw may have none of a kind
            recall = yes @ (said[right] > 0.5) / yes.sum(1)
            rejected = no @ (said[~right] <= 0.5) / no.sum(1)
            over = said[right][:, None] - said[~right][None]
            wins = (over > 0) + 0.5 * (over == 0)
            area = np.einsum("bp,pn,bn->b", yes, wins, no, optimize=True) / (yes.sum(1) * no.sum(1))
        fewest = int(min(right.sum(), (~right).sum()))
        return {
            name: self._score(name, (recall + rejected) / 2, len(items), fewest),
            f"{name}_auc": self._score(f"{name}_auc", area, len(items), fewest),
        }

    def simulation(self, rows: Sequence[Floats], line: tuple[float, float]) -> dict[str, Score]:
        """Correlation of predictions [pos] with activations, and the variance that they explain along a line."""
        sums = np.zeros((len(rows), 7))
        for number, (row, snippet) in enumerate(zip(rows, self.test, strict=True)):
            x, y = np.asarray(row, dtype=np.float64), snippet.activations.astype(np.float64)
            error = y - line[0] - line[1] * x
            sums[number] = [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y, error @ error]
        weights = self.counts[:, self.place]
        n, x1, y1, xx, yy, xy, error2 = (weights @ sums).T
        x_spread, y_spread = np.maximum(xx - x1**2 / n, 0), np.maximum(yy - y1**2 / n, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.where(x_spread > 1e-12, (xy - x1 * y1 / n) / np.sqrt(x_spread * y_spread), 0.0)
            explained = 1 - error2 / y_spread
        return {
            "correlation": self._score("correlation", correlation, len(rows)),
            "explained_variance": self._score("explained_variance", explained, len(rows)),
        }

    def _score(self, name: str, values: Floats, n: int, fewest: int | None = None) -> Score:
        """The value of all, and the interval that the draws give: their quantiles, shifted for bias and skewness."""
        value, tail = float(values[0]), (1 - self.level) / 2
        without, drawn = values[1:-_RESAMPLES], values[-_RESAMPLES:]
        below = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
        bias = stats.norm.ppf(np.clip(below, 1 / _RESAMPLES, 1 - 1 / _RESAMPLES))
        pull = np.nanmean(without) - without
        spread = float(np.nansum(pull**2))
        skew = float(np.nansum(pull**3)) / (6 * spread**1.5) if spread > 0 else 0.0
        shifted = bias + stats.norm.ppf([tail, 1 - tail])
        low, high = np.nanquantile(drawn, stats.norm.cdf(bias + shifted / (1 - skew * shifted)))
        if fewest is not None and value == 1:
            low = min(low, float(stats.beta.ppf(tail, fewest, 1)))
        if fewest is not None and value == 0:
            high = max(high, float(stats.beta.ppf(1 - tail, 1, fewest)))
        return Score(name, value, float(low), float(high), n, SCORES[name])
