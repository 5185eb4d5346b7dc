"""Effects are means of differences, computed again here in plain loops; each keeps its story."""

import json
import math
import sys
import warnings
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.errors import InputError
from interpwidgets.intervene import Axis, Effect, Effects
from interpwidgets.stats import interval

METRIC = "logit(␣Mary) − logit(␣John)"


def draw(seed: int, /, *sizes: int, n: int = 5, **changes: Any) -> Effects:
    rng = np.random.default_rng(seed)
    given: dict[str, Any] = {
        "values": rng.normal(2, 1, (*sizes, n)),
        "axes": tuple(
            Axis(name, tuple(range(size))) for name, size in zip(("layer", "head", "pos"), sizes, strict=False)
        ),
        "metric": METRIC,
        "corrupted": rng.normal(1, 0.2, n),
        "clean": rng.normal(4, 0.2, n),
        "how": "Patch z from the clean run.",
        "control": rng.normal(1, 1, (*sizes, 8)),
    }
    return Effects(**given | changes)


shapes = st.lists(st.integers(1, 4), max_size=3)
seeds = st.integers(0, 1 << 30)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, n=st.integers(1, 6), seed=seeds)
def test_equals_plain_loops(shape: list[int], n: int, seed: int) -> None:
    effects = draw(seed, *shape, n=n)
    assert (effects.n, effects.shape) == (n, tuple(shape))
    base = sum(effects.corrupted.tolist()) / n
    clean = sum(effects.clean.tolist()) / n
    low, high = effects.interval()
    for place in np.ndindex(*shape):
        values = effects.values[place].tolist()
        mean = sum(values) / n
        change = sum(value - before for value, before in zip(values, effects.corrupted.tolist(), strict=True)) / n
        smaller = [abs(value - base) < abs(change) for value in effects.control[place].tolist()]
        truth = {
            "mean": mean,
            "effect": change,
            "recovered": (mean - base) / (clean - base),
            "exceeds_control": sum(smaller) / len(smaller),
        }
        one = effects[place]
        assert isinstance(one, Effect)
        for name, value in truth.items():
            assert getattr(effects, name)[place] == pytest.approx(value, rel=1e-9, abs=1e-12), name
            assert getattr(one, "value" if name == "mean" else name) == pytest.approx(value, rel=1e-9, abs=1e-12), name
        assert float(one) == one.effect
        np.testing.assert_array_equal(one.per_prompt, effects.per_prompt[place])
        np.testing.assert_array_equal(one.per_prompt, values - effects.corrupted)
        np.testing.assert_array_equal(one.interval(), (low[place], high[place]))
        np.testing.assert_array_equal((low[place], high[place]), interval(one.per_prompt))
        assert (n == 1) == math.isnan(one.interval()[0])


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=seeds, factor=st.floats(-5, 5).filter(lambda factor: abs(factor) > 0.01))
def test_arithmetic_is_paired(shape: list[int], seed: int, factor: float) -> None:
    a = draw(seed, *shape)
    b = draw(seed + 1, *shape, corrupted=a.corrupted, clean=a.clean)
    np.testing.assert_allclose((a - b).per_prompt, a.per_prompt - b.per_prompt, atol=1e-12)
    np.testing.assert_allclose((a + b).effect, a.effect + b.effect, atol=1e-12)
    np.testing.assert_allclose((-a).effect, -a.effect)
    np.testing.assert_allclose((a + -a).effect, 0, atol=1e-12)
    np.testing.assert_allclose(((a + b) / 2).effect, (a.effect + b.effect) / 2, atol=1e-12)
    for scaled, by in ((a * factor, factor), (factor * a, factor), (a / factor, 1 / factor)):
        np.testing.assert_allclose(scaled.effect, a.effect * by)
        np.testing.assert_allclose(scaled.recovered, a.recovered)
        np.testing.assert_array_equal(scaled.exceeds_control, a.exceeds_control)
    place = (0,) * len(shape)
    assert float(a[place] - b[place]) == pytest.approx((a - b).effect[place])
    assert float(2 * a[place]) == pytest.approx(2 * a.effect[place])


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 3, 40)  # prompts differ more than the two interventions do
    a, b = (draw(1, n=40, values=hard + rng.normal(size, 0.1, 40), control=None)[()] for size in (1.0, 0.5))
    low, high = (a - b).interval()
    assert 0.4 < low < 0.5 < high < 0.6
    assert a.interval()[1] - a.interval()[0] > 5 * (high - low)


def test_a_sum_has_no_clean_run_of_its_own() -> None:
    a, b = draw(1, 2), draw(2, 2)
    assert (a - b).clean is (a + b).clean is (a - b).control is None
    assert np.isnan((a - b).recovered).all()
    assert (a - b).how == "(Patch z from the clean run.) − (Patch z from the clean run.)"
    assert (2 * a).how == "2 × (Patch z from the clean run.)"


def test_only_what_belongs_together_is_combined() -> None:
    a = draw(1, 2, 3)
    for other in (draw(1, 3, 2), draw(1, 2, 3, axes=(Axis("layer", (0, 1)), Axis("head", (5, 6, 7))))):
        with pytest.raises(InputError, match="same axes"):
            a - other
    with pytest.raises(InputError, match="same prompts by the same metric"):
        a + draw(1, 2, 3, n=6)
    with pytest.raises(InputError, match="of loss on 5"):
        a[0, 0] - draw(1, 2, 3, metric="loss")[0, 0]
    for wrong in (lambda: a + 1, lambda: a * a, lambda: a - a[0, 0], lambda: a / "2", lambda: 1 / a):
        with pytest.raises(TypeError):
            wrong()


# Selecting


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    key=st.tuples(
        st.one_of(st.integers(-3, 2), st.slices(3)),
        st.one_of(st.integers(-4, 3), st.slices(4)),
    ),
    how_many=st.integers(0, 2),
)
def test_selects_as_numpy_does_and_keeps_the_labels(seed: int, key: tuple[Any, ...], how_many: int) -> None:
    effects = draw(seed, 3, 4)
    key = key[:how_many]
    expected = effects.values[key]
    if not expected.size:
        with pytest.raises(InputError, match="one or more"):
            effects[key]
        return
    found = effects[key]
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found.control, effects.control[key])
    np.testing.assert_array_equal(found.corrupted, effects.corrupted)
    kept = [axis.labels[part] for axis, part in zip(effects.axes, key, strict=False) if isinstance(part, slice)]
    kept += [axis.labels for axis in effects.axes[how_many:]]
    assert isinstance(found, Effects if kept else Effect)
    if kept:
        assert [axis.labels for axis in found.axes] == kept


def test_a_cell_says_which_it_is() -> None:
    effects = draw(1, 3, 4)
    assert effects[2, -1].how == effects[2][3].how == "Patch z from the clean run, layer 2, head 3"
    assert effects[:, 1].how == "Patch z from the clean run, head 1"
    assert [part.how for part in effects] == [effects[layer].how for layer in range(3)]


@pytest.mark.parametrize("key", [(0, 0, 0), "layer", 1.0, ([0, 1],), None])
def test_a_wrong_key_is_said(key: Any) -> None:
    with pytest.raises(InputError, match="layer 3 × head 4 is read by a number or a slice"):
        draw(1, 3, 4)[key]


def test_a_place_that_is_not_there_is_said() -> None:
    for key in ((3, 0), (-4, 0)):
        with pytest.raises(InputError, match=r"no layer number -?[34]; there are 3"):
            draw(1, 3, 4)[key]


def test_top_is_by_size_either_way() -> None:
    values = np.ones((2, 3, 4)) + np.array([[0.0, -3, 1], [2, np.nan, -0.5]])[..., None]
    axes = (Axis("layer", (7, 9)), Axis("pos", ("the", "␣cat", "␣sat")))
    effects = draw(0, values=values, axes=axes, n=4, corrupted=np.ones(4), control=None)
    top = effects.top(3)
    assert [labels for labels, _ in top] == [(7, "␣cat"), (9, "the"), (7, "␣sat")]
    assert [effect.effect for _, effect in top] == [-3, 2, 1]
    assert len(effects.top(100)) == 5  # not the one that was not run
    assert effects.top(0) == []


# Baselines, controls, cells not run


@pytest.mark.parametrize("gap", [0.0, 1e-7])
def test_nothing_to_recover_is_nan_and_said(gap: float) -> None:
    effects = draw(1, 2, clean=np.full(5, 3.0 + gap), corrupted=np.full(5, 3.0))
    with pytest.warns(UserWarning, match=r"logit\(␣Mary\).*clean ≈ corrupted"):
        assert np.isnan(effects.recovered).all()
    with pytest.warns(UserWarning, match="clean ≈ corrupted"):
        assert math.isnan(effects[0].recovered)
    assert "clean ≈ corrupted (3.00)" in repr(effects[0])
    assert "the way" not in repr(effects[0])


def test_a_small_but_real_gap_is_recovered() -> None:
    clean, corrupted = np.full(5, 3e-6), np.full(5, 1e-6)  # as of probabilities
    effects = draw(1, values=np.full(5, 2e-6), clean=clean, corrupted=corrupted, control=None)
    assert effects[()].recovered == pytest.approx(0.5)


def test_without_a_clean_run_nothing_is_said_of_it() -> None:
    effects = draw(1, 2, clean=None)
    assert np.isnan(effects.recovered).all()
    assert "clean" not in repr(effects[0]).replace("clean run", "")
    assert ", clean" not in repr(effects)


def test_control_is_compared_by_size_of_effect() -> None:
    effect = draw(1, values=np.full(5, -1.0), corrupted=np.ones(5), control=np.array([1.5, -0.5, 3.5, 1.0]))[()]
    assert effect.effect == -2
    assert effect.exceeds_control == 0.75
    assert "larger than 75 % of 4 random components" in repr(effect)
    assert math.isnan(draw(1, control=None)[()].exceeds_control)


def test_cells_not_run_are_nan_and_the_rest_stays() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 5))
    values[1, 1:] = np.nan
    effects = draw(1, 2, 3, values=values)
    assert effects.done.tolist() == [[True] * 3, [True, False, False]]
    assert np.isnan(effects.effect).tolist() == np.isnan(effects.interval()[0]).tolist() == (~effects.done).tolist()
    assert np.isnan(effects.exceeds_control[1, 1])
    assert "4 of 6 cells run" in repr(effects)
    assert repr(effects[1, 2]) == f"{METRIC}: not run"
    nothing = draw(1, 2, 3, values=np.full((2, 3, 5), np.nan))
    assert "0 of 6 cells run" in repr(nothing)
    assert "strongest" not in repr(nothing)


# How they are shown, and kept


def test_an_effect_is_one_sentence() -> None:
    values = np.array([3.2, 2.6, 3.1, 3.4])
    given = {
        "values": values,
        "corrupted": np.full(4, 1.83),
        "clean": np.full(4, 3.78),
        "metric": METRIC,
        "how": "Patch",
    }
    effect = Effect(**given)
    low, high = effect.interval()
    assert repr(effect) == (
        f"{METRIC}: 1.83 → 3.08 (+1.25, 95 % {low:.2f}…{high:.2f} over 4 prompts, 64 % of the way to clean)"
    )
    one = Effect(values=values[:1], corrupted=np.array([4.0]), metric=METRIC, how="Patch")
    assert repr(one) == f"{METRIC}: 4.00 → 3.20 (−0.80, one prompt: no interval)"
    assert repr(one * 1e-4) == f"{METRIC}: 0.0004 → 0.00032 (−8e−05, one prompt: no interval)"


def test_effects_say_what_and_which_is_strongest() -> None:
    effects = draw(3, 3, 2, control=None)
    (layer, head), strongest = effects.top(1)[0]
    lines = repr(effects).splitlines()
    assert lines[0] == f"Effects(layer 3 × head 2) on {METRIC}, 5 prompts"
    assert lines[1].startswith("  Patch z from the clean run; corrupted ")
    assert lines[1].endswith("6 of 6 cells run")
    assert lines[2] == f"  strongest: layer {layer}, head {head}: {repr(strongest).removeprefix(METRIC + ': ')}"
    assert len(lines) == 3
    assert repr(effects) == repr(draw(3, 3, 2, control=None))


class Table(dict[str, Any]):
    """What stands in for pandas.DataFrame, so that the columns are tested where pandas is not installed."""


def test_a_table_has_a_row_for_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = ModuleType("pandas")
    pandas.DataFrame = Table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    effects = draw(1, 2, axes=(Axis("pos", ("the", "␣cat")),))
    table = effects.to_pandas()
    assert list(table) == ["pos", "effect", "low", "high", "recovered", "metric", "n"]
    assert table["pos"] == ["the", "␣cat"]
    for name, truth in (("effect", effects.effect), ("low", effects.interval()[0]), ("recovered", effects.recovered)):
        np.testing.assert_array_equal(table[name], truth)
    assert (table["metric"], table["n"]) == (METRIC, 5)
    several = draw(1, 2, 3).to_pandas()
    assert several["layer"] == [0, 0, 0, 1, 1, 1]
    assert several["head"] == [0, 1, 2, 0, 1, 2]


def test_pandas_itself_takes_the_table() -> None:
    pytest.importorskip("pandas")
    frame = draw(1, 2, 3).to_pandas()
    assert frame.shape == (6, 8)
    assert frame.set_index(["layer", "head"])["effect"][1, 2] == draw(1, 2, 3)[1, 2].effect
    assert (frame["metric"] == METRIC).all()


def test_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        draw(1, 2).to_pandas()


@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=seeds, clean=st.booleans(), control=st.booleans(), how=st.text(max_size=9))
def test_comes_back_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, clean: bool, control: bool, how: str
) -> None:
    absent = {name: None for name, there in (("clean", clean), ("control", control)) if not there}
    effects = draw(seed, *shape, how=how, seed=seed, **absent)
    path = tmp_path_factory.mktemp("effects") / "sweep"  # written as named, without a suffix of NumPy's own
    effects.save(path)
    back = Effects.load(path)
    for name in ("values", "corrupted", "clean", "control"):
        before, after = getattr(effects, name), getattr(back, name)
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_array_equal(after, before)
    assert (back.axes, back.metric, back.how, back.seed) == (effects.axes, METRIC, how, seed)


def test_labels_of_every_kind_come_back(tmp_path: Path) -> None:
    labels = (np.int64(3), 0.5, np.float32(2), "␣cat", '"\n\ud800')
    effects = draw(1, 5, axes=(Axis("what", labels),))
    effects.save(tmp_path / "e.npz")
    back = Effects.load(tmp_path / "e.npz").axes[0].labels
    assert back == (3, 0.5, 2.0, "␣cat", '"\n\ud800')
    assert [type(label) for label in back] == [int, float, float, str, str]


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('the file ran code')",)


def test_other_files_are_refused_and_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    draw(1, 2).save(path)
    whole = path.read_bytes()
    header = {"format": "interpwidgets.Effects/1", "axes": [["layer", [0, 1]]], "metric": "m", "how": "", "seed": 0}
    fine: dict[str, Any] = {"values": np.zeros((2, 3)), "corrupted": np.zeros(3)}

    def write(**arrays: Any) -> bytes:
        np.savez(path, **arrays)
        return path.read_bytes()

    for content in (
        b"",
        b"nothing of the kind",
        whole[: len(whole) // 2],
        write(**fine),
        write(header=np.array("[]"), **fine),
        write(header=np.array(json.dumps(header | {"format": "other"})), **fine),
        write(header=np.array(json.dumps(header | {"more": 1})), **fine),
        write(header=np.array(json.dumps(header)), corrupted=np.zeros(3)),
        write(header=np.array(json.dumps(header)), values=np.zeros((3, 3)), corrupted=np.zeros(3)),
        write(header=np.array(json.dumps(header)), values=np.array([Bomb()], dtype=object), corrupted=np.zeros(3)),
        write(header=np.array([Bomb()], dtype=object), **fine),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="does not hold effects"):
            Effects.load(path)
    write(header=np.array(json.dumps(header)), **fine)
    assert Effects.load(path).shape == (2,)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="does not hold effects"):
        Effects.load(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        Effects.load(tmp_path / "absent.npz")


# What is checked when they are made


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"values": np.zeros((3, 2, 5))}, r"values are \[2, 3, prompt\]; got shape \[3, 2, 5\]"),
        ({"values": np.zeros((2, 3, 0))}, "values are"),
        ({"values": 1.0}, "values are"),
        ({"corrupted": np.zeros(4)}, "corrupted has a number for each of the 5 prompts"),
        ({"clean": np.zeros((1, 5))}, "clean has a number for each of the 5 prompts"),
        ({"control": np.zeros((2, 9))}, r"control is \[2, 3, draw\]"),
        ({"control": np.zeros((2, 3, 0))}, r"control is \[2, 3, draw\]"),
        ({"axes": (Axis("head", (0, 1)), Axis("head", (0, 1, 2)))}, "Every axis has its own name"),
    ],
)
def test_shapes_are_checked(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        draw(1, 2, 3, **changes)


@pytest.mark.parametrize(("name", "labels"), [("layer", ()), ("layer", (None,)), ("layer", ((1, 2),)), ("low", (1,))])
def test_axes_are_checked(name: str, labels: Any) -> None:
    with pytest.raises(InputError, match="axis"):
        Axis(name, labels)


def test_what_was_found_stays_as_it_was() -> None:
    given = np.zeros((2, 3))
    effects = draw(1, 2, values=given, corrupted=np.zeros(3), clean=None)
    given[:] = 9
    assert not effects.values.any()
    with pytest.raises(ValueError, match="read-only"):
        effects.values[0] = 1
    with pytest.raises(FrozenInstanceError):
        effects.metric = "another"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        effects[0].how = "another"


def test_showing_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for effects in (draw(1, 2), draw(1, 2, clean=None), draw(1, 2, n=1), draw(1, n=1)):
            repr(effects)
            effects.to_pandas() if "pandas" in sys.modules else None
            repr(effects[(0,) * len(effects.shape)])
