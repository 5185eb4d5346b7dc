"""The harness itself, on widgets of three lines: what it says about a page is true."""

from __future__ import annotations

import pytest

WIDGET = """
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        const button = document.createElement("button");
        button.className = "count";
        const draw = () => { button.textContent = model.get("count"); };
        button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
        model.on("change:count", draw); draw(); el.append(button);
    } }'''
    count = traitlets.Int(0).tag(sync=True)
counter = Counter()
counter
"""


def widget_states(node):
    """The state of each widget that a notebook was saved with."""
    models = node.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    return [model["state"] for model in models.values()]


@pytest.mark.parametrize("kind", ["doc", "notebook"])
def test_a_click_reaches_python_and_python_reaches_the_page(notebook, kind):
    book = notebook(WIDGET, kind=kind)
    button = book.run(0, wait_for="button.count").locator("button.count")
    button.click()
    assert book.wait_for("counter.count", lambda count: count == 1)
    book.tell("counter.count = 41")
    button.get_by_text("41").wait_for()


def test_an_error_in_a_cell_is_reported(notebook):
    book = notebook("1 / 0")
    book.run(0)
    assert book.errors(0) == ["ZeroDivisionError: division by zero"]
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        book.run_all()
    with pytest.raises(AssertionError, match="NameError"):
        book.ask("nowhere")


def test_saved_state_is_drawn_when_the_kernel_knows_nothing_of_it(notebook):
    book = notebook(WIDGET)
    book.run(0, wait_for="button.count")
    book.tell("counter.count = 7")
    book.output(0).get_by_text("7", exact=True).wait_for()
    (saved,) = (state for state in widget_states(book.save()) if "count" in state)
    assert saved["count"] == 7
    book.shut_down()
    book.open()
    book.output(0).get_by_text("7", exact=True).wait_for()
    with pytest.raises(AssertionError, match="NameError"):
        book.ask("counter")


def test_a_distrusted_notebook_draws_no_widget_and_keeps_its_text(notebook):
    book = notebook("print('plain')", WIDGET)
    book.run(0)
    book.run(1, wait_for="button.count")
    book.save()
    book.shut_down()
    book.distrust()
    book.open_without_kernel()
    book.output(0).get_by_text("plain").wait_for()
    assert book.page.locator("button.count").count() == 0


def test_restarting_forgets(notebook):
    book = notebook("x = 1")
    book.run(0)
    assert book.ask("x") == 1
    book.restart()
    with pytest.raises(AssertionError, match="NameError"):
        book.ask("x")


def test_themes_change_and_an_offline_page_asks_nothing(notebook, open_page, tmp_path):
    book = notebook("1")
    for dark in (True, False):
        book.theme(dark=dark)
        assert book.page.locator("body").get_attribute("data-jp-theme-light") == str(not dark).lower()
    (tmp_path / "page.html").write_text("<p>hello</p><img src='http://127.0.0.1:9/x.png'>")
    page, log = open_page(offline=True, width=320)
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("innerWidth") == 320
    assert log.network == ["http://127.0.0.1:9/x.png"]
