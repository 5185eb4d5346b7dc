"""Merging: whatever the parts and their order, the same bits; and each kept set is what a sort of everything gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.features.state import BEFORE, WINDOW, Active, Scale, State, tokens_of, values_of

N, GROUPS, TOP, PER_GROUP, CONTEXT, SHARDS = 7, 4, 3, 2, 9, 6


def shard(rng: np.random.Generator, number: int) -> Active:
    """Random activations of five contexts of nine tokens; some equal."""
    n = 5 * CONTEXT
    dense = np.exp(rng.normal(0, 3, (n, N))).astype(np.float32) * (rng.random((n, N)) < 0.3)
    dense[rng.random((n, N)) < 0.05] = 2.5
    dense[:, 0] = 0
    feature, token = np.nonzero(dense.T)
    token += number * n
    return Active(
        feature.astype(np.int32), token, token // CONTEXT, np.ascontiguousarray(dense[token - number * n, feature])
    )


def empty(rng: np.random.Generator) -> State:
    bounds = np.sort(np.exp(rng.normal(0, 2, (N, GROUPS - 1))), axis=1).astype(np.float32)
    bounds[::3] = np.nan  # too rare to have bounds
    return State.new(Scale(6), 5, bounds, SHARDS, TOP, PER_GROUP)


def bits(state: State) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state._arrays()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(SHARDS)), st.lists(st.integers(0, 2), min_size=SHARDS))
def test_merging_is_associative_and_commutative_to_the_last_bit(seed, order, parts):
    rng = np.random.default_rng(seed)
    start = empty(rng)
    shards = [shard(rng, number) for number in range(SHARDS)]
    whole = start.empty()
    for number, active in enumerate(shards):
        whole.add(number, active)
    pieces = [start.empty() for _ in range(3)]
    for number in order:
        pieces[parts[number]].add(number, shards[number])
    left, right = start.empty(), start.empty()
    for piece in pieces:  # (a + b) + c
        left.merge(piece)
    pieces[1].merge(pieces[2])  # (c + b) + a
    right.merge(pieces[1])
    right.merge(pieces[0])
    assert bits(left) == bits(whole) == bits(right)


def test_what_is_kept_is_what_a_sort_of_everything_gives(fresh):
    state = empty(fresh)
    shards = [shard(fresh, number) for number in range(SHARDS)]
    for number, active in enumerate(shards):
        state.add(number, active)
    everything = Active(*(np.concatenate(parts) for parts in zip(*shards, strict=True)))
    for feature in range(N):
        mine = everything.feature == feature
        value, token, context = everything.value[mine], everything.token[mine], everything.context[mine]
        assert state.count[feature] == len(value)
        exact = sum(Fraction(float(v)) for v in value)
        sums = Fraction(int(state.sums[0, feature]), 2**20) + Fraction(int(state.sums[1, feature]), 2**52)
        assert abs(sums - exact) <= Fraction(len(value), 2**52)
        if len(value):
            assert state.mean()[feature] == pytest.approx(float(exact / len(value)), rel=1e-15)
        best = {}
        for v, t, c in sorted(
            zip(value.tolist(), token.tolist(), context.tolist(), strict=True), key=lambda a: (-a[0], a[1])
        ):
            best.setdefault(c, (v, t))
        entries = state.top.entries[feature]
        entries = entries[entries > 0]
        assert (
            list(zip(values_of(entries).tolist(), tokens_of(entries).tolist(), strict=True))
            == list(best.values())[:TOP]
        )
        bounds = state.bounds[feature]
        if np.isnan(bounds[0]):
            kept = state.one.entries[feature]
            assert (kept > 0).sum() == min(len(value), GROUPS * PER_GROUP)
            assert set(tokens_of(kept[kept > 0]).tolist()) <= set(token.tolist())
            continue
        for group in range(GROUPS):
            inside = (value >= (bounds[group - 1] if group else 0)) & (
                value < (bounds[group] if group < GROUPS - 1 else np.inf)
            )
            kept = state.groups.entries[feature * GROUPS + group]
            assert state.grouped[feature, group] == inside.sum()
            assert (kept > 0).sum() == min(PER_GROUP, inside.sum())
            assert set(tokens_of(kept[kept > 0]).tolist()) <= set(token[inside].tolist())


def test_windows_are_what_the_feature_does_around_an_activation(fresh):
    active, scale = shard(fresh, 2), Scale(20)
    for which, window in enumerate(active.windows(np.arange(len(active.token)), scale)):
        decoded = scale.values(window)
        for place in range(WINDOW):
            token = active.token[which] + place - BEFORE
            same = (active.feature == active.feature[which]) & (active.token == token)
            inside = token // CONTEXT == active.context[which]
            wanted = float(active.value[same][0]) if same.any() and inside else 0.0
            if wanted >= 2.0 ** (scale.top - 16) * 17 / 16:
                assert abs(decoded[place] - wanted) <= wanted / 32
            else:
                assert (decoded[place] > 0) == (wanted > 0)


def test_every_activation_is_as_likely_to_be_an_example():
    """Two of ten are drawn for each of many features: each is drawn in a fifth of them, within six deviations."""
    n, drawn = 4000, 2
    state = State.new(Scale(3), 1, np.full((n, 1), np.nan, np.float32), 1, 1, drawn // 2)
    value = np.tile(np.arange(1, 11, dtype=np.float32), n)
    token = np.tile(np.arange(10), n)
    state.add(0, Active(np.repeat(np.arange(n), 10).astype(np.int32), token, token, value))
    counts = np.bincount(tokens_of(state.one.entries.ravel()), minlength=10)
    assert counts.sum() == n * drawn
    assert (np.abs(counts - n / 5) < 6 * np.sqrt(n * 0.2 * 0.8)).all()


def test_a_state_is_read_as_it_was_written(tmp_path: Path, fresh):
    state = empty(fresh)
    state.add(3, shard(fresh, 3))
    state.save(tmp_path / "state.npz")
    assert bits(State.open(tmp_path / "state.npz")) == bits(state)


@pytest.mark.parametrize("largest", [1e-12, 0.003, 1.0, 31.2, 5e4])
def test_codes_are_within_a_thirty_second(largest, fresh):
    scale = Scale.of(largest)
    values = (largest * 2.0 ** fresh.uniform(-12, 0, 1000)).astype(np.float32)
    assert (np.abs(scale.values(scale.codes(values)) - values) <= values / 32 * (1 + 1e-6)).all()
    edges, bins = scale.edges, scale.bins(values)
    assert ((edges[bins] <= values) & (values < edges[bins + 1])).all()
