"""Ways through a model that leave out what an intervention cannot have changed.

An intervention in layer l at position p changes nothing before layer l and, in a causal model, nothing before
position p. So the base run is recorded once, and a run with an intervention starts at layer l from the recorded
residual stream, with the rows from p on. `Packed` puts such rows of many runs into one sequence: norms, MLPs and
projections are the model's own and see only rows; attention spreads them over the recorded keys and values. Runs join
the sequence at their layer, so that every block is computed once for all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from interpwidgets.errors import InputError
from interpwidgets.models.attention import AttentionCall, stepwise
from interpwidgets.models.mask import Mask
from interpwidgets.models.recorder import Recorder
from interpwidgets.models.tape import Tape

__all__ = ["Base", "Packed", "Resumed", "Rows", "Run"]


class _Through:
    """A route on which every block is run as it is."""

    maskless = False
    tokens: Tensor | None = None

    def skips(self, layer: int) -> bool:
        """No block."""
        return False

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """As it is."""
        return stream, options

    def narrows(self, layer: int) -> bool:
        """No block."""
        return False

    def keep(self, call: AttentionCall) -> None:
        """Never asked for, as nothing narrows."""

    def narrow(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """Never asked for, as nothing narrows."""
        return stream, options

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """As it is."""
        return after

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """The model's own attention; never asked for, as `maskless` is False."""
        return call.compute(ear)


@dataclass(eq=False)
class Base(_Through, Tape):
    """The run that is intervened on, as far as later runs start from it. A route too: it hears what enters a block."""

    lengths: Sequence[int]
    streams: dict[int, Tensor] = field(default_factory=dict)  # by layer, [batch, pos, d_model], before any change to it
    keys: dict[int, Tensor] = field(default_factory=dict)  # by layer, [batch, kv_head, pos, d_head]
    values: dict[int, Tensor] = field(default_factory=dict)
    masks: dict[int, Mask] = field(default_factory=dict)
    biases: dict[int, Tensor | None] = field(
        default_factory=dict
    )  # added to the scores, [1 or batch, head, query, key]
    describable = True  # whether every mask has a short description

    def __post_init__(self) -> None:
        self._describe = Recorder(frozenset(), lengths=self.lengths).describe

    @property
    def causal(self) -> bool:
        """Whether no position sees a later one, as far as attention tells."""
        return self.describable and bool(self.masks) and all(mask.causal for mask in self.masks.values())

    def attends(self, layer: int, call: AttentionCall) -> None:
        """Keep keys, values and the mask in short."""
        self.keys[layer], self.values[layer] = call.k, call.v
        self.biases[layer] = call.bias
        try:
            self.masks[layer] = self._describe(call)
        except InputError:
            self.describable = False

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """Keep what a block is entered with."""
        self.streams[layer] = stream
        return stream, options


Group = tuple[int, int, int]  # prompt, first and last position of runs that see the same keys


class Rows:
    """Some positions of each run, one run after another: a `Layout`."""

    def __init__(self, positions: Sequence[Tensor]) -> None:
        self.positions = positions
        self.starts = [0, *accumulate(map(len, positions))]

    def rows(self, run: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the positions that are here."""
        here = self.positions[run]
        place = torch.searchsorted(here, positions).clamp(max=max(len(here) - 1, 0))
        kept = here[place] == positions if len(here) else torch.zeros(len(positions), dtype=torch.bool)
        return self.starts[run] + place[kept], kept


@dataclass(frozen=True)
class Run:
    """A run with interventions, by where it leaves the base run."""

    prompt: int
    layer: int  # whose block it enters first; −1: it goes through the embedding
    first: int  # position
    last: int  # position, the last that anybody asks for


class Resumed(_Through):
    """Starts plain batches of runs, a prompt a row, at the first layer that any of them changes."""

    def __init__(self, base: Base, runs: Sequence[Run]) -> None:
        self._base, self._prompts = base, torch.tensor([run.prompt for run in runs])
        self._start = min(run.layer for run in runs)

    def skips(self, layer: int) -> bool:
        """Blocks before the first change."""
        return layer < self._start

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """At the first change, the recorded stream."""
        if layer == self._start:
            recorded = self._base.streams[layer]
            stream = recorded[self._prompts.to(recorded.device)].to(stream)
        return stream, options


class Packed:
    """Runs as one sequence of only the rows that can have changed. A layout too, see `Layout`.

    Of the last block, only the rows that are asked for are computed to the end; `asked` is their layout.
    """

    maskless = True

    def __init__(
        self,
        base: Base,
        runs: Sequence[Run],
        asked: Tensor,
        n_layers: int,
        *,
        narrow: bool = True,
        tokens: Tensor | None = None,
    ) -> None:
        assert all(a.layer <= b.layer for a, b in pairwise(runs)), "runs join in the order of layers"
        self.tokens = tokens
        self._base, self._runs, self._last = base, runs, n_layers - 1 if narrow else None
        every = [torch.arange(run.first, run.last + 1) for run in runs]
        self.all = Rows(every)
        self.asked = Rows([torch.unique(at[at >= run.first]) for at, run in zip(asked, runs, strict=True)])
        self.positions = torch.cat(every)  # [row]
        self.prompts = torch.tensor([run.prompt for run in runs]).repeat_interleave(torch.tensor([*map(len, every)]))
        self.size = len(self.positions)
        # Rows that have joined: by the embedding, by layer 0, 1 …
        self._active = [self.all.starts[sum(run.layer <= layer for run in runs)] for layer in range(-1, n_layers)]
        self._groups: dict[Group, list[int]] = defaultdict(list)  # numbers of runs, in the order of layers
        for number, run in enumerate(runs):
            self._groups[run.prompt, run.first, run.last].append(number)
        self._indices: dict[tuple[int, Group, int], Tensor] = {}
        self._sights: dict[tuple[int, Group, bool], Tensor | None] = {}
        self._kept: AttentionCall | None = None

    def narrowed(self, site: str, layer: int | None) -> bool:
        """Whether a site is emitted for the rows asked for only."""
        return layer is not None and layer == self._last and site not in ("resid_pre", "k", "v")

    def skips(self, layer: int) -> bool:
        """Blocks before the first run joins."""
        return self._active[layer + 1] == 0

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """The rows of the runs that have joined; those that join here come from the recording."""
        before, now = self._active[layer], self._active[layer + 1]
        rows = stream[:, :before]
        if now > before:
            new = slice(before, now)
            recorded = self._base.streams[layer]
            where = self.prompts[new].to(recorded.device), self.positions[new].to(recorded.device)
            rows = torch.cat([rows, recorded[where][None].to(rows)], dim=1)
        return rows, options if now == self.size else _cut(options, self.size, torch.arange(now))

    def narrows(self, layer: int) -> bool:
        """The last block."""
        return layer == self._last

    def keep(self, call: AttentionCall) -> None:
        """Keys and values of all rows, for those asked for."""
        self._kept = call

    def narrow(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """The rows asked for."""
        rows = self._asked_rows.to(stream.device)
        return stream[:, rows], _cut(options, self.size, self._asked_rows)

    @cached_property
    def _asked_rows(self) -> Tensor:
        """Which of all rows are asked for: [row]."""
        return torch.cat([self.all.rows(run, at)[0] for run, at in enumerate(self.asked.positions)])

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """All rows again, those that wait as they were."""
        if self.narrows(layer):
            return before.new_zeros(1, self.size, after.shape[-1]).index_copy_(
                1, self._asked_rows.to(after.device), after
            )
        return after if after.shape[1] == self.size else torch.cat([after, before[:, after.shape[1] :]], dim=1)

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """Attention of every run's rows to the recorded keys before them, and to one another."""
        if "indices" in call.options:
            raise InputError("Which keys a query sees depends on what a run computes: it takes whole prompts.")
        few = self.narrows(layer)
        given = self._kept if few and self._kept is not None else call
        q, k, v = call.q[0], given.k[0], given.v[0]  # [head, row, d_head]
        z = q.new_empty(q.shape[1], q.shape[0], v.shape[-1])  # [row, head, d_head]
        longest = max(self._base.lengths)  # as many keys as in a plain batch
        for group, numbers in self._groups.items():
            joined = sum(self._runs[number].layer <= layer for number in numbers)
            index = self._index(self.all, group, joined).to(q.device)
            own = self._index(self.asked, group, joined).to(q.device) if few else index
            if not own.numel():
                continue
            prompt, first, _ = group
            queries = _of(q, own)
            keys, values = (
                _after(recorded[layer][prompt, :, :first], _of(part, index))
                for recorded, part in ((self._base.keys, k), (self._base.values, v))
            )
            seen = self._sight(layer, group, few, queries)
            bias = self._base.biases[layer]
            bias = (
                None if bias is None else bias[prompt % len(bias), :, self._queries(group, few), : keys.shape[2]][None]
            )
            if ear is None and call.plain and bias is None:
                gqa = q.shape[0] != k.shape[0]
                mixed = sdpa(queries, keys, values, attn_mask=seen, scale=call.scaling, enable_gqa=gqa).transpose(1, 2)
            else:
                mixed = stepwise(
                    queries, keys, values, allowed=seen, bias=bias, scaling=call.scaling, softcap=call.softcap,
                    sinks=call.sinks, ear=None if ear is None else _Within(ear, own, q.shape[1], longest),
                )  # fmt: skip
            z[own.flatten()] = mixed.flatten(0, 1)
        return z[None]

    def _index(self, rows: Rows, group: Group, count: int) -> Tensor:
        """The rows of the first `count` runs of a group: [run, row]."""
        key = id(rows), group, count
        if key not in self._indices:
            numbers = self._groups[group][:count]
            width = len(rows.positions[numbers[0]]) if numbers else 0
            starts = torch.tensor([rows.starts[number] for number in numbers], dtype=torch.long)
            self._indices[key] = starts[:, None] + torch.arange(width)
        return self._indices[key]

    def _queries(self, group: Group, few: bool) -> Tensor:
        """The positions of a group's queries."""
        return (self.asked if few else self.all).positions[self._groups[group][0]]

    def _sight(self, layer: int, group: Group, few: bool, like: Tensor) -> Tensor | None:
        """Which keys those queries see, [1, 1 or head, query, key]; None if they see all."""
        mask, (prompt, _, last) = self._base.masks[layer], group
        key = id(mask), group, few
        if key not in self._sights:
            queries, seen = self._queries(group, few), None
            if mask.causal and int(queries[0]) < last:
                seen = (torch.arange(last + 1) <= queries[:, None])[None, None].to(like.device)
            if mask.allowed is not None:
                sheet = mask.allowed[prompt % len(mask.allowed), :, queries.to(mask.allowed.device), : last + 1]
                seen = sheet[None].to(like.device) if seen is None else sheet[None].to(like.device) & seen
            self._sights[key] = seen
        return self._sights[key]


class _Within:
    """An ear for some of the rows: shows those who listen a value of all rows, and takes theirs out of it."""

    def __init__(self, ear: Any, index: Tensor, rows: int, keys: int) -> None:
        self._ear, self._index, self._rows, self._keys = ear, index, rows, keys

    def __call__(self, site: str, value: Tensor, masked: Tensor) -> Tensor:
        runs, rows, heads, keys = value.shape
        whole = value.new_zeros(1, self._rows, heads, self._keys)
        out = masked.new_ones(whole.shape)
        for all_, some in ((whole, value), (out, masked)):
            all_[0, self._index.flatten(), :, :keys] = some.flatten(0, 1)
        heard = self._ear(site, whole, out)
        changed: Tensor = heard[0, self._index.flatten(), :, :keys].unflatten(0, (runs, rows))
        return changed


def _of(heads: Tensor, rows: Tensor) -> Tensor:
    """Of [head, row, d], the rows of each run: [run, head, row, d]. Those of one run follow one another."""
    if len(rows) == 1:
        return heads[None, :, int(rows[0, 0]) : int(rows[0, -1]) + 1]
    return heads[:, rows].transpose(0, 1)


def _after(recorded: Tensor, own: Tensor) -> Tensor:
    """Keys or values of a prefix [head, pos, d], then those of each run [run, head, row, d]."""
    if not recorded.shape[1]:
        return own
    return torch.cat([recorded.to(own).expand(len(own), -1, -1, -1), own], dim=2)


def _cut(options: Any, size: int, rows: Tensor) -> Any:
    """Some rows of whatever has `size` of them among a block's arguments."""
    if isinstance(options, Tensor):
        dims = [1, -2, -1, 0] if options.ndim > 1 else [0]
        for dim in dims:
            if -options.ndim <= dim < options.ndim and options.shape[dim] == size:
                return options.index_select(dim, rows.to(options.device))
        return options
    if isinstance(options, dict):
        return {name: _cut(value, size, rows) for name, value in options.items()}
    if isinstance(options, (tuple, list)):
        return type(options)(_cut(value, size, rows) for value in options)
    return options
