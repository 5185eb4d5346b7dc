"""AttentionView in JupyterLab 4 and Notebook 7, driven as a reader drives it.

Attention is random, drawn anew in every run; what the page shows and what Python holds are compared with the array.
"""

from __future__ import annotations

import re
from random import SystemRandom

import numpy as np
import pytest

from lab.notebook import TIMEOUT

SEED = SystemRandom().randrange(2**32)  # in the source of the first cell, so a failure shows it
HOSTILE = ["<s>", "</script>", "<img src=x onerror=window.pwned=1>", "&lt;b&gt;", " the", "\n", "\u202eabc"]


def in_both(what: str) -> pytest.MarkDecorator:
    """Run in JupyterLab and in Notebook; each is a row of the table of hosts."""
    doc = pytest.param("doc", marks=pytest.mark.host("JupyterLab", what))
    return pytest.mark.parametrize("kind", [doc, pytest.param("notebook", marks=pytest.mark.host("Notebook", what))])


DATA = f"""
import numpy as np
import interpwidgets as iw

random = np.random.default_rng({SEED})
tokens = [*{HOSTILE!r}, *"abcde"]
scores = random.normal(size=(2, 3, 12, 12)) * 2
scores[..., np.triu(np.ones((12, 12), dtype=bool), k=1)] = -np.inf
attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
attention = attention.astype(np.float32)
"""
VIEW = "view = iw.AttentionView(attention, tokens=tokens, layer=1)\nview"


def pattern() -> np.ndarray:
    """The array of `DATA`, made again here: [layer, head, query, key]."""
    names: dict[str, np.ndarray] = {}
    exec(DATA.replace("import interpwidgets as iw", ""), names)
    return names["attention"]


def pixels(area) -> str:
    """The large picture, as an address that holds its pixels."""
    return area.locator(".iw-pixels canvas").first.evaluate("canvas => canvas.toDataURL()")


def wait_for_pixels(area, other_than: str) -> str:
    """The large picture, once it differs from a former one."""
    canvas = area.locator(".iw-pixels canvas").first.element_handle()
    area.page.wait_for_function(
        "([canvas, old]) => canvas.toDataURL() !== old", arg=[canvas, other_than], timeout=TIMEOUT
    )
    return pixels(area)


def head(area, layer: int, number: int):
    """The thumbnail of one head."""
    return area.get_by_role("button", name=re.compile(f"^layer {layer} head {number}\\b"))


def shown(book, index: int):
    """The view in the output of a cell, once it is drawn."""
    area = book.cell(index).locator(".jp-OutputArea .iw-attention")
    area.locator(".iw-pixels canvas").first.wait_for(timeout=TIMEOUT)
    return area


def open_view(notebook, *more: str, **options):
    book = notebook(DATA, VIEW, *more, **options)
    book.run(0)
    assert book.errors(0) == []
    book.run(1, wait_for=".iw-attention")
    return book, shown(book, 1)


@in_both("live: a click reaches Python, Python moves the view")
def test_a_click_is_a_value_in_python_and_a_value_is_a_picture(notebook, kind):
    book, area = open_view(notebook, kind=kind)
    assert np.array_equal(book.ask("attention.tolist()"), pattern().tolist())
    before = pixels(area)

    head(area, 0, 2).click()
    book.wait_for("(view.layer, view.head)", lambda at: at == (0, 2))
    clicked = wait_for_pixels(area, before)

    book.tell("view.layer = 1; view.head = 0")
    assert wait_for_pixels(area, clicked) == before
    assert head(area, 1, 0).get_attribute("aria-pressed") == "true"


@in_both("live: the number under the pointer is the exact weight")
def test_a_weight_under_the_pointer_is_the_weight_in_the_array(notebook, kind):
    book, area = open_view(notebook, kind=kind)
    canvas = area.locator(".iw-pixels canvas").first
    side = canvas.bounding_box()["width"] / 12
    canvas.click(position={"x": 4.5 * side, "y": 9.5 * side})
    book.wait_for("(view.query, view.key)", lambda at: at == (9, 4))
    weight = pattern()[1, 0, 9, 4]
    assert book.ask("tuple(view.selection)") == (1, 0, 9, 4, float(weight))
    status = area.locator(".iw-status").inner_text()
    (number,) = re.findall(r": ([\d.e−-]+)", status)
    assert float(number.replace("−", "-")) == pytest.approx(float(weight), rel=1e-3, abs=1e-4)


def test_tokens_are_text_whatever_they_say(notebook):
    book, area = open_view(notebook)
    strip = area.locator(".iw-tokens").inner_text()
    for token in ("<s>", "</script>", "<img", "onerror", "&lt;b&gt;", "␣the", "↵", "⟨U+202E⟩abc"):
        assert token in strip
    assert area.locator("img").count() == 0
    assert book.page.evaluate("() => window.pwned") is None
    assert not [line for line in book.log if line.startswith("thrown:")]


def test_a_value_out_of_range_is_refused_in_words(notebook):
    book, area = open_view(notebook)
    before = pixels(area)
    with pytest.raises(AssertionError, match="head 3 does not exist: this view has head 0 to 2"):
        book.tell("view.head = 3")
    assert book.ask("view.head") == 0
    assert pixels(area) == before


@pytest.mark.host("JupyterLab", "the same view shown twice stays one; three views of one recording are three")
def test_a_view_shown_twice_is_one_and_three_views_are_three(notebook):
    book, first = open_view(notebook, "view", "others = [iw.AttentionView(attention, tokens=tokens) for _ in range(2)]",
                            "display(*others)")  # fmt: skip
    book.run(2, wait_for=".iw-attention")
    second = shown(book, 2)
    book.run(3)
    book.run(4, wait_for=".iw-attention")
    both = book.cell(4).locator(".jp-OutputArea .iw-attention")
    both.nth(1).locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
    assert both.count() == 2

    before, apart = pixels(second), pixels(both.nth(1))
    head(first, 0, 1).click()
    assert wait_for_pixels(second, before) == pixels(first)
    head(both.nth(0), 1, 2).click()
    book.wait_for("[(v.layer, v.head) for v in [view, *others]]", lambda at: at == [(0, 1), (1, 2), (0, 0)])
    assert pixels(both.nth(1)) == apart


@pytest.mark.host(
    "JupyterLab", "kernel restarted: the old view says so when it next needs Python; running again revives it"
)
def test_after_a_restart_the_view_says_so_and_running_again_revives_it(notebook):
    book, area = open_view(notebook)
    book.restart()
    area.get_by_label("find").select_option("induction")  # which Python computes
    area.get_by_text("not live").wait_for(timeout=TIMEOUT)
    book.run(0)
    book.run(1, wait_for=".iw-attention")
    area = shown(book, 1)
    head(area, 0, 1).click()
    book.wait_for("(view.layer, view.head)", lambda at: at == (0, 1))


@in_both("saved with widget state, reopened: drawn, says not live")
def test_a_saved_notebook_reopened_still_draws(notebook, kind):
    book, area = open_view(notebook, kind=kind)
    head(area, 0, 1).click()
    book.wait_for("(view.layer, view.head)", lambda at: at == (0, 1))
    expected = pixels(area)
    book.save()
    book.shut_down()
    book.open()
    area = shown(book, 1)
    assert pixels(area) == expected
    assert head(area, 0, 1).get_attribute("aria-pressed") == "true"
    area.get_by_text("not live").wait_for(timeout=TIMEOUT)
    with pytest.raises(AssertionError, match="NameError"):
        book.ask("view")
    head(area, 1, 2).click()  # a short prompt carries all its heads
    wait_for_pixels(area, expected)


@pytest.mark.host("JupyterLab", "not trusted: a picture with alternative text, a table of the strongest weights")
def test_a_notebook_that_is_not_trusted_shows_a_picture_and_a_table(notebook):
    book, _ = open_view(notebook)
    book.save()
    book.shut_down()
    book.distrust()
    book.open_without_kernel()
    output = book.cell(1).locator(".jp-OutputArea")
    picture = output.locator("img")
    picture.wait_for(timeout=TIMEOUT)
    assert output.locator(".iw-attention").count() == 0
    assert "Attention" in picture.get_attribute("alt")
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 200
    cells = output.locator("table tbody tr").first.locator("td").all_text_contents()
    strongest = pattern()[1, 0].max()
    assert any(re.fullmatch(r"[\d.]+", cell) and float(cell) == pytest.approx(strongest, abs=1e-3) for cell in cells)
    assert book.page.evaluate("() => window.pwned") is None


@pytest.mark.host("JupyterLab", "dark and light theme, also when changed under the view")
def test_the_theme_is_the_hosts(notebook):
    book, area = open_view(notebook)
    light = pixels(area)
    book.theme(dark=True)
    dark = wait_for_pixels(area, light)
    ink = area.evaluate("element => getComputedStyle(element).color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 128, f"dark text on a dark page: {ink}"
    book.theme(dark=False)
    assert wait_for_pixels(area, dark) == light


@pytest.mark.parametrize("width", [360, 480, 1400])
def test_narrow_and_wide_notebooks_show_everything(notebook, width):
    _, area = open_view(notebook, width=width)
    overflow = area.evaluate("element => element.scrollWidth - element.clientWidth")
    assert overflow <= 1
    assert head(area, 1, 2).is_visible()
    assert area.locator(".iw-tokens").is_visible()
