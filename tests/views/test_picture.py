"""The still: what it shows is what the weights are, at any size; and its table is the strongest edges."""

from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from views import oracles

from interpwidgets.tokens import Tokens
from interpwidgets.views import AttentionView
from interpwidgets.views.drawing import ACCENT, WIDTH
from interpwidgets.views.palette import lut
from interpwidgets.views.picture import EDGES, LARGE

RNG = np.random.default_rng()
HOSTILE = ["<s>", "</script><img src=x onerror=alert(1)>", "&lt;", " \n\t", "\u202eabc", '"><b>', "日本", ""]


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def large(view):
    """The pixels of the large head: the square that starts LARGE and a margin left of the right edge."""
    pixels = np.asarray(view.picture().image())
    return pixels[54 : 54 + LARGE, WIDTH - 14 - LARGE : WIDTH - 14]


def whole_steps(size):
    """The middle of each cell of the large head, in pixels."""
    return ((np.arange(size) + 0.5) * LARGE / size).astype(int)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (2, 3, 7, 7), (1, 1, 1, 900), (1, 1, 900, 1), (4, 4, 3, 50), (48, 2, 20, 20), (1, 64, 9, 9)],
)
def test_a_still_of_any_shape_is_a_picture_of_bounded_size(shape):
    view = AttentionView(oracles.pattern(RNG, *shape))
    picture = Image.open(BytesIO(view.picture().png()))
    picture.load()
    assert picture.format == "PNG"
    assert picture.width == WIDTH
    assert 100 < picture.height < 4000
    assert len(view.picture().png()) < 300_000


def test_the_large_head_has_the_colours_of_its_weights():
    weights = np.zeros((1, 2, 4, 4), dtype=np.float32)
    weights[0, 1] = [[0, 0.25, 0.5, 1], [1, 0.5, 0.25, 0], [0.04, 0.16, 0.36, 0.64], [0.01, 0.09, 0.49, 0.81]]
    view = AttentionView(weights, head=1, scale="linear")
    middle = whole_steps(4)
    for scale, at in (("linear", lambda w: w), ("sqrt", np.sqrt)):
        view.scale = scale
        shown = large(view)[np.ix_(middle, middle)]
        expected = lut("light")[np.rint(255 * at(weights[0, 1].astype(float))).astype(int)]
        assert np.abs(shown.astype(int) - expected).max() <= 3
    view.scale, view.colour_range = "linear", [0.25, 0.5]
    shown = large(view)[np.ix_(middle, middle)]
    expected = lut("light")[np.rint(255 * np.clip((weights[0, 1] - 0.25) / 0.25, 0, 1)).astype(int)]
    assert np.abs(shown.astype(int) - expected).max() <= 3


def test_a_difference_shows_its_sign():
    a, b = np.eye(2, dtype=np.float32)[None, None], np.eye(2, dtype=np.float32)[None, None, :, ::-1]
    view = AttentionView(a, b, compare=1, difference=True, scale="linear")
    middle = whole_steps(2)
    shown = large(view)[np.ix_(middle, middle)].astype(int)
    ends = lut("diverging-light")[[0, -1]].astype(int)
    assert np.abs(shown[0, 0] - ends[1]).max() <= 3
    assert np.abs(shown[0, 1] - ends[0]).max() <= 3


def test_the_future_is_blank_and_attention_to_nothing_is_not():
    weights = oracles.pattern(RNG, 1, 1, 4, 4, causal=True)
    weights[0, 0, 3] = [1, 0, 0, 0]
    middle = whole_steps(4)
    shown = large(AttentionView(weights))[np.ix_(middle, middle)]
    assert (shown[np.triu_indices(4, k=1)] == 255).all()
    assert (shown[3, 1] == lut("light")[0]).all()


@pytest.mark.parametrize("selected", [(0, 0), (1, 2)])
def test_the_selected_head_is_outlined(selected):
    view = AttentionView(oracles.pattern(RNG, 2, 3, 6, 6), layer=selected[0], head=selected[1])
    left = np.asarray(view.picture().image())[54 - 1 :, : WIDTH - 14 - LARGE - 90]
    rows, columns = np.nonzero((left == rgb(ACCENT)).all(axis=2))
    assert len(rows)
    pitch = 64 + 2
    assert int(np.median(rows) // pitch) == selected[0]
    assert int((np.median(columns) - 38) // pitch) == selected[1]
    view.aggregate = "mean"
    assert not (np.asarray(view.picture().image())[:, : WIDTH - 14 - LARGE - 90] == rgb(ACCENT)).all(axis=2).any()


@pytest.mark.parametrize("heads", [1, 12, 80, 128])
def test_the_last_of_many_heads_is_in_the_picture_and_beside_the_large_one(heads):
    view = AttentionView(oracles.pattern(RNG, 1, heads, 5, 5), head=heads - 1)
    rows, columns = np.nonzero((np.asarray(view.picture().image()) == rgb(ACCENT)).all(axis=2))
    assert np.ptp(rows) == np.ptp(columns) > 0  # a whole square
    assert columns.max() < WIDTH - 14 - LARGE - 76


def test_the_table_is_the_strongest_edges_in_order():
    weights = oracles.pattern(RNG, 2, 2, 30, 30, causal=True)
    words = oracles.words(RNG, 30)
    view = AttentionView(weights, tokens=words, layer=1)
    headings, rows = view.table()
    assert headings == ["query", "key", "weight"]
    cells = sorted(np.ndindex(30, 30), key=lambda cell: -weights[1, 0][cell])[:EDGES]
    assert [row[2] for row in rows] == [f"{weights[1, 0][cell]:.4f}" for cell in cells]
    for (query, key), row in zip(cells, rows, strict=True):
        if f"{weights[1, 0, query, key]:.4f}" != "1.0000":
            assert [int(row[0].split(":")[0]), int(row[1].split(":")[0])] == [query, key]
    shown = list(Tokens(tuple(words)))
    for row in rows:
        query, key = (int(cell.split(":")[0]) for cell in row[:2])
        assert row[:2] == [f"{query}: {shown[query]}", f"{key}: {shown[key]}"]


def test_the_table_of_a_short_prompt_holds_no_edge_without_attention():
    view = AttentionView(oracles.pattern(RNG, 1, 1, 2, 2, causal=True))
    _, rows = view.table()
    assert {(row[0], row[1]) for row in rows} <= {("0: 0", "0: 0"), ("1: 1", "0: 0"), ("1: 1", "1: 1")}


class Outline(HTMLParser):
    """Which elements a browser would make, and the text it would show."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_mimebundle_holds_a_picture_with_alternative_text_and_a_table_whatever_the_tokens():
    size = len(HOSTILE)
    weights = oracles.pattern(RNG, 1, 1, size, size)
    view = AttentionView(weights, tokens=HOSTILE, title="<script>alert(1)</script>", names=["<b>"])
    data, _ = view._repr_mimebundle_()
    html = Outline(data["text/html"])
    assert {tag for tag, _ in html.elements} == {
        "img",
        "details",
        "summary",
        "p",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    (image,) = [attributes for tag, attributes in html.elements if tag == "img"]
    assert image["src"].startswith("data:image/png;base64,")
    assert image["alt"] == view.describe()
    assert not any(name.startswith("on") for _, attributes in html.elements for name in attributes)
    text = "".join(html.text)
    for cell in {cell for row in view.table()[1] for cell in row}:
        assert cell in text
    assert "\u202e" not in data["text/html"]
    assert len(data["text/html"]) < 200_000


def test_the_same_view_has_the_same_bundle():
    weights = oracles.pattern(RNG, 2, 2, 9, 9)
    first, second = (AttentionView(weights)._repr_mimebundle_()[0] for _ in range(2))
    assert first["text/html"] == second["text/html"]
    assert first["text/plain"] == second["text/plain"]


def test_save_png(tmp_path):
    view = AttentionView(oracles.pattern(RNG, 1, 1, 3, 3))
    path = view.save_png(tmp_path / "still.png")
    with Image.open(path) as picture:
        assert picture.size == view.picture().image().size
