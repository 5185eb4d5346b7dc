"""Build small untrained GPT-2s, and their positions as waves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GELU", "new_gpt2", "waves"]

GELU = "gelu_pytorch_tanh"
"""GPT-2's own activation function, computed in one step."""


def new_gpt2(seed: int, **settings: Any) -> Any:
    """Build an untrained GPT-2 without dropout; nothing but the seed decides its weights.

    `settings` are those of `GPT2Config`. The random state is left as it was.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    common: dict[str, Any] = {
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "eos_token_id": None,
        "dtype": "float32",  # files may hold float16, which is for storing: transformers computes in this type
        "architectures": ["GPT2LMHeadModel"],
    }
    config = GPT2Config(**(common | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = GPT2LMHeadModel(config)
    return model


def waves(positions: int, width: int) -> Tensor:
    """Sines and cosines of many periods [position, width]: neighbours start out alike, so shifts are easy to learn.

    No period is much longer than the context: the usual ones, up to 60,000, leave half of the width nearly constant.
    """
    place = torch.arange(positions)[:, None]
    rate = torch.exp(-math.log(100) * torch.arange(0, width, 2) / width)
    return torch.cat([torch.sin(place * rate), torch.cos(place * rate)], dim=1)
