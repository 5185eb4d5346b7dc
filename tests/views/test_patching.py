"""The patching view in Python: tables of effects, their selection by place and by label, live cells, filling in."""

import json

import numpy as np
import pytest
import torch
import traitlets
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import Axis, Effects
from interpwidgets.stats import interval
from interpwidgets.views import PatchingView
from interpwidgets.views.view import key_of

torch.set_num_threads(1)
RNG = np.random.default_rng()
NAMES = [("anna", "ben"), ("carl", "david"), ("emma", "frank")]
CLEAN = [f"when {a} and {b} went to the park , {b} gave a book to" for a, b in NAMES]
CORRUPTED = [f"when {a} and {b} went to the park , {a} gave a book to" for a, b in NAMES]
METRIC = iw.logit_diff([a for a, _ in NAMES], [b for _, b in NAMES])
HOSTILE = "<img src=x onerror=window.hacked=1></script>"


def effects_of(*axes, n=4, clean=True, missing=False, **more):
    values = RNG.normal(size=(*(len(axis) for axis in axes), n))
    if missing:
        values[0] = np.nan
    return Effects(
        values=values,
        metric="logit(a) − logit(b)",
        corrupted=RNG.normal(size=n),
        clean=RNG.normal(size=n) + 3 if clean else None,
        how="z of a model taken from elsewhere",
        axes=axes,
        **more,
    )


LAYER, POS, HEAD = Axis("layer", (0, 1, 2)), Axis("pos", tuple(range(5))), Axis("head", (0, 2))


@pytest.fixture(scope="module")
def swept():
    return iw.patch_sweep(iw.load("ioi-known"), CLEAN, CORRUPTED, METRIC, over="resid_pre", progress=False)


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def words(view, **key):
    return json.loads(bytes(ask(view, **key)))


def test_tiles_hold_effects_and_intervals():
    control = RNG.normal(size=(3, 5, 7))
    effects = effects_of(LAYER, POS, control=control)
    view = PatchingView(effects)
    mean, effect, exceeds = ask(view, what="cells", panel=0, held="", at=0, block=0)
    np.testing.assert_allclose(mean, effects.values.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(effect, (effects.values - effects.corrupted).mean(-1), rtol=1e-5, atol=1e-6)
    smaller = np.abs(control - effects.corrupted.mean()) < np.abs(effect)[..., None]
    np.testing.assert_allclose(exceeds, smaller.mean(-1), rtol=1e-6)
    low, high = ask(view, what="intervals", panel=0, held="", at=0, block=0)
    np.testing.assert_allclose([low, high], interval(effects.values - effects.corrupted), rtol=1e-5, atol=1e-6)
    facts = view.panels[0]
    assert facts["axes"] == [["layer", 3], ["pos", 5]]
    assert facts["gap"] == pytest.approx(effects.clean.mean() - effects.corrupted.mean())
    assert facts["most"] == pytest.approx(np.abs(effect).max(), rel=1e-5)
    assert facts["draws"] == 7
    assert not facts["live"]
    assert words(view, what="labels", panel=0) == [[0, 1, 2], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("held", ["", "layer", "head", "pos"])
def test_of_three_axes_one_is_held(held):
    effects = effects_of(POS, LAYER, HEAD)
    view = PatchingView(effects, held=held)
    axis = ["pos", "layer", "head"].index(held or "head")
    for at in range(effects.shape[axis]):
        _, found, _ = ask(view, what="cells", panel=0, held=held, at=at, block=0)
        low, _ = ask(view, what="intervals", panel=0, held=held, at=at, block=0)
        truth = np.take(effects.effect, at, axis=axis)
        truth_low = np.take(effects.interval()[0], at, axis=axis)
        if held in ("", "head"):  # layers are rows
            truth, truth_low = truth.T, truth_low.T
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(low, truth_low, rtol=1e-5, atol=1e-6)


def test_wide_tables_come_in_blocks():
    effects = effects_of(Axis("pos", tuple(range(20))), Axis("neuron", tuple(range(3000))), n=2)
    view = PatchingView(effects)
    blocks = [ask(view, what="cells", panel=0, held="", at=0, block=b) for b in (0, 1)]
    assert all(block.nbytes < 1e6 for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks, axis=2)[1], effects.effect, rtol=1e-5, atol=1e-6)
    view.neuron = 2999
    assert view.cell[1] == 2999
    one = PatchingView(effects_of(LAYER))
    assert ask(one, what="cells", panel=0, held="", at=0, block=0).shape == (3, 1, 3)


def test_the_strongest_cell_is_selected_first():
    effects = effects_of(LAYER, HEAD)
    view = PatchingView(effects)
    (labels, strongest), *_ = effects.top(1)
    assert (view.layer, view.head, view.position) == (*labels, None)
    assert view.selected.effect == strongest.effect
    assert view.state() == "PatchingView?"
    assert view.roles == {"prompt": "prompt", "layer": "layer", "head": "head"}
    assert not view.undo()


def test_a_selection_has_places_and_labels():
    view = PatchingView(effects_of(LAYER, HEAD))
    view.cell = [1, 1]
    assert (view.layer, view.head) == (1, 2)
    view.head = 0
    assert view.cell == [1, 0]
    view.layer, view.head = 2, 2
    assert view.cell == [2, 1]
    again = PatchingView.from_state(view.state(), view._tiles.panels[0].effects)
    assert (again.cell, again.layer, again.head) == ([2, 1], 2, 2)
    by_label = PatchingView(view._tiles.panels[0].effects, layer=0, head=2)
    assert by_label.cell == [0, 1]
    named = PatchingView(effects_of(Axis("pos", ("S1", "S2"))), position=1)
    assert named.cell == [1]


def test_a_link_moves_it():
    one, other = PatchingView(effects_of(LAYER, POS)), PatchingView(effects_of(LAYER, HEAD))
    link = iw.link(one, other)
    one.layer = 2
    assert other.cell[0] == 2
    other.cell = [1, 0]
    assert one.cell[0] == 1
    link.unlink()


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("layer", 3, "layer 3 does not exist: these effects have 0, 1, 2"),
        ("head", 1, "head 1 does not exist: these effects have 0, 2"),
        ("position", 0, "position is not an axis of these effects"),
        ("cell", [0], "a number for each of layer 3 × head 2, counted from 0; got"),
        ("cell", [0, 2], "counted from 0"),
        ("panel", 1, "panel 1 does not exist"),
        ("prompt", 1, "prompt 1 does not exist"),
        ("held", "colour", "held names one of the axes layer, head; got 'colour'"),
        ("colour_range", [2.0, 1.0], "low below high"),
        ("measure", "loss", "measure"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, says):
    effects = effects_of(LAYER, HEAD)
    view = PatchingView(effects)
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    assert getattr(view, setting) == before
    with pytest.raises(traitlets.TraitError, match=says):
        PatchingView(effects, **{setting: value})


def test_prompts_stand_beside_and_differences_are_marked(swept):
    view = PatchingView(swept)
    pair = words(view, what="pair", prompt=1)
    assert pair["clean"][10] == "david"
    assert pair["corrupted"][10] == "carl"
    assert pair["marked"] == [10]
    assert len(view.pairs) == 3
    loaded = PatchingView(effects_of(POS, n=2), clean=[["a", "b", "c", "d", "e"]] * 2, corrupted=[list("abxde")] * 2)
    assert words(loaded, what="pair", prompt=0)["marked"] == [2]
    rec = iw.record(iw.load("ioi-known"), CLEAN)
    assert words(PatchingView(effects_of(POS, n=3), clean=rec), what="pair", prompt=0)["corrupted"] is None


def test_a_cell_is_run_again(swept):
    view = PatchingView(swept)
    assert view.panels[0]["live"]
    found = words(view, what="run", panel=0, cell=[1, 10], prompt=2)
    assert found["how"].startswith("Patch: resid_pre of layer 1 at position 10")
    top = dict(zip(found["tokens"], zip(found["before"], found["after"], strict=True), strict=True))
    assert top["emma"][1] > 0.5 > top["emma"][0]  # the clean answer comes back
    stored = list(view.stored_keys())
    assert key_of(what="run", panel=0, cell=[1, 10], prompt=2) in stored
    assert not any('"run"' in key for key in PatchingView(swept, cell=[]).stored_keys())
    with pytest.raises(InputError, match="not live: run the sweep in this session"):
        PatchingView(effects_of(LAYER, POS)).tile(what="run", panel=0, cell=[0, 0], prompt=0)


def test_a_view_fills_while_a_sweep_runs(monkeypatch):
    monkeypatch.setattr("interpwidgets.intervene.gathering._SHOW", 0.0)
    view = PatchingView()
    assert repr(view) == "PatchingView(nothing yet)"
    assert str(view) == repr(view)
    seen = []
    model = iw.load("ioi-known")
    versions = []

    def show(effects):
        view.show(effects)
        versions.append(view._version)
        seen.append({json.loads(entry["key"])["what"]: unpack(entry["meta"], entry["data"]) for entry in view._opening})

    effects = iw.patch_sweep(model, CLEAN, CORRUPTED, METRIC, over="mlp_out", progress=False, into=show)
    assert versions == sorted(set(versions))
    assert np.isnan(seen[0]["cells"][1]).any()
    assert "intervals" not in seen[0]
    np.testing.assert_allclose(seen[-1]["cells"][1], effects.effect, rtol=1e-5, atol=1e-6)
    assert "intervals" in seen[-1]
    assert view.cell == list(np.unravel_index(np.abs(effects.effect).argmax(), effects.shape))
    view.cell = [0, 3]
    view.show(effects)
    assert view.cell == [0, 3]  # what a reader has selected stays
    view.show(effects_of(HEAD))
    assert view.layer is None
    assert len(view.cell) == 1


def test_a_trace_fills_its_tables_while_it_runs(monkeypatch):
    monkeypatch.setattr("interpwidgets.intervene.gathering._SHOW", 0.0)
    view = PatchingView()
    panels = []

    def show(trace):
        view.show(trace)
        panels.append(len(view._tiles.panels))

    trace = iw.causal_trace(iw.load("ioi-known"), CLEAN[0], subject=[1], samples=2, progress=False, into=show)
    assert panels[0] == 1
    assert panels == sorted(panels)
    assert panels[-1] == 3
    assert str(view) == str(PatchingView(trace))


def test_a_trace_is_a_row_of_tables():
    trace = iw.causal_trace(iw.load("ioi-known"), CLEAN[0], subject="anna", samples=3, window=1, progress=False)
    view = PatchingView(trace)
    assert view.title == "Causal trace"
    assert [panel["name"] for panel in view.panels] == ["resid_post restored", "attn_out restored", "mlp_out restored"]
    pair = words(view, what="pair", prompt=0)
    assert pair["clean"][2] == "anna"
    assert pair["marked"] == [2]
    view.panel, view.cell = 1, [2, 14]
    np.testing.assert_array_equal(view.selected.values, trace.attn.values[2, 14])
    less = iw.causal_trace(
        iw.load("ioi-known"), CLEAN[0], subject="anna", samples=2, over=["mlp_out"], window=1, progress=False
    )
    assert len(PatchingView(less).panels) == 1


def test_several_tables_with_a_selection_each():
    two = PatchingView({"positions": effects_of(LAYER, POS), "heads": effects_of(LAYER, HEAD)}, layer=1, position=4)
    assert [panel["name"] for panel in two.panels] == ["positions", "heads"]
    two.panel = 1
    assert two.cell[1] < 2
    assert two.position is None
    listed = PatchingView([effects_of(LAYER, POS), effects_of(LAYER, POS)])
    assert repr(listed) == "PatchingView(layer 3 × pos 5; layer 3 × pos 5)"


def test_what_cannot_be_shown():
    with pytest.raises(InputError, match="shows Effects, several of them, or a CausalTrace; got ndarray"):
        PatchingView(np.zeros((2, 3)))
    with pytest.raises(InputError, match="got nothing"):
        PatchingView([])
    with pytest.raises(InputError, match="one to three axes"):
        PatchingView(effects_of(LAYER, POS, HEAD, Axis("draw", (0, 1))))
    with pytest.raises(InputError, match="cannot split text into tokens"):
        PatchingView(effects_of(POS), clean="when anna and")
    with pytest.raises(InputError, match="on 4 prompts; got the tokens of 1"):
        PatchingView(effects_of(POS), clean=list("abcde"))
    with pytest.raises(InputError, match="go to position 4, beyond the end"):
        PatchingView(effects_of(POS, n=1), clean=list("abcd"))
    with pytest.raises(InputError, match="pairs of as many tokens"):
        PatchingView(effects_of(POS, n=1), clean=list("abcde"), corrupted=list("abcdef"))
    with pytest.raises(InputError, match="no table 3"):
        PatchingView(effects_of(POS)).tile(what="labels", panel=3)
    with pytest.raises(InputError, match="no tile 'weather'"):
        PatchingView(effects_of(POS)).tile(what="weather")


@pytest.mark.parametrize("measure", ["effect", "recovered", "value"])
@pytest.mark.parametrize("axes", [(LAYER,), (LAYER, POS), (POS, LAYER, HEAD)])
def test_stills_and_pages(axes, measure, tmp_path):
    tokens = [[HOSTILE, "\u202eabc", "\n", "c", "d"]] * 4
    view = PatchingView(effects_of(*axes, missing=True), clean=tokens, measure=measure, title=HOSTILE)
    assert view.save_png(tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    svg = view.save_svg(tmp_path / "a.svg").read_text()
    assert "<img" not in svg
    assert measure in svg
    page = view.save_html(tmp_path / "a.html").read_text()
    assert "<img" not in page
    headings, rows = view.table()
    assert headings[-3:] == ["effect", "95 %", "recovered"]
    assert all(len(row) == len(headings) for row in rows)
    assert "Selected: " in view.describe()


def test_an_empty_view_has_a_still(tmp_path):
    view = PatchingView()
    assert "Nothing has been run yet" in view.save_svg(tmp_path / "a.svg").read_text()
    assert view.selected is None
    assert list(view.stored_keys()) == []


def test_one_prompt_and_no_clean_run():
    view = PatchingView(effects_of(LAYER, HEAD, n=1, clean=False))
    assert view.title == "Effects of interventions"
    assert view.panels[0]["gap"] is None
    assert view.panels[0]["clean"] is None
    assert view.table()[1][0][-2:] == ["one prompt", ""]
    assert np.isnan(ask(view, what="intervals", panel=0, held="", at=0, block=0)).all()
    json.dumps(view.panels, allow_nan=False)
