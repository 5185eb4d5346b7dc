"""Text coloured by values: what travels, what is selected, what is refused, and the still."""

import json

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from views import oracles
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views import TokensView
from interpwidgets.views.flow import TextStill, extent
from interpwidgets.views.palette import lut
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
WORDS = ["the", " cat", " sat", "\n", " cat"]
HOSTILE = ["<img src=x onerror=window.hacked=1>", "</script>", "\u202eabc", "\n", "عربي", ""]


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def all_values(view, prompt=0):
    facts = view.prompts[prompt]
    blocks = range(-(-facts["size"] // facts["block"]))
    return np.concatenate([ask(view, what="values", prompt=prompt, block=block) for block in blocks], axis=1)


@given(
    values=st_np.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-9, 9, width=32)
    ),
    data=st.data(),
)
@settings(deadline=None, max_examples=30)
def test_values_travel_exactly_whatever_they_came_in(values, data):
    missing = data.draw(st_np.arrays(bool, values.shape))
    values = np.where(missing, np.nan, values).astype(np.float32)
    tokens = [f"t{i}" for i in range(values.shape[1])]
    names = [f"s{i}" for i in range(len(values))]
    forms = [
        TokensView(tokens, values, names=names),
        TokensView(tokens, torch.tensor(values), names=names),
        TokensView(tokens, dict(zip(names, values.tolist(), strict=True))),
        TokensView(tokens, Frame(dict(zip(names, values, strict=True)))),
        TokensView([tokens, tokens], [values, values], names=names),
        TokensView(tokens, lambda given: values[:, : len(given)], names=names),
    ]
    for view in forms:
        np.testing.assert_array_equal(all_values(view), values)
        assert view.series_names == names
        assert view.series == names[0]


class Frame:
    """As much of a pandas DataFrame as is asked for."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return self._columns[name]


def test_long_texts_come_in_blocks_of_less_than_a_megabyte():
    count, series = 100_001, 3
    values = RNG.normal(size=(series, count)).astype(np.float32)
    view = TokensView(Tokens.numbered(count), values)
    facts = view.prompts[0]
    tiles = [ask(view, what="values", prompt=0, block=block) for block in range(-(-count // facts["block"]))]
    assert len(tiles) > 1
    assert all(tile.nbytes <= 1 << 20 for tile in tiles)
    np.testing.assert_array_equal(np.concatenate(tiles, axis=1), values)
    assert sum(len(entry["data"]) for entry in view._opening) < 4_000_000


def test_one_row_is_called_value_and_several_by_number():
    assert TokensView(WORDS, RNG.random(5)).series_names == ["value"]
    assert TokensView(WORDS, RNG.random((2, 5))).series_names == ["series 0", "series 1"]
    bare = TokensView(WORDS)
    assert bare.series_names == []
    assert bare.selected_values == {}
    assert bare.stored_keys() is not None
    assert [json.loads(key)["what"] for key in bare.stored_keys()] == ["tokens"]


def test_what_is_selected_is_read_in_python():
    values = RNG.normal(size=(2, 5)).astype(np.float32)
    view = TokensView(WORDS, values, names=["a", "b"])
    assert view.selected == []
    view.position = 3
    assert view.selected == ["\n"]
    np.testing.assert_array_equal(view.selected_values["b"], values[1, 3:4])
    view.span = [1, 4]
    assert view.selected == WORDS[1:4]
    np.testing.assert_array_equal(view.selected_values["a"], values[0, 1:4])


def test_prompts_of_different_length_and_the_padding_of_a_batch():
    batch = RNG.normal(size=(2, 5)).astype(np.float32)
    batch[1, 3:] = np.nan
    short = WORDS[:3]
    for values in (batch, {"value": batch}, [batch[0], batch[1, :3]]):
        view = TokensView([WORDS, short], values, position=4, span=[1, 5])
        np.testing.assert_array_equal(all_values(view, 1), batch[1:, :3])
        view.prompt = 1
        assert (view.position, view.span) == (None, [])
        view.position = 2
        np.testing.assert_array_equal(view.selected_values["value"], batch[1, 2:3])


def test_another_text_keeps_what_still_exists():
    view = TokensView(
        WORDS, {"loss": RNG.random(5), "entropy": RNG.random(5)}, series="entropy", position=2, span=[2, 5]
    )
    version = view._version
    view.show(WORDS[:4], {"loss": [1.0, 2, 3, 4], "entropy": [5.0, 6, 7, 8]})
    assert view._version == version + 1
    assert (view.series, view.position, view.span) == ("entropy", 2, [])
    np.testing.assert_array_equal(all_values(view), [[1, 2, 3, 4], [5, 6, 7, 8]])
    view.show(["one"], [3.0])
    assert (view.series, view.position, view.series_names) == ("value", None, ["value"])


def test_values_that_are_a_function_follow_the_text():
    view = TokensView(WORDS, lambda tokens: [len(token) for token in tokens])
    view.show(["a", "bb"])
    np.testing.assert_array_equal(all_values(view), [[1, 2]])
    with pytest.raises(InputError, match=r"\[pos\] with pos = 2"):
        view.show(["a", "bb"], [1.0, 2, 3, 4, 5])
    np.testing.assert_array_equal(all_values(view), [[1, 2]])  # nothing was taken in


@pytest.mark.parametrize(
    ("tokens", "options", "says"),
    [
        (WORDS, {"values": RNG.random(7)}, r"\[pos\] with pos = 5; got shape \[7\]"),
        (WORDS, {"values": RNG.random(4)}, r"4 numbers for 5 tokens.*put NaN before them"),
        (WORDS, {"values": RNG.random((5, 2))}, r"\[pos, series\] = \[5, 2\]. Give values.T"),
        (WORDS, {"values": [1, 2, np.inf, 4, 5]}, "finite numbers; at pos 2 it is inf"),
        (WORDS, {"values": ["a"] * 5}, "values must be numbers"),
        (WORDS, {"values": {"loss": [1, 2]}}, r"values\['loss'\] must be \[pos\] with pos = 5"),
        (WORDS, {"values": RNG.random((2, 5)), "names": ["a"]}, "2 series need 2 names; got 1"),
        (WORDS, {"values": {"a": RNG.random(5)}, "names": ["b"]}, "leave names= out"),
        (WORDS, {"values": RNG.random((65, 5))}, "64 series at most; got 65"),
        ([WORDS, WORDS], {"values": [RNG.random(5)]}, "2 prompts need a list of 2 values; got 1"),
        ([WORDS, WORDS], {"values": 3}, "2 prompts need a list of 2 values; got 0"),
        ([WORDS, WORDS], {"values": [{"a": RNG.random(5)}, {"b": RNG.random(5)}]}, r"same series; one has \['a'\]"),
        ([], {}, "no text without tokens"),
        ([WORDS, []], {}, "no text without tokens"),
        ("the cat", {}, "got one string"),
        (7, {}, "a Tokens or a Recording; got 7"),
        ([1, 2], {}, "a Tokens or a Recording; got 1"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_words(tokens, options, says):
    with pytest.raises(InputError, match=says):
        TokensView(tokens, **options)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("position", 5, "position 5 does not exist: this text has position 0 to 4"),
        ("position", -1, "position -1 does not exist"),
        ("span", [2, 2], r"\[first, before last\] within 0 to 5, or empty; got \[2, 2\]"),
        ("span", [2, 6], "within 0 to 5"),
        ("span", [2], "within 0 to 5"),
        ("prompt", 1, "prompt 1 does not exist: there is prompt 0 to 0"),
        ("series", "los", "No series is called 'los'. There are: loss, entropy"),
        ("colour_range", [1, 1], r"\[low, high\], low below high"),
        ("scale", "cubic", "scale"),
    ],
)
def test_a_setting_out_of_range_is_refused_and_the_old_one_kept(setting, value, says):
    values = {"loss": RNG.random(5), "entropy": RNG.random(5)}
    view = TokensView(WORDS, values)
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    assert getattr(view, setting) == before
    with pytest.raises(traitlets.TraitError, match=says):
        TokensView(WORDS, values, **{setting: value})


def test_the_loss_of_a_trained_model(tmp_path):
    model = iw.load("induction-2l")
    rec = iw.record(model, ["the cat sat on the mat . the cat sat", "a dog . a dog"], sites=["logits"])

    def loss(recording):
        parts = []
        for prompt, tokens in enumerate(recording.tokens):
            log_p = recording["logits"][prompt].double().log_softmax(-1)
            parts.append([np.nan, *(-float(log_p[i, token]) for i, token in enumerate(tokens.ids[1:]))])
        return [{"loss": part} for part in parts]

    view = TokensView(rec, loss)
    assert [prompt["size"] for prompt in view.prompts] == [len(tokens) for tokens in rec.tokens]
    for prompt, own in enumerate(loss(rec)):
        np.testing.assert_allclose(all_values(view, prompt)[0], own["loss"], rtol=1e-6)
    view.show(iw.record(model, "a cat . a cat", sites=["logits"]))
    assert len(view.prompts) == 1
    page = view.save_html(tmp_path / "loss.html").read_text()
    assert '"what\\":\\"values\\"' in page


def test_state_round_trip():
    values = {"loss": RNG.random(5), "entropy": RNG.random(5)}
    view = TokensView(WORDS, values)
    assert view.state() == "TokensView?"
    view.series, view.position, view.span, view.side_by_side = "entropy", 1, [1, 3], True
    again = TokensView.from_state(view.state(), WORDS, values)
    assert (again.series, again.position, again.span, again.side_by_side) == ("entropy", 1, [1, 3], True)


def test_the_repr_is_one_line_that_never_changes():
    assert repr(TokensView(WORDS, RNG.random(5))) == "TokensView(5 tokens; value)"
    assert repr(TokensView(WORDS)) == "TokensView(5 tokens)"
    assert repr(TokensView([WORDS, WORDS], RNG.random((2, 5)))) == "TokensView(2 prompts, 5 tokens; value)"


def test_the_table_has_the_values_furthest_from_zero_first():
    values = [0.5, -3, np.nan, 2, 0]
    view = TokensView(WORDS, values)
    headings, rows = view.table()
    assert headings == ["token", "value"]
    assert rows[:2] == [["1: ␣cat", "-3"], ["3: ↵", "2"]]
    assert "missing" in rows[-1] or "missing" in rows[-2]
    assert len(TokensView(Tokens.numbered(500)).table()[1]) == 12


def test_tables_for_pandas_say_what_to_install_or_hold_every_value():
    view = TokensView(WORDS, {"loss": [1.0, 2, 3, 4, 5]})
    try:
        import pandas  # noqa: F401, ICN001
    except ImportError:
        with pytest.raises(ImportError, match="pip install pandas"):
            view.to_pandas()
    else:
        assert view.to_pandas()["loss"].tolist() == [1, 2, 3, 4, 5]


@given(values=st_np.arrays(np.float32, st.integers(0, 30), elements=st.floats(-5, 5, width=32) | st.just(np.nan)))
def test_colours_go_from_zero_or_through_it(values):
    low, high = extent(values)
    there = [float(value) for value in values if not np.isnan(value)]
    least, most = min([0.0, *there]), max([0.0, *there])
    assert (low, high) == ((least, most) if least < most else (0, 1))


def middle(still, tokens):
    """The background of each token of a still, in order: the pixel left of its text."""
    pixels = np.asarray(still)
    return [pixels[int(y) + 10, int(x) + 1] for x, y in tokens]


@pytest.mark.parametrize("scale", ["linear", "sqrt"])
def test_the_still_has_the_colours_of_the_values(scale):
    values = np.array([0, 0.25, 0.5, 1, np.nan], np.float32)
    view = TokensView(["aa", "bb", "cc", "dd", "ee"], values, scale=scale)
    laid_out = TextStill(["aa", "bb", "cc", "dd", "ee"], values)._lines[0]
    places = [(x, 56) for _, x, _ in laid_out]
    shown = middle(view.picture().image(), places)
    at = values[:4] if scale == "linear" else np.sqrt(values[:4])
    for colour, expected in zip(shown, lut("light")[np.rint(255 * at).astype(int)], strict=False):
        assert np.abs(colour.astype(int) - expected.astype(int)).max() <= 3
    view = TokensView(["aa", "bb"], [-1.0, 1.0])
    left, right = middle(view.picture().image(), places[:2])
    for colour, expected in zip((left, right), lut("diverging-light")[[0, 255]], strict=True):
        assert np.abs(colour.astype(int) - expected.astype(int)).max() <= 3


def test_a_still_of_a_long_text_is_bounded_and_says_what_it_leaves_out():
    view = TokensView(oracles.words(RNG, 5000), RNG.random(5000))
    picture = view.picture()
    assert picture.height < 700
    assert "tokens more" in picture.svg()


def test_hostile_tokens_are_text_everywhere(tmp_path):
    view = TokensView(HOSTILE, RNG.random(6), title="<b>", position=0)
    bundle, _ = view._repr_mimebundle_()
    assert "<img src=x" not in bundle["text/html"]
    assert "<img src=x" not in view.save_svg(tmp_path / "a.svg").read_text()
    assert view.save_png(tmp_path / "a.png").stat().st_size > 500
    page = view.save_html(tmp_path / "a.html").read_text()
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert view.describe().startswith("6 tokens, each on the colour of its value. Selected: <img␣src=x")
    view.span = [0, 3]
    assert "3 tokens from" in view.describe()


def test_it_links_by_position_and_prompt():
    a, b = TokensView(WORDS, RNG.random(5)), TokensView(WORDS[:4], RNG.random(4))
    iw.link(a, b)
    a.position = 3
    assert b.position == 3
    a.position = 4
    assert b.position == 3  # there is none


def test_unknown_tiles_are_refused():
    with pytest.raises(KeyError, match="nothing"):
        TokensView(WORDS).tile(what="nothing", prompt=0)
