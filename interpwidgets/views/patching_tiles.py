"""The tiles of a patching view: tables of effects, one slice and one block of columns at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.tile import Tile
from interpwidgets.views.view import key_of

__all__ = ["TRAIT_OF", "Panel", "PatchingTiles", "panels_of"]

Floats = NDArray[np.float32]

TRAIT_OF = {"layer": "layer", "head": "head", "pos": "position", "neuron": "neuron"}  # an axis, and who plays it
_CELLS = 40_000  # in a tile
_TRACE = (
    ("states", "resid_post restored"),
    ("attn", "attn_out restored"),
    ("mlp", "mlp_out restored"),
)


class Panel(NamedTuple):
    """One table of effects, and what it is called."""

    name: str
    effects: Any  # Effects

    @property
    def axes(self) -> list[str]:
        """The names of its axes."""
        return [axis.name for axis in self.effects.axes]

    def sides(self, held: str) -> tuple[int, int, int]:
        """The numbers of the axes that are rows, columns, and held where it is; −1 for none. Layers are rows."""
        names = self.axes
        kept = -1 if len(names) < 3 else names.index(held) if held in names else len(names) - 1
        shown = [i for i in range(len(names)) if i != kept]
        if len(shown) == 1:
            return -1, shown[0], kept
        row = names.index("layer") if "layer" in [names[i] for i in shown] else shown[0]
        return row, next(i for i in shown if i != row), kept

    def plane(self, values: NDArray[Any], held: str, at: int) -> Floats:
        """Of numbers [*axes], those on screen: [row, column]; layers run from the first."""
        row, column, kept = self.sides(held)
        part = values if kept < 0 else np.take(values, at, axis=kept)
        if row < 0:
            return np.asarray(part, dtype=np.float32)[None]
        return np.asarray(part if row < column else part.T, dtype=np.float32)


def panels_of(data: Any) -> tuple[list[Panel], Any]:
    """What there is to show, and, of a `CausalTrace`, the trace itself.

    Raises:
        InputError: it is neither effects, several of them, nor a trace.
    """
    if data is None:
        return [], None
    if all(hasattr(data, name) for name in ("states", "attn", "mlp", "subject")):  # a CausalTrace
        found = [Panel(what, getattr(data, kind)) for kind, what in _TRACE if getattr(data, kind) is not None]
        return found, data
    if _is_effects(data):
        panels = [Panel("", data)]
    elif isinstance(data, Mapping):
        panels = [Panel(str(name), each) for name, each in data.items()]
    elif isinstance(data, (list, tuple)):
        panels = [Panel(each.how.partition(",")[0] if _is_effects(each) else "", each) for each in data]
    else:
        panels = [Panel("", data)]
    if not panels or not all(_is_effects(panel.effects) for panel in panels):
        kinds = ", ".join(type(panel.effects).__name__ for panel in panels) or "nothing"
        raise InputError(f"PatchingView shows Effects, several of them, or a CausalTrace; got {kinds}.")
    for panel in panels:
        if not 1 <= len(panel.axes) <= 3:
            raise InputError(
                f"Effects on one to three axes can be shown; these have {' × '.join(panel.axes) or 'none'}. Fix some: "
                "effects[3], effects[:, 2]."
            )
    return panels, None


def _is_effects(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("axes", "values", "corrupted", "metric"))


class PatchingTiles:
    """Answers for every tile of a patching view."""

    def __init__(
        self, panels: Sequence[Panel], clean: Sequence[Tokens] | None, corrupted: Sequence[Tokens] | None, marked: Any
    ) -> None:
        self.panels, self.clean, self.corrupted, self.marked = panels, clean, corrupted, marked
        self.runs: dict[str, Tile] = {}  # that were asked for, by key

    def facts(self, number: int) -> dict[str, Any]:
        """What the page has to know of a panel."""
        panel = self.panels[number]
        effects = panel.effects
        mean, effect = effects.mean, effects.effect
        done = effects.done
        return {
            "name": panel.name,
            "metric": effects.metric,
            "how": effects.how,
            "n": effects.n,
            "axes": [[axis.name, len(axis)] for axis in effects.axes],
            "corrupted": float(effects.corrupted.mean()),
            "clean": None if effects.clean is None else float(effects.clean.mean()),
            "gap": None if np.isnan(effects.gap) else effects.gap,
            "draws": 0 if effects.control is None else effects.control.shape[-1],
            "live": getattr(effects, "live", None) is not None,
            "done": [int(done.sum()), int(done.size)],
            "most": float(np.abs(effect[done]).max(initial=0)),
            "range": [float(mean[done].min()), float(mean[done].max())] if done.any() else [0.0, 1.0],
        }

    def strongest(self, number: int) -> list[int]:
        """The indices of the cell that moved the metric furthest; of the first, before any has."""
        effect = np.abs(np.nan_to_num(self.panels[number].effects.effect))
        return [int(i) for i in np.unravel_index(effect.argmax(), effect.shape)]

    def tile(self, what: str, **key: Any) -> Tile:
        """The tile of that name.

        Raises:
            InputError: there is no such tile, or these effects are not live.
        """
        make = getattr(self, f"_tile_{what}", None)
        if make is None:
            raise InputError(f"There is no tile {what!r}.")
        tile: Tile = make(**key)
        return tile

    def _panel(self, number: int) -> Panel:
        if not 0 <= number < len(self.panels):
            raise InputError(f"There is no table {number}; there are {len(self.panels)}, numbered from 0.")
        return self.panels[number]

    def _tile_labels(self, panel: int) -> Tile:
        """The labels of each axis."""
        return Tile.of_json([list(axis.labels) for axis in self._panel(panel).effects.axes])

    def _tile_cells(self, panel: int, held: str, at: int, block: int) -> Tile:
        """The metric, the effect, and the share of random components with less, [3, row, column]."""
        shown = self._panel(panel)
        effects = shown.effects
        planes = [shown.plane(each, held, at) for each in (effects.mean, effects.effect, effects.exceeds_control)]
        return Tile(np.ascontiguousarray(np.stack(planes)[:, :, self._columns(planes[0], block)]))

    def _tile_intervals(self, panel: int, held: str, at: int, block: int) -> Tile:
        """The interval of the effect, [2, row, column]: a bootstrap over prompts."""
        shown = self._panel(panel)
        effects = shown.effects
        _, _, kept = shown.sides(held)
        part = tuple(at if i == kept else slice(None) for i in range(len(effects.axes)))
        low, high = effects[part].interval()
        bounds = [np.broadcast_to(np.nan, effects.shape).copy() for _ in range(2)]
        for bound, found in zip(bounds, (low, high), strict=True):
            bound[part] = found
        planes = np.stack([shown.plane(bound, held, at) for bound in bounds])
        return Tile(np.ascontiguousarray(planes[:, :, self._columns(planes[0], block)]))

    def _columns(self, plane: Floats, block: int) -> slice:
        size = per_block(plane.shape[0])
        return slice(block * size, (block + 1) * size)

    def _tile_pair(self, prompt: int) -> Tile:
        """The tokens of a pair of prompts, and at which positions they differ."""
        clean = self.clean[prompt] if self.clean else None
        corrupted = self.corrupted[prompt] if self.corrupted else None
        marked = self.marked
        if marked is None and clean is not None and corrupted is not None:
            marked = [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b]
        sides = [None if side is None else list(side) for side in (clean, corrupted)]
        return Tile.of_json({"clean": sides[0], "corrupted": sides[1], "marked": list(marked or ())})

    def _tile_run(self, panel: int, cell: Sequence[int], prompt: int) -> Tile:
        """What one cell does to the next token of one prompt, run now."""
        effects = self._panel(panel).effects
        if getattr(effects, "live", None) is None:
            raise InputError("These effects are not live: run the sweep in this session to run single cells of it.")
        name = key_of(what="run", panel=panel, cell=list(cell), prompt=prompt)
        place = {axis.name: axis.labels[i] for axis, i in zip(effects.axes, cell, strict=True)}
        self.runs[name] = Tile.of_json(effects.live(place, prompt).to_json())
        return self.runs[name]

    # What travels, and when ------------------------------------------------------------------------------------------

    def screen(self, held: str, cell: Sequence[int], prompt: int, *, intervals: bool) -> Iterator[str]:
        """Keys of all that is drawn."""
        for number, panel in enumerate(self.panels):
            row, column, kept = panel.sides(held)
            at = cell[kept] if 0 <= kept < len(cell) else 0
            shape = panel.effects.shape
            blocks = range(-(-shape[column] // per_block(1 if row < 0 else shape[row])))
            yield key_of(what="labels", panel=number)
            for block in blocks:
                yield key_of(what="cells", panel=number, held=held, at=at, block=block)
            for block in blocks if intervals else ():
                yield key_of(what="intervals", panel=number, held=held, at=at, block=block)
        if self.clean or self.corrupted:
            yield key_of(what="pair", prompt=prompt)

    def stored(self, held: str, cell: Sequence[int], prompt: int, panel: int) -> Iterator[str]:
        """Keys of what a page without a kernel holds: the screen, the cell run again, other slices, other runs."""
        yield from self.screen(held, cell, prompt, intervals=True)
        if self.panels and cell:
            yield key_of(what="run", panel=panel, cell=list(cell), prompt=prompt)
        if self.panels and self.panels[panel].sides(held)[2] >= 0:
            kept = self.panels[panel].sides(held)[2]
            for at in range(self.panels[panel].effects.shape[kept]):
                other = [at if i == kept else place for i, place in enumerate(cell)]
                yield from self.screen(held, other, prompt, intervals=True)
        yield from self.runs


def per_block(rows: int) -> int:
    """Columns in a tile."""
    return max(1, _CELLS // rows)


def tokens_of(given: Any, what: str) -> list[Tokens]:
    """The tokens of prompts: `Tokens`, a list of strings, one of these for each prompt, or a `Recording`.

    Raises:
        InputError: it is text that nobody has split into tokens, or none of these.
    """
    if hasattr(given, "emitted") and hasattr(given, "tokens"):  # a Recording
        return list(given.tokens)
    if isinstance(given, (str, bytes)):
        raise InputError(
            f"{what} is {json.dumps(str(given))}, and a view cannot split text into tokens. Give the tokens, "
            "model.tokens(text), or a Recording."
        )
    if isinstance(given, Tokens) or all(isinstance(each, (str, bytes)) for each in given):
        return [Tokens.of(given)]
    return [Tokens.of(each) for each in given]
