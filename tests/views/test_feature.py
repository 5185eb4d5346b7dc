"""Features against a store that is read by hand: records, names, rows, texts, interventions, and what is written."""

import json
from random import Random

import numpy as np
import pytest
import torch
import traitlets
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.models.corpora.corpus import document
from interpwidgets.tokens import show
from interpwidgets.views import FeatureView
from interpwidgets.views.feature_tiles import COLUMNS, MAP, ROWS, condition_of
from interpwidgets.views.view import key_of

pytest.importorskip("duckdb")
HOSTILE = '<img src=x onerror="alert(1)"></script> \u202egnp.exe\nnext'
TEXT = "the cat sat on the mat . the queen of norway saw the cat"
RNG = np.random.default_rng()


def said(rng):
    while True:
        if text := " ".join(word for sentence in document(rng, "heldout") for word in sentence):
            return text


@pytest.fixture(scope="session")
def model():
    return iw.load("storyteller-4l")


@pytest.fixture(scope="session")
def dictionary():
    return iw.load_dictionary("storyteller-4l-sae")


@pytest.fixture(scope="session")
def folder(model, dictionary, tmp_path_factory):
    """A store of a few hundred documents, that nothing is written in."""
    rng = Random(0)
    texts = [said(rng) for _ in range(300)]
    path = tmp_path_factory.mktemp("features") / "store"
    iw.FeatureStore.build(path, model, dictionary, texts, ablate=False, progress=False)
    return path


@pytest.fixture
def store(folder, model, dictionary):
    """The store, with nothing said of its features."""
    (folder / "notes.jsonl").unlink(missing_ok=True)
    return iw.FeatureStore.open(folder).bind(model, dictionary)


@pytest.fixture
def unbound(folder):
    (folder / "notes.jsonl").unlink(missing_ok=True)
    return iw.FeatureStore.open(folder)


def ask(view, **key):
    """A tile as the page reads it: JSON, or numbers."""
    meta, data = view.packed(key_of(**key))
    found = unpack(meta, data)
    return json.loads(found.tobytes()) if meta.get("json") else found


def some(store, count=5):
    """Features that are active somewhere, drawn at random."""
    alive = store.query("count > 20", columns=["index"], limit=None).index
    return RNG.choice(alive, count, replace=False).tolist()


# What is shown of a feature


def test_a_record_is_what_the_store_says(store):
    view = FeatureView(store)
    for index in some(store):
        feature, record = store[index], ask(view, what="record", feature=index)
        assert record["count"] == feature.count
        assert record["density"] == pytest.approx(feature.count / store.n_tokens)
        assert record["max"] == pytest.approx(feature.max, rel=1e-7)
        edges, counts = feature.histogram
        np.testing.assert_allclose(record["histogram"]["edges"], edges, rtol=1e-7)
        assert record["histogram"]["counts"] == counts.tolist()
        assert [token for token, _ in record["top_logits"]] == [show(token) for token, _ in feature.top_logits]
        assert [other for other, _ in record["neighbours"]] == [other.index for other in feature.neighbours]
        groups = list(reversed(feature.groups))
        assert [(group["name"], group["count"]) for group in record["groups"]] == [(g.name, g.count) for g in groups]
        np.testing.assert_allclose([group["high"] for group in record["groups"]], [g.high for g in groups], rtol=1e-6)
        examples = [record["top"], *ask(view, what="weaker", feature=index)]
        for name, listed in zip(["top", *(group.name for group in groups)], examples, strict=True):
            for shown, example in zip(listed, feature.examples(name), strict=True):
                assert shown["tokens"] == list(example.tokens)
                assert shown["values"][shown["position"]] == pytest.approx(example.value, rel=1e-7)
                np.testing.assert_allclose(shown["values"], example.activations, rtol=1e-3)
        strengths = [some[0]["values"][some[0]["position"]] for some in examples if some]
        assert strengths == sorted(strengths, reverse=True)  # from the strongest to the weakest


def test_what_a_feature_reads_is_what_the_model_computes(store, model, dictionary):
    """An example's whole context, run through the model and encoded here, has the activations that are shown."""
    view = FeatureView(store)
    for index in some(store, 3):
        example = store[index].examples("top")[0]
        ids = store.context(example.context).ids
        resid = model.module(torch.tensor(ids)[None], output_hidden_states=True).hidden_states[2]
        mine = dictionary.encode(resid.detach())[0, :, index].numpy()
        mine[0] = 0  # <bos> does not count
        whole = ask(view, what="whole", context=example.context, feature=index)
        assert whole["tokens"] == list(store.context(example.context))
        np.testing.assert_allclose(whole["values"], mine, atol=1e-3)
        assert whole["values"][example.start + example.position] == pytest.approx(example.value, rel=1e-4)


def test_without_a_model_whole_contexts_are_text(unbound):
    view = FeatureView(unbound)
    assert view.facts["runs"] is False
    assert ask(view, what="whole", context=0, feature=0)["values"] is None
    with pytest.raises(InputError, match="no model to run"):
        view.tile(what="text", text=TEXT)
    with pytest.raises(InputError, match=r"store\.bind"):
        view.tile(what="outcome", text=TEXT, position=None, feature=0, how="steer", strength=1)


def test_names_are_a_label_or_where_it_peaks_and_what_it_raises(store):
    first, second, *_ = some(store)
    store.set_label(first, HOSTILE)
    found = ask(FeatureView(store), what="names", features=[first, second], written=0)
    assert [name["label"] for name in found] == [HOSTILE, None]
    for name, index in zip(found, (first, second), strict=True):
        example = store[index].examples("top")[0]
        assert name["peak"] == example.tokens[example.position]
        assert name["raises"] == show(store[index].top_logits[0][0])


def test_two_features_have_the_cosine_of_their_directions(store, unbound, dictionary):
    a, b = some(store, 2)
    w = dictionary.W_dec.detach().double().numpy()
    mine = w[a] @ w[b] / np.linalg.norm(w[a]) / np.linalg.norm(w[b])
    assert ask(FeatureView(store), what="pair", features=[a, b])["cosine"] == pytest.approx(mine)
    near = unbound[a].neighbours[0]
    pair = ask(FeatureView(unbound), what="pair", features=[near.index, a])
    assert pair["cosine"] == pytest.approx(near.value, abs=1e-3)
    far = next(
        i
        for i in range(512)
        if i not in {n.index for n in unbound[a].neighbours} and a not in {n.index for n in unbound[i].neighbours}
    )
    assert ask(FeatureView(unbound), what="pair", features=[a, far])["cosine"] is None


# The table and the map


def rows(view, filter="", sort="index"):  # noqa: A002
    """All rows of the table."""
    found, block = [], 0
    while True:
        tile = ask(view, what="rows", filter=filter, sort=sort, block=block, written=view.written)
        found += tile["rows"]
        block += 1
        if block * ROWS >= tile["total"]:
            assert len(found) == tile["total"]
            return [dict(zip(tile["columns"], row, strict=True)) for row in found]


def test_the_table_has_every_feature_in_order(store):
    view = FeatureView(store)
    found = rows(view)
    assert [row["index"] for row in found] == list(range(512))
    assert list(found[0]) == list(COLUMNS)
    for index in some(store):
        feature = store[index]
        assert found[index]["density"] == pytest.approx(feature.density, rel=1e-3)
        assert found[index]["max_activation"] == pytest.approx(feature.max, rel=1e-3)
        assert found[index]["top_token"] == show(feature.top_logits[0][0])
    densities = [row["density"] for row in rows(view, sort="density desc")]
    assert densities == sorted(densities, reverse=True)


@pytest.mark.parametrize(
    ("written", "passes"),
    [
        ("31", lambda row: row["index"] == 31),
        ("density < 0.01", lambda row: row["density"] < 0.01),
        ("density < 0.01 and max_activation > 20", lambda row: row["density"] < 0.01 and row["max_activation"] > 20),
        ("QUEEN", lambda row: "queen" in f"{row['peak_token']}{row['top_token']}{row['label']}"),
        ("␣the end of", lambda row: row["label"] == "at the end of it"),
        ("'kept' in lists", lambda row: "kept" in row["lists"]),
    ],
)
def test_a_filter_is_a_number_a_word_or_a_condition(store, written, passes):
    store.set_label(7, "at the end of it")
    store.star(9, "kept")
    view = FeatureView(store)
    everything = rows(view)
    expected = [row["index"] for row in everything if passes(row)]
    assert expected
    if written.startswith("␣"):
        assert condition_of(written).count("' the end of'") == 4
    assert [row["index"] for row in rows(view, filter=written)] == expected


def test_an_order_in_the_filter_counts(store):
    found = [
        row["max_activation"] for row in rows(FeatureView(store), "density > 0 order by max_activation", "density")
    ]
    assert found == sorted(found)
    assert len(found) > 100


def test_a_filter_that_cannot_be_read_is_answered_in_words(store, tmp_path):
    view = FeatureView(store, filter="loudness > 3")
    sent = []
    view.send = lambda content, buffers=None: sent.append(content)
    asked = [
        key_of(what="rows", filter=each, sort="index", block=0, written=0) for each in ("loudness > 3", "max <", "a'b")
    ]
    view._answer({"tiles": asked})
    first, second, third = (answer["error"] for answer in sent[0]["tiles"])
    assert "There is no column 'loudness'" in first
    assert "This condition cannot be used" in second
    assert "This condition cannot be used" in third
    assert view.save_html(tmp_path / "view.html").exists()  # the rest is there


def test_the_map_has_every_feature(store):
    x, y, depth = ask(FeatureView(store), what="map", block=0)
    table = store.table(["x", "y", "density"], count=MAP)
    np.testing.assert_allclose(x, table.columns["x"], rtol=1e-6)
    np.testing.assert_allclose(y, table.columns["y"], rtol=1e-6)
    for density, log in zip(table.columns["density"], depth, strict=True):
        assert np.isnan(log) if density == 0 else log == pytest.approx(np.log10(density), abs=1e-5)


# A text of one's own


def test_where_a_feature_fires_in_a_text(store, model, dictionary):
    view = FeatureView(store, text=TEXT)
    text = ask(view, what="text", text=TEXT)
    assert text["tokens"] == ["<bos>", *TEXT.split()]
    ids = model.tokenizer(TEXT)["input_ids"]
    resid = model.module(torch.tensor([ids]), output_hidden_states=True).hidden_states[2]
    dense = dictionary.encode(resid.detach())[0].numpy()
    dense[0] = 0
    most = dense.max(0)
    assert [row[0] for row in text["strongest"]] == np.argsort(-most)[: len(text["strongest"])].tolist()
    for feature, value, position in text["strongest"]:
        assert value == pytest.approx(most[feature], rel=1e-4)
        assert position == dense[:, feature].argmax()
        np.testing.assert_allclose(ask(view, what="along", text=TEXT, feature=feature)[0], dense[:, feature], atol=1e-3)
    at = ask(view, what="at", text=TEXT, position=6)
    assert [row[0] for row in at] == np.argsort(-dense[6])[: len(at)].tolist()


@pytest.mark.parametrize("strength", [1.5, -2])
def test_steering_adds_the_direction_everywhere(store, model, dictionary, strength):
    """Against a hook that adds it to the output of the block."""
    (feature,) = some(store, 1)
    found = ask(
        FeatureView(store), what="outcome", text=TEXT, position=4, feature=feature, how="steer", strength=strength
    )
    added = strength * store[feature].max * dictionary.W_dec[feature].detach()
    before, after = hooked(model, lambda x: x), hooked(model, lambda x: x + added)
    compare(model, found, before, after, 4)
    assert found["how"] == f"{strength * store[feature].max:.3g} × feature {feature} added"


def test_ablating_takes_away_what_lies_along_the_direction(store, model, dictionary):
    feature = ask(FeatureView(store), what="text", text=TEXT)["strongest"][0][0]
    found = ask(FeatureView(store), what="outcome", text=TEXT, position=None, feature=feature, how="ablate", strength=1)
    u = dictionary.W_dec[feature].detach()
    u = u / u.norm()
    before, after = hooked(model, lambda x: x), hooked(model, lambda x: x - (x @ u)[..., None] * u)
    compare(model, found, before, after, -1)
    assert found["kl"] > 1e-4


def hooked(model, change):
    """Probabilities [pos, vocab] of the text with the output of block 1 changed."""
    block = model.anatomy.blocks[1]
    ids = torch.tensor([model.tokenizer(TEXT)["input_ids"]])

    def hook(_, __, output):
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = block.register_forward_hook(hook)
    try:
        with torch.no_grad():
            return model.module(ids).logits[0].double().softmax(-1).numpy()
    finally:
        handle.remove()


def compare(model, found, before, after, position):
    ids = [model.tokenizer.convert_tokens_to_ids(token) for token in found["tokens"]]
    np.testing.assert_allclose(found["before"], before[position, ids], atol=1e-5)
    np.testing.assert_allclose(found["after"], after[position, ids], atol=1e-5)
    p, q = before[position], after[position]
    assert found["kl"] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-3, abs=1e-6)


def test_a_continuation_without_and_with_the_change(store, model, dictionary):
    (feature,) = some(store, 1)
    key = {"text": TEXT, "feature": feature, "how": "steer"}
    found = ask(FeatureView(store), what="continuation", **key, strength=0)
    assert found["before"] == found["after"]
    plain = iw.generate(model, TEXT, max_new_tokens=20)
    assert found["before"] == list(plain.tokens[0])
    vector = dictionary.W_dec[feature].detach()
    changed = iw.Steer("resid_post", 1, vector=vector, coefficient=3 * store[feature].max)
    steered = iw.generate(model, TEXT, interventions=changed, max_new_tokens=20)
    assert ask(FeatureView(store), what="continuation", **key, strength=3)["after"] == list(steered.tokens[0])


def test_a_text_that_is_too_long_is_answered_in_words(store, model):
    view = FeatureView(store, text="the " * 200)
    with pytest.raises(InputError, match=str(model.context)):
        view.tile(what="text", text=view.text)
    assert view.page_state(10)["_opening"]
    full = "the " * (model.context - 1)
    with pytest.raises(InputError, match="shorten it"):
        view.tile(what="continuation", text=full, feature=0, how="ablate", strength=1)


# What it reads from and writes to


def test_connections_are_virtual_weights_with_the_tokens_in_words(store, model, dictionary, unbound, tmp_path):
    """One of each kind, multiplied out."""
    (index,) = some(store, 1)
    view = FeatureView(store, feature=index, connections=True)
    found = ask(view, what="connections", feature=index)
    sides = {side: {each["kind"]: each for each in found[side]} for side in ("reads", "writes")}
    assert list(sides["reads"]) == ["token", "head", "neuron", "feature"]
    assert list(sides["writes"]) == ["head", "neuron", "logit", "feature"]
    weights = model.module.state_dict()
    e, d = (each.detach().double() for each in (dictionary.W_enc[:, index], dictionary.W_dec[index]))
    layer, number, via, weight, cosine, token = sides["reads"]["neuron"]["top"][0]
    row = weights[f"transformer.h.{layer}.mlp.c_proj.weight"][number].double()
    assert (via, token) == ("", None)
    assert (weight, cosine) == pytest.approx((float(row @ e), float(row @ e / (row.norm() * e.norm()))), rel=1e-3)
    *_, number, _, weight, _, token = sides["reads"]["token"]["top"][0]
    assert token == show(model.tokenizer.decode([number]))
    assert weight == pytest.approx(float(weights["transformer.wte.weight"][number].double() @ e), rel=1e-3)
    _, number, _, weight, _, _ = sides["writes"]["feature"]["top"][0]
    assert weight == pytest.approx(float(dictionary.W_enc[:, number].detach().double() @ d), rel=1e-3)
    with pytest.raises(InputError, match="no model to run"):
        FeatureView(unbound).tile(what="connections", feature=index)

    stored = {entry["key"] for entry in view.page_state(10)["_opening"]}
    assert key_of(what="connections", feature=index) in stored
    others = [one[1] for side in ("reads", "writes") for one in sides[side]["feature"]["top"]]
    assert key_of(what="names", features=others, written=0) in stored


def test_a_head_of_the_connections_is_selected_in_linked_views(store, model):
    view = FeatureView(store)
    attention = iw.AttentionView(iw.record(model, TEXT))
    iw.link(attention, view)
    view.layer, view.head = 3, 1
    assert (attention.layer, attention.head) == (3, 1)
    with pytest.raises(traitlets.TraitError, match="layer is a number from 0 on, or None; got -1"):
        view.layer = -1


# What is written


def say(view, **what):
    """What the page does: the last few sayings, and a new one."""
    view.set_trait("_said", [*view._said, {"id": str(len(view._said)), **what}][-8:])


def test_what_the_reader_writes_is_kept_with_the_store(store, folder):
    view = FeatureView(store, feature=5)
    say(view, feature=5, what="label", text=f"  {HOSTILE} ")
    say(view, feature=5, what="note", text="see also 97")
    say(view, feature=5, what="list", list="starred", on=True)
    say(view, feature=6, what="list", list="odd", on=True)
    say(view, feature=6, what="list", list="odd", on=False)
    assert view.written == 5
    again = iw.FeatureStore.open(folder)
    assert again.label_of(5).text == HOSTILE.strip()
    assert again.label_of(5).by == "hand"
    assert (again.note_of(5), again.lists) == ("see also 97", {"starred": [5]})
    shown = ask(view, what="said", feature=5, written=view.written)
    assert shown == {"label": HOSTILE.strip(), "score": None, "low": None, "high": None, "by": "hand",
                     "note": "see also 97", "lists": ["starred"]}  # fmt: skip
    assert ask(view, what="lists", written=view.written) == {"starred": [5]}
    assert rows(view, filter="5")[0]["label"] == HOSTILE.strip()
    say(view, feature=5, what="label", text=" ")
    assert store.label_of(5) is None


def test_what_was_said_is_taken_down_once(store):
    view = FeatureView(store)
    view._said = [{"id": "a", "feature": 3, "what": "list", "list": "starred", "on": True}]
    store.star(3, on=False)
    view._said = [*view._said, {"id": "b", "feature": 4, "what": "list", "list": "starred", "on": True}]
    assert store.lists == {"starred": [4]}
    assert "_said" not in view.state()


def test_what_cannot_be_written_is_said(store, monkeypatch):
    view = FeatureView(store)

    def refuse(*_, **__):
        raise InputError("The folder cannot be written in.")

    monkeypatch.setattr(store, "note", refuse)
    say(view, feature=1, what="note", text="x")
    assert (view.error, view.written) == ("The folder cannot be written in.", 0)
    say(view, feature=1, what="list", list="starred", on=True)
    assert (view.error, view.written) == ("", 1)


# State, refusals, and what is seen without a page


def test_what_is_no_store_or_no_feature_is_refused(store, model, dictionary):
    with pytest.raises(InputError, match=r"FeatureStore\.open\(folder\).*got str"):
        FeatureView("features/")
    with pytest.raises(InputError, match="needs both"):
        FeatureView(store, model=model)
    with pytest.raises(InputError, match="not the dictionary"):
        FeatureView(
            store, model=model, dictionary=iw.load_dictionary("storyteller-4l-sae", which="resid_post.1.jumprelu")
        )
    with pytest.raises(traitlets.TraitError, match="feature 512 does not exist: this store has features 0 to 511"):
        FeatureView(store, feature=512)
    view = FeatureView(store)
    for name, value, words in (
        ("compare", -1, "compare -1 does not exist"),
        ("sort_by", "loudness desc", "sort_by is a column, and perhaps desc; got 'loudness desc'"),
        ("sort_by", "density; drop", "There are: index, density"),
        ("example", [1, 2], r"example is \[feature, group, example, token\]"),
        ("intervention", "destroy", "steer"),
    ):
        with pytest.raises(traitlets.TraitError, match=words):
            setattr(view, name, value)
    with pytest.raises(TypeError, match="no setting 'colour'"):
        FeatureView(store, colour="red")
    with pytest.raises(KeyError, match="no tile is called 'nothing'"):
        view.tile(what="nothing")


def test_state_comes_back(store):
    a, b = some(store, 2)
    view = FeatureView(store, feature=a, compare=b, filter="density < 0.1", sort_by="density desc", text=TEXT)
    view.example, view.position, view.intervention, view.strength = [a, 0, 1, 5], 3, "steer", -0.5
    again = FeatureView.from_state(view.state(), store)
    assert again.state() == view.state()
    for name in view.settings():
        assert getattr(again, name) == getattr(view, name)


def test_another_store_is_shown(store, unbound):
    view = FeatureView(store, feature=9)
    store.set_label(9, "said by another")
    before = view._version
    view.show(store)
    assert view._version == before + 1
    assert ask(view, what="said", feature=9, written=view.written)["label"] == "said by another"
    view.show(unbound)
    assert (view.feature, view.facts["runs"]) == (9, False)


def test_linked_views_go_to_the_same_feature(store, unbound):
    a, b = FeatureView(store), FeatureView(unbound)
    iw.link(a, b)
    a.feature = 77
    assert b.feature == 77
    assert {"feature", "position"} <= set(a.roles)


def test_the_first_screen_comes_along(store):
    view = FeatureView(store, feature=400)
    came = [json.loads(entry["key"]) for entry in view._opening]
    assert {"what": "record", "feature": 400} in came
    around = [key["block"] * ROWS for key in came if key["what"] == "rows"]
    assert min(around) <= 400 - 14
    assert max(around) + ROWS > 400 + 20
    assert sum(len(entry["data"]) for entry in view._opening) < 100_000


def test_a_page_holds_the_feature_and_those_near(store, tmp_path):
    (a,) = some(store, 1)
    store.set_label(a, HOSTILE)
    view = FeatureView(store, feature=a, whole=True, text=TEXT, intervention="steer")
    stored = [json.loads(entry["key"]) for entry in view.page_state(10)["_opening"]]
    records, weaker = ({key["feature"] for key in stored if key["what"] == what} for what in ("record", "weaker"))
    assert records == weaker
    assert {a, *(near.index for near in store[a].neighbours)} <= records
    whole = {key["context"] for key in stored if key["what"] == "whole"}
    assert {example.context for example in store[a].examples("top")} <= whole
    (outcome,) = (entry["key"] for entry in view.page_state(10)["_opening"] if '"outcome"' in entry["key"])
    assert outcome.endswith('"strength":1}')  # as the page writes it
    page = view.save_html(tmp_path / "view.html").read_text("utf-8")
    assert HOSTILE not in page
    for path in (view.save_png(tmp_path / "view.png"), view.save_svg(tmp_path / "view.svg")):
        assert path.stat().st_size > 5000
    assert "<img" not in (tmp_path / "view.svg").read_text("utf-8")


def test_the_table_is_a_dataframe_as_filtered_and_sorted(store):
    pytest.importorskip("pandas")
    features = [store[index] for index in range(len(store))]
    floor = float(np.median([feature.density for feature in features]))
    kept = sorted((f for f in features if f.density > floor), key=lambda f: -f.max)
    (a,) = RNG.choice([feature.index for feature in kept], 1).tolist()
    store.set_label(a, "a label", score=0.8)
    view = FeatureView(store, filter=f"density > {floor}", sort_by="max_activation desc")
    found = view.to_pandas(limit=None)
    assert found["max_activation"].tolist() == [feature.max for feature in kept]
    assert set(found["feature"]) == {feature.index for feature in kept}
    for row in found.itertuples():
        feature = features[row.feature]
        assert (row.density, row.top_token) == (pytest.approx(feature.density), show(feature.top_logits[0][0]))
    assert found.set_index("feature").loc[a, ["label", "score"]].tolist() == ["a label", 0.8]
    few = view.to_pandas(limit=3)
    assert few["feature"].tolist() == found["feature"].tolist()[:3]
    rows = store.query("density > 0.001", limit=5).to_pandas()
    assert (rows.index.name, rows.index.tolist()) == ("feature", rows["index"].tolist())


def test_in_words(store):
    (a,) = some(store, 1)
    store.set_label(a, "a label", score=0.8, low=0.7, high=0.9)
    view = FeatureView(store, feature=a)
    assert repr(view) == f"FeatureView(512 features over {store.n_tokens:,} tokens)"
    assert view.describe().startswith(f"Feature {a} (a label) of 512: active at {store[a].count:,} of ")
    headings, table = view.table()
    assert headings == ["group", "activation", "tokens"]
    assert [row[0] for row in table[:5]] == ["top"] * 5
    assert float(table[0][1]) == pytest.approx(store[a].max, rel=1e-3)
    assert f"{table[0][2]}" in str(view)
    assert view.selection.index == a


def test_a_feature_that_is_never_active_has_a_picture(model, dictionary, tmp_path):
    few = iw.FeatureStore.build(tmp_path / "few", model, dictionary, [TEXT, said(Random(1))], progress=False)
    dead = few.query("count = 0", columns=["index"], limit=1).index
    view = FeatureView(few, feature=int(dead[0]), compare=int(few.query("count = 1", limit=1).index[0]))
    record = ask(view, what="record", feature=view.feature)
    assert (record["count"], record["max"], record["histogram"]["counts"]) == (0, 0, [])
    assert "active at 0 of" in view.describe()
    assert view.table()[1] == []
    assert view.picture().png()
    found = ask(view, what="outcome", text=TEXT, position=None, feature=view.feature, how="steer", strength=1)
    assert found["how"] == f"1 × feature {view.feature} added"
