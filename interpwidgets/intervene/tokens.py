"""Tokens that a user named, as ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.model import Model
from interpwidgets.models.texts import token_texts
from interpwidgets.tokens import show

__all__ = ["read_tokens", "spell"]

_SPELT = 3  # how many of a list's tokens a name holds


def spell(given: Any) -> str:
    """What was given, in few visible characters: `␣Mary`, `#17`, `␣Mary/␣John/…`."""
    tokens = list(dict.fromkeys(_each(given)))
    shown = [show(token) if isinstance(token, str) else f"#{token}" for token in tokens[:_SPELT]]
    return "/".join(shown + ["…"] * (len(tokens) > _SPELT))


def read_tokens(model: Model, given: Any, prompts: int) -> Tensor:
    """One id a prompt, [prompt], from a string, an id, or a sequence of them."""
    tokens = _each(given)
    if _is_one(given):
        tokens = tokens * prompts
    if len(tokens) != prompts:
        raise InputError(
            f"{spell(given)} are {len(tokens)} tokens for {prompts} prompts. Give one for all, or one per prompt."
        )
    ids = {token: _id(model, token) for token in dict.fromkeys(tokens)}
    return torch.tensor([ids[token] for token in tokens])


def _is_one(given: Any) -> bool:
    return isinstance(given, (str, int, np.integer)) or getattr(given, "shape", None) == ()


def _each(given: Any) -> list[str | int]:
    """What was given as a list of strings and ids."""
    if isinstance(given, (np.ndarray, Tensor)):
        given = given.tolist()
    tokens = [given] if _is_one(given) else list(given) if isinstance(given, Sequence) else None
    if not tokens or any(isinstance(token, bool) or not isinstance(token, (str, int, np.integer)) for token in tokens):
        raise InputError(f"A token is a string or an id, or a list with one per prompt; got {given!r:.80}.")
    return [token if isinstance(token, str) else int(token) for token in tokens]


def _id(model: Model, token: str | int) -> int:
    if isinstance(token, int):
        vocabulary = model.anatomy.embed.num_embeddings
        if not 0 <= token < vocabulary:
            raise InputError(f"There is no token {token}; {model.name} knows the ids 0 to {vocabulary - 1}.")
        return token
    if model.tokenizer is None:
        raise InputError(f"{model!r} has no tokenizer, so it cannot read {token!r}. Give a token id, or a tokenizer.")
    ids = _split(model, token)
    if _is_single(model, token, ids):
        return ids[0]
    bare = token.strip()
    variants = [text for text in dict.fromkeys((bare, f" {bare}")) if text and text != token]
    singles = [repr(text) for text in variants if _is_single(model, text, _split(model, text))]
    hint = f"One token would be {' or '.join(singles)}." if singles else "Take another word, or the first token's id."
    if len(ids) == 1:
        raise InputError(f"{token!r} is unknown to the tokenizer of {model.name}. {hint}")
    pieces = " ".join(token_texts(model.tokenizer, ids)) or "none"
    raise InputError(f"{token!r} is {len(ids)} tokens to {model.name}: {pieces}. A metric reads one. {hint}")


def _split(model: Model, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _is_single(model: Model, text: str, ids: list[int]) -> bool:
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    return len(ids) == 1 and (ids[0] != unknown or text == getattr(model.tokenizer, "unk_token", None))
