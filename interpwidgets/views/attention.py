"""Where each head of each layer looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.views.attention_tiles import AttentionTiles, Factor, Shown, is_signed
from interpwidgets.views.source import AttentionSource, Floats, attention_sources
from interpwidgets.views.tile import Tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["AttentionView", "Edge"]


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

    Of a `Recording`, weights can be shown as what they carry (`weigh`): times the length of the value, or times what
    it adds to the logit of `token`. A picture is a hypothesis: `ablate` runs the model without the head selected, and
    shows what that does to the next token.

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

    _roles: ClassVar[dict[str, str]] = {"position": "query"}

    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, shape, chunks", read_only=True).tag(sync=True)
    prompt = traitlets.CInt(0, help="the prompt shown").tag(sync=True)
    compare = traitlets.CInt(None, allow_none=True, help="a second prompt, shown beside the first").tag(sync=True)
    difference = traitlets.Bool(False, help="show prompt − compare instead of both").tag(sync=True)
    layer = traitlets.CInt(0).tag(sync=True)
    head = traitlets.CInt(0).tag(sync=True)
    aggregate = traitlets.Enum(("none", "mean", "max", "rollout"), "none", help="heads taken together").tag(sync=True)
    query = traitlets.CInt(None, allow_none=True, help="the query selected").tag(sync=True)
    key = traitlets.CInt(None, allow_none=True, help="the key selected").tag(sync=True)
    direction = traitlets.Enum(("query", "key"), "query", help="the strip: from a query, or to a key").tag(sync=True)
    reading = traitlets.Enum(("matrix", "arcs"), "matrix", help="how the large head is drawn").tag(sync=True)
    scale = traitlets.Enum(("linear", "sqrt", "log"), "sqrt", help="how colour follows weight").tag(sync=True)
    colour_range = Range()
    pooling = traitlets.Enum(("max", "mean"), "max", help="what a pixel of many weights shows").tag(sync=True)
    dim_special = traitlets.Bool(False, help="fade special tokens and the first position").tag(sync=True)
    viewport = traitlets.List(traitlets.Float(), help="[query, query, key, key]; empty: all").tag(sync=True)
    sort_by = traitlets.Unicode("", help="the score that heads are sorted by; empty: by layer").tag(sync=True)
    region = traitlets.List(traitlets.Int(), help="[query, query, key, key] painted").tag(sync=True)
    search = traitlets.Unicode("", help="tokens to mark").tag(sync=True)
    weigh = traitlets.Enum(("attention", "value", "logit"), "attention", help="what a cell shows").tag(sync=True)
    token = traitlets.Unicode("", help="whose logit; empty: the next one's, last the model's guess").tag(sync=True)
    ablate = traitlets.Enum(("none", "zero", "mean"), "none", help="what replaces the head selected").tag(sync=True)
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
        self._read(data, tokens, key_tokens, names, scores, check_rows)
        self.set_trait("labels", [[*self._head_named(head), str(text)] for head, text in (labels or {}).items()])
        long = max(source.shape[3] for source in self._sources) > 128
        super().__init__(settings, scale="log" if long else "sqrt", title="Attention")
        self.open_with(self._tiles.first_screen(self._on_screen()))

    def show(self, *data: Any, tokens: Any = None, names: Sequence[str] | None = None) -> None:
        """Show other attention in this view, of as many prompts as it had; what is selected stays where it exists."""
        self._read(data, tokens, None, names, None, False)
        for name, size in zip(("layer", "head", "query", "key"), self._sources[self.prompt].shape, strict=True):
            if (getattr(self, name) or 0) >= size:
                setattr(self, name, 0 if name in ("layer", "head") else None)
        self.viewport, self.region = [], []
        self.renew(self._tiles.first_screen(self._on_screen()))

    def _read(
        self,
        data: Sequence[Any],
        tokens: Any,
        key_tokens: Any,
        names: Sequence[str] | None,
        scores: Mapping[str, Any] | None,
        check_rows: bool,
    ) -> None:
        """Take in the data, or refuse them and change nothing."""
        if not data:
            raise InputError("AttentionView needs attention to show: a Recording, or an array with tokens=….")
        several = len(data) > 1 and tokens is not None and not all(isinstance(token, (str, bytes)) for token in tokens)
        if several and len(tokens) != len(data):
            raise InputError(f"{len(data)} sources need {len(data)} lists of tokens; got {len(tokens)}.")
        sources: list[AttentionSource] = []
        recorded: list[tuple[Any, int] | None] = []
        for i, each in enumerate(data):
            found = attention_sources(each, tokens[i] if several else tokens, key_tokens, None, check_rows)
            sources += found
            knows = getattr(each, "model", None) is not None
            recorded += [(each, prompt) if knows else None for prompt in range(len(found))]
        if names is not None and len(names) != len(sources):
            raise InputError(f"{len(sources)} prompts need {len(sources)} names; got {len(names)}.")
        now = max(self.prompt, self.compare or 0)
        if self.prompts and now >= len(sources):
            raise InputError(f"This view shows prompt {now}; got {len(sources)} to show instead.")
        self._sources, self._recorded = sources, recorded
        own_names = list(names) if names is not None else _distinct(sources)
        own_scores = {name: self._score(name, values) for name, values in (scores or {}).items()}
        self._tiles = AttentionTiles(sources, own_names, own_scores, self._factor)
        facts = [{**self._tiles.facts(i), "recorded": rec is not None} for i, rec in enumerate(recorded)]
        self.set_trait("prompts", facts)
        self.set_trait("score_names", self._tiles.score_names)

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
        return self._tiles.source(self.prompt, self.minus, self._on_screen().head, self.weighing)

    @property
    def weighing(self) -> str:
        """What weights are multiplied by, as tiles are asked for; empty: nothing."""
        return {"attention": "", "value": "value"}.get(self.weigh, f"logit {self.token}".strip())

    @property
    def signed(self) -> bool:
        """Whether cells may be negative."""
        return is_signed(self.minus, self.weighing)

    def shown_unit(self) -> str:
        """What a cell is, in a few words."""
        units = {"attention": "attention weight", "value": "attention × length of value"}
        unit = units.get(self.weigh, f"added to the logit of {self.token or 'the next token'}")
        return unit if self.minus < 0 else f"difference: {unit}"

    def shown_name(self) -> str:
        """What the large head is called."""
        together = {"none": f"layer {self.layer}, head {self.head}", "rollout": f"rollout up to layer {self.layer}"}
        return together.get(self.aggregate, f"{self.aggregate} over the heads of layer {self.layer}")

    def atlas_tile(self) -> Tile:
        """All heads of what is shown, pooled."""
        return self._tiles.atlas(self.prompt, self.minus, self.pooling, self.weighing)

    def _on_screen(self) -> Shown:
        head = self.head if self.aggregate == "none" else self.aggregate
        beside = self.compare if self.minus < 0 else None
        now = self.prompt, self.minus, beside, self.layer, head, self.pooling
        return Shown(*now, self.viewport, self.sort_by, self.region, self.weighing)

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """A tile of `AttentionTiles`; or `ablate`, what becomes of the next token without a head."""
        if key.get("what") == "ablate":
            key.pop("what")
            return Tile.of_json(self._without(**key))
        return self._tiles.tile(**key)

    def _model_of(self, prompt: int) -> tuple[Any, int]:
        """The recording that a prompt is of, and its place there."""
        if (found := self._recorded[prompt]) is None:
            raise InputError("Only a recording knows its model: AttentionView(iw.record(model, prompt)).")
        return found

    def _factor(self, prompt: int, weigh: str) -> Factor:
        from interpwidgets.intervene.carried import carried

        rec, place = self._model_of(prompt)
        how, _, token = weigh.partition(" ")
        layers: Sequence[int] = self._sources[prompt].layers  # type: ignore[attr-defined]
        found = carried(rec, how, prompt=place, token=token.replace("␣", " ") or None, layers=layers)
        return lambda layer, head, queries, keys: found.factor(layers[layer], head, queries, keys)

    def _without(self, prompt: int, layer: int, head: int, kind: str, position: int) -> Any:
        from interpwidgets.intervene import Ablate, outcome

        rec, place = self._model_of(prompt)
        number: int = self._sources[prompt].layers[layer]  # type: ignore[attr-defined]
        what = Ablate("z", number, head=head, kind=kind)  # type: ignore[arg-type]
        ids = rec.tokens[place].ids.tolist()
        return outcome(rec.model, [ids], what, pos=position).to_json()

    def to_pandas(self) -> Any:
        """A row for each weight of the head shown: layer, head, query, key, query_token, key_token, weight.

        Those of the region painted, else of the viewport, else all, as `weigh` and `difference` show them, without
        keys after the query where a head looks at none. Of two prompts side by side, `prompt` says which.

        Raises:
            InputError: they are more than 16,777,216.
        """
        return frame(self._tiles.columns(self._on_screen()))

    def stored_keys(self) -> Iterator[str]:
        """Keys of what a page without a kernel holds: what is on screen, what was tried, then the rest."""
        screen = self._tiles.stored(self._on_screen())
        tried = [key for key in list(self._cache) if key.startswith('{"what":"ablate"')]
        yield from chain(tried, screen)

    # Bad input -----------------------------------------------------------------------------------------------------

    def _score(self, name: str, values: Any) -> Floats:
        layers, heads = self._sources[0].shape[:2]
        try:
            scores = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"Score {name!r} must be numbers, [layer, head] = {[layers, heads]}: {error}.") from None
        if scores.shape != (layers, heads):
            got = list(scores.shape)
            raise InputError(f"Score {name!r} must be [layer, head] = {[layers, heads]}; got shape {got}.")
        if not np.isfinite(scores).all():
            layer, head = np.argwhere(~np.isfinite(scores))[0]
            value = scores[layer, head]
            raise InputError(f"Score {name!r} is {value} for layer {layer}, head {head}: heads cannot be sorted by it.")
        return scores

    def _head_named(self, place: tuple[int, int]) -> tuple[int, int]:
        layers, heads = self._sources[0].shape[:2]
        try:
            layer, head = map(index, place)  # NumPy's integers too, which JSON does not know
        except (TypeError, ValueError):
            layer = head = -1
        if not (0 <= layer < layers and 0 <= head < heads):
            raise InputError(f"labels are {{(layer, head): text}} for {layers} layers × {heads} heads; got {place!r}.")
        return layer, head

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

    @traitlets.validate("viewport", "region")
    def _in_order(self, proposal: Any) -> list[float]:
        name, value = proposal["trait"].name, list(proposal["value"])
        ordered = len(value) == 4 and all(low < high for low, high in zip(value[::2], value[1::2], strict=True))
        if value and not ordered:
            pairs = "[first query, last query, first key, last key]"
            raise traitlets.TraitError(f"{name} must be {pairs}, each first below its second, or empty; got {value}.")
        return value

    @traitlets.validate("sort_by")
    def _known_score(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name and name != "region" and name not in self.score_names:
            raise traitlets.TraitError(f"No score is called {name!r}. There are: {', '.join(self.score_names)}.")
        return name

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
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
            f"large. Rows are {queries} query tokens, columns {keys} key tokens; a cell is {self.shown_unit()}."
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
