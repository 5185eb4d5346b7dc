"""Where an intervention matters: tables of effects, filled while a sweep runs, and run again cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.tokens import Tokens
from interpwidgets.views.patching_tiles import TRAIT_OF, Panel, PatchingTiles, panels_of, tokens_of
from interpwidgets.views.tile import Tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["PatchingView"]

_FEW = 200_000  # numbers of which intervals travel with the view: a few tenths of a second
_ROWS = 12  # of the table


class PatchingView(View, view="patching"):
    """See which layer, position or head an intervention matters at, how sure that is, and run a cell again.

        view = PatchingView(effects)                        # of patch_sweep, ablate_sweep, path_sweep …
        view = PatchingView([by_position, by_head])         # side by side, on one scale
        view = PatchingView(causal_trace(model, prompt, subject="The Space Needle"))
        view = PatchingView()                               # empty, and filled while the sweep runs:
        patch_sweep(model, clean, corrupted, metric, into=view.show)

    A cell is one intervention: its colour is the `measure`, how far it moved the metric (`effect`), the share of the
    way from corrupted to clean (`recovered`), or the metric itself (`value`). A dot is on cells whose 95 % interval (a
    bootstrap over prompts) includes no effect; hatched are those that were not run. Where a cell is a position, the
    tokens of both prompts stand along it, and those that differ are marked.

    A click selects a cell: `cell` is its place on each axis, `layer`, `head`, `position` and `neuron` its labels there.
    Effects of a sweep of this session are live: a selected cell is run again on the prompt chosen, and shown is what
    it does to the next token.

    Heimersheim & Nanda 2024, "How to use and interpret activation patching", arXiv:2404.15255; Wang et al. 2022,
    arXiv:2211.00593; for traces Meng et al. 2022 §2, arXiv:2202.05262.

    Args:
        effects: effects on one to three axes, a list or a dict of them, or a `CausalTrace`.
        clean: the prompts that were patched from, as tokens or a `Recording`; effects of this session know them.
        corrupted: the prompts that were run.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: no effects, or prompts that do not fit them.
        TraitError: a setting out of range.
    """

    panels = traitlets.List(traitlets.Dict(), help="each table: metric, axes, baselines", read_only=True).tag(sync=True)
    pairs = traitlets.List(traitlets.Unicode(), help="what each pair of prompts is called", read_only=True).tag(
        sync=True
    )
    panel = traitlets.CInt(0, help="the table that the selected cell is in").tag(sync=True)
    cell = traitlets.List(traitlets.CInt(), help="the place of the selected cell on each axis").tag(sync=True)
    layer = traitlets.CInt(None, allow_none=True, help="its layer, where that is an axis").tag(sync=True)
    head = traitlets.CInt(None, allow_none=True, help="its head").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="its position").tag(sync=True)
    neuron = traitlets.CInt(None, allow_none=True, help="its neuron").tag(sync=True)
    prompt = traitlets.CInt(0, help="the pair of prompts shown, and run").tag(sync=True)
    measure = traitlets.Enum(("effect", "recovered", "value"), "effect", help="what colours show").tag(sync=True)
    held = traitlets.Unicode("", help="of three axes, the one held where the cell is; empty: the last").tag(sync=True)
    colour_range = Range()

    def __init__(self, effects: Any = None, *, clean: Any = None, corrupted: Any = None, **settings: Any) -> None:
        self._given = (clean, corrupted)
        self._take(effects)
        self._following = True  # until all traits are there
        panel = settings.get("panel", 0)
        start = self._tiles.strongest(panel) if panel in range(len(self._tiles.panels)) else []
        axes = self._tiles.panels[panel].effects.axes if start else ()
        wanted = settings.get("cell") or [
            max(0, _place(axis, settings[TRAIT_OF[axis.name]])) if TRAIT_OF.get(axis.name) in settings else at
            for axis, at in zip(axes, start, strict=True)
        ]
        moved = {"cell": wanted, **_labels(axes, wanted)} if wanted != start else {}
        super().__init__({**moved, **settings}, cell=start, **_labels(axes, start), title=_title(self._tiles))
        self._following = False
        self._own = start  # the cell selected until the reader selects one
        self.open_with(self._first_screen())

    def show(self, effects: Any) -> None:
        """Show other effects, or more of them: a sweep's `into`. What is selected stays where it exists."""
        before = [panel["axes"] for panel in self.panels]
        with self.hold_trait_notifications():
            self._take(effects)
            if self.panel >= len(self._tiles.panels):
                self.panel = 0
            if self.prompt >= max(1, len(self.pairs)):
                self.prompt = 0
        if list(self.cell) == self._own or before != [panel["axes"] for panel in self.panels]:
            self._own = self._tiles.strongest(self.panel) if self._tiles.panels else []
            self.cell = self._own
        self.renew(self._first_screen())

    def _take(self, effects: Any) -> None:
        panels, trace = panels_of(effects)
        clean, corrupted = self._given
        live = next((live for panel in panels if (live := getattr(panel.effects, "live", None))), None)
        if clean is not None:
            clean = tokens_of(clean, "clean")
        elif trace is not None:
            clean = [trace.tokens]
        else:
            clean = live and live.clean
        corrupted = tokens_of(corrupted, "corrupted") if corrupted is not None else live and live.corrupted
        _fit(panels, clean, corrupted, trace)
        self._tiles = PatchingTiles(panels, clean, corrupted, None if trace is None else list(trace.subject))
        self.set_trait("panels", [self._tiles.facts(number) for number in range(len(panels))])
        shown = corrupted or clean or ()
        self.set_trait("pairs", [f"{i}: {' '.join(tokens[:6])[:32]}" for i, tokens in enumerate(shown)])

    @property
    def roles(self) -> dict[str, str]:
        """Which trait plays which role: those only that are an axis of the effects."""
        axes = {TRAIT_OF.get(name) for panel in self._tiles.panels for name in panel.axes}
        return {role: name for role, name in super().roles.items() if role == "prompt" or name in axes}

    @property
    def selected(self) -> Any:
        """The `Effect` of the selected cell; None without one."""
        if not self._tiles.panels or not self.cell:
            return None
        return self._tiles.panels[self.panel].effects[tuple(self.cell)]

    def to_pandas(self) -> Any:
        """A row for each cell of the table selected, as `Effects.to_pandas` has it: labels, effect, low, high, ….

        Where an axis is `pos`, with the tokens there of the pair of prompts shown, as far as they are known.
        """
        if not self._tiles.panels:
            return frame({})
        effects = self._tiles.panels[self.panel].effects
        found = effects.to_pandas()
        if any(axis.name == "pos" and isinstance(axis.labels[0], int) for axis in effects.axes):
            for side in ("clean", "corrupted"):
                if (tokens := getattr(self._tiles, side)) is not None:
                    found[f"{side}_token"] = found["pos"].map(dict(enumerate(tokens[self.prompt])))
        return found

    # The selection has two faces: places in `cell`, labels in the traits that views share ----------------------------

    def _axes(self) -> list[Any]:
        panels = self._tiles.panels[self.panel :][:1]  # none, where `panel` is about to be refused
        return list(panels[0].effects.axes) if panels and self.panel >= 0 else []

    @traitlets.observe("cell")
    def _cell_moved(self, _: Any) -> None:
        if self._following:
            return
        self._following = True
        try:
            for name, label in _labels(self._axes(), self.cell).items():
                setattr(self, name, label)
        finally:
            self._following = False

    @traitlets.observe(*TRAIT_OF.values())
    def _label_moved(self, _: Any) -> None:
        axes = self._axes()
        if self._following or len(self.cell) != len(axes):
            return
        places = list(self.cell)
        for i, axis in enumerate(axes):
            label = getattr(self, TRAIT_OF.get(axis.name, ""), None)
            if label is not None:
                places[i] = _place(axis, label)
        self._following = True
        try:
            self.cell = places
        finally:
            self._following = False

    @traitlets.observe("panel")
    def _other_panel(self, _: Any) -> None:
        """A table with other axes has its own strongest cell."""
        sizes = [len(axis) for axis in self._axes()]
        if len(self.cell) != len(sizes) or any(at >= size for at, size in zip(self.cell, sizes, strict=True)):
            self.cell = self._tiles.strongest(self.panel)
        self._cell_moved(None)

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """A tile of `PatchingTiles`."""
        return self._tiles.tile(**key)

    def stored_keys(self) -> Iterator[str]:
        """Keys of what a page without a kernel holds."""
        return self._tiles.stored(self.held, self.cell, self.prompt, self.panel)

    def _first_screen(self) -> list[str]:
        """All that is drawn; intervals only of what is complete, and small."""
        every = [panel.effects for panel in self._tiles.panels]
        small = sum(effects.values.size for effects in every) <= _FEW and all(effects.done.all() for effects in every)
        return list(self._tiles.screen(self.held, self.cell, self.prompt, intervals=small))

    # Bad input -----------------------------------------------------------------------------------------------------

    @traitlets.validate("panel", "prompt")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        size = max(1, len(self._tiles.panels) if name == "panel" else len(self.pairs))
        if not 0 <= value < size:
            raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return int(value)

    @traitlets.validate("cell")
    def _is_cell(self, proposal: Any) -> list[int]:
        value, axes = list(proposal["value"]), self._axes()
        if (
            value
            and self.panel in range(len(self._tiles.panels))
            and (len(value) != len(axes) or not all(0 <= at < len(axis) for at, axis in zip(value, axes, strict=True)))
        ):
            sizes = " × ".join(f"{axis.name} {len(axis)}" for axis in axes) or "no axis"
            raise traitlets.TraitError(f"cell is a number for each of {sizes}, counted from 0; got {value}.")
        return value

    @traitlets.validate(*TRAIT_OF.values())
    def _is_label(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        if value is None:
            return None
        axis = next((axis for axis in self._axes() if TRAIT_OF.get(axis.name) == name), None)
        if axis is None:
            raise traitlets.TraitError(f"{name} is not an axis of these effects.")
        if _place(axis, value) < 0:
            labels = ", ".join(map(str, axis.labels[:8])) + (" …" if len(axis) > 8 else "")
            raise traitlets.TraitError(f"{name} {value} does not exist: these effects have {labels}.")
        return int(value)

    @traitlets.validate("held")
    def _is_axis(self, proposal: Any) -> str:
        names = [axis.name for axis in self._axes()]
        if proposal["value"] and proposal["value"] not in names:
            raise traitlets.TraitError(f"held names one of the axes {', '.join(names)}; got {proposal['value']!r}.")
        return str(proposal["value"])

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The tables, with axes, a legend and the selected cell."""
        from interpwidgets.views.patching_picture import patching_picture

        return patching_picture(self, self._tiles)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The cells that moved the metric furthest."""
        if not self._tiles.panels:
            return [], []
        effects = self._tiles.panels[self.panel].effects
        rows = []
        for labels, effect in effects.top(_ROWS):
            low, high = effect.interval()
            recovered = "" if np.isnan(effect.gap) else _share(effect.effect / effect.gap)
            interval = "one prompt" if effects.n == 1 else f"{low:.3f} … {high:.3f}"
            rows.append([*map(str, labels), f"{effect.effect:+.3f}", interval, recovered])
        return [*(axis.name for axis in effects.axes), "effect", "95 %", "recovered"], rows

    def describe(self) -> str:
        """What was done, and what the selected cell did."""
        if not self._tiles.panels:
            return "A table of effects in which nothing has been run yet."
        effects = self._tiles.panels[self.panel].effects
        place = ", ".join(f"{axis.name} {axis.labels[at]}" for axis, at in zip(effects.axes, self.cell, strict=False))
        return f"{effects.how.rstrip('.')}; colours are the {self.measure}. Selected: {place}: {self.selected!r}."

    def __repr__(self) -> str:
        if not self._tiles.panels:
            return "PatchingView(nothing yet)"
        each = [" × ".join(f"{axis.name} {len(axis)}" for axis in panel.effects.axes) for panel in self._tiles.panels]
        return f"PatchingView({'; '.join(each)})"


def _share(share: float) -> str:
    return f"{round(100 * share) + 0} %".replace("-", "−")


def _title(tiles: PatchingTiles) -> str:
    """What kind of evidence this is."""
    if tiles.marked is not None:
        return "Causal trace"
    cleanless = tiles.panels and all(panel.effects.clean is None for panel in tiles.panels)
    return "Effects of interventions" if cleanless else "Activation patching"


def _labels(axes: Sequence[Any], cell: Sequence[int]) -> dict[str, int | None]:
    """What the traits that views share are at a cell."""
    found: dict[str, int | None] = dict.fromkeys(TRAIT_OF.values())
    for axis, place in zip(axes, cell, strict=False):
        if axis.name in TRAIT_OF and 0 <= place < len(axis):
            label = axis.labels[place]
            found[TRAIT_OF[axis.name]] = label if isinstance(label, int) else place
    return found


def _place(axis: Any, label: int) -> int:
    """Where a label is on an axis; of an axis with names, the place itself; −1 for none."""
    if label in axis.labels:
        return int(axis.labels.index(label))
    named = any(isinstance(each, str) for each in axis.labels)
    return label if named and 0 <= label < len(axis) else -1


def _fit(panels: Sequence[Panel], clean: Any, corrupted: Any, trace: Any) -> None:
    """Refuse prompts that do not fit each other, or the effects."""
    if clean and corrupted and [len(tokens) for tokens in clean] != [len(tokens) for tokens in corrupted]:
        raise InputError("Clean and corrupted prompts are pairs of as many tokens; these are not.")
    for panel in panels:
        count = len(corrupted or clean or ())
        if count and trace is None and count != panel.effects.n:
            raise InputError(f"The effects are on {panel.effects.n} prompts; got the tokens of {count}.")
        for axis in panel.effects.axes:
            sizes: list[Tokens] = list(corrupted or clean or ()) if axis.name == "pos" else []
            last = max((label for label in axis.labels if isinstance(label, int)), default=-1)
            if any(len(tokens) <= last for tokens in sizes):
                raise InputError(f"The effects go to position {last}, beyond the end of these prompts.")
