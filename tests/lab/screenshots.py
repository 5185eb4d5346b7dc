"""Pictures for people to look at: the tour as a page and as a notebook, light and dark, narrow and wide.

    PYTHONPATH=tests python -m lab.screenshots build/screenshots

`make screenshots` runs this; it also makes the README's picture, docs/images/attention-*.png. Nothing compares the
pictures; a person does.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Page

import interpwidgets as iw
from interpwidgets.cli import PROMPT, SENTENCE, tour
from interpwidgets.views.finder import template_scores
from lab.browser import ROOT, chromium, new_page
from lab.notebook import TIMEOUT, Notebook
from lab.server import Server, jupyter

WIDTHS = (400, 1400)
TOUR = ROOT / "curriculum/00_tour.ipynb"


def settle(page: Page) -> None:
    """Wait until no view on the page is computing, and two frames have been drawn since."""
    page.wait_for_function("() => document.querySelectorAll('.iw-busy').length === 0", timeout=TIMEOUT)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))")


def of_page(browser: Browser, out: Path) -> Iterator[Path]:
    """The tour page, whole."""
    with tempfile.TemporaryDirectory() as folder:
        recording = iw.record(iw.load("induction-2l"), [PROMPT, SENTENCE])
        address = iw.save_page(Path(folder) / "tour.html", "Where does it look?", tour(recording)).as_uri()
        for width, dark in product(WIDTHS, (False, True)):
            with new_page(browser, width=width, offline=True, dark=dark) as (page, _):
                page.goto(address)
                page.locator(".iw-attention").nth(2).locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
                settle(page)
                path = out / f"page-{'dark' if dark else 'light'}-{width}.png"
                page.screenshot(path=path, full_page=True)
                yield path


def of_readme(browser: Browser, out: Path) -> Iterator[Path]:
    """One view, as the README shows it: an induction head, and what the last token attends to."""
    recording = iw.record(iw.load("induction-2l"), PROMPT)
    scores = template_scores(recording.attention(0))["induction"]
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    last = len(recording.attention(0).query_tokens) - 1
    view = iw.AttentionView(recording, layer=layer, head=head, query=last, title=PROMPT)
    with tempfile.TemporaryDirectory() as folder:
        address = view.save_html(Path(folder) / "view.html").as_uri()
        for dark in (False, True):
            with new_page(browser, width=1180, offline=True, dark=dark) as (page, _):
                page.goto(address)
                page.locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
                page.add_style_tag(content=".iw-live { display: none }")  # the picture stands for the live view
                settle(page)
                path = out / f"attention-{'dark' if dark else 'light'}.png"
                box = page.locator(".iw-attention").bounding_box()
                air = {"x": -8, "y": -8, "width": 16, "height": 16}  # around it
                page.screenshot(path=path, full_page=True, clip={side: box[side] + air[side] for side in air})
                yield path


def of_notebook(browser: Browser, server: Server, out: Path) -> Iterator[Path]:
    """Each view of the tour notebook, in JupyterLab."""
    shutil.copy(TOUR, server.root / TOUR.name)
    cells = nbformat.read(TOUR, as_version=4).cells
    shown = [i for i, cell in enumerate(cells) if cell.cell_type == "code" and "AttentionView" in cell.source]
    for width in WIDTHS:
        with new_page(browser, width=width, height=2600) as (page, _):
            book = Notebook(page, server, TOUR.name)
            book.open()
            book.run_all()
            for dark, (number, index) in product((False, True), enumerate(shown)):
                book.theme(dark=dark)
                cell = book.cell(index)
                cell.scroll_into_view_if_needed()
                cell.locator(".iw-attention .iw-large canvas, .iw-attention .iw-large svg").first.wait_for(
                    timeout=TIMEOUT
                )
                settle(page)
                path = out / f"lab-{'dark' if dark else 'light'}-{width}-{number}.png"
                cell.screenshot(path=path)
                yield path
            book.shut_down()


def main(out: Path) -> None:
    """Take them all, and say where they are."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    with chromium() as browser, tempfile.TemporaryDirectory() as root, jupyter(Path(root) / "lab") as server:
        images = ROOT / "docs/images"
        images.mkdir(exist_ok=True)
        for path in (*of_readme(browser, images), *of_page(browser, out), *of_notebook(browser, server, out)):
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
