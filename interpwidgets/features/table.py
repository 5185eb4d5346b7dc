"""Questions to the index of a store: conditions in SQL, and pages of a table of a million rows.

DuckDB reads the Parquet file, and nothing else: it may open no other file, and load no extension. A page is not asked
of it: the order of all rows is kept once it is known, and rows are taken from columns in memory by their number.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features.files import need
from interpwidgets.features.notes import Notes
from interpwidgets.frames import frame

__all__ = ["SAID", "Rows", "Table"]

SAID = ("label", "score", "low", "high", "labelled_by", "note", "lists")  # columns that people and labelers fill
_KINDS = ("VARCHAR", "DOUBLE", "DOUBLE", "DOUBLE", "VARCHAR", "VARCHAR", "VARCHAR[]")
_ORDERS = 8  # kept


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the index: which features, and what their columns say."""

    index: NDArray[np.int64]  # [row], features
    columns: dict[str, list[Any]]  # by name, [row]
    total: int  # rows that there are, of which these are some

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        few = ", ".join(map(str, self.index[:8]))
        return f"<{len(self)} of {self.total:,} features: {few}{' …' if len(self) > 8 else ''}>"

    def to_pandas(self) -> Any:
        """A row for each feature, by its number."""
        return frame({"feature": self.index, **self.columns}).set_index("feature")


class Table:
    """The index of a store, with what was said of its features."""

    def __init__(self, path: Path, notes: Notes) -> None:
        self._path, self.notes = path, notes
        self._connection: Any = None
        self._arrow: dict[str, Any] = {}
        self._orders: OrderedDict[tuple[str, str], NDArray[np.int64]] = OrderedDict()
        self._lock = RLock()
        (parquet,) = need("pyarrow.parquet")
        self.own: tuple[str, ...] = tuple(parquet.read_schema(path).names)
        self.length: int = parquet.read_metadata(path).num_rows
        self._all = np.arange(self.length)  # in their own order

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return (*self.own, *SAID)

    def query(self, condition: str, columns: Sequence[str] | None, limit: int | None) -> Rows:
        """Rows that a condition holds for: `density < 0.01 order by max_activation desc`."""
        where, order = _split(condition)
        found = self._ordered(where, order)
        return Rows(found[:limit], self.take(columns or self.columns, found[:limit]), len(found))

    def page(self, columns: Sequence[str] | None, first: int, count: int, order: str, where: str) -> Rows:
        """Rows `first` to `first + count` of those that a condition holds for, in an order or that of the condition."""
        where, own = _split(where)
        found = self._ordered(where, own or order)
        some = found[max(first, 0) : max(first, 0) + max(count, 0)]
        return Rows(some, self.take(columns or self.columns, some), len(found))

    def take(self, columns: Sequence[str], rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """Columns of some features."""
        with self._lock:
            self.notes.refresh()
            if unknown := [name for name in columns if name not in self.columns]:
                raise self._no_column(unknown[0])
            found: dict[str, list[Any]] = {}
            said = list(self._said(rows)) if set(columns) & set(SAID) else []
            for name in columns:
                if name in SAID:
                    place = SAID.index(name)
                    found[name] = [row[place] for row in said]
                else:
                    found[name] = self._column(name).take(rows).to_pylist()
            return found

    def _said(self, rows: NDArray[np.int64]) -> Any:
        for index in rows.tolist():
            yield next(self.notes.rows({index}))[1:]

    def _column(self, name: str) -> Any:
        if name not in self._arrow:
            (parquet,) = need("pyarrow.parquet")
            self._arrow[name] = parquet.read_table(self._path, columns=[name]).column(0).combine_chunks()
        return self._arrow[name]

    def _ordered(self, where: str, order: str) -> NDArray[np.int64]:
        """All features that a condition holds for, in order; kept, until something is said of a feature."""
        if not where.strip() and order.strip() in ("", "index"):
            return self._all
        with self._lock:
            con = self._ready()
            key = (where.strip(), order.strip())
            if key not in self._orders:
                text = f"WHERE ({key[0]}\n)" if key[0] else ""
                by = f"{key[1]}, " if key[1] else ""
                sql = f'SELECT "index" FROM features {text} ORDER BY {by}"index"'  # noqa: S608  nothing can be written
                self._orders[key] = np.asarray(self._run(con, sql), dtype=np.int64)
                while len(self._orders) > _ORDERS:
                    self._orders.popitem(last=False)
            self._orders.move_to_end(key)
            return self._orders[key]

    def _run(self, con: Any, sql: str) -> Any:
        (duckdb,) = need("duckdb")
        try:
            if len(con.extract_statements(sql)) != 1:
                raise InputError("A condition is one expression, with nothing after it: no semicolon.")
            return con.execute(sql).fetchnumpy()["index"]
        except duckdb.BinderException as error:
            wrong = re.search(r'Referenced column "([^"]*)"', str(error))
            if wrong:
                raise self._no_column(wrong[1]) from None
            raise InputError(f"This condition cannot be used: {_first_line(error)}") from None
        except duckdb.Error as error:
            raise InputError(
                f"This condition cannot be used: {_first_line(error)} It is SQL, such as "
                "\"density < 0.01 and top_token = ' Paris' order by max_activation desc\"."
            ) from None

    def _no_column(self, name: str) -> InputError:
        return InputError(f"There is no column {name!r}; there are: {', '.join(self.columns)}. Text is in 'quotes'.")

    def _ready(self) -> Any:
        """The connection, knowing what was said until now."""
        (duckdb,) = need("duckdb")
        if self._connection is None:
            con = duckdb.connect(":memory:", config={"threads": 2})
            path = str(self._path.resolve()).replace("'", "''")
            con.execute(f"SET allowed_paths = ['{path}']")
            con.execute("SET enable_external_access = false")
            con.execute("SET python_enable_replacements = false")
            con.execute("SET lock_configuration = true")
            kinds = ", ".join(f'"{name}" {kind}' for name, kind in zip(SAID, _KINDS, strict=True))
            con.execute(f'CREATE TABLE said ("index" BIGINT PRIMARY KEY, {kinds})')
            con.execute(
                f"CREATE VIEW features AS SELECT f.*, {', '.join(f'said.{name}' for name in SAID)} "  # noqa: S608
                f"FROM read_parquet('{path}') f LEFT JOIN said USING (\"index\")"
            )
            self._connection = con
            self.notes.changed = {*self.notes.labels, *self.notes.notes, *self._listed()}
        self.notes.refresh()
        if self.notes.changed:
            for key in [key for key in self._orders if any(name in " ".join(key) for name in SAID)]:
                del self._orders[key]
            self._tell(self._connection, self.notes.changed)
            self.notes.changed = set()
        return self._connection

    def _listed(self) -> set[int]:
        return {index for chosen in self.notes.lists.values() for index in chosen}

    def _tell(self, con: Any, indices: set[int]) -> None:
        """Bring the table of what was said up to date."""
        (arrow,) = need("pyarrow")
        kinds = [arrow.int64(), arrow.string(), *[arrow.float64()] * 3, arrow.string(), arrow.string()]
        names = ["index", *SAID]
        rows = list(zip(*self.notes.rows(indices), strict=True))
        arrays = [arrow.array(row, kind) for row, kind in zip(rows, [*kinds, arrow.list_(arrow.string())], strict=True)]
        con.register("new", arrow.table(arrays, names=names))
        con.execute("INSERT OR REPLACE INTO said SELECT * FROM new")
        con.unregister("new")


def _split(condition: str) -> tuple[str, str]:
    """A condition and an order: what is before and after the last `order by` outside of quotes."""
    bare = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"", lambda quoted: "_" * len(quoted[0]), condition)
    found = list(re.finditer(r"\border\s+by\b", bare, re.I))
    if not found:
        return condition, ""
    return condition[: found[-1].start()], condition[found[-1].end() :]


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()[0]
    return re.sub(r"^\w+ Error: ", "", text)
