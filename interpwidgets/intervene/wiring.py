"""A model of which only some edges carry what they say: every component reads its own sum of the stream.

The stream is a sum. What a component reads is therefore the stream of the paired prompt, plus for each of its edges
what the sender says now minus what it says there. Components are computed one layer after another, each from its own
stream; no approximation is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.circuit import Circuit
from interpwidgets.errors import InputError
from interpwidgets.intervene.engine import record_with
from interpwidgets.intervene.faithful import Runs, pair
from interpwidgets.intervene.interventions import Patch
from interpwidgets.intervene.metrics import Metric
from interpwidgets.intervene.residual import Link, Reader, Residual
from interpwidgets.intervene.running import run
from interpwidgets.models.model import Model
from interpwidgets.models.record import record
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import Site
from interpwidgets.models.tokenize import Prompts

__all__ = ["edge_runs"]

Floats = NDArray[np.float64]


def edge_runs(
    model: Model, prompts: Prompts, circuit: Circuit, metric: Metric, reference: Prompts | None, draws: int, seed: int,
) -> Runs:  # fmt: skip
    """The metric with the edges of a circuit alone, and with all others alone; with random edges as a control."""
    wires = _Wires(model, prompts, metric, reference)
    every = wires.graph.links
    chosen = _links(circuit, every)
    rng = np.random.default_rng(seed)
    drawn = [[every[at] for at in rng.permutation(len(every))[: len(chosen)]] for _ in range(draws)]
    drawn = [] if len(chosen) in (0, len(every)) else drawn
    kept = [wires.values(some) for some in (chosen, *drawn)]
    removed = [wires.values(set(every) - set(some)) for some in (chosen, *drawn)]
    whole = run(model, prompts, metric=metric)
    return Runs(whole.metric, whole.values, wires.values(()), kept, removed, len(chosen), len(every))


def _links(circuit: Circuit, every: Collection[Link]) -> list[Link]:
    """The circuit's edges; one that does not say by which input arrives by all."""
    known, found = set(every), []
    for edge in circuit.edges:
        head = circuit.node(edge.target).kind == "head"
        for via in ("q", "k", "v") if head and not edge.via else (edge.via,):
            link = edge.source, edge.target, via
            if link not in known:
                raise InputError(f"{edge.source} → {edge.target} is no edge of this model's heads and MLPs.")
            found.append(link)
    return list(dict.fromkeys(found))


class _Wires:
    def __init__(self, model: Model, prompts: Prompts, metric: Metric, reference: Prompts | None) -> None:
        self.graph, self._metric = Residual(model), metric
        self._batch, self._other = pair(model, prompts, reference)
        self._there = record(model, self._other.inputs, sites=list(self.graph.sites)).values  # type: ignore[arg-type]
        self.graph.check(self._there)
        start = record(model, self._batch.inputs, sites=["resid_pre"], layers=[0]).values
        self._embed = start["resid_pre", 0] - self._there["resid_pre", 0]

    def values(self, links: Iterable[Link]) -> Floats:
        """The metric [prompt] where those edges carry what their senders say, and all others what they say there."""
        edges: dict[tuple[str, str], list[str]] = {}
        for sender, receiver, via in links:
            edges.setdefault((receiver, via), []).append(sender)
        said = {"embed": self._embed}  # by sender: what it says more than there, [batch, pos, d_model]
        for layer, part in enumerate(self.graph.parts):
            readers = [reader for reader in self.graph.readers if reader.layer == layer]
            heads = [reader for reader in readers if reader.head is not None]
            alone = part.kv_heads != part.heads  # heads that share keys have streams of their own all the same
            for group in (
                [[one for one in heads if one.head == n] for n in range(part.heads or 0)] if alone else [heads]
            ):
                self._attend(layer, group, edges, said)
            for reader in readers:
                if reader.head is None and (senders := edges.get((reader.node, ""))):
                    self._say([reader.node], [self._reads(self.graph.read(layer), senders, said)], said)
        end = self._reads(self.graph.end, edges.get(("logits", ""), []), said)
        return run(self.graph.model, self._batch.inputs, [end], metric=self._metric).values

    def _attend(self, layer: int, readers: list[Reader], edges: dict[tuple[str, str], list[str]], said: Any) -> None:
        """Compute some heads of a layer, each from its own queries, keys and values."""
        model, told = self.graph.model, []
        streams: dict[tuple[str, ...], Recording] = {}
        heard = {reader.node for reader in readers if edges.get((reader.node, reader.via))}
        for reader in readers:
            if not (senders := edges.get((reader.node, reader.via))):
                continue
            key = tuple(sorted(senders))
            if key not in streams:
                patch = self._reads(("resid_pre", layer), senders, said)
                streams[key] = record_with(model, self._other, ["q", "k", "v"], [patch], layers=[layer])
            value = streams[key].emitted(reader.via, layer)
            head = (reader.head or 0) * value.shape[2] // (self.graph.parts[layer].heads or 1)
            told.append(Patch(reader.via, layer, head=head, value=value))
        self._say(sorted(heard), told, said)

    def _reads(self, site: Site, senders: Iterable[str], said: dict[str, Tensor]) -> Patch:
        """The stream that one reader reads."""
        stream = self._there[site]
        for sender in senders:
            if sender in said:  # else it says what it says there
                stream = stream + said[sender]
        return Patch(*site, value=stream)

    def _say(self, names: list[str], told: list[Patch], said: dict[str, Tensor]) -> None:
        """What components of one layer say, told what to read."""
        if not names:
            return
        layer, site = self.graph.senders[names[0]].layer or 0, "mlp_out" if names[0].endswith("mlp") else "z"
        values = {**self._there, **record_with(self.graph.model, self._other, [site], told, layers=[layer]).values}
        for name in names:
            said[name] = self.graph.written(values, name) - self.graph.written(self._there, name)
