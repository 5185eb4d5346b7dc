"""Views in a page of their own: one HTML file, no kernel, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from interpwidgets.errors import InputError
from interpwidgets.views.linking import links_between
from interpwidgets.views.view import STATIC, View

__all__ = ["Html", "save_page"]


class Html(str):
    """Markup to put into a page as it is."""


Part: TypeAlias = "str | View | Sequence[Part]"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
<main class="iw-page">
{body}
</main>
<script type="application/json" id="iw-data">{data}</script>
<script type="module">
const {{ scripts, views, links }} = JSON.parse(document.getElementById("iw-data").textContent);
const load = (code) => import(URL.createObjectURL(new Blob([code], {{ type: "text/javascript" }})));
const {{ link, mount }} = await load(scripts.host);
const models = [];
for (const {{ script, state }} of views.values()) state.widget = load(scripts[script]);
for (const [i, {{ state: {{ widget, ...state }} }}] of views.entries())
  models.push(await mount((await widget).default, document.getElementById(`iw-${{i}}`), state));
link(models, links);
</script>
</html>
"""


def save_page(path: str | Path, title: str, parts: Iterable[Part], max_mb: float = 10) -> Path:
    """Write views, and text between them, as one HTML file that opens anywhere and stays interactive.

    A text part is a paragraph, or a heading if it begins with `# `; a list of views is a row, side by side where there
    is room; `Html` is markup that you vouch for. Views that are linked stay so. Each view stores its tiles up to
    `max_mb` megabytes.

    Raises:
        InputError: a part is none of these.
    """
    views: list[View] = []
    body = "\n".join(_body(part, views) for part in parts)
    scripts: dict[str, str] = {"host": (STATIC / "host.js").read_text()}
    states: list[dict[str, Any]] = []
    for view in views:
        name, script = view.script()
        scripts[name] = script
        states.append({"script": name, "state": view.page_state(max_mb)})
    data = {"scripts": scripts, "views": states, "links": links_between(views)}
    # `<` never appears in the data, so no token can end the script it stands in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    style = (STATIC / "style.css").read_text()
    path = Path(path)
    path.write_text(_PAGE.format(title=escape(title), style=style, body=body, data=text), encoding="utf-8")
    return path


def _body(part: Part, views: list[View]) -> str:
    """The markup of a part; its views are added to the list."""
    if isinstance(part, View):
        views.append(part)
        return f'<div class="iw-mount" id="iw-{len(views) - 1}"></div>'
    if isinstance(part, Html):
        return part
    if isinstance(part, str):
        return f"<h2>{escape(part[2:])}</h2>" if part.startswith("# ") else f"<p>{escape(part)}</p>"
    if isinstance(part, (list, tuple)):
        return f'<div class="iw-beside">{"".join(_body(each, views) for each in part)}</div>'
    raise InputError(f"A page is made of text, views and rows of views; got {type(part).__name__}: {part!r:.80}.")
