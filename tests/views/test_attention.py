"""The attention view in Python: its traits, what it answers, and how it refuses."""

import json

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views import AttentionView, Edge, attention_tiles
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
WORDS = ["the", " cat", " sat", " the", " cat"]


@pytest.fixture
def weights():
    return oracles.pattern(RNG, 2, 3, 5, 5, causal=True)


@pytest.fixture
def view(weights):
    return AttentionView(weights, tokens=WORDS)


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def test_the_selection_is_the_exact_weight(view, weights):
    assert view.selection is None
    view.query = 3
    assert view.selection is None
    view.layer, view.head, view.key = 1, 2, 1
    assert view.selection == Edge(1, 2, 3, 1, float(weights[1, 2, 3, 1]))
    view.aggregate = "mean"
    assert view.selection.weight == pytest.approx(weights[1, :, 3, 1].astype(float).mean(), rel=1e-6)
    view.aggregate = "max"
    assert view.selection.weight == weights[1, :, 3, 1].max()
    view.key = None
    assert view.selection is None


def test_the_selection_of_a_difference(weights):
    other = oracles.pattern(RNG, 2, 3, 5, 5, causal=True)
    view = AttentionView(weights, other, compare=1, difference=True, layer=1, head=1, query=4, key=2)
    assert view.selection.weight == pytest.approx(float(weights[1, 1, 4, 2]) - float(other[1, 1, 4, 2]), abs=1e-6)
    view.difference = False
    assert view.selection.weight == weights[1, 1, 4, 2]


def test_every_trait_can_be_observed_and_set(view):
    seen = []
    view.observe(lambda change: seen.append((change.name, change.new)), ["layer", "head", "query", "key"])
    view.layer, view.head, view.query, view.key = 1, 2, 4, 0
    assert seen == [("layer", 1), ("head", 2), ("query", 4), ("key", 0)]
    for name in AttentionView.settings():
        assert name in view.keys, f"{name} does not travel"


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("layer", 2, "layer 2 does not exist: this view has layer 0 to 1"),
        ("layer", -1, "layer -1 does not exist"),
        ("head", 3, "head 3 does not exist: this view has head 0 to 2"),
        ("query", 5, "query 5 does not exist: this view has query 0 to 4"),
        ("key", -1, "key -1 does not exist"),
        ("prompt", 1, "prompt 1 does not exist: this view has prompt 0 to 0"),
        ("compare", 1, "compare 1 does not exist"),
        ("sort_by", "indution", "No score is called 'indution'. There are: previous token, induction"),
        ("colour_range", [0.5], r"\[low, high\], low below high, or empty; got \[0.5\]"),
        ("colour_range", [0.5, 0.5], "low below high"),
        ("colour_range", [0.0, float("nan")], "low below high"),
        ("viewport", [0, 4, 3, 2], r"first query, last query, first key, last key"),
        ("region", [0, 4, 3], r"first query, last query, first key, last key"),
        ("region", [4, 4, 0, 2], "each first below its second"),
        ("aggregate", "median", "aggregate"),
        ("scale", "cubic", "scale"),
    ],
)
def test_a_setting_out_of_range_is_refused_and_the_old_one_kept(view, weights, setting, value, says):
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    assert getattr(view, setting) == before
    with pytest.raises(traitlets.TraitError, match=says):
        AttentionView(weights, **{setting: value})


def test_numpys_integers_select(view, weights):
    layer, head = divmod(weights[..., 4, 0].argmax(), weights.shape[1])
    view.layer, view.head, view.query, view.key = layer, head, np.int64(4), np.int32(0)
    assert view.selection.weight == weights[..., 4, 0].max()
    assert all(type(value) is int for value in (view.layer, view.head, view.query, view.key))


def test_a_head_that_one_model_lacks_is_named():
    small, large = (oracles.pattern(RNG, *size, 5, 5, causal=True) for size in ((1, 2), (2, 3)))
    view = AttentionView(large, small, names=["large", "small"], compare=1)
    for lacking in ({"layer": 1, "head": 0}, {"layer": 0, "head": 2}):
        with pytest.raises(InputError, match=r"small has no layer .* 1 layers × 2 heads"):
            view.tile(what="rows", prompt=1, minus=-1, **lacking, band=0)
        view.tile(what="rows", prompt=0, minus=-1, **lacking, band=0)


def test_another_prompt_keeps_what_exists_there(weights):
    short = oracles.pattern(RNG, 1, 2, 3, 3)
    view = AttentionView(weights, short, layer=1, head=2, query=4, key=1)
    view.prompt = 1
    assert (view.layer, view.head, view.query, view.key) == (0, 0, None, 1)
    assert view.selection is None
    view.query = 2
    assert view.selection.weight == short[0, 0, 2, 1]
    direct = AttentionView(short, weights, prompt=1, layer=1, head=2, query=4)
    assert (direct.layer, direct.head, direct.query) == (1, 2, 4)


def test_prompt_and_place_may_come_in_one_message(weights):
    """A page that goes to another prompt sends its new selection along."""
    view = AttentionView(oracles.pattern(RNG, 1, 2, 3, 3), weights)
    view.set_state({"prompt": 1, "layer": 1, "head": 2, "query": 4, "key": 4})
    assert (view.prompt, view.layer, view.head, view.query, view.key) == (1, 1, 2, 4, 4)


@pytest.mark.parametrize("axes", ["self", "cross"])
def test_tiles_hold_the_weights(axes):
    causal = axes == "self"
    size, n_keys = (300, 300) if causal else (70, 1100)
    weights = oracles.pattern(RNG, 2, 2, size, n_keys, causal)
    view = AttentionView(weights)
    facts = view.prompts[0]
    assert facts["shape"] == [2, 2, size, n_keys]
    assert facts["causal"] == facts["same"] == causal
    where = {"prompt": 0, "minus": -1, "layer": 1, "head": 0}
    for what, band, pattern in (("rows", "rows", weights[1, 0]), ("columns", "columns", weights[1, 0].T)):
        per = facts[band]
        tiles = [ask(view, what=what, **where, band=i) for i in range(-(-len(pattern) // per))]
        assert all(tile.nbytes <= 1 << 20 for tile in tiles)
        np.testing.assert_array_equal(np.concatenate(tiles), pattern)


@given(count=st.integers(1, 2500), data=st.data())
@settings(deadline=None, max_examples=10)
def test_tokens_travel_as_they_are_shown(count, data):
    words = tuple(data.draw(st.lists(st.text(max_size=4) | st.binary(min_size=1, max_size=2), max_size=30)) * count)
    words = (words or ("a",))[:count]
    ids, special = np.arange(len(words)) * 7, np.arange(len(words)) % 5 == 0
    source = oracles.Given(np.zeros((1, 1, len(words), 1), np.float32), Tokens(words, ids, special))
    tiles = attention_tiles.AttentionTiles([source], ["x"], {}, factor=None)
    got = {"text": [], "ids": [], "special": []}
    for chunk in range(-(-len(words) // attention_tiles.CHUNK)):
        part = json.loads(bytes(unpack(*tiles.tile("tokens", 0, axis="query", chunk=chunk).pack())))
        got["special"] += [len(got["text"]) + i for i in part["special"]]
        got["text"] += part["text"]
        got["ids"] += part["ids"]
    assert got["text"] == list(Tokens(words))
    assert got["ids"] == ids.tolist()
    assert got["special"] == np.flatnonzero(special).tolist()


def test_scores_of_the_user_and_of_templates(weights):
    mine = RNG.random((2, 3))
    view = AttentionView(weights, tokens=WORDS, scores={"mine": mine, "préfix": torch.tensor(mine)}, sort_by="mine")
    assert view.score_names[:2] == ["mine", "préfix"]
    assert "induction" in view.score_names
    where = {"what": "scores", "prompt": 0, "minus": -1}
    for name in ("mine", "préfix"):
        np.testing.assert_array_equal(ask(view, **where, name=name), mine.astype(np.float32))
    own = ask(view, **where, name="self")
    np.testing.assert_allclose(own, np.diagonal(weights, axis1=2, axis2=3).mean(axis=-1), rtol=1e-5)
    painted = ask(view, **where, name="region", region=[1, 3, 0, 2])
    np.testing.assert_allclose(painted, weights[:, :, 1:3, :2].sum(axis=-1).mean(axis=-1), rtol=1e-5)
    view.sort_by = "region"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scores": {"mine": np.zeros(3)}}, r"'mine' must be \[layer, head\] = \[2, 3\]; got shape \[3\]"),
        ({"scores": {"mine": np.full((2, 3), np.nan)}}, "'mine'.*NaN|'mine'.*nan"),
        ({"scores": {"mine": [["a"] * 3] * 2}}, "'mine'"),
        ({"labels": {(2, 0): "x"}}, r"2 layers × 3 heads; got \(2, 0\)"),
        ({"labels": {(0, -1): "x"}}, r"got \(0, -1\)"),
        ({"labels": {3: "x"}}, "got 3"),
        ({"labels": {("a", "b"): "x"}}, r"got \('a', 'b'\)"),
        ({"labels": {(0.5, 1): "x"}}, r"got \(0\.5, 1\)"),
        ({"names": ["a", "b"]}, "1 prompts need 1 names; got 2"),
    ],
)
def test_labels_scores_and_names_that_do_not_fit(weights, options, says):
    with pytest.raises(InputError, match=says):
        AttentionView(weights, **options)


def test_labels_may_be_numpys_numbers_and_travel_as_json(weights):
    view = AttentionView(weights, labels={tuple(place): "first" for place in np.argwhere(np.eye(2, 3) > 0)})
    assert json.loads(json.dumps(view.labels)) == [[0, 0, "first"], [1, 1, "first"]]


def test_several_prompts_have_names_that_differ(weights):
    view = AttentionView(weights, weights, tokens=[WORDS, list("abcde")])
    names = [prompt["name"] for prompt in view.prompts]
    assert len(set(names)) == 2
    named = AttentionView(weights, weights, names=["clean", "corrupted"])
    assert [prompt["name"] for prompt in named.prompts] == ["clean", "corrupted"]
    with pytest.raises(InputError, match="2 sources need 2 lists of tokens; got 3"):
        AttentionView(weights, weights, tokens=[WORDS, WORDS, WORDS])


def test_nothing_to_show():
    with pytest.raises(InputError, match="needs attention to show"):
        AttentionView()


def test_the_repr_is_one_line_that_never_changes(weights):
    assert repr(AttentionView(weights)) == repr(AttentionView(weights)) == "AttentionView(2 layers × 3 heads, 5 tokens)"
    several = AttentionView(weights, weights[:, :, 3:], tokens=None)
    assert repr(several) == "AttentionView(2 prompts, 2 layers × 3 heads, 5 tokens)"
    several.prompt = 1
    assert repr(several) == "AttentionView(2 prompts, 2 layers × 3 heads, 2 queries, 5 keys)"


def test_bad_tiles_are_answered_in_words(view):
    sent = []
    view.send = lambda content, buffers=None: sent.append(content)
    where = {"prompt": 0, "minus": -1, "layer": 0}
    bad = [
        key_of(what="image", **where, head=0, pooling="max", level=0, row=9, column=0),
        key_of(what="rows", **where, head="median", band=0),
        key_of(what="rows", prompt=0, minus=-1, layer=7, head=0, band=0),
        key_of(what="rows", prompt=3, minus=-1, layer=0, head=0, band=0),
        key_of(what="scores", prompt=0, minus=-1, name="region", region=[]),
        key_of(what="scores", prompt=0, minus=-1, name="unheard of"),
        key_of(what="nothing", prompt=0),
        key_of(),
    ]
    view._answer({"tiles": bad})
    for answer in sent[0]["tiles"]:
        assert "error" in answer, answer["key"]


def test_a_recording_stand_in_and_the_real_thing():
    sources = [oracles.Given(oracles.pattern(RNG, 1, 1, n, n, True), causal=True) for n in (3, 4)]
    assert repr(AttentionView(oracles.Recorded(*sources))) == "AttentionView(2 prompts, 1 layers × 1 heads, 3 tokens)"
    model = iw.load("induction-2l")
    recording = iw.record(model, "the cat sat on the mat . the cat sat")
    view = AttentionView(recording)
    shape = view.prompts[0]["shape"]
    source = recording.attention(0)
    for layer, head in np.ndindex(*shape[:2]):
        rows = ask(view, what="rows", prompt=0, minus=-1, layer=layer, head=head, band=0)
        np.testing.assert_array_equal(rows, source.block(layer, head, np.arange(shape[2]), slice(0, shape[3])))
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


# A recording knows more than its weights ------------------------------------------------------------------------------

PROMPT = "lion bread clock river lion bread clock"


@pytest.fixture(scope="module")
def rec():
    return iw.record(iw.load("induction-2l"), PROMPT)


def block(view, layer, head, weigh=""):
    source = view._tiles.source(0, -1, head, weigh)
    return source.block(layer, head, np.arange(source.shape[2]), slice(0, source.shape[3]))


def test_weights_are_shown_times_what_they_carry(rec):
    view = AttentionView(rec)
    model, plain = rec.model, block(view, 1, 2)
    own = iw.record(model, PROMPT, sites=["v"])
    writes = own["v", 1][0, :, 2].detach().double() @ model.anatomy.w_o(1)[2].detach().double()  # [key, d_model]
    np.testing.assert_allclose(block(view, 1, 2, "value"), plain * writes.norm(dim=-1).numpy(), rtol=1e-4, atol=1e-6)
    token = rec.tokens[0][3]
    split = iw.direct_logit_attribution(model, PROMPT, iw.logit(int(rec.tokens[0].ids[3])))
    for layer, head in ((0, 1), (1, 2)):
        total = block(view, layer, head, f"logit {token}")[-1].sum()
        assert total == pytest.approx(split.heads[0, layer, head], rel=1e-3, abs=1e-4)


def test_what_is_added_to_a_logit_is_signed_and_says_so(rec):
    view = AttentionView(rec, weigh="logit", token="lion")
    assert view.signed
    assert view.weighing == "logit lion"
    assert "added to the logit of lion" in view.describe()
    atlas = view.tile(what="atlas", prompt=0, minus=-1, weigh="logit lion", pooling="max")
    assert atlas.array.dtype == np.int8
    assert view.selection is None
    view.query, view.key = 6, 2
    assert view.selection.weight == pytest.approx(float(block(view, 0, 0, "logit lion")[6, 2]))
    opened = {json.loads(entry["key"])["what"]: json.loads(entry["key"]) for entry in view._opening}
    assert opened["atlas"] == {"what": "atlas", "prompt": 0, "minus": -1, "weigh": "logit lion", "pooling": "max"}
    assert view.picture().png()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"what": "atlas", "weigh": "value", "minus": -1, "pooling": "max"}, "Only a recording knows its model"),
        ({"what": "ablate", "layer": 0, "head": 0, "kind": "zero", "position": 2}, "Only a recording knows its model"),
    ],
)
def test_an_array_cannot_tell_what_it_carries(view, key, said):
    with pytest.raises(InputError, match=said):
        view.tile(prompt=0, **key)


def test_what_cannot_be_weighed_is_said(rec):
    view = AttentionView(rec)
    with pytest.raises(InputError, match="A rollout multiplies patterns alone"):
        view.tile(what="rows", prompt=0, weigh="value", layer=0, head="rollout", band=0)
    with pytest.raises(InputError, match="zebrafish"):
        view.tile(what="rows", prompt=0, weigh="logit zebrafish", layer=0, head=0, band=0)


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_a_head_is_taken_out_and_the_next_token_told(rec, kind):
    view = AttentionView(rec, ablate=kind)
    tile = view.tile(what="ablate", prompt=0, layer=1, head=2, kind=kind, position=5)
    told = json.loads(tile.array.tobytes())
    expected = iw.outcome(rec.model, PROMPT, iw.Ablate("z", 1, head=2, kind=kind), pos=5)
    assert told == json.loads(json.dumps(expected.to_json()))
    key = key_of(what="ablate", prompt=0, layer=1, head=2, kind=kind, position=5)
    view.packed(key)
    assert next(iter(view.stored_keys())) == key  # what was tried goes into a saved page first


def test_other_attention_in_the_same_view(rec):
    view = AttentionView(rec, layer=1, head=2, query=7, key=3)
    short = iw.record(rec.model, "lion bread clock")
    view.show(short)
    assert (view.layer, view.head, view.query, view.key) == (1, 2, None, 3)
    assert view.prompts[0]["shape"][2] == len(short.tokens[0])
    assert view._version == 1
    np.testing.assert_allclose(block(view, 1, 2), short.pattern(layer=1, head=2).numpy(), atol=1e-6)
    before = view.prompts
    with pytest.raises(InputError, match=r"\[layer, head, query, key\]"):
        view.show(np.ones((2, 2)))
    assert view.prompts == before
    assert view._version == 1


def test_a_view_of_two_prompts_is_given_two(rec):
    view = AttentionView(rec, iw.record(rec.model, "lion bread"), prompt=1)
    with pytest.raises(InputError, match="shows prompt 1; got 1 to show"):
        view.show(rec)
