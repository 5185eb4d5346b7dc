"""Where each head of each layer looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.views import finder, pyramid
from interpwidgets.views.derived import Difference, OverHeads, Rollout
from interpwidgets.views.source import AttentionSource, Floats, attention_sources
from interpwidgets.views.tile import Tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["AttentionView", "Edge"]

BAND = 1 << 16  # exact weights sent at once: a whole head up to 256 × 256, else as many rows (or columns) as fit
COLUMN = 1 << 28  # weights summed for a band of columns at most: all of a prompt of 16,384 tokens
CHUNK = 1024  # tokens sent at once
OPENING_TOKENS = 4 * CHUNK
OPENING_HEADS = 512_000  # bytes of exact weights that travel with the view: all heads of a short prompt
_SCREEN = 512  # pixels of a head on the first screen, about


class Edge(NamedTuple):
    """One weight of an attention pattern, as selected in a view."""

    layer: int
    head: int
    query: int
    key: int
    weight: float


class AttentionView(View, view="attention"):
    """See where every head looks; click a head, a token or a weight and read it in Python.

        view = AttentionView(rec)                       # a Recording
        view = AttentionView(pattern, tokens=tokens)    # [layer, head, query, key]: NumPy or torch, any device
        view = AttentionView(outputs.attentions, tokens=tokens)   # Hugging Face, a [batch, head, query, key] a layer
        view = AttentionView(cache, tokens=tokens)      # a TransformerLens ActivationCache
        view = AttentionView(clean, corrupted, compare=1)         # two prompts, or two models

    All heads are thumbnails, one is large: as a matrix, as arcs, and as a strip of tokens shaded by the attention of
    the query (or to the key). Rows are queries, columns keys. What is selected is a trait: `layer`, `head`, `query`
    and `key` follow every click, can be set, and can be observed; `selection` is the weight they name.

    A long prompt costs no more than a short one: the page asks for what it shows, and pictures are pooled to pixels
    (`pooling`), never more than a screenful. The number under the cursor is always the exact weight.

    Args:
        data: one source of attention, or several to switch between and compare.
        tokens: the tokens of an array; a `Recording` brings its own. A list of lists for several prompts.
        key_tokens: the keys' tokens where they differ from the queries' (cross-attention, the last queries only).
        names: what to call each prompt.
        labels: names for heads, `{(layer, head): "induction"}`.
        scores: scores to sort heads by, `{"my score": [layer, head] array}`.
        check_rows: refuse rows that do not sum to one.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: the data is not attention, or the tokens, labels or scores do not fit it.
        TraitError: a setting out of range.
    """

    title = traitlets.Unicode().tag(sync=True)
    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, shape, chunks", read_only=True).tag(
        sync=True
    )
    prompt = traitlets.Int(0, help="the prompt shown").tag(sync=True)
    compare = traitlets.Int(None, allow_none=True, help="a second prompt, shown beside the first").tag(sync=True)
    difference = traitlets.Bool(False, help="show prompt − compare instead of both").tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    aggregate = traitlets.Enum(("none", "mean", "max", "rollout"), "none", help="heads taken together").tag(sync=True)
    query = traitlets.Int(None, allow_none=True, help="the query selected").tag(sync=True)
    key = traitlets.Int(None, allow_none=True, help="the key selected").tag(sync=True)
    direction = traitlets.Enum(("query", "key"), "query", help="the strip: from a query, or to a key").tag(sync=True)
    reading = traitlets.Enum(("matrix", "arcs"), "matrix", help="how the large head is drawn").tag(sync=True)
    scale = traitlets.Enum(("linear", "sqrt", "log"), "sqrt", help="how colour follows weight").tag(sync=True)
    colour_range = traitlets.List(traitlets.Float(), help="[low, high]; empty: automatic").tag(
        sync=True
    )
    pooling = traitlets.Enum(("max", "mean"), "max", help="what a pixel of many weights shows").tag(sync=True)
    dim_special = traitlets.Bool(False, help="fade special tokens and the first position").tag(sync=True)
    viewport = traitlets.List(traitlets.Float(), help="[query, query, key, key]; empty: all").tag(
        sync=True
    )
    sort_by = traitlets.Unicode("", help="the score that heads are sorted by; empty: by layer").tag(sync=True)
    region = traitlets.List(
        traitlets.Int(), help="[query, query, key, key] painted"
    ).tag(sync=True)
    search = traitlets.Unicode("", help="tokens to mark").tag(sync=True)
    labels = traitlets.List(traitlets.List(), help="[layer, head, label] each", read_only=True).tag(sync=True)
    score_names = traitlets.List(traitlets.Unicode(), help="what heads can be sorted by", read_only=True).tag(sync=True)

    def __init__(
        self,
        *data: Any,
        tokens: Any = None,
        key_tokens: Any = None,
        names: Sequence[str] | None = None,
        labels: Mapping[tuple[int, int], str] | None = None,
        scores: Mapping[str, Any] | None = None,
        check_rows: bool = False,
        **settings: Any,
    ) -> None:
        if not data:
            raise InputError("AttentionView needs attention to show: a Recording, or an array with tokens=….")
        several = len(data) > 1 and tokens is not None and not all(isinstance(token, (str, bytes)) for token in tokens)
        if several and len(tokens) != len(data):
            raise InputError(f"{len(data)} sources need {len(data)} lists of tokens; got {len(tokens)}.")
        self._sources: list[AttentionSource] = []
        for i, each in enumerate(data):
            own = tokens[i] if several else tokens
            self._sources += attention_sources(each, own, key_tokens, None, check_rows)
        if names is not None and len(names) != len(self._sources):
            raise InputError(f"{len(self._sources)} prompts need {len(self._sources)} names; got {len(names)}.")
        self._names = list(names) if names is not None else _distinct(self._sources)
        self._scores = {name: self._score(name, values) for name, values in (scores or {}).items()}
        self._templates: dict[tuple[int, int], dict[str, Floats]] = {}
        self._atlases: dict[tuple[int, int], Tile] = {}
        self._shown: dict[tuple[int, int, str], AttentionSource] = {}
        self.set_trait("prompts", [self._prompt_facts(i) for i in range(len(self._sources))])
        self.set_trait("labels", [[*self._head_named(head), str(text)] for head, text in (labels or {}).items()])
        self.set_trait("score_names", [*self._scores, *finder.TEMPLATES])
        long = max(source.shape[3] for source in self._sources) > 128
        super().__init__(**{"scale": "log" if long else "sqrt", "title": "Attention", **settings})
        self.open_with(self._first_screen())

    # What is shown -----------------------------------------------------------------------------------------------

    @property
    def selection(self) -> Edge | None:
        """The weight selected, exact; `None` until a query and a key are."""
        if self.query is None or self.key is None:
            return None
        source = self.shown_source()
        block = source.block(self.layer, self.head, np.array([self.query]), slice(self.key, self.key + 1))
        return Edge(self.layer, self.head, self.query, self.key, float(block[0, 0]))

    @property
    def minus(self) -> int:
        """The prompt subtracted from the one shown, or −1."""
        return self.compare if self.difference and self.compare is not None else -1

    def shown_source(self) -> AttentionSource:
        """What the large head is a head of."""
        return self._source(self.prompt, self.minus, self.aggregate)

    def shown_name(self) -> str:
        """What the large head is called."""
        together = {"none": f"layer {self.layer}, head {self.head}", "rollout": f"rollout up to layer {self.layer}"}
        return together.get(self.aggregate, f"{self.aggregate} over the heads of layer {self.layer}")

    def atlas_tile(self) -> Tile:
        """All heads of what is shown, pooled."""
        return self._atlas(self.prompt, self.minus)

    def _atlas(self, prompt: int, minus: int) -> Tile:
        if (prompt, minus) not in self._atlases:
            self._atlases[prompt, minus] = pyramid.atlas(self._source(prompt, minus, "none"), signed=minus >= 0)
        return self._atlases[prompt, minus]

    def _source(self, prompt: int, minus: int, head: int | str) -> AttentionSource:
        how = head if isinstance(head, str) else "none"
        if (found := self._shown.get((prompt, minus, how))) is None:
            found = self._sources[prompt]
            if how == "rollout":
                found = Rollout(found)
            elif how != "none":
                found = OverHeads(found, how)
            if minus >= 0:
                found = Difference(found, minus=self._source(minus, -1, head))
            self._shown[prompt, minus, how] = found
        return found

    def tile(self, *, what: str = "", prompt: int = 0, minus: int = -1, **key: Any) -> Tile:
        """One of: `tokens`, `atlas` (all heads, pooled), `image` (a square of one head, pooled), `rows` and `columns`
        (exact weights), `scores` (of every head)."""
        if what == "tokens":
            return self._tokens_tile(prompt, **key)
        if what == "scores":
            return Tile(self._scores_of(prompt, minus, **key))
        source = self._source(prompt, minus, key.get("head", 0))
        head = key["head"] if isinstance(key.get("head"), int) else 0
        if what == "atlas":
            return self._atlas(prompt, minus)
        if what == "image":
            square = {name: key[name] for name in ("level", "row", "column")}
            return pyramid.image(source, key["layer"], head, **square, mean=key["pooling"] == "mean", signed=minus >= 0)
        rows, columns = self._bands(prompt)
        _, _, n_queries, n_keys = source.shape
        if what == "rows":
            start = key["band"] * rows
            queries = np.arange(start, min(start + rows, n_queries))
            return Tile(source.block(key["layer"], head, queries, slice(0, n_keys)))
        if what == "columns":
            start = key["band"] * columns
            span = slice(start, min(start + columns, n_keys))
            # A column needs the sum of every row it crosses: of a very long prompt, some rows only, the rest unknown.
            queries = np.unique(np.linspace(0, n_queries - 1, min(n_queries, COLUMN // n_keys)).astype(np.int64))
            column = np.full((span.stop - span.start, n_queries), np.nan, dtype=np.float32)
            column[:, queries] = source.block(key["layer"], head, queries, span).T
            few = {} if len(queries) == n_queries else {"sampled": [len(queries), n_queries]}
            return Tile(column, few)
        raise KeyError(f"no tile is called {what!r}")

    def _tokens_tile(self, prompt: int, axis: str, chunk: int) -> Tile:
        source = self._sources[prompt]
        tokens = source.query_tokens if axis == "query" else source.key_tokens
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        ids = None if tokens.ids is None else tokens.ids[part].tolist()
        special = np.flatnonzero(tokens.special[part]).tolist()
        return Tile.of_json({"text": tokens[part], "ids": ids, "special": special})

    def _scores_of(self, prompt: int, minus: int, name: str, region: Sequence[int] = ()) -> Floats:
        if name in self._scores:
            return self._scores[name]
        source = self._source(prompt, minus, "none")
        if name == "region":
            first, last, left, right = region
            return finder.region_scores(source, slice(first, last), slice(left, right))
        if (prompt, minus) not in self._templates:
            self._templates[prompt, minus] = finder.template_scores(source)
        return self._templates[prompt, minus][name]

    # What travels first, and what a page keeps ---------------------------------------------------------------------

    def _prompt_facts(self, prompt: int) -> dict[str, Any]:
        source = self._sources[prompt]
        rows, columns = self._bands(prompt)
        same = source.query_tokens is source.key_tokens
        facts = {"name": self._names[prompt], "shape": list(source.shape), "causal": source.causal, "same": same}
        return {**facts, "rows": rows, "columns": columns, "chunk": CHUNK}

    def _bands(self, prompt: int) -> tuple[int, int]:
        _, _, queries, keys = self._sources[prompt].shape
        return max(1, BAND // keys), max(1, BAND // queries)

    def _first_screen(self) -> Iterator[str]:
        shown = [self.prompt] if self.compare is None or self.minus >= 0 else [self.prompt, self.compare]
        for prompt in shown:
            yield from self._token_keys(prompt, OPENING_TOKENS)
            yield key_of(what="atlas", prompt=prompt, minus=self.minus)
            yield from self._head_keys(prompt, self.minus, self.layer, self.head)
        layers, heads, queries, keys = self._sources[self.prompt].shape
        if 4 * layers * heads * queries * keys <= OPENING_HEADS:
            for layer, head in product(range(layers), range(heads)):
                yield from self._head_keys(self.prompt, self.minus, layer, head)

    def _token_keys(self, prompt: int, at_most: int) -> Iterator[str]:
        facts = self.prompts[prompt]
        for axis, size in (("query", facts["shape"][2]), ("key", facts["shape"][3])):
            if axis == "query" and facts["same"]:
                continue  # the page reads one list for both
            for chunk in range(-(-min(size, at_most) // CHUNK)):
                yield key_of(what="tokens", prompt=prompt, axis=axis, chunk=chunk)

    def _head_keys(self, prompt: int, minus: int, layer: int, head: int, finest: int | None = None) -> Iterator[str]:
        """One head as first shown: exact if it is small, else as a picture; down to the level `finest`."""
        _, _, queries, keys = self._sources[prompt].shape
        where = {"prompt": prompt, "minus": minus, "layer": layer, "head": head}
        if queries * keys <= BAND:
            yield key_of(what="rows", **where, band=0)
            return
        coarse = int(np.ceil(np.log2(max(queries, keys, _SCREEN) / _SCREEN)))
        for level in range(coarse, coarse - 1 if finest is None else finest - 1, -1):
            side = pyramid.TILE_PIXELS * 2**level
            for row, column in product(range(-(-queries // side)), range(-(-keys // side))):
                if column > row and self.prompts[prompt]["causal"]:
                    continue
                where_in = {"level": level, "row": row, "column": column}
                yield key_of(what="image", **where, pooling=self.pooling if level else "max", **where_in)

    def stored_keys(self) -> Iterator[str]:
        """The first screen, then scores, every head, and all of the head on screen."""
        yield from self._first_screen()
        prompts, minus = range(len(self._sources)), self.minus
        for prompt in prompts:
            yield from self._token_keys(prompt, 1 << 30)
            yield key_of(what="atlas", prompt=prompt, minus=-1)
            for name in self.score_names:
                yield key_of(what="scores", prompt=prompt, minus=-1, name=name)
        pairs = {(self.prompt, minus), *((prompt, -1) for prompt in prompts)}
        for prompt, other in sorted(pairs, key=lambda pair: pair != (self.prompt, minus)):
            layers, heads = self._sources[prompt].shape[:2]
            for layer, head in product(range(layers), range(heads)):
                yield from self._head_keys(prompt, other, layer, head)
        yield from self._head_keys(self.prompt, minus, self.layer, self.head, finest=0)
        rows, _ = self._bands(self.prompt)
        where = {"prompt": self.prompt, "minus": minus, "layer": self.layer, "head": self.head}
        for band in range(-(-self._sources[self.prompt].shape[2] // rows)):
            yield key_of(what="rows", **where, band=band)

    # Bad input -----------------------------------------------------------------------------------------------------

    def _score(self, name: str, values: Any) -> Floats:
        scores = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)
        layers, heads = self._sources[0].shape[:2]
        if scores.shape != (layers, heads):
            got = list(scores.shape)
            raise InputError(f"Score {name!r} must be [layer, head] = {[layers, heads]}; got shape {got}.")
        return scores

    def _head_named(self, head: tuple[int, int]) -> tuple[int, int]:
        layers, heads = self._sources[0].shape[:2]
        if not (isinstance(head, tuple) and len(head) == 2 and 0 <= head[0] < layers and 0 <= head[1] < heads):
            raise InputError(f"labels are {{(layer, head): text}} for {layers} layers × {heads} heads; got {head!r}.")
        return head

    @traitlets.observe("prompt")
    def _other_prompt(self, _: Any) -> None:
        """What was selected in one prompt may not exist in the next."""
        for name, size in zip(("layer", "head", "query", "key"), self._sources[self.prompt].shape, strict=True):
            if (getattr(self, name) or 0) >= size:
                setattr(self, name, 0 if name in ("layer", "head") else None)

    @traitlets.validate("layer", "head", "query", "key", "prompt", "compare")
    def _in_range(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        if name in ("prompt", "compare"):
            size = len(self._sources)
        else:
            size = self._sources[self.prompt].shape[("layer", "head", "query", "key").index(name)]
        if value is not None and not 0 <= value < size:
            raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return value  # type: ignore[no-any-return]

    @traitlets.validate("colour_range", "viewport", "region")
    def _in_order(self, proposal: Any) -> list[float]:
        name, value = proposal["trait"].name, list(proposal["value"])
        size = 2 if name == "colour_range" else 4
        ordered = len(value) == size and all(low < high for low, high in zip(value[::2], value[1::2], strict=True))
        if value and not ordered:
            pairs = "[low, high]" if size == 2 else "[first query, last query, first key, last key]"
            raise traitlets.TraitError(f"{name} must be {pairs}, each first below its second, or empty; got {value}.")
        return value

    @traitlets.validate("sort_by")
    def _known_score(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name and name != "region" and name not in self.score_names:
            raise traitlets.TraitError(f"No score is called {name!r}. There are: {', '.join(self.score_names)}.")
        return name

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Image:
        """All heads small and the one shown large, with axes and a legend."""
        from interpwidgets.views.picture import attention_picture

        return attention_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The strongest weights of the head shown."""
        from interpwidgets.views.picture import strongest_edges

        return strongest_edges(self)

    def describe(self) -> str:
        """Which heads are shown, and how to read them."""
        source = self.shown_source()
        layers, heads, queries, keys = source.shape
        return (
            f"Attention of {source.name}: {layers} layers × {heads} heads as thumbnails, and {self.shown_name()} "
            f"large. Rows are {queries} query tokens, columns {keys} key tokens; darker is more attention."
        )

    def __repr__(self) -> str:
        layers, heads, queries, keys = self._sources[self.prompt].shape
        size = f"{queries:,} tokens" if queries == keys else f"{queries:,} queries, {keys:,} keys"
        several = f"{len(self._sources)} prompts, " if len(self._sources) > 1 else ""
        return f"AttentionView({several}{layers} layers × {heads} heads, {size})"


def _distinct(sources: list[AttentionSource]) -> list[str]:
    """A name each: the source's own, with a number and the first tokens where several share one."""
    names = [source.name for source in sources]
    begin = [" ".join(source.query_tokens[:5])[:28] for source in sources]
    return [f"{i}: {begin[i]} …" if names.count(name) > 1 else name for i, name in enumerate(names)]
