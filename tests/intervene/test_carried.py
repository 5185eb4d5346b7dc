"""What attention carries, against float64 loops and against what direct logit attribution says."""

import numpy as np
import pytest
import torch

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene.carried import carried
from interpwidgets.intervene.metrics import logit

PROMPT = "lion bread clock river lion bread clock"


@pytest.fixture(scope="module", params=["induction-2l", "ioi-known"])
def rec(request):
    model = iw.load(request.param)
    prompt = PROMPT if request.param == "induction-2l" else _prompt_of(model)
    return iw.record(model, prompt, sites=["resid_pre", "resid_post", "q", "k", "v", "z", "logits"])


def _prompt_of(model):
    words = [word for word in model.tokenizer.get_vocab() if word.isalpha()][:12]
    return " ".join(words)


def test_lengths_are_those_of_what_each_value_writes(rec):
    layers = range(rec.model.n_layers)
    found = carried(rec, "value", layers=layers)
    size = len(rec.tokens[0])
    for layer in layers:
        v, w_o = rec["v", layer][0].double(), rec.model.anatomy.w_o(layer).detach().double()
        for head in range(v.shape[1]):
            expected = [float((v[key, head] @ w_o[head]).norm()) for key in range(size)]
            factor = found.factor(layer, head, np.arange(size), slice(0, size))
            np.testing.assert_allclose(factor, [expected], rtol=1e-4)


def test_what_is_added_to_a_logit_sums_to_the_heads_direct_attribution(rec):
    model, size = rec.model, len(rec.tokens[0])
    ids = rec.tokens[0].ids
    target = int(ids[2])
    layers = range(model.n_layers)
    found = carried(rec, "logit", token=rec.tokens[0][2], layers=layers)
    split = iw.direct_logit_attribution(model, [ids.tolist()], logit(target))
    for layer in layers:
        for head in range(model.n_heads):
            weights = rec.pattern(layer=layer, head=head).numpy().astype(np.float64)
            factor = found.factor(layer, head, np.arange(size), slice(0, size))
            total = (weights * factor)[-1].sum()  # direct attribution reads the last position
            assert total == pytest.approx(split.heads[0, layer, head], rel=1e-3, abs=1e-4)


def test_without_a_token_it_is_the_one_that_comes_next(rec):
    size, ids = len(rec.tokens[0]), rec.tokens[0].ids
    own = carried(rec, "logit", layers=[0])
    for query in (0, 2, size - 2):
        named = carried(rec, "logit", token=int(ids[query + 1]), layers=[0])
        part = np.array([query]), slice(0, size)
        np.testing.assert_array_equal(own.factor(0, 1, *part), named.factor(0, 1, *part))


def test_after_the_last_token_it_is_what_the_model_guesses(rec):
    size = len(rec.tokens[0])
    guess = int(rec["logits"][0, -1].argmax())
    assert guess != int(rec.tokens[0].ids[-1])
    own, named = (carried(rec, "logit", token=token, layers=[1]) for token in (None, guess))
    part = np.array([size - 1]), slice(0, size)
    np.testing.assert_array_equal(own.factor(1, 1, *part), named.factor(1, 1, *part))


def test_a_block_is_a_part_of_the_whole(rec):
    size = len(rec.tokens[0])
    for how in ("value", "logit"):
        found = carried(rec, how, layers=[1])
        whole = np.broadcast_to(found.factor(1, 0, np.arange(size), slice(0, size)), (size, size))
        part = np.broadcast_to(found.factor(1, 0, np.array([3, 1]), slice(2, 5)), (2, 3))
        np.testing.assert_allclose(part, whole[[3, 1], 2:5], rtol=1e-5, atol=1e-6)


def test_a_run_with_interventions_is_refused():
    model = iw.load("induction-2l")
    changed = iw.run(model, PROMPT, iw.Ablate("z", 0, head=1), sites=["resid_pre", "q", "k"])
    with pytest.raises(InputError, match="of a run with interventions"):
        carried(changed, "value", layers=[0, 1])


def test_a_recording_without_a_model_is_refused():
    rec = iw.Recording.from_qk(torch.randn(1, 4, 2, 3), torch.randn(1, 4, 2, 3))
    with pytest.raises(InputError, match="does not know its model"):
        carried(rec, "value", layers=[0])
