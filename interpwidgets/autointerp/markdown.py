"""Text in Markdown that stays text: tokens and labels may spell markup."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

__all__ = ["escaped", "table"]


def escaped(text: str) -> str:
    """A text that Markdown and the HTML made of it show as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", html.escape(" ".join(text.split())))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table in Markdown, the first of them its heads."""
    lines = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
