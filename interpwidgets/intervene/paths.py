"""Path patching: what one component tells another directly, and what that does to a metric.

Three passes (Wang et al. 2022, §3.1 and appendix B; Goldowsky-Dill et al. 2023, "Localizing model behavior with path
patching"). The sender's values are taken from the clean prompts. In the corrupted run the sender gets them, everything
else that could pass them on is held at what it was, and the receivers' inputs are recorded: they differ by what came
straight through the residual stream. The corrupted run with those inputs put into the receivers gives the metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.intervene.cells import check_aligned, first_difference, places, read_axes
from interpwidgets.intervene.editor import Chain, Editor, Plain
from interpwidgets.intervene.effects import Effect, Effects
from interpwidgets.intervene.engine import Engine, Job, ids_of, way_of
from interpwidgets.intervene.gathering import Into, gather
from interpwidgets.intervene.interventions import Freeze, Patch
from interpwidgets.intervene.metrics import Metric, as_metric
from interpwidgets.intervene.routes import Base, Resumed, Run
from interpwidgets.intervene.running import engine_on, placed
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import forward, record, recorder, recording_of
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import SITES
from interpwidgets.models.tape import lacks
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["held_sites", "path_patch", "path_sweep"]

Floats = NDArray[np.float64]
Place = tuple[Any, ...]  # (site, layer), (site, layer, head) or (site, layer, head, pos)

_SENDERS = ("embed", "resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")  # what writes to the stream
_ROWS = 1024  # positions computed at a time


def path_patch(
    model: Model | Any,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric | Any,
    *,
    sender: Place,
    receivers: Sequence[Place],
    freeze: Sequence[str] = ("z", "mlp_out"),
    control: Literal["random_heads"] | None = None,
    draws: int = 20,
    seed: int = 0,
) -> Effect:
    """Give some receivers what one sender would have told them directly on the clean prompts.

    >>> path_patch(model, clean, corrupted, metric, sender=("z", 0, 1), receivers=[("q", 3, 2)])

    A place is (site, layer), (site, layer, head) or (site, layer, head, pos), with None for all heads or positions;
    the heads of k and v are key heads, and their positions those of keys. A sender writes to the residual stream: z of
    a head, attn_out, mlp_out, embed, the stream itself. A receiver reads from it: q, k, v, mlp_pre, or resid_post of
    the last layer for the direct effect on the logits. `freeze` are the outputs held in every layer between; with
    freeze=("z",) the MLPs count as part of the path. Receivers before the sender hear nothing of it.

    The effect is compared with the corrupted run. `control="random_heads"` sends from up to `draws` other heads that
    come before the receivers. Wang et al. 2022 §3.1; Goldowsky-Dill et al. 2023 §3.

    Raises InputError for places that are not there, pairs that do not align token by token, no receiver after the
    sender, and blocks with parts that cannot be held.
    """
    paths = _Paths(as_model(model), clean, corrupted, metric, receivers, freeze)
    source = _place(paths.model, sender, "sender")
    if not paths.reaches(source):
        raise InputError(f"No receiver comes after the sender, {source.where}: there is no path to patch.")
    senders = [source]
    if control == "random_heads":
        senders += _other_heads(paths, source, draws, seed)
    elif control is not None:
        raise InputError(f"There is a control 'random_heads'; got {control!r}.")
    values = paths.values(senders)
    return Effect(
        values=values[0], metric=paths.engine.metric.name, clean=paths.clean_values,
        corrupted=paths.engine.base_values, seed=seed, control=values[1:].mean(-1) if len(senders) > 1 else None,
        how=f"the paths from {source.where} to {paths.ends}, as on the clean prompts; {paths.rest}",
    )  # fmt: skip


def path_sweep(
    model: Model | Any,
    clean: Prompts,
    corrupted: Prompts,
    metric: Metric | Any,
    *,
    receivers: Sequence[Place],
    over: str = "z",
    by: Sequence[Literal["layer", "head", "pos"]] | None = None,
    freeze: Sequence[str] = ("z", "mlp_out"),
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = True,
    into: Into | None = None,
) -> Effects:
    """`path_patch` from every sender that comes before the receivers, one at a time: who tells them what they need?

    >>> path_sweep(model, clean, corrupted, metric, receivers=[("k", 1, 2)])      # [layer, head]

    Cells are layers × heads of z, layers of attn_out and mlp_out, unless `by` says otherwise; `into` and Ctrl-C are as
    in `patch_sweep`. Wang et al. 2022, figures 3 and 4.
    """
    paths = _Paths(as_model(model), clean, corrupted, metric, receivers, freeze)
    by = ("layer",) if by is None and over in ("attn_out", "mlp_out") else by
    if layers is None and over != "embed":
        some = Patch(over, 0)
        layers = [layer for layer in range(paths.model.n_layers) if paths.reaches(replace(some, layer=layer))]
        layers = [layer for layer in layers if lacks(paths.model.anatomy.parts[layer], some.site) is None]
        if not layers:
            raise InputError(f"No {over!r} comes before the receivers, {paths.ends}.")
    site, axes = read_axes(paths.model, paths.batch, over, by, layers, heads, positions)
    senders = [
        _place(paths.model, (site, *(place.get(name) for name in ("layer", "head", "pos"))), "sender")
        for place in places(axes)
    ]
    cells = " × ".join(axis.name for axis in axes)
    values = np.full((len(senders), len(paths.batch.tokens)), np.nan)

    def so_far() -> Effects:
        return Effects(
            values=values.reshape(*map(len, axes), -1), axes=axes, metric=paths.engine.metric.name,
            clean=paths.clean_values, corrupted=paths.engine.base_values, seed=seed,
            how=f"the paths from {site}, one {cells} at a time, to {paths.ends}, as on the clean prompts; {paths.rest}",
        )  # fmt: skip

    return gather(values.ravel(), paths.found(senders), so_far, name="paths", progress=progress, into=into)


class _Paths:
    """A pair of prompts' runs, and what receivers hear of a sender."""

    def __init__(
        self,
        model: Model,
        clean: Prompts,
        corrupted: Prompts,
        metric: Metric | Any,
        receivers: Sequence[Place],
        freeze: Sequence[str],
    ) -> None:
        self.model = model
        self.source, self.batch = read_prompts(model, clean), read_prompts(model, corrupted)
        check_aligned(self.source, self.batch)
        if isinstance(receivers, str) or not receivers or isinstance(receivers[0], str):
            raise InputError(f"receivers is a list of places: receivers=[('q', 3, 2)]; got {receivers!r}.")
        self.freeze = tuple(Freeze(site, 0).site for site in freeze)
        self.receivers = [_place(model, given, "receiver", self.freeze) for given in receivers]
        self.last = max(_layer(model, receiver) for receiver in self.receivers)
        self.ends = ", ".join(receiver.where for receiver in self.receivers)
        self.rest = f"{' and '.join(self.freeze)} between them held" if self.freeze else "nothing between them held"
        self.engine: Engine
        self.engine, self.clean_values = engine_on(model, self.batch, as_metric(metric), self.source)
        held = {layer: held_sites(model, layer, self.freeze) for layer in range(self.last + 1)}
        tape = recorder(model, self.batch, [(site, layer) for layer, sites in held.items() for site in sites])
        self._base = Base(self.batch.lengths)
        forward(model, self.batch, Chain(tape, self._base, route=self._base), logits=False)
        rec = recording_of(model, self.batch, tape, None)
        self._holds = {layer: [Freeze(site, layer, value=rec) for site in sites] for layer, sites in held.items()}
        self._sees_first = [
            first_difference(a, b) if self.engine.causal else 0
            for a, b in zip(ids_of(self.source), ids_of(self.batch), strict=True)
        ]

    def reaches(self, sender: Patch) -> bool:
        """Whether a receiver comes after it."""
        return bool(self._after(sender))

    def _after(self, sender: Patch) -> list[Patch]:
        """The receivers that come after it; what the others read is as it was."""
        return [receiver for receiver in self.receivers if _order(sender) < _order(receiver)]

    def values(self, senders: Sequence[Patch]) -> Floats:
        """The metric with what each sender tells the receivers: [sender, prompt]."""
        values = np.empty((len(senders), len(self.batch.tokens)))
        for numbers, some in self.found(senders):
            values.flat[numbers] = some
        return values

    def found(self, senders: Sequence[Patch]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """The same piece by piece: places in the flat [sender, prompt], and the metric there."""
        count = len(self.batch.tokens)
        layers = sorted({sender.layer for sender in senders if sender.layer is not None})
        rec = record(self.model, self.source.inputs, sites=[senders[0].site], layers=layers or None)
        runs = [(at, prompt) for at in range(len(senders)) for prompt in range(count)]
        runs.sort(key=lambda run: _order(senders[run[0]]))
        step = max(1, _ROWS // max(self.batch.lengths))
        for chunk in (runs[first : first + step] for first in range(0, len(runs), step)):
            heard = self._heard([(prompt, replace(senders[at], value=rec)) for at, prompt in chunk])
            jobs = [Job(prompt, self._told(senders[at], heard, row, prompt)) for row, (at, prompt) in enumerate(chunk)]
            flat = np.array([at * count + prompt for at, prompt in chunk], dtype=np.intp)
            for numbers, some in self.engine.values(jobs):
                yield flat[numbers], some

    def _heard(self, runs: Sequence[tuple[int, Patch]]) -> Recording:
        """The receivers' inputs where a sender has its clean values and the rest is held: a prompt for each run."""
        prompts = torch.tensor([prompt for prompt, _ in runs])
        batch = Batch(
            [self.batch.tokens[prompt] for prompt, _ in runs],
            {name: rows[prompts.to(rows.device)] for name, rows in self.batch.inputs.items()},
        )
        first = min((sender for _, sender in runs), key=_order)
        start = _layer(self.model, first)
        held = [what for layer in range(max(start, 0), self.last + 1) for what in self._holds[layer]]
        tape = recorder(self.model, batch, {(what.site, what.layer) for what in self._after(first)})
        editor = Editor(
            [(prompt, [*held, sender]) for prompt, sender in runs], self.batch.lengths, Plain(max(self.batch.lengths)),
            model=self.model,
        )  # fmt: skip
        route = None
        if start >= 0 and way_of(self.model) != "whole":
            whole = [Run(prompt, start, 0, self.batch.lengths[prompt] - 1) for prompt, _ in runs]
            route = _Stretch(self._base, whole, self.last)
        forward(self.model, batch, Chain(editor, tape, route=route), logits=False)
        return recording_of(self.model, batch, tape, None)

    def _told(self, sender: Patch, heard: Recording, row: int, prompt: int) -> tuple[Patch, ...]:
        """A run's receivers with what they heard, at positions where that can be anything new."""
        first = self._sees_first[prompt]
        told = []
        for receiver in self._after(sender):
            value = heard.emitted(receiver.site, receiver.layer)[row][None]
            pos = slice(first, None) if receiver.pos is None else receiver.pos
            told.append(replace(receiver, pos=pos, value=value))
        return tuple(told)


class _Stretch(Resumed):
    """From the first sender's layer to the last receiver's."""

    def __init__(self, base: Base, runs: Sequence[Run], last: int) -> None:
        super().__init__(base, runs)
        self._last = last

    def skips(self, layer: int) -> bool:
        """Blocks on either side."""
        return super().skips(layer) or layer > self._last


def _place(model: Model, given: Any, role: str, held: Sequence[str] = ()) -> Patch:
    """A place as a Patch without a value yet."""
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= 4 or not isinstance(given[0], str):
        raise InputError(f"A {role} is (site, layer), (site, layer, head) or (site, layer, head, pos); got {given!r}.")
    site, layer, head, pos = (*given, None, None)[:4]
    found = placed(model, [Patch(site, layer, head=head, pos=pos)])[0]
    assert isinstance(found, Patch)
    if role == "sender" and found.site not in _SENDERS:
        raise InputError(f"A sender writes to the residual stream: {', '.join(_SENDERS)}. {found.site!r} does not.")
    if found.site in held:
        raise InputError(f"{found.site!r} is held between sender and receivers; a receiver is an input, such as 'q'.")
    return found


def held_sites(model: Model, layer: int, freeze: Sequence[str]) -> list[str]:
    """The sites by which a block is held; a layer without an MLP has none to hold."""
    block = model.anatomy.parts[layer]
    if block.kind == "unknown" or block.mixers:
        said = lacks(block, "z") or lacks(block, "attn_out") or "it moves information by other parts than attention."
        raise InputError(f"Paths through layer {layer} of {model.name} cannot be told apart: {said}")
    found = []
    for site in freeze:
        whole = "attn_out" if site == "z" and block.attention is not None and lacks(block, site) else site
        if lacks(block, whole) is None:
            found.append(whole)
        elif site not in ("z", "attn_out", "mlp_out") or (site != "mlp_out" and block.attention is not None):
            raise InputError(f"Layer {layer} of {model.name} cannot be held: {lacks(block, whole)}")
    return found


def _order(what: Patch) -> tuple[int, int]:
    """Where it stands in the order of a pass."""
    return (0 if what.layer is None else what.layer), SITES.index(what.site)


def _layer(model: Model, what: Patch) -> int:
    """The block that a place belongs to: −1 before the first; the last of all after it."""
    return what.layer if what.layer is not None else -1 if what.site == "embed" else model.n_layers - 1


def _other_heads(paths: _Paths, sender: Patch, draws: int, seed: int) -> Iterator[Patch]:
    """The same from random other heads that come before the receivers."""
    if sender.site != "z" or not isinstance(sender.head, int):
        raise InputError("control='random_heads' is for one head as the sender: ('z', layer, head).")
    free = [
        (layer, head)
        for layer in range(paths.model.n_layers)
        for head in range(paths.model.anatomy.parts[layer].heads or 0)
        if paths.reaches(replace(sender, layer=layer)) and (layer, head) != (sender.layer, sender.head)
    ]
    if not free:
        raise InputError("No other head comes before the receivers: there is none to draw a control from.")
    order = np.random.default_rng(seed).permutation(len(free))
    return (replace(sender, layer=free[at][0], head=free[at][1]) for at in order[:draws])
