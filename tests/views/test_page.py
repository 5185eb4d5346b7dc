"""A page that stands alone: nothing in it can break out of it, and it is no larger than asked."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from views import oracles
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.views import AttentionView

RNG = np.random.default_rng()
HOSTILE = ["</script><img src=x onerror=alert(1)>", "<!--", "<script>", "]]>", "\u2028", "{title}", "&lt;/script>"]


class Page(HTMLParser):
    """The elements of a page and what is in its scripts: a script ends at its first `</script`, as in a browser."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.text = [], [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[0])


def tags(page):
    return [tag for tag, _ in page.elements]


def test_no_token_name_title_or_paragraph_breaks_out(tmp_path):
    size = len(HOSTILE)
    weights = oracles.pattern(RNG, 1, 2, size, size)
    view = AttentionView(weights, tokens=HOSTILE, names=[HOSTILE[0]], labels={(0, 1): HOSTILE[0]}, title=HOSTILE[0])
    page = Page(iw.save_page(tmp_path / "page.html", HOSTILE[0], [f"# {HOSTILE[0]}", HOSTILE[2], view, "{data}"]))
    assert sorted(tags(page)) == sorted(
        ["html", "title", "style", "main", "h2", "p", "div", "p", *["meta"] * 3, *["script"] * 2]
    )
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    text = "".join(page.text)
    assert text.count(HOSTILE[0]) == 2  # the heading, and the title
    assert "{data}" in text
    (state,) = [entry["state"] for entry in page.data["views"]]
    assert state["title"] == state["prompts"][0]["name"] == state["labels"][0][2] == HOSTILE[0]


def test_a_page_names_no_address(tmp_path):
    path = AttentionView(oracles.pattern(RNG, 1, 1, 4, 4)).save_html(tmp_path / "view.html")
    page = Page(path)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "img", "base")
        assert "src" not in attributes
        assert "href" not in attributes
    assert not re.search(r"@import|url\(", path.read_text("utf-8"))
    addresses = set(re.findall(r"https?://[^\s\"'\\)`]+", path.read_text("utf-8")))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1998/Math/MathML",
        "http://www.w3.org/1999/xhtml",
    }


def test_a_page_holds_what_the_view_was_showing(tmp_path):
    weights = oracles.pattern(RNG, 2, 2, 6, 6, causal=True)
    view = AttentionView(weights, tokens=oracles.words(RNG, 6), scores={"mine é": np.eye(2)}, layer=1, query=3, key=1)
    (entry,) = Page(view.save_html(tmp_path / "view.html")).data["views"]
    state = entry["state"]
    assert state["_live"] is False
    assert {name: state[name] for name in view.settings()} == json.loads(
        json.dumps({name: getattr(view, name) for name in view.settings()})
    )
    tiles = {tile["key"]: unpack(tile["meta"], b64decode(tile["data"])) for tile in state["_opening"]}
    for layer, head in np.ndindex(2, 2):
        key = json.dumps(
            {"what": "rows", "prompt": 0, "minus": -1, "layer": layer, "head": head, "band": 0}, separators=(",", ":")
        )
        np.testing.assert_array_equal(tiles[key], weights[layer, head])
    np.testing.assert_array_equal(tiles['{"what":"scores","prompt":0,"minus":-1,"name":"mine é"}'], np.eye(2))


@pytest.mark.parametrize("max_mb", [0.3, 1, 4])
def test_a_page_is_no_larger_than_asked(tmp_path, max_mb):
    weights = oracles.pattern(RNG, 4, 8, 600, 600, causal=True)
    view = AttentionView(weights)
    path = view.save_html(tmp_path / "view.html", max_mb=max_mb)
    without = iw.save_page(tmp_path / "none.html", "no views", []).stat().st_size + len(view.script()[1])
    size = path.stat().st_size - without
    assert size <= 1.05e6 * max_mb + 20_000
    assert size >= 0.5e6 * max_mb  # and what fits is there
    opening = [tile["key"] for tile in Page(path).data["views"][0]["state"]["_opening"]]
    assert len(opening) == len(set(opening))
    assert json.loads(opening[0])["what"] == "tokens"


def test_a_page_of_several_views_holds_their_script_once(tmp_path):
    views = [AttentionView(oracles.pattern(RNG, 1, 1, 3, 3)) for _ in range(3)]
    page = Page(iw.save_page(tmp_path / "page.html", "three", ["one", views[0], "two", views[1], views[2]]))
    assert sorted(page.data["scripts"]) == ["attention", "host"]
    mounts = [attributes["id"] for tag, attributes in page.elements if attributes.get("class") == "iw-mount"]
    assert mounts == ["iw-0", "iw-1", "iw-2"]


@pytest.mark.parametrize("part", [3, None, b"text", np.zeros(3)])
def test_a_page_is_made_of_text_and_views(tmp_path, part):
    with pytest.raises(InputError, match=f"got {type(part).__name__}"):
        iw.save_page(tmp_path / "page.html", "bad", ["good", part])
    assert not (tmp_path / "page.html").exists()
