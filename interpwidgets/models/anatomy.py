"""The parts of a transformer that a recording needs, found by their structure rather than by a table of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from interpwidgets.errors import InputError
from interpwidgets.models.calls import by_heads, is_norm, matrix
from interpwidgets.models.dissect import dissect, unknown
from interpwidgets.models.hold import turn
from interpwidgets.models.parts import Block, Verified, Write, runs
from interpwidgets.models.probe import Trace, probe
from interpwidgets.models.sums import same

__all__ = ["Anatomy", "Block", "Write"]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where a model keeps its blocks, how it is entered, and what the blocks are made of.

    The parts of the blocks are found when they are first asked for, by one forward pass over nine tokens; each is
    held to its equation, `errors` of a `Block` say how well.
    """

    module: PreTrainedModel
    base: nn.Module  # the model without its head: token ids in, residual stream out
    blocks: tuple[nn.Module, ...]
    embed: nn.Embedding
    unembed: nn.Module | None
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
        reading = _text_modules(module, (module.config, config))
        lists = [part for part in reading if isinstance(part, nn.ModuleList) and len(part) == depth]
        if not lists:
            blocks = f"{depth} blocks" if depth else "blocks"
            raise InputError(f"{name} has no list of its {blocks}, so they cannot be told apart.")
        return cls(
            module=module,
            base=module.base_model,
            blocks=tuple(lists[0]),  # the outermost comes first
            embed=embed,
            unembed=_unembed(module),
            context=_context(module, embed, getattr(config, "max_position_embeddings", None)),
        )

    @property
    def has_head(self) -> bool:
        """Whether there are logits."""
        return self.unembed is not None

    @property
    def parts(self) -> tuple[Block, ...]:
        """What each block is made of."""
        return self._probed[0]

    @property
    def ln_final(self) -> nn.Module | None:
        """The norm between the last block and the unembedding."""
        return self._probed[1]

    def w_o(self, layer: int) -> Tensor:
        """A layer's output matrices: [head, d_head, d_model]."""
        block = self.parts[layer]
        if block.z is None or block.heads is None:
            raise InputError(f"Layer {layer} of {type(self.module).__name__} has no W_O. {block.why.get('z', '')}")
        return by_heads(matrix(block.z), block.heads)

    def w_out(self, layer: int) -> Tensor:
        """The last matrix of a layer's MLP: [d_mlp, d_model]."""
        block = self.parts[layer]
        if block.down is None:
            raise InputError(
                f"Layer {layer} of {type(self.module).__name__} has no W_out. {block.why.get('mlp_post', '')}"
            )
        return matrix(block.down)

    @property
    def verified(self) -> Verified:
        """Which equations held: resid_mid and resid_post are what was added up, z · W_O and mlp_post · W_out too."""
        return Verified.of(self.parts)

    def __repr__(self) -> str:
        described: dict[str, list[int]] = {}
        for layer, block in enumerate(self.parts):
            described.setdefault(_describe(block), []).append(layer)
        lines = [f"Anatomy of {type(self.module).__name__}, found by a pass over nine tokens"]
        for text, layers in described.items():
            lines.append(
                f"layers {runs(layers)}: {text}" if len(described) > 1 else f"all {len(layers)} layers: {text}"
            )
        held = [f"{site} {error:.0e}" for site, (_, error) in self.verified.equations.items()]
        lines.append(f"it adds up, largest relative errors: {', '.join(held)}" if held else "nothing was verified")
        return "\n".join(lines)

    @property
    def _probed(self) -> tuple[tuple[Block, ...], nn.Module | None]:
        with turn(self.base):  # whoever comes second finds it done
            return self._probe

    @cached_property
    def _probe(self) -> tuple[tuple[Block, ...], nn.Module | None]:
        trace = probe(self.module, self.base, self.blocks, self.embed.num_embeddings)
        heads = getattr(self.module.config.get_text_config(decoder=True), "num_attention_heads", None)
        return tuple(_block(block, trace, heads) for block in self.blocks), _last_norm(trace)


def _describe(block: Block) -> str:
    """A block in a line."""
    if block.kind == "unknown":
        return next(iter(block.why.values()), "unknown")
    names = {id(part): name for name, part in block.module.named_modules()}
    said: list[str] = [block.kind]
    if block.attention is not None:
        kv = f" ({block.kv_heads} of keys and values)" if block.kv_heads not in (None, block.heads) else ""
        said.append(f"{block.heads} heads{kv}" if block.heads else "attention without heads")
    writes = (("attn_out", block.attn_out), *(("mixer", write) for write in block.mixers), ("mlp_out", block.mlp_out))
    for label, write in writes:
        if write is not None:
            scale = "" if write.scale == 1 else f"{write.scale:g} × "
            said.append(f"{label} {scale}{names[id(write.module)]}")
    norms = (("ln1", block.ln1), ("ln2", block.ln2), ("norm at resid_mid", block.mid))
    said.extend(f"{label} {names[id(norm)]}" for label, norm in norms if norm is not None)
    return ", ".join(said)


def _text_modules(module: nn.Module, configs: tuple[Any, ...]) -> Iterator[nn.Module]:
    """The modules from the outside in, but for models inside the model that read something else, such as images."""
    yield module
    for child in module.children():
        if not isinstance(child, PreTrainedModel) or any(child.config is config for config in configs):
            yield from _text_modules(child, configs)


def _block(block: nn.Module, trace: Trace, heads: Any) -> Block:
    runs = [run for run in trace.blocks if run.module is block]
    if len(runs) != 1:
        reason = f"The block runs {len(runs)} times in a pass." if runs else "The block does not run."
        return unknown(block, reason, "resid_pre", "resid_post")
    later = trace.blocks[trace.blocks.index(runs[0]) + 1 :]
    if later and not same(later[0].pre, runs[0].post):
        return unknown(block, "The next block is given something else than what this one returns.", "resid_post")
    return dissect(runs[0], heads if isinstance(heads, int) else None)


def _last_norm(trace: Trace) -> nn.Module | None:
    post = trace.blocks[-1].post if trace.blocks else None
    return next((call.module for call in trace.after if is_norm(call) and same(call.given, post)), None)


def _unembed(module: Any) -> nn.Module | None:
    found = module.get_output_embeddings()
    return found if isinstance(found, nn.Module) else None


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
