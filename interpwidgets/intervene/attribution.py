"""Activation patching to first order: what every patch would do, from one backward pass.

A patch moves an activation from its corrupted to its clean value. To first order the metric then moves by
(clean − corrupted) · gradient, for all activations of all layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.cells import AxisName, check_aligned, labels_of, patch_at, places, read_axes
from interpwidgets.intervene.editor import Chain
from interpwidgets.intervene.effects import Axis, Effects
from interpwidgets.intervene.engine import Engine, Job, ids_of
from interpwidgets.intervene.metrics import BoundMetric, Metric, as_metric
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import check_numbers, forward, recorder, recording_of
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import PER_HEAD, Site
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["Approximation", "Checked", "attribution_patch", "integrated_attribution_patch"]

Floats = NDArray[np.float64]

_START: Site = ("resid_pre", 0)


@dataclass(frozen=True, eq=False)
class Checked:
    """Some cells of an approximation, with the effect of really patching them."""

    cells: tuple[tuple[Any, ...], ...]  # labels of each
    estimates: Floats  # [cell], mean over prompts
    real: Floats  # [cell]

    @property
    def correlation(self) -> float:
        """Pearson's, of estimates and real effects; NaN where either does not vary."""
        if len(self.cells) < 2 or not (np.ptp(self.estimates) > 0 and np.ptp(self.real) > 0):
            return float("nan")
        return float(np.corrcoef(self.estimates, self.real)[0, 1])

    @property
    def error(self) -> float:
        """Mean |estimate − real|."""
        return float(np.abs(self.estimates - self.real).mean())

    def __str__(self) -> str:
        return f"against {len(self.cells)} real patches: r = {self.correlation:.2f}, mean |error| = {self.error:.2g}"


@dataclass(frozen=True, eq=False, repr=False)
class Approximation(Effects):
    """Effects that were estimated, and how good the estimate is where it was checked.

    Arithmetic and selected cells are plain `Effects`, so that an estimate can be compared with a sweep.
    """

    _: KW_ONLY
    checked: Checked | None = None

    def __add__(self, other: Effects) -> Effects:  # type: ignore[override]
        return _plain(self) + _plain(other)

    def __sub__(self, other: Effects) -> Effects:  # type: ignore[override]
        return _plain(self) - _plain(other)

    def __radd__(self, other: Effects) -> Effects:
        return _plain(other) + _plain(self)

    def __rsub__(self, other: Effects) -> Effects:
        return _plain(other) - _plain(self)

    def __mul__(self, factor: float) -> Effects:  # type: ignore[override]
        return _plain(self) * factor

    __rmul__ = __mul__  # type: ignore[assignment]


def _plain(given: Effects) -> Effects:
    """Without what is known of the error."""
    plain: Effects = given[:] if isinstance(given, Approximation) else given
    return plain


def attribution_patch(
    model: Model | Any,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric | Any,
    *,
    over: str = "resid_pre",
    by: Sequence[AxisName] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    check: int = 0,
    seed: int = 0,
) -> Approximation:
    """What `patch_sweep` would find, to first order, at the price of two forward passes and one backward.

    >>> estimate = attribution_patch(model, clean, corrupted, logit_diff(" Mary", " John"), over="z", check=20)
    >>> estimate.effect                                  # [layer, head]
    >>> estimate.checked.correlation                     # with 20 cells that were patched for real

    Each cell is (clean − corrupted activation) · gradient of the metric in the corrupted run, summed over what the
    cell covers; cells and arguments are those of `patch_sweep`. It is exact where the model is linear between the
    two runs, and misses effects where a softmax or a norm is saturated: residual streams of early layers, q and k.
    `check` cells, drawn at random with `seed`, are patched for real to tell how far it can be trusted.

    Raises InputError where `patch_sweep` does, and for a metric without a gradient (`rank`, `accuracy`).

    Nanda 2023 "Attribution patching"; Syed et al. 2023 §3; where it fails: Kramár et al. 2024 "AtP*" §3.
    """
    what = "activation patching by gradients at the corrupted run"
    return _estimate(model, clean, corrupted, metric, (0.0,), what, over, by, layers, heads, positions, check, seed)


def integrated_attribution_patch(
    model: Model | Any,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric | Any,
    *,
    steps: int = 8,
    over: str = "resid_pre",
    by: Sequence[AxisName] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    check: int = 0,
    seed: int = 0,
) -> Approximation:
    """`attribution_patch` with gradients averaged on the way from the corrupted to the clean input.

    The stream that enters the first block goes from its corrupted to its clean value in a straight line; gradients
    are taken in the middle of each of `steps` equal parts. With many steps the cells of resid_pre in the first layer
    add up to all of the difference between the two runs. It costs `steps` backward passes, and a saturated softmax is
    no longer mistaken for a component that does not matter.

    Hanna, Pezzelle & Belinkov 2024 §3 (EAP-IG, inputs); Sundararajan et al. 2017 §3 (integrated gradients).
    """
    if steps < 1:
        raise InputError(f"The path has one step or more; got steps={steps!r}.")
    path = [(step + 0.5) / steps for step in range(steps)]
    what = f"activation patching by gradients at {steps} points from the corrupted to the clean input"
    return _estimate(model, clean, corrupted, metric, path, what, over, by, layers, heads, positions, check, seed)


class _Path(Tape):
    """Moves the stream at the first block towards another run's, and starts the graph where no weight needs one."""

    def __init__(self, step: Tensor | None, graph: bool) -> None:
        self._step, self._graph = step, graph

    def hears(self, site: str, layer: int | None) -> bool:
        """The embedding, and what enters the first block."""
        return (self._graph and site == "embed") or (self._step is not None and (site, layer) == _START)

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """The value that the pass goes on with."""
        if site == "embed":
            return value if value.requires_grad else value.detach().requires_grad_()
        return value if self._step is None else value + self._step.to(value)


@dataclass(eq=False)
class _Pass:
    """One forward pass: the values at the sites asked for, as emitted, and the metric [prompt]."""

    recording: Recording
    values: dict[Site, Tensor]  # [batch, pos, …]
    logits: Tensor  # [prompt, P, vocab]
    metric: Tensor
    gradients: list[Tensor] | None = None


def _pass(
    model: Model, batch: Batch, bound: BoundMetric, sites: Sequence[Site], wanted: Sequence[Site] = (),
    step: Tensor | None = None,
) -> _Pass:  # fmt: skip
    """A pass that keeps `sites`, with the gradients of the metric at those `wanted`."""
    tape = recorder(model, batch, sites, grad=True)
    keep, place = torch.unique(bound.positions, return_inverse=True)
    chain, grad = Chain(_Path(step, bool(wanted)), tape), bool(wanted)
    with torch.enable_grad() if grad else torch.no_grad():
        found = forward(model, batch, chain, logits=True, grad=grad, keep=keep.to(model.device))
        assert found is not None
        check_numbers(model, batch, tape, None)
        rows = torch.arange(len(bound.positions))
        logits = found[rows[:, None].to(found.device), place.to(found.device)]
        if bound.needs_reference and bound.reference is None:
            bound.reference = logits
        metric = bound(logits, rows)
        gradients = _gradients(metric, [tape.values[site] for site in wanted], bound.name) if grad else None
    values = {site: value.detach() for site, value in tape.values.items()}
    return _Pass(
        recording_of(model, batch, replace(tape, values=values), None), values, logits.detach(), metric.detach(),
        gradients,
    )  # fmt: skip


def _gradients(metric: Tensor, values: list[Tensor], name: str) -> list[Tensor]:
    if not metric.requires_grad:
        raise InputError(f"{name} has no gradient: take one that varies smoothly, such as logit_diff or log_prob.")
    found = torch.autograd.grad(metric.sum(), values, allow_unused=True)
    return [
        torch.zeros_like(value) if part is None else part for part, value in zip(found, values, strict=True)
    ]  # what the metric does not depend on has no effect


def _estimate(
    model: Model | Any, clean: Prompts, corrupted: Prompts, metric: Metric | Any, path: Sequence[float], what: str,
    over: str, by: Sequence[AxisName] | None, layers: Sequence[int] | None, heads: Sequence[int] | None,
    positions: Sequence[int] | None, check: int, seed: int,
) -> Approximation:  # fmt: skip
    model = as_model(model)
    source, batch = read_prompts(model, clean), read_prompts(model, corrupted)
    site, axes = read_axes(model, batch, over, by, layers, heads, positions)
    check_aligned(source, batch)
    patch_at(site, places(axes)[0], 0.0)  # what cannot be patched has no attribution either
    wanted: list[Site] = [(site, layer) for layer in labels_of(axes, "layer")] or [(site, None)]
    straight = any(path)
    sites = list(dict.fromkeys([*wanted, *([_START] if straight else [])]))

    own = as_metric(metric).bind(model, ids_of(source))
    bound = as_metric(metric).bind(model, ids_of(batch))
    goal = _pass(model, source, own, sites)
    bound.reference = goal.logits if bound.needs_reference else None
    base = _pass(model, batch, bound, sites, () if straight else wanted)
    gradients = base.gradients
    for share in path if straight else ():
        step = share * _difference(goal.values[_START], base.values[_START], batch)
        some = _pass(model, batch, bound, wanted, wanted, step).gradients
        assert some is not None
        gradients = some if gradients is None else [a + b for a, b in zip(gradients, some, strict=True)]
    assert gradients is not None

    moved = [
        _by_cell(_difference(goal.values[key], base.values[key], batch) * gradient / len(path), site)
        for key, gradient in zip(wanted, gradients, strict=True)
    ]  # each [pos, head or 1, prompt]
    estimates = _on_axes(np.stack(moved), axes)
    values = base.metric.double().cpu().numpy()
    effects = Approximation(
        values=estimates + values, axes=axes, metric=bound.name, clean=goal.metric.double().cpu().numpy(),
        corrupted=values, how=f"{site} of {model.name} taken from the clean prompts: {what}", seed=seed,
    )  # fmt: skip
    if not check:
        return effects
    checked = _check(Engine(model, batch, bound), goal.recording, site, effects, check)
    return replace(effects, checked=checked, how=f"{effects.how}, {checked}")


def _difference(clean: Tensor, corrupted: Tensor, batch: Batch) -> Tensor:
    """clean − corrupted in single precision or better, 0 in padding and where both are −∞ (masked scores)."""
    wide = torch.promote_types(corrupted.dtype, torch.float32)
    difference = clean.to(wide) - corrupted.to(wide)
    real = torch.arange(corrupted.shape[1]) < torch.tensor(batch.lengths)[:, None]  # [batch, pos]
    real = real.reshape(*real.shape, *[1] * (corrupted.ndim - 2)).to(difference.device)
    return difference.where(real & difference.isfinite(), 0)


def _by_cell(moved: Tensor, site: str) -> Floats:
    """[batch, pos, …] summed over what no axis tells apart: [pos, head or 1, prompt]."""
    if site not in PER_HEAD:
        moved = moved[:, :, None]
    found: Floats = moved.flatten(3).sum(-1, dtype=torch.float64).permute(1, 2, 0).cpu().numpy()
    return found


def _on_axes(moved: Floats, axes: Sequence[Axis]) -> Floats:
    """[layer, pos, head, prompt] as [*axes, prompt]."""
    numbers = {"layer": 0, "pos": 1, "head": 2}
    for name, number in numbers.items():
        if name != "layer" and (labels := labels_of(axes, name)):
            moved = moved.take(labels, axis=number)
    order = [numbers[axis.name] for axis in axes]
    rest = tuple(number for number in numbers.values() if number not in order)
    return np.asarray(moved.transpose(*order, *rest, 3).sum(axis=tuple(range(len(order), 3))))


def _check(engine: Engine, clean: Recording, site: str, effects: Approximation, count: int) -> Checked:
    """Patch a few random cells for real."""
    every = places(effects.axes)
    drawn = np.sort(np.random.default_rng(effects.seed).permutation(len(every))[:count])
    prompts = range(effects.n)
    jobs = [Job(prompt, (patch_at(site, every[i], clean),)) for i in drawn for prompt in prompts]
    values = np.full(len(jobs), np.nan)
    for numbers, some in engine.values(jobs):
        values[numbers] = some
    real = (values.reshape(len(drawn), -1) - effects.corrupted).mean(-1)
    cells = tuple(tuple(every[i].values()) for i in drawn)
    return Checked(cells, effects.effect.ravel()[drawn], real)
