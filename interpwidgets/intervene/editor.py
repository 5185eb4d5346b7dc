"""Interventions as arithmetic on the rows of what a model emits: the one engine that changes activations.

A row is one position of one prompt. Where it lies in an emitted tensor is up to a layout: in a plain batch, position
p of run c is row `c · length + p`; when only some positions are computed, they are packed one after another. Every
intervention is `x → factor · x + offset` on some rows, so that those of hundreds of runs become one operation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.interventions import Here, Intervention
from interpwidgets.models.attention import AttentionCall
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import PER_HEAD, Site
from interpwidgets.models.tape import Route, Tape

__all__ = ["Chain", "Editor", "Layout", "Plain", "positions_of", "slot"]


class Layout(Protocol):
    """Where positions of runs lie among the rows of an emitted tensor."""

    def rows(self, run: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rows, and which of the positions have one: `[n]`, `[pos]` bool."""


@dataclass(frozen=True)
class Plain:
    """A batch of runs of `size` positions each, each prompt starting at `starts` (0: padded on the right)."""

    size: int
    starts: Sequence[int] | None = None

    def rows(self, run: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Every position has a row."""
        start = run * self.size + (self.starts[run] if self.starts is not None else 0)
        return start + positions, torch.ones(len(positions), dtype=torch.bool)


@dataclass(eq=False)
class _Edit:
    """x[rows] or x[rows, heads] becomes factor · x + offset, along the direction only if there is one."""

    rows: list[Tensor] = field(default_factory=list)  # each [n]
    heads: list[Tensor] = field(default_factory=list)  # each [n], or none at all
    factors: list[float] = field(default_factory=list)
    offsets: list[Tensor | None] = field(default_factory=list)  # each [n, …]
    direction: Tensor | None = None
    ready: tuple[Tensor, Tensor | None, Tensor | float, Tensor | None] | None = None

    def prepare(self, value: Tensor) -> tuple[Tensor, Tensor | None, Tensor | float, Tensor | None]:
        """Rows, heads, factors and offsets as one tensor each, on the value's device."""
        if self.ready is None:
            rows = torch.cat(self.rows).to(value.device)
            heads = torch.cat(self.heads).to(value.device) if self.heads else None
            some = value.flatten(0, 1)[:1] if heads is None else value.flatten(0, 1)[:1, 0]
            factor: Tensor | float = self.factors[0]
            if len(set(self.factors)) > 1:
                each = [torch.full((len(r),), f) for r, f in zip(self.rows, self.factors, strict=True)]
                factor = torch.cat(each).to(value).reshape(-1, *[1] * (some.ndim - 1))
            offset = None
            if any(part is not None for part in self.offsets):
                offset = torch.cat([
                    some.new_zeros(len(rows_), *some.shape[1:]) if part is None else part.to(value)
                    for rows_, part in zip(self.rows, self.offsets, strict=True)
                ])  # fmt: skip
            self.ready = rows, heads, factor, offset
        return self.ready

    def apply(self, value: Tensor) -> Tensor:
        """A value [batch, pos, …] with those rows changed."""
        rows, heads, factor, offset = self.prepare(value)
        flat = value.flatten(0, 1)
        index = (rows,) if heads is None else (rows, heads)
        if self.direction is None and factor == 0.0 and isinstance(factor, float):
            new = flat.new_zeros(()) if offset is None else offset
        else:
            x = flat[index]
            new = x * factor
            new = new if offset is None else new + offset
            if self.direction is not None:
                u = self.direction.to(value)
                new = x + ((new - x) @ u).unsqueeze(-1) * u
        if flat.requires_grad or new.requires_grad:
            return flat.index_put(index, new).reshape(value.shape)
        flat = flat.clone() if flat.data_ptr() == value.data_ptr() else flat
        flat[index] = new.to(flat.dtype)
        return flat.reshape(value.shape)


class Editor(Tape):
    """The tape that answers with changed values.

    `runs` are interventions on prompts: for each run, the number of its prompt and what is changed in it. With
    `deferred`, what is done to a block's output is done to the next block's input: the same stream, one block later.
    `at` picks the sites at which this editor works. Whatever is said of scores and patterns, no query comes to see a
    key that is masked.
    """

    def __init__(
        self,
        runs: Iterable[tuple[int, Sequence[Intervention]]],
        lengths: Sequence[int],
        layout: Layout,
        *,
        base: Recording | None = None,
        model: Any = None,
        deferred: int | None = None,
        at: Callable[[Site], bool] = lambda _: True,
    ) -> None:
        self._edits: dict[Site, list[_Edit]] = {}
        self._pending: dict[Site, list[tuple[int, int, int, Intervention]]] = defaultdict(list)
        for run, (prompt, interventions) in enumerate(runs):
            ranks: dict[Site, int] = defaultdict(int)
            for intervention in sorted(interventions, key=lambda what: what.site != "resid_post"):  # it comes first
                site = slot(intervention, deferred)
                if not at(site):
                    continue
                self._pending[site].append((ranks[site], run, prompt, intervention))
                ranks[site] += 1
        self._lengths, self._layout, self._base, self._model = lengths, layout, base, model

    def hears(self, site: str, layer: int | None) -> bool:
        """Where something is to be changed."""
        return (site, layer) in self._pending

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """The value with the changes made."""
        if (site, layer) not in self._pending:
            return value
        if (site, layer) not in self._edits:
            self._edits[site, layer] = self._compile((site, layer), value)
        for edit in self._edits[site, layer]:
            changed = edit.apply(value)
            value = changed if self.masked is None else torch.where(self.masked, value, changed)
        return value

    def _compile(self, site: Site, value: Tensor) -> list[_Edit]:
        """The changes at a site: one edit for all first ones of every run, one for all second ones …"""
        edits: dict[tuple[int, bool, int], _Edit] = {}
        shape = tuple(value.shape[2:])
        for rank, run, prompt, what in self._pending[site]:
            positions = positions_of(what, self._lengths[prompt])
            rows, kept = self._layout.rows(run, positions)
            heads = _heads(what, shape)
            here = Here(prompt, len(self._lengths), positions, heads, self._base, shape, self._model)
            factor, offset = what.change(here)
            if offset is not None:
                offset = offset.broadcast_to(len(positions), *(shape if heads is None else (len(heads), *shape[1:])))
                offset = offset[kept.to(offset.device)]
            direction = None if what.direction is None else _unit(what, shape[-1])
            edit = edits.setdefault((rank, heads is not None, id(what.direction)), _Edit(direction=direction))
            if heads is not None:
                rows, heads = rows.repeat_interleave(len(heads)), heads.repeat(len(rows))
                offset = None if offset is None else offset.flatten(0, 1)
                edit.heads.append(heads)
            edit.rows.append(rows)
            edit.factors.append(factor)
            edit.offsets.append(offset)
        return [edits[key] for key in sorted(edits, key=lambda key: key[0])]


def slot(what: Intervention, deferred: int | None = None) -> Site:
    """The site at which an intervention is carried out; with `deferred`, the number of layers, see `Editor`."""
    if deferred is not None and what.site == "resid_post" and what.layer is not None and what.layer + 1 < deferred:
        return "resid_pre", what.layer + 1
    return what.site, what.layer


def positions_of(what: Intervention, length: int) -> Tensor:
    """The positions an intervention touches in a prompt of a length, from the start: [n]."""
    if what.pos is None:
        return torch.arange(length)
    if isinstance(what.pos, slice):
        return torch.arange(length)[what.pos]
    wanted = torch.as_tensor(what.pos).reshape(-1)
    if bool(((wanted < -length) | (wanted >= length)).any()):
        wrong = int(wanted[(wanted < -length) | (wanted >= length)][0])
        raise InputError(f"{what!r}: the prompt has {length} positions, numbered from 0; there is no {wrong}.")
    return torch.where(wanted < 0, wanted + length, wanted)


def _heads(what: Intervention, shape: tuple[int, ...]) -> Tensor | None:
    if what.head is None or what.site not in PER_HEAD:
        return None
    heads = torch.as_tensor(what.head).reshape(-1)
    count = shape[0]
    if bool(((heads < -count) | (heads >= count)).any()):
        raise InputError(f"{what!r}: {what.site} of layer {what.layer} has {count} heads, numbered from 0.")
    return torch.where(heads < 0, heads + count, heads)


def _unit(what: Intervention, size: int) -> Tensor:
    direction = torch.as_tensor(what.direction)
    direction = direction.float() if not direction.is_floating_point() else direction
    if direction.shape != (size,) or not bool(direction.norm() > 0):
        name, shape = type(what).__name__, list(direction.shape)
        raise InputError(
            f"The direction of {name} at {what.site!r} is a vector of {size} numbers, not all zero; got shape {shape}."
        )
    unit: Tensor = direction / direction.norm()
    return unit


class Chain(Tape):
    """Several tapes: each hears what the one before it answered."""

    def __init__(self, *tapes: Tape, route: Route | None = None) -> None:
        self.tapes, self.route = tapes, route

    def hears(self, site: str, layer: int | None) -> bool:
        """Whether any of them does."""
        return any(tape.hears(site, layer) for tape in self.tapes)

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """One after another."""
        for tape in self.tapes:
            if tape.hears(site, layer):
                tape.masked = self.masked
                value = tape.emit(site, layer, value)
        return value

    def attends(self, layer: int, call: AttentionCall) -> None:
        """All of them."""
        for tape in self.tapes:
            tape.attends(layer, call)
