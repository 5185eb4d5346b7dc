"""A prompt that is read as it is written: what the model says of it, and who follows."""

import json

import numpy as np
import pytest
import torch
import traitlets
from views.test_page import Page
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.views.view import key_of

TEXT = "one day anna and tom went to the park . tom gave the ball to"
OTHER = "one day anna and tom went to the park . anna gave the ball to"


@pytest.fixture(scope="module")
def model():
    return iw.load("storyteller-4l")


@pytest.fixture
def view(model):
    return iw.PromptView(model, TEXT)


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def distribution(model, text, changes=(), pos=-1):
    logits = iw.run(model, text, changes, sites=["logits"])["logits"][0, pos]
    return torch.softmax(logits.double(), -1).numpy()


def test_each_token_has_the_surprise_that_a_loop_finds(view, model):
    rec = iw.record(model, TEXT, sites=["logits"])
    ids, logits = rec.tokens[0].ids, rec["logits"][0].detach().double().numpy()
    found = view.surprise()
    assert np.isnan(found[0])
    for i in range(1, len(ids)):
        odds = np.exp(logits[i - 1] - logits[i - 1].max())
        assert found[i] == pytest.approx(-np.log2(odds[ids[i]] / odds.sum()), abs=1e-4)
    np.testing.assert_array_equal(ask(view, what="values", prompt=0, block=0)[0], found)


def test_the_next_token_is_the_models(view, model):
    p = distribution(model, TEXT)
    found = view.outcome()
    assert found.ids[0] == int(p.argmax())
    np.testing.assert_allclose(found.before, p[list(found.ids)], atol=1e-6)
    view.position = 3
    assert view.outcome().position == 3
    told = json.loads(view.tile(what="next", position=3).array.tobytes())
    np.testing.assert_allclose(told["before"], distribution(model, TEXT, pos=3)[list(view.outcome().ids)], atol=1e-6)


def test_what_is_written_is_read(view, model):
    version = view._version
    view.text = OTHER
    assert view._version == version + 1
    assert "".join(view.tokens).count("anna") == 2
    np.testing.assert_allclose(view.outcome().before, distribution(model, OTHER)[list(view.outcome().ids)], atol=1e-6)
    opened = [json.loads(entry["key"])["what"] for entry in view._opening]
    assert opened == ["tokens", "values", "next"]


@pytest.mark.parametrize(("text", "said"), [("", "empty"), ("anna " * 500, "context|at most|128")])
def test_what_cannot_be_read_is_said_and_the_last_stays(view, text, said):
    version = view._version
    view.text = text
    assert any(word in view.error for word in said.split("|"))
    assert view._version == version
    assert view.size == len(iw.record(view.model, TEXT).tokens[0])
    view.text = OTHER
    assert view.error == ""


def test_interventions_change_what_comes_next(view, model):
    what = [iw.Ablate("z", 2, head=1), iw.Scale("mlp_out", 1, factor=0.25, pos=4)]
    for each in what:
        view.add(each)
    found = view.outcome()
    np.testing.assert_allclose(found.before, distribution(model, TEXT)[list(found.ids)], atol=1e-6)
    np.testing.assert_allclose(found.after, distribution(model, TEXT, what)[list(found.ids)], atol=1e-6)
    assert [chip["label"] for chip in view.chips] == [repr(each) for each in what]
    view.chips = [{**view.chips[0], "on": False}, view.chips[1]]
    found = view.outcome()
    np.testing.assert_allclose(found.after, distribution(model, TEXT, what[1:])[list(found.ids)], atol=1e-6)
    view.clear()
    assert view.outcome().kl == 0


def test_the_page_writes_interventions_down(view, model):
    spec = {"kind": "mean", "site": "z", "layer": 1, "head": 2, "pos": None}
    view.chips = [{"label": "…", "on": True, "spec": spec}]
    expected = iw.Ablate("z", 1, head=2, kind="mean")
    assert view.chips[0]["label"] == repr(expected)
    found = view.outcome()
    np.testing.assert_allclose(found.after, distribution(model, TEXT, expected)[list(found.ids)], atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "zero", "site": "z", "layer": 99}, "layer"),
        ({"kind": "zero", "site": "nowhere", "layer": 0}, "nowhere"),
        ({"kind": "eval", "site": "z", "layer": 0}, "A chip is"),
        ({"kind": "zero", "site": "z", "layer": 0, "reference": 3}, "A chip is"),
        ({"kind": "held", "number": 7}, "add it again in Python"),
        ({}, "A chip is"),
    ],
)
def test_a_chip_that_means_nothing_is_refused_in_words(view, spec, said):
    before = view.outcome()
    view.chips = [{"label": "mine", "on": True, "spec": spec}]
    assert said in view.error
    np.testing.assert_array_equal(view.outcome().before, before.before)


def test_interventions_with_values_of_their_own_are_held(view, model):
    vector = torch.randn(model.d_model)
    view.add(iw.Steer("resid_post", 1, vector=vector, coefficient=3.0))
    found = view.outcome()
    expected = distribution(model, TEXT, iw.Steer("resid_post", 1, vector=vector, coefficient=3.0))
    np.testing.assert_allclose(found.after, expected[list(found.ids)], atol=1e-6)
    json.dumps(view.chips)


def test_views_follow(model):
    attention = iw.AttentionView(iw.record(model, "anna gave the ball to tom"))
    view = iw.PromptView(model, TEXT, drives=[attention])
    np.testing.assert_allclose(
        attention.shown_source().block(2, 1, np.arange(view.size), slice(0, view.size)),
        iw.record(model, TEXT).pattern(layer=2, head=1).numpy(),
        atol=1e-6,
    )
    view.add(iw.Ablate("z", 0, head=0))
    changed = iw.run(model, TEXT, iw.Ablate("z", 0, head=0), sites=["q", "k"])
    np.testing.assert_allclose(
        attention.shown_source().block(2, 1, np.arange(view.size), slice(0, view.size)),
        changed.pattern(layer=2, head=1).numpy(),
        atol=1e-6,
    )
    seen = []
    view.drive(_Follower(seen), make=lambda recording: len(recording.tokens[0]))
    view.text = OTHER
    assert seen == [view.size, len(view.tokens)]


class _Follower:
    def __init__(self, seen):
        self.seen = seen

    def show(self, data):
        self.seen.append(data)


def test_a_view_that_refuses_is_named(model):
    class Sulking:
        def show(self, data):
            if calls:
                raise InputError("not that one.")
            calls.append(data)

    calls = []
    view = iw.PromptView(model, TEXT)
    view.drive(Sulking())
    view.text = OTHER
    assert view.error == "Sulking: not that one."


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda model: iw.PromptView("storyteller-4l", TEXT), "needs a model, as iw.load.* got str"),
        (lambda model: iw.PromptView(model), "empty"),
        (lambda model: iw.PromptView(model, TEXT, interventions=["z"]), "Interventions are Patch, Ablate"),
        (lambda model: iw.PromptView(model, TEXT, interventions=[iw.Ablate("z", 9)]), "layer"),
        (lambda model: iw.PromptView(model, TEXT, drives=[3]), "int shows no recording"),
        (lambda model: iw.PromptView(model, TEXT).add(iw.Ablate("z", 9)), "layer"),
    ],
)
def test_bad_input_is_refused(model, make, said):
    with pytest.raises(InputError, match=said):
        make(model)


def test_an_intervention_that_does_not_fit_is_not_added(view):
    with pytest.raises(InputError):
        view.add(iw.Ablate("z", 99))
    assert view.chips == []


def test_a_position_beyond_the_text_is_refused_and_let_go_when_the_text_is_shorter(view):
    with pytest.raises(traitlets.TraitError, match="position 99 does not exist"):
        view.position = 99
    view.position = 14
    view.text = "anna and tom"
    assert view.position is None


def test_state_stills_and_pages(view, model, tmp_path):
    view.add(iw.Ablate("z", 2, head=1))
    view.position = 5
    again = iw.PromptView.from_state(view.state(), model)
    assert (again.text, again.position, again.chips) == (view.text, view.position, view.chips)
    assert "probability" in view.picture().svg()
    assert view.picture().png()
    assert "after position 5" in view.describe()
    assert view.table()[0] == ["next token", "before", "after"]
    assert repr(view) == f"PromptView(storyteller-4l, {view.size} tokens, 1 interventions)"
    page = Page(view.save_html(tmp_path / "prompt.html"))
    stored = [tile["key"] for tile in page.data["views"][0]["state"]["_opening"]]
    assert {key_of(what="next", position=at) for at in range(view.size)} <= set(stored)
