"""What a page shows of a feature store: records, names, rows of the table, the map.

A store is whatever has the methods of `FeatureStore`; nothing here imports it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from interpwidgets.tokens import show
from interpwidgets.views.tile import Tile

__all__ = [
    "COLUMNS", "MAP", "ROWS", "condition_of", "map_tile", "names_of", "pair_tile", "record_of", "rows_tile", "said_of",
    "weaker_of",
]  # fmt: skip

ROWS = 64  # of the table, in a tile
MAP = 1 << 16  # features on the map, in a tile
COLUMNS = (
    "index", "density", "max_activation", "peak_token", "top_token", "nearest_cosine", "score", "label", "lists",
)  # fmt: skip
_SQL = re.compile(r"[<>=()'\"]|\b(and|or|not|is|in|like|ilike|between|order)\b", re.I)
_SEARCHED = ("label", "note", "peak_token", "top_token")


def condition_of(text: str) -> str:
    """What was written above the table, as a condition of the store: a number, a word to look for, or a condition.

    >>> condition_of("31")
    '"index" = 31'
    """
    text = text.strip()
    if text.isdecimal():
        return f'"index" = {text}'
    if not text or _SQL.search(text):
        return text
    word = text.lower().replace("␣", " ")
    return " or ".join(f"contains(lower({column}), '{word}')" for column in _SEARCHED)


def record_of(store: Any, index: int) -> dict[str, Any]:
    """A feature's numbers and its strongest examples: what is seen first."""
    feature = store[index]
    edges, counts = feature.histogram
    return {
        "index": feature.index,
        "count": feature.count,
        "density": feature.density,
        "mean": _exact(feature.mean),
        "max": _exact(feature.max),
        "histogram": {"edges": [_exact(edge) for edge in edges], "counts": np.asarray(counts).tolist()},
        "top_logits": _logits(feature.top_logits),
        "bottom_logits": _logits(feature.bottom_logits),
        "neighbours": [[int(other.index), _short(other.value)] for other in feature.neighbours],
        "co_firing": [[int(other.index), _short(other.value)] for other in feature.co_firing],
        "groups": [
            {
                "name": group.name,
                "low": _exact(group.low),
                "high": _exact(group.high),
                "count": group.count,
                "exact": group.exact,
            }
            for group in reversed(feature.groups)
        ],
        "top": [_example(each) for each in feature.examples("top")],
    }


def weaker_of(store: Any, index: int) -> list[list[dict[str, Any]]]:
    """Examples of each quantile group, as a record lists them: from the strongest group on."""
    feature = store[index]
    return [[_example(each) for each in feature.examples(group.name)] for group in reversed(feature.groups)]


def _example(example: Any) -> dict[str, Any]:
    """Tokens as shown and what the feature does at each: exact at `position`, elsewhere within 1/32."""
    values = [_short(value) for value in example.activations.tolist()]
    values[example.position] = _exact(example.value)
    found = {
        "tokens": [_shown(token) for token in example.tokens.text],
        "values": values,
        "position": example.position,
        "context": example.context,
        "start": example.start,
    }
    if example.effects is not None:
        found["effects"] = [_short(effect) for effect in example.effects]
    return found


def _logits(pairs: Iterable[tuple[str | bytes, float]]) -> list[list[Any]]:
    return [[show(token), _short(value)] for token, value in pairs]


_shown = lru_cache(1 << 16)(show)  # a record has two thousand tokens, a vocabulary not many more


def _exact(value: float) -> float | None:
    """A float32 in the digits that it has; JSON has no word for one that is missing."""
    return float(f"{value:.8g}") if math.isfinite(value) else None


def _short(value: float) -> float | None:
    if value == 0:
        return 0
    return float(f"{value:.4g}") if math.isfinite(value) else None


def names_of(store: Any, indices: Sequence[int]) -> list[dict[str, Any]]:
    """What some features are called: their label, the token they are strongest at, the logit they raise most."""
    return [_name(store, index) for index in indices]


def _name(store: Any, index: int) -> dict[str, Any]:
    """Of the index alone: as many records, each on a page of the disk that nobody has read, would take long."""
    label, columns = store.label_of(index), store.table(["peak_token", "top_token"], first=index, count=1).columns
    peak, raised = (None if token is None else show(token) for (token,) in columns.values())
    return {"index": index, "label": label and label.text, "peak": peak, "raises": raised}


def said_of(store: Any, index: int) -> dict[str, Any]:
    """What people and labelers say of a feature."""
    label = store.label_of(index)
    said = {name: label and getattr(label, name) for name in ("score", "low", "high", "by")}
    lists = [name for name, chosen in store.lists.items() if index in chosen]
    return {"label": label and label.text, **said, "note": store.note_of(index), "lists": lists}


def rows_tile(store: Any, condition: str, order: str, block: int) -> Tile:
    """Some rows of the table, in the order of COLUMNS, and how many there are."""
    columns = [name for name in COLUMNS if name in store.columns]
    rows = store.table(columns, first=block * ROWS, count=ROWS, order=order, where=condition_of(condition))
    cells = [[_cell(name, value) for value in rows.columns[name]] for name in columns]
    return Tile.of_json(
        {"columns": columns, "total": rows.total, "rows": [list(row) for row in zip(*cells, strict=True)]}
    )


def _cell(column: str, value: Any) -> Any:
    if isinstance(value, float):
        return _short(value)
    return show(value) if value is not None and column.endswith("_token") else value


def map_tile(store: Any, block: int) -> Tile:
    """Features on a plane, with the common logarithm of their density: [3, feature]; NaN for one that never fires."""
    rows = store.table(["x", "y", "density"], first=block * MAP, count=MAP)
    x, y, density = (np.array(rows.columns[name], dtype=np.float32) for name in ("x", "y", "density"))
    with np.errstate(divide="ignore"):
        depth = np.where(density > 0, np.log10(density), np.nan)
    return Tile(np.stack([x, y, depth]).astype(np.float32))


def pair_tile(store: Any, a: int, b: int) -> Tile:
    """How near two features are: the cosine of their directions and Jaccard's index; None where it is not known."""
    cosine = _known(store[a].neighbours, b) or _known(store[b].neighbours, a)
    if store.bound is not None:
        directions = store.bound[1].W_dec[[a, b]].detach().double()
        lengths = directions.norm(dim=1)
        cosine = float(directions[0] @ directions[1] / lengths.prod()) if bool(lengths.prod()) else None
    jaccard = _known(store[a].co_firing, b) or _known(store[b].co_firing, a)
    return Tile.of_json({"cosine": cosine, "jaccard": jaccard})


def _known(neighbours: Iterable[Any], index: int) -> float | None:
    return next((float(value) for other, value in neighbours if other == index), None)
