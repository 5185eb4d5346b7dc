"""Patching as one writes it by hand: a whole pass for every cell, with plain hooks of torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["SITES", "heard", "no_cache", "patched"]

Change = Callable[[Tensor], Tensor]

# Where a site is: the module's name inside a block ("" is the block), and whether its input or its output is meant.
SITES: dict[str, dict[str, tuple[str, str]]] = {
    "gpt2": {
        "resid_pre": ("", "in"), "attn_out": ("attn", "out"), "mlp_out": ("mlp", "out"), "resid_post": ("", "out"),
        "z": ("attn.c_proj", "in"),
    },
    "llama": {
        "resid_pre": ("", "in"), "attn_out": ("self_attn", "out"), "mlp_out": ("mlp", "out"),
        "resid_post": ("", "out"), "z": ("self_attn.o_proj", "in"),
    },
}  # fmt: skip


@contextmanager
def changed(module: nn.Module, side: str, change: Change) -> Iterator[None]:
    """Let a module get, or give, what `change` makes of its first tensor."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if side == "in"
        else module.register_forward_hook(after)
    )
    try:
        yield
    finally:
        handle.remove()


def no_cache(module: PreTrainedModel) -> dict[str, bool]:
    """What tells a model to keep nothing."""
    return {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}


def heard(module: PreTrainedModel, part: nn.Module, side: str, ids: Sequence[int]) -> Tensor:
    """What a module gets or gives on a prompt: [1, pos, d]."""
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.clone())
        return value

    with changed(part, side, keep), torch.no_grad():
        module(torch.tensor([ids]), **no_cache(module))
    return seen[0]


def patched(
    module: PreTrainedModel,
    part: nn.Module,
    side: str,
    ids: Sequence[int],
    value: Tensor,  # [1, pos, d]
    pos: int | None = None,
    head: tuple[int, int] | None = None,  # number, and of how many
) -> Tensor:
    """The logits [pos, vocabulary] of a prompt in which a module's values are others."""

    def put(given: Tensor) -> Tensor:
        new = given.clone()
        rows = slice(None) if pos is None else slice(pos, pos + 1)
        width = new.shape[-1] // (1 if head is None else head[1])
        columns = slice(None) if head is None else slice(head[0] * width, (head[0] + 1) * width)
        new[:, rows, columns] = value[:, rows, columns]
        return new

    with changed(part, side, put), torch.no_grad():
        logits: Tensor = module(torch.tensor([ids]), **no_cache(module)).logits[0]
    return logits
