"""One notebook open in a page: run its cells, ask its kernel, save it, reopen it.

The page exposes its application (`window.jupyterapp`), and everything here goes through it: clicks on cells and
keystrokes depend on focus, commands do not. Nothing waits for time: every wait names what it waits for.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page

from lab.server import Server

TIMEOUT = 30_000  # ms; the longest a condition may take on a busy machine before the test fails

# Two things that a notebook page calls "ready" come too early: the kernel's indicator says idle before the session
# can execute, and a session that can execute may belong to a panel whose cells do not exist yet. So: the document is
# ready, the panel shown, and the kernel has answered a request of this very page.
READY = """async () => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const session = panel?.context?.sessionContext;
    if (!session) return false;
    await Promise.all([panel.context.ready, panel.revealed, session.ready]);
    const kernel = session.session?.kernel;
    if (!kernel || kernel.connectionStatus !== "connected") return false;
    await kernel.info;
    await kernel.requestExecute({ code: "", silent: true, store_history: false }).done;
    return panel.content.widgets.length > 0;
}"""

ASK = """async (expression) => {
    const { kernel } = window.jupyterapp.shell.currentWidget.context.sessionContext.session;
    const request = { code: "", silent: true, store_history: false, user_expressions: { value: expression } };
    const reply = await kernel.requestExecute(request, false).done;
    return reply.content.user_expressions.value;
}"""

RUN = """async (index) => {
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = index;
    panel.content.deselectAll();
    window.iwRun = { done: false };
    window.jupyterapp.commands.execute("notebook:run-cell").then(
        () => { window.iwRun = { done: true }; },
        (error) => { window.iwRun = { done: true, error: String(error) }; });
}"""


def code(*cells: str) -> nbformat.NotebookNode:
    """A notebook of code cells, without outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


class Notebook:
    """A notebook in a page of JupyterLab 4 or Notebook 7."""

    def __init__(self, page: Page, server: Server, name: str, kind: str = "doc") -> None:
        self.page, self.server, self.name, self.kind = page, server, name, kind

    @classmethod
    def create(
        cls, page: Page, server: Server, name: str, cells: Sequence[str] | nbformat.NotebookNode, kind: str = "doc"
    ) -> Notebook:
        """Write the notebook, open it and wait until it can run."""
        node = cells if isinstance(cells, nbformat.NotebookNode) else code(*cells)
        nbformat.write(node, server.root / name)
        notebook = cls(page, server, name, kind)
        notebook.open()
        return notebook

    @property
    def path(self) -> Path:
        """The file that the server reads and writes."""
        return self.server.root / self.name

    def open(self) -> None:
        """Load the page, and wait until cells can run."""
        self.page.goto(self.server.address(self.kind, self.name), wait_until="domcontentloaded")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when the kernel has answered this page."""
        self.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context", timeout=TIMEOUT)
        self.page.wait_for_function(READY, timeout=TIMEOUT, polling=100)

    def open_without_kernel(self) -> None:
        """Load the notebook as a reader does who starts no kernel; JupyterLab then restores no widget state."""
        self.page.goto(f"{self.server.url}/lab?token={self.server.token}&reset", wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('docmanager:open')", timeout=TIMEOUT)
        self.page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        self.page.evaluate(
            """path => window.jupyterapp.commands.execute("docmanager:open", {
                path, factory: "Notebook", kernelPreference: { shouldStart: false, autoStartDefault: false },
            }).then(panel => panel.context.ready)""",
            self.name,
        )
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=TIMEOUT)

    def cell(self, index: int) -> Locator:
        """One cell, by its place in the notebook."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """What a cell printed or displayed."""
        return self.cell(index).locator(".jp-OutputArea-output")

    def run(self, index: int, wait_for: str | None = None) -> Locator:
        """Run one cell to its end; then wait for `wait_for` in its output, if that is given; return the output."""
        self.page.evaluate(RUN, index)
        self.page.wait_for_function("() => window.iwRun.done", timeout=TIMEOUT)
        if error := self.page.evaluate("() => window.iwRun.error"):
            raise AssertionError(f"running cell {index} failed: {error}")
        if wait_for:
            if errors := self.errors(index):
                raise AssertionError(f"cell {index} raised {errors}")
            self.cell(index).locator(f".jp-OutputArea {wait_for}").first.wait_for(state="attached", timeout=TIMEOUT)
        return self.output(index)

    def run_all(self) -> None:
        """Run every code cell, in order; stop at the first error."""
        kinds = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.map(c => c.model.type)")
        for index, kind in enumerate(kinds):
            if kind == "code":
                self.run(index)
                if errors := self.errors(index):
                    raise AssertionError(f"cell {index} raised {errors}")

    def errors(self, index: int) -> list[str]:
        """The exceptions that a cell's output shows."""
        outputs = self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs?.toJSON() ?? []", index
        )
        return [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]

    def ask(self, expression: str) -> Any:
        """The value of a Python expression in the kernel: no cell is run, no history kept."""
        reply = self.page.evaluate(ASK, expression)
        if reply["status"] != "ok":
            raise AssertionError(f"{expression!r} raised {reply['ename']}: {reply['evalue']}")
        return ast.literal_eval(reply["data"]["text/plain"])

    def tell(self, statement: str) -> None:
        """Run a statement in the kernel, outside any cell."""
        self.ask(f"exec({statement!r})")

    def wait_for(self, expression: str, expected: Callable[[Any], bool], timeout: float = TIMEOUT / 1000) -> Any:
        """The value of a Python expression, once it is as expected."""
        end = time.monotonic() + timeout
        while not expected(value := self.ask(expression)):
            if time.monotonic() > end:
                raise AssertionError(f"{expression} is still {value!r} after {timeout:g} s")
            self.page.wait_for_timeout(30)
        return value

    def save(self) -> nbformat.NotebookNode:
        """Save as the user's command does, and read the file."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save').then(() => null)")
        return nbformat.reads(self.path.read_text("utf-8"), as_version=4)

    def shut_down(self) -> None:
        """End this notebook's kernel, and leave the page."""
        self.page.evaluate("""() => {
            const { sessionContext } = window.jupyterapp.shell.currentWidget.context;
            return sessionContext.shutdown().then(() => null);
        }""")
        self.page.goto("about:blank")

    def restart(self) -> None:
        """Restart the kernel, without the dialog, and wait until it can run."""
        self.page.evaluate("""() => {
            const { kernel } = window.jupyterapp.shell.currentWidget.context.sessionContext.session;
            return kernel.restart().then(() => null);
        }""")
        self.wait_until_ready()

    def distrust(self) -> None:
        """Change the file on disk, as a stranger would have written it: its signature is no longer known."""
        node = json.loads(self.path.read_text("utf-8"))
        node["metadata"]["from"] = "somebody else"
        self.path.write_text(json.dumps(node), "utf-8")

    def theme(self, *, dark: bool) -> None:
        """JupyterLab's own dark or light theme."""
        name = f"JupyterLab {'Dark' if dark else 'Light'}"
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme }).then(() => null)", name
        )
        body = f"body[data-jp-theme-light={str(not dark).lower()}]"
        self.page.locator(body).wait_for(state="attached", timeout=TIMEOUT)
