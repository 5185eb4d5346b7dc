"""Causal tracing: noise on a subject's tokens, and which clean state brings the prediction back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.effects import Axis, Effects
from interpwidgets.intervene.engine import Engine
from interpwidgets.intervene.gathering import Into
from interpwidgets.intervene.interventions import Patch, Steer
from interpwidgets.intervene.metrics import Metric, as_metric, prob
from interpwidgets.intervene.running import engine_on
from interpwidgets.intervene.sweep import sweep
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import record
from interpwidgets.models.tape import lacks
from interpwidgets.models.texts import token_texts
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts
from interpwidgets.tokens import Tokens, show

__all__ = ["CausalTrace", "causal_trace"]

_OVER = {"resid_post": "states", "attn_out": "attn", "mlp_out": "mlp"}


@dataclass(frozen=True, eq=False, repr=False)
class CausalTrace:
    """What restoring single states did to a run with noise on its subject.

    `states`, `attn` and `mlp` are Effects [layer, pos], whose prompts are the samples of noise; None if not asked for.
    Their clean run is the one without noise.
    """

    tokens: Tokens
    subject: tuple[int, ...]  # positions with noise
    noise: Tensor  # what was added there, [sample, position, d_model]
    states: Effects | None = None  # resid_post restored
    attn: Effects | None = None  # attn_out, in a window of layers
    mlp: Effects | None = None  # mlp_out, in a window of layers

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        subject = "".join(str(self.tokens[pos]) for pos in self.subject)
        yield f"CausalTrace of {len(self.tokens)} tokens, {len(self.noise)} samples of noise on {subject}"
        for number, (name, effects) in enumerate((("states", self.states), ("attn", self.attn), ("mlp", self.mlp))):
            if effects is None:
                continue
            if number == 0 or self.states is None:
                assert effects.clean is not None
                yield f"  {effects.metric}: {effects.clean.mean():.3g}, with noise {effects.corrupted.mean():.3g}"
            for (layer, pos), effect in effects.top(1):
                where = f"layer {layer} at {pos} ({self.tokens[int(pos)]})"
                yield f"  {name}: strongest in {where}: {effect.value:.3g}"


def causal_trace(
    model: Model | Any,
    prompt: Prompts,
    *,
    subject: str | int | slice | Sequence[int],
    target: str | int | None = None,
    noise: float = 3.0,
    samples: int = 10,
    window: int = 10,
    over: Sequence[str] = ("resid_post", "attn_out", "mlp_out"),
    metric: Metric | Any = None,
    seed: int = 0,
    progress: bool = True,
    into: Callable[[CausalTrace], object] | None = None,
) -> CausalTrace:
    """Find the states that carry what the model knows of a subject.

    >>> trace = causal_trace(model, "The Space Needle is in the city of", subject="The Space Needle", target=" Seattle")
    >>> trace.states.recovered                       # [layer, pos], 1 where a state brings all of it back

    Gaussian noise of `noise` standard deviations of the token embeddings is added to those of the subject; then one
    state at a time is put back to what it was without noise: resid_post of a layer at a position, and attn_out and
    mlp_out in a `window` of layers around it, layers l − window/2 to l + window/2 − 1. Measured is the probability of
    `target` after the prompt, of the model's own first guess if None, or a `metric`. `subject` is a part of the text
    that is whole tokens, or positions. Sample i is drawn with (seed, i). `into` is shown the trace as far as it is, a
    few times a second, and all of it at the end: `into=view.show`.

    Meng et al. 2022 "Locating and editing factual associations in GPT", §2 and appendix B. Which noise is chosen
    matters, and more so for windows than for single layers: Zhang & Nanda 2024, §3 and §5.

    Raises InputError if the subject is not in the prompt, is there twice, or is not whole tokens.
    """
    model = as_model(model)
    one = read_prompts(model, prompt)
    if len(one.tokens) != 1:
        raise InputError(f"A trace is of one prompt; got {len(one.tokens)}.")
    if metric is not None and target is not None:
        raise InputError("`target` is what the probability of is measured; with a `metric` there is none to give.")
    for number, least, name in ((samples, 1, "samples"), (window, 1, "window")):
        if number < least:
            raise InputError(f"{name} is a number from {least} on; got {number}.")
    if isinstance(over, str) or not over or set(over) - set(_OVER):
        raise InputError(f"`over` is a list out of {', '.join(map(repr, _OVER))}; got {over!r}.")
    at = _positions(model, prompt, one.tokens[0], subject)
    added = _noise(model, one, at, noise, samples, seed)  # [sample, position, d_model]
    whole = added.new_zeros(samples, len(one.tokens[0]), added.shape[-1])
    whole[:, list(at)] = added
    rec = record(model, one.inputs, sites=[*over, *(["logits"] if metric is None and target is None else [])])
    if metric is None:
        metric = _probability(model, int(rec["logits"][0, -1].argmax()) if target is None else target)
    batch = Batch(one.tokens * samples, {name: rows.expand(samples, -1) for name, rows in one.inputs.items()})
    engine, clean = engine_on(
        model, batch, as_metric(metric), batch, always=[Steer("embed", pos=list(at), vector=whole)]
    )
    trace = CausalTrace(one.tokens[0], at, added)
    for site in over:
        width = 1 if site == "resid_post" else window
        add = partial(_with, trace, _OVER[site])
        show = None if into is None else partial(_then, add, into)
        found = _restored(engine, clean, site, rec, width, min(at), seed, progress, show)
        trace = add(found)
        if not found.done.all():
            break  # interrupted
    return trace


def _with(trace: CausalTrace, name: str, effects: Effects) -> CausalTrace:
    change: dict[str, Any] = {name: effects}
    return replace(trace, **change)


def _then(add: Callable[[Effects], CausalTrace], into: Callable[[CausalTrace], object], effects: Effects) -> None:
    into(add(effects))


def _restored(
    engine: Engine,
    clean: Any,
    site: str,
    rec: Any,
    window: int,
    first: int,
    seed: int,
    progress: bool,
    into: Into | None,
) -> Effects:
    """The metric where a site has its clean values, in some layers around each layer, at each position."""
    model, tokens = engine.model, engine.batch.tokens[0]
    have = [layer for layer in range(model.n_layers) if lacks(model.anatomy.parts[layer], site) is None]
    axes = (Axis("layer", tuple(range(model.n_layers))), Axis("pos", tuple(range(len(tokens)))))

    def cell(_: int, place: dict[str, Any]) -> tuple[Patch, ...]:
        layer, pos = place["layer"], place["pos"]
        if engine.causal and pos < first:
            return ()  # the noise has not come yet
        around = range(layer - window // 2, layer + (window + 1) // 2)
        return tuple(Patch(site, each, pos=pos, value=rec) for each in have if each in around)

    of = "" if window == 1 else f" in {window} layers at a time"
    how = f"{site} of {model.name} without noise{of}, one layer × pos at a time"
    return sweep(engine, axes, cell, how=how, clean=clean, seed=seed, progress=progress, into=into)


def _noise(model: Model, one: Batch, at: Sequence[int], noise: float, samples: int, seed: int) -> Tensor:
    """What is added to the subject's embeddings: [sample, position, d_model]."""
    embed, ids = model.anatomy.embed, one.inputs["input_ids"]
    with torch.no_grad():
        scale = embed(ids).float().norm() / embed.weight[ids].float().norm()  # of what multiplies them inside
        sigma = float(embed.weight.float().std() * scale)
    size = embed.weight.shape[-1]
    drawn = [np.random.default_rng((seed, sample)).standard_normal((len(at), size)) for sample in range(samples)]
    return torch.from_numpy(np.stack(drawn)) * (noise * sigma)


def _probability(model: Model, target: str | int) -> Metric:
    named = prob(target)
    return named if isinstance(target, str) else replace(named, name=f"P({token_texts(model.tokenizer, [target])[0]})")


def _positions(model: Model, prompt: Any, tokens: Tokens, subject: Any) -> tuple[int, ...]:
    """The subject's positions, each from the prompt's start."""
    size = range(len(tokens))
    if isinstance(subject, str):
        return _find(model, prompt, tokens, subject)
    try:
        found = size[subject] if isinstance(subject, slice) else [size[pos] for pos in np.atleast_1d(subject)]
    except (IndexError, TypeError):
        raise InputError(f"The subject is text or positions out of 0 to {len(tokens) - 1}; got {subject!r}.") from None
    if not found:
        raise InputError(f"The subject {subject!r} is no position of a prompt of {len(tokens)} tokens.")
    return tuple(sorted(set(found)))


def _find(model: Model, prompt: Any, tokens: Tokens, subject: str) -> tuple[int, ...]:
    """The tokens that a part of the text is."""
    text, spans = _spans(model, prompt, tokens)
    wanted, read = subject.strip(), "|".join(tokens)
    starts = [at for at in range(len(text)) if wanted and text.startswith(wanted, at)]
    if not starts:
        raise InputError(f"{subject!r} is not in the prompt: {read}.")
    found = [
        tuple(pos for pos, (start, stop) in enumerate(spans) if start < at + len(wanted) and stop > at and start < stop)
        for at in starts
    ]
    aligned = [some for some in found if some and text[spans[some[0]][0] : spans[some[-1]][1]].strip() == wanted]
    if not aligned:
        raise InputError(f"{subject!r} begins or ends within a token of the prompt, {read}. Give positions instead.")
    if len(aligned) > 1:
        places = " and ".join(f"slice({some[0]}, {some[-1] + 1})" for some in aligned)
        raise InputError(f"{show(subject)} is {len(aligned)} times in the prompt. Say which: subject={places}.")
    return aligned[0]


def _spans(model: Model, prompt: Any, tokens: Tokens) -> tuple[str, list[tuple[int, int]]]:
    """The prompt's text, and where each token lies in it."""
    text = prompt if isinstance(prompt, str) else prompt[0] if isinstance(prompt, (list, tuple)) else None
    if isinstance(text, str) and getattr(model.tokenizer, "is_fast", False):
        return text, model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    pieces = [piece if isinstance(piece, str) else piece.decode("latin-1") for piece in tokens.text]
    stops = np.cumsum([len(piece) for piece in pieces]).tolist()
    return "".join(pieces), [(stop - len(piece), stop) for stop, piece in zip(stops, pieces, strict=True)]
