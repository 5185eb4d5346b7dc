"""The tiles of an attention view: what the page can ask for, and which of it travels first.

A head is named by prompt, layer and head; `minus` names a prompt to subtract (−1: none), and in place of a head's
number may stand `mean`, `max` or `rollout`, for heads taken together. `weigh` says what weights are multiplied by, if
anything: `value`, or `logit` and perhaps a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.views import finder, pyramid
from interpwidgets.views.derived import Difference, OverHeads, Rollout, Weighted
from interpwidgets.views.source import AttentionSource, Floats, Ints
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.view import key_of

__all__ = ["AttentionTiles", "Factor", "Shown", "is_signed"]

BAND = 1 << 16  # exact weights sent at once: a whole head up to 256 × 256, else as many rows (or columns) as fit
COLUMN = 1 << 28  # weights summed for a band of columns at most: all of a prompt of 16,384 tokens
IN_TABLE = 1 << 24  # weights: all of 4,096 tokens
OPENING_TOKENS = 4 * CHUNK
OPENING_HEADS = 512_000  # bytes of exact weights that travel with the view: all heads of a short prompt
_SCREEN = 512  # pixels of a head on the first screen, about
Factor = Callable[[int, int, Ints, slice], Floats]


@dataclass(frozen=True)
class Shown:
    """What is on screen: one head of one prompt, or of a difference, or of two prompts side by side."""

    prompt: int
    minus: int
    beside: int | None
    layer: int
    head: int | str
    pooling: str
    viewport: Sequence[float] = ()
    sort_by: str = ""
    region: Sequence[int] = ()
    weigh: str = ""


class AttentionTiles:
    """Answers for every tile of an attention view. Nothing here changes once asked, but for caches."""

    def __init__(
        self,
        sources: Sequence[AttentionSource],
        names: Sequence[str],
        scores: Mapping[str, Floats],
        factor: Callable[[int, str], Factor],
    ) -> None:
        self.sources, self.names, self.scores, self._factor = sources, names, scores, factor
        self._templates: dict[tuple[int, int], dict[str, Floats]] = {}
        self._atlases: dict[tuple[int, int, str], tuple[Tile, Tile]] = {}
        self._derived: dict[tuple[int, int, str, str], AttentionSource] = {}

    @property
    def score_names(self) -> list[str]:
        """What heads can be sorted by: the user's scores, then the templates."""
        return [*self.scores, *finder.TEMPLATES]

    def facts(self, prompt: int) -> dict[str, Any]:
        """What the page must know of a prompt before it asks for anything."""
        source = self.sources[prompt]
        rows, columns = self._bands(prompt)
        same = source.query_tokens is source.key_tokens
        facts = {"name": self.names[prompt], "shape": list(source.shape), "causal": source.causal, "same": same}
        return {**facts, "rows": rows, "columns": columns, "chunk": CHUNK}

    def source(self, prompt: int, minus: int = -1, head: int | str = 0, weigh: str = "") -> AttentionSource:
        """What a head is a head of: the prompt, weighed or not, heads of it taken together, a difference of either."""
        how = head if isinstance(head, str) else "none"
        if (found := self._derived.get((prompt, minus, how, weigh))) is None:
            found = self.sources[prompt]
            if weigh and how == "rollout":
                raise InputError("A rollout multiplies patterns alone: show plain attention, or the mean over heads.")
            if weigh:
                found = Weighted(found, factor=self._factor(prompt, weigh))
            if how == "rollout":
                found = Rollout(found)
            elif how in ("mean", "max"):
                found = OverHeads(found, how)
            elif how != "none":
                raise KeyError(f"heads are taken together by mean, max or rollout, not {how!r}")
            if minus >= 0:
                found = Difference(found, minus=self.source(minus, -1, head, weigh))
            self._derived[prompt, minus, how, weigh] = found
        return found

    def tile(self, what: str, prompt: int, minus: int = -1, weigh: str = "", **key: Any) -> Tile:
        """One of: `tokens`, `atlas` (all heads, pooled), `image` (a square of one head, pooled), `rows` and `columns`
        (exact weights), `scores` (of every head).
        """
        if what == "tokens":
            return self._tokens(prompt, **key)
        if what == "atlas":
            return self.atlas(prompt, minus, weigh=weigh, **key)
        if what == "scores":
            return Tile(self._scores(prompt, minus, **key))
        if what in ("image", "rows", "columns"):
            where = self._head(prompt, minus, key.pop("layer"), key.pop("head"), weigh)
            if what == "image":
                mean = key.pop("pooling") == "mean"
                return pyramid.image(*where, **key, mean=mean, signed=is_signed(minus, weigh))
            rows, columns = self._bands(prompt)
            return _rows(*where, rows, **key) if what == "rows" else _columns(*where, columns, **key)
        raise KeyError(f"no tile is called {what!r}")

    def _head(
        self, prompt: int, minus: int, layer: int, head: int | str, weigh: str
    ) -> tuple[AttentionSource, int, int]:
        """A source, and which of its layers and heads; heads taken together are number 0."""
        layers, heads = self.sources[prompt].shape[:2]
        if layer >= layers or (isinstance(head, int) and head >= heads):
            there = f"{layers} layers × {heads} heads"
            raise InputError(f"{self.names[prompt]} has no layer {layer}, head {head}: {there}.")
        return self.source(prompt, minus, head, weigh), layer, head if isinstance(head, int) else 0

    def columns(self, shown: Shown) -> dict[str, Any]:
        """The weights of the head on screen, one a row: in the region painted, else in the viewport, else all.

        Raises:
            InputError: they are more than a table holds.
        """
        prompts = [shown.prompt] if shown.beside is None else [shown.prompt, shown.beside]
        parts = [self._cells(prompt, shown) for prompt in prompts]
        numbers = [np.full(len(part["weight"]), prompt) for prompt, part in zip(prompts, parts, strict=True)]
        several = {"prompt": np.concatenate(numbers)} if len(prompts) > 1 else {}
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**several, "layer": shown.layer, "head": shown.head, **joined}

    def _cells(self, prompt: int, shown: Shown) -> dict[str, Any]:
        source, layer, head = self._head(prompt, shown.minus, shown.layer, shown.head, shown.weigh)
        _, _, queries, keys = source.shape
        top, bottom, left, right = shown.region or shown.viewport or (0, queries, 0, keys)
        of_queries, of_keys = _within(top, bottom, queries), _within(left, right, keys)
        rows, columns = np.arange(queries)[of_queries], np.arange(keys)[of_keys]
        if len(rows) * len(columns) > IN_TABLE:
            raise InputError(
                f"A table holds {IN_TABLE:,} weights; here are {len(rows):,} × {len(columns):,}. Zoom in, or set "
                "view.viewport = [first query, last query, first key, last key]."
            )
        there = columns <= rows[:, None] if source.causal else np.ones((len(rows), len(columns)), dtype=bool)
        row, column = np.nonzero(there)
        return {
            "query": rows[row],
            "key": columns[column],
            "query_token": np.array(source.query_tokens[of_queries], dtype=object)[row],
            "key_token": np.array(source.key_tokens[of_keys], dtype=object)[column],
            "weight": source.block(layer, head, rows, of_keys)[there],
        }

    def atlas(self, prompt: int, minus: int, pooling: str, weigh: str = "") -> Tile:
        """All heads of a prompt, or of a difference, pooled to thumbnails."""
        which = prompt, minus, weigh
        if which not in self._atlases:
            source = self.source(prompt, minus, weigh=weigh)
            self._atlases[which] = pyramid.atlas(source, signed=is_signed(minus, weigh))
        return self._atlases[which][1 if pooling == "mean" else 0]

    def _tokens(self, prompt: int, axis: str, chunk: int) -> Tile:
        source = self.sources[prompt]
        tokens = source.query_tokens if axis == "query" else source.key_tokens
        return tokens_tile(tokens, chunk)

    def _scores(self, prompt: int, minus: int, name: str, region: Sequence[int] = ()) -> Floats:
        if name in self.scores:
            return self.scores[name]
        source = self.source(prompt, minus)
        if name == "region":
            first, last, left, right = region or (0, 0, 0, 0)
            _, _, queries, keys = source.shape
            if not (0 <= first < last <= queries and 0 <= left < right <= keys):
                raise InputError(
                    f"Region {list(region)} is not within {queries} queries × {keys} keys: paint one over the matrix."
                )
            return finder.region_scores(source, slice(first, last), slice(left, right))
        if (prompt, minus) not in self._templates:
            self._templates[prompt, minus] = finder.template_scores(source)
        return self._templates[prompt, minus][name]

    def _bands(self, prompt: int) -> tuple[int, int]:
        """How many queries a tile of rows holds, and how many keys a tile of columns."""
        _, _, queries, keys = self.sources[prompt].shape
        return max(1, BAND // keys), max(1, BAND // queries)

    # Keys of many tiles, the most important first ----------------------------------------------------------------

    def first_screen(self, shown: Shown) -> Iterator[str]:
        """What the page draws first, and all heads of a short prompt."""
        prompts = [shown.prompt] if shown.beside is None else [shown.prompt, shown.beside]
        for prompt in prompts:
            of = _of(prompt, shown.minus, shown.weigh)
            yield from self._token_keys(prompt, OPENING_TOKENS)
            yield from self._atlas_keys(of, shown.pooling)
            yield from self._head_keys(of, shown.layer, shown.head, shown.pooling, viewport=shown.viewport)
        painted = {"region": list(shown.region)} if shown.sort_by == "region" else {}
        if shown.sort_by and painted != {"region": []}:
            yield key_of(what="scores", prompt=shown.prompt, minus=shown.minus, name=shown.sort_by, **painted)
        layers, heads, queries, keys = self.sources[shown.prompt].shape
        if 4 * layers * heads * queries * keys <= OPENING_HEADS:
            of = _of(shown.prompt, shown.minus, shown.weigh)
            for layer, head in product(range(layers), range(heads)):
                yield from self._head_keys(of, layer, head, shown.pooling)

    def stored(self, shown: Shown) -> Iterator[str]:
        """What a page without a kernel holds: the first screen, scores, every head, then all of the head shown."""
        yield from self.first_screen(shown)
        now = _of(shown.prompt, shown.minus, shown.weigh)
        yield from self._atlas_keys(now, "mean")
        plain = [_of(prompt) for prompt in range(len(self.sources))]
        for prompt, of in enumerate(plain):
            yield from self._token_keys(prompt, 1 << 30)
            yield from self._atlas_keys(of, "mean")
            for name in self.score_names:
                yield key_of(what="scores", **of, name=name)
        for of in [now, *(each for each in plain if each != now)]:
            layers, heads = self.sources[of["prompt"]].shape[:2]
            for layer, head in product(range(layers), range(heads)):
                yield from self._head_keys(of, layer, head, shown.pooling)
        yield from self._head_keys(now, shown.layer, shown.head, shown.pooling, finest=0)
        rows, _ = self._bands(shown.prompt)
        for band in range(-(-self.sources[shown.prompt].shape[2] // rows)):
            yield key_of(what="rows", **now, layer=shown.layer, head=shown.head, band=band)

    @staticmethod
    def _atlas_keys(of: Mapping[str, Any], pooling: str) -> Iterator[str]:
        """The thumbnails as pooled; their maxima always, since colours are up to the largest weight."""
        for each in ("max", "mean") if pooling == "mean" else ("max",):
            yield key_of(what="atlas", **of, pooling=each)

    def _token_keys(self, prompt: int, at_most: int) -> Iterator[str]:
        source = self.sources[prompt]
        # One list where queries and keys are the same tokens: the page reads it for both.
        axes = {"key": source.key_tokens} if self.facts(prompt)["same"] else {}
        for axis, tokens in (axes or {"query": source.query_tokens, "key": source.key_tokens}).items():
            for chunk in range(-(-min(len(tokens), at_most) // CHUNK)):
                yield key_of(what="tokens", prompt=prompt, axis=axis, chunk=chunk)

    def _head_keys(
        self,
        of: Mapping[str, Any],
        layer: int,
        head: int | str,
        pooling: str,
        finest: int | None = None,
        viewport: Sequence[float] = (),
    ) -> Iterator[str]:
        """One head as first shown: exact if it is small, else as a picture of its viewport; down to level `finest`."""
        _, _, queries, keys = self.sources[of["prompt"]].shape
        causal = all(self.sources[each].causal for each in (of["prompt"], of["minus"]) if each >= 0)
        where = {**of, "layer": layer, "head": head}
        if queries * keys <= BAND:
            yield key_of(what="rows", **where, band=0)
            return
        top, bottom, left, right = viewport or (0, queries, 0, keys)
        top, bottom, left, right = max(0, top), min(bottom, queries), max(0, left), min(right, keys)
        coarse = int(np.ceil(np.log2(max(bottom - top, right - left, _SCREEN) / _SCREEN)))
        for level in range(coarse, coarse - 1 if finest is None else finest - 1, -1):
            side = pyramid.TILE_PIXELS * 2**level
            plane = pooling if level else "max"  # a pixel of one weight is its own mean
            rows = range(int(top // side), int(np.ceil(bottom / side)))
            columns = range(int(left // side), int(np.ceil(right / side)))
            for row, column in product(rows, columns):
                if column <= row or not causal:
                    yield key_of(what="image", **where, pooling=plane, level=level, row=row, column=column)


def is_signed(minus: int, weigh: str) -> bool:
    """Whether weights may be negative: differences, and what is added to a logit."""
    return minus >= 0 or weigh.startswith("logit")


def _of(prompt: int, minus: int = -1, weigh: str = "") -> dict[str, Any]:
    """Whose weights: what a tile's key begins with."""
    return {"prompt": prompt, "minus": minus} | ({"weigh": weigh} if weigh else {})


def _within(first: float, last: float, size: int) -> slice:
    """The positions that are there between two ends, which may cut through one."""
    start = min(max(0, int(first)), size)
    return slice(start, max(start, min(size, int(np.ceil(last)))))


def _rows(source: AttentionSource, layer: int, head: int, per_band: int, band: int) -> Tile:
    """A band of queries with all their weights, exact: `[query, key]`."""
    _, _, queries, keys = source.shape
    rows = np.arange(band * per_band, min((band + 1) * per_band, queries))
    return Tile(source.block(layer, head, rows, slice(0, keys)))


def _columns(source: AttentionSource, layer: int, head: int, per_band: int, band: int) -> Tile:
    """A band of keys with the weights of all queries on them, exact: `[key, query]`.

    A column needs the sum of every row it crosses: of a very long prompt, of some rows only; the others are NaN.
    """
    _, _, queries, keys = source.shape
    span = slice(band * per_band, min((band + 1) * per_band, keys))
    rows = np.unique(np.linspace(0, queries - 1, min(queries, COLUMN // keys)).astype(np.int64))
    columns = np.full((span.stop - span.start, queries), np.nan, dtype=np.float32)
    columns[:, rows] = source.block(layer, head, rows, span).T
    return Tile(columns, {} if len(rows) == queries else {"sampled": [len(rows), queries]})
