"""The parts of a transformer that a recording needs, found by their structure rather than by a table of names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from interpwidgets.errors import InputError

__all__ = ["Anatomy"]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where a model keeps its blocks, and how it is entered."""

    base: nn.Module  # the model without its head: token ids in, residual stream out
    blocks: tuple[nn.Module, ...]
    block_path: str  # "transformer.h", for messages
    embed: nn.Embedding
    has_head: bool  # whether there are logits
    context: int | None  # how many positions the model has embeddings for; None if positions are computed

    @classmethod
    def of(cls, module: PreTrainedModel) -> Anatomy:
        """Find the parts, or say which one is missing."""
        name = type(module).__name__
        config = module.config.get_text_config(decoder=True)
        if module.config.is_encoder_decoder:
            raise InputError(f"{name} has an encoder and a decoder; models of one stack of blocks are supported so far.")
        embed = module.get_input_embeddings()
        if not isinstance(embed, nn.Embedding):
            raise InputError(f"{name} has no token embedding, so it cannot be given a prompt of tokens.")
        depth = getattr(config, "num_hidden_layers", None)
        stacks = {
            path: tuple(part)
            for path, part in module.named_modules()
            if isinstance(part, nn.ModuleList) and len(part) == depth and all(len(list(block.parameters())) for block in part)
        }
        if not stacks:
            raise InputError(f"{name} keeps its {depth} blocks in no list of that length, so they cannot be told apart.")
        path, blocks = next(iter(stacks.items()))  # the outermost comes first
        base = module.base_model
        return cls(
            base=base,
            blocks=blocks,
            block_path=path,
            embed=embed,
            has_head=module.get_output_embeddings() is not None,
            context=_context(module, embed, getattr(config, "max_position_embeddings", None)),
        )


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
