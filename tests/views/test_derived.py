"""Heads taken together, layers rolled out, differences: against loops in float64."""

import difflib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.derived import Difference, OverHeads, Rollout
from interpwidgets.views.source import AttentionSource

SEEDS = st.integers(0, 2**32 - 1)


def some(data, shape):
    """Random queries, in order, and a random range of keys."""
    queries = sorted(data.draw(st.sets(st.integers(0, shape[2] - 1), min_size=1)))
    first = data.draw(st.integers(0, shape[3] - 1))
    return np.array(queries), slice(first, data.draw(st.integers(first + 1, shape[3])))


@given(seed=SEEDS, heads=st.integers(1, 5), data=st.data())
@settings(deadline=None, max_examples=40)
def test_over_heads_is_the_mean_and_the_maximum(seed, heads, data):
    weights = oracles.pattern(np.random.default_rng(seed), 2, heads, 6, 9)
    source = oracles.Given(weights)
    queries, keys = some(data, weights.shape)
    before = weights.copy()
    for how in ("mean", "max"):
        derived = OverHeads(source, how)
        assert isinstance(derived, AttentionSource)
        block = derived.block(1, data.draw(st.integers(0, heads - 1)), queries, keys)
        assert block.dtype == np.float32
        for i, query in enumerate(queries):
            for j, key in enumerate(range(keys.start, keys.stop)):
                cell = [float(weights[1, head, query, key]) for head in range(heads)]
                assert block[i, j] == pytest.approx(sum(cell) / heads if how == "mean" else max(cell), rel=1e-6)
    np.testing.assert_array_equal(weights, before)


@given(seed=SEEDS, layers=st.integers(1, 4), size=st.integers(1, 8), data=st.data())
@settings(deadline=None, max_examples=30)
def test_rollout_multiplies_the_layers(seed, layers, size, data):
    weights = oracles.pattern(np.random.default_rng(seed), layers, 3, size, size, causal=data.draw(st.booleans()))
    rollout = Rollout(oracles.Given(weights))
    assert isinstance(rollout, AttentionSource)
    expected = []
    for layer in range(layers):
        mean = [[sum(float(w[q, k]) for w in weights[layer]) / 3 for k in range(size)] for q in range(size)]
        step = [[0.5 * mean[q][k] + 0.5 * (q == k) for k in range(size)] for q in range(size)]
        below = expected[-1] if expected else [[float(q == k) for k in range(size)] for q in range(size)]
        expected.append(
            [[sum(step[q][i] * below[i][k] for i in range(size)) for k in range(size)] for q in range(size)]
        )
    for layer in data.draw(st.permutations(range(layers))):  # asked in any order
        queries, keys = some(data, weights.shape)
        block = rollout.block(layer, data.draw(st.integers(0, 2)), queries, keys)
        np.testing.assert_allclose(block, np.array(expected[layer])[queries][:, keys], rtol=1e-4, atol=1e-7)
        whole = rollout.block(layer, 0, np.arange(size), slice(0, size))
        np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-4)


def test_a_rollout_needs_self_attention_and_a_prompt_it_can_multiply():
    rng = np.random.default_rng()
    with pytest.raises(InputError, match="2 queries attend to 3 keys"):
        Rollout(oracles.Given(oracles.pattern(rng, 1, 1, 2, 3)))
    long = oracles.Given(np.broadcast_to(np.float32(0), (1, 1, 4096, 4096)))
    with pytest.raises(InputError, match=r"2,048 tokens, here 4,096\. Show the mean"):
        Rollout(long)


@given(seed=SEEDS, data=st.data())
@settings(deadline=None, max_examples=30)
def test_prompts_of_one_shape_are_subtracted_place_by_place(seed, data):
    rng = np.random.default_rng(seed)
    ours, theirs = (oracles.pattern(rng, 2, 2, 5, 7) for _ in range(2))
    difference = Difference(oracles.Given(ours), minus=oracles.Given(theirs))
    assert isinstance(difference, AttentionSource)
    assert difference.name == "given − given"
    queries, keys = some(data, ours.shape)
    expected = ours[1, 0].astype(float)[queries][:, keys] - theirs[1, 0].astype(float)[queries][:, keys]
    np.testing.assert_allclose(difference.block(1, 0, queries, keys), expected, atol=1e-7)


def test_a_difference_is_causal_where_both_are():
    rng = np.random.default_rng()
    causal, full = (oracles.Given(oracles.pattern(rng, 1, 1, 4, 4, c), causal=c) for c in (True, False))
    assert Difference(causal, minus=causal).causal
    assert not Difference(causal, minus=full).causal
    assert not Difference(full, minus=causal).causal


@given(seed=SEEDS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_prompts_of_other_lengths_are_compared_token_by_token(seed, data):
    """Every number is the difference of two weights between the same tokens, in the same order; the rest is NaN."""
    rng = np.random.default_rng(seed)
    ours = oracles.words(rng, data.draw(st.integers(1, 12)))
    theirs = list(ours)
    for _ in range(data.draw(st.integers(1, 4))):
        theirs.insert(data.draw(st.integers(0, len(theirs))), data.draw(st.sampled_from([" new", " cat", "\t"])))
    if data.draw(st.booleans()):
        ours, theirs = theirs, ours
    a, b = (oracles.pattern(rng, 1, 2, len(words), len(words), causal=True) for words in (ours, theirs))
    difference = Difference(
        oracles.Given(a, Tokens.of(ours), causal=True), minus=oracles.Given(b, Tokens.of(theirs), causal=True)
    )
    assert difference.shape == a.shape
    matches = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    there = {match.a + i: match.b + i for match in matches for i in range(match.size)}
    assert all(ours[i] == theirs[j] for i, j in there.items())
    queries, keys = some(data, a.shape)
    block = difference.block(0, 1, queries, keys)
    assert block.shape == (len(queries), keys.stop - keys.start)
    for i, query in enumerate(queries.tolist()):
        for j, key in enumerate(range(keys.start, keys.stop)):
            if query in there and key in there:
                expected = float(a[0, 1, query, key]) - float(b[0, 1, there[query], there[key]])
                assert block[i, j] == pytest.approx(expected, abs=1e-6)
            else:
                assert np.isnan(block[i, j])


def test_an_inserted_token_moves_nothing_else():
    words = ["a", " b", " c", " d"]
    longer = ["a", " b", " new", " c", " d"]
    rng = np.random.default_rng()
    long = oracles.pattern(rng, 1, 1, 5, 5)
    kept = [0, 1, 3, 4]
    short = long[:, :, kept][:, :, :, kept]  # what the short prompt would show if insertion changed nothing
    difference = Difference(oracles.Given(short, Tokens.of(words)), minus=oracles.Given(long, Tokens.of(longer)))
    assert not difference.block(0, 0, np.arange(4), slice(0, 4)).any()
    other = Difference(oracles.Given(long, Tokens.of(longer)), minus=oracles.Given(short, Tokens.of(words)))
    block = other.block(0, 0, np.arange(5), slice(0, 5))
    assert np.isnan(block[2]).all()
    assert np.isnan(block[:, 2]).all()
    assert not np.nan_to_num(block).any()
    strangers = oracles.Given(long[:, :, :3, :3], Tokens.of(["x", "y", "z"]))
    nothing = Difference(oracles.Given(long, Tokens.of(longer)), minus=strangers)
    assert np.isnan(nothing.block(0, 0, np.arange(5), slice(0, 5))).all()


def test_differences_that_cannot_be_made_say_why():
    rng = np.random.default_rng()
    two, three = (oracles.Given(oracles.pattern(rng, 1, heads, 3, 3)) for heads in (2, 3))
    with pytest.raises(InputError, match=r"1 layers × 2 heads.*1 × 3.*side by side"):
        Difference(two, minus=three)
    long = [oracles.Given(np.broadcast_to(np.float32(0), (1, 1, size, size))) for size in (5000, 5001)]
    with pytest.raises(InputError, match=r"4,096 tokens; these have 5,000 and 5,001\. Show them side by side"):
        Difference(long[0], minus=long[1])
