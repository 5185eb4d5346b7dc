"""Intervals cover the mean as often as they say, whatever they are asked of."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.errors import InputError
from interpwidgets.stats import interval


@pytest.mark.parametrize(("level", "n"), [(0.95, 40), (0.8, 25)])
def test_covers_the_true_mean_as_often_as_it_says(level: float, n: int) -> None:
    rng = np.random.default_rng(n)
    low, high = interval(rng.normal(3.0, 2.0, (800, n)), level=level)
    covered = np.mean((low <= 3.0) & (high >= 3.0))
    assert level - 0.05 < covered < level + 0.03


def test_covers_the_mean_of_skewed_values_as_well() -> None:
    low, high = interval(np.random.default_rng(5).exponential(1.0, (600, 60)))
    assert 0.88 < np.mean((low <= 1) & (high >= 1)) < 0.98


@settings(max_examples=12, deadline=None)
@given(shape=st.lists(st.integers(1, 3), max_size=3), n=st.integers(2, 12), seed=st.integers(0, 1 << 30))
def test_is_about_the_percentiles_of_resampled_means(shape: list[int], n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(*shape, n))
    low, high = interval(values, level=0.9)
    assert low.shape == high.shape == tuple(shape)
    rng = np.random.default_rng(seed + 1)
    for place in np.ndindex(*shape):
        means = [values[place][rng.integers(0, n, n)].mean() for _ in range(400)]
        spread = np.ptp(values[place])
        # BCa moves the percentiles, and less so than from 5 to 0 or to 20 %.
        assert np.min(means) - spread / 20 <= low[place] <= np.quantile(means, 0.3)
        assert np.quantile(means, 0.7) <= high[place] <= np.max(means) + spread / 20


def test_one_row_depends_on_none_of_the_others() -> None:
    values = np.random.default_rng(1).normal(size=(700, 9))
    low, high = interval(values, seed=3)
    alone = interval(values[123], seed=3)
    assert (low[123], high[123]) == (alone[0], alone[1])


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=12)
    assert interval(values, seed=4) == interval(values, seed=4)
    assert interval(values, seed=4) != interval(values, seed=5)


def test_a_wider_level_is_a_wider_interval() -> None:
    values = np.random.default_rng(3).normal(size=30)
    bounds = [interval(values, level=level) for level in (0.5, 0.8, 0.95, 0.99)]
    widths = [float(high - low) for low, high in bounds]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_moves_and_stretches_with_the_values() -> None:
    values = np.random.default_rng(4).normal(size=20)
    low, high = interval(values)
    moved = interval(10 - 3 * values)
    np.testing.assert_allclose(moved, (10 - 3 * high, 10 - 3 * low), rtol=0.03)


def test_what_has_no_interval_is_nan_and_a_constant_is_itself() -> None:
    assert np.isnan(interval([4.0])).all()
    assert np.isnan(interval(np.zeros((2, 0)))).all()
    assert interval([2.5] * 7) == (2.5, 2.5)
    rows = np.array([[1.0, 2, 4], [1, np.nan, 2], [3, 3, 3], [np.inf, 1, 2], [np.nan] * 3, [np.inf] * 3])
    low, high = interval(rows)
    assert low[0] < 7 / 3 < high[0]
    assert low[2] == high[2] == 3
    assert np.isnan(low[[1, 3, 4]]).all()
    assert np.isnan(high[[1, 3, 4]]).all()


def test_where_bca_is_undefined_there_are_percentiles() -> None:
    # So far out that BCa's correction, computed in float64, is no number.
    values = np.full((1, 30), 1e-300)
    values[0, 0] = 2e-300
    low, high = interval(values)
    assert np.isfinite([low, high]).all()
    assert low <= values.mean() <= high


def test_memory_stays_small_whatever_the_shape() -> None:
    interval(np.arange(3.0))  # imports
    for shape in ((3_000, 4), (1, 8_000), (12, 1_500)):
        values = np.random.default_rng(0).normal(size=shape)
        tracemalloc.start()
        interval(values)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6, shape


@pytest.mark.parametrize("level", [0, 1, 95, -0.1, float("nan")])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(InputError, match=r"0\.95"):
        interval([1.0, 2.0], level=level)


def test_one_number_is_no_sample() -> None:
    with pytest.raises(InputError, match="along an axis"):
        interval(3.0)


def test_importing_it_does_not_import_scipy() -> None:
    code = "import sys, interpwidgets.stats; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
