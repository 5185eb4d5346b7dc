"""Relabelled copies compute the same with other names; a scrambled model has learned nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import interpwidgets as iw
from interpwidgets.course import exercise, relabelled, scrambled
from interpwidgets.errors import InputError

TINY = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)


@pytest.mark.parametrize("name", ["induction-2l", "storyteller-4l", "ioi-known"])
def test_a_relabelled_copy_computes_the_same(name):
    model = iw.load(name)
    rng = np.random.default_rng()
    copy = relabelled(model, rng)
    size = model.anatomy.embed.num_embeddings
    ids = torch.as_tensor(rng.integers(0, size, size=(2, 16)))
    with torch.no_grad():
        before, after = model.module(ids).logits, copy.module(ids).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    one, other = (iw.record(each, [ids[0].tolist()]).attention(0) for each in (model, copy))
    for layer in range(model.n_layers):
        theirs = [other.block(layer, head, np.arange(16), slice(0, 16)) for head in range(model.n_heads)]
        for head in range(model.n_heads):
            mine = one.block(layer, head, np.arange(16), slice(0, 16))
            found = [i for i, each in enumerate(theirs) if np.allclose(each, mine, atol=1e-4)]
            assert len(found) == 1
            assert found != [head]  # no head keeps its place


def test_a_scrambled_model_has_the_same_weights_and_another_behaviour():
    model = iw.load("induction-2l")
    copy = scrambled(model, np.random.default_rng())
    for one, other in zip(model.module.parameters(), copy.module.parameters(), strict=True):
        torch.testing.assert_close(one.flatten().sort().values, other.flatten().sort().values)
    ids = torch.arange(8, 24)[None]
    assert not torch.allclose(model.module(ids).logits, copy.module(ids).logits, atol=0.1)


def test_an_answer_by_heart_is_named():
    by_heart = exercise("example.previous").check(lambda model: [(0, 2)])
    assert by_heart.misconception == "names what it saw in one model"


def test_other_models_are_refused():
    with pytest.raises(InputError, match="GPT-2 family"):
        relabelled(iw.load((LlamaForCausalLM(TINY), None)), np.random.default_rng())
