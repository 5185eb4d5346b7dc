"""Next tokens against a loop in float64, on random logits and on trained models; and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views import TopTokensView
from interpwidgets.views.palette import lut
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
PROMPT = "the cat sat on the mat . the cat sat"


def ask(view, **key):
    meta, data = view.packed(key_of(**key))
    array = unpack(meta, data)
    return json.loads(bytes(array)) if meta.get("json") else array


def numbers(view, prompt=0):
    facts = view.prompts[prompt]
    blocks = range(-(-facts["size"] // facts["block"]))
    return np.concatenate([ask(view, what="numbers", prompt=prompt, block=block) for block in blocks], axis=1)


def tops(view, prompt=0):
    """By run, ids and probabilities of every position."""
    facts = view.prompts[prompt]
    blocks = range(-(-facts["size"] // facts["block"]))
    tiles = [ask(view, what="top", prompt=prompt, block=block) for block in blocks]
    return [
        (np.concatenate([tile[run]["ids"] for tile in tiles]), np.concatenate([tile[run]["p"] for tile in tiles]))
        for run in range(len(view.runs))
    ]


def oracle(logits, ids):
    """Surprise, rank, probability and entropy at each position, one token at a time; and the probabilities."""
    found, all_p = [], []
    for i, row in enumerate(np.asarray(logits, dtype=np.float64)):
        top = max(row)
        total = sum(math.exp(x - top) for x in row)
        p = [math.exp(x - top) / total for x in row]
        entropy = -sum(x * math.log2(x) for x in p if x > 0)
        if i + 1 < len(ids):
            came = p[ids[i + 1]]
            found.append([-math.log2(came), sum(x > row[ids[i + 1]] for x in row), came, entropy])
        else:
            found.append([math.nan, math.nan, math.nan, entropy])
        all_p.append(p)
    return np.array(found).T, np.array(all_p)


@given(size=st.integers(1, 40), vocab=st.integers(2, 30), seed=st.integers(0, 2**32 - 1), k=st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_every_number_is_that_of_a_loop(size, vocab, seed, k):
    rng = np.random.default_rng(seed)
    logits, other = (rng.normal(size=(size, vocab)) * 3 for _ in range(2))
    ids = rng.integers(vocab, size=size)
    view = TopTokensView(logits.astype(np.float32), compare=torch.tensor(other), tokens=ids, k=k)
    found = numbers(view)
    (own, p), (theirs, q) = (oracle(part.astype(np.float32), ids) for part in (logits, other))
    np.testing.assert_allclose(found[:4], own, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found[4:8], theirs, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found[8], (p * np.log2(p / q)).sum(axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[9], theirs[0] - own[0], rtol=1e-3, atol=1e-4)
    for (top, shown), all_p in zip(tops(view), (p, q), strict=True):
        assert top.shape == (size, min(k, vocab))
        for i in range(size):
            np.testing.assert_array_equal(top[i], sorted(range(vocab), key=lambda j: -all_p[i][j])[: top.shape[1]])
            np.testing.assert_allclose(shown[i], np.sort(all_p[i])[::-1][: top.shape[1]], rtol=2e-3, atol=1e-7)


def test_log_probabilities_say_the_same_as_logits_and_half_precision_is_read():
    logits = torch.tensor(RNG.normal(size=(9, 20)))
    ids = RNG.integers(20, size=9)
    a, b = TopTokensView(logits, tokens=ids), TopTokensView(logits.log_softmax(-1), tokens=ids)
    np.testing.assert_allclose(numbers(a), numbers(b), rtol=1e-4, atol=1e-5)
    half = TopTokensView(logits.bfloat16(), tokens=torch.tensor(ids))
    np.testing.assert_allclose(numbers(half), oracle(logits.bfloat16().double(), ids)[0], rtol=1e-3, atol=1e-4)


def test_tokens_that_are_ruled_out_have_no_probability():
    logits = RNG.normal(size=(3, 5))
    logits[1, 2] = -np.inf
    view = TopTokensView(logits, tokens=[0, 1, 2], compare=np.zeros((3, 5)))
    found = numbers(view)
    assert found[0, 1] == np.inf  # the token that came was ruled out
    assert found[2, 1] == 0
    assert np.isfinite(found[[3, 7, 8]]).all()
    ((top, p), _) = tops(view)
    assert p[1][list(top[1]).index(2)] == 0
    other = TopTokensView(np.zeros((3, 5)), tokens=[0, 1, 2], compare=logits)
    assert numbers(other)[8, 1] == np.inf  # KL to what rules out what is possible


def test_a_trained_model_by_its_logits_by_its_stream_and_run_again():
    model = iw.load("induction-2l")
    prompts = [PROMPT, "a dog . a dog"]
    forms = [
        iw.record(model, prompts, sites=["logits"]),
        iw.record(model, prompts, sites=["resid_post"]),
        iw.record(model, prompts, sites=["q"]),
    ]
    logits = iw.record(model, prompts, sites=["logits"])
    for rec in forms:
        view = TopTokensView(rec)
        for prompt, tokens in enumerate(rec.tokens):
            truth = logits["logits"][prompt, : len(tokens)].double()
            np.testing.assert_allclose(numbers(view, prompt), oracle(truth, tokens.ids)[0], rtol=2e-3, atol=2e-3)
    found = view.prediction
    assert found.position == len(rec.tokens[0]) - 1
    assert found.came is None
    assert math.isnan(found.surprise)
    view.position = 8
    found = view.prediction
    log_p = logits["logits"][0, 8].double().log_softmax(-1)
    assert found.came == rec.tokens[0].text[9]
    assert found.surprise == pytest.approx(-float(log_p[rec.tokens[0].ids[9]]) / math.log(2), abs=1e-3)
    best = int(log_p.argmax())
    assert found.top[0][0] == model.tokens([best]).text[0]
    assert found.top[0][1] == pytest.approx(float(log_p.exp().max()), abs=1e-4)


def test_under_an_intervention_in_another_model_and_as_another_recording():
    model = iw.load("induction-2l")
    rec = iw.record(model, PROMPT)
    ids = rec.tokens[0].ids
    ablate = iw.Ablate("z", layer=1)
    changed = iw.run(model, PROMPT, ablate, sites=["logits"])
    expected = oracle(changed["logits"][0], ids)[0]
    for compare in (ablate, [ablate], changed, changed["logits"][0]):
        view = TopTokensView(rec, compare=compare)
        np.testing.assert_allclose(numbers(view)[4:8], expected, rtol=2e-3, atol=2e-3)
        assert len(view.runs) == 2
    same = TopTokensView(rec, compare=model)
    assert same.runs == ["first", "second"]
    np.testing.assert_allclose(numbers(same)[8:, :-1], 0, atol=1e-4)


def test_what_was_compared_with_is_run_again_on_another_prompt():
    model = iw.load("induction-2l")
    ablate = iw.Ablate("z", layer=1)
    view = TopTokensView(iw.record(model, PROMPT), compare=ablate, names=["own", "ablated"], position=9, colour="kl")
    rec = iw.record(model, "a dog . a dog")
    view.show(rec)
    assert view.runs == ["own", "ablated"]
    assert view.colour == "kl"
    assert view.position is None
    changed = iw.run(model, "a dog . a dog", ablate, sites=["logits"])
    np.testing.assert_allclose(
        numbers(view)[4:8], oracle(changed["logits"][0], rec.tokens[0].ids)[0], rtol=2e-3, atol=2e-3
    )
    view.show(np.zeros((3, 4)), tokens=[1, 2, 3], compare=np.ones((3, 4)))
    assert view.runs == ["model", "other"]
    assert numbers(view).shape == (10, 3)
    plain = TopTokensView(rec, colour="entropy")
    plain.show(iw.record(model, PROMPT))
    assert (plain.runs, plain.colour) == ([rec.name], "entropy")


class Reader:
    """As much of a tokenizer as is asked for."""

    def decode(self, ids):
        return f" w{ids[0]}"


@pytest.mark.parametrize(
    ("decode", "shown"), [(Reader(), "␣w3"), (lambda ids: [f"<{i}>" for i in ids], "<3>"), (None, "#3")]
)
def test_tokens_are_called_by_what_reads_them(decode, shown):
    view = TopTokensView(np.eye(5) * 9, tokens=[1, 3, 0, 2, 4], decode=decode)
    assert ask(view, what="tokens", prompt=0, chunk=0)["text"][1] == shown
    assert ask(view, what="top", prompt=0, block=0)[0]["tokens"][3][0] == shown


def test_only_a_block_is_read_at_a_time():
    read = []
    size, vocab = 200, 50_000

    class Logits:
        sites = ("logits",)
        positions = model = None
        name = "huge"
        tokens = [Tokens(("a",) * size, np.arange(size))]  # noqa: RUF012

        def __len__(self):
            return 1

        def __getitem__(self, key):
            return self

    class Rows(Logits):
        def __getitem__(self, key):
            if isinstance(key, slice):
                read.append(key)
                return RNG.normal(size=(len(range(size)[key]), vocab)).astype(np.float32)
            return self

    view = TopTokensView(Rows(), position=0)
    assert sum(len(range(size)[rows]) for rows in read) <= 100
    assert all(len(entry["data"]) < 1 << 20 for entry in view._opening)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (np.zeros((3, 4)), {}, r"tokens=…, the ids of the prompt, and decode="),
        (np.zeros((1, 3, 4)), {"tokens": [0, 1, 2]}, r"got shape \[1, 3, 4\]. Choose one prompt: logits\[0\]"),
        (np.zeros((3, 4)), {"tokens": [0, 1]}, r"logits must be \[pos, vocab\] with pos = 2"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 4]}, "ids up to 4; the logits are of 4 tokens"),
        (np.zeros((3, 4)), {"tokens": ["a", "b", "c"]}, "are ids, which say where.*got strings"),
        (np.zeros((3, 4)), {"tokens": Tokens(("a", "b", "c"))}, "These tokens have no ids"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 2], "decode": 7}, "decode is a tokenizer or a function"),
        (np.full((3, 4), np.nan), {"tokens": [0, 1, 2]}, "logits must be finite numbers; at pos 0"),
        (np.full((3, 4), -np.inf), {"tokens": [0, 1, 2]}, "rule out every token at position 0"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 2], "k": 0}, "1 or more; got 0"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 2], "names": ["a", "b"]}, "1 runs need 1 names; got 2"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 2], "compare": np.zeros((2, 4))}, r"compare must be \[pos, vocab\]"),
        (np.zeros((3, 4)), {"tokens": [0, 1, 2], "compare": np.zeros((3, 5))}, "one vocabulary; here are 4 and 5"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_words(data, options, says):
    with pytest.raises(InputError, match=says):
        TopTokensView(data, **options)


def test_recordings_that_cannot_predict_are_refused():
    model = iw.load("induction-2l")
    rec = iw.record(model, PROMPT)
    with pytest.raises(InputError, match="leave tokens= and decode= out"):
        TopTokensView(rec, tokens=[1])
    with pytest.raises(InputError, match="some positions only"):
        TopTokensView(iw.record(model, PROMPT, positions=-1))
    with pytest.raises(InputError, match="for the same tokens"):
        TopTokensView(rec, compare=iw.record(model, "the cat sat on the mat . the cat ran"))
    with pytest.raises(InputError, match="1 prompts are compared with 2"):
        TopTokensView(rec, compare=iw.record(model, [PROMPT, PROMPT]))
    with pytest.raises(InputError, match="does not know its model"):
        TopTokensView(iw.Recording.of({("resid_post", 0): torch.zeros(1, 3, 4)}, Tokens(("a",) * 3, np.arange(3))))
    with pytest.raises(InputError, match="needs the model it is in"):
        TopTokensView(np.zeros((3, 4)), tokens=[0, 1, 2], compare=iw.Ablate("z", layer=0))


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("position", 3, "position 3 does not exist: this text has position 0 to 2"),
        ("prompt", 1, "prompt 1 does not exist: there is prompt 0 to 0"),
        ("colour", "kl", "'kl' needs a second run: give compare="),
        ("colour", "loss", "colour"),
        ("colour_range", [1, 0], r"\[low, high\], low below high"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, says):
    view = TopTokensView(np.zeros((3, 4)), tokens=[0, 1, 2])
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    with pytest.raises(traitlets.TraitError, match=says):
        TopTokensView(np.zeros((3, 4)), tokens=[0, 1, 2], **{setting: value})


def test_table_still_state_and_page(tmp_path):
    logits = RNG.normal(size=(4, 6))
    hostile = ["<img src=x onerror=alert(1)>", "</script>", "\n", "عربي", "", "\u202e"]
    view = TopTokensView(
        logits, compare=logits[::-1], tokens=[0, 1, 2, 3], decode=lambda ids: [hostile[i] for i in ids]
    )
    view.position = 1
    headings, rows = view.table()
    assert headings == ["rank", "model", "probability", "other", "probability"]
    p = oracle(logits, [0, 1, 2, 3])[1][1]
    assert [row[2] for row in rows] == [f"{100 * each:.2f} %" for each in sorted(p, reverse=True)]
    (came,) = [row for row in rows if row[1].endswith("◂")]
    assert int(came[0]) == sorted(-p).index(-p[2])
    for colour in ("surprise", "rank", "entropy", "kl", "change"):
        view.colour = colour
        assert view.picture().png()[:4] == b"\x89PNG"
    assert "<img src=x" not in view.save_svg(tmp_path / "a.svg").read_text()
    assert view.save_png(tmp_path / "a.png").exists()
    page = view.save_html(tmp_path / "a.html").read_text()
    assert "<img src=x" not in page
    assert "rank" in view.describe()
    again = TopTokensView.from_state(view.state(), logits, compare=logits[::-1], tokens=[0, 1, 2, 3])
    assert (again.position, again.colour) == (1, "change")
    assert repr(again) == "TopTokensView(4 tokens, vocabulary 6; model and other)"
    view.position = None
    assert "the last: a prediction of" in view.describe()


def test_the_still_has_the_colours_of_the_page():
    """Surprise up to that of a guess among all tokens alike; ranks from 0 on a log scale."""
    logits = np.zeros((4, 8))
    logits[0, 1], logits[1, 2], logits[2, 3] = 3, -3, 0
    view = TopTokensView(logits, tokens=[0, 1, 2, 3], position=3)
    p = oracle(logits, [0, 1, 2, 3])[0]
    for colour, at in (("surprise", p[0][:3] / 3), ("rank", np.log(np.maximum(p[1][:3], 0.5) / 0.5) / np.log(7 / 0.5))):
        view.colour = colour
        pixels = np.asarray(view.picture().image())[60]  # a row above the text
        shown = {tuple(pixel) for pixel in pixels.tolist()}
        for place in np.clip(at, 0, 1):
            near = [np.abs(np.subtract(pixel, lut("light")[round(255 * place)])).max() for pixel in shown]
            assert min(near) <= 3


def test_a_still_far_into_a_long_text_reads_what_it_shows():
    size, vocab = 3000, 300
    logits = RNG.normal(size=(size, vocab))
    view = TopTokensView(logits, tokens=RNG.integers(vocab, size=size), position=2500)
    picture = view.picture()
    assert picture.height < 800
    assert "tokens more" in picture.svg()
    assert len(view._blocks) <= 4


def test_a_number_that_is_none_is_found_when_it_is_read():
    logits = RNG.normal(size=(600, 40))
    logits[500, 7] = np.nan
    view = TopTokensView(logits, tokens=RNG.integers(40, size=600), position=0)
    with pytest.raises(InputError, match="at pos 500, vocab 7 it is nan"):
        view.tile(what="numbers", prompt=0, block=500 // view.prompts[0]["block"])
