"""Prompts of every kind, as one batch of token ids.

Whatever side a prompt was padded on, here its first token stands at position 0 and padding comes after the last:
positions then mean the same to every model, and no model has to be told about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.model import Model
from interpwidgets.models.texts import token_texts
from interpwidgets.tokens import Tokens

__all__ = ["Batch", "Prompts", "read_prompts"]

Prompts = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | NDArray[Any] | Tensor | Mapping[str, Any]
Ids = NDArray[np.int64]

_KNOWN = {"input_ids", "attention_mask", "token_type_ids"}


@dataclass(frozen=True, eq=False)
class Batch:
    """Token ids padded on the right, and what else the model is called with."""

    tokens: list[Tokens]  # one per prompt, without padding
    inputs: dict[str, Tensor]  # input_ids and attention_mask, [batch, pos]

    @property
    def lengths(self) -> list[int]:
        """How many tokens each prompt has."""
        return [len(tokens) for tokens in self.tokens]

    def split(self, size: int | None) -> Iterator[Batch]:
        """Batches of at most so many prompts, each as long as its longest."""
        if size is None or size >= len(self.tokens):
            yield self
            return
        if size < 1:
            raise InputError(f"batch_size is 1 or more; got {size}.")
        for first in range(0, len(self.tokens), size):
            tokens = self.tokens[first : first + size]
            longest = max(map(len, tokens))
            inputs = {name: rows[first : first + size, :longest] for name, rows in self.inputs.items()}
            if min(map(len, tokens)) == longest:
                inputs.pop("attention_mask", None)
            yield Batch(tokens, inputs)


def read_prompts(model: Model, prompts: Prompts) -> Batch:
    """The prompts as one batch on the model's device, after checking that the model can read them."""
    columns = _columns(model, prompts)
    for prompt, ids in enumerate(columns["input_ids"]):
        _check(model, prompt, ids)
    lengths = [len(ids) for ids in columns["input_ids"]]
    inputs = {name: _pad(rows, max(lengths)) for name, rows in columns.items()}
    if min(lengths) < max(lengths):
        inputs["attention_mask"] = _pad([np.ones(length, dtype=np.int64) for length in lengths], max(lengths))
    return Batch(
        tokens=[token_texts(model.tokenizer, ids) for ids in columns["input_ids"]],
        inputs={name: rows.to(model.device) for name, rows in inputs.items()},
    )


def _columns(model: Model, prompts: Prompts) -> dict[str, list[Ids]]:
    """What the model is called with, by name: one row of integers per prompt, without padding."""
    if isinstance(prompts, Mapping):
        return _unpad(prompts)
    if isinstance(prompts, str):
        prompts = [prompts]
    if isinstance(prompts, (Tensor, np.ndarray)):
        return {"input_ids": _rows(prompts, "prompts")}
    if not isinstance(prompts, Sequence):
        raise InputError(f"Prompts are text, token ids, or a tokenizer's output; got {type(prompts).__name__}.")
    if len(prompts) == 0:
        raise InputError("There is no prompt: the list is empty.")
    if all(isinstance(prompt, str) for prompt in prompts):
        return {"input_ids": [_encode(model, number, str(text)) for number, text in enumerate(prompts)]}
    if all(isinstance(token, (int, np.integer)) for token in prompts):
        return {"input_ids": [_row(prompts, "prompt 0")]}
    return {"input_ids": [_row(ids, f"prompt {number}") for number, ids in enumerate(prompts)]}


def _encode(model: Model, number: int, text: str) -> Ids:
    if model.tokenizer is None:
        raise InputError(f"{model!r} has no tokenizer, so it cannot read {text!r}. Give token ids, or a tokenizer.")
    if not text:
        raise InputError(f"Prompt {number} is empty; a model needs at least one token.")
    return _row(model.tokenizer(text)["input_ids"], f"prompt {number}")


def _unpad(given: Mapping[str, Any]) -> dict[str, list[Ids]]:
    """The rows of a tokenizer's output, without the positions that its attention mask leaves out."""
    if unknown := sorted(set(given) - _KNOWN):
        raise InputError(f"A batch of token ids has {sorted(_KNOWN)}; got {unknown} too. Leave them out.")
    if "input_ids" not in given:
        raise InputError(f"A batch of token ids needs 'input_ids'; got {sorted(given)}.")
    columns = {name: _rows(given[name], name) for name in given}
    for name, rows in columns.items():
        if (sizes := [len(row) for row in rows]) != (wanted := [len(row) for row in columns["input_ids"]]):
            raise InputError(f"'{name}' has rows of {sizes} positions, 'input_ids' of {wanted}; they belong together.")
    if "attention_mask" not in columns:
        return columns
    real = [mask != 0 for mask in columns.pop("attention_mask")]
    for prompt, mask in enumerate(real):
        if mask.any() and not mask[mask.argmax() : len(mask) - mask[::-1].argmax()].all():
            raise InputError(f"The attention mask of prompt {prompt} has a gap; padding goes before or after a prompt.")
    return {name: [row[mask] for row, mask in zip(rows, real, strict=True)] for name, rows in columns.items()}


def _rows(given: Any, name: str) -> list[Ids]:
    """Rows of integers from a 1-D or 2-D array, or a list of lists."""
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray):
        if given.ndim not in (1, 2) or given.size == 0:
            raise InputError(f"{name} as an array is [batch, position], with a token or more; got shape {given.shape}.")
        given = np.atleast_2d(given)
    elif given and all(isinstance(token, (int, np.integer)) for token in given):
        given = [given]
    return [_row(row, name) for row in given]


def _row(ids: Any, name: str) -> Ids:
    try:
        row = np.asarray(ids.detach().cpu() if isinstance(ids, Tensor) else ids)
    except (TypeError, ValueError):
        row = np.array(None)
    if row.size == 0 and row.ndim == 1:
        raise InputError(f"{name} is empty; a model needs at least one token.")
    if row.ndim != 1 or row.dtype.kind not in "biu":
        raise InputError(f"{name} must be text or a list of token ids, all prompts of one kind; got {ids!r:.80}.")
    return row.astype(np.int64)


def _check(model: Model, prompt: int, ids: Ids) -> None:
    if ids.size == 0:
        raise InputError(f"Prompt {prompt} is empty; a model needs at least one token.")
    if model.context is not None and len(ids) > model.context:
        raise InputError(
            f"Prompt {prompt} has {len(ids)} tokens, and {model.name} has positions for {model.context}. Shorten it."
        )
    vocabulary = model.anatomy.embed.num_embeddings
    if ids.min() < 0 or ids.max() >= vocabulary:
        wrong = int(ids[(ids < 0) | (ids >= vocabulary)][0])
        raise InputError(f"Prompt {prompt} has the token id {wrong}; {model.name} knows the ids 0 to {vocabulary - 1}.")


def _pad(rows: Sequence[Ids], size: int) -> Tensor:
    """Rows as one array [batch, pos]. Which id fills it does not matter: no real token looks at padding."""
    padded = np.zeros((len(rows), size), dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)
