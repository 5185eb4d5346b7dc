"""Intervene on the heads of a small GPT-2, to say what a card may claim about them.

Two interventions, each undone when its `with` block ends:

- `replaced_heads`: what a head adds to the residual stream is replaced by its mean over other prompts ("mean
  ablation"), or by nothing.
- `unread_heads`: their output is taken away from what the queries, or the keys, or the values, of a
  later layer read, and from nothing else: the path by which one head composes with another.

These serve the card alone; they read the modules of a GPT-2 by name.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

__all__ = ["Head", "mean_outputs", "replaced_heads", "unread_heads"]

Head = tuple[int, int]  # layer, head


@torch.no_grad()
def mean_outputs(model: Any, tokens: Tensor) -> Tensor:
    """Average what each head computes before the output matrix, [layer, head, d_head], over rows and positions."""
    heads = model.config.n_head
    kept: list[Tensor] = []

    def keep(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0][:, 1:].mean((0, 1)).view(heads, -1))  # <bos> is not like the rest

    with ExitStack() as stack:
        for block in model.transformer.h:
            stack.callback(block.attn.c_proj.register_forward_pre_hook(keep).remove)
        model(tokens)
    return torch.stack(kept)


@contextmanager
def replaced_heads(model: Any, heads: Sequence[Head], values: Tensor | None = None) -> Iterator[None]:
    """Replace the output of `heads` at every position by `values[layer, head]`, or by zero."""
    size = model.config.n_embd // model.config.n_head

    def replace_in(layer: int) -> Any:
        def replace(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            mixed = inputs[0].clone()  # [row, position, head · d_head]
            for _, head in (h for h in heads if h[0] == layer):
                mixed[..., head * size : (head + 1) * size] = 0.0 if values is None else values[layer, head]
            return (mixed,)

        return replace

    with ExitStack() as stack:
        for layer in {layer for layer, _ in heads}:
            module = model.transformer.h[layer].attn.c_proj
            stack.callback(module.register_forward_pre_hook(replace_in(layer)).remove)
        yield


@contextmanager
def unread_heads(
    model: Any, heads: Sequence[Head], reader: int, path: Literal["q", "k", "v"], values: Tensor | None = None
) -> Iterator[None]:
    """Let layer `reader` compute its q, k or v as if `heads` had given `values[layer, head]`, or nothing."""
    size, width = model.config.n_embd // model.config.n_head, model.config.n_embd
    part = slice("qkv".index(path) * width, ("qkv".index(path) + 1) * width)
    read = model.transformer.h[reader]
    written: dict[Head, Tensor] = {}  # [row, position, width], less what stands in for it
    residual: list[Tensor] = []

    def keep_written(layer: int) -> Any:
        def keep(module: Any, inputs: tuple[Tensor, ...]) -> None:
            for head in (number for at, number in heads if at == layer):
                own = slice(head * size, (head + 1) * size)
                instead = torch.zeros(size) if values is None else values[layer, head]
                written[layer, head] = (inputs[0][..., own] - instead) @ module.weight[own]

        return keep

    def keep_residual(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        residual[:] = inputs

    def read_without(module: Any, _inputs: Any, output: Tensor) -> Tensor:
        x = residual[0] - torch.stack(list(written.values())).sum(0)
        x = F.layer_norm(x, (width,), read.ln_1.weight, read.ln_1.bias, read.ln_1.eps)
        changed = output.clone()
        changed[..., part] = x @ module.weight[:, part] + module.bias[part]
        return changed

    with ExitStack() as stack:
        for layer in {layer for layer, _ in heads}:
            module = model.transformer.h[layer].attn.c_proj
            stack.callback(module.register_forward_pre_hook(keep_written(layer)).remove)
        stack.callback(read.ln_1.register_forward_pre_hook(keep_residual).remove)
        stack.callback(read.attn.c_attn.register_forward_hook(read_without).remove)
        yield
