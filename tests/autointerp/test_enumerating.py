"""Statements about all features: exact of all, bounded of a sample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import interpwidgets as iw
from interpwidgets.autointerp.enumerating import most_breaking
from interpwidgets.errors import InputError


def test_a_condition_is_checked_of_all(store: iw.FeatureStore) -> None:
    density = np.array([store[i].density for i in range(len(store))])
    bound = float(np.quantile(density, 0.9))
    found = store.enumerate(f"density <= {bound!r}")
    assert found.breaking == tuple(np.flatnonzero(density > bound).tolist())
    assert found.holds == len(store) - len(found.breaking)
    assert not found.all
    assert not found.sampled
    whole = store.enumerate("density >= 0")
    assert whole.all
    assert repr(whole) == "<density >= 0: holds of all 512 features>"


def test_what_is_not_known_does_not_hold(store: iw.FeatureStore) -> None:
    store.set_label(7, "x", score=0.9)
    store.set_label(8, "y", score=0.1)
    found = store.enumerate("labelled_by is null and score > 0.5")
    assert 7 not in (*found.breaking, *found.unknown)
    assert 8 in found.breaking
    assert 9 in (*found.unknown, *found.breaking)
    assert not found.all


def test_a_function_of_all_or_of_a_sample(store: iw.FeatureStore) -> None:
    def weak(feature):
        """No feature is stronger than 40.

        More words.
        """
        return feature.max < 40

    truth = tuple(i for i in range(len(store)) if store[i].max >= 40)
    found = store.enumerate(weak, progress=False)
    assert (found.breaking, found.checked, found.most) == (truth, 512, len(truth))
    some = store.enumerate(weak, sample=120, progress=False, seed=int(np.random.default_rng().integers(1000)))
    assert set(some.breaking) <= set(truth)
    assert some.sampled
    assert len(some.breaking) <= some.most <= 512
    assert repr(some).startswith("<No feature is stronger than 40.: holds of")
    assert "at 95%" in repr(some)


@pytest.mark.parametrize(
    ("total", "checked", "broken"),
    [(1_000_000, 3000, 0), (1_000_000, 500, 4), (512, 100, 2), (40, 40, 3), (50, 10, 10)],
)
def test_the_bound_is_that_of_the_sample(total: int, checked: int, broken: int) -> None:
    found = most_breaking(total, checked, broken, 0.95)
    chance = stats.hypergeom.cdf(broken, total, [found, min(found + 1, total)], checked)
    assert chance[0] >= 0.05
    assert found == total - (checked - broken) or chance[1] < 0.05
    clopper = stats.beta.ppf(0.95, broken + 1, checked - broken) if broken < checked else 1.0
    assert found <= clopper * total + 1  # never above that of a sample with replacement
    if total > 1000 * checked or (total == 1_000_000 and not broken):
        assert found / total == pytest.approx(clopper, rel=0.02)
        if not broken:
            assert found / total == pytest.approx(3 / checked, rel=0.02)


def test_the_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng()
    total, checked = 400, 60
    held = []
    for _ in range(600):
        breaking = int(rng.integers(0, 60))
        seen = int(rng.hypergeometric(breaking, total - breaking, checked))
        held.append(breaking <= most_breaking(total, checked, seen, 0.9))
    assert np.mean(held) > 0.86


def test_what_is_wrong_is_said(store: iw.FeatureStore) -> None:
    with pytest.raises(InputError, match="from 1 to 512 features; got 0"):
        store.enumerate(lambda feature: True, sample=0)
    with pytest.raises(InputError, match="leave `sample` out"):
        store.enumerate("density > 0", sample=3)
    with pytest.raises(InputError, match="A rule is a condition"):
        store.enumerate(3)
    with pytest.raises(InputError, match="level is a share"):
        store.enumerate("density > 0", level=2)
    with pytest.raises(InputError, match="no column"):
        store.enumerate("nothing > 0")
