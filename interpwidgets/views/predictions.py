"""What a model predicts after each token, from whatever people have it in, and numbers of it a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.numbers import array_of, numbers

__all__ = ["Block", "Predictions", "compared", "divergence", "is_run", "predictions"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Texts = Callable[[Sequence[int]], Tokens]

_LOGITS = 1 << 22  # read at a time


class Block(NamedTuple):
    """What is known of the predictions of one run at some positions. Bits throughout."""

    came: Floats  # [4, pos]: surprise, rank and probability of the token that came next; entropy of the prediction
    top: Ints  # [pos, k]: the likeliest tokens, in order
    p: Floats  # [pos, k]: and their probabilities


@dataclass(frozen=True)
class Predictions:
    """The logits of the next token after each token of a prompt, read when asked for."""

    name: str
    tokens: Tokens
    read: Callable[[slice], Floats]  # some positions -> [pos, vocab]
    texts: Texts  # of ids

    @cached_property
    def vocab(self) -> int:
        """How many tokens there are to choose from."""
        return int(self.read(slice(0, 1)).shape[1])

    @cached_property
    def per_block(self) -> int:
        """How many positions are read at a time."""
        return int(np.clip(_LOGITS // self.vocab, 16, 256))

    @property
    def next_ids(self) -> Ints:
        """The token that came after each, [pos]; −1 after the last."""
        assert self.tokens.ids is not None
        return np.append(self.tokens.ids[1:], -1)

    def log_probs(self, rows: slice) -> Floats:
        """Natural logarithms, [pos, vocab]."""
        logits = self.read(rows)
        logits = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(logits).sum(axis=1, keepdims=True, dtype=np.float64)
        return np.asarray(logits - np.log(total).astype(np.float32))

    def block(self, log_probs: Floats, rows: slice, k: int) -> Block:
        """Those numbers, without putting the vocabulary in order."""
        at, came = np.arange(len(log_probs)), self.next_ids[rows]
        own = np.where(came < 0, np.nan, log_probs[at, came])
        rank = np.where(came < 0, np.nan, (log_probs > log_probs[at, came][:, None]).sum(axis=1))
        p = np.exp(log_probs)
        entropy = -np.multiply(p, log_probs, where=p > 0, out=np.zeros_like(p)).sum(axis=1)
        k = min(k, self.vocab)
        top = np.argpartition(log_probs, -k, axis=1)[:, -k:]  # [pos, k]
        order = np.argsort(-np.take_along_axis(log_probs, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        numbers = np.array([-own / np.log(2), rank, np.exp(own), entropy / np.log(2)], dtype=np.float32)
        return Block(numbers, top, np.take_along_axis(p, top, axis=1))


def divergence(log_p: Floats, log_q: Floats) -> Floats:
    """KL(p ‖ q) in bits, [pos], of natural logarithms [pos, vocab]."""
    p = np.exp(log_p)
    ratio = np.subtract(log_p, log_q, where=p > 0, out=np.zeros_like(p))
    bits: Floats = (p * ratio).sum(axis=1) / np.float32(np.log(2))
    return np.maximum(bits, 0)


def predictions(data: Any, tokens: Any = None, decode: Any = None) -> list[Predictions]:
    """Of each prompt of a Recording that holds logits or knows its model; or of logits [pos, vocab] with their tokens.

    Raises:
        InputError: logits that are none, or whose tokens are not known by their ids.
    """
    if hasattr(data, "tokens") and hasattr(data, "sites"):  # a Recording
        if tokens is not None or decode is not None:
            raise InputError("A recording brings its own tokens: leave tokens= and decode= out.")
        return [_recorded(data, prompt) for prompt in range(len(data))]
    array = array_of(data, "logits")
    if array.ndim == 3:
        raise InputError(f"logits are [pos, vocab]; got shape {list(array.shape)}. Choose one prompt: logits[0].")
    if tokens is None:
        raise InputError("logits need tokens=…, the ids of the prompt, and decode=…, a tokenizer or ids → strings.")
    texts = _reader(decode)
    named = _by_id(tokens, texts)
    read = _checked(array, "logits", named)
    if named.ids is not None and not ((named.ids >= 0) & (named.ids < array.shape[1])).all():
        raise InputError(f"tokens have ids up to {named.ids.max()}; the logits are of {array.shape[1]} tokens.")
    return [Predictions("model", named, read, texts)]


def compared(data: Any, other: Any, own: Sequence[Predictions]) -> list[Predictions]:
    """The same prompts under interventions, in another model, or as another recording or array has them.

    Raises:
        InputError: it does not belong to these prompts.
    """
    if hasattr(other, "tokens") and hasattr(other, "sites"):
        found = predictions(other)
    elif _is_model(other):
        found = [_run(other, each.tokens, ()) for each in own]
    elif _is_intervention(other):
        model = getattr(data, "model", None)
        if model is None:
            raise InputError("An intervention needs the model it is in: give a Recording made with record(…).")
        found = [_run(model, each.tokens, other) for each in own]
    else:
        read = _checked(array_of(other, "compare"), "compare", own[0].tokens)
        found = [Predictions("other", own[0].tokens, read, own[0].texts)]
    if len(found) != len(own):
        raise InputError(f"{len(own)} prompts are compared with {len(found)}.")
    for mine, theirs in zip(own, found, strict=True):
        if mine.tokens.keys != theirs.tokens.keys:
            raise InputError("What is compared must be predictions for the same tokens; these prompts differ.")
        if mine.vocab != theirs.vocab:
            raise InputError(f"What is compared must have one vocabulary; here are {mine.vocab} and {theirs.vocab}.")
    return found


def _recorded(recording: Any, prompt: int) -> Predictions:
    tokens: Tokens = recording.tokens[prompt]
    if tokens.ids is None:
        raise InputError("This recording does not know the ids of its tokens. Make it with record(…).")
    if getattr(recording, "positions", None) is not None:
        raise InputError("This recording holds some positions only; record all of them: leave positions= out.")
    texts: Texts = recording.model.tokens if recording.model is not None else _reader(None)
    if "logits" in recording.sites:
        logits = recording["logits"][prompt, : len(tokens)]
        return Predictions(
            recording.name, tokens, lambda rows: np.asarray(array_of(logits[rows], "logits"), np.float32), texts
        )
    if recording.model is None:
        raise InputError(f"{recording!r} holds no logits and does not know its model. Record them: sites=['logits'].")
    model = recording.model
    if (model.n_layers - 1) in recording.layers and "resid_post" in recording.sites:
        return _unembedded(recording, prompt, recording.name)
    return _run(model, tokens, ())


def _run(model: Any, tokens: Tokens, interventions: Any) -> Predictions:
    """What the model says after each of these tokens, with interventions; only the last stream is kept."""
    from interpwidgets.intervene import run

    assert tokens.ids is not None
    name = repr(interventions) if _is_intervention(interventions) else model.name
    ids = tokens.ids.tolist()
    try:
        return _unembedded(run(model, [ids], interventions, sites=["resid_post"], layers=[-1]), 0, name)
    except InputError:  # its logits are not read from that stream alone
        logits = run(model, [ids], interventions, sites=["logits"])["logits"][0]
        return Predictions(name, tokens, lambda rows: np.asarray(array_of(logits[rows], "logits")), model.tokens)


def _unembedded(recording: Any, prompt: int, name: str) -> Predictions:
    """Logits read from the recorded stream after the last layer, when they are asked for."""
    from interpwidgets.intervene import logit_lens
    from interpwidgets.intervene.lens import unembed

    model, last = recording.model, recording.model.n_layers - 1
    stream = logit_lens(recording, layers=[last], prompt=prompt).streams[last][0]  # [pos, d_model]
    tokens = recording.tokens[prompt]

    def read(rows: slice) -> Floats:
        part = stream[: len(tokens)][rows]
        return np.asarray(array_of(unembed(model, part), "logits"), dtype=np.float32)

    return Predictions(name, tokens, read, model.tokens)


def is_run(other: Any) -> bool:
    """Whether it can be run on any prompt: a model, or interventions."""
    return _is_model(other) or _is_intervention(other)


def _is_model(given: Any) -> bool:
    return hasattr(given, "anatomy") and hasattr(given, "tokenizer")


def _is_intervention(given: Any) -> bool:
    each = given if isinstance(given, (list, tuple)) else [given]
    return bool(each) and all(hasattr(one, "site") and hasattr(one, "layer") for one in each)


def _by_id(tokens: Any, texts: Texts) -> Tokens:
    if isinstance(tokens, Tokens):
        if tokens.ids is None:
            raise InputError("These tokens have no ids, which say where each is in the vocabulary. Give tokens=ids.")
        return tokens
    given = tokens if hasattr(tokens, "shape") else list(tokens)
    if not hasattr(given, "shape") and any(isinstance(token, (str, bytes)) for token in given):
        raise InputError("tokens of logits are ids, which say where each is in the vocabulary; got strings.")
    return texts(numbers(given, "tokens", ["pos"]).astype(np.int64).tolist())


def _reader(decode: Any) -> Texts:
    """From ids to tokens, by a function, by a tokenizer, or by their numbers."""
    if decode is None:
        read: Callable[[list[int]], Any] = lambda ids: [f"#{token}" for token in ids]  # noqa: E731
    elif hasattr(decode, "decode"):
        read = lambda ids: [str(decode.decode([token])) for token in ids]  # noqa: E731
    elif callable(decode):
        read = decode
    else:
        raise InputError(f"decode is a tokenizer or a function from ids to strings; got {type(decode).__name__}.")
    return lambda ids: Tokens(tuple(read(list(ids))), np.array(ids, dtype=np.int64))


def _checked(array: NDArray[Any], what: str, tokens: Tokens) -> Callable[[slice], Floats]:
    """How to read logits [pos, vocab] of these tokens, checked as they are read; −∞ is a token that was ruled out."""
    if array.ndim != 2 or len(array) != len(tokens) or not array.shape[1]:
        shape = list(array.shape)
        raise InputError(f"{what} must be [pos, vocab] with pos = {len(tokens)}; got an array of shape {shape}.")

    def read(rows: slice) -> Floats:
        part = array[rows].astype(np.float32)
        bad = np.isnan(part) | np.isposinf(part)
        if bad.any():
            i, token = np.argwhere(bad)[0]
            raise InputError(
                f"{what} must be finite numbers; at pos {rows.start + i}, vocab {token} it is {part[i, token]}."
            )
        if (nothing := np.isneginf(part).all(axis=1)).any():
            raise InputError(f"{what} rule out every token at position {rows.start + int(nothing.argmax())}.")
        return part

    return read
