"""Neurons over text: which ones there are, and where each is active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import traitlets

from interpwidgets.frames import frame
from interpwidgets.views.activations import SORTS, Activations, Floats, activations
from interpwidgets.views.flow import TextStill, in_text
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["Neuron", "NeuronsView"]

ROWS = 32  # of the table, in a tile
CELLS = 64  # of the strip in a row
BLOCK = 1 << 17  # positions of one neuron in a tile
_TOP = 8  # neurons listed at a position
_STORED = 64  # neurons whose text a page without a kernel holds


class Neuron(NamedTuple):
    """One neuron on one prompt, as selected in a view."""

    layer: int
    neuron: int
    max: float
    mean: float
    share: float  # of the positions where it is above 0
    values: Floats  # [pos]


class NeuronsView(View, view="neurons"):
    """Look through the neurons of a layer, and at the text on which each is active.

        view = NeuronsView(iw.record(model, prompts, sites=["mlp_post"]))
        view = NeuronsView(rec, site="resid_post")            # whatever was recorded, [pos, …] a layer
        view = NeuronsView(activations, tokens)               # [pos, neuron] or [pos, layer, neuron]
        view = NeuronsView(frame)                             # a DataFrame: columns are neurons, one may be "token"
        view = NeuronsView({3: early, 9: late}, tokens)       # a name and [pos, neuron] for each layer
        view = NeuronsView(read, tokens, names=["0", "1"])    # a function: layer -> [pos, neuron]

    The table has a row for each neuron: its maximum, its mean, the share of positions where it is above 0, and a strip
    of the text from beginning to end. It is sorted by `sort_by`, at a position by the value there, and keeps what
    passes `filter`: an index (`31`), or conditions (`max > 2, share < 0.1`). Only rows in view are asked for, so a
    hundred thousand neurons are no more than a hundred. A click selects a `neuron`, whose text is shown at its side;
    `pinned` ones, [layer, neuron], stay on top. `selection` is what is selected, as numbers.

    Text coloured by one cell: Karpathy, Johnson and Li 2015, "Visualizing and Understanding Recurrent Networks", §4.2;
    the choosers of layer and neuron: `text_neuron_activations` of CircuitsVis (Cooney and Nanda 2023).

    Args:
        activations: of one prompt, or a list of several; or a `Recording`.
        tokens: of each prompt; a `Recording` brings its own.
        site: which activations of a `Recording`.
        names: what to call the layers.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: there are no activations, or they do not fit the tokens.
        TraitError: a setting out of range.
    """

    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, size", read_only=True).tag(sync=True)
    layers = traitlets.List(traitlets.Dict(), help="each layer: name, neurons", read_only=True).tag(sync=True)
    prompt = traitlets.CInt(0, help="the prompt shown").tag(sync=True)
    layer = traitlets.CInt(0, help="the layer shown: its place among those there are").tag(sync=True)
    neuron = traitlets.CInt(0, help="the neuron whose text is shown").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="the token selected").tag(sync=True)
    sort_by = traitlets.Enum(SORTS, "max", help="what the table is sorted by").tag(sync=True)
    filter = traitlets.Unicode("", help="which neurons: an index, or max > 2, share < 0.1").tag(sync=True)
    pinned = traitlets.List(traitlets.List(traitlets.CInt()), help="[layer, neuron] each, kept on top").tag(sync=True)
    colour_range = Range()

    def __init__(
        self,
        activations: Any,
        tokens: Any = None,
        *,
        site: str = "mlp_post",
        names: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self._site, self._names = site, names
        self._take(activations, tokens)
        recorded = hasattr(activations, "sites")
        layer = settings.get("layer", 0)
        layer = layer if layer in range(len(self.layers)) else 0  # else it is refused below
        strongest = int(self._all[0].order(layer, "max", None, "")[0])
        super().__init__(settings, title=f"Neurons: {site}" if recorded else "Neurons", neuron=strongest)
        self.open_with(self._first_screen())

    def show(self, activations: Any, tokens: Any = None) -> None:
        """Show other activations, of the same site and names; what is selected stays where it still exists."""
        with self.hold_trait_notifications():
            self._take(activations, tokens)
            self.prompt = min(self.prompt, len(self.prompts) - 1)
            self.layer = min(self.layer, len(self.layers) - 1)
            self._keep_what_exists()
        self.renew(self._first_screen())

    @property
    def selection(self) -> Neuron:
        """The neuron whose text is shown, and its activations."""
        shown = self._all[self.prompt]
        summary = shown.summary(self.layer)
        most, mean, share = (float(part[self.neuron]) for part in (summary.max, summary.mean, summary.share))
        return Neuron(self.layer, self.neuron, most, mean, share, shown.layer(self.layer)[:, self.neuron])

    def to_pandas(self) -> Any:
        """A row for each neuron that passes `filter`, in the order of the table: layer, neuron, max, mean, share.

        `position` and `token` are where its maximum is.
        """
        shown, name = self._all[self.prompt], self.layers[self.layer]["name"]
        summary = shown.summary(self.layer)
        order = shown.order(self.layer, self.sort_by, self._sorted_at(), self.filter)
        where = summary.where[order]
        return frame(
            {
                "layer": int(name) if name.isdecimal() else name,
                "neuron": order,
                "max": summary.max[order],
                "mean": summary.mean[order],
                "share": summary.share[order],
                "position": where,
                "token": np.array(list(shown.tokens), dtype=object)[where],
            }
        )

    # What travels ----------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`tokens` of a chunk; `rows` of the table, or one `row`; the `line` of a neuron; the top `at` a position.

        A row is index, max, mean, share, where, value at the position, then a strip of the text.
        """
        shown = self._all[key["prompt"]]
        if key["what"] == "tokens":
            return tokens_tile(shown.tokens, key["chunk"])
        layer = key["layer"]
        if key["what"] == "rows":
            order = shown.order(layer, key["sort"], key["position"], key["filter"])
            some = order[key["block"] * ROWS : (key["block"] + 1) * ROWS]
            summary = shown.summary(layer)
            facts = {"total": len(order), "least": summary.low, "most": summary.high}
            return Tile(shown.rows(layer, some, key["position"], CELLS), facts)
        if key["what"] == "row":
            return Tile(shown.rows(layer, np.array([key["neuron"]]), None, CELLS))
        if key["what"] == "line":
            part = slice(key["block"] * BLOCK, (key["block"] + 1) * BLOCK)
            return Tile(shown.layer(layer)[part, key["neuron"]][None])
        if key["what"] == "at":
            top = shown.strongest(layer, key["position"], _TOP)
            return Tile(np.stack([top, shown.layer(layer)[key["position"], top]]).astype(np.float32))
        raise KeyError(f"no tile is called {key['what']!r}")

    def stored_keys(self) -> Iterator[str]:
        """The first screen, then the tops of the tables of all layers and prompts, and the texts of those neurons."""
        yield from self._first_screen()
        for prompt in sorted(range(len(self._all)), key=lambda prompt: prompt != self.prompt):
            yield from self._token_keys(prompt, 1 << 30)
            for layer in sorted(range(len(self.layers)), key=lambda layer: layer != self.layer):
                yield self._rows_key(prompt, layer, 0)
                order = self._all[prompt].order(layer, self.sort_by, self._sorted_at(), self.filter)
                for block in range(-(-min(len(order), _STORED) // ROWS)):
                    yield self._rows_key(prompt, layer, block)
                for neuron in order[:_STORED].tolist():
                    yield from self._neuron_keys(prompt, layer, neuron)

    def _first_screen(self) -> list[str]:
        where = {"prompt": self.prompt, "layer": self.layer}
        keys = [*self._token_keys(self.prompt, 4), self._rows_key(self.prompt, self.layer, 0)]
        keys += self._neuron_keys(**where, neuron=self.neuron)
        if self.position is not None:
            keys.append(key_of(what="at", **where, position=self.position))
        return keys + [
            key_of(what="row", prompt=self.prompt, layer=layer, neuron=neuron) for layer, neuron in self.pinned
        ]

    def _token_keys(self, prompt: int, at_most: int) -> Iterator[str]:
        for chunk in range(min(at_most, -(-len(self._all[prompt].tokens) // CHUNK))):
            yield key_of(what="tokens", prompt=prompt, chunk=chunk)

    @staticmethod
    def _neuron_keys(prompt: int, layer: int, neuron: int) -> list[str]:
        where = {"prompt": prompt, "layer": layer, "neuron": neuron}
        return [key_of(what="line", **where, block=0), key_of(what="row", **where)]

    def _rows_key(self, prompt: int, layer: int, block: int) -> str:
        where = {"prompt": prompt, "layer": layer, "sort": self.sort_by, "position": self._sorted_at()}
        return key_of(what="rows", **where, filter=self.filter, block=block)

    def _sorted_at(self) -> int | None:
        return self.position if self.sort_by == "position" else None

    # Bad input -------------------------------------------------------------------------------------------------------

    def _take(self, data: Any, tokens: Any) -> None:
        self._all: list[Activations] = activations(data, tokens, self._site, self._names)
        some = self._all[0]
        facts = [{"name": name, "neurons": int(some.layer(layer).shape[1])} for layer, name in enumerate(some.layers)]
        names = [f"{i}: {' '.join(each.tokens[:5])[:28]} …" for i, each in enumerate(self._all)]
        self.set_trait("layers", facts)
        self.set_trait(
            "prompts",
            [{"name": name, "size": len(each.tokens)} for name, each in zip(names, self._all, strict=True)],
        )

    @traitlets.observe("prompt", "layer")
    def _keep_what_exists(self, _: Any = None) -> None:
        if (self.position or 0) >= self.prompts[self.prompt]["size"]:
            self.position = None
        if self.neuron >= self.layers[self.layer]["neurons"]:
            self.neuron = 0
        self.pinned = [pin for pin in self.pinned if self._exists(pin)]

    def _exists(self, pin: Sequence[int]) -> bool:
        there = len(pin) == 2 and 0 <= pin[0] < len(self.layers)
        return there and 0 <= pin[1] < self.layers[pin[0]]["neurons"]

    @traitlets.validate("prompt", "layer", "neuron")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, int(proposal["value"])
        size = {"prompt": len(self.prompts), "layer": len(self.layers)}.get(name)
        if size is None:  # the layer may yet be refused
            size = self.layers[self.layer]["neurons"] if self.layer in range(len(self.layers)) else value + 1
        if not 0 <= value < size:
            raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return value

    @traitlets.validate("position")
    def _in_text(self, proposal: Any) -> Any:
        return in_text("position", proposal["value"], self.prompts[self.prompt]["size"])

    @traitlets.validate("pinned")
    def _there(self, proposal: Any) -> list[list[int]]:
        pins: list[list[int]] = proposal["value"]
        if wrong := next((pin for pin in pins if not self._exists(pin)), None):
            raise traitlets.TraitError(f"pinned are [layer, neuron] that exist; got {wrong}.")
        return pins

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The text of the neuron selected, and the first rows of the table."""
        from interpwidgets.views.drawing import INK, MUTED, PAD, WIDTH, Drawing

        shown = self._all[self.prompt]
        text = TextStill(list(shown.tokens), self.selection.values, "linear", self.colour_range)
        headings, rows = self.table()
        drawing = Drawing(WIDTH, 62 + text.height + 46 + 18 * (len(rows) + 1) + 10)
        drawing.text((PAD, 8), self.title, 16)
        drawing.text((PAD, 32), self.describe(), 12, MUTED, width=WIDTH - 2 * PAD)
        text.draw(drawing, 56, self.position, [])
        text.legend(drawing, 56 + text.height + 12, f"activation of neuron {self.neuron}")
        top = 56 + text.height + 46
        for row, cells in enumerate([headings, *rows]):
            for column, cell in enumerate(cells):
                drawing.text((PAD + 140 * column, top + 18 * row), cell, 12, INK if row else MUTED, width=134)
        return drawing

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The first neurons in the order of the table: index, max, mean, share active, the token of the maximum."""
        shown = self._all[self.prompt]
        summary = shown.summary(self.layer)
        order = shown.order(self.layer, self.sort_by, self._sorted_at(), self.filter)[:12].tolist()
        rows = [
            [
                str(neuron),
                f"{summary.max[neuron]:.4g}",
                f"{summary.mean[neuron]:.4g}",
                f"{100 * summary.share[neuron]:.1f} %",
                f"{summary.where[neuron]}: {shown.tokens[int(summary.where[neuron])]}",
            ]
            for neuron in order
        ]
        return ["neuron", "max", "mean", "active", "at"], rows

    def describe(self) -> str:
        """Which neuron is shown, and what it does."""
        found = self.selection
        return (
            f"Layer {self.layers[self.layer]['name']}, neuron {found.neuron}: max {found.max:.4g}, mean "
            f"{found.mean:.4g}, above 0 at {100 * found.share:.1f} % of {len(found.values):,} positions."
        )

    def __repr__(self) -> str:
        several = f"{len(self.prompts)} prompts, " if len(self.prompts) > 1 else ""
        counts = sorted({layer["neurons"] for layer in self.layers})
        neurons = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"
        size = self.prompts[self.prompt]["size"]
        return f"NeuronsView({several}{len(self.layers)} layers × {neurons} neurons, {size:,} tokens)"
