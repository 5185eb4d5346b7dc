"""Examples to learn from and examples to score on: never from one context, and as they are in the model."""

from __future__ import annotations

import numpy as np
import torch
from autointerp.planted import PARIS, Planted, is_, noise

import interpwidgets as iw
from interpwidgets.autointerp import Evidence, OfStore, evidence
from interpwidgets.autointerp.evidence import AFTER, BEFORE, held_out


def some(store: iw.FeatureStore, rng: np.random.Generator, count: int = 12) -> list[Evidence]:
    seed = int(rng.integers(1000))
    source = OfStore(store, seed)
    return [evidence(source, int(feature), seed=seed) for feature in rng.permutation(len(store))[:count]]


def test_no_context_is_on_both_sides(store: iw.FeatureStore, rng: np.random.Generator) -> None:
    """Also not of different features: a label of one is scored on text that no label was made from."""
    made = some(store, rng)
    train = {snippet.context for each in made for snippet in each.train}
    test = {snippet.context for each in made for snippet in each.test}
    assert train
    assert test
    assert not train & test


def test_no_text_is_on_both_sides(rng: np.random.Generator) -> None:
    """Two contexts may say the same: what was learnt from is not asked again."""
    source = Planted(rng, [is_(PARIS)])
    source.ids[1::2], source.dense[:, 1::2] = source.ids[::2], source.dense[:, ::2]
    here = evidence(source, 0)
    words = [[tuple(snippet.text.words) for snippet in side] for side in (here.train, here.test)]
    assert not set(words[0]) & set(words[1])


def test_a_context_is_used_once_a_feature_and_kind(store: iw.FeatureStore, rng: np.random.Generator) -> None:
    for each in some(store, rng, 6):
        for side in (each.train, each.test):
            for kind in ("active", "hard", "random"):
                contexts = [snippet.context for snippet in side if snippet.kind == kind]
                assert len(contexts) == len(set(contexts))


def test_activations_are_those_of_the_model(store: iw.FeatureStore, rng: np.random.Generator) -> None:
    model, dictionary = store.bound
    for each in some(store, rng, 4):
        for snippet in (*each.train[:3], *each.test[-3:]):
            ids = torch.tensor(store.context(snippet.context).ids)[None]
            with torch.no_grad():
                hidden = model.module(ids, output_hidden_states=True, use_cache=False).hidden_states[2][0]
                found = dictionary.encode(hidden)[:, each.feature].numpy()
            found[0] = 0  # <bos>
            start = snippet.text.start
            np.testing.assert_allclose(
                snippet.activations, found[start : start + len(snippet.text)], rtol=1e-3, atol=1e-3
            )
            assert snippet.text.tokens.ids.tolist() == ids[0, start : start + len(snippet.text)].tolist()


def test_half_are_active_and_half_of_the_rest_is_hard(store: iw.FeatureStore, rng: np.random.Generator) -> None:
    for each in some(store, rng):
        for side in (each.train, each.test):
            kinds = [snippet.kind for snippet in side]
            assert all(snippet.positive is (snippet.kind == "active") for snippet in side)
            if side is each.train:  # of those held out, some may be left out as known
                assert kinds.count("hard") <= kinds.count("active") // 2
                assert len(kinds) <= 2 * kinds.count("active")
            assert all(len(snippet.text) <= BEFORE + 1 + AFTER for snippet in side)


def test_lengths_do_not_tell_which_are_active(rng: np.random.Generator) -> None:
    here = evidence(Planted(rng, [noise(0.02)], contexts=300), 0)
    assert {len(snippet.text) for snippet in (*here.train, *here.test)} == {BEFORE + 1 + AFTER}


def test_sides_are_halves_and_change_with_the_seed() -> None:
    one, other = (np.array([held_out(context, seed) for context in range(4000)]) for seed in (0, 1))
    assert 0.45 < one.mean() < 0.55
    assert 0.45 < (one == other).mean() < 0.55
