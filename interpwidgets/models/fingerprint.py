"""What weights are, in sixteen letters: two models of one name, or one model before and after training, differ."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["fingerprint"]


def fingerprint(weights: Mapping[str, Tensor], how: Any = None) -> str:
    """Hash tensors by name, shape, dtype and content, with anything that JSON holds (SHA-256, cut to 64 bits)."""
    digest = hashlib.sha256(json.dumps(how).encode())
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {list(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
