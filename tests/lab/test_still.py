"""Hosts beside Jupyter: a page of our own and nbconvert's, where no kernel runs, and marimo, where one does."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

import interpwidgets as iw
from lab.notebook import TIMEOUT, code
from lab.server import free_port, stop
from lab.test_attention import DATA, HOSTILE, VIEW, head, pattern, pixels, wait_for_pixels

TOKENS = [*HOSTILE, *"abcde"]


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    """A notebook run from beginning to end without a browser, its widget state not kept."""
    notebook = code(DATA, VIEW)
    NotebookClient(notebook, timeout=120, store_widget_state=False).execute()
    return notebook


@pytest.mark.host(
    "nbconvert --to html", "a picture with alternative text, a table of the strongest weights, no network"
)
def test_nbconvert_shows_a_picture_and_a_table(executed, open_page, tmp_path):
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    (tmp_path / "notebook.html").write_text(exporter.from_notebook_node(executed)[0], "utf-8")
    page, log = open_page(offline=True)
    page.goto((tmp_path / "notebook.html").as_uri())
    picture = page.locator(".jp-OutputArea-output img")
    assert "Attention" in picture.get_attribute("alt")
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 200
    rows = page.locator(".jp-OutputArea-output table tbody tr")
    weights = [float(row.locator("td").last.text_content()) for row in rows.all()]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == pytest.approx(pattern()[1, 0].max(), abs=1e-3)
    assert page.evaluate("() => window.pwned") is None
    assert log.network == []


@pytest.mark.host("nbconvert --to markdown", "the picture and the table, as HTML in the text")
def test_nbconvert_markdown_keeps_the_picture(executed):
    text, _ = MarkdownExporter().from_notebook_node(executed)
    assert re.search(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]{1000,}" alt="Attention', text)
    assert "<table" in text
    outputs = text.split("```")[-1]
    assert "&lt;img" in outputs
    assert "<img src=x" not in outputs


@pytest.mark.host("A page of its own (`save_html`)", "offline: drawn, interactive, no request to the network")
def test_a_saved_page_is_interactive_without_a_network(open_page, tmp_path):
    view = iw.AttentionView(pattern(), tokens=TOKENS, layer=1, title="</script><img src=x onerror=window.pwned=1>")
    path = view.save_html(tmp_path / "attention.html")
    page, log = open_page(offline=True)
    page.goto(path.as_uri())
    area = page.locator(".iw-attention")
    area.locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
    before = pixels(area)
    head(area, 0, 2).click()
    assert wait_for_pixels(area, before) != before
    strip = area.locator(".iw-tokens").inner_text()
    assert "<img" in strip
    assert "</script>" in strip
    assert page.evaluate("() => window.pwned") is None
    assert log.network == []
    assert log.errors == []


def test_a_page_of_several_views_keeps_them_apart(open_page, tmp_path):
    views = [iw.AttentionView(pattern(), tokens=TOKENS, layer=layer) for layer in (0, 1)]
    text = "a < b & <script>window.pwned = 1</script>"
    path = iw.save_page(tmp_path / "page.html", "Two", [text, views[0], "# Second", views[1]])
    page, log = open_page(offline=True)
    page.goto(path.as_uri())
    both = page.locator(".iw-attention")
    both.nth(1).locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
    assert page.get_by_text(text).count() == 1
    apart, before = pixels(both.nth(1)), pixels(both.nth(0))
    assert apart != before
    head(both.nth(0), 0, 2).click()
    wait_for_pixels(both.nth(0), before)
    assert pixels(both.nth(1)) == apart
    assert page.evaluate("() => window.pwned") is None
    assert log.errors == []


@contextmanager
def marimo(folder: Path, *cells: str) -> Iterator[str]:
    """The address of a marimo application of these cells; each is a function body."""
    body = "\n\n".join(f"@app.cell\n{cell}" for cell in cells)
    (folder / "app.py").write_text(f"import marimo\n\napp = marimo.App()\n\n{body}\n", "utf-8")
    port = free_port()
    command = [sys.executable, "-m", "marimo", "run", "app.py", "--headless", "--no-token", "--port", str(port)]
    with (folder / "marimo.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                with suppress(OSError):
                    urllib.request.urlopen(url, timeout=2).close()
                    break
                time.sleep(0.05)
            else:
                raise RuntimeError((folder / "marimo.log").read_text())
            yield url
        finally:
            stop(process)


@pytest.mark.host("marimo", "live: a click reaches Python, Python moves the view")
def test_marimo_is_live(open_page, tmp_path):
    np.save(tmp_path / "attention.npy", pattern())
    view = f"mo.ui.anywidget(iw.AttentionView(attention, tokens={TOKENS!r}, layer=1))"
    cells = (
        "def _():\n    import marimo as mo, numpy as np, interpwidgets as iw\n    return iw, mo, np",
        f"def _(iw, mo, np):\n    attention = np.load('attention.npy')\n    view = {view}\n    view\n    return view,",
        "def _(mo):\n    button = mo.ui.run_button(label='move it')\n    button\n    return (button,)",
        "def _(button, view):\n    if button.value:\n        view.widget.head = 2\n    return",
        "def _(mo, view):\n    mo.md(f'Python sees layer {view.layer}, head {view.head}')\n    return",
    )
    with marimo(tmp_path, *cells) as url:
        page, _ = open_page()
        page.goto(url)
        area = page.locator(".iw-attention")
        area.locator(".iw-pixels canvas").wait_for(timeout=TIMEOUT)
        page.get_by_text("Python sees layer 1, head 0").wait_for(timeout=TIMEOUT)
        before = pixels(area)
        head(area, 0, 1).click()
        page.get_by_text("Python sees layer 0, head 1").wait_for(timeout=TIMEOUT)
        clicked = wait_for_pixels(area, before)
        page.get_by_role("button", name="move it").click()
        wait_for_pixels(area, clicked)
        assert head(area, 0, 2).get_attribute("aria-pressed") == "true"


def test_alternative_text_is_escaped():
    view = iw.AttentionView(pattern(), tokens=TOKENS)
    still = view._repr_mimebundle_()[0]["text/html"]
    assert "<img src=x" not in still
    assert html.escape("<s>") in still or "<s>" not in still
