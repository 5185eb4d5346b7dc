"""Pictures against loops: pooling, codes, and which weights a sampled picture looks at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles

import interpwidgets as iw
from interpwidgets.models.source import RecordedAttention
from interpwidgets.views import pyramid
from interpwidgets.views.source import ArraySource

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def regions(draw, size):
    first = draw(st.integers(0, size - 1))
    return slice(first, draw(st.integers(first + 1, size)))


@given(data=st.data(), seed=SEEDS, causal=st.booleans(), n_keys=st.integers(1, 40), n_queries=st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_pooled_is_the_maximum_and_the_mean_of_each_cell(data, seed, causal, n_keys, n_queries):
    rng = np.random.default_rng(seed)
    n_queries = n_keys if causal else n_queries
    weights = oracles.pattern(rng, 1, 2, n_queries, n_keys, causal)
    source = oracles.Given(weights, causal=causal)
    queries, keys = data.draw(regions(n_queries)), data.draw(regions(n_keys))
    row_step, column_step = data.draw(st.integers(1, n_queries)), data.draw(st.integers(1, n_keys))
    top, mean = pyramid.pool(source, 0, 1, queries, keys, row_step, column_step, per_row=row_step)
    expected_top, expected_mean = oracles.pool(weights[0, 1][queries, keys].astype(float), row_step, column_step)
    np.testing.assert_array_equal(top, expected_top.astype(np.float32))
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-7)


@given(seed=SEEDS, size=st.integers(2, 90), step=st.integers(2, 9), causal=st.booleans(), at_once=st.integers(1, 9000))
@settings(deadline=None, max_examples=40)
def test_a_source_that_pools_has_the_same_picture_and_hands_out_no_block(seed, size, step, causal, at_once):
    rng = np.random.default_rng(seed)
    q, k = (rng.normal(size=(1, size, 1, 4)).astype(np.float32) for _ in range(2))
    recording, whole = iw.Recording.from_qk(q, k, causal=causal), slice(0, size)
    weights = recording.pattern(0, 0).numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "_STRIP", 16)
        patch.setattr(pyramid, "_POOLED", at_once)
        patch.delattr(RecordedAttention, "block")
        top, mean = pyramid.pool(recording.attention(), 0, 0, whole, whole, step, step, step)
    expected_top, expected_mean = oracles.pool(weights.astype(float), step, step)
    np.testing.assert_allclose(top, expected_top, rtol=1e-5)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-7)


@given(seed=SEEDS, size=st.integers(1, 50), step=st.integers(1, 9), causal=st.booleans())
@settings(deadline=None, max_examples=40)
def test_signed_pooling_keeps_the_largest_magnitude_and_its_sign(seed, size, step, causal):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(1, 1, size, size)).astype(np.float32)
    weights = np.tril(weights) if causal else weights
    whole = slice(0, size)
    top, mean = pyramid.pool(oracles.Given(weights, causal=causal), 0, 0, whole, whole, step, step, step, signed=True)
    expected_top, expected_mean = oracles.pool(weights[0, 0].astype(float), step, step, signed=True)
    np.testing.assert_array_equal(np.abs(top), np.abs(expected_top).astype(np.float32))
    np.testing.assert_array_equal(np.sign(top), np.sign(expected_top))
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-4, atol=1e-6)


def test_nothing_to_compare_with_stays_nothing_at_full_size_and_counts_as_no_difference_pooled():
    weights = np.array([[[[0.5, np.nan], [np.nan, np.nan]]]], dtype=np.float32)
    source, whole = oracles.Given(weights), slice(0, 2)
    np.testing.assert_array_equal(pyramid.pool(source, 0, 0, whole, whole, 1, 1, 1, signed=True)[0], weights[0, 0])
    top, mean = pyramid.pool(source, 0, 0, whole, whole, 2, 2, 2, signed=True)
    assert top.tolist() == [[0.5]]
    assert mean.tolist() == [[0.125]]


@given(seed=SEEDS, exponent=st.floats(-30, 0), keys=st.integers(1, 200_000), signed=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_code_is_as_close_to_its_weight_as_promised(seed, exponent, keys, signed):
    rng = np.random.default_rng(seed)
    values = (2.0**exponent * 2.0 ** -rng.uniform(0, 40, size=300)).astype(np.float32)
    values[:30] = 0
    values = values * rng.choice([-1, 1], size=300).astype(np.float32) if signed else values
    tile = pyramid.encode(values, keys, signed)
    read = oracles.decode(tile.array, tile.meta)
    promised = 0.046 if signed else 0.034
    floor = tile.meta["high"] * 2.0 ** -tile.meta["octaves"]
    shown = np.abs(values) >= floor
    assert (np.abs(read - values)[shown] <= promised * np.abs(values)[shown]).all()
    assert (np.abs(read)[~shown] <= floor * 1.0001).all()
    assert (read[values == 0] == 0).all()
    assert (np.sign(read) == np.sign(values))[shown].all()
    order = np.argsort(np.abs(values))
    assert (np.diff(np.abs(read)[order]) >= 0).all()
    np.testing.assert_allclose(pyramid.decode(tile), read, rtol=1e-5)


@pytest.mark.parametrize("keys", [2, 50, 1024, 16_384, 131_072])
def test_uniform_attention_is_never_coded_as_none(keys):
    """A diffuse row must stay visible beside a head that puts everything on one key: a linear byte shows it as 0."""
    tile = pyramid.encode(np.array([1.0, 1 / keys, 1 / (16 * keys)], dtype=np.float32), keys)
    assert (tile.array > 0).all()
    assert tile.array.dtype == np.uint8


def test_a_missing_weight_has_a_code_of_its_own():
    values = np.array([np.nan, 0, -0.25, 0.25], dtype=np.float32)
    tile = pyramid.encode(values, 4, signed=True)
    assert tile.array.dtype == np.int8
    assert tile.array[0] == -128
    np.testing.assert_allclose(pyramid.decode(tile), values, rtol=0.046)
    assert (pyramid.encode(np.full(3, np.nan, dtype=np.float32), 4, signed=True).array == -128).all()
    assert not pyramid.encode(np.zeros((2, 2), dtype=np.float32), 4).array.any()


@given(seed=SEEDS, causal=st.booleans(), signed=st.booleans(), side=st.integers(1, 150))
@settings(deadline=None, max_examples=10)
def test_the_atlas_is_every_head_pooled(seed, causal, signed, side):
    rng = np.random.default_rng(seed)
    n_queries, n_keys = (side, side) if causal else (side, int(rng.integers(1, 150)))
    weights = oracles.pattern(rng, 2, 3, n_queries, n_keys, causal)
    weights = weights - weights[::-1] if signed else weights
    tiles = pyramid.atlas(oracles.Given(weights, causal=causal), signed)
    down, across = tiles[0].meta["step"]
    assert all(tile.meta["step"] == [down, across] and "sampled" not in tile.meta for tile in tiles)
    values = [pyramid.decode(tile) for tile in tiles]
    promised = 0.046 if signed else 0.034
    floors = [tile.meta["high"] * 2.0 ** -tile.meta["octaves"] for tile in tiles]
    for layer in range(2):
        for head in range(3):
            expected = oracles.pool(weights[layer, head].astype(float), down, across, signed)
            for plane in (0, 1):
                shown, atol = values[plane][layer, head], 1.01 * floors[plane]
                assert shown.shape == expected[plane].shape
                np.testing.assert_allclose(np.abs(shown), np.abs(expected[plane]), rtol=promised, atol=atol)


def test_an_atlas_stays_small_at_any_length_and_number_of_heads():
    class Endless:
        """Uniform attention, made up as it is asked for."""

        causal = True

        def __init__(self, layers, heads, size):
            self.shape, self.asked = (layers, heads, size, size), 0

        def block(self, layer, head, queries, keys):
            self.asked = max(self.asked, len(queries) * (keys.stop - keys.start))
            past = np.arange(keys.start, keys.stop) <= queries[:, None]
            return (past / (queries[:, None] + 1)).astype(np.float32)

    for source in (Endless(12, 12, 300), Endless(2, 3, 16_384), Endless(40, 40, 65)):
        for tile in pyramid.atlas(source):
            assert tile.array.size <= pyramid.ATLAS_PIXELS
            assert max(tile.array.shape[2:]) <= 64
        assert source.asked <= pyramid._STRIP * source.shape[3]  # never a whole [query, key] of a long prompt


@given(seed=SEEDS, level=st.integers(0, 2), mean=st.booleans(), causal=st.booleans())
@settings(deadline=None, max_examples=4)
def test_squares_together_are_the_whole_head(seed, level, mean, causal):
    rng = np.random.default_rng(seed)
    n_keys = int(rng.integers(257, 520))
    n_queries = n_keys if causal else int(rng.integers(1, 520))
    weights = oracles.pattern(rng, 1, 1, n_queries, n_keys, causal)
    source = ArraySource(list(weights), *[oracles.Tokens.numbered(size) for size in (n_queries, n_keys)])
    step, side = 2**level, pyramid.TILE_PIXELS * 2**level
    rows = []
    for row in range(-(-n_queries // side)):
        tiles = [pyramid.image(source, 0, 0, level, row, column, mean) for column in range(-(-n_keys // side))]
        assert all(max(tile.array.shape) <= pyramid.TILE_PIXELS and tile.meta["step"] == [step, step] for tile in tiles)
        rows.append(np.concatenate([pyramid.decode(tile) for tile in tiles], axis=1))
    expected = oracles.pool(weights[0, 0].astype(float), step, step)[int(mean)]
    np.testing.assert_allclose(np.concatenate(rows), expected, rtol=0.034, atol=2.0**-16)


def test_a_square_outside_the_head_is_an_error():
    source = oracles.Given(np.ones((1, 1, 3, 3), dtype=np.float32))
    for row, column in ((1, 0), (0, 1), (4, 4)):
        with pytest.raises(IndexError, match=f"row {row}, column {column} at level 0 of 3 × 3"):
            pyramid.image(source, 0, 0, 0, row, column)


@given(seed=SEEDS, step=st.integers(2, 30), data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_sampled_picture_shows_real_rows_and_the_same_ones_every_time(seed, step, data):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(step, 200))
    per_row = data.draw(st.integers(1, step - 1))
    weights = oracles.pattern(rng, 1, 1, size, size)
    source, whole = oracles.Given(weights), slice(0, size)
    top, mean = pyramid.pool(source, 0, 0, whole, whole, step, step, per_row)
    looked = sorted(q for _, _, queries, _ in source.asked for q in queries)
    assert len(looked) == len(set(looked))
    for row in range(-(-size // step)):
        here = [q for q in looked if row * step <= q < (row + 1) * step]
        assert 1 <= len(here) <= per_row
        if (row + 1) * step <= size:
            assert len(here) == per_row
            parts = [part * step // per_row for part in range(per_row + 1)]  # one in each: spread, not bunched
            assert all(low <= q - row * step < high for q, low, high in zip(here, parts, parts[1:], strict=False))
        expected = oracles.pool(weights[0, 0][here].astype(float), len(here), step)
        np.testing.assert_array_equal(top[row], expected[0][0].astype(np.float32))
        np.testing.assert_allclose(mean[row], expected[1][0], rtol=1e-5, atol=1e-7)
    again = pyramid.pool(oracles.Given(weights), 0, 0, whole, whole, step, step, per_row)
    np.testing.assert_array_equal(top, again[0])
    # The tile to the right looks at the same queries, so a picture has no seams.
    other = oracles.Given(weights)
    pyramid.pool(other, 0, 0, whole, slice(size // 2, size), step, step, per_row)
    assert sorted(q for _, _, queries, _ in other.asked for q in queries) == looked


def test_sampled_pictures_say_so(monkeypatch):
    rng = np.random.default_rng()
    weights = oracles.pattern(rng, 2, 2, 520, 520, causal=True)
    source = oracles.Given(weights, causal=True)
    assert "sampled" not in pyramid.image(source, 0, 0, 1, 0, 0).meta
    assert all("sampled" not in tile.meta for tile in pyramid.atlas(source))
    monkeypatch.setattr(pyramid, "IMAGE_WEIGHTS", 256 * 520)
    monkeypatch.setattr(pyramid, "ATLAS_WEIGHTS", 3 * 4 * 58 * 520)
    assert pyramid.image(source, 0, 0, 1, 0, 0).meta["sampled"] == [1, 2]
    assert "sampled" not in pyramid.image(source, 0, 0, 0, 0, 0).meta  # one query a row is all of them
    assert [tile.meta["sampled"] for tile in pyramid.atlas(source)] == [[3, 9], [3, 9]]
