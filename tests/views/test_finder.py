"""Scores of heads against explicit loops, and planted heads found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles

from interpwidgets.tokens import Tokens
from interpwidgets.views import finder
from interpwidgets.views.derived import Difference

SEEDS = st.integers(0, 2**32 - 1)


def wanted(template, tokens, query):
    """The keys that a template means for one query."""
    earlier = [key for key in range(query) if tokens[key] == tokens[query]]
    return {
        "previous token": [query - 1] if query else [],
        "induction": [key + 1 for key in earlier if key + 1 < query],
        "duplicate": earlier,
        "first token": [0] if query else [],
        "self": [query],
    }[template]


@given(seed=SEEDS, size=st.integers(1, 24), causal=st.booleans(), with_ids=st.booleans())
@settings(deadline=None, max_examples=40)
def test_scores_are_the_attention_spent_on_the_keys_of_a_template(seed, size, causal, with_ids):
    rng = np.random.default_rng(seed)
    weights = oracles.pattern(rng, 2, 2, size, size, causal)
    words = oracles.words(rng, size)
    ids = rng.integers(4, size=size) if with_ids else None  # two pieces may look alike: an id is what tells
    tokens = Tokens(tuple(words), ids)
    same = words if ids is None else ids.tolist()
    scores = finder.template_scores(oracles.Given(weights, tokens, causal=causal))
    assert list(scores) == list(finder.TEMPLATES)
    for template, found in scores.items():
        queries = [query for query in range(size) if wanted(template, same, query)]
        for layer, head in np.ndindex(2, 2):
            spent = [
                sum(float(weights[layer, head, query, key]) for key in wanted(template, same, query))
                for query in queries
            ]
            assert found[layer, head] == pytest.approx(sum(spent) / len(spent) if spent else 0, rel=1e-4, abs=1e-7)
            assert 0 <= found[layer, head] <= 1.0001


@pytest.mark.parametrize("template", finder.TEMPLATES)
def test_a_planted_head_is_found(template):
    rng = np.random.default_rng()
    half = rng.permutation(20)
    words = [str(word) for word in [*half, *half]]
    weights = oracles.pattern(rng, 3, 4, 40, 40, causal=True)
    layer, head = int(rng.integers(3)), int(rng.integers(4))
    for query in range(40):
        if keys := wanted(template, words, query):
            weights[layer, head, query] = 0
            weights[layer, head, query, keys] = 1 / len(keys)
    scores = finder.template_scores(oracles.Given(weights, Tokens.of(words), causal=True))[template]
    assert np.unravel_index(scores.argmax(), scores.shape) == (layer, head)
    assert scores[layer, head] == pytest.approx(1)


def test_templates_of_self_attention_mean_nothing_between_two_texts():
    rng = np.random.default_rng()
    words = ["a", "b", "a", "b"]
    for keys in (6, 4):  # also where both happen to be of one length
        weights = oracles.pattern(rng, 1, 1, 4, keys)
        source = oracles.Given(weights, Tokens.of(words), Tokens.of([*words, "c", "d"][:keys]))
        scores = {name: float(score[0, 0]) for name, score in finder.template_scores(source).items()}
        assert scores.pop("first token") == pytest.approx(weights[0, 0, :, 0].mean(), rel=1e-5)
        assert set(scores.values()) == {0.0}


@given(seed=SEEDS, data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_region_scores_the_attention_spent_in_it(seed, data):
    weights = oracles.pattern(np.random.default_rng(seed), 2, 3, 7, 9)
    first, left = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 8))
    last, right = data.draw(st.integers(first + 1, 7)), data.draw(st.integers(left + 1, 9))
    scores = finder.region_scores(oracles.Given(weights), slice(first, last), slice(left, right))
    assert scores.shape == (2, 3)
    assert scores.dtype == np.float32
    for layer, head in np.ndindex(2, 3):
        rows = [sum(map(float, weights[layer, head, query, left:right])) for query in range(first, last)]
        assert scores[layer, head] == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_a_long_prompt_is_scored_on_some_queries_all_real(monkeypatch):
    rng = np.random.default_rng()
    weights = oracles.pattern(rng, 1, 2, 200, 200, causal=True)
    monkeypatch.setattr(finder, "_WEIGHTS", 2 * 200 * 50)
    source = oracles.Given(weights, causal=True)
    scores = finder.template_scores(source)
    looked = sorted({query for _, _, queries, _ in source.asked for query in queries})
    assert len(looked) == 50
    assert looked[0] == 0
    assert looked[-1] == 199
    own = [float(weights[0, 1, query, query]) for query in looked]
    assert scores["self"][0, 1] == pytest.approx(sum(own) / 50, rel=1e-5)


def test_many_copies_count_the_latest(monkeypatch):
    monkeypatch.setattr(finder, "_COPIES", 3)
    weights = np.tril(np.full((1, 1, 30, 30), 0.01, dtype=np.float32))
    scores = finder.template_scores(oracles.Given(weights, Tokens.of(["a"] * 30), causal=True))
    expected = [min(3, query) * 0.01 for query in range(1, 30)]
    assert scores["duplicate"][0, 0] == pytest.approx(sum(expected) / 29, rel=1e-4)


def test_a_difference_of_other_lengths_is_ranked_by_what_can_be_compared():
    """A token without a counterpart must not make every score NaN: heads could not be ranked at all."""
    rng = np.random.default_rng()
    words = ["a", "b", "c", "a", "b", "c"]
    ours = oracles.Given(oracles.pattern(rng, 2, 2, 6, 6, causal=True), Tokens.of(words), causal=True)
    longer = Tokens.of([*words[:3], "new", *words[3:]])
    theirs = oracles.Given(oracles.pattern(rng, 2, 2, 7, 7, causal=True), longer, causal=True)
    for source in (Difference(ours, minus=theirs), Difference(theirs, minus=ours)):
        for name, scores in finder.template_scores(source).items():
            assert np.isfinite(scores).all(), name
        size = source.shape[2]
        assert np.isfinite(finder.region_scores(source, slice(0, size), slice(0, size))).all()
