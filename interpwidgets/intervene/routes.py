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
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from interpwidgets.errors import InputError
from interpwidgets.models.attention import AttentionCall, stepwise
from interpwidgets.models.mask import Mask
from interpwidgets.models.recorder import Recorder
from interpwidgets.models.tape import Tape

__all__ = ["Base", "Packed", "Resumed", "Run"]


@dataclass(eq=False)
class Base(Tape):
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
    maskless = False

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

    def skips(self, layer: int) -> bool:
        """Every block is run."""
        return False

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """Keep what a block is entered with."""
        self.streams[layer] = stream
        return stream, options

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """Nothing to do."""
        return after

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """The model's own attention; never asked for, since `maskless` is False."""
        return call.compute(ear)


@dataclass(frozen=True)
class Run:
    """A run with interventions, by where it leaves the base run."""

    prompt: int
    layer: int  # whose block it enters first; −1: it goes through the embedding
    first: int  # position
    last: int  # position, the last that anybody asks for


class Resumed:
    """Starts plain batches of runs, a prompt a row, at the first layer that any of them changes."""

    maskless = False

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

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """Nothing to do."""
        return after

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """The model's own attention; never asked for, since `maskless` is False."""
        return call.compute(ear)


class Packed:
    """Runs as one sequence of only the rows that can have changed. A layout too, see `Layout`."""

    maskless = True

    def __init__(self, base: Base, runs: Sequence[Run], n_layers: int) -> None:
        assert all(a.layer <= b.layer for a, b in pairwise(runs)), "runs join in the order of layers"
        self._base, self._runs = base, runs
        counts = [run.last + 1 - run.first for run in runs]
        self._starts = [0]
        for count in counts:
            self._starts.append(self._starts[-1] + count)
        self.size = self._starts[-1]
        self.positions = torch.cat([torch.arange(run.first, run.last + 1) for run in runs])  # [row]
        self.prompts = torch.tensor([run.prompt for run in runs]).repeat_interleave(torch.tensor(counts))  # [row]
        self._active = [
            self._starts[sum(run.layer <= layer for run in runs)] for layer in range(-1, n_layers)
        ]  # rows from the embedding on, then by layer
        groups: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
        for run, start in zip(runs, self._starts, strict=False):
            groups[run.prompt, run.first, run.last].append((run.layer, start))
        self._groups = groups
        self._indices: dict[tuple[tuple[int, int, int], int], Tensor] = {}
        self._sights: dict[tuple[int, tuple[int, int, int]], Tensor | None] = {}

    def rows(self, run: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions before and after those computed have no row."""
        of = self._runs[run]
        kept = (positions >= of.first) & (positions <= of.last)
        return self._starts[run] - of.first + positions[kept], kept

    def skips(self, layer: int) -> bool:
        """Blocks before the first run joins."""
        return self._active[layer + 1] == 0

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """The rows of the runs that have joined; those that join here come from the recording."""
        before, now = self._active[layer], self._active[layer + 1]
        rows = stream[:, :before] if layer or before else stream[:, :0]
        if now > before:
            new = slice(before, now)
            recorded = self._base.streams[layer]
            where = self.prompts[new].to(recorded.device), self.positions[new].to(recorded.device)
            rows = torch.cat([rows, recorded[where][None].to(rows)], dim=1)
        return rows, options if now == self.size else _cut(options, self.size, now)

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """All rows again, those that wait as they were."""
        return after if after.shape[1] == self.size else torch.cat([after, before[:, after.shape[1] :]], dim=1)

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """Attention of every run's rows to the recorded keys before them, and to one another."""
        q, k, v = call.q[0], call.k[0], call.v[0]  # [head, row, d_head]
        z = q.new_empty(q.shape[1], q.shape[0], v.shape[-1])  # [row, head, d_head]
        longest = 1 + max(run.last for run in self._runs)
        for group, joined in self._groups.items():
            index = self._index(group, sum(at <= layer for at, _ in joined)).to(q.device)
            if not len(index):
                continue
            prompt, first, _ = group
            queries = q[:, index].transpose(0, 1)  # [run, head, row, d_head]
            keys, values = (
                _after(recorded[layer][prompt, :, :first], part[:, index].transpose(0, 1))
                for recorded, part in ((self._base.keys, k), (self._base.values, v))
            )
            seen = self._sight(layer, group, queries)
            bias = _bias(self._base.biases[layer], group)
            if ear is None and call.plain and bias is None:
                gqa = q.shape[0] != k.shape[0]
                mixed = sdpa(queries, keys, values, attn_mask=seen, scale=call.scaling, enable_gqa=gqa).transpose(1, 2)
            else:
                mixed = stepwise(
                    queries, keys, values, allowed=seen, bias=bias, scaling=call.scaling, softcap=call.softcap,
                    sinks=call.sinks, ear=None if ear is None else _Within(ear, index, q.shape[1], longest),
                )  # fmt: skip
            z[index.flatten()] = mixed.flatten(0, 1)
        return z[None]

    def _index(self, group: tuple[int, int, int], count: int) -> Tensor:
        """The rows of the first `count` runs of a group: [run, row]."""
        key = group, count
        if key not in self._indices:
            starts = torch.tensor([start for _, start in self._groups[group][:count]], dtype=torch.long)
            self._indices[key] = starts[:, None] + torch.arange(group[2] + 1 - group[1])
        return self._indices[key]

    def _sight(self, layer: int, group: tuple[int, int, int], like: Tensor) -> Tensor | None:
        """Which keys those rows see, [1, 1 or head, row, key]; None if they see all."""
        mask, (prompt, first, last) = self._base.masks[layer], group
        key = id(mask), group
        if key not in self._sights:
            seen = None
            if mask.causal and last > first:
                seen = torch.ones(last + 1 - first, last + 1, dtype=torch.bool, device=like.device).tril_(first)[
                    None, None
                ]
            if mask.allowed is not None:
                sheet = mask.allowed[prompt % mask.allowed.shape[0], :, first : last + 1, : last + 1][None].to(
                    like.device
                )
                seen = sheet if seen is None else sheet & seen
            self._sights[key] = seen
        return self._sights[key]


class _Within:
    """An ear for some of the rows: shows those who listen a value of all rows, and takes theirs out of it."""

    def __init__(self, ear: Any, index: Tensor, rows: int, keys: int) -> None:
        self._ear, self._index, self._rows, self._keys = ear, index, rows, keys

    def __call__(self, site: str, value: Tensor) -> Tensor:
        runs, rows, heads, keys = value.shape
        whole = value.new_zeros(1, self._rows, heads, self._keys)
        whole[0, self._index.flatten(), :, :keys] = value.flatten(0, 1)
        heard = self._ear(site, whole)
        changed: Tensor = heard[0, self._index.flatten(), :, :keys].unflatten(0, (runs, rows))
        return changed


def _after(recorded: Tensor, own: Tensor) -> Tensor:
    """Keys or values of a prefix [head, pos, d], then those of each run [run, head, row, d]."""
    if not recorded.shape[1]:
        return own
    return torch.cat([recorded.to(own).expand(len(own), -1, -1, -1), own], dim=2)


def _bias(bias: Tensor | None, group: tuple[int, int, int]) -> Tensor | None:
    """Of what is added to the scores, the part for some rows."""
    if bias is None:
        return None
    prompt, first, last = group
    return bias[prompt % bias.shape[0], :, first : last + 1, : last + 1][None]


def _cut(options: Any, size: int, count: int) -> Any:
    """The first `count` rows of whatever has `size` of them among a block's arguments."""
    if isinstance(options, Tensor):
        dims = [1, -2, -1, 0] if options.ndim > 1 else [0]
        for dim in dims:
            if -options.ndim <= dim < options.ndim and options.shape[dim] == size:
                return options.narrow(dim, 0, count)
        return options
    if isinstance(options, dict):
        return {name: _cut(value, size, count) for name, value in options.items()}
    if isinstance(options, (tuple, list)):
        return type(options)(_cut(value, size, count) for value in options)
    return options
