"""Tables for pandas and from it. It is imported when somebody asks for one, and nothing else here needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.tokens import unshow

__all__ = ["frame", "is_frame", "text_of"]


def frame(columns: Mapping[str, Any]) -> Any:
    """A DataFrame of columns by name: a list or an array [row] each, or one value for all rows.

    Whole numbers of which some are missing (None) stay whole.

    Raises:
        ImportError: pandas is not there.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("A table needs pandas: pip install pandas") from None
    whole = {name: pd.array(column, "Int64") for name, column in columns.items() if _has_gaps(column)}
    return pd.DataFrame({**columns, **whole})


def _has_gaps(column: Any) -> bool:
    return isinstance(column, (list, tuple)) and {type(value) for value in column} == {int, type(None)}


def is_frame(data: Any) -> bool:
    """Whether something is a table of named columns; nothing is imported to find out."""
    return hasattr(data, "columns") and hasattr(data, "__getitem__")


def text_of(table: Any) -> tuple[list[str | bytes] | None, dict[str, Any]]:
    """The tokens of a table that has a column `token`, and by name its columns of numbers, but for `position`.

    Tokens may be spelt as they are or as they are shown (`␣cat`).

    Raises:
        InputError: the column `token` holds something else than text.
    """
    columns = {str(name): table[name] for name in table.columns}
    tokens = columns.pop("token", None)
    columns.pop("position", None)
    numbers = {name: column for name, column in columns.items() if column.dtype.kind in "fiub"}
    return None if tokens is None else [_token(each) for each in tokens], numbers


def _token(given: Any) -> str | bytes:
    if not isinstance(given, (str, bytes)):
        raise InputError(f"The column 'token' holds text, a token a row; got {given!r:.40}.")
    return unshow(given) if isinstance(given, str) else given
