"""The scorecard against other ways to the same numbers, and on models of other kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models.zoo import build
from transformers import GPT2Config, GPT2LMHeadModel

import interpwidgets as iw
from interpwidgets.models.scorecard import fact_questions, ioi_questions
from interpwidgets.models.scores import repeated_tokens


@pytest.fixture(scope="module")
def model() -> iw.Model:
    return iw.load("induction-2l")


@pytest.fixture(scope="module")
def card(model):
    return iw.models.scorecard(model, prompts=12, length=20, seed=3)


def test_head_scores_are_those_of_a_loop_over_the_models_own_patterns(model, card) -> None:
    special = set(model.tokenizer.all_special_ids)
    ordinary = [token for token in range(len(model.tokenizer)) if token not in special]
    rows = repeated_tokens(ordinary, 12, 20, seed=3, bos=model.tokenizer.bos_token_id)
    model.module.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = [a.double().numpy() for a in model.module(rows, output_attentions=True).attentions]
    model.module.set_attn_implementation("sdpa")
    for layer, pattern in enumerate(patterns):
        for head in range(4):
            previous, prefix = [], []
            for row, tokens in enumerate(rows.tolist()):
                previous += [pattern[row, head, q, q - 1] for q in range(1, len(tokens))]
                for q, token in enumerate(tokens):
                    before = [k for k in range(q) if tokens[k] == token]
                    if before:
                        prefix.append(sum(pattern[row, head, q, k + 1] for k in before))
            assert card.heads["previous_token"][layer, head] == pytest.approx(np.mean(previous), abs=1e-4)
            assert card.heads["prefix_matching"][layer, head] == pytest.approx(np.mean(prefix), abs=2e-3)


def test_it_names_the_heads_of_the_card(card) -> None:
    labels = card.labels()
    assert {head: name for head, name in labels.items() if head[0] == 1} == {(1, h): "induction" for h in range(4)}
    assert "previous token" in labels.values()
    assert card.top("prefix_matching", 1)[0][0] == 1
    with pytest.raises(iw.InputError, match="no head score 'induction'; there are previous_token"):
        card.top("induction")


def test_scores_say_how_sure_and_against_what(card) -> None:
    copies = card.scores["copy_accuracy"]
    assert copies.low <= copies.value <= copies.high
    assert copies.value > 0.85
    assert copies.n == 12
    assert card.scores["facts_accuracy"].n == 20
    assert "chance 0.05" in str(card)
    assert "induction-2l" in repr(card)


def test_questions_ask_for_the_one_said_once(model) -> None:
    for question in ioi_questions(model, 20, seed=8):
        assert question.prompt.count(question.right) == 1
        assert [question.prompt.count(wrong) for wrong in question.wrong] == [2]
    assert len(fact_questions(model)) == 20


def test_an_untrained_model_is_at_chance() -> None:
    module = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0))
    card = iw.models.scorecard(iw.Model(module.eval(), name="untrained"), prompts=8, length=10)
    assert card.scores["copy_accuracy"].value < 0.2
    assert card.scores["ioi_accuracy"].n == card.scores["facts_accuracy"].n == 0  # no tokenizer, no words
    assert "could not be asked" in str(card)
    assert card.heads["prefix_matching"].max() < 0.3


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_other_architectures_sit_it_too(kind: str) -> None:
    card = iw.models.scorecard(iw.Model(build(kind), name=kind), prompts=4, length=6)
    assert all(np.isfinite(values).all() for values in card.heads.values())


def test_what_cannot_be_examined_is_refused_in_words(model) -> None:
    with pytest.raises(iw.InputError, match="reads 256 tokens; two copies of 200 need 401"):
        iw.models.scorecard(model, length=200)
    with pytest.raises(iw.InputError, match="ToySuperposition is none"):
        iw.models.scorecard("toy-superposition")
