"""Stores on disk: what is damaged, newer, foreign or not allowed is refused in words; corpora of every kind."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from features.conftest import CONTEXT, FEATURES, random_corpus, random_dictionary, random_model

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.features import FeatureStore, Label, corpus, files, layout
from interpwidgets.features.synthetic import synthetic_store

HOSTILE = ["<img src=x onerror=alert(1)>", "</script>", "שלום", "a\nb\u2028", "\u202eevil"]


def made(folder: Path, model, dictionary, rows, **options) -> FeatureStore:
    return FeatureStore.build(folder, model, dictionary, rows, context=CONTEXT, progress=False, **options)


@pytest.fixture
def rows(fresh):
    return random_corpus(fresh, 20)


@pytest.fixture
def store(tmp_path, model, dictionary, rows) -> FeatureStore:
    return made(tmp_path / "store", model, dictionary, rows)


# --- damage


@pytest.mark.parametrize(
    "name", ["tokens.bin", "contexts.bin", "records.bin", "offsets.bin", "index.parquet", "vocabulary.json"]
)
@pytest.mark.parametrize("how", ["missing", "cut off", "changed"])
def test_a_damaged_file_is_named(store, name, how, fresh):
    path = store.folder / name
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(data[: int(fresh.integers(len(data)))])
    else:
        data[int(fresh.integers(len(data)))] ^= 1 << int(fresh.integers(8))
        path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} (is missing|has [\d,]+ bytes instead|is damaged)"):
        FeatureStore.open(store.folder)


def test_a_damaged_record_is_found_when_it_is_read(store, fresh):
    path = store.folder / "records.bin"
    offsets = np.fromfile(store.folder / "offsets.bin", dtype="<u8")
    feature = int(fresh.integers(FEATURES))
    data = bytearray(path.read_bytes())
    data[int(fresh.integers(offsets[feature], offsets[feature + 1]))] ^= 0xFF
    path.write_bytes(data)
    said = json.loads((store.folder / "store.json").read_text())
    said["files"]["records.bin"]["sha256"] = files.checksum(path)  # as if it were too large to be checked on opening
    (store.folder / "store.json").write_text(json.dumps(said))
    opened = FeatureStore.open(store.folder)
    with pytest.raises(InputError, match=rf"records.bin is damaged at feature {feature} "):
        opened[feature]
    with pytest.raises(InputError, match=rf"damaged at feature {feature} "):
        opened.verify()
    assert opened[(feature + 1) % FEATURES]


def test_what_is_no_store_of_ours_is_refused(store, tmp_path):
    store.verify()
    path = store.folder / "store.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"version": 2}))
    with pytest.raises(InputError, match="is of version 2, and this interpwidgets reads version 1"):
        FeatureStore.open(store.folder)
    path.write_text(json.dumps(said | {"format": "other"}))
    with pytest.raises(InputError, match="is not of a feature store"):
        FeatureStore.open(store.folder)
    path.write_text("{")
    with pytest.raises(InputError, match=r"store.json is missing or damaged"):
        FeatureStore.open(store.folder)
    with pytest.raises(InputError, match="holds no feature store"):
        FeatureStore.open(tmp_path)


# --- building twice


def test_what_is_there_is_opened_and_never_taken_for_something_else(store, model, dictionary, rows, monkeypatch):
    before = (store.folder / "store.json").stat().st_mtime_ns
    again = made(store.folder, random_model(), random_dictionary(), iter(rows))
    assert (again.about, (store.folder / "store.json").stat().st_mtime_ns) == (store.about, before)
    other = random_dictionary()
    other.W_enc[0, 0] += 1e-3
    for given in ((model, other, rows), (model, dictionary, rows[:-5])):
        with pytest.raises(InputError, match="holds a store of another model, dictionary, corpus or settings"):
            made(store.folder, *given)
    with pytest.raises(InputError, match="another model, dictionary, corpus or settings"):
        made(store.folder, model, dictionary, rows, top=3)
    assert FeatureStore.open(store.folder).about == store.about
    replaced = made(store.folder, model, other, rows, resume=False)
    assert replaced.about["dictionary"]["fingerprint"] == other.fingerprint != dictionary.fingerprint


def test_a_store_runs_the_model_that_it_was_built_from_and_no_other(store, model, dictionary):
    opened = FeatureStore.open(store.folder)
    with pytest.raises(InputError, match=r"no model to run: store.bind\(model, dictionary\)"):
        opened.features_of([1, 2, 3])
    with pytest.raises(InputError, match=r"not the model that .* was built from"):
        opened.bind(random_model(seed=1), dictionary)
    with pytest.raises(InputError, match=r"not the dictionary that .* was built from"):
        opened.bind(model, random_dictionary(seed=1))
    assert len(opened.bind(model, dictionary).features_of([1, 2, 3]).tokens) == 3


def test_the_disk_is_full(tmp_path, model, dictionary, rows, monkeypatch):
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written: the disk is full. Free some space"):
        made(tmp_path / "s", model, dictionary, rows)
    monkeypatch.undo()
    assert not list((tmp_path / "s").rglob("*.part"))
    made(tmp_path / "s", model, dictionary, rows).verify()


def test_a_folder_that_cannot_be_written(tmp_path, model, dictionary, rows):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: (there is a file|a part of this path is a file)"):
        made(tmp_path / "file", model, dictionary, rows)
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(InputError, match="you may not write there"):
            made(tmp_path / "shut" / "s", model, dictionary, rows)


def test_two_do_not_build_in_one_folder(tmp_path, model, dictionary, rows):
    (tmp_path / "s").mkdir()
    with files.alone(tmp_path / "s"), pytest.raises(InputError, match="Another process is building"):
        made(tmp_path / "s", model, dictionary, rows)


# --- bad input


def test_bad_input_is_refused_in_words(tmp_path, model, dictionary, rows):
    wide = iw.Dictionary(WIDTH_OF_OTHERS, 4, kind="relu", site="resid_post", layer=0)
    for given, said in (
        ({"dictionary": wide}, "has 24 numbers a position"),
        ({"dictionary": iw.Dictionary(16, 4, kind="relu", site="resid_post", layer=7)}, "no layer 7"),
        ({"dictionary": "sae"}, "Expected a Dictionary"),
        ({"corpus": []}, "The corpus holds no text"),
        ({"corpus": [[0]]}, "The corpus holds no text"),
        ({"corpus": "one text"}, "is no folder. One text goes in a list"),
        ({"corpus": ["text"]}, "has no tokenizer, so it cannot read text"),
        ({"corpus": [[1, 99]]}, "Document 0 has the token id 99"),
        ({"corpus": [[1.5]]}, "neither text nor a list of token ids"),
        ({"corpus": 5}, "A corpus is an iterable"),
        ({"corpus": {"train": [], "test": []}}, "one split of a dataset; this has several: train, test"),
        ({"corpus": [{"words": "x"}]}, "has the columns words; one of input_ids, tokens, text is needed"),
        ({"top": 0}, "top is a number from 1 to 255; got 0"),
        ({"groups": 1}, "groups is a number from 2 to 100"),
        ({"engine": "dask"}, "engine is None .* or 'ray'"),
    ):
        options = {"model": model, "dictionary": dictionary, "corpus": rows, "progress": False} | given
        with pytest.raises(InputError, match=said):
            FeatureStore.build(tmp_path / "s", **options)
    broken = random_dictionary()
    broken.W_enc[3, 5] = torch.nan
    with pytest.raises(InputError, match=r"W_enc of .* holds NaN"):
        made(tmp_path / "s", model, broken, rows)
    sick = random_model()
    with torch.no_grad():
        sick.module.transformer.h[0].mlp.c_proj.bias[0] = torch.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        made(tmp_path / "s", sick, dictionary, rows)


WIDTH_OF_OTHERS = 24


@pytest.mark.parametrize("missing", ["duckdb", "pyarrow", "zstandard"])
def test_what_is_not_installed_is_named(tmp_path, missing, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(ImportError, match=rf'{missing}.* pip install "interpwidgets\[features\]"'):
        FeatureStore.open(tmp_path)


def test_ray_is_named_if_it_is_not_installed(tmp_path, model, dictionary, rows, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "interpwidgets\[ray\]"'):
        made(tmp_path / "s", model, dictionary, rows, engine="ray")


# --- corpora


class Rows:
    """What Hugging Face's datasets look like from here."""

    column_names = ("id", "text")

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __iter__(self):
        return ({"id": number, "text": text} for number, text in enumerate(self.texts))


def test_the_same_text_makes_the_same_store_however_it_is_given(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
    texts = ["the cat sat on the mat .", "anna gave the lamp to tom .", "tom was kind .", *HOSTILE]
    for name in ("txt", "jsonl", "parquet"):
        (tmp_path / name).mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "txt" / f"{number}.txt").write_text(text, encoding="utf-8")
    lines = [json.dumps({"text": text} if number % 2 else text) for number, text in enumerate(texts)]
    (tmp_path / "jsonl" / "a.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), tmp_path / "parquet" / "a.parquet")
    ids = [model.tokens(text).ids.tolist() for text in texts]
    given = [texts, iter(texts), Rows(texts), *(tmp_path / name for name in ("txt", "jsonl", "parquet")), ids]
    keys = {
        FeatureStore.build(tmp_path / f"store-{number}", model, sae, each, progress=False).about["key"]
        for number, each in enumerate(given)
    }
    assert len(keys) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.txt, \.jsonl, \.parquet"):
        list(corpus.documents(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"index\.parquet has the columns index, .*; one of input_ids, tokens, text"):
        list(corpus.documents(tmp_path / "store-0"))
    (tmp_path / "jsonl" / "b.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"b.jsonl cannot be read"):
        list(corpus.documents(tmp_path / "jsonl"))


# --- questions, and what is said


def test_queries_find_what_a_loop_finds(store):
    features = list(store)
    found = store.query("density < 0.2 and max_activation > 3 order by max_activation desc")
    wanted = [f.index for f in sorted(features, key=lambda f: -f.max) if f.density < 0.2 and f.max > 3]
    assert found.index.tolist() == wanted
    assert found.columns["max_activation"] == [np.float32(features[i].max) for i in wanted]
    token = features[5].top_logits[0][0]
    assert store.query(f"top_token = '{token}'").index.tolist() == [
        f.index for f in features if f.top_logits[0][0] == token
    ]
    few = store.query("order by density desc", limit=3, columns=["density"])
    assert (len(few), few.total, list(few.columns)) == (3, FEATURES, ["density"])
    page = store.table(["count"], first=2, count=5, order='"count" desc, index', where="count > 0")
    ordered = sorted((f for f in features if f.count), key=lambda f: (-f.count, f.index))
    assert page.index.tolist() == [f.index for f in ordered[2:7]]
    assert page.total == len(ordered)
    assert store.query("top_token = ' order by ' or index = 3").index.tolist() == [3]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("nope > 1", "There is no column 'nope'; there are: index, density"),
        ("top_token = Paris", "There is no column 'Paris'.*Text is in 'quotes'"),
        ("density <", "cannot be used: syntax error"),
        ("1=1); drop table said; select (1", "cannot be used|no semicolon"),
        ("exists (select * from read_csv('/etc/passwd'))", "file system operations are disabled"),
        ("exists (select * from '/etc/passwd')", "cannot be used"),
        ("index in (select index from store)", "cannot be used"),
    ],
)
def test_a_query_can_read_the_index_and_nothing_else(store, condition, said):
    with pytest.raises(InputError, match=said):
        store.query(condition)
    assert store.query("index < 2").index.tolist() == [0, 1]


def test_labels_lists_and_notes_are_beside_the_store_and_in_queries(store):
    for number, text in enumerate(HOSTILE):
        store.set_label(number, text, score=0.7, low=0.6, high=0.8, by="me")
    store.set_labels({7: Label("names of people", 0.9), 8: Label("names of places", float("nan"))})
    store.star(7)
    store.star(3)
    store.star(7, list="to read")
    store.note(4, "perhaps")
    again = FeatureStore.open(store.folder)
    for opened in (store, again):
        assert [opened.label_of(i).text for i in range(len(HOSTILE))] == HOSTILE
        assert opened.label_of(0) == Label(HOSTILE[0], 0.7, 0.6, 0.8, "me")
        assert opened.label_of(8) == Label("names of places")
        assert opened.lists == {"starred": [7, 3], "to read": [7]}
        assert opened.note_of(4) == "perhaps"
        assert opened.query("label like '%name%' order by score desc nulls last").index.tolist() == [7, 8]
        assert opened.query("'starred' in lists").index.tolist() == [3, 7]
        assert opened.query("note is not null").columns["note"] == ["perhaps"]
    store.set_label(7, None)
    store.star(7, on=False)
    assert again.label_of(7) is None
    assert again.query("'starred' in lists").index.tolist() == [3]
    assert again.table(["label", "lists"], first=7, count=1).columns == {"label": [None], "lists": [["to read"]]}
    with pytest.raises(InputError, match=f"There is no feature {FEATURES}"):
        store.star(FEATURES)


def test_a_line_that_was_cut_off_is_passed_over(store):
    store.set_label(1, "one")
    path = store.folder / "notes.jsonl"
    with path.open("ab") as file:
        file.write(b'{"index": 2, "label": "tw')
    store.set_label(3, "three")
    opened = FeatureStore.open(store.folder)
    assert [opened.label_of(i) and opened.label_of(i).text for i in range(1, 4)] == ["one", None, "three"]


def _say(folder: str, number: int) -> None:
    opened = FeatureStore.open(folder)
    for index in range(FEATURES):
        opened.set_label(index, f"{number} says {index}")


@pytest.mark.slow
def test_several_processes_may_speak_at_once(store):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_say, [(str(store.folder), number) for number in range(3)])
    lines = (store.folder / "notes.jsonl").read_text().splitlines()
    assert len(lines) == 3 * FEATURES
    assert all(json.loads(line)["label"].endswith(f" says {json.loads(line)['index']}") for line in lines)


def test_features_are_numbered_and_said_in_a_line(store):
    assert repr(store).startswith("<FeatureStore ")
    assert store[-1].index == FEATURES - 1
    for wrong in (FEATURES, -FEATURES - 1, "a"):
        with pytest.raises(InputError, match="numbered from 0"):
            store[wrong]
    with pytest.raises(InputError, match="There is no group 'weak'; there are 'top', 0"):
        store[20].examples("weak")
    with pytest.raises(InputError, match="There is no context"):
        store.context(10**6)


def test_a_made_up_store_is_one(tmp_path):
    store = synthetic_store(tmp_path / "s", 5000, progress=False)
    store.verify()
    assert (len(store), store.query("density > 0").total) == (5000, 5000)
    feature = store[4321]
    assert [e.value for e in feature.examples()] == sorted((e.value for e in feature.examples()), reverse=True)
    assert all(e.value > 0 for group in range(10) for e in feature.examples(group))
    assert layout.VERSION == 1
