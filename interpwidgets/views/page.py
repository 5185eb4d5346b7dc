"""Views in a page of their own: one HTML file, no kernel, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.views.view import STATIC, View

__all__ = ["save_page"]

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
const {{ scripts, views }} = JSON.parse(document.getElementById("iw-data").textContent);
const load = (code) => import(URL.createObjectURL(new Blob([code], {{ type: "text/javascript" }})));
const {{ mount }} = await load(scripts.host);
for (const {{ script, state }} of views.values()) state.widget = load(scripts[script]);
for (const [i, {{ state: {{ widget, ...state }} }}] of views.entries())
  await mount((await widget).default, document.getElementById(`iw-${{i}}`), state);
</script>
</html>
"""


def save_page(path: str | Path, title: str, parts: Iterable[str | View], max_mb: float = 10) -> Path:
    """Write views, and text between them, as one HTML file that opens anywhere and stays interactive.

    A text part is a paragraph, or a heading if it begins with `# `. Each view stores its tiles up to `max_mb`
    megabytes.

    Raises:
        InputError: a part is neither text nor a view.
    """
    scripts: dict[str, str] = {"host": (STATIC / "host.js").read_text()}
    views: list[dict[str, Any]] = []
    body = []
    for part in parts:
        if isinstance(part, View):
            body.append(f'<div class="iw-mount" id="iw-{len(views)}"></div>')
            name, script = part.script()
            scripts[name] = script
            views.append({"script": name, "state": part.page_state(max_mb)})
        elif isinstance(part, str):
            heading = part.startswith("# ")
            body.append(f"<h2>{escape(part[2:])}</h2>" if heading else f"<p>{escape(part)}</p>")
        else:
            raise InputError(f"A page is made of text and views; got {type(part).__name__}: {part!r}.")
    # `<` never appears in the data, so no token can end the script it stands in.
    data = json.dumps({"scripts": scripts, "views": views}, separators=(",", ":")).replace("<", "\\u003c")
    style = (STATIC / "style.css").read_text()
    path = Path(path)
    page = _PAGE.format(title=escape(title), style=style, body="\n".join(body), data=data)
    path.write_text(page, encoding="utf-8")
    return path
