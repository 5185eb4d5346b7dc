"""What each layer, head and source token writes straight to a logit difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import traitlets
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.stats import interval
from interpwidgets.tokens import Tokens
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["Contribution", "ResidualView"]

Floats = NDArray[np.float64]

_NAMED = 100  # prompts that are called by their first tokens
_PARTS = ("embed", "heads", "attn", "mlp", "rest", "constant", "total")


class Contribution(NamedTuple):
    """What a head, or one source token through it, writes to the metric; of several prompts the mean."""

    layer: int
    head: int
    prompt: int | None
    position: int | None
    value: float
    low: float  # of the 95 % interval of a mean, else NaN
    high: float


class ResidualView(View, view="residual"):
    """See which layers, heads and source tokens write a logit difference into the residual stream, and how much.

        found = iw.direct_logit_attribution(model, prompts, iw.logit_diff(" Mary", " John"))
        view = ResidualView(found)
        view = ResidualView(recording, metric=iw.logit_diff(" Mary", " John"))     # the same, made here

    Embedding, attention and MLPs are bars that add up to the total, one after the other from layer to layer. An
    attention layer opens into its heads, a head into the tokens whose values it carried. Over several prompts a bar is
    the mean, with a 95 % interval by bootstrap; `prompt` picks a single one, which is where source tokens can be seen.

    It is the direct path only: the logits as a linear map of the stream, with the scale of the final norm held. What a
    part does through later layers is not in its bar, and later layers may undo what is. So a long bar is a hypothesis,
    not an effect: to test it, patch or ablate (`iw.patch_sweep`, `iw.ablate_sweep`).

    Elhage et al. 2021, "A mathematical framework for transformer circuits"; Wang et al. 2022, "Interpretability in the
    wild" §3 (direct effects of the name movers).

    Args:
        data: a `LogitAttribution`, or a recording of a model, whose prompts are then run once more.
        metric: what to split where `data` is a recording: `iw.logit_diff(…)`, `iw.logit(…)`.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: the data is neither, a recording without its metric or model, or a metric that does not split.
        TraitError: a setting out of range.
    """

    measured = traitlets.Unicode(help="the metric that is split", read_only=True).tag(sync=True)
    prompts = traitlets.List(traitlets.Unicode(), help="a name for each prompt", read_only=True).tag(sync=True)
    shape = traitlets.List(traitlets.Int(), help="[prompts, layers, heads]", read_only=True).tag(sync=True)
    prompt = traitlets.CInt(None, allow_none=True, help="the prompt shown; None: the mean over all").tag(sync=True)
    layer = traitlets.CInt(0, help="the layer whose heads are shown").tag(sync=True)
    head = traitlets.CInt(None, allow_none=True, help="the head whose source tokens are shown").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="the source token selected").tag(sync=True)
    sort = traitlets.Enum(("layer", "size"), "layer", help="bars in the order of layers, or of size").tag(sync=True)

    def __init__(self, data: Any, *, metric: Any = None, **settings: Any) -> None:
        self._metric = metric
        self._read(data)
        super().__init__(settings, title="Direct logit attribution", **self._first())
        self.open_with(self._on_screen())

    def show(self, data: Any, metric: Any = None) -> None:
        """Show another attribution, or that of another recording; what is selected stays where it still exists."""
        self._metric = metric or self._metric
        self._read(data)
        n, layers, heads = self.shape
        first = self._first()
        with self.hold_sync():
            if n == 1 or (self.prompt is not None and self.prompt >= n):
                self.prompt = first["prompt"]
            if self.layer >= layers or (self.head is not None and self.head >= heads):
                self.layer, self.head = first["layer"], first["head"]
            if self.position is not None and self.position >= self._longest():
                self.position = None
            self.renew(self._on_screen())

    def _read(self, data: Any) -> None:
        self.found = _attribution(data, self._metric)
        n, layers, heads = self.found.heads.shape
        self.set_trait("shape", [n, layers, heads])
        self.set_trait("measured", str(self.found.metric))
        self.set_trait("prompts", [_name(i, tokens) for i, tokens in enumerate(self._tokens()[:_NAMED])])

    def _first(self) -> dict[str, Any]:
        """What is selected in the beginning: the head that writes most."""
        n, layers, heads = self.found.heads.shape
        one = {"prompt": 0} if n == 1 else {"prompt": None}
        size = np.abs(self.found.heads.mean(0)) if heads else np.full((layers, 1), np.nan)
        if np.isnan(size).all():
            return {**one, "layer": 0, "head": None}
        layer, head = divmod(int(np.nanargmax(size)), size.shape[1])
        return {**one, "layer": layer, "head": head}

    def _tokens(self) -> Sequence[Tokens]:
        tokens: Sequence[Tokens] = getattr(self.found, "tokens", ())
        return tokens or [Tokens.of([])] * len(self.found.total)

    def _longest(self) -> int:
        return max(map(len, self._tokens()))

    @property
    def selection(self) -> Contribution | None:
        """The contribution of the head, or of the source token, that is selected; None where none is."""
        if self.head is None:
            return None
        place = self.layer, self.head, self.prompt, self.position
        if self.position is not None and self.prompt is not None:
            value = float(self.found.sources(self.layer, self.head)[self.prompt, self.position])
            return Contribution(*place, value, float("nan"), float("nan"))
        value, low, high = self.heads(self.prompt, self.layer)[self.head].tolist()
        return Contribution(self.layer, self.head, self.prompt, None, value, low, high)

    # The numbers -------------------------------------------------------------------------------------------------

    @property
    def row_names(self) -> list[str]:
        """What the rows of `rows` are: embed, L0 attn, L0 mlp, …, rest, constant, total."""
        layers = [f"L{layer} {part}" for layer in range(self.shape[1]) for part in ("attn", "mlp")]
        return ["embed", *layers, "rest", "constant", "total"]

    def rows(self, prompt: int | None) -> Floats:
        """What each part of the model writes, [row, (value, low, high)]."""
        found = self.found
        layers = np.stack([found.attn, found.mlp], axis=-1).reshape(len(found.total), -1)
        ends = [found.rest, found.constant, found.total]
        return _told(np.column_stack([found.embed, layers, *ends]), prompt)

    def heads(self, prompt: int | None, layer: int) -> Floats:
        """What each head of a layer writes, and last the bias of their output, [head + 1, (value, low, high)]."""
        return _told(self._with_bias()[:, layer], prompt)

    def _with_bias(self) -> Floats:
        bias = self.found.attn - np.nansum(self.found.heads, -1)
        return np.concatenate([self.found.heads, bias[..., None]], axis=-1)  # [prompt, layer, head + 1]

    def to_pandas(self) -> Any:
        """A row for each part: component, layer, head, contribution, low, high; of the prompt, or the mean over all.

        An attention layer is its heads and the bias of its output, as far as they are told apart: rows add up to the
        total.
        """
        of = dict(zip(self.row_names, self.rows(self.prompt), strict=True))
        parts: list[tuple[str, int | None, int | None, Floats]] = [("embed", None, None, of["embed"])]
        for layer in range(self.shape[1]):
            *heads, bias = self.heads(self.prompt, layer)
            own = [(f"L{layer}H{head}", layer, head, row) for head, row in enumerate(heads) if not np.isnan(row[0])]
            shared = f"L{layer} attn bias" if own else f"L{layer} attn"
            parts += [*own, (shared, layer, None, bias), (f"L{layer} mlp", layer, None, of[f"L{layer} mlp"])]
        parts += [(name, None, None, of[name]) for name in ("rest", "constant")]
        component, of_layer, of_head, told = zip(*(part for part in parts if not np.isnan(part[3][0])), strict=True)
        contribution, low, high = np.stack(told, axis=-1)
        return frame({
            "component": component, "layer": of_layer, "head": of_head,
            "contribution": contribution, "low": low, "high": high, "metric": self.measured,
        })  # fmt: skip

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`rows`, `heads` of a layer, `parts` [layer, head + 1], `sources` [key] or `tokens`, of a prompt or all."""
        what, prompt = key["what"], key["prompt"]
        if what == "rows":
            return Tile(self.rows(prompt).astype(np.float32))
        if what == "heads":
            return Tile(self.heads(prompt, key["layer"]).astype(np.float32))
        if what == "parts":
            every = self._with_bias()
            return Tile((every.mean(0) if prompt is None else every[prompt]).astype(np.float32))
        if what == "sources":
            size = len(self._tokens()[prompt])
            return Tile(self.sources(key["layer"], key["head"])[prompt, :size].astype(np.float32))
        if what == "tokens":
            return tokens_tile(self._tokens()[prompt], key["chunk"])
        raise InputError(f"There is no tile {what!r}.")

    def sources(self, layer: int, head: int) -> Floats:
        """What a head carries from each token, [prompt, key]."""
        if not hasattr(self.found, "sources"):
            raise InputError("These numbers came without their model; take them from direct_logit_attribution(…).")
        sources: Floats = self.found.sources(layer, head)
        return sources

    def _on_screen(self) -> list[str]:
        prompt = self.prompt
        keys = [key_of(what="rows", prompt=prompt), key_of(what="parts", prompt=prompt)]
        return [*keys, key_of(what="heads", prompt=prompt, layer=self.layer)]

    def stored_keys(self) -> Iterator[str]:
        """What is on screen, then the other layers, then source tokens of the prompt shown, then other prompts."""
        n, layers, heads = self.shape
        yield from self._on_screen()
        for layer in range(layers):
            yield key_of(what="heads", prompt=self.prompt, layer=layer)
        if self.prompt is not None:
            for chunk in range(-(-len(self._tokens()[self.prompt]) // CHUNK)):
                yield key_of(what="tokens", prompt=self.prompt, chunk=chunk)
            there = ~np.isnan(self.found.heads[self.prompt])
            places = [(self.layer, self.head), *((layer, head) for layer in range(layers) for head in range(heads))]
            for layer, head in places if getattr(self.found, "tokens", ()) else ():
                if head is not None and there[layer, head]:
                    yield key_of(what="sources", prompt=self.prompt, layer=layer, head=head)
        for prompt in [None, *range(n)]:
            yield from (key_of(what=what, prompt=prompt) for what in ("rows", "parts"))
            yield from (key_of(what="heads", prompt=prompt, layer=layer) for layer in range(layers))

    # Bad input -----------------------------------------------------------------------------------------------------

    @traitlets.validate("prompt", "layer", "head", "position")
    def _in_range(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        n, layers, heads = self.shape
        size = {"prompt": n, "layer": layers, "head": heads, "position": self._longest()}[name]
        if value is not None and not 0 <= value < size:
            raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return value  # type: ignore[no-any-return]

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """Layers, the heads of the layer selected, and the source tokens of the head where a prompt is chosen."""
        from interpwidgets.views.residual_picture import residual_picture

        return residual_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The largest contributions either way."""
        from interpwidgets.views.residual_picture import residual_table

        return residual_table(self)

    def describe(self) -> str:
        """What the bars are, and what they are not."""
        n = self.shape[0]
        of = f"prompt {self.prompt}" if self.prompt is not None else f"the mean over {n} prompts"
        return (
            f"What each part of {self.found.model} writes straight to {self.measured}, {of}: the bars add up to the "
            f"total, {float(self.rows(self.prompt)[-1, 0]):.3f}. The direct path only, with the scale of the final "
            "norm held: a hypothesis about what matters, not a causal effect."
        )

    def __repr__(self) -> str:
        n, layers, heads = self.shape
        prompts = f"{n} prompt{'s' if n > 1 else ''}"
        return f"ResidualView({self.measured}, {prompts}, {layers} layers × {heads} heads)"


def _attribution(data: Any, metric: Any) -> Any:
    """A LogitAttribution, or what looks like one; made from a recording and a metric if need be."""
    if all(hasattr(data, part) for part in _PARTS):
        return data
    model, tokens = getattr(data, "model", None), getattr(data, "tokens", None)
    if not tokens or not hasattr(data, "sites"):
        raise InputError(
            "ResidualView needs a LogitAttribution, or a Recording and metric=…; got "
            f"{type(data).__name__}. Make one with iw.direct_logit_attribution(model, prompts, metric)."
        )
    if metric is None:
        raise InputError("A recording needs metric=…, what to split: iw.logit_diff(…) or iw.logit(…).")
    if model is None:
        raise InputError("This recording does not know its model; give iw.direct_logit_attribution(…) instead.")
    if any(each.ids is None for each in tokens):
        raise InputError("This recording does not know the ids of its tokens; record the model's own prompts.")
    from interpwidgets.intervene import direct_logit_attribution

    return direct_logit_attribution(model, [each.ids.tolist() for each in tokens], metric)


def _told(values: Floats, prompt: int | None) -> Floats:
    """[prompt, row] → [row, (value, low, high)]: of one prompt, or the mean and its 95 % interval."""
    if prompt is not None:
        return np.stack([values[prompt], *np.full((2, values.shape[1]), np.nan)], axis=-1)
    return np.stack([values.mean(0), *interval(values.T)], axis=-1)


def _name(number: int, tokens: Tokens) -> str:
    begin = " ".join(tokens[:6])
    return f"{number}: {begin[:32]}…" if len(tokens) > 6 or len(begin) > 32 else f"{number}: {begin}"
