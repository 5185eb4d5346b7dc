"""What a block is made of: the modules behind the sites, and how well that was verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

__all__ = ["Block", "Kind", "Write"]

Kind = Literal["sequential", "parallel", "post-norm", "unknown"]


@dataclass(frozen=True, eq=False)
class Write:
    """The residual stream gets `scale` × the output of `module`; of a tuple, its first element."""

    module: nn.Module
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Block:
    """One block. A part that is None was not found, or did not pass its check; `why` says which.

    - sequential: resid_mid = resid_pre + attn_out + mixers, resid_post = resid_mid + mlp_out
    - parallel: resid_post = resid_pre + attn_out + mixers + mlp_out
    - post-norm: resid_mid = mid(resid_pre + attn_out), resid_post = norm(resid_mid + mlp_out)
    """

    module: nn.Module
    kind: Kind = "unknown"
    attention: nn.Module | None = None  # the module that computes attention
    attn_out: Write | None = None
    mlp_out: Write | None = None
    mixers: tuple[Write, ...] = ()  # what else moves information between positions: a state-space layer
    mid: nn.Module | None = None  # post-norm: the norm whose output is resid_mid
    ln1: nn.Module | None = None  # the norms through which attention and the MLP read the stream
    ln2: nn.Module | None = None
    z: nn.Module | None = None  # the output projection; its input is z, [batch, pos, heads × d_head]
    down: nn.Module | None = None  # the MLP's last linear map; its input is mlp_post
    act: nn.Module | None = None  # the activation function; its input is mlp_pre
    up: nn.Module | None = None  # where `act` is no module: the linear map whose output is mlp_pre
    heads: int | None = None
    kv_heads: int | None = None
    d_head: int | None = None  # of z; queries and keys may be wider
    d_mlp: int | None = None
    interface: bool = False  # attention goes through transformers' AttentionInterface: q, k, v can be had
    why: dict[str, str] = field(default_factory=dict)  # site -> why this block does not have it
    errors: dict[str, float] = field(default_factory=dict)  # what was verified -> relative error
