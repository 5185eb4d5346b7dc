"""Who tells whom what matters: edge attribution patching, every edge of a model from one backward pass.

The residual stream is a sum, so what a component reads is the embedding and what every earlier head and MLP wrote. An
edge is one of these terms in what one input of one component reads. To give it its clean value moves that input by
(clean − corrupted) of the sender, and the metric, to first order, by that times the gradient at this input alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from interpwidgets.circuit import Circuit, CircuitEdge, CircuitNode
from interpwidgets.errors import InputError
from interpwidgets.intervene.attribution import _difference as difference
from interpwidgets.intervene.attribution import _Path as Shifted
from interpwidgets.intervene.cells import check_aligned
from interpwidgets.intervene.editor import Chain
from interpwidgets.intervene.engine import ids_of
from interpwidgets.intervene.faithful import CircuitTest
from interpwidgets.intervene.interventions import Patch
from interpwidgets.intervene.metrics import BoundMetric, Metric, as_metric
from interpwidgets.intervene.paths import _Paths as Paths
from interpwidgets.intervene.residual import Link, Reader, Residual
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import check_numbers, forward, recorder
from interpwidgets.models.sites import Site
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts
from interpwidgets.stats import interval

__all__ = ["edge_attribution", "edge_sweep"]

Floats = NDArray[np.float64]

_INTERVALS = 500  # edges whose interval is computed: the strongest
_SITE = {"embed": "resid_pre", "head": "z", "mlp": "mlp_out"}  # where a sender's values are taken


def edge_attribution(
    model: Model | Any, clean: Prompts, corrupted: Prompts, metric: Metric | Any, *, steps: int = 0
) -> Circuit:
    """How much of a metric goes by each edge between embedding, heads' q, k and v, MLPs and logits.

    >>> circuit = edge_attribution(model, clean, corrupted, logit_diff(" Mary", " John"))
    >>> circuit.top(50).pruned()

    An edge's effect is what `path_patch` would find if the model were linear: what the metric of the corrupted run
    gains where one receiver hears of one sender as on the clean prompts. A node's effect is the sum of its edges out,
    which is its `attribution_patch`. Intervals are bootstraps over prompts, of the 500 strongest edges. With `steps`
    the gradients are averaged at so many points on the way of the embedding from corrupted to clean (EAP-IG), which
    tells an edge into a saturated softmax from one that does not matter, if not how much it matters. None of these
    edges was patched for real (`edge_sweep` does); `circuit.faithfulness()` tests what is left of them.

    Cost: two forward passes and a backward one for each step, and a short one for each head and MLP.

    Syed, Rager & Conmy 2023 §3 (arXiv:2310.10348); Hanna, Pezzelle & Belinkov 2024 §3 (EAP-IG).

    Raises InputError for pairs that do not align token by token, a metric without a gradient, and blocks whose heads
    and MLPs do not simply add to the stream.
    """
    model = as_model(model)
    if steps < 0:
        raise InputError(f"steps is 0 (gradients at the corrupted run) or more; got {steps!r}.")
    source, batch = read_prompts(model, clean), read_prompts(model, corrupted)
    check_aligned(source, batch)
    graph = Residual(model)
    own, bound = as_metric(metric).bind(model, ids_of(source)), as_metric(metric).bind(model, ids_of(batch))
    goal, base = _Pass(graph, source, own), _Pass(graph, batch, bound)
    graph.check(base.values)
    bound.reference = goal.logits.detach() if bound.needs_reference else None
    told = {
        name: difference(graph.written(goal.values, name), graph.written(base.values, name), batch)
        for name in graph.senders
    }
    shares = [(at + 0.5) / steps for at in range(steps)]
    scores: dict[Link, Floats] = {}
    for run in (_Pass(graph, batch, bound, share * told["embed"]) for share in shares) if steps else (base,):
        for reader in graph.readers:
            gradient = run.gradient(reader)  # [batch, pos, d_model]
            for name in graph.before(reader):
                moved = (told[name] * gradient).flatten(1).sum(-1, dtype=torch.float64)  # [prompt]
                key = name, reader.node, reader.via
                scores[key] = scores.get(key, 0.0) + moved.cpu().numpy() / max(steps, 1)
    how = f"edge attribution on {len(batch.tokens)} pairs of prompts, {model.name}"
    how += f", gradients at {steps} points from corrupted to clean" if steps else ""
    test = CircuitTest(model, clean, metric, reference=corrupted, ablate="patch")
    return _circuit(scores, bound.name, how, test)


def edge_sweep(
    model: Model | Any, clean: Prompts, corrupted: Prompts, metric: Metric | Any, *, progress: bool = True
) -> Circuit:
    """What `edge_attribution` estimates, measured: `path_patch` of every edge, one at a time.

    >>> edge_sweep(load("ioi-known"), clean, corrupted, metric).above(1).pruned()

    Heads hear by q, k and v each. It takes a run for each edge and prompt: seconds for a model of three layers, hours
    for GPT-2, where one estimates first and patches the edges that matter. The circuit remembers the test that
    `edge_attribution` leaves; its nodes have no effects of their own. Models whose heads share keys are refused.

    Wang et al. 2022 §3.1; Goldowsky-Dill et al. 2023 §3.
    """
    model = as_model(model)
    graph = Residual(model)
    if shared := [layer for layer, part in enumerate(graph.parts) if part.heads != part.kv_heads]:
        raise InputError(f"Heads of layer {shared[0]} share keys and values: edges into one of them are not its own.")
    edges: list[CircuitEdge] = []
    metrics: dict[str, None] = {}
    for reader in tqdm(graph.readers, desc="receivers", delay=1.0, disable=not progress):
        before = [graph.senders[name] for name in graph.before(reader)]
        paths = Paths(model, clean, corrupted, metric, [graph.place(reader)], ("z", "mlp_out"))
        metrics[paths.engine.metric.name] = None
        for site in ("resid_pre", "z", "mlp_out"):
            some = [node for node in before if _SITE[node.kind] == site]
            places = [Patch(site, node.layer or 0, head=node.head) for node in some]
            values = paths.values(places) - paths.engine.base_values if places else ()
            low, high = interval(values) if places else ((), ())
            edges += [
                CircuitEdge(node.id, reader.node, float(value.mean()), reader.via, _or_none(a), _or_none(b))
                for node, value, a, b in zip(some, values, low, high, strict=True)
            ]
    test = CircuitTest(model, clean, metric, reference=corrupted, ablate="patch")
    return Circuit(edges=edges, metric=", ".join(metrics), how=f"path patching of every edge, {model.name}", test=test)


def _circuit(scores: Mapping[Link, Floats], metric: str, how: str, test: CircuitTest) -> Circuit:
    keys, values = list(scores), np.stack(list(scores.values()))  # [edge, prompt]
    sent: dict[str, Floats] = {}
    for (sender, _, _), value in zip(keys, values, strict=True):
        sent[sender] = sent.get(sender, 0.0) + value
    strongest = np.argsort(-np.abs(values.mean(-1)), kind="stable")[:_INTERVALS]
    bounds = np.full((len(keys), 2), np.nan)
    bounds[strongest] = np.stack(interval(values[strongest]), axis=-1)
    edges = [
        CircuitEdge(sender, receiver, float(value.mean()), via, _or_none(low), _or_none(high))
        for (sender, receiver, via), value, (low, high) in zip(keys, values, bounds, strict=True)
    ]
    sides = np.stack(interval(np.stack(list(sent.values()))), axis=-1)
    nodes = [
        replace(CircuitNode.of(name), effect=float(value.mean()), low=_or_none(low), high=_or_none(high))
        for (name, value), (low, high) in zip(sent.items(), sides, strict=True)
    ]
    return Circuit(nodes, edges, metric=metric, how=how, test=test)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class _Pass:
    """One pass with autograd's graph, and the gradients of the metric at what each component reads."""

    def __init__(self, graph: Residual, batch: Batch, bound: BoundMetric, step: Tensor | None = None) -> None:
        self._graph, self._bound, model = graph, bound, graph.model
        tape = recorder(model, batch, graph.sites, grad=True)
        keep, place = torch.unique(bound.positions, return_inverse=True)
        with torch.enable_grad():
            found = forward(model, batch, Chain(Shifted(step, graph=True), tape), logits=True, grad=True,
                            keep=keep.to(model.device))  # fmt: skip
            assert found is not None
            check_numbers(model, batch, tape, None)
            rows = torch.arange(len(bound.positions))[:, None].to(found.device)
            self.logits = found[rows, place.to(found.device)]  # where the metric looks: [prompt, P, vocab]
        self.values = tape.values

    @cached_property
    def _gradients(self) -> dict[Site, Tensor | None]:
        """Of the metric, at what the components emit."""
        with torch.enable_grad():
            metric = self._bound(self.logits, torch.arange(len(self._bound.positions)))
        if not metric.requires_grad:
            raise InputError(
                f"{self._bound.name} has no gradient: take one that varies smoothly, such as logit_diff or log_prob."
            )
        wanted = [site for site in self.values if site[0] in ("q", "k", "v", "z", "mlp_out", "resid_post")]
        found = torch.autograd.grad(
            metric.sum(), [self.values[site] for site in wanted], retain_graph=True, allow_unused=True
        )
        return dict(zip(wanted, found, strict=True))

    def gradient(self, reader: Reader) -> Tensor:
        """At what one reader reads, through it alone: [batch, pos, d_model]."""
        if reader.node == "logits":
            stream, gradient = self.values[self._graph.end], self._gradients[self._graph.end]
            return torch.zeros_like(stream) if gradient is None else gradient
        layer, head = reader.layer, reader.head
        stream = self.values["resid_pre", layer] if head is not None else self.values[self._graph.read(layer)]
        if head is None:
            return _through(self.values["mlp_out", layer], stream, self._gradients["mlp_out", layer])
        value, gradient = self.values[reader.via, layer], self._gradients[reader.via, layer]
        z = self.values["z", layer]
        if value.shape[2] == z.shape[2]:
            return _through(value, stream, _only(gradient, head))
        shared = _through(z, value, _only(self._gradients["z", layer], head))  # keys of several heads: of this one
        return _through(value, stream, shared)


def _through(value: Tensor, read: Tensor, gradient: Tensor | None) -> Tensor:
    """The gradient at what was read to compute a value, from the gradient at the value."""
    if gradient is None:  # what the metric does not depend on has no effect
        return torch.zeros_like(read)
    (found,) = torch.autograd.grad(value, read, gradient, retain_graph=True, allow_unused=True)
    return torch.zeros_like(read) if found is None else found


def _only(gradient: Tensor | None, head: int) -> Tensor | None:
    """[batch, pos, head, d_head] with all other heads at 0."""
    if gradient is None:
        return None
    one = torch.zeros_like(gradient)
    one[:, :, head] = gradient[:, :, head]
    return one
