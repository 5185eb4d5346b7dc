"""One kind or two: found where two were planted, and rarely where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from autointerp.planted import IN, PARIS, ROME, Planted, after, either, is_, noise

from interpwidgets.autointerp import Evidence, Labelled, Report, StatisticsLabeler, evidence, kinds
from interpwidgets.autointerp.kinds import Kinds
from interpwidgets.models.scorecard import Score


def judged(source: Planted, feature: int) -> Kinds:
    here = evidence(source, feature)
    labeler = StatisticsLabeler()
    said = labeler.label(here.train)
    return kinds(labeler, said[0] if said else "the token none", here)


def test_two_planted_kinds_are_two(rng: np.random.Generator) -> None:
    """A token, or anything after another: no one label says both."""
    found = judged(Planted(rng, [either(is_(PARIS), after(IN))], contexts=800), 0)
    assert found.two, str(found)
    assert {"the token ␣Paris", "a token after ␣in"} == set(found.labels)
    assert found.apart > 0.2
    assert "two kinds" in str(found)


@pytest.mark.parametrize("plant", [is_(PARIS), after(IN), is_(PARIS, ROME)], ids=["token", "after", "one of"])
def test_one_planted_kind_is_one(plant, rng: np.random.Generator) -> None:
    """Also of two tokens, which one label lists: examples fall in two heaps, and that alone says nothing."""
    assert not judged(Planted(rng, [plant], contexts=800), 0).two


def test_noise_is_seldom_two(rng: np.random.Generator) -> None:
    source = Planted(rng, [noise(0.02)] * 40, contexts=600)
    found = [judged(source, feature) for feature in range(40)]
    assert sum(each.two for each in found) <= 4  # 2 expected at most at 5 %, and the gain has to be there too
    assert all(0 < each.p <= 1 for each in found)


def test_too_little_says_nothing() -> None:
    found = kinds(StatisticsLabeler(), "a mark", Evidence(0, [], []))
    assert (found.p, found.two, found.n) == (1.0, False, 0)


def test_of_many_features_few_are_wrong(rng: np.random.Generator) -> None:
    """Benjamini and Hochberg's procedure, step by step."""
    p = np.concatenate([rng.uniform(0, 1, 60), rng.uniform(0, 0.002, 8)])
    score = {"detection": Score("detection", 0.5, 0.4, 0.6, 9, 0.5)}
    some = [Labelled(i, "x", score, Kinds(("a", "b"), 1.0, float(each), 0.1, 0.05, 0.2, 9)) for i, each in enumerate(p)]
    order = np.argsort(p)
    passing = [rank for rank in range(1, 69) if p[order[rank - 1]] <= 0.05 * rank / 68]
    assert Report("x", some).two == sorted(order[: max(passing, default=0)].tolist())
