"""Exchange parts of a run of a small GPT-2 for those of another run, each row at places of its own.

This serves training, where a batch holds many different exchanges and gradients flow through what is not exchanged;
`interpwidgets.intervene` is for looking at a model. It reads the modules of a GPT-2 by name.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from interpwidgets.models.train.known.graph import Component, Prompt

__all__ = ["Exchange", "exchanged", "recorded"]


class Exchange:
    """For each row of a batch: from which row and position of a recorded run each position takes its values, and what.

    What no `put` names stays the row's own.
    """

    def __init__(self, prompts: Sequence[Prompt], sources: Sequence[Prompt], config: Any) -> None:
        rows, length = len(prompts), 1 + max(prompt.end for prompt in prompts)
        last = torch.tensor([source.end for source in sources])[:, None]
        self.position = torch.arange(length).expand(rows, -1).minimum(last).clone()  # [row, position]
        self.z = torch.zeros(config.n_layer, rows, length, config.n_head, dtype=torch.bool)
        self.mlp_out = torch.zeros(config.n_layer, rows, length, 1, dtype=torch.bool)
        self.lengths = [prompt.end + 1 for prompt in prompts]

    def put(self, row: int, component: Component, at: int | None = None, source: int | None = None) -> None:
        """Take a component's value at a position, or at all of them, from the source's position of that number."""
        site, layer, head = component
        mask, place = (self.z, head) if site == "z" else (self.mlp_out, 0)
        mask[layer, row, slice(self.lengths[row]) if at is None else at, place] = True
        if at is not None and source is not None:
            self.position[row, at] = source

    def keep(self, row: int, component: Component, at: int) -> None:
        """Leave a component as it is at a position."""
        site, layer, head = component
        mask, place = (self.z, head) if site == "z" else (self.mlp_out, 0)
        mask[layer, row, at, place] = False


@dataclass
class Recorded:
    """What heads [row, position, head · d_head] and MLPs [row, position, width] gave, by layer."""

    z: list[Tensor]
    mlp_out: list[Tensor]

    def detached(self) -> Recorded:
        """Give the same values without their gradients."""
        return Recorded([value.detach() for value in self.z], [value.detach() for value in self.mlp_out])


@contextmanager
def recorded(model: Any) -> Iterator[Recorded]:
    """Keep what the components give in the pass that is made inside the `with` block."""
    kept = Recorded([], [])

    def keep_z(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        kept.z.append(inputs[0])

    def keep_mlp(_module: Any, _inputs: Any, output: Tensor) -> None:
        kept.mlp_out.append(output)

    with ExitStack() as stack:
        for block in model.transformer.h:
            stack.callback(block.attn.c_proj.register_forward_pre_hook(keep_z).remove)
            stack.callback(block.mlp.register_forward_hook(keep_mlp).remove)
        yield kept


@contextmanager
def exchanged(model: Any, source: Recorded, rows: Tensor, exchange: Exchange) -> Iterator[None]:
    """Exchange in the pass inside the `with` block; row i takes from row `rows[i]` of what was recorded."""
    heads = model.config.n_head

    def taken(values: Tensor) -> Tensor:
        return values[rows[:, None], exchange.position]

    def put_z(layer: int) -> Any:
        def put(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            own, other = (x.view(*x.shape[:2], heads, -1) for x in (inputs[0], taken(source.z[layer])))
            return (torch.where(exchange.z[layer][..., None], other, own).flatten(-2),)

        return put

    def put_mlp(layer: int) -> Any:
        def put(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            return torch.where(exchange.mlp_out[layer], taken(source.mlp_out[layer]), output)

        return put

    with ExitStack() as stack:
        for layer, block in enumerate(model.transformer.h):
            if exchange.z[layer].any():
                stack.callback(block.attn.c_proj.register_forward_pre_hook(put_z(layer)).remove)
            if exchange.mlp_out[layer].any():
                stack.callback(block.mlp.register_forward_hook(put_mlp(layer)).remove)
        yield
