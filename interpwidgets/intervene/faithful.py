"""What a circuit is worth: the model with everything outside of it ablated, and with the circuit itself ablated."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from interpwidgets.circuit import Circuit
from interpwidgets.errors import InputError
from interpwidgets.intervene.cells import check_aligned
from interpwidgets.intervene.effects import Effect
from interpwidgets.intervene.engine import Job
from interpwidgets.intervene.interventions import Ablate, Intervention, Patch
from interpwidgets.intervene.metrics import Metric, as_metric
from interpwidgets.intervene.running import engine_on
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import record
from interpwidgets.models.tape import lacks
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["CircuitTest", "Faithfulness", "faithfulness"]

How = Literal["mean", "zero", "resample", "patch"]
Over = Literal["nodes", "edges"]
Floats = NDArray[np.float64]
Part = tuple[str, int, int]  # site, layer, head; −1 for an MLP
Kept = dict[Part, frozenset[int] | None]  # at which positions; None for all

_HOW = {
    "mean": "their mean over the reference prompts",
    "zero": "zero",
    "resample": "their values on another of the reference prompts",
    "patch": "their values on the paired prompts",
}


@dataclass(frozen=True, eq=False)
class CircuitTest:
    """How a circuit is to be tested; arguments as for `faithfulness`."""

    model: Model | Any
    prompts: Prompts
    metric: Metric | Any
    reference: Prompts | None = None
    ablate: How = "mean"
    over: Over = "nodes"
    draws: int = 20
    seed: int = 0

    def __call__(self, circuit: Circuit) -> Faithfulness:
        """Test a circuit."""
        more: dict[str, Any] = {name: getattr(self, name) for name in ("reference", "ablate", "over", "draws", "seed")}
        return faithfulness(self.model, self.prompts, circuit, self.metric, **more)


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness:
    """What the circuit does alone, and what the model does without it.

    - kept: the metric with everything outside the circuit ablated, from `corrupted`, where all is, to `clean`, the
      whole model. `kept.recovered` is 1 for a circuit that does all of it.
    - removed: the metric with the circuit ablated, from the whole model to where all is ablated. `removed.recovered`
      is 1 for a complete one: nothing outside of it can do the task.

    The controls of both are random circuits of as many heads and MLPs.
    """

    kept: Effect
    removed: Effect
    size: int  # heads and MLPs in the circuit, or edges
    of: int  # in the model
    what: Over = "nodes"

    def to_json(self) -> dict[str, Any]:
        """For a page: plain numbers, None where there is none."""
        return {
            "what": self.what, "metric": self.kept.metric, "how": self.kept.how, "size": self.size, "of": self.of,
            "n": self.kept.n, "kept": _facts(self.kept), "removed": _facts(self.removed),
        }  # fmt: skip

    def __repr__(self) -> str:
        assert self.kept.clean is not None
        whole, none = self.kept.clean.mean(), self.kept.corrupted.mean()
        parts = "heads and MLPs" if self.what == "nodes" else "edges"
        return "\n".join([
            f"Faithfulness of {self.size} of {self.of} {parts}, by {self.kept.metric}: {self.kept.how}",
            f"  the whole model {whole:.3g}, all ablated {none:.3g}",
            f"  the circuit alone {_line(self.kept)}",
            f"  the model without it {_line(self.removed)}",
        ])  # fmt: skip


def _facts(effect: Effect) -> dict[str, Any]:
    low, high = effect.interval()
    base, control = float(effect.corrupted.mean()), effect.control
    assert effect.clean is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no gap: said by None
        recovered = effect.recovered
    numbers = {
        "base": base, "value": effect.value, "low": base + low, "high": base + high, "goal": float(effect.clean.mean()),
        "recovered": recovered, "exceeds": effect.exceeds_control,
    }  # fmt: skip
    found: dict[str, Any] = {name: None if np.isnan(number) else number for name, number in numbers.items()}
    return {**found, "control": [] if control is None else control.tolist()}


def _line(effect: Effect) -> str:
    facts = _facts(effect)
    share = "no gap to recover" if facts["recovered"] is None else f"{100 * facts['recovered']:.0f} % of the way"
    bounds = "one prompt: no interval" if facts["low"] is None else f"95 % {facts['low']:.3g}…{facts['high']:.3g}"
    control = facts["control"]
    random = f"; {len(control)} random ones of this size {np.mean(control):.3g}" if control else ""
    return f"{effect.value:.3g} ({bounds} over {effect.n} prompts, {share}{random})"


def faithfulness(
    model: Model | Any,
    prompts: Prompts,
    circuit: Circuit,
    metric: Metric | Any,
    *,
    reference: Prompts | None = None,
    ablate: How = "mean",
    over: Over = "nodes",
    draws: int = 20,
    seed: int = 0,
) -> Faithfulness:
    """Ablate everything outside a circuit, and then the circuit itself: does it do the task, and does nothing else?

    >>> faithfulness(model, prompts, circuit, logit_diff(" Mary", " John"), reference=others)
    >>> circuit.faithfulness()                 # of one that remembers its test, as `edge_attribution` leaves it

    Ablated are heads (z) and MLPs (mlp_out) that are no node, or, where the nodes of one have positions, at all other
    positions; the embedding stays. In their place: `ablate="mean"` over `reference` (the prompts themselves if None; by
    position where all have one length), "zero", "resample" from another prompt of it, or "patch" from the paired one.
    With `over="edges"` a node reads from its edges alone: every other term of its input is that of the paired prompt,
    the embedding too. This is exact, and takes `ablate="patch"`. The control does the same to `draws` random circuits
    of as many heads and MLPs, or edges.

    Wang et al. 2022 §4 (faithfulness, and completeness where K is all of C); as a share of the way from all ablated to
    the whole model: Marks et al. 2024 §3; by edges: Conmy et al. 2023 (ACDC) §2.

    Raises InputError for nodes other than heads, MLPs, embedding and logits, parts that the model does not have, and
    positions where prompts differ in length.
    """
    if ablate not in _HOW or over not in ("nodes", "edges"):
        raise InputError(
            f"A test has ablate= one of {', '.join(map(repr, _HOW))} and over='nodes' or 'edges'; got {ablate!r}, "
            f"{over!r}."
        )
    if over == "edges" and ablate != "patch":
        raise InputError(f"Edges are ablated to paired prompts: ablate='patch', reference=…; got {ablate!r}.")
    model, metric = as_model(model), as_metric(metric)
    if over == "edges":
        from interpwidgets.intervene.wiring import edge_runs

        found = edge_runs(model, prompts, circuit, metric, reference, draws, seed)
    else:
        found = _node_runs(model, prompts, circuit, metric, reference, ablate, draws, seed)
    how = ("the edges {} carry " if over == "edges" else "the heads and MLPs {} become ") + _HOW[ablate]
    common: dict[str, Any] = {"metric": found.metric, "seed": seed}
    return Faithfulness(
        kept=Effect(values=found.kept[0], corrupted=found.empty, clean=found.whole, control=_means(found.kept[1:]),
                    how=how.format("outside the circuit"), **common),
        removed=Effect(values=found.removed[0], corrupted=found.whole, clean=found.empty,
                       control=_means(found.removed[1:]), how=how.format("of the circuit"), **common),
        size=found.size, of=found.of, what=over,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Runs:
    """The metric [prompt] of the whole model, of nothing, and with each circuit kept and removed; random ones after."""

    metric: str
    whole: Floats
    empty: Floats
    kept: list[Floats]
    removed: list[Floats]
    size: int
    of: int


def _means(values: Sequence[Floats]) -> Floats | None:
    return np.array([value.mean() for value in values]) if len(values) else None


def pair(model: Model, prompts: Prompts, reference: Prompts | None) -> tuple[Batch, Batch]:
    """The prompts and those that they are paired with, token by token."""
    if reference is None:
        raise InputError("ablate='patch' takes values of paired prompts: give them as reference=….")
    batch, other = read_prompts(model, prompts), read_prompts(model, reference)
    check_aligned(batch, other)
    return batch, other


def _node_runs(
    model: Model, prompts: Prompts, circuit: Circuit, metric: Metric, reference: Prompts | None, ablate: How,
    draws: int, seed: int,
) -> Runs:  # fmt: skip
    batch = read_prompts(model, prompts)
    other = pair(model, prompts, reference)[1] if ablate == "patch" else batch
    if ablate != "patch" and reference is not None:
        other = read_prompts(model, reference)
    parts = _parts(model)
    kept = _kept(circuit, parts, batch)
    rec = None if ablate == "zero" else record(model, other.inputs, sites=sorted({part[0] for part in parts}))
    aligned = len({*batch.lengths, *other.lengths}) == 1

    def instead(part: Part, pos: list[int] | None) -> Intervention:
        site, layer, head = part
        where: dict[str, Any] = {"layer": layer, "pos": pos, **({} if head < 0 else {"head": head})}
        if ablate == "patch":
            return Patch(site, value=rec, **where)
        return Ablate(site, kind=ablate, reference=rec, per_pos=aligned and ablate == "mean", seed=seed, **where)

    def ablated(away: Kept) -> tuple[Intervention, ...]:
        return tuple(instead(part, at if at is None else sorted(at)) for part, at in away.items())

    drawn = _random(kept, parts, draws, np.random.default_rng(seed))
    circuits = [kept, *drawn]
    groups = [ablated(_rest(some, parts, batch)) for some in ({}, *circuits)] + [ablated(some) for some in circuits]
    engine, _ = engine_on(model, batch, metric, None)
    jobs = [Job(prompt, group) for group in groups for prompt in range(len(batch.tokens))]
    values = np.full(len(jobs), np.nan)
    for numbers, some in engine.values(jobs):
        values[numbers] = some
    table = values.reshape(len(groups), len(batch.tokens))
    middle = 1 + len(circuits)
    return Runs(
        engine.metric.name,
        engine.base_values,
        table[0],
        list(table[1:middle]),
        list(table[middle:]),
        len(kept),
        len(parts),
    )


def _parts(model: Model) -> list[Part]:
    """Every head and MLP."""
    found: list[Part] = []
    for layer, block in enumerate(model.anatomy.parts):
        if block.attention is not None:
            if why := lacks(block, "z"):
                raise InputError(f"The heads of layer {layer} of {model.name} cannot be told apart: {why}")
            found += [("z", layer, head) for head in range(block.heads or 0)]
        if lacks(block, "mlp_out") is None:
            found.append(("mlp_out", layer, -1))
    return found


def _kept(circuit: Circuit, parts: Sequence[Part], batch: Batch) -> Kept:
    """Heads and MLPs of a circuit, with their positions."""
    found: Kept = {}
    for node in circuit.nodes:
        if node.kind in ("embed", "logits"):
            continue
        if node.kind not in ("head", "mlp") or node.layer is None:
            raise InputError(f"Heads and MLPs can be ablated; this circuit has {node.id!r}, of kind {node.kind!r}.")
        part = ("z", node.layer, node.number or 0) if node.kind == "head" else ("mlp_out", node.layer, -1)
        if part not in parts:
            raise InputError(f"The circuit has {node.id!r}, and the model has no such part.")
        if node.pos is not None and len(set(batch.lengths)) > 1:
            raise InputError(
                f"{node.id!r} has a position: the prompts need one length; got {sorted(set(batch.lengths))}."
            )
        if node.pos is not None and node.pos >= batch.lengths[0]:
            raise InputError(f"{node.id!r} is at position {node.pos}; the prompts have {batch.lengths[0]} tokens.")
        before = found.get(part, frozenset())
        found[part] = None if node.pos is None or before is None else before | {node.pos}
    return found


def _rest(kept: Kept, parts: Sequence[Part], batch: Batch) -> Kept:
    """What is not kept, with its positions."""
    found: Kept = {}
    for part in parts:
        at = kept.get(part, frozenset())
        if part not in kept:
            found[part] = None
        elif at is not None:
            found[part] = frozenset(range(batch.lengths[0])) - at
    return found


def _random(kept: Kept, parts: Sequence[Part], draws: int, rng: np.random.Generator) -> list[Kept]:
    """Circuits of as many heads and MLPs, drawn from all; none where there is but one such circuit."""
    kinds = [[part for part in parts if (part[2] < 0) == mlp] for mlp in (False, True)]
    chosen = [[part for part in some if part in kept] for some in kinds]
    if all(len(some) in (0, len(every)) for some, every in zip(chosen, kinds, strict=True)):
        return []
    found: list[Kept] = []
    while len(found) < draws:
        drawn: Kept = {}
        for some, every in zip(chosen, kinds, strict=True):
            places = rng.permutation(len(every))[: len(some)]
            drawn.update({every[place]: kept[part] for place, part in zip(places, some, strict=True)})
        if drawn != kept:
            found.append(drawn)
    return found
