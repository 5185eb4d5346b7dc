"""The training view: what it reads, where its cursor stands, and what follows it."""

import json

import numpy as np
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from views import oracles
from views.test_page import Page
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.views import AttentionView, TrainingView
from interpwidgets.views.plotting import number, ticks
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
HOSTILE = ["<img src=x onerror=alert(1)>", "</script>", "\u202eevil", "a\nb"]


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def steps_of(view):
    return json.loads(bytes(ask(view, what="steps")).decode())


@pytest.fixture
def view():
    metrics = {name: RNG.normal(size=6) for name in ("train_loss", "test_loss", "accuracy")}
    return TrainingView(metrics, [0, 1, 10, 100, 1000, 10_000])


def test_numbers_travel_exactly_and_panels_are_by_the_last_word(view):
    assert view.panels == [["train_loss", "test_loss"], ["accuracy"]]
    assert steps_of(view) == [0, 1, 10, 100, 1000, 10_000]
    for name in view.names:
        tile = ask(view, what="metric", name=name)
        np.testing.assert_array_equal(tile, view.metrics[name].value[None])
    assert [entry["key"] for entry in view._opening] == list(view.stored_keys())


def test_the_cursor_starts_at_the_end_and_reads_exact_values(view):
    assert (view.step, view.step_value) == (5, 10_000)
    view.step = 2
    assert view.step_value == 10
    assert view.values == {name: float(band.value[2]) for name, band in view.metrics.items()}
    assert TrainingView({"loss": [1, 2]}, [0.5, 1.5], step=0).step_value == 0.5


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(2, 4), st.integers(1, 7)), elements=st.floats(-1e6, 1e6) | st.just(np.nan)
    )
)
@settings(deadline=None, max_examples=50)
def test_seeds_are_a_mean_within_their_range(values):
    view = TrainingView({"loss": values})
    tile = ask(view, what="metric", name="loss")
    assert f"{len(values)} seeds" in view.banded
    for step in range(values.shape[1]):
        seen = [float(np.float32(value)) for value in values[:, step] if value == value]
        if not seen:
            assert np.isnan(tile[:, step]).all()
            continue
        truth = [sum(seen) / len(seen), min(seen), max(seen)]
        np.testing.assert_allclose(tile[:, step], truth, rtol=1e-5, atol=1e-2)


def test_records_and_seeds_of_records_are_put_on_all_their_steps():
    records = [{"step": 5, "loss": 2.0}, {"step": 0, "loss": 3.0, "accuracy": 0.1}]
    view = TrainingView(records)
    assert steps_of(view) == [0, 5]
    np.testing.assert_array_equal(ask(view, what="metric", name="loss"), [[3, 2]])
    np.testing.assert_array_equal(ask(view, what="metric", name="accuracy"), np.float32([[0.1, np.nan]]))
    view = TrainingView({"0": records, "1": [{"step": 5, "loss": 4.0}, {"step": 9, "loss": 1.0}]})
    assert steps_of(view) == [0, 5, 9]
    np.testing.assert_array_equal(ask(view, what="metric", name="loss"), [[3, 3, 1], [3, 2, 1], [3, 4, 1]])


def test_the_record_of_a_shipped_system():
    card = json.loads((iw.models.load.__globals__["SYSTEMS"] / "grok-add" / "card.json").read_text())
    view = TrainingView(card["progress"])
    seeds = card["progress"].values()
    step = view.step_value
    last = [record["test_loss"] for run in seeds for record in run if record["step"] == step]
    tile = ask(view, what="metric", name="test_loss")
    np.testing.assert_allclose(tile[:, -1], [np.mean(last), min(last), max(last)], rtol=1e-5)
    assert ["train_loss", "test_loss", "restricted_loss", "excluded_loss"] in view.panels


def test_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"step": [0, 10], "loss": [3.0, None], "note": ["a", "b"]})
    view = TrainingView(frame)
    assert (steps_of(view), view.names) == ([0, 10], ["loss"])
    assert steps_of(TrainingView(frame.set_index("step"))) == [0, 10]
    seeds = pandas.DataFrame({"seed": [0, 0, 1, 1], "step": [0, 10, 0, 10], "loss": [1.0, 2, 3, 6]})
    np.testing.assert_array_equal(ask(TrainingView(seeds), what="metric", name="loss"), [[2, 4], [1, 2], [3, 6]])


def test_bands_that_are_given():
    value = RNG.normal(size=4)
    view = TrainingView({"loss": value}, bands={"loss": (value - 1, value + 1)})
    np.testing.assert_array_equal(ask(view, what="metric", name="loss"), np.float32([value, value - 1, value + 1]))
    assert "given with the data" in view.describe()


@pytest.mark.parametrize(
    ("metrics", "more", "said"),
    [
        ({}, {}, "needs metrics"),
        ([1, 2], {}, "Metrics are {name: numbers}.*got list"),
        (None, {}, "got NoneType"),
        ({"a": [1, 2], "b": [1]}, {}, "same steps.*a 2, b 1"),
        ({"a": [1, float("inf")]}, {}, "Metric 'a' must be finite numbers"),
        ({"a": ["x"]}, {}, "Metric 'a' must be numbers"),
        ({"a": np.zeros((2, 2, 2))}, {}, r"Metric 'a' must be \[seed, step\]"),
        ({"a": []}, {}, "must not be empty"),
        ({"a": np.zeros(80_001)}, {}, "80,001 steps.*Take every k-th"),
        ({"a": [1, 2]}, {"steps": [1]}, "step = 2"),
        ({"a": [1, 2, 3]}, {"steps": [0, 5, 5]}, "Steps must ascend; 5 follows 5"),
        ([{"step": 0, "a": 1}], {"steps": [0]}, "bring their steps"),
        ([{"step": 0, "a": 1}, {"step": 0, "a": 2}], {}, "different steps"),
        ([{"step": 0, "a": [1]}], {}, "Record of step 0: 'a' must be a number"),
        ({"a": [1, 2]}, {"bands": {"b": ([0, 0], [1, 1])}}, "band for 'b', but no such metric: a"),
        ({"a": [1, 2]}, {"bands": {"a": [0, 1, 2]}}, r"must be \(low, high\)"),
        ({"a": [1, 2]}, {"bands": {"a": ([0], [1])}}, "step = 2"),
        ({"a": [1, 2]}, {"bands": {"a": ([0, 3], [1, 2])}}, "at 1 it is 3 and 2"),
    ],
)
def test_what_cannot_be_read_is_refused(metrics, more, said):
    with pytest.raises(InputError, match=said):
        TrainingView(metrics, **more)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("step", 6, "step 6 does not exist: this view has step 0 to 5"),
        ("step", -1, "step -1 does not exist"),
        ("panels", [["nothing"]], "No metric is called 'nothing'. There are: train_loss, test_loss, accuracy"),
        ("x_scale", "sqrt", "x_scale"),
    ],
)
def test_a_setting_out_of_range_is_refused(view, setting, value, said):
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=said):
        setattr(view, setting, value)
    assert getattr(view, setting) == before


def test_an_unknown_tile_is_refused(view):
    with pytest.raises(InputError, match="no metric 'x'"):
        view.tile(what="metric", name="x")


def test_it_moves_the_prompt_of_a_linked_attention_view():
    attention = AttentionView(*(oracles.pattern(RNG, 1, 2, 4, 4) for _ in range(3)))
    training = TrainingView({"loss": [3, 2, 1]}, [0, 10, 20])
    iw.link(training, attention, on=[("step", "prompt")])
    assert attention.prompt == 2
    training.step = 1
    assert attention.prompt == 1
    attention.prompt = 0
    assert training.step_value == 0


class Shows:
    def __init__(self):
        self.shown = []

    def show(self, data):
        self.shown.append(data)


def test_a_driven_view_shows_what_was_made_and_nothing_is_made_twice(view):
    driven, made = Shows(), []

    def make(step):
        made.append(step)
        return f"model at {step}"

    drive = view.drive(driven, make)
    for step in (1, 2, 1, 5):
        view.step = step
    assert driven.shown == [f"model at {step}" for step in (10_000, 1, 10, 1, 10_000)]
    assert made == [10_000, 1, 10]
    drive.stop()
    view.step = 0
    assert len(driven.shown) == 5
    assert repr(drive) == "Drive(TrainingView.step → Shows.show)"


def test_a_driven_view_that_fails_says_so_until_it_follows_again(view):
    def make(step):
        if step == 100:
            raise ValueError("no such checkpoint")
        return step

    driven = Shows()
    view.drive(driven, make)
    view.step = 3
    assert view.failed == "Shows did not follow to step 100: ValueError: no such checkpoint"
    view.step = 2
    assert view.failed == ""
    assert driven.shown == [10_000, 10]
    with pytest.raises(InputError, match=r"int has no show\(data\)"):
        view.drive(3, make)


def test_more_checkpoints_come_in_and_the_cursor_stays_unless_it_was_at_the_end(view):
    view.step = 2
    longer = {name: RNG.normal(size=9) for name in view.names}
    version = view._version
    view.show(longer)
    assert (view.step, len(view.steps), view._version) == (2, 9, version + 1)
    view.step = 8
    view.show({"other": RNG.normal(size=12)})
    assert (view.step, view.panels) == (11, [["other"]])
    view.show({"other": [1.0]})
    assert view.step == 0


def test_a_state_opens_the_same_view_again(view):
    view.step, view.x_scale = 1, "log"
    again = TrainingView.from_state(view.state(), {name: band.value for name, band in view.metrics.items()}, view.steps)
    assert again._settable() == view._settable()


@pytest.mark.parametrize("x_scale", ["linear", "log"])
def test_the_still_marks_the_cursor_where_the_step_is(view, x_scale, tmp_path):
    view.x_scale = x_scale
    view.step = 3
    svg = view.save_svg(tmp_path / "still.svg").read_text()
    view.step = 4
    assert svg != view.save_svg(tmp_path / "still.svg").read_text()
    assert "step 100" in svg
    for name in view.names:
        assert f"{name}: {number(float(view.metrics[name].value[3]))}" in svg
    assert view.save_png(tmp_path / "still.png").stat().st_size > 1000


def test_gaps_single_values_and_constants_can_be_drawn():
    gaps = [np.nan, 1, np.nan, 2, 3, np.nan]
    for metrics in ({"a": gaps}, {"a": [np.nan] * 6}, {"a": [1.0] * 6}, {"a": np.array([gaps, gaps])}):
        TrainingView(metrics).picture().png()
    TrainingView({"a": [1.0]}).picture().png()
    TrainingView({"a": [1.0]}, [7], x_scale="log").picture().png()


def test_the_table_is_the_values_at_the_cursor_and_both_ends(view):
    view.step = 1
    headings, rows = view.table()
    assert headings == ["metric", "step 1 (cursor)", "band", "step 0", "step 10,000"]
    for (name, band), row in zip(view.metrics.items(), rows, strict=True):
        assert row == [
            name,
            number(float(band.value[1])),
            "",
            number(float(band.value[0])),
            number(float(band.value[5])),
        ]
    assert repr(view) == "TrainingView(3 metrics, 6 checkpoints, step 1)"


def test_hostile_names_stay_text(tmp_path):
    view = TrainingView({name: [1, 2] for name in HOSTILE}, title="<script>", axis="<b>")
    html = view.still()
    assert "<img src=x" not in html
    assert "<script>" not in html
    text = view.save_html(tmp_path / "page.html").read_text()
    assert "<img src=x" not in text
    svg = view.save_svg(tmp_path / "still.svg").read_text()
    assert "<img" not in svg


def test_a_page_holds_every_metric(view, tmp_path):
    page = Page(view.save_html(tmp_path / "page.html"))
    ((state),) = [each["state"] for each in page.data["views"]]
    assert {entry["key"] for entry in state["_opening"]} == set(view.stored_keys())
    assert state["_live"] is False


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_ticks_are_round_and_inside(low, span, about):
    high = low + span
    found = ticks(low, high, about)
    values = [value for value, _ in found]
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in values)
    assert len(values) <= about + 1
    assert len(values) >= about / 3
    gaps = np.diff(values)
    if len(gaps):
        lead = gaps[0] / 10.0 ** np.floor(np.log10(gaps[0]) + 1e-6)
        assert min(abs(lead - nice) for nice in (1, 2, 5)) < 1e-3
    assert len({text for _, text in found}) == len(found)
