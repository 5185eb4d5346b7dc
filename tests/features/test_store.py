"""A store against a loop over every activation in float64: counts, examples, groups, neighbours, logits."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from features.conftest import CONTEXT, FEATURES, dense, pieces, random_corpus, random_dictionary, random_model

import interpwidgets as iw
from interpwidgets.features import FeatureStore, build, shard

TOP, GROUPS, PER_GROUP = 4, 5, 3
CLOSE = {"rtol": 2e-4, "atol": 1e-5}  # the model in float32, in batches of other shapes


class Truth:
    """Everything that a store says, from all activations at once."""

    def __init__(self, model: iw.Model, dictionary, corpus: list[list[int]]) -> None:
        self.model, self.dictionary = model, dictionary
        self.contexts = pieces(corpus)
        self.active = dense(model, dictionary, self.contexts)
        self.all = np.concatenate(self.active)  # [token, feature], NaN at <bos>
        self.n_tokens = int((~np.isnan(self.all[:, 0])).sum())

    def values(self, feature: int) -> np.ndarray:
        """Activations above zero, from the weakest on."""
        return np.sort(self.all[:, feature][self.all[:, feature] > 0])


@pytest.fixture(scope="module", params=["relu", "topk", "jumprelu"])
def built(request, tmp_path_factory):
    rng = np.random.default_rng()
    corpus = random_corpus(rng, 60)
    model = random_model()
    dictionary = random_dictionary(request.param, **({"k": 6} if request.param == "topk" else {}))
    folder = tmp_path_factory.mktemp("store") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "SHARD", 7 * CONTEXT)  # many shards
        patch.setattr(build, "WARM", 1000)  # all of them in the warm-up: bounds are exact
        store = FeatureStore.build(
            folder, model, dictionary, corpus, context=CONTEXT, top=TOP, groups=GROUPS, per_group=PER_GROUP,
            batch=4, progress=False,
        )  # fmt: skip
    return store, Truth(model, dictionary, corpus)


def test_counts_means_and_largest_are_those_of_every_activation(built):
    store, truth = built
    assert (store.n_features, len(store), store.n_tokens) == (FEATURES, FEATURES, truth.n_tokens)
    assert store.about["corpus"]["repeated"] > 0
    for feature in store:
        values = truth.values(feature.index)
        assert feature.count == len(values)
        assert feature.density == len(values) / truth.n_tokens
        if len(values):
            np.testing.assert_allclose(feature.mean, values.mean(), **CLOSE)
            np.testing.assert_allclose(feature.max, values.max(), **CLOSE)
        else:
            assert (feature.mean, feature.max, feature.examples()) == (0, 0, [])
    assert any(feature.count == 0 for feature in store)


def test_the_histogram_counts_every_activation_once(built):
    store, truth = built
    for feature in store:
        edges, counts = feature.histogram
        values = truth.values(feature.index)
        assert counts.sum() == len(values)
        if not len(values):
            continue
        assert len(edges) == len(counts) + 1
        assert (np.diff(edges) > 0).all()
        assert np.abs(np.histogram(values, edges)[0] - counts).sum() <= 2  # on an edge, by rounding
        assert edges[-1] / edges[-2] <= 1.13 or len(edges) == 2


def test_top_examples_are_the_contexts_in_which_it_is_strongest(built):
    store, truth = built
    for feature in store:
        best = [np.nanmax(active[:, feature.index], initial=0) for active in truth.active]
        wanted = sorted((value for value in best if value > 0), reverse=True)[:TOP]
        examples = feature.examples("top")
        np.testing.assert_allclose([example.value for example in examples], wanted, **CLOSE)
        assert len({example.context for example in examples}) == len(examples)
        for example in examples:
            check_example(store, truth, feature.index, example)


def check_example(store, truth: Truth, feature: int, example) -> None:
    """Tokens and activations are those of its context."""
    active, ids = truth.active[example.context][:, feature], truth.contexts[example.context]
    part = slice(example.start, example.start + len(example.tokens))
    assert example.tokens.ids.tolist() == ids[part]
    assert store.context(example.context).ids.tolist() == ids
    at = example.start + example.position
    np.testing.assert_allclose(example.value, active[at], **CLOSE)
    here = np.nan_to_num(active[part])
    assert ((example.activations > 0) == (here > 0)).all()
    least = 2.0 ** (store.about["scale"] - 16)  # what is below has the first code
    assert (np.abs(example.activations - here) <= np.maximum(here / 32, 1.1 * least)).all()


def alike(values: np.ndarray) -> int:
    """How often the most frequent activation is there, but for rounding."""
    return max(int(np.searchsorted(values, v * (1 + 1e-4)) - np.searchsorted(values, v * (1 - 1e-4))) for v in values)


def test_groups_hold_equal_shares_and_the_weakest_is_above_zero(built):
    store, truth = built
    common = 0
    for feature in store:
        values = truth.values(feature.index)
        assert sum(group.count for group in feature.groups) == len(values)
        if len(values) < GROUPS:
            continue
        common += 1
        assert all(group.exact for group in feature.groups)
        counts = [group.count for group in feature.groups]
        equal = alike(values)  # the same activation several times cannot be in two groups
        assert max(counts) - min(counts) <= 2 * equal - 1
        for number, group in enumerate(feature.groups):
            examples = feature.examples(number)
            assert [e.value for e in examples] == [e.value for e in feature.examples(group.name)]
            assert len(examples) == min(PER_GROUP, group.count)
            assert len({(e.context, e.start + e.position) for e in examples}) == len(examples)
            for example in examples:
                assert example.value > 0
                assert group.low <= example.value
                assert example.value < group.high or number == GROUPS - 1
                rank = np.searchsorted(values, example.value * (1 - 1e-4)) / len(values)
                assert number / GROUPS - (equal + 1) / len(values) <= rank <= (number + 1) / GROUPS
                check_example(store, truth, feature.index, example)
    assert common > FEATURES // 4


def test_neighbours_are_over_the_whole_dictionary(built):
    store, truth = built
    w = truth.dictionary.W_dec.double().numpy()
    fired = np.nan_to_num(truth.all) > 0  # [token, feature]
    for feature in store:
        i = feature.index
        cosine = [w[i] @ w[j] / np.sqrt((w[i] @ w[i]) * (w[j] @ w[j])) if j != i else -2 for j in range(FEATURES)]
        wanted = sorted(cosine, reverse=True)[:8]
        np.testing.assert_allclose([near.value for near in feature.neighbours], wanted, atol=1e-3)
        np.testing.assert_allclose(
            [near.value for near in feature.neighbours], [cosine[n.index] for n in feature.neighbours], atol=1e-3
        )
        jaccard = {}
        for j in range(FEATURES):
            both = int((fired[:, i] & fired[:, j]).sum())
            if j != i and both >= 2:
                jaccard[j] = both / int((fired[:, i] | fired[:, j]).sum())
        wanted = sorted(jaccard.values(), reverse=True)[:8]
        np.testing.assert_allclose([near.value for near in feature.co_firing], wanted, atol=1e-3)
        for near in feature.co_firing:
            assert math.isclose(near.value, jaccard[near.index], abs_tol=1e-3)


def test_logits_are_the_direction_through_norm_weight_and_unembedding(built):
    store, truth = built
    module = truth.model.module
    gamma = module.transformer.ln_f.weight.detach().double().numpy()
    unembed = module.lm_head.weight.detach().double().numpy()  # [vocabulary, d_model]
    for feature in store:
        direction = truth.dictionary.W_dec[feature.index].double().numpy()
        logits = unembed @ (gamma * (direction - direction.mean()))
        order = np.argsort(-logits)
        np.testing.assert_allclose([v for _, v in feature.top_logits], logits[order[:10]], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(
            [v for _, v in feature.bottom_logits], logits[order[::-1][:10]], rtol=2e-3, atol=2e-3
        )
        assert feature.top_logits[0][0] == f"#{order[0]}"


def test_the_index_says_what_the_records_say(built):
    store, truth = built
    rows = store.table(count=FEATURES).columns
    for feature in store:
        row = {name: column[feature.index] for name, column in rows.items()}
        assert (row["index"], row["count"], row["density"]) == (feature.index, feature.count, feature.density)
        assert row["mean_activation"] == feature.mean
        assert row["max_activation"] == np.float32(feature.max)
        assert row["top_token"] == feature.top_logits[0][0]
        if feature.count:
            best = feature.examples()[0]
            assert row["peak_token"] == best.tokens.text[best.position]
        norm = float(truth.dictionary.W_dec[feature.index].norm())
        assert math.isclose(row["decoder_norm"], norm, rel_tol=1e-5)


def test_a_text_is_read_live_as_the_corpus_was(built, fresh):
    store, truth = built
    ids = truth.contexts[int(fresh.integers(len(truth.contexts)))]
    wanted = np.nan_to_num(dense(truth.model, truth.dictionary, [ids])[0])
    firing = store.features_of(ids)
    found = np.zeros_like(wanted)
    found[firing.position, firing.feature] = firing.value
    np.testing.assert_allclose(found, wanted, **CLOSE)
    few = store.features_of(ids, top=2)
    assert few.features.tolist() == firing.features[:2].tolist()
    for feature in few.features:
        np.testing.assert_array_equal(few.of(feature), firing.of(feature))


def test_groups_of_a_sample_are_near_equal_and_say_so(tmp_path, monkeypatch, model, fresh):
    """Warm-up on a part: shares are counted, and off by no more than the sample of the warm-up tells."""
    dictionary, corpus = random_dictionary(), random_corpus(fresh, 200)
    monkeypatch.setattr(shard, "SHARD", 8 * CONTEXT)
    monkeypatch.setattr(build, "WARM", 8)
    monkeypatch.setattr(build, "_COMMON", 60)
    store = FeatureStore.build(tmp_path / "s", model, dictionary, corpus, context=CONTEXT, groups=4, progress=False)
    truth = Truth(model, dictionary, corpus)
    kinds = defaultdict(int)
    for feature in store:
        values = truth.values(feature.index)
        exact = feature.groups[0].exact
        kinds[exact] += 1
        assert abs(sum(group.count for group in feature.groups) - len(values)) <= (0 if exact else 4)
        if exact and len(values) > 20:
            for group, last in zip(feature.groups, [False, False, False, True], strict=True):
                inside = (values >= group.low * (1 - 1e-5)) & ((values < group.high * (1 - 1e-5)) | last)
                assert abs(int(inside.sum()) - group.count) <= alike(values)
                sampled = 6 * math.sqrt(0.25 * 0.75 / 60)
                assert abs(group.count / len(values) - 1 / 4) < sampled + 2 * alike(values) / len(values)
        assert all(example.value > 0 for example in feature.examples(0))
    assert kinds[True] > 5
    assert store.about["warm_up"]["shards"] == 8


def test_what_a_token_loses_without_the_feature(tmp_path, model, fresh):
    dictionary, corpus = random_dictionary(n=6), random_corpus(fresh, 8)
    store = FeatureStore.build(tmp_path / "s", model, dictionary, corpus, context=CONTEXT, ablate=True, progress=False)
    direction = dictionary.W_dec
    feature = store[5]
    for example in feature.examples()[:3]:
        ids = torch.tensor([store.context(example.context).ids.tolist()])

        def without(_, __, output, ids=ids):
            hidden = output[0] if isinstance(output, tuple) else output
            changed = hidden - dictionary.encode(hidden)[..., 5, None] * direction[5]
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        with torch.no_grad():
            clean = model.module(ids, use_cache=False).logits[0].log_softmax(-1)
            handle = model.module.transformer.h[0].register_forward_hook(without)
            changed = model.module(ids, use_cache=False).logits[0].log_softmax(-1)
            handle.remove()
        for position in range(len(example.tokens)):
            at = example.start + position
            token = int(ids[0, at])
            wanted = float(changed[at - 1, token] - clean[at - 1, token]) if at else 0.0
            assert math.isclose(example.effects[position], wanted, rel_tol=5e-3, abs_tol=5e-3)
    assert np.abs(feature.examples()[0].effects).max() > 1e-2 or feature.examples()[0].effects.size < 2
