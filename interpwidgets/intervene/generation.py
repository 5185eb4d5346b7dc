"""Interventions that hold while a model generates, with its cache of keys and values.

With the cache, a pass sees only the newest rows; keys and values are seen in whole each time. So every pass is edited
by where its rows lie in the sequence, counted from each prompt's start.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.editor import Editor
from interpwidgets.intervene.engine import record_with
from interpwidgets.intervene.interventions import Ablate, Freeze, Intervention, Patch, Scale, Steer
from interpwidgets.intervene.running import placed
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import forward
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import SITE_SHAPES, Site
from interpwidgets.models.tape import Tape, listening
from interpwidgets.models.texts import token_texts
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts
from interpwidgets.tokens import Tokens, show

__all__ = ["Generated", "generate"]

_CACHES = (None, "dynamic", "dynamic_full", "offloaded")  # those that hold keys in the order of positions
_REFUSED = ("assistant_model", "prompt_lookup_num_tokens", "past_key_values", "inputs_embeds", "input_ids")


@dataclass(frozen=True, eq=False, repr=False)
class Generated:
    """What a model wrote after each prompt; several in a row where `num_return_sequences` were asked for."""

    prompts: list[Tokens]  # of each text
    tokens: list[Tokens]  # the new ones, an end-of-sequence token included
    text: list[str]  # the new tokens as text
    logits: Tensor | None = None  # of each new token, [text, step, vocabulary], with output_logits=True

    @property
    def ids(self) -> list[list[int]]:
        """The new tokens' ids."""
        return [[] if tokens.ids is None else tokens.ids.tolist() for tokens in self.tokens]

    def __len__(self) -> int:
        return len(self.text)

    def __repr__(self) -> str:
        lines = [f"  … {' '.join(prompt[-4:])} → {show(text)}" for prompt, text in zip(self.prompts, self.text)]  # noqa: B905
        return "\n".join([f"Generated({len(self)} text{'s' if len(self) > 1 else ''})", *lines])


def generate(
    model: Model | Any,
    prompt: Prompts,
    *,
    interventions: Intervention | Sequence[Intervention] = (),
    max_new_tokens: int = 20,
    **options: Any,
) -> Generated:
    """Let the model write on, with interventions in every pass.

    >>> generate(model, "the cat sat on", interventions=[Steer("resid_post", 1, vector=v, coefficient=4)]).text

    It is the model's own `generate`: greedy unless `do_sample=True`, with transformers' options (temperature, top_p,
    num_beams, num_return_sequences, output_logits, …) and its cache. Positions count from each prompt's start, those
    of new tokens included; pos=None is all of them, a negative one counts from the prompt's end, and a slice without
    an end goes on. Values that are given by position (a Recording, a tensor [pos, …]) hold where they have positions.
    The outcome is that of whole passes without a cache.

    Steering while generating: Turner et al. 2023, "Activation addition".

    Raises InputError for a model that cannot generate, positions that are never reached, more tokens than the model
    has positions for, and options under which positions cannot be told.
    """
    model = as_model(model)
    module = model.module
    chosen = placed(model, [interventions] if isinstance(interventions, Intervention) else interventions)
    _check(model, chosen, max_new_tokens, options)
    batch = read_prompts(model, prompt)
    if model.context is not None and max(batch.lengths) + max_new_tokens > model.context:
        raise InputError(
            f"{max(batch.lengths)} tokens and {max_new_tokens} new ones do not fit: {model.name} has positions for "
            f"{model.context}."
        )
    own = {(what.site, what.layer) for what in chosen if what.refers_to_base}
    base = record_with(model, batch, own, ()) if own else None
    tape = _Growing(model, batch, [_lasting(what, base) for what in chosen], max_new_tokens, base)
    settings = module.generation_config
    ends = options.get("eos_token_id", settings.eos_token_id)
    stop = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    options = {"do_sample": False, "pad_token_id": _first(settings.pad_token_id, *stop, 0), **options}
    found: list[tuple[int, list[int], Any]] = []  # prompt, new ids, logits
    together = len(set(batch.lengths)) == 1 or "position_ids" in inspect.signature(module.forward).parameters
    count = len(batch.lengths)
    for prompts in [list(range(count))] if together else [[number] for number in range(count)]:
        found += _write(model, batch, tape, prompts, max_new_tokens, options)
    ids = [_until(new, stop) for _, new, _ in found]
    return Generated(
        [batch.tokens[number] for number, _, _ in found],
        [token_texts(model.tokenizer, new) for new in ids],
        [_decode(model, new) for new in ids],
        torch.stack([logits for _, _, logits in found]) if found[0][2] is not None else None,
    )


def _write(
    model: Model, batch: Batch, tape: _Growing, prompts: list[int], count: int, options: dict[str, Any]
) -> Iterator[tuple[int, list[int], Any]]:
    """Some prompts at once, padded on the left."""
    lengths = [batch.lengths[prompt] for prompt in prompts]
    width = max(lengths)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        ids[row, width - length :] = batch.inputs["input_ids"][prompt, :length]
        mask[row, width - length :] = 1
    tape.begin(prompts, [width - length for length in lengths])
    module: Any = model.module
    with listening(module, model.anatomy, tape):
        clock = model.anatomy.base.register_forward_pre_hook(tape.tick, with_kwargs=True)
        try:
            output = module.generate(
                ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=count,
                return_dict_in_generate=True, **options,
            )  # fmt: skip
        finally:
            clock.remove()
    several = len(output.sequences) // len(prompts)
    logits = None if output.get("logits") is None else torch.stack(output.logits, 1)
    for row, sequence in enumerate(output.sequences[:, width:].tolist()):
        yield prompts[row // several], sequence, None if logits is None else logits[row]


class _Growing(Tape):
    """Edits each pass at the positions it is at."""

    def __init__(
        self, model: Model, batch: Batch, interventions: Sequence[Intervention], new: int, base: Recording | None
    ) -> None:
        self._model, self._base = model, base
        self._ends = [length + new for length in batch.lengths]
        self._changes: list[dict[Site, list[Intervention]]] = []  # by prompt
        for prompt, length in enumerate(batch.lengths):
            at: dict[Site, list[Intervention]] = {}
            for what in interventions:
                positions = _positions(what, prompt, length, length + new)
                at.setdefault((what.site, what.layer), []).append(replace(what, pos=positions))
            self._changes.append(at)

    def begin(self, prompts: list[int], padding: list[int]) -> None:
        """Before the first pass over some prompts, each after some padding."""
        self._prompts, self._padding = prompts, padding
        self._start = self._stop = 0  # columns of the pass, padding included

    def tick(self, _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """A pass begins: over new columns, or over all of them where there is no cache."""
        given = next(
            value
            for value in (*args[:1], options.get("input_ids"), options.get("inputs_embeds"))
            if isinstance(value, Tensor)
        )
        size = int(given.shape[1])
        self._start = 0 if size > self._stop else self._stop
        self._stop = self._start + size

    def hears(self, site: str, layer: int | None) -> bool:
        """Where something is to be changed."""
        return any((site, layer) in changes for changes in self._changes)

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """The rows of this pass with the changes made; of keys and values, all that the cache still has."""
        size = int(value.shape[1])
        start = self._stop - size if site in ("k", "v") else self._start
        several = len(value) // len(self._prompts)  # beams and samples of each prompt
        owners = [row // several for row in range(len(value))]
        layout = _Columns(size, [self._padding[owner] - start for owner in owners])
        prompts = [self._prompts[owner] for owner in owners]
        runs = [(prompt, self._changes[prompt].get((site, layer), [])) for prompt in prompts]
        return Editor(runs, self._ends, layout, base=self._base, model=self._model).emit(site, layer, value)


@dataclass(frozen=True)
class _Columns:
    """A window onto sequences: a `Layout`. Position p of run c is in column p + shifts[c], if there is one."""

    size: int
    shifts: list[int]

    def rows(self, run: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Those in the window."""
        columns = positions + self.shifts[run]
        kept = (columns >= 0) & (columns < self.size)
        return run * self.size + columns[kept], kept


def _positions(what: Intervention, prompt: int, length: int, end: int) -> list[int]:
    """Where an intervention holds, from the prompt's start, new positions included."""
    limit = _limit(what, prompt, length)
    until = end if limit is None else min(end, limit)
    pos = what.pos
    if pos is None:
        return list(range(until))
    if isinstance(pos, slice):
        within = list(range(length)[pos])
        if pos.stop is None and limit == len(within) and not isinstance(getattr(what, "value", None), Recording):
            return within  # a value for each of them
        start, stop = (None if edge is None else edge if edge >= 0 else max(0, length + edge) for edge in
                       (pos.start, pos.stop))  # fmt: skip
        return list(range(start or 0, until if stop is None else min(stop, end), pos.step or 1))
    wanted = torch.as_tensor(pos).reshape(-1).tolist()
    found = [each if each >= 0 else length + each for each in wanted]
    if wrong := [each for each, at in zip(wanted, found, strict=True) if not 0 <= at < end]:
        raise InputError(f"{what!r}: {length} tokens and {end - length} new ones have no position {wrong[0]}.")
    return found


def _limit(what: Intervention, prompt: int, length: int) -> int | None:
    """How many positions an intervention has values for; None if it has one for all."""
    if isinstance(what, Ablate):
        return length if what.kind != "zero" else None
    if isinstance(what, Freeze) and what.value is None:
        return length
    value = what.vector if isinstance(what, Steer) else what.value if isinstance(what, (Patch, Freeze)) else None
    if isinstance(value, Recording):
        return len(value.tokens[prompt % len(value)])
    shape = tuple(getattr(value, "shape", ()))
    whole = SITE_SHAPES[what.site].count(",") - 1  # dimensions at one position
    by_position = shape[1] if len(shape) == whole + 2 else shape[0] if len(shape) == whole + 1 else 1
    return by_position if by_position > 1 else None


def _lasting(what: Intervention, base: Recording | None) -> Intervention:
    """A mean over positions is one for new positions too."""
    if not isinstance(what, Ablate) or what.kind != "mean" or what.per_pos:
        return what
    reference = base if what.reference is None else what.reference
    assert reference is not None
    mean = torch.nanmean(reference.emitted(what.site, what.layer), dim=(0, 1))
    mean = mean if what.head is None else mean[torch.as_tensor(what.head).reshape(-1)]
    return Patch(what.site, what.layer, head=what.head, pos=what.pos, direction=what.direction, value=mean)


def _check(model: Model, interventions: Sequence[Intervention], count: int, options: dict[str, Any]) -> None:
    module: Any = model.module
    if not model.anatomy.has_head or not module.can_generate():
        raise InputError(f"{type(module).__name__} cannot generate; load the model with a causal language-model head.")
    if not _is_causal(model):
        raise InputError(f"Tokens of {model.name} see those after them: it cannot write on from one to the next.")
    if count < 1:
        raise InputError(f"max_new_tokens is a number from 1 on; got {count}.")
    if refused := [name for name in _REFUSED if options.get(name) is not None]:
        raise InputError(f"With {refused[0]!r} it cannot be told which positions a pass is at; leave it out.")
    if options.get("cache_implementation") not in _CACHES:
        raise InputError(f"Interventions hold with the dynamic cache; got {options['cache_implementation']!r}.")
    for what in interventions:
        number = isinstance(what, Patch) and isinstance(what.value, (int, float))
        zero = isinstance(what, Ablate) and what.kind == "zero"
        if what.site in ("scores", "pattern") and not (number or zero or isinstance(what, Scale)):
            raise InputError(
                f"{what!r}: there are ever more keys while generating; {what.site!r} can be scaled or become a number."
            )


def _is_causal(model: Model) -> bool:
    """Whether the first token is read the same whatever comes next."""
    ids = torch.tensor([[0, 1], [0, 2]], device=model.device)
    first = torch.zeros(1, dtype=torch.long, device=model.device)
    logits = forward(model, Batch([], {"input_ids": ids}), Tape(), logits=True, keep=first)
    assert logits is not None
    return bool(torch.allclose(logits[0], logits[1], atol=1e-3 * float(logits.abs().max())))


def _first(*given: int | None) -> int:
    return next(each for each in given if each is not None)


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    """What was written, without what fills up the row after its end."""
    return ids[: next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))]


def _decode(model: Model, ids: list[int]) -> str:
    if model.tokenizer is None:
        return " ".join(token_texts(None, ids))
    text: str = model.tokenizer.decode(ids, skip_special_tokens=True)
    return text
