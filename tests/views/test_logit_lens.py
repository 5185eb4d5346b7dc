"""The lens view in Python: its tiles against float64, its selection, its stills, and what it refuses."""

import json
from itertools import chain

import numpy as np
import pytest
import torch
import traitlets
from models import zoo
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError, NotRecordedError
from interpwidgets.intervene import logit_lens
from interpwidgets.views import LogitLensView
from interpwidgets.views.grid_picture import Colours
from interpwidgets.views.view import key_of

torch.set_num_threads(1)
RNG = np.random.default_rng()
TEXT = "when anna and ben went to the park , ben gave a book to"
HOSTILE = "<img src=x onerror=window.hacked=1></script>"


@pytest.fixture(scope="module")
def model():
    return iw.load("ioi-known")


@pytest.fixture(scope="module")
def rec(model):
    return iw.record(model, [TEXT, "when carl and david went home"])


@pytest.fixture
def view(rec):
    return LogitLensView(rec)


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def words(view, **key):
    return json.loads(bytes(ask(view, **key)))


def truth(model, rec, prompt):
    """Probabilities after each layer, [layer, pos, vocab], by the module's own norm and unembedding in float64."""
    module = model.module
    streams = np.stack([rec["resid_post", layer][prompt].double().numpy() for layer in range(model.n_layers)])
    streams = streams[:, : len(rec.tokens[prompt])]
    norm = module.transformer.ln_f
    centred = streams - streams.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    x = x * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
    logits = x @ module.lm_head.weight.detach().double().numpy().T
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_blocks_hold_what_the_model_would_say(model, rec, monkeypatch):
    monkeypatch.setattr("interpwidgets.views.logit_lens_tiles._BLOCKS", (4,))
    view = LogitLensView(rec, token="anna")
    token = words(view, what="token", prompt=0, text="anna")["token"]
    for prompt in (0, 1):
        p = truth(model, rec, prompt)
        size = len(rec.tokens[prompt])
        blocks = range(-(-size // 4))
        found = np.concatenate([ask(view, what="lens", prompt=prompt, block=b) for b in blocks], axis=2)
        final = p[-1]
        kl = (final * (np.log(final) - np.log(p))).sum(-1)
        for plane, expected in enumerate((p.max(-1), -(p * np.log(p)).sum(-1), kl)):
            np.testing.assert_allclose(found[plane], expected, rtol=1e-3, atol=2e-4)
        tops = [words(view, what="tops", prompt=prompt, block=b) for b in blocks]
        tops = [list(chain(*rows)) for rows in zip(*tops, strict=True)]
        expected = [view._tiles.texts(prompt, row) for row in p.argmax(-1)]
        assert tops == expected
        for of, expected in (
            ("probability", p[..., token]),
            ("rank", (p > p[..., [token]]).sum(-1)),
        ):
            tiles = [ask(view, what="standing", prompt=prompt, block=b, token=token, of=of) for b in blocks]
            np.testing.assert_allclose(np.concatenate(tiles, axis=1), expected, rtol=1e-3, atol=1e-5)


def test_a_cell_lists_tokens_their_way_and_who_wrote_them(model, rec, view):
    p = truth(model, rec, 0)
    chosen = int(RNG.integers(model.anatomy.embed.num_embeddings))
    for layer, position in ((0, 3), (2, 14)):
        cell = words(view, what="cell", prompt=0, layer=layer, position=position, token=chosen, k=4)
        order = np.argsort(-p[layer, position])[:4].tolist()
        assert cell["ids"] == order + [chosen] * (chosen not in order)
        assert cell["ranks"] == [int((p[layer, position] > p[layer, position, i]).sum()) for i in cell["ids"]]
        np.testing.assert_allclose(cell["lines"], p[:, position, cell["ids"]].T, rtol=1e-3, atol=1e-6)
        for token, which in ((-1, order[0]), (chosen, chosen)):
            writes = words(view, what="writes", prompt=0, layer=layer, position=position, token=token)
            logit = float(logit_lens(rec).logits(layer)[0, position, which])
            assert writes["total"] == pytest.approx(logit, rel=1e-4, abs=1e-4)
            assert sum(writes["values"]) == pytest.approx(logit, rel=1e-3, abs=1e-3)
            assert len(writes["heads"]) == layer + 1


def test_it_opens_on_the_last_layer_and_position_with_what_is_seen(view, rec):
    assert (view.layer, view.position, view.measure, view.title) == (2, 14, "probability", "Logit lens")
    keys = [json.loads(entry["key"])["what"] for entry in view._opening]
    assert keys == ["tokens", "lens", "tops", "cell", "writes"]
    assert view.roles == {"prompt": "prompt", "layer": "layer", "position": "position", "token": "token"}
    facts = view.prompts[0]
    assert facts["layers"] == [0, 1, 2]
    assert facts["size"] == 15
    assert facts["kl"]
    assert repr(view) == "LogitLensView(2 prompts, 3 layers, 15 tokens)"
    headings, rows = view.table()
    assert headings[0] == "layer"
    assert [row[0] for row in rows] == ["2", "1", "0"]
    assert rows[0][1] in view.describe()


def test_a_long_prompt_computes_what_is_on_screen(monkeypatch):
    model = iw.Model(zoo.build("gpt2", n_positions=2048, max_position_embeddings=2048))
    rec = iw.record(model, RNG.integers(3, zoo.VOCABULARY, (1, 2048)))
    read = []
    from interpwidgets.intervene import lens

    unembed = lens.unembed
    monkeypatch.setattr(lens, "unembed", lambda model, rows: read.append(len(rows)) or unembed(model, rows))
    view = LogitLensView(rec)
    assert sum(read) < 3 * 2 * 200
    assert all(len(entry["data"]) < 1e6 for entry in view._opening)
    assert view.position == 2047


def test_another_prompt_keeps_what_exists_there(view):
    view.layer, view.position = 1, 12
    view.prompt = 1
    assert (view.layer, view.position) == (1, 6)
    view.prompt = 0
    assert view.position == 6


def test_other_data_in_a_living_view(view, model, rec):
    view.layer, view.position, version = 0, 4, view._version
    view.show(iw.record(model, "when leo and rosa ran to the lake , leo gave"))
    assert view._version == version + 1
    assert (view.layer, view.position, len(view.prompts)) == (0, 4, 1)
    view.show(iw.record(model, "when leo"))
    assert view.position == 2
    tokens = words(view, what="tokens", prompt=0, chunk=0)
    assert tokens["text"] == ["<bos>", "when", "leo"]


def test_a_token_by_its_text_its_marks_or_its_id(model, rec):
    anna = model.tokenizer("anna", add_special_tokens=False)["input_ids"][0]
    for given in ("anna", anna, f"#{anna}", np.int64(anna)):
        view = LogitLensView(rec, token=given)
        assert words(view, what="token", prompt=0, text=view.token) == {"token": anna, "text": "anna"}
        assert view.measure == "token_probability"
    assert LogitLensView(rec, token="anna", measure="token_rank").scale == "log"
    with pytest.raises(InputError, match="unknown to the tokenizer"):
        LogitLensView(rec, token="Seattle")


def test_a_shorter_prompt_of_fewer_layers_stands_beside(model, rec):
    view = LogitLensView(rec, iw.record(model, "when carl", layers=[0, 1]), compare=2)
    assert (view.layer, view.position) == (2, 14)
    cells = [json.loads(entry["key"]) for entry in view._opening if '"cell"' in entry["key"]]
    assert [(key["prompt"], key["layer"], key["position"]) for key in cells] == [(0, 2, 14), (2, 1, 2)]


def test_a_tuned_lens_is_named_and_stands_beside(rec):
    tuned = logit_lens(rec, translators={0: lambda stream: -stream})
    alone, both = LogitLensView(tuned), LogitLensView(rec, tuned, compare=2)
    assert alone.title == "Tuned lens"
    assert both.title == "Logit lens"
    assert [facts["kind"] for facts in both.prompts] == ["logit lens"] * 2 + ["tuned lens"] * 2
    assert len({facts["name"] for facts in both.prompts}) == 4
    assert "tuned lens" in both.prompts[2]["name"]
    plain, moved = (ask(both, what="lens", prompt=prompt, block=0) for prompt in (0, 2))
    assert not np.allclose(plain[:, 0], moved[:, 0])
    np.testing.assert_array_equal(plain[:, 1], moved[:, 1])
    prompts = {json.loads(entry["key"])["prompt"] for entry in both._opening}
    assert prompts == {0, 2}


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("layer", 3, r"layer 3 does not exist: this view has layers \[0, 1, 2\]"),
        ("position", 15, "position 15 does not exist: this view has position 0 to 14"),
        ("prompt", 2, "prompt 2 does not exist"),
        ("compare", -1, "compare -1 does not exist"),
        ("top_k", 0, "top_k is a number from 1 to 50; got 0"),
        ("colour_range", [1.0, 0.5], "low below high"),
        ("measure", "loss", "measure"),
    ],
)
def test_a_setting_out_of_range_is_refused(view, rec, setting, value, says):
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    with pytest.raises(traitlets.TraitError, match=says):
        LogitLensView(rec, **{setting: value})


def test_what_no_lens_can_read(model, rec):
    with pytest.raises(InputError, match="needs something to read"):
        LogitLensView()
    with pytest.raises(InputError, match=r"shows a Recording, or what logit_lens.*got ndarray"):
        LogitLensView(np.zeros((2, 3)))
    with pytest.raises(InputError, match="some positions only"):
        LogitLensView(iw.record(model, TEXT, positions=[1]))
    with pytest.raises(InputError, match="2 prompts need 2 names; got 1"):
        LogitLensView(rec, names=["a"])
    with pytest.raises(NotRecordedError, match="resid_post"):
        LogitLensView(iw.record(model, TEXT, sites=["q", "k"]))
    view = LogitLensView(rec)
    for key, says in (
        ({"what": "lens", "prompt": 5, "block": 0}, "no prompt 5"),
        ({"what": "cell", "prompt": 0, "layer": 9, "position": 0, "token": -1, "k": 3}, "no layer 9"),
        ({"what": "weather", "prompt": 0}, "no tile 'weather'"),
    ):
        with pytest.raises(InputError, match=says):
            view.tile(**key)


def test_a_lens_without_the_last_layer_has_no_kl(model):
    view = LogitLensView(iw.record(model, TEXT, layers=[0, 1]))
    assert not view.prompts[0]["kl"]
    assert np.isnan(ask(view, what="lens", prompt=0, block=0)[2]).all()
    assert view.table()[1][0][-1] == ""


def test_a_state_opens_what_was_seen(view, rec):
    view.layer, view.position, view.token, view.measure = 1, 3, "anna", "token_rank"
    again = LogitLensView.from_state(view.state(), rec)
    assert (again.layer, again.position, again.token, again.measure) == (1, 3, "anna", "token_rank")
    assert LogitLensView(rec).state() == "LogitLensView?"


def test_stills_and_pages(view, tmp_path):
    view.title = HOSTILE
    for measure in ("probability", "entropy", "kl"):
        view.measure = measure
        assert view.save_png(tmp_path / "lens.png").read_bytes()[:4] == b"\x89PNG"
    view.token, view.measure, view.scale = "anna", "token_rank", "log"
    svg = view.save_svg(tmp_path / "lens.svg").read_text()
    assert "rank of anna" in svg
    assert "&lt;img" in svg
    assert "<img" not in svg
    page = view.save_html(tmp_path / "lens.html").read_text()
    assert "<img" not in page
    stored = {json.loads(key)["what"] for key in view.stored_keys()}
    assert stored == {"tokens", "lens", "tops", "standing", "token", "cell", "writes"}
    for entry in view.page_state(10)["_opening"]:
        assert entry["data"]


def test_colours_of_a_still():
    values = np.array([[0.0, 1.0, np.nan, -1.0]], dtype=np.float32)
    plain, signed = Colours(0, 1).of(values), Colours(0, 1, signed=True).of(values)
    assert (plain[0, 2] == 255).all()
    assert plain[0, 0].sum() > plain[0, 1].sum()
    assert (plain[0, 3] == plain[0, 0]).all()
    assert not (signed[0, 1] == signed[0, 3]).all()
    log = Colours(0, 100, "log", floor=1).of(np.array([1, 10, 100], dtype=np.float32))
    half = Colours(0, 2).of(np.array([0, 1, 2], dtype=np.float32))
    np.testing.assert_array_equal(log, half)
