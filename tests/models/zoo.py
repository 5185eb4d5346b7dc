"""A tiny random model of every architecture that transformers can build from a config."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

__all__ = ["SEQ2SEQ", "CannotBuild", "build", "families"]

VOCABULARY = 100

# What the small sizes are called; a config takes those that it knows.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_size", "dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 3),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), 4),
    "decoder_attention_heads": 4, "word_embed_proj_dim": 32, "num_key_value_heads": 2, "head_dim": 8,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_inner", "decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    "sliding_window": 16, "rotary_dim": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    # mixtures of experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    # latent attention
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8,
    # state spaces and linear attention
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "n_groups": 1,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_d_ssm": 64,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    # further tables
    "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 100, "hidden_size_per_layer_input": 8,
    **dict.fromkeys(("entity_vocab_size", "pronunciation_vocab_size", "shape_vocab_size"), 20),
    "audio_vocab_size": 50, "encoder_hash_byte_group_vocab": 50,
}  # fmt: skip

# What some need besides, for sizes that fit each other.
EXTRA: dict[str, dict[str, Any]] = {
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "esmc": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]]},
    "mamba2": {"num_heads": 8},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "gemma4_unified_assistant": {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 3},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["hybrid", "mamba", "hybrid", "mamba"]},
    "zamba2": {"layers_block_type": ["hybrid", "mamba", "hybrid"]},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "neomme": {"head_dim": 16},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local"] * 3,
        "axial_pos_embds_dim": (16, 16),
        "axial_pos_shape": (8, 8),
    },
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"default_language": "en_XX"},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
}


class CannotBuild(Exception):  # noqa: N818 - it says what is the case
    """Why there is no tiny model of a family."""


_CAUSAL = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
_MASKED = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
SEQ2SEQ = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES  # an encoder and a decoder
_LARGEST = 8_000_000  # weights; a family with more has sizes that are not among ours


@cache
def families() -> tuple[str, ...]:
    """Every architecture with a causal or a masked language model."""
    return tuple(sorted({*_CAUSAL, *_MASKED}))


def build(name: str, head: Any = None, **options: Any) -> PreTrainedModel:
    """The family's model, its causal one where it has both, always with the same weights."""
    head = head or _CAUSAL.get(name) or _MASKED[name]
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cls = getattr(transformers, head) if isinstance(head, str) else head
            config = cls.config_class(**_known(cls.config_class(), SIZES | EXTRA.get(name, {}) | options))
            with torch.device("meta"):
                weights = sum(weight.numel() for weight in cls(config).parameters())
            if weights > _LARGEST:
                raise CannotBuild(f"{weights:,} weights, with the sizes that we know how to set")
            module: PreTrainedModel = cls(config)
    except Exception as error:  # whatever a config or a model objects to
        if isinstance(error, CannotBuild):
            raise
        raise CannotBuild(f"{type(error).__name__}: {' '.join(str(error).split()).partition('. ')[0]}") from error
    _fill(module)
    return module.eval()


def _known(config: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The sizes that a config knows, those of the configs inside it included."""
    fields = getattr(type(config), "__dataclass_fields__", {})
    sizes = {name: size for name, size in wanted.items() if name in fields or name in config.attribute_map}
    inner = {
        name: {"model_type": below.model_type, **_known(below, wanted)}
        for name in config.sub_configs
        if (below := getattr(config, name, None)) is not None
    }
    if "kv_lora_rank" in fields:  # latent attention has as many keys as queries
        sizes["num_key_value_heads"] = 4
    return {**inner, **sizes}


@torch.no_grad()
def _fill(module: PreTrainedModel) -> None:
    """Random weights, large enough that no branch is negligible and no norm the identity."""
    generator = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        noise = torch.randn(weight.shape, generator=generator) * 0.2
        weight.copy_(weight + noise if weight.ndim < 2 else noise)
    for name, buffer in module.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.fill_(0.9)
