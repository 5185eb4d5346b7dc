"""Neurons over text against loops: what a row says, which rows come, and what is refused."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views import Neuron, NeuronsView
from interpwidgets.views.neurons import CELLS, ROWS
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
WHERE = {"prompt": 0, "layer": 0}


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def rows_key(sort="max", position=None, filter="", block=0, **where):  # noqa: A002
    return key_of(what="rows", **{**WHERE, **where}, sort=sort, position=position, filter=filter, block=block)


def rows(view, **key):
    """All rows of a table, and how many it says there are."""
    found, block = [], 0
    while True:
        meta, data = view.packed(rows_key(block=block, **key))
        found.append(unpack(meta, data))
        block += 1
        if block * ROWS >= meta["total"]:
            return np.concatenate(found), meta["total"]


@given(size=st.integers(1, 200), count=st.integers(1, 90), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_a_row_is_what_a_loop_finds(size, count, seed):
    values = np.random.default_rng(seed).normal(size=(size, count)).astype(np.float32)
    view = NeuronsView(values)
    found, total = rows(view, sort="index")
    assert total == count
    edges = [int(edge) for edge in np.linspace(0, size, min(CELLS, size) + 1)]
    for neuron, row in enumerate(found):
        own = values[:, neuron].astype(float)
        assert row[0] == neuron
        facts = [max(own), sum(own) / size, sum(own > 0) / size, list(own).index(max(own))]
        np.testing.assert_allclose(row[1:5], facts, rtol=1e-4, atol=1e-6)
        assert np.isnan(row[5])
        strip = [max(own[a:b], key=abs) for a, b in pairwise(edges)]
        np.testing.assert_allclose(row[6:], strip, rtol=1e-6)
    np.testing.assert_array_equal(ask(view, what="row", **WHERE, neuron=count - 1)[0], found[-1])
    np.testing.assert_array_equal(ask(view, what="line", **WHERE, neuron=count - 1, block=0)[0], values[:, -1])


def test_the_table_is_sorted_by_each_measure():
    values = RNG.normal(size=(20, 100)).astype(np.float32)
    view = NeuronsView(values)
    for sort, by in (("max", values.max(axis=0)), ("mean", values.mean(axis=0)), ("share", (values > 0).mean(axis=0))):
        found, _ = rows(view, sort=sort)
        np.testing.assert_allclose(by[found[:, 0].astype(int)], np.sort(by)[::-1], rtol=1e-5)
    found, _ = rows(view, sort="position", position=7)
    np.testing.assert_array_equal(found[:, 5], np.sort(values[7])[::-1])
    top, value = ask(view, what="at", **WHERE, position=7)
    np.testing.assert_array_equal(value, np.sort(values[7])[::-1][: len(top)])
    np.testing.assert_array_equal(values[7, top.astype(int)], value)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ("max > 1.5", lambda v: v.max(axis=0) > 1.5),
        ("max > 1.5, mean <= 0", lambda v: (v.max(axis=0) > 1.5) & (v.mean(axis=0) <= 0)),
        ("share>=0.5", lambda v: (v > 0).mean(axis=0) >= 0.5),
        ("mean < -1e-1", lambda v: v.mean(axis=0) < -0.1),
        ("7, 3", lambda v: np.isin(np.arange(v.shape[1]), [3, 7])),
        ("99999", lambda v: np.zeros(v.shape[1], bool)),
        (" , ", lambda v: np.ones(v.shape[1], bool)),
    ],
)
def test_a_filter_keeps_what_passes(wanted, passes):
    values = RNG.normal(size=(10, 80)).astype(np.float32)
    found, total = rows(NeuronsView(values), sort="index", filter=wanted)
    expected = np.flatnonzero(passes(values))
    assert total == len(expected)
    np.testing.assert_array_equal(found[:, 0], expected)


def test_a_filter_that_cannot_be_read_is_answered_in_words():
    view = NeuronsView(RNG.normal(size=(3, 4)))
    sent = []
    view.send = lambda content, buffers=None: sent.append(content)
    view._answer({"tiles": [rows_key(filter="max >"), rows_key(filter="loud > 3"), rows_key()]})
    first, second, third = sent[0]["tiles"]
    assert first["error"] == "A filter is a neuron's index, or max, mean or share < or > a number; got 'max >'."
    assert "got 'loud > 3'" in second["error"]
    assert third["total"] == 4


@pytest.mark.parametrize("as_torch", [False, True])
def test_every_form_of_activations(as_torch):
    values = RNG.normal(size=(6, 2, 5)).astype(np.float32)  # [pos, layer, neuron]
    given = torch.tensor(values, dtype=torch.float64) if as_torch else values
    words = oracles.words(RNG, 6)
    forms = [
        NeuronsView(given, words),
        NeuronsView({0: given[:, 0], 1: given[:, 1]}, words),
        NeuronsView(lambda layer: given[:, layer], words, names=["0", "1"]),
        NeuronsView([given, given], [words, words]),
    ]
    for view in forms:
        assert [layer["name"] for layer in view.layers] == ["0", "1"]
        for layer in range(2):
            found, _ = rows(view, sort="index", layer=layer)
            np.testing.assert_array_equal(found[:, 6:].T, values[:, layer])
    two = NeuronsView(given[:, 1])
    assert [layer["name"] for layer in two.layers] == ["0"]
    named = NeuronsView({"early": given[:, 0], "late": given[:, 1]})
    assert [layer["name"] for layer in named.layers] == ["early", "late"]


def test_a_function_is_asked_for_a_layer_once_at_a_time():
    asked = []

    def read(layer):
        asked.append(layer)
        return np.full((4, 3), layer, np.float32)

    view = NeuronsView(read, names=["a", "b", "c"])
    rows(view, layer=1)
    rows(view, layer=1, sort="mean")
    assert asked.count(1) <= 2


def test_what_is_selected_is_read_in_python():
    values = RNG.normal(size=(7, 2, 5)).astype(np.float32)
    view = NeuronsView(values, layer=1, neuron=3)
    found = view.selection
    assert isinstance(found, Neuron)
    assert (found.layer, found.neuron, found.max) == (1, 3, float(values[:, 1, 3].max()))
    np.testing.assert_array_equal(found.values, values[:, 1, 3])
    assert NeuronsView(values, layer=1).neuron == values[:, 1].max(axis=0).argmax()  # the strongest is shown first


def test_a_trained_model_layer_by_layer():
    model = iw.load("storyteller-4l")
    rec = iw.record(
        model, ["peter showed a kite to henry .", "clara went to the park"], sites=["mlp_post"], layers=[1, 3]
    )
    view = NeuronsView(rec)
    assert view.title == "Neurons: mlp_post"
    assert [layer["name"] for layer in view.layers] == ["1", "3"]
    for prompt, tokens in enumerate(rec.tokens):
        for place, layer in enumerate((1, 3)):
            truth = rec["mlp_post", layer][prompt, : len(tokens)].numpy()
            found, total = rows(view, sort="index", prompt=prompt, layer=place)
            assert total == truth.shape[1]
            np.testing.assert_array_equal(found[:, 6:].T, truth)
    heads = NeuronsView(iw.record(model, "clara went", sites=["z"]), site="z")  # [pos, head, d_head] is flattened
    assert heads.layers[0]["neurons"] == model.d_model
    view.prompt, view.position, view.pinned = 1, 2, [[0, 3], [1, 511]]
    view.show(iw.record(model, "a", sites=["mlp_post"], layers=[1]))
    assert (view.prompt, view.layer, view.position, view.pinned) == (0, 0, None, [[0, 3]])


def test_a_hundred_thousand_neurons_are_answered_by_the_row():
    count = 100_000
    values = np.zeros((8, count), np.float32)
    values[3] = RNG.permutation(count)
    view = NeuronsView(values)
    meta, data = view.packed(rows_key(block=1000))
    tile = unpack(meta, data)
    assert meta["total"] == count
    np.testing.assert_array_equal(tile[:, 1], count - 1 - np.arange(1000 * ROWS, 1001 * ROWS))
    assert len(data) < 20_000
    assert sum(len(entry["data"]) for entry in view._opening) < 50_000
    assert sum(1 for _ in view.stored_keys()) < 200


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (np.zeros(3), {}, r"activations must be \[pos, neuron\]; got an array of shape \[3\]"),
        (np.zeros((2, 3, 4, 5)), {}, r"must be \[pos, neuron\]"),
        (np.zeros((3, 0)), {}, "must not be empty"),
        (np.zeros((3, 4)), {"tokens": ["a"]}, r"\[pos, neuron\] with pos = 1; got shape \[3, 4\]"),
        (np.full((3, 4), np.nan), {}, "finite numbers; at pos 0, neuron 0 it is nan"),
        ({0: np.zeros((3, 4)), 1: np.zeros((2, 4))}, {}, r"same positions; got \[2, 3\]"),
        (np.zeros((3, 4)), {"names": ["a", "b"]}, "1 layers need 1 names; got 2"),
        ([np.zeros((3, 4))], {"tokens": [["a"] * 3, ["b"] * 3]}, "2 prompts need a list of 2 activations"),
        ([np.zeros((3, 4)), np.zeros((3, 5))], {"tokens": [["a"] * 3] * 2}, r"same layers and neurons; got \[4\]"),
        (lambda layer: np.zeros((layer + 2, 3)), {"tokens": ["a"] * 3}, r"activations of layer 0 must be"),
        ("abc", {}, "must be numbers"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_words(data, options, says):
    with pytest.raises(InputError, match=says):
        NeuronsView(data, **options)


def test_recordings_that_do_not_fit_are_refused():
    model = iw.load("induction-2l")
    rec = iw.record(model, "the cat sat")
    with pytest.raises(InputError, match=r"holds no 'mlp_post'. Record it: record\(model, prompts, sites="):
        NeuronsView(rec)
    with pytest.raises(InputError, match="leave tokens= out"):
        NeuronsView(rec, ["a"], site="resid_post")
    with pytest.raises(InputError, match="some positions only"):
        NeuronsView(iw.record(model, "the cat sat", positions=-1), site="resid_post")


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("layer", 2, "layer 2 does not exist: this view has layer 0 to 1"),
        ("neuron", 5, "neuron 5 does not exist: this view has neuron 0 to 4"),
        ("neuron", -1, "neuron -1 does not exist"),
        ("prompt", 1, "prompt 1 does not exist"),
        ("position", 6, "position 6 does not exist: this text has position 0 to 5"),
        ("sort_by", "size", "sort_by"),
        ("pinned", [[0, 5]], r"\[layer, neuron\] that exist; got \[0, 5\]"),
        ("pinned", [[1]], r"that exist; got \[1\]"),
        ("colour_range", [2, 1], r"\[low, high\], low below high"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, says):
    view = NeuronsView(np.zeros((6, 2, 5)))
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    with pytest.raises(traitlets.TraitError, match=says):
        NeuronsView(np.zeros((6, 2, 5)), **{setting: value})


def test_table_still_state_and_page(tmp_path):
    values = RNG.normal(size=(4, 2, 6)).astype(np.float32)
    hostile = ["<img src=x onerror=alert(1)>", "</script>", "\n", "عربي"]
    view = NeuronsView(values, hostile, layer=1, position=2, sort_by="position", filter="max > -9", pinned=[[0, 1]])
    headings, found = view.table()
    assert headings == ["neuron", "max", "mean", "active", "at"]
    assert [int(row[0]) for row in found] == np.argsort(-values[2, 1]).tolist()
    for row in found:
        own = values[:, 1, int(row[0])]
        assert row[1] == f"{own.max():.4g}"
        assert row[4].startswith(f"{own.argmax()}: ")
    assert view.save_png(tmp_path / "a.png").exists()
    assert "<img src=x" not in view.save_svg(tmp_path / "a.svg").read_text()
    page = view.save_html(tmp_path / "a.html").read_text()
    assert "<img src=x" not in page
    stored = [json.loads(key) for key in view.stored_keys()]
    assert {key["layer"] for key in stored if key["what"] == "line"} == {0, 1}
    again = NeuronsView.from_state(view.state(), values, hostile)
    assert (again.layer, again.position, again.sort_by, again.pinned) == (1, 2, "position", [[0, 1]])
    assert repr(view) == "NeuronsView(2 layers × 6 neurons, 4 tokens)"
    assert repr(NeuronsView({0: values[:, 0], 1: values[:, 1, :2]})) == "NeuronsView(2 layers × 2–6 neurons, 4 tokens)"


def test_it_links_by_layer_neuron_and_position():
    a, b = NeuronsView(np.zeros((6, 2, 5))), NeuronsView(np.zeros((6, 2, 5)), Tokens.numbered(6))
    iw.link(a, b)
    a.layer, a.neuron, a.position = 1, 4, 2
    assert (b.layer, b.neuron, b.position) == (1, 4, 2)
