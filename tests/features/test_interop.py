"""Features in the files of other tools: out and in again, and what is refused on the way in."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from interpwidgets.errors import InputError
from interpwidgets.features import interop
from interpwidgets.features.interop import DelphiCache, FeatureRecord, Snippet
from interpwidgets.tokens import Tokens

HOSTILE = ("<img src=x onerror=alert(1)>", "</script>", "\u202eabc", "a\nb", " Paris", "", "\0", "🦔")
numbers = st.floats(-1e6, 1e6, width=32)
tokens = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=("Cs",)), max_size=4))
pairs = st.lists(st.tuples(tokens, numbers), max_size=4).map(tuple)


@st.composite
def snippets(draw: st.DrawFn) -> Snippet:
    size = draw(st.integers(1, 6))
    words, values = (tuple(draw(st.lists(each, min_size=size, max_size=size))) for each in (tokens, numbers))
    at = draw(st.integers(0, size - 1))
    if draw(st.booleans()):
        return Snippet(words, values, at)
    low, high, share = draw(numbers), draw(numbers), draw(st.floats(0, 1, width=32))
    return Snippet(words, values, at, f"{low:.4g} … {high:.4g}", low, high, share)


@st.composite
def features(draw: st.DrawFn) -> list[FeatureRecord]:
    indices = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=6)))
    return [
        FeatureRecord(
            index,
            tuple(draw(st.lists(snippets(), max_size=4))),
            draw(pairs),
            draw(pairs),
            tuple(draw(st.lists(st.tuples(numbers, numbers), max_size=3))),
            draw(st.floats(0, 1)),
            draw(numbers),
            draw(st.one_of(st.none(), tokens)),
        )
        for index in indices
    ]


def largest(record: FeatureRecord) -> float:
    return max((value for each in record.snippets for value in each.activations), default=0.0)


@settings(max_examples=40, deadline=None)
@given(features(), st.integers(1, 4))
def test_neuronpedia_and_back(tmp_path_factory: pytest.TempPathFactory, records: list, per_batch: int) -> None:
    folder = tmp_path_factory.mktemp("np")
    top = interop.write_neuronpedia(folder, iter(records), model="m", source="3-res", per_batch=per_batch)
    assert top == folder / "m" / "3-res"
    assert list(interop.read_neuronpedia(top)) == records


@settings(max_examples=40, deadline=None)
@given(features(), st.integers(1, 4))
def test_sae_dashboard_and_back(tmp_path_factory: pytest.TempPathFactory, records: list, per_batch: int) -> None:
    folder = tmp_path_factory.mktemp("sd")
    interop.write_sae_dashboard(folder, records, model="m", layer=3, sae_set="res", per_batch=per_batch)
    without = [FeatureRecord(**{**vars(each), "label": None, "max": largest(each)}) for each in records]
    assert list(interop.read_sae_dashboard(folder)) == without
    assert len(list(folder.glob("batch-*.json"))) == -(-len(records) // per_batch)


@settings(max_examples=40, deadline=None)
@given(features(), features())
def test_circuit_tracer_and_back(tmp_path_factory: pytest.TempPathFactory, some: list, others: list) -> None:
    folder = tmp_path_factory.mktemp("ct")
    interop.write_circuit_tracer(folder, some, layer=3)
    interop.write_circuit_tracer(folder, others, layer=7)
    for layer, records in ((3, some), (7, others)):
        found = list(interop.read_circuit_tracer(folder, layer=layer))
        assert [each.index for each in found] == [each.index for each in records]
        for one, record in zip(found, records, strict=True):
            by_group = sorted({each.group: 0 for each in record.snippets}, key=[s.group for s in record.snippets].index)
            in_order = [each for name in by_group for each in record.snippets if each.group == name]
            assert [(s.tokens, s.activations, s.position, s.group) for s in one.snippets] == [
                (s.tokens, s.activations, s.position, s.group) for s in in_order
            ]
            assert [text for text, _ in one.top_logits] == [text for text, _ in record.top_logits]
            assert (one.density, one.max) == (record.density, record.max)
        last = records[-1].index
        assert [each.index for each in interop.read_circuit_tracer(folder, layer=layer, features=[last])] == [last]


@given(st.integers(0, 10**6), st.integers(0, 10**9))
def test_cantor_is_undone(layer: int, feature: int) -> None:
    paired = interop.cantor(layer, feature)
    assert interop.uncantor(paired) == (layer, feature)
    assert interop.cantor(layer, feature + 1) != paired


def test_cantor_by_hand() -> None:
    diagonals = [(total - feature, feature) for total in range(9) for feature in range(total + 1)]
    assert [interop.uncantor(number) for number in range(len(diagonals))] == diagonals
    with pytest.raises(InputError, match="−1 is an error node"):
        interop.uncantor(-1)


def test_circuit_tracer_is_a_length_and_zlib(tmp_path: Path) -> None:
    """Read as their frontend does: seek, length, decompress."""
    record = FeatureRecord(4, (Snippet(("a", "b"), (0.5, 2.0), 1),), (("x", 1.0),), (("y", -1.0),), density=0.25, max=2)
    interop.write_circuit_tracer(tmp_path, [record], layer=2, transcoder_id="t")
    index = json.loads(gzip.decompress((tmp_path / "index.json.gz").read_bytes()))
    offsets = index["2"]["offsets"]
    assert offsets[:5] == [0] * 5
    data = (tmp_path / index["2"]["filename"]).read_bytes()[offsets[4] : offsets[5]]
    (length,) = struct.unpack("<I", data[:4])
    found = json.loads(zlib.decompress(data[4:]))
    assert length == len(data) - 4
    assert found["index"] == interop.cantor(2, 4)
    assert found["examples_quantiles"][0]["quantile_name"] == "Top"
    assert found["examples_quantiles"][0]["examples"][0]["tokens_acts_list"] == [0.5, 2.0]
    assert (found["top_logits"], found["bottom_logits"], found["activation_frequency"]) == (["x"], ["y"], 0.25)


# --- delphi


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7), st.booleans())
def test_delphi_and_back(tmp_path_factory: pytest.TempPathFactory, seed: int, splits: int, wide: bool) -> None:
    rng = np.random.default_rng(seed)
    n_features = 70_000 * splits if wide else 20
    ids = rng.integers(0, 50_000, (5, 8))
    place = np.sort(rng.choice(5 * 8 * 3, 30, replace=False))
    of = np.sort(rng.choice(n_features, 3, replace=False))
    feature, sequence, position = of[place // 40], place % 40 // 8, place % 8
    value = rng.gamma(1, 2, 30).astype(np.float32)
    value[:2] = 1e-6, 0
    cache = DelphiCache(sequence, position, feature, value, ids, {"cache_ctx_len": 8})
    folder = tmp_path_factory.mktemp("delphi")
    top = interop.write_delphi(folder, "layers.3.mlp", cache, n_features=n_features, splits=splits)
    again = interop.read_delphi(folder, "layers.3.mlp")
    np.testing.assert_array_equal(again.tokens, ids)
    assert again.config == cache.config
    for number in of:
        dense = np.zeros((5, 8), np.float32)
        mine = (feature == number) & (value > 1e-5)
        dense[sequence[mine], position[mine]] = value[mine].astype(np.float16)
        np.testing.assert_array_equal(again.of(number), dense)
    stored = [load_file(path) for path in sorted(top.glob("*.safetensors"))]
    assert len(stored) == splits
    assert {each["locations"].dtype for each in stored} <= {np.dtype("uint16"), np.dtype("uint32")}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("tokens"), "lacks tokens; it has activations, locations"),
        (lambda t: t.update(activations=t["activations"][:-1]), r"is not as expected: activations \[1\], locations"),
        (lambda t: t["locations"].__setitem__((0, 0), 9), r"sequence 9, position 1; tokens are \[2, 3\]"),
        (lambda t: t["activations"].__setitem__(0, np.nan), "holds NaN or infinite activations"),
    ],
)
def test_a_damaged_cache_of_delphi_is_named(change, sentence: str, tmp_path: Path) -> None:
    cache = DelphiCache(*np.array([[0, 1], [1, 1], [0, 3]]), np.ones(2, np.float32), np.zeros((2, 3), np.int64), {})
    top = interop.write_delphi(tmp_path, "h", cache, n_features=4, splits=1)
    tensors = load_file(top / "0_3.safetensors")
    change(tensors)
    save_file(tensors, top / "0_3.safetensors")
    with pytest.raises(InputError, match=sentence):
        interop.read_delphi(tmp_path, "h")
    (top / "0_3.safetensors").write_bytes(b"not at all")
    with pytest.raises(InputError, match=r"0_3\.safetensors is damaged"):
        interop.read_delphi(tmp_path, "h")
    with pytest.raises(InputError, match="holds no cache of delphi"):
        interop.read_delphi(tmp_path, "elsewhere")


# --- what is refused


def test_names_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    interop.write_circuit_tracer(folder, [FeatureRecord(0)], layer=0)
    (tmp_path / "secret.bin").write_bytes((folder / "layer_0.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for name in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "a/../../secret.bin", "", "\0"):
        index = {"0": {"filename": name, "offsets": [0, (tmp_path / "secret.bin").stat().st_size]}}
        (folder / "index.json.gz").write_bytes(gzip.compress(json.dumps(index).encode()))
        with pytest.raises(InputError, match="leads out of"):
            list(interop.read_circuit_tracer(folder, layer=0))
    cache = DelphiCache(*np.zeros((3, 0), int), np.zeros(0, np.float32), np.zeros((1, 1), np.int64), {})
    for refused in (
        lambda: interop.write_neuronpedia(folder, [], model="..", source="../x"),
        lambda: interop.write_delphi(folder, "../../x", cache, n_features=1, splits=1),
        lambda: interop.read_delphi(folder, "../../x"),
    ):
        with pytest.raises(InputError, match="leads out of"):
            refused()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "secret.bin"]


def broken(record: bytes) -> bytes:
    return struct.pack("<I", len(record)) + record


def example(row: bytes) -> bytes:
    return broken(zlib.compress(b'{"examples_quantiles": [{"examples": [%s]}]}' % row))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (struct.pack("<I", 99) + zlib.compress(b"{}"), "not as long as the index and its own length say"),
        (broken(b"nonsense"), "is damaged"),
        (broken(zlib.compress(b"{}")[:-3]), r"damaged \(it ends early"),
        (broken(zlib.compress(b"[]")), "is a list, not an object"),
        (broken(zlib.compress(b"{")), "is damaged"),
        (broken(zlib.compress(b"[" * 100_000)), "is damaged"),
        (broken(zlib.compress(b"{}")), "'examples_quantiles' is missing"),
        (broken(zlib.compress(b'{"examples_quantiles": [3]}')), "'examples' is missing"),
        (
            broken(
                zlib.compress(b'{"examples_quantiles": [{"examples": [{"tokens": ["a"], "tokens_acts_list": []}]}]}')
            ),
            "1 tokens and 0 activations",
        ),
        (
            broken(
                zlib.compress(b'{"examples_quantiles": [{"examples": [{"tokens": [1], "tokens_acts_list": [1]}]}]}')
            ),
            "'tokens' holds 1, which is no text",
        ),
        (
            broken(zlib.compress(b'{"examples_quantiles": [], "top_logits": [], "bottom_logits": [], "act_max": NaN}')),
            "'act_max' holds nan, which is no finite number",
        ),
    ],
)
def test_damaged_records_of_circuit_tracer_are_named(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "layer_0.bin").write_bytes(data)
    index = {"0": {"filename": "layer_0.bin", "offsets": [0, len(data)]}}
    (tmp_path / "index.json.gz").write_bytes(gzip.compress(json.dumps(index).encode()))
    with pytest.raises(InputError, match=sentence) as refused:
        list(interop.read_circuit_tracer(tmp_path, layer=0))
    assert "layer_0.bin, feature 0," in str(refused.value)


def test_a_record_that_would_fill_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpwidgets.features.interop.reading._LARGEST", 1000)
    interop.write_circuit_tracer(tmp_path, [FeatureRecord(0, (Snippet(("a" * 9999,), (1.0,), 0),))], layer=0)
    with pytest.raises(InputError, match="comes to more than 1,000 bytes"):
        list(interop.read_circuit_tracer(tmp_path, layer=0))


def test_features_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no features of circuit-tracer: there is no index\.json\.gz"):
        list(interop.read_circuit_tracer(tmp_path, layer=0))
    interop.write_circuit_tracer(tmp_path, [FeatureRecord(2)], layer=0)
    with pytest.raises(InputError, match="has no layer 5; it has 0"):
        list(interop.read_circuit_tracer(tmp_path, layer=5))
    with pytest.raises(InputError, match="There is no feature 3 in layer 0"):
        list(interop.read_circuit_tracer(tmp_path, layer=0, features=[3]))
    with pytest.raises(InputError, match="Feature 1 comes after feature 2: sort them by index"):
        interop.write_circuit_tracer(tmp_path, [FeatureRecord(2), FeatureRecord(1)], layer=1)
    assert not list(tmp_path.glob("layer_1*"))
    for read, sentence in (
        (interop.read_neuronpedia, r"holds no features/batch-….jsonl\.gz"),
        (interop.read_sae_dashboard, r"holds no batch-….json"),
    ):
        with pytest.raises(InputError, match=sentence):
            list(read(tmp_path))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2, is damaged"),
        ("[]", "line 2, is a list"),
        ("{}", "line 2, is not as expected: 'index' holds None"),
        ('{"index": "-1"}', "'index' holds '-1'"),
        ('{"index": "1", "pos_str": "abc"}', "'pos_str' is a str, not a list"),
        ('{"index": "1", "pos_str": ["a"], "pos_values": []}', "1 pos_str and 0 pos_values"),
    ],
)
def test_damaged_lines_of_neuronpedia_are_named(line: str, sentence: str, tmp_path: Path) -> None:
    top = interop.write_neuronpedia(tmp_path, [FeatureRecord(0)], model="m", source="0-s")
    path = top / "features" / "batch-0.jsonl.gz"
    good = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(good + line.encode() + b"\n"))
    with pytest.raises(InputError, match=sentence):
        list(interop.read_neuronpedia(top))
    path.write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(InputError, match="is damaged"):
        list(interop.read_neuronpedia(top))


# --- from a store


def test_a_record_of_a_feature_holds_what_the_feature_shows() -> None:
    """Anything with the attributes of a store's feature; tokens that are parts of characters become text."""
    shown = SimpleNamespace(
        tokens=Tokens((b"\xe2\x82", "<b>")), activations=np.array([0.5, 1.5], np.float32), position=1
    )
    feature = SimpleNamespace(
        index=3, histogram=(np.array([1, 2, 4]), np.array([5, 7])), density=0.5, max=4.0,
        groups=[SimpleNamespace(name="0–50 %", low=0.0, high=2.0, count=5),
                SimpleNamespace(name="50–100 %", low=2.0, high=4.0, count=15)],
        examples=lambda group: [shown] if group != "0–50 %" else [],
        top_logits=[(b"\xff", 2.5)], bottom_logits=[("x", -1)],
    )  # fmt: skip
    record = interop.record_of(feature, "said of it")
    assert record == FeatureRecord(
        3,
        (
            Snippet(("\ufffd", "<b>"), (0.5, 1.5), 1),
            Snippet(("\ufffd", "<b>"), (0.5, 1.5), 1, "50–100 %", 2.0, 4.0, 0.75),
        ),
        (("\ufffd", 2.5),),
        (("x", -1.0),),
        ((1.5, 5.0), (3.0, 7.0)),
        0.5,
        4.0,
        "said of it",
    )
