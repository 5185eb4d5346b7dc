"""What travels is what was packed."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.views.tile import Tile

KINDS = {"u1": np.uint8, "i1": np.int8, "f4": np.float32, "i4": np.int32}


def unpack(meta, data):
    data = zlib.decompress(data) if meta.get("zip") else data
    return np.frombuffer(data, dtype=np.dtype(KINDS[meta["kind"]]).newbyteorder("<")).reshape(meta["shape"])


@given(
    kind=st.sampled_from(sorted(KINDS)),
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=4).filter(lambda s: np.prod(s) < 40_000),
    seed=st.integers(0, 2**32 - 1),
    dull=st.booleans(),
    strided=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_packed_and_unpacked_is_the_same(kind, shape, seed, dull, strided):
    rng = np.random.default_rng(seed)
    array = (rng.integers(0, 2 if dull else 100, size=shape)).astype(KINDS[kind])
    array = array.T if strided else array
    meta, data = Tile(array, {"high": 0.5}).pack()
    assert isinstance(data, bytes)
    assert json.loads(json.dumps(meta))["high"] == 0.5
    np.testing.assert_array_equal(unpack(meta, data), array)
    assert len(data) <= array.nbytes


def test_dull_tiles_shrink_and_lively_ones_are_left_alone():
    meta, data = Tile(np.zeros((100, 100), dtype=np.float32)).pack()
    assert meta["zip"] is True
    assert len(data) < 1000
    meta, data = Tile(np.random.default_rng().integers(256, size=5000).astype(np.uint8)).pack()
    assert "zip" not in meta
    assert len(data) == 5000


@pytest.mark.parametrize("value", [{"text": ["␣a", "</script>", "⟨U+202E⟩", "日本", "é"], "ids": None}, [], "x" * 999])
def test_json_travels_as_a_tile(value):
    meta, data = Tile.of_json(value).pack()
    assert meta["json"] is True
    assert json.loads(bytes(unpack(meta, data))) == value
