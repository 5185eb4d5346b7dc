"""What an intervention does to the next token, against the two distributions computed by hand."""

import numpy as np
import pytest
import torch

import interpwidgets as iw
from interpwidgets.errors import InputError

PROMPT = "lion bread clock river lion bread clock"


@pytest.fixture(scope="module")
def model():
    return iw.load("induction-2l")


def distribution(model, interventions, pos):
    logits = iw.run(model, PROMPT, interventions, sites=["logits"])["logits"][0, pos]
    return torch.softmax(logits.double(), -1).numpy()


@pytest.mark.parametrize("pos", [-1, 0, 4])
def test_probabilities_and_distance_are_those_of_two_runs(model, pos):
    what = iw.Ablate("z", layer=1, head=np.random.default_rng().integers(model.n_heads).item())
    found = iw.outcome(model, PROMPT, what, pos=pos, k=5)
    p, q = distribution(model, (), pos), distribution(model, what, pos)
    np.testing.assert_allclose(found.before, p[list(found.ids)], atol=1e-9)
    np.testing.assert_allclose(found.after, q[list(found.ids)], atol=1e-9)
    assert found.kl == pytest.approx(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-9)
    assert {*np.argsort(-p)[:5], *np.argsort(-q)[:5]} == set(found.ids)
    assert (np.diff(np.maximum(found.before, found.after)) <= 1e-12).all()
    assert found.position == pos % len(iw.record(model, PROMPT).tokens[0])


def test_logits_of_the_run_as_it_is_spare_a_pass(model):
    rec = iw.record(model, PROMPT, sites=["logits"])
    what = iw.Ablate("z", layer=1, head=2)
    a, b = iw.outcome(model, PROMPT, what), iw.outcome(model, PROMPT, what, logits=rec["logits"][0])
    np.testing.assert_allclose(a.before, b.before, atol=1e-6)
    assert a.ids == b.ids


def test_nothing_changes_nothing(model):
    found = iw.outcome(model, PROMPT, ())
    assert found.kl == 0
    assert (found.before == found.after).all()
    assert repr(found).startswith("Outcome of nothing: the token after position")


def test_it_says_what_was_done_and_travels(model):
    found = iw.outcome(model, PROMPT, [iw.Ablate("z", layer=1, head=2), iw.Scale("resid_pre", layer=1, factor=0.5)])
    sent = found.to_json()
    assert sent["how"] == found.how
    assert "layer 1" in found.how
    assert sent["tokens"] == list(found.tokens)
    assert len(repr(found).splitlines()) == 2 + len(found.tokens)


@pytest.mark.parametrize(
    ("prompt", "pos", "said"),
    [
        ([PROMPT, PROMPT], -1, "one prompt; got 2"),
        (PROMPT, 99, "no position 99; the prompt has"),
        (PROMPT, -99, "no position"),
    ],
)
def test_bad_input_is_refused(model, prompt, pos, said):
    with pytest.raises(InputError, match=said):
        iw.outcome(model, prompt, iw.Ablate("z", layer=1, head=2), pos=pos)


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_a_control_of_other_heads_takes_their_own_values(model, kind):
    """The run itself is the reference, in layers that only the control touches too."""
    prompts = [PROMPT, "flute lion bread flute lion bread flute"]
    what = iw.Ablate("z", layer=1, head=2, kind=kind)
    effect = iw.run(
        model, prompts, what, metric=iw.logit_diff("lion", "bread"), control="random_heads", draws=6, seed=1
    )
    assert effect.control.shape == (6,)
    base = iw.record(model, prompts, sites=["z"])
    given = iw.Ablate("z", layer=1, head=2, kind=kind, reference=base)
    other = iw.run(
        model, prompts, given, metric=iw.logit_diff("lion", "bread"), control="random_heads", draws=6, seed=1
    )
    if kind == "mean":
        np.testing.assert_allclose(effect.control, other.control, atol=1e-6)
        np.testing.assert_allclose(effect.values, other.values, atol=1e-6)
