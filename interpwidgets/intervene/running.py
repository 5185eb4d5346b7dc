"""Run a model with interventions: to see what it does, or to measure what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.intervene.control import random_heads
from interpwidgets.intervene.effects import Effect
from interpwidgets.intervene.engine import Engine, Job, measure, record_with
from interpwidgets.intervene.interventions import Intervention
from interpwidgets.intervene.metrics import Metric, as_metric
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import check_site, layer_number, recorder
from interpwidgets.models.recording import Recording
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["placed", "run"]

Control = Literal["random_heads"]


@overload
def run(
    model: Model | Any,
    prompts: Prompts,
    interventions: Intervention | Sequence[Intervention] = ...,
    *,
    metric: Metric | Any,
    clean: Prompts | None = ...,
    control: Control | None = ...,
    draws: int = ...,
    seed: int = ...,
) -> Effect: ...
@overload
def run(
    model: Model | Any,
    prompts: Prompts,
    interventions: Intervention | Sequence[Intervention] = ...,
    *,
    sites: Sequence[str] = ...,
    layers: Sequence[int] | None = ...,
) -> Recording: ...
def run(
    model: Model | Any,
    prompts: Prompts,
    interventions: Intervention | Sequence[Intervention] = (),
    *,
    metric: Metric | Any = None,
    clean: Prompts | None = None,
    control: Control | None = None,
    draws: int = 20,
    seed: int = 0,
    sites: Sequence[str] = ("logits",),
    layers: Sequence[int] | None = None,
) -> Effect | Recording:
    """Run the model on prompts with interventions.

    >>> run(model, corrupted, [Patch("resid_pre", layer=5, pos=-1, value=rec)], metric=logit_diff(" Mary", " John"))

    With a metric: an Effect, which compares with the same prompts run as they are; `clean` adds the run that would be
    full recovery. `control="random_heads"` does the same to as many random other heads, `draws` times, and the Effect
    tells how often less came of it. Without a metric: a Recording of `sites`, taken after the interventions.

    Raises InputError for sites, layers, heads or positions that are not there, and for values that do not fit.
    """
    model = as_model(model)
    chosen = placed(model, [interventions] if isinstance(interventions, Intervention) else interventions)
    batch = read_prompts(model, prompts)
    if metric is None:
        if control is not None or clean is not None:
            raise InputError("`control` and `clean` belong to a metric; give one: metric=logit_diff(…).")
        recorder(model, batch, sites, layers=layers)  # says early what is not there
        base = _base(model, batch, chosen)
        return record_with(model, batch, sites, chosen, base=base, layers=layers)
    if control not in (None, "random_heads"):
        raise InputError(f"There is a control 'random_heads'; got {control!r}.")
    count = len(batch.tokens)
    groups = [chosen, *(random_heads(model, chosen, draws, seed) if control else ())]
    needs = [what for group in groups for what in group]
    engine, clean_values = engine_on(model, batch, as_metric(metric), clean, needs=needs)
    jobs = [Job(prompt, group) for group in groups for prompt in range(count)]
    values = np.full(len(jobs), np.nan)
    for numbers, some in engine.values(jobs):
        values[numbers] = some
    table = values.reshape(len(groups), count)
    return Effect(
        values=table[0], metric=engine.metric.name, clean=clean_values, corrupted=engine.base_values,
        how="; ".join(map(repr, chosen)) or "nothing was changed", seed=seed,
        control=table[1:].mean(-1) if control else None,
    )  # fmt: skip


def engine_on(
    model: Model,
    batch: Batch,
    metric: Metric,
    clean: Prompts | Batch | None,
    *,
    tape: Tape | None = None,
    **options: Any,
) -> tuple[Engine, np.ndarray[Any, np.dtype[np.float64]] | None]:
    """An engine on a batch, and the metric of the clean prompts, which metrics that compare refer to.

    The pass of the clean prompts goes onto the tape, if one is given.
    """
    if clean is None:
        return Engine(model, batch, metric, **options), None
    other = clean if isinstance(clean, Batch) else read_prompts(model, clean)
    if len(other.tokens) != len(batch.tokens):
        raise InputError(
            f"There are {len(other.tokens)} clean prompts and {len(batch.tokens)} corrupted; they are pairs."
        )
    values, logits = measure(model, other, metric, Tape() if tape is None else tape)
    return Engine(model, batch, metric, reference=logits, **options), values


def placed(model: Model, interventions: Sequence[Intervention]) -> tuple[Intervention, ...]:
    """Interventions with layers that count from 0, after checking that the model has their sites."""
    found = []
    for given in interventions:
        if not isinstance(given, Intervention):
            raise InputError(f"Interventions are Patch, Ablate, Steer, Scale or Freeze; got {given!r:.80}.")
        what = given if given.layer is None else replace(given, layer=layer_number(model, given.layer))
        check_site(model, what.site, what.layer)
        found.append(what)
    return tuple(found)


def _base(model: Model, batch: Batch, interventions: Sequence[Intervention]) -> Recording | None:
    """The run as it is, at the sites whose values an intervention refers to."""
    own = {(what.site, what.layer) for what in interventions if what.refers_to_base}
    return record_with(model, batch, own, ()) if own else None
