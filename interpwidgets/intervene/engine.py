"""Runs many interventions on the same prompts, without computing anything twice that they leave as it was.

The shortest way that is exact is found for each model by trying it: packed rows from the changed layer on, else whole
prompts from the changed layer on, else whole passes. See `routes`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.intervene.editor import Chain, Editor, Layout, Plain, positions_of, slot
from interpwidgets.intervene.interventions import Intervention, Scale
from interpwidgets.intervene.metrics import BoundMetric, Metric
from interpwidgets.intervene.routes import Base, Packed, Resumed, Run
from interpwidgets.models.model import Model
from interpwidgets.models.record import check_rows, forward, recorder, recording_of
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import BY_KEY, Site
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch, read_prompts

__all__ = ["Engine", "Job", "Way", "ids_of", "measure", "record_with", "run_tape", "way_of"]

Way = Literal["packed", "resumed", "whole"]
Values = tuple[list[int], NDArray[np.float64]]  # numbers of jobs, and the metric of each

_ROWS = 1024  # positions computed at a time
_LOGITS = 1 << 28  # bytes of logits at a time
_ways: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Job:
    """One run: interventions on one of the prompts."""

    prompt: int
    interventions: tuple[Intervention, ...]


class Engine:
    """A base run, and what a metric becomes when something in it is changed.

    `always` are interventions that belong to the base run, and to every run that starts from it.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        metric: Metric | BoundMetric,
        *,
        always: Sequence[Intervention] = (),
        needs: Sequence[Intervention] = (),
        reference: Tensor | None = None,
        way: Way | None = None,
    ) -> None:
        self.model, self.batch = model, batch
        self.metric = metric if isinstance(metric, BoundMetric) else metric.bind(model, ids_of(batch))
        self._always = tuple(always)
        self._way = way
        self.base_recording = self._record_needs(needs)
        self._base = Base(batch.lengths)
        editor = self._editor([Job(i, ()) for i in range(len(batch.tokens))], Plain(max(batch.lengths)))
        logits = run_tape(model, batch, Chain(editor, self._base, route=self._base), self.metric.positions)
        check_rows(model, batch, self._base.streams[0])
        self._logits = logits  # [prompt, P, vocab]
        if self.metric.needs_reference and self.metric.reference is None:
            self.metric.reference = logits if reference is None else reference
        every = torch.arange(len(batch.tokens))
        self.base_values: NDArray[np.float64] = _numbers(self.metric(logits, every))  # [prompt]

    @property
    def logits(self) -> Tensor:
        """The base run's, where the metric looks: [prompt, P, vocab]."""
        return self._logits

    @property
    def causal(self) -> bool:
        """Whether no position sees a later one."""
        return self._base.causal

    def values(self, jobs: Sequence[Job]) -> Iterator[Values]:
        """The metric of each job, as they are done: numbers of jobs, and their values."""
        way = self._way or way_of(self.model)
        runs = [self._run(job) for job in jobs]
        still = [i for i, run in enumerate(runs) if run is None]
        if still:
            yield still, self.base_values[[jobs[i].prompt for i in still]]
        order = sorted((i for i, run in enumerate(runs) if run is not None), key=lambda i: _join_order(runs[i]))
        size = max(self.batch.lengths)
        rows = [0 if run is None else run.last + 1 - run.first if way == "packed" else size for run in runs]
        for chunk in self._chunks(order, rows):
            yield from self._with_memory([(i, jobs[i], runs[i]) for i in chunk], way)

    def _with_memory(self, chunk: Sequence[Any], way: Way) -> Iterator[Values]:
        """A chunk at once; in halves if it does not fit into memory."""
        try:
            yield [i for i, _, _ in chunk], self._chunk(chunk, way)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_memory(error) or len(chunk) == 1:
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            warnings.warn(f"{len(chunk)} interventions at once do not fit into memory; trying half.", stacklevel=2)
            for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                yield from self._with_memory(half, way)

    def _chunks(self, order: Sequence[int], rows: Sequence[int]) -> Iterator[list[int]]:
        most = max(1, _LOGITS // (4 * self._logits.shape[1] * self._logits.shape[2]))
        chunk: list[int] = []
        total = 0
        for i in order:
            if chunk and (total + rows[i] > _ROWS or len(chunk) == most):
                yield chunk
                chunk, total = [], 0
            chunk.append(i)
            total += rows[i]
        if chunk:
            yield chunk

    def _chunk(self, chunk: Sequence[tuple[int, Job, Run]], way: Way) -> NDArray[np.float64]:
        jobs, runs = [job for _, job, _ in chunk], [run for _, _, run in chunk]
        prompts = torch.tensor([job.prompt for job in jobs])
        positions = self.metric.positions[prompts]  # [run, P]
        if way == "packed":
            logits = self._packed(jobs, runs, positions)
        else:
            batch = Batch(
                [self.batch.tokens[job.prompt] for job in jobs],
                {name: rows[prompts.to(rows.device)] for name, rows in self.batch.inputs.items()},
            )
            route = Resumed(self._base, runs) if way == "resumed" and min(run.layer for run in runs) >= 0 else None
            editor = self._editor(jobs, Plain(max(self.batch.lengths)))
            logits = run_tape(self.model, batch, Chain(editor, route=route), positions)
        return _numbers(self.metric(logits, prompts))

    def _packed(self, jobs: Sequence[Job], runs: Sequence[Run], positions: Tensor) -> Tensor:
        last = self.model.n_layers - 1
        every = [what for job in jobs for what in (*self._always, *job.interventions)]
        narrow = not any(what.site == "ln1_scale" and what.layer == last for what in every)  # keys need it of all rows
        tokens = self.metric.tokens_read
        packed = Packed(self._base, runs, positions, self.model.n_layers, narrow=narrow, tokens=tokens)
        where = packed.prompts.to(self.model.device), packed.positions.to(self.model.device)
        inputs = {name: rows[where][None] for name, rows in self.batch.inputs.items() if name != "attention_mask"}
        inputs["position_ids"] = where[1][None]
        asked = [packed.all.rows(number, positions[number]) for number in range(len(runs))]
        rows = torch.cat([rows for rows, _ in asked])
        kept = torch.stack([kept for _, kept in asked])  # [run, P]
        starts = [run.layer for run in runs]
        tape = Chain(
            self._editor(jobs, packed.all, lambda site: not packed.narrowed(*site), starts),
            self._editor(jobs, packed.asked, lambda site: packed.narrowed(*site), starts),
            route=packed,
        )
        found = forward(self.model, Batch([], inputs), tape, logits=True, keep=rows.to(self.model.device))
        assert found is not None
        if bool(kept.all()):
            return found[0].reshape(*positions.shape, -1)
        logits = self._logits[torch.tensor([job.prompt for job in jobs])].clone()  # positions before the first change
        logits[kept.to(logits.device)] = found[0].to(logits)
        return logits

    def _editor(
        self,
        jobs: Sequence[Job],
        layout: Layout,
        at: Callable[[Site], bool] = lambda _: True,
        starts: Sequence[int] | None = None,
    ) -> Editor:
        """What changes the runs; those that start at a block find what was always done before it in the recording."""
        if starts is None:
            starts = [-1] * len(jobs)
        depth = self.model.n_layers
        return Editor(
            [
                (job.prompt, (*(what for what in self._always if _layer(what, depth) >= start), *job.interventions))
                for job, start in zip(jobs, starts, strict=True)
            ],
            self.batch.lengths,
            layout,
            base=self.base_recording,
            model=self.model,
            deferred=self.model.n_layers,
            at=at,
        )

    def _record_needs(self, interventions: Sequence[Intervention]) -> Recording | None:
        """A recording of the base run at the sites whose values in it an intervention will ask for."""
        sites = {(what.site, what.layer) for what in (*self._always, *interventions) if what.refers_to_base}
        if not sites:
            return None
        always = [what for what in self._always if not what.refers_to_base]
        return record_with(self.model, self.batch, sites, always)

    def _run(self, job: Job) -> Run | None:
        """Where a job leaves the base run, and until where it is followed; None if nobody can see it."""
        length = self.batch.lengths[job.prompt]
        asked = self.metric.positions[job.prompt]
        first, layer = length, self.model.n_layers
        for what in job.interventions:
            positions = positions_of(what, length)
            if not len(positions):
                continue
            first = min(first, int(positions.min()))
            layer = min(layer, _layer(what, self.model.n_layers))
        if layer == self.model.n_layers:
            return None
        if not self._base.causal:
            return Run(job.prompt, layer, 0, length - 1)
        last = int(asked.max())
        return None if first > last else Run(job.prompt, layer, first, last)


def _layer(what: Intervention, depth: int) -> int:
    """The first block that has to be run again."""
    site, layer = slot(what, depth)
    if layer is None:
        return -1 if site == "embed" else depth - 1
    return layer


def _join_order(run: Run | None) -> tuple[int, int, int]:
    assert run is not None
    return run.layer, run.prompt, run.first


def ids_of(batch: Batch) -> list[list[int]]:
    """The token ids of each prompt."""
    return [batch.inputs["input_ids"][i, : len(tokens)].tolist() for i, tokens in enumerate(batch.tokens)]


def measure(model: Model, batch: Batch, metric: Metric, tape: Tape) -> tuple[NDArray[np.float64], Tensor]:
    """A pass onto a tape: the metric of each prompt, and the logits that it is of, [prompt, P, vocab]."""
    bound = metric.bind(model, ids_of(batch))
    logits = run_tape(model, batch, tape, bound.positions)
    if bound.needs_reference:
        bound.reference = logits
    return _numbers(bound(logits, torch.arange(len(batch.tokens)))), logits


def run_tape(model: Model, batch: Batch, tape: Tape, positions: Tensor) -> Tensor:
    """A pass onto a tape: its logits at some positions of each run, [run, P, vocab]."""
    wanted, place = torch.unique(positions, return_inverse=True)
    logits = forward(model, batch, tape, logits=True, keep=wanted.to(model.device))
    assert logits is not None
    return logits[torch.arange(len(positions))[:, None].to(logits.device), place.to(logits.device)]


def record_with(
    model: Model,
    batch: Batch,
    sites: Any,
    interventions: Sequence[Intervention],
    *,
    base: Recording | None = None,
    layers: Sequence[int] | None = None,
) -> Recording:
    """A recording of a run with interventions on every prompt."""
    changed = {what.layer for what in interventions if what.site in BY_KEY and what.layer is not None}
    tape = recorder(model, batch, sites, layers=layers, changed=changed)
    runs = [(i, tuple(interventions)) for i in range(len(batch.tokens))]
    editor = Editor(runs, batch.lengths, Plain(max(batch.lengths)), base=base, model=model)
    logits = forward(model, batch, Chain(editor, tape), logits=("logits", None) in tape.sites)
    return recording_of(model, batch, tape, logits)


def way_of(model: Model) -> Way:
    """The shortest way through a model that gives what whole passes give, found by trying: once for each model."""
    if model.module not in _ways:
        _ways[model.module] = next(way for way in _possible(model) if way == "whole" or _is_exact(model, way))
    return _ways[model.module]


def _possible(model: Model) -> Iterator[Way]:
    if "position_ids" in inspect.signature(model.module.forward).parameters:
        yield "packed"
    yield "resumed"
    yield "whole"


def _is_exact(model: Model, way: Way) -> bool:
    """Whether a few interventions of a random prompt come out as in whole passes."""
    generator = torch.Generator().manual_seed(0)
    size = min(11, model.context or 11)
    ids = torch.randint(model.anatomy.embed.num_embeddings, (2, size), generator=generator)
    batch = read_prompts(model, ids)
    depth = model.n_layers
    jobs = [
        Job(prompt, (Scale("resid_pre", layer, factor=-1.5, pos=pos),))
        for prompt, layer, pos in ((0, depth - 1, 3), (1, depth // 2, size // 2), (0, 0, 0), (1, 0, 3))
    ]
    metric = Metric(
        "logits",
        lambda logits: logits[:, :7].double() @ torch.arange(1.0, 8.0).to(logits.device).double()[: logits.shape[1]],
    )
    found: list[NDArray[np.float64]] = []
    tries: tuple[Way, Way] = ("whole", way)
    for each in tries:
        values = np.full(len(jobs), np.nan)
        try:
            engine = Engine(model, batch, metric, way=each)
            for numbers, some in engine.values(jobs):
                values[numbers] = some
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, InputError):
            if each == "whole":
                raise
            return False
        found.append(np.append(values, engine.base_values))
    truth, tried = found
    spread = np.abs(truth[: len(jobs)] - truth[-1]).max() + np.abs(truth).max()
    return bool(np.abs(truth - tried).max() <= _tolerance(model) * spread)


def _tolerance(model: Model) -> float:
    return 1e-4 if model.module.dtype in (torch.float32, torch.float64) else 3e-2


def _numbers(values: Tensor) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return numbers


def _is_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate" in words
