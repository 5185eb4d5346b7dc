"""Small random models, and plain hooks that read and change one value of one prompt: what methods are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

VOCABULARY, LAYERS, HEADS = 31, 3, 4
Change = Callable[[Tensor], Tensor]


def build(family: str) -> Any:
    torch.manual_seed(3)
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    size = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_size": 16, "vocab_size": VOCABULARY}
    if family == "gpt2":
        module: Any = GPT2LMHeadModel(GPT2Config(n_positions=32, **size, **none))
    elif family == "llama":
        module = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, intermediate_size=24, **size, **none))
    elif family == "mistral":
        sliding = {"num_key_value_heads": 2, "intermediate_size": 24, "sliding_window": 4}
        module = MistralForCausalLM(MistralConfig(**sliding, **size, **none))
    else:
        mixed = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
        heads = {"num_key_value_heads": 2, "intermediate_size": 24, "head_dim": 4}
        module = Gemma3ForCausalLM(Gemma3TextConfig(**mixed, **heads, **size, **none))
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and "emb" not in name:
                weight.mul_(6.0)
    return module.double().eval()


class Naive:
    """A model of which single values can be read and replaced: one prompt, plain hooks."""

    def __init__(self, module: Any, family: str) -> None:
        self.module, self.gpt2 = module, family == "gpt2"
        self.blocks = module.transformer.h if self.gpt2 else module.model.layers

    def spot(self, site: str, layer: int) -> tuple[Any, bool, slice, int]:
        """The module where a site is seen, whether in its input, in which columns, of how many heads."""
        block = self.blocks[layer]
        attention = block.attn if self.gpt2 else block.self_attn
        every = slice(None)
        if site == "z":
            return (attention.c_proj if self.gpt2 else attention.o_proj), True, every, HEADS
        if site in ("q", "k", "v"):
            if not self.gpt2:
                return getattr(attention, f"{site}_proj"), False, every, HEADS if site == "q" else 2
            start = 16 * "qkv".index(site)
            return attention.c_attn, False, slice(start, start + 16), HEADS
        if site == "mlp_pre":
            return (block.mlp.act if self.gpt2 else block.mlp.act_fn), True, every, 1
        if site == "embed":
            return (self.module.transformer.wte if self.gpt2 else self.module.model.embed_tokens), False, every, 1
        return {
            "mlp_out": (block.mlp, False, every, 1),
            "attn_out": (attention, False, every, 1),
            "resid_pre": (block, True, every, 1),
            "resid_post": (block, False, every, 1),
        }[site]

    def run(self, ids: Sequence[int], changes: Sequence[tuple[str, int, Change]] = (), read: Any = ()) -> Any:
        """Logits [pos, vocabulary] and what was read, [pos, head, d], after the changes, which come in order."""
        seen: dict[tuple[str, int], Tensor] = {}
        with ExitStack() as undo, torch.no_grad():
            for site, layer, change in [*changes, *((site, layer, None) for site, layer in read)]:
                place, before, columns, heads = self.spot(site, layer)

                def act(value: Tensor, key=(site, layer), change=change, columns=columns, heads=heads) -> Tensor:
                    parted = value[0][:, columns].unflatten(-1, (heads, -1))
                    if change is None:
                        seen[key] = parted.clone()
                        return value
                    value = value.clone()
                    value[0][:, columns] = change(parted.clone()).flatten(-2)
                    return value

                def pre(_: Any, args: Any, act=act) -> Any:
                    return (act(args[0]), *args[1:])

                def post(_: Any, __: Any, out: Any, act=act) -> Any:
                    return (act(out[0]), *out[1:]) if isinstance(out, tuple) else act(out)

                hook = place.register_forward_pre_hook(pre) if before else place.register_forward_hook(post)
                undo.callback(hook.remove)
            logits = self.module(torch.tensor([ids]), use_cache=False).logits[0]
        return logits, seen


def put(value: Tensor, head: Any = None, pos: Any = None) -> Change:
    """Replace some heads and positions."""

    def change(x: Tensor) -> Tensor:
        rows = slice(None) if pos is None else pos
        columns = slice(None) if head is None else head
        x[rows, columns] = value[rows, columns]
        return x

    return change
