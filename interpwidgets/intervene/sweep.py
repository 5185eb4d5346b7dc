"""One intervention at many places: which layer, head or position matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from interpwidgets.intervene.cache import cache_path, save
from interpwidgets.intervene.cells import (
    AxisName,
    check_aligned,
    first_difference,
    labels_of,
    patch_at,
    places,
    read_axes,
)
from interpwidgets.intervene.editor import Chain, Editor, Plain
from interpwidgets.intervene.effects import Axis, Effects, Rerun
from interpwidgets.intervene.engine import Engine, Job, ids_of, run_tape
from interpwidgets.intervene.gathering import Into, gather
from interpwidgets.intervene.interventions import Ablate, Intervention, Steer
from interpwidgets.intervene.metrics import Metric, as_metric
from interpwidgets.intervene.outcomes import Outcome, compared
from interpwidgets.intervene.running import engine_on, placed
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import check_numbers, recorder, recording_of
from interpwidgets.models.recording import Recording
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["ablate_sweep", "patch_sweep", "steer", "sweep"]

Floats = NDArray[np.float64]
Cell = Callable[[int, dict[str, Any]], tuple[Intervention, ...]]  # what a prompt and a place stand for


def patch_sweep(
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
    always: Sequence[Intervention] = (),
    seed: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
    into: Into | None = None,
) -> Effects:
    """Run the corrupted prompts with one activation at a time taken from the clean ones: activation patching.

    >>> effects = patch_sweep(model, clean, corrupted, logit_diff(" Mary", " John"), over="resid_pre")
    >>> effects.recovered                                  # [layer, pos], 1 where the clean behaviour is restored

    `by` says what a cell is: ("layer", "pos") for the residual stream and what is written to it, ("layer", "head")
    for sites that have heads; ("layer", "head", "pos"), ("layer",) and so on are possible. Prompts come in pairs of
    the same number of tokens where positions are patched one by one. `always` are interventions that belong to every
    run, the corrupted one included. Nothing is computed that a patch leaves as it was, and the numbers are those of
    whole passes. An interrupt (Ctrl-C) keeps what is done; with a folder as `cache`, the same call goes on from there.
    `into` is called with what is done so far, a few times a second, and with all of it at the end: `into=view.show`.
    The effects remember how to run a cell again (`live`), which a view asks for when one is clicked.

    Vig et al. 2020 "Causal mediation analysis"; Meng et al. 2022 §2; Wang et al. 2022; good practice: Zhang & Nanda
    2024, Heimersheim & Nanda 2024. This is denoising; exchange the prompts for noising.
    """
    model = as_model(model)
    source, batch = read_prompts(model, clean), read_prompts(model, corrupted)
    site, axes = read_axes(model, batch, over, by, layers, heads, positions)
    check_aligned(source, batch)
    apart = [first_difference(a, b) for a, b in zip(ids_of(source), ids_of(batch), strict=True)]

    def prepare() -> tuple[Engine, Cell, Floats | None]:
        tape = recorder(model, source, [site], layers=labels_of(axes, "layer") or None)
        engine, clean_values = engine_on(model, batch, as_metric(metric), source, tape=tape, always=always)
        check_numbers(model, source, tape, None)
        rec = recording_of(model, source, tape, None)

        def cell(prompt: int, place: dict[str, Any]) -> tuple[Intervention, ...]:
            pos = place.get("pos")
            if engine.causal and not always and pos is not None and pos < apart[prompt]:
                return ()  # both runs are the same there
            return (patch_at(site, place, rec),)

        return engine, cell, clean_values

    engine, cell, clean_values = prepare()
    how = f"{site} of {model.name} taken from the clean prompts, one {' × '.join(a.name for a in axes)} at a time"
    live = Rerun(_again(prepare, always), tuple(batch.tokens), tuple(source.tokens))
    return sweep(engine, axes, cell, how=how, clean=clean_values, seed=seed, progress=progress, cache=cache,
                 key=(ids_of(source), tuple(always)), into=into, live=live)  # fmt: skip


def ablate_sweep(
    model: Model | Any,
    prompts: Prompts,
    metric: Metric | Any,
    *,
    over: str = "z",
    kind: Literal["mean", "zero", "resample"] = "mean",
    reference: Recording | None = None,
    per_pos: bool = False,
    by: Sequence[AxisName] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
    into: Into | None = None,
) -> Effects:
    """Run the prompts with one component at a time removed: what does the model need?

    `kind` is what stands in its place: its mean over `reference` (a Recording; the prompts themselves if None), zero,
    or its value on another prompt (see `Ablate`). The rest is as in `patch_sweep`.

    Mean ablation: Wang et al. 2022 §2; resampling: Chan et al. 2022. A component whose removal changes nothing may
    still matter where others make up for it (McGrath et al. 2023 "The Hydra effect").
    """
    model = as_model(model)
    batch = read_prompts(model, prompts)
    site, axes = read_axes(model, batch, over, by, layers, heads, positions)

    def what(place: dict[str, int]) -> Ablate:
        return Ablate(
            site, place.get("layer"), head=place.get("head"), pos=place.get("pos"), kind=kind, reference=reference,
            per_pos=per_pos, seed=seed,
        )  # fmt: skip

    def prepare() -> tuple[Engine, Cell, Floats | None]:
        needs = [what({"layer": layer}) for layer in labels_of(axes, "layer")]
        engine, _ = engine_on(model, batch, as_metric(metric), None, needs=needs)
        return engine, lambda _, place: (what(place),), None

    engine, cell, _ = prepare()
    how = f"{site} of {model.name} replaced by {kind}, one {' × '.join(axis.name for axis in axes)} at a time"
    return sweep(engine, axes, cell, how=how, seed=seed, progress=progress, cache=cache,
                 key=(kind, per_pos, seed, reference), into=into,
                 live=Rerun(_again(prepare, ()), tuple(batch.tokens)))  # fmt: skip


def steer(
    model: Model | Any,
    prompts: Prompts,
    metric: Metric | Any,
    *,
    vector: Any,
    layer: int,
    site: str = "resid_pre",
    coefficients: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
    pos: int | slice | Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = True,
    into: Into | None = None,
) -> Effects:
    """Add a vector in several doses and measure what becomes of it: Effects by "coefficient".

    >>> steer(model, prompts, logit_diff(" good", " bad"), vector=difference_of_means, layer=6)

    An effect that does not grow with the dose, or one that a random vector of the same length has too, is no sign
    that the direction means what it was taken for. Turner et al. 2023 "Activation addition"; Rimsky et al. 2024 §4.
    Raises InputError if the vector does not fit the site.
    """
    model = as_model(model)
    batch = read_prompts(model, prompts)
    (template,) = placed(model, [Steer(site, layer, vector=vector, pos=pos)])
    engine, _ = engine_on(model, batch, as_metric(metric), None)

    def cell(_: int, place: dict[str, Any]) -> tuple[Intervention, ...]:
        return (replace(template, coefficient=place["coefficient"]),) if place["coefficient"] else ()  # type: ignore[call-arg]

    axes = [Axis("coefficient", tuple(float(dose) for dose in coefficients))]
    how = f"coefficient × a vector added to {template.where} of {model.name}"
    return sweep(engine, axes, cell, how=how, seed=seed, progress=progress, into=into)


def sweep(
    engine: Engine,
    axes: Sequence[Axis],
    cell: Cell,
    *,
    how: str,
    clean: Floats | None = None,
    seed: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
    key: Any = None,
    into: Into | None = None,
    live: Rerun | None = None,
) -> Effects:
    """What `cell(prompt, place)` says to change, at every place that the axes span, on every prompt of an engine."""
    count = len(engine.batch.tokens)
    jobs = [Job(prompt, cell(prompt, place)) for place in places(axes) for prompt in range(count)]
    values = np.full(len(jobs), np.nan)
    path = (
        None
        if cache is None
        else cache_path(Path(cache), engine, [(axis.name, axis.labels) for axis in axes], how, key)
    )
    if path is not None and path.is_file():
        values = np.load(path, allow_pickle=False)
    left = np.flatnonzero(np.isnan(values))

    def so_far() -> Effects:
        return Effects(
            values=values.reshape(*(len(axis) for axis in axes), count), axes=tuple(axes), metric=engine.metric.name,
            clean=clean, corrupted=engine.base_values, how=how, seed=seed, live=live,
        )  # fmt: skip

    found = ((left[numbers], some) for numbers, some in engine.values([jobs[i] for i in left]))
    keep = None if path is None else partial(save, path, values)
    return gather(values, found, so_far, name=how.partition(",")[0], progress=progress, into=into, keep=keep)


def _again(
    prepare: Callable[[], tuple[Engine, Cell, Floats | None]], always: Sequence[Intervention]
) -> Callable[[Any, int], Outcome]:
    """What runs one cell: the recordings that it takes are made again when it is first asked, not kept until then."""
    ready = once(prepare)

    def run(place: Any, prompt: int) -> Outcome:
        engine, cell, _ = ready()
        chosen = cell(prompt, dict(place))
        positions = engine.metric.positions[[prompt]]
        one = Batch([engine.batch.tokens[prompt]], {name: rows[[prompt]] for name, rows in engine.batch.inputs.items()})
        lengths = engine.batch.lengths
        editor = Editor(
            [(prompt, (*always, *chosen))], lengths, Plain(max(lengths)), base=engine.base_recording, model=engine.model
        )
        after = run_tape(engine.model, one, Chain(editor), positions)[0, -1]
        how = "; ".join(map(repr, chosen)) or "nothing: up to there both prompts are the same"
        return compared(engine.model, engine.logits[prompt, -1], after, how=how, position=int(positions[0, -1]))

    return run
