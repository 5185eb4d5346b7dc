"""One server and one browser for all tests of this folder, ended after its last; a page of its own for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from lab.browser import chromium, new_page
from lab.notebook import Notebook
from lab.server import SAVE_WIDGETS, Server, jupyter

HERE = Path(__file__).parent
OPENED = pytest.StashKey[list[Any]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add to a failure what its pages showed and said."""
    report = yield
    if report.failed:
        for page, log in item.stash.get(OPENED, []):
            with suppress(Exception):
                report.sections.append((f"page {page.url}", page.locator("body").inner_text()[:2000]))
            report.sections.append(("console", "\n".join(log[-20:])))
    return report


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab and Notebook, with "save widget state" switched on."""
    with jupyter(tmp_path_factory.mktemp("jupyter"), SAVE_WIDGETS) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`page, log = open_page(width=…, dark=…, offline=…)`; closed after the test."""
    opened = request.node.stash.setdefault(OPENED, [])
    with ExitStack() as stack:

        def open_one(**options: Any) -> Any:
            opened.append(stack.enter_context(new_page(browser, **options)))
            return opened[-1]

        yield open_one


@pytest.fixture
def notebook(server: Server, open_page: Callable[..., Any], request: pytest.FixtureRequest) -> Iterator[Any]:
    """`notebook(cell, cell, …, kind="doc")` opens a new notebook, named after the test; its kernel ends with it."""
    opened: list[Notebook] = []

    def create(*cells: Any, kind: str = "doc", **options: Any) -> Notebook:
        page, log = open_page(**options)
        content = cells[0] if len(cells) == 1 and not isinstance(cells[0], str) else cells
        book = Notebook.create(page, server, f"{request.node.name}-{len(opened)}.ipynb", content, kind)
        book.log = log
        opened.append(book)
        return book

    yield create
    for book in opened:
        if book.page.evaluate("() => !!window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session"):
            book.shut_down()
