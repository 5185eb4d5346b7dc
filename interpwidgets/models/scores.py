"""Score the heads of a model for what they attend to, and the model for what it copies: pure functions of tensors.

A score per head reads its attention pattern [layer, head, query, key] beside the token ids [position]; any leading
dimensions do. `attention_patterns` and `head_scores` get patterns from a transformers model.
The definitions are those of Olsson et al. 2022, "In-context learning and induction heads".
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "attention_patterns",
    "copy_accuracy",
    "current_token_score",
    "duplicate_token_score",
    "head_scores",
    "in_context_score",
    "prefix_matching_score",
    "previous_token_score",
    "repeated_tokens",
    "token_losses",
]


def repeated_tokens(vocabulary: Sequence[int], rows: int, length: int, seed: int, bos: int | None = None) -> Tensor:
    """Draw prompts [row, position] of `length` random tokens said twice, after `bos` if there is one."""
    rng = Random(f"repeated tokens {seed}")  # noqa: S311  a test sample, not a secret
    start = [] if bos is None else [bos]
    firsts = [rng.choices(vocabulary, k=length) for _ in range(rows)]
    return torch.tensor([start + first + first for first in firsts])


def token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Give the loss in nats of each token but the first, [row, position], from logits [row, position, token]."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2).float(), tokens[:, 1:], reduction="none")


def copy_accuracy(logits: Tensor, tokens: Tensor, length: int) -> Tensor:
    """Give the share [row] of the last `length - 1` tokens that the model predicts best: the second copy.

    The first token of the copy is left out, for nothing tells that the copy begins.
    """
    if tokens.shape[1] < 2 * length or length < 2:
        raise InputError(
            f"{tokens.shape[1]} tokens do not hold two copies of {length}: use the `length` of repeated_tokens()."
        )
    right = logits[:, :-1].argmax(-1) == tokens[:, 1:]
    return right[:, 1 - length :].float().mean(-1)


def current_token_score(pattern: Tensor) -> Tensor:
    """Say how much of its attention a head gives to the token it stands on, [..., head] from [..., head, query, key].

    The first query is left out: it has nothing else to attend to.
    """
    _check(pattern)
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 1:].mean(-1)


def previous_token_score(pattern: Tensor) -> Tensor:
    """Say how much of its attention a head gives to the token just before, [..., head] from [..., head, query, key]."""
    _check(pattern)
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)


def prefix_matching_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Say how much attention a head gives to what followed this token before: the mark of an induction head.

    Averaged over the queries whose token has been seen before.
    """
    seen = _same_token_before(pattern, tokens)
    after = torch.zeros_like(seen)
    after[..., 1:] = seen[..., :-1]  # a key counts if the token before it matches the query
    return _attention_to(pattern, after, seen.any(-1))


def duplicate_token_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Say how much attention a head gives to earlier places of the same token, over the queries that have one."""
    seen = _same_token_before(pattern, tokens)
    return _attention_to(pattern, seen, seen.any(-1))


def in_context_score(losses: Tensor, early: slice, late: slice) -> Tensor:
    """Say how much better a model predicts late in a prompt than early, [row] in nats: negative is better.

    `losses` is what `token_losses` gives; its index 0 is the token at position 1.
    """
    return losses[:, late].mean(-1) - losses[:, early].mean(-1)


@torch.no_grad()
def attention_patterns(model: Any, tokens: Tensor) -> Tensor:
    """Run a transformers model on tokens [row, position]; give its patterns [row, layer, head, query, key]."""
    chosen = model.config._attn_implementation  # noqa: SLF001  transformers has a setter for it and no getter
    model.set_attn_implementation("eager")  # the fused kernels keep no pattern
    try:
        attentions = model(tokens, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(chosen)
    return torch.stack(tuple(attentions), dim=1)


def head_scores(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Give every head's scores [layer, head], averaged over the prompts [row, position]."""
    patterns = attention_patterns(model, tokens)
    rows = list(zip(patterns, tokens, strict=True))
    return {
        "previous_token": previous_token_score(patterns).mean(0),
        "prefix_matching": torch.stack([prefix_matching_score(*row) for row in rows]).mean(0),
        "current_token": current_token_score(patterns).mean(0),
        "duplicate_token": torch.stack([duplicate_token_score(*row) for row in rows]).mean(0),
    }


def _check(pattern: Tensor) -> None:
    if pattern.ndim < 2 or pattern.shape[-1] != pattern.shape[-2]:
        raise InputError(
            f"a pattern of shape {tuple(pattern.shape)} has not as many queries as keys: give the pattern of a whole "
            "prompt, [..., head, query, key]."
        )


def _same_token_before(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Mark [query, key] where the key comes earlier and is the same token."""
    _check(pattern)
    if tokens.shape != pattern.shape[-1:]:
        raise InputError(
            f"token ids of shape {tuple(tokens.shape)} do not name the {pattern.shape[-1]} positions of the pattern: "
            "give one id for each position of one prompt."
        )
    return (tokens[:, None] == tokens[None, :]).tril(-1)


def _attention_to(pattern: Tensor, keys: Tensor, queries: Tensor) -> Tensor:
    if not queries.any():
        raise InputError("no token of this prompt occurs twice: score it on repeated_tokens().")
    return (pattern * keys).sum(-1)[..., queries].mean(-1)
