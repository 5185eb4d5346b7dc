"""A notebook as an article: its text, and its views alive and linked, in one HTML file without a kernel."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.views import Dashboard, Html, View, save_page

__all__ = ["publish"]

_WIDGET = "application/vnd.jupyter.widget-view+json"


def publish(notebook: str | Path, out: str | Path | None = None, *, code: bool = False, max_mb: float = 1) -> Path:
    """Run a notebook from its first cell to its last, and write what it says and shows as one page.

    Markdown becomes text, views and dashboards stay interactive and linked, pictures, tables and printed text stay as
    they are. `code` keeps each cell's code, folded. A cell tagged `skip-publish` is run and not shown. Each view stores
    its tiles up to `max_mb` megabytes. `out` is the notebook's name with .html unless given.

    The code is run here, with your rights: publish notebooks that you trust.

    Raises:
        InputError: no notebook, or a cell that fails: nothing is written then.
        ImportError: what reads and runs notebooks is not installed.
    """
    try:
        import nbformat
        from IPython.core.interactiveshell import InteractiveShell
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise ImportError(f'Publishing needs {error.name}: pip install "interpwidgets[lab]"') from None
    path = Path(notebook)
    try:
        cells: list[Any] = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise InputError(f"There is no notebook {path}.") from None
    except (nbformat.reader.NotJSONError, ValueError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is no notebook: {type(error).__name__}: {error}") from None
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    shell = InteractiveShell.instance()
    parts: list[Any] = []
    title = ""
    for number, cell in enumerate(cells):
        shown = "skip-publish" not in cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            title = title or _heading(cell.source)
            found: list[Any] = [Html(markdown.render(cell.source))]
        elif cell.cell_type == "code":
            found = list(_run(shell, cell.source, f"{path}, cell {number + 1}"))
            if code and cell.source.strip():
                source = f"<details><summary>code</summary><pre>{escape(cell.source)}</pre></details>"
                found.insert(0, Html(source))
        else:
            continue
        parts += found if shown else []
    return save_page(out or path.with_suffix(".html"), title or path.stem, parts, max_mb=max_mb)


def _heading(text: str) -> str:
    """The first heading of a text, if it has one."""
    return next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")), "")


def _run(shell: Any, source: str, where: str) -> Iterator[Any]:
    """Run a cell; what it printed and displayed, in order."""
    from IPython.utils.capture import capture_output

    values: list[Any] = []
    shell.display_trap.hook = values.append
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=False)
    if (error := result.error_before_exec or result.error_in_exec) is not None:
        raise InputError(f"{where} fails with {type(error).__name__}: {error}")
    if captured.stdout:
        yield Html(f"<pre>{escape(captured.stdout)}</pre>")
    for output in captured.outputs:
        yield from _part(output.data)
    for value in values:
        if value is not None:
            yield from _part(shell.display_formatter.format(value)[0])


def _part(data: dict[str, Any]) -> Iterator[Any]:
    """One output, in the richest form that a page can hold."""
    widget = _widget(data.get(_WIDGET, {}).get("model_id"))
    if isinstance(widget, Dashboard):
        yield from (row[0] if len(row) == 1 else row for row in widget.rows)
    elif isinstance(widget, View):
        yield widget
    elif "image/svg+xml" in data:
        yield Html(_image("image/svg+xml", data["image/svg+xml"].encode()))
    elif "image/png" in data:
        yield Html(_image("image/png", data["image/png"]))
    elif "text/html" in data:
        yield Html(f'<div class="iw-output">{data["text/html"]}</div>')
    elif "text/plain" in data:
        yield Html(f"<pre>{escape(data['text/plain'])}</pre>")


def _image(kind: str, content: bytes | str) -> str:
    encoded = content if isinstance(content, str) else b64encode(content).decode()
    return f'<img src="data:{kind};base64,{encoded}" alt="a figure of the notebook">'


def _widget(model_id: str | None) -> Any:
    """The living widget of that number."""
    from ipywidgets.widgets import widget

    return widget._instances.get(model_id)  # noqa: SLF001  there is no public way from a number to its widget
