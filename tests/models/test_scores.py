"""The scores against loops that read like their definitions, and on patterns whose score is known."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from interpwidgets.errors import InputError
from interpwidgets.models.scores import (
    attention_patterns,
    copy_accuracy,
    current_token_score,
    duplicate_token_score,
    head_scores,
    in_context_score,
    prefix_matching_score,
    previous_token_score,
    repeated_tokens,
    token_losses,
)

tokens_with_a_repeat = st.lists(st.integers(0, 5), min_size=3, max_size=24).filter(lambda ids: len(set(ids)) < len(ids))


def random_pattern(length: int, seed: int) -> torch.Tensor:
    """Causal rows that sum to one, [layer, head, query, key]."""
    scores = torch.randn(2, 3, length, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(mask, -torch.inf).softmax(-1)


def by_hand(pattern: np.ndarray, ids: list[int], shift: int) -> float:
    """Attention to each earlier place of the same token, moved on by `shift`, averaged over queries that have one."""
    given = []
    for query in range(len(ids)):
        places = [key + shift for key in range(query) if ids[key] == ids[query]]
        if places:
            given.append(sum(pattern[query, place] for place in places))
    return float(np.mean(given))


@settings(deadline=None)
@given(tokens_with_a_repeat, st.integers(0, 2**31))
def test_prefix_and_duplicate_scores_are_their_definitions(ids: list[int], seed: int) -> None:
    pattern = random_pattern(len(ids), seed)
    prefix = prefix_matching_score(pattern, torch.tensor(ids))
    duplicate = duplicate_token_score(pattern, torch.tensor(ids))
    assert prefix.shape == duplicate.shape == (2, 3)
    for layer in range(2):
        for head in range(3):
            one = pattern[layer, head].numpy()
            assert prefix[layer, head].item() == pytest.approx(by_hand(one, ids, 1))
            assert duplicate[layer, head].item() == pytest.approx(by_hand(one, ids, 0))


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 2**31))
def test_previous_and_current_scores_are_their_definitions(length: int, seed: int) -> None:
    pattern = random_pattern(length, seed)
    one = pattern[1, 2].numpy()
    queries = range(1, length)
    assert previous_token_score(pattern)[1, 2].item() == pytest.approx(np.mean([one[q, q - 1] for q in queries]))
    assert current_token_score(pattern)[1, 2].item() == pytest.approx(np.mean([one[q, q] for q in queries]))


def test_a_perfect_induction_head_scores_one_and_a_previous_token_head_nothing() -> None:
    ids = torch.arange(10).repeat(2)
    induction, previous = torch.zeros(20, 20), torch.eye(20).roll(1, 0)  # previous[q, q - 1] = 1
    for query in range(10, 20):
        induction[query, query - 9] = 1
    assert prefix_matching_score(induction, ids) == 1
    assert prefix_matching_score(previous, ids) == 0
    assert previous_token_score(previous) == 1
    assert previous_token_score(induction) == 0


def test_losses_are_the_cross_entropy_of_the_next_token() -> None:
    logits, tokens = torch.randn(3, 7, 11, dtype=torch.float64), torch.randint(11, (3, 7))
    losses = token_losses(logits, tokens)
    assert losses.shape == (3, 6)
    for row in range(3):
        for position in range(6):
            p = np.exp(logits[row, position].numpy())
            wanted = -np.log(p[tokens[row, position + 1]] / p.sum())
            assert losses[row, position].item() == pytest.approx(wanted, rel=1e-5)
    score = in_context_score(losses, slice(0, 2), slice(4, 6))
    assert score[0].item() == pytest.approx(losses[0, 4:].mean().item() - losses[0, :2].mean().item())


def test_copy_accuracy_counts_the_second_copy_only() -> None:
    tokens = repeated_tokens(range(5, 50), 4, 8, secrets.randbits(30), bos=1)
    assert tokens.shape == (4, 17)
    assert (tokens[:, 0] == 1).all()
    assert (tokens[:, 1:9] == tokens[:, 9:]).all()
    assert tokens[:, 1:].min() >= 5
    said = torch.nn.functional.one_hot(tokens.roll(-1, 1), 50).float()  # every next token, known
    assert (copy_accuracy(said, tokens, 8) == 1).all()
    said[:, :9] = 0  # nothing known before the copy has begun
    assert (copy_accuracy(said, tokens, 8) == 1).all()
    said[0, 10] = 0
    assert copy_accuracy(said, tokens, 8)[0] == pytest.approx(6 / 7)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=32, n_embd=8, n_layer=2, n_head=2)).eval()


def test_patterns_are_the_models_own_and_its_attention_is_as_before(model) -> None:
    model.set_attn_implementation("sdpa")
    tokens = repeated_tokens(range(3, 20), 3, 7, 0)
    patterns = attention_patterns(model, tokens)
    assert model.config._attn_implementation == "sdpa"
    assert patterns.shape == (3, 2, 2, 14, 14)
    # By hand, layer 0: softmax of q·k of what its norm gives.
    block, state = model.transformer.h[0], model.transformer
    with torch.no_grad():
        x = block.ln_1(state.wte(tokens) + state.wpe(torch.arange(14)))
        q, k, _ = (x @ block.attn.c_attn.weight + block.attn.c_attn.bias).split(8, -1)
        scores = torch.einsum("rqhd,rkhd->rhqk", q.view(3, 14, 2, 4), k.view(3, 14, 2, 4)) / 2
        wanted = scores.masked_fill(torch.ones(14, 14).triu(1).bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(patterns[:, 0], wanted, atol=1e-5, rtol=0)


def test_head_scores_average_over_prompts(model) -> None:
    tokens = repeated_tokens(range(3, 20), 3, 7, 1)
    scores = head_scores(model, tokens)
    patterns = attention_patterns(model, tokens)
    each = torch.stack([prefix_matching_score(p, t) for p, t in zip(patterns, tokens, strict=True)])
    torch.testing.assert_close(scores["prefix_matching"], each.mean(0))
    assert {score.shape for score in scores.values()} == {(2, 2)}


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(InputError, match="not as many queries as keys"):
        previous_token_score(torch.zeros(2, 3, 4, 5))
    with pytest.raises(InputError, match="do not name the 4 positions"):
        prefix_matching_score(torch.zeros(4, 4), torch.zeros(5))
    with pytest.raises(InputError, match="no token of this prompt occurs twice"):
        prefix_matching_score(torch.zeros(4, 4), torch.arange(4))
    with pytest.raises(InputError, match="do not hold two copies of 9"):
        copy_accuracy(torch.zeros(1, 10, 4), torch.zeros(1, 10, dtype=torch.long), 9)
