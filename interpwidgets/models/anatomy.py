"""The parts of a transformer that a recording needs, found by their structure rather than by a table of names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from interpwidgets.errors import InputError

__all__ = ["Anatomy"]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where a model keeps its blocks, and how it is entered."""

    base: nn.Module  # the model without its head: token ids in, residual stream out
    blocks: tuple[nn.Module, ...]
    embed: nn.Embedding
    has_head: bool  # whether there are logits
    context: int | None  # how many positions the model has embeddings for; None if positions are computed

    @classmethod
    def of(cls, module: PreTrainedModel) -> Anatomy:
        """Find the parts, or say which one is missing."""
        name = type(module).__name__
        config = module.config.get_text_config(decoder=True)
        if module.config.is_encoder_decoder:
            raise InputError(f"{name} has an encoder and a decoder; only models of one stack are supported so far.")
        embed = module.get_input_embeddings()
        if not isinstance(embed, nn.Embedding):
            raise InputError(f"{name} has no token embedding, so it cannot be given a prompt of tokens.")
        depth = getattr(config, "num_hidden_layers", None)
        lists = [part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
        if not lists:
            raise InputError(f"{name} has no list of its {depth} blocks, so they cannot be told apart.")
        return cls(
            base=module.base_model,
            blocks=tuple(lists[0]),  # the outermost comes first
            embed=embed,
            has_head=_has_head(module),
            context=_context(module, embed, getattr(config, "max_position_embeddings", None)),
        )


def _has_head(module: Any) -> bool:
    return module.get_output_embeddings() is not None


def _context(module: nn.Module, embed: nn.Embedding, positions: int | None) -> int | None:
    """How many positions fit a learned position embedding, told by its size; None where there is no such table.

    RoBERTa-type models number positions from after the padding index, and OPT's table has two rows to spare.
    """
    if positions is None:
        return None
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part is not embed and 0 <= part.num_embeddings - positions <= 2:
            reserved = 0 if part.padding_idx is None else part.padding_idx + 1
            return int(min(positions, part.num_embeddings - reserved))
    return None
