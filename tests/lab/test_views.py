"""Every view, live in JupyterLab: the tour of the views is run cell by cell, clicked through, and read in Python."""

from __future__ import annotations

import nbformat
import pytest
from playwright.sync_api import Locator

from lab.browser import ROOT
from lab.notebook import TIMEOUT

TOUR = ROOT / "curriculum/01_views.ipynb"


@pytest.fixture
def book(notebook):
    node = nbformat.read(TOUR, as_version=4)
    book = notebook(nbformat.v4.new_notebook(cells=node.cells, metadata=node.metadata))
    for index, cell in enumerate(node.cells):
        if cell.cell_type == "code":
            book.run(index)
            assert book.errors(index) == [], cell.source
    return book


def shown(book, name: str, title: str | None = None) -> Locator:
    """A view of the notebook, once it is drawn: by its kind, and by its title where there are several."""
    views = book.page.locator(f".jp-OutputArea section.iw-{name}")
    view = views if title is None else views.and_(book.page.locator(f"[aria-label='{title}']"))
    view.first.wait_for(timeout=TIMEOUT)
    view.first.scroll_into_view_if_needed()
    return view.first


def press(target: Locator, key: str) -> None:
    target.focus()
    target.press(key)


def test_the_tour_is_clicked_through(book):
    page = book.page
    views = page.locator(".jp-OutputArea .interpwidgets")
    assert views.count() >= 12
    assert page.locator(".jp-OutputArea .interpwidgets [role=alert]").count() == 0

    # A prompt is written, and what it drives follows.
    area = shown(book, "prompt").locator("textarea")
    area.fill("when anna and ben went to the park , anna gave a book to")
    book.wait_for("prompt.text.count('anna')", lambda count: count == 2)
    book.wait_for("prompt.outcome().tokens[0]", lambda token: token == "ben")
    book.wait_for("expected.table()[1][0][1]", lambda token: token == "ben")
    assert book.ask("attention.prompts[0]['shape'][2] == prompt.size")

    # Tokens are selected in the views of text.
    shown(book, "top-tokens").locator("[data-at='5']").click()
    book.wait_for("expected.position", lambda at: at == 4)  # where the prediction of that token was made
    book.wait_for("prompt.position", lambda at: at == 4)  # it is linked
    shown(book, "tokens-view").locator("[data-at='3']").click()
    book.wait_for("surprise.position", lambda at: at == 3)

    # Grids are walked over with the keys.
    lens = shown(book, "logit-lens").locator("canvas[role=img]").first
    press(lens, "ArrowLeft")
    book.wait_for("(lens.layer, lens.position)", lambda at: at == (2, 13))
    book.tell("lens.position = 2")
    book.wait_for("lens.position", lambda at: at == 2)

    # A cell of a sweep is run again.
    effects = shown(book, "patching")
    press(effects.locator("canvas[role=img]").first, "ArrowRight")
    effects.locator(".iw-outcome").wait_for(timeout=TIMEOUT)
    assert book.ask("(effects.layer, effects.head) in [(a, b) for a in range(3) for b in range(4)]")

    # Bars, nodes, rows.
    written = shown(book, "residual").locator("[role=listbox]").first
    press(written, "ArrowUp")
    book.wait_for("written.layer", lambda layer: layer != 2)
    circuit = shown(book, "circuit")
    circuit.get_by_text("L1H2", exact=True).first.click()
    book.wait_for("(circuit.node, circuit.layer, circuit.head)", lambda at: at == ("L1H2", 1, 2))
    neurons = shown(book, "neurons").locator("[role=listbox]").first
    before = book.ask("neurons.neuron")
    press(neurons, "ArrowDown")
    book.wait_for("neurons.neuron", lambda neuron: neuron != before)
    book.tell("geometry.step = 0")
    shown(book, "geometry").get_by_text("sparsity 0", exact=False).first.wait_for(timeout=TIMEOUT)

    # The cursor of a training moves the attention.
    book.tell("training.step = 2")
    book.wait_for("learning.prompt", lambda prompt: prompt == 2)
    learning = page.locator(".jp-OutputArea section.iw-attention").last
    learning.locator("figcaption").get_by_text("step 1,300").wait_for(timeout=TIMEOUT)

    assert page.locator(".jp-OutputArea .iw-error:not(:empty)").count() == 0
    assert not [line for line in book.log if line.startswith("thrown:")]


def test_a_step_is_taken_back_with_the_keyboard(book):
    lens = shown(book, "logit-lens").locator("canvas[role=img]").first
    press(lens, "ArrowLeft")
    book.wait_for("lens.position", lambda at: at == 13)
    press(lens, "Control+z")
    book.wait_for("lens.position", lambda at: at == 14)
    press(lens, "Control+Shift+z")
    book.wait_for("lens.position", lambda at: at == 13)
