"""Several views together, linked, laid out by the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ipywidgets import HBox, Layout, VBox

from interpwidgets.errors import InputError
from interpwidgets.views.linking import Link, link
from interpwidgets.views.page import save_page
from interpwidgets.views.view import View

__all__ = ["Dashboard"]

Row: TypeAlias = "View | Sequence[View]"


class Dashboard(VBox):  # type: ignore[misc]
    """Views below each other, and side by side where they are in a list; what one selects, all select.

    >>> iw.Dashboard([attention, [lens, residual]])

    Args:
        rows: views, or lists of views for a row.
        linked: share what the views have in common (`iw.link`); False leaves each by itself.
        title: what the page is called that `save_html` writes.

    Raises:
        InputError: nothing to show, or something that is no view.
    """

    def __init__(self, rows: Sequence[Row], *, linked: bool = True, title: str = "", **more: Any) -> None:
        self.rows: list[list[Any]] = [list(row) if isinstance(row, (list, tuple)) else [row] for row in rows]
        self.views: list[View] = [view for row in self.rows for view in row]
        if not self.views:
            raise InputError("A dashboard needs views: Dashboard([attention, [lens, residual]]).")
        if strange := [view for view in self.views if not isinstance(view, View)]:
            raise InputError(f"A dashboard is made of views; got {type(strange[0]).__name__}: {strange[0]!r:.60}.")
        self.title = title
        self.link: Link | None = None
        if linked and len(self.views) > 1:
            try:
                self.link = link(*self.views)
            except InputError:  # views that share nothing stand beside each other all the same
                self.link = None
        fill = Layout(flex="1 1 400px", min_width="0")
        for row in self.rows:
            for view in row:
                view.layout = fill if len(row) > 1 else Layout(width="auto")
        wrap = Layout(flex_flow="row wrap")
        super().__init__([HBox(row, layout=wrap) if len(row) > 1 else row[0] for row in self.rows], **more)

    def save_html(self, path: str | Path, max_mb: float = 10) -> Path:
        """Write all of it as one HTML file that needs no kernel and no network; what is linked stays linked.

        `max_mb` is for each view.
        """
        parts = [row[0] if len(row) == 1 else row for row in self.rows]
        return save_page(path, self.title or repr(self), parts, max_mb=max_mb)

    def __repr__(self) -> str:
        return f"Dashboard({', '.join(map(repr, self.views))})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        data: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        return {**data, "text/html": "".join(view.still() for view in self.views)}
