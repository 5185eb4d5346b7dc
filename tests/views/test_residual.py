"""The residual view: bars that are the attribution's numbers, down to source tokens."""

from types import SimpleNamespace

import numpy as np
import pytest
import traitlets
from views.test_page import Page
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.stats import interval
from interpwidgets.tokens import Tokens
from interpwidgets.views import ResidualView
from interpwidgets.views.plotting import signed
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
HOSTILE = ["<img src=x onerror=alert(1)>", "</script>", "\u202eevil", "a\nb", "d"]


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def numbers_of(prompts=5, layers=3, heads=4, tokens=HOSTILE):
    """An attribution of anybody's making: random, and adding up."""
    parts = {
        "embed": RNG.normal(size=prompts), "heads": RNG.normal(size=(prompts, layers, heads)),
        "mlp": RNG.normal(size=(prompts, layers)), "rest": RNG.normal(size=prompts),
        "constant": RNG.normal(size=prompts),
    }  # fmt: skip
    attn = parts["heads"].sum(-1) + RNG.normal(size=(prompts, layers))
    total = parts["embed"] + attn.sum(1) + parts["mlp"].sum(1) + parts["rest"] + parts["constant"]
    shown = [Tokens.of(tokens)] * prompts
    made = RNG.normal(size=(layers, heads, prompts, len(tokens)))
    return SimpleNamespace(
        model="<b>model", metric="logit(<i>) − logit(b)", attn=attn, total=total, tokens=shown,
        sources=lambda layer, head: made[layer, head], **parts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    """What writes the answer in the model whose circuit is known."""
    pairs = [("anna", "ben"), ("leo", "kate"), ("ben", "leo")]
    prompts = [f"when {a} and {b} went to the park , {b} gave a book to" for a, b in pairs]
    metric = iw.logit_diff([a for a, _ in pairs], [b for _, b in pairs])
    return iw.direct_logit_attribution(iw.load("ioi-known"), prompts, metric)


def test_rows_are_the_parts_in_order_and_add_up_to_the_total(found):
    view = ResidualView(found)
    for prompt in (None, 0, 2):
        rows = ask(view, what="rows", prompt=prompt)
        pick = (lambda x: x.mean(0)) if prompt is None else (lambda x, i=prompt: x[i])
        truth = [pick(found.embed)]
        for layer in range(3):
            truth += [pick(found.attn)[layer], pick(found.mlp)[layer]]
        truth += [pick(found.rest), pick(found.constant), pick(found.total)]
        np.testing.assert_allclose(rows[:, 0], truth, rtol=1e-5, atol=1e-6)
        assert rows[:-1, 0].sum() == pytest.approx(rows[-1, 0], rel=1e-3)
        if prompt is not None:
            assert np.isnan(rows[:, 1:]).all()
    assert view.row_names[:3] == ["embed", "L0 attn", "L0 mlp"]
    assert len(view.row_names) == len(rows)


def test_intervals_are_those_of_the_mean_over_prompts():
    data = numbers_of(prompts=7)
    view = ResidualView(data)
    rows, heads = ask(view, what="rows", prompt=None), ask(view, what="heads", prompt=None, layer=1)
    for row, values in [(rows[0], data.embed), (rows[3], data.attn[:, 1]), (heads[2], data.heads[:, 1, 2])]:
        low, high = interval(values)
        np.testing.assert_allclose(row, [values.mean(), low, high], rtol=1e-5)
    bias = data.attn[:, 1] - data.heads[:, 1].sum(-1)
    assert heads[4, 0] == pytest.approx(bias.mean(), rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(heads[:, 0].sum(), data.attn[:, 1].mean(), rtol=1e-4, atol=1e-5)
    parts = ask(view, what="parts", prompt=3)
    np.testing.assert_allclose(parts[:, :4], data.heads[3], rtol=1e-6)


def test_it_opens_on_the_head_that_writes_most(found):
    view = ResidualView(found)
    assert (view.layer, view.head, view.prompt) == (2, 0, None)
    assert view.selection.value == pytest.approx(found.heads[:, 2, 0].mean())
    view.prompt = 1
    view.position = 3
    assert view.selection.value == pytest.approx(found.sources(2, 0)[1, 3])
    view.head = None
    assert view.selection is None


def test_sources_add_up_to_their_head(found):
    view = ResidualView(found, prompt=1)
    sources = ask(view, what="sources", prompt=1, layer=2, head=0)
    assert len(sources) == len(found.tokens[1])
    assert np.nansum(sources) == pytest.approx(found.heads[1, 2, 0], abs=1e-4)
    assert found.tokens[1][int(np.nanargmax(sources))] == "leo"  # the name that is said once


def test_a_recording_with_a_metric_is_the_same():
    model = iw.load("induction-2l")
    ids = RNG.integers(10, 500, (2, 12)).tolist()
    metric = iw.logit_diff(20, 30)
    view = ResidualView(iw.record(model, ids), metric=metric)
    truth = iw.direct_logit_attribution(model, ids, metric)
    np.testing.assert_allclose(view.found.heads, truth.heads, atol=1e-5)
    assert view.measured == truth.metric
    again = iw.record(model, ids[0][:8])
    view.show(again)
    assert (view.shape, view.prompt) == ([1, 2, 4], 0)
    np.testing.assert_allclose(
        view.found.total, iw.direct_logit_attribution(model, ids[0][:8], metric).total, atol=1e-5
    )


def test_show_keeps_what_still_exists():
    view = ResidualView(numbers_of(5, 3, 4), layer=2, head=3, prompt=4, position=4)
    view.show(numbers_of(5, 3, 4))
    assert (view.layer, view.head, view.prompt, view.position) == (2, 3, 4, 4)
    view.show(numbers_of(5, 4, 6))
    assert (view.layer, view.head, view.prompt) == (2, 3, 4)
    small = numbers_of(2, 1, 2, HOSTILE[:2])
    view.show(small)
    assert (view.layer, view.prompt, view.position) == (0, None, None)
    assert view.head == int(np.argmax(np.abs(small.heads.mean(0))))


@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        (3, {}, "needs a LogitAttribution, or a Recording and metric.*got int"),
        ([1, 2], {}, "got list"),
        ("recording", {}, "needs metric="),
        ("qk", {"metric": iw.logit(3)}, "does not know its model"),
        ("of", {"metric": iw.logit(3)}, "does not know the ids"),
        ("recording", {"metric": iw.log_prob(3)}, "weighted sum"),
    ],
)
def test_what_cannot_be_split_is_refused(data, more, said):
    model = iw.load("induction-2l")
    if data == "recording":
        data = iw.record(model, [1, 20, 30])
    elif data == "qk":
        data = iw.Recording.from_qk(np.zeros((1, 2, 1, 4)), np.zeros((1, 2, 1, 4)))
    elif data == "of":
        recorded = iw.record(model, [1, 20, 30])
        data = iw.Recording.of({("resid_post", 0): recorded["resid_post", 0]}, ["a", "b", "c"], model=model)
    with pytest.raises(InputError, match=said):
        ResidualView(data, **more)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("prompt", 5, "prompt 5 does not exist: this view has prompt 0 to 4"),
        ("layer", 3, "layer 3 does not exist: this view has layer 0 to 2"),
        ("head", 4, "head 4 does not exist: this view has head 0 to 3"),
        ("position", 5, "position 5 does not exist: this view has position 0 to 4"),
        ("sort", "name", "sort"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, said):
    view = ResidualView(numbers_of())
    with pytest.raises(traitlets.TraitError, match=said):
        setattr(view, setting, value)


def test_numbers_without_their_model_have_no_sources():
    data = numbers_of()
    del data.sources
    view = ResidualView(data, prompt=0)
    with pytest.raises(InputError, match="came without their model"):
        view.tile(what="sources", prompt=0, layer=0, head=0)
    view.picture().png()


def test_layers_without_heads_are_no_trouble():
    data = numbers_of()
    data.heads[:, 0] = np.nan
    data.attn[:, 1], data.heads[:, 1] = np.nan, np.nan
    view = ResidualView(data)
    assert view.layer == 2
    np.testing.assert_allclose(ask(view, what="heads", prompt=None, layer=0)[4, 0], data.attn[:, 0].mean(), rtol=1e-5)
    view.layer = 0
    view.picture().png()
    assert any(row[0] == "L0 attn" for row in view.table()[1])
    data.heads[:] = np.nan
    assert ResidualView(data).head is None


def test_a_state_opens_the_same_view_again():
    data = numbers_of()
    view = ResidualView(data)
    view.prompt, view.layer, view.head, view.position, view.sort = 2, 0, 1, 3, "size"
    assert ResidualView.from_state(view.state(), data)._settable() == view._settable()


@pytest.mark.parametrize(("prompt", "sort"), [(None, "layer"), (1, "size")])
def test_the_still_says_what_it_is_and_what_it_is_not(prompt, sort, tmp_path):
    data = numbers_of()
    view = ResidualView(data, prompt=prompt, sort=sort, layer=1, head=2)
    svg = view.save_svg(tmp_path / "still.svg").read_text()
    assert "not a causal effect" in svg
    assert "the direct path only" in svg
    mean = data.heads[:, 1].mean(0) if prompt is None else data.heads[1, 1]
    for value in mean:
        assert signed(float(value), 3) in svg
    assert ("by source token" in svg) == (prompt is not None)
    for hostile in ("<img", "<i>", "<b>"):
        assert hostile not in svg
    assert "<img src=x" not in view.still()
    assert "hypothesis" in view.describe()


def test_the_table_is_the_largest_parts_and_the_total():
    data = numbers_of()
    view = ResidualView(data, prompt=3)
    headings, rows = view.table()
    assert headings[1:] == ["contribution", "95 % interval"]
    every = {"embed": data.embed[3], "rest": data.rest[3], "constant": data.constant[3]}
    for layer in range(3):
        every[f"L{layer} mlp"] = data.mlp[3, layer]
        every[f"L{layer} attn bias"] = data.attn[3, layer] - data.heads[3, layer].sum()
        every |= {f"L{layer}H{head}": data.heads[3, layer, head] for head in range(4)}
    largest = sorted(every, key=lambda name: -abs(every[name]))[:16]
    assert [row[:2] for row in rows] == [[name, signed(float(every[name]))] for name in largest] + [
        ["total", signed(float(data.total[3]))]
    ]
    assert rows[0][2] == ""
    view.prompt = None
    low, high = interval(data.total)
    assert view.table()[1][-1][2] == f"{signed(float(low))} … {signed(float(high))}"


def test_a_page_holds_every_layer_and_the_sources_of_its_prompt(tmp_path):
    view = ResidualView(numbers_of(), prompt=0)
    page = Page(view.save_html(tmp_path / "page.html"))
    keys = {entry["key"] for entry in page.data["views"][0]["state"]["_opening"]}
    assert {key_of(what="heads", prompt=0, layer=layer) for layer in range(3)} <= keys
    assert {key_of(what="sources", prompt=0, layer=2, head=head) for head in range(4)} <= keys
    assert {key_of(what="rows", prompt=prompt) for prompt in (None, 4)} <= keys
    assert key_of(what="tokens", prompt=0, chunk=0) in keys


def test_linked_views_share_layer_head_and_prompt(found):
    residual, other = ResidualView(found), ResidualView(found)
    iw.link(residual, other)
    other.layer, other.head, other.prompt = 1, 2, 1
    assert (residual.layer, residual.head, residual.prompt) == (1, 2, 1)
