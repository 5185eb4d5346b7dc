"""What a block is made of: the modules behind the sites, and how well that was verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

__all__ = ["Block", "Kind", "Verified", "Write", "runs"]

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


@dataclass(frozen=True)
class Verified:
    """Which equation held in which layers, and its largest relative error there."""

    equations: dict[str, tuple[tuple[int, ...], float]]  # site -> layers, error
    layers: int

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Verified:
        """What the blocks say of themselves."""
        equations = {}
        for site in ("resid_mid", "resid_post", "z", "mlp_post"):
            held = {layer: block.errors[site] for layer, block in enumerate(blocks) if site in block.errors}
            if held:
                equations[site] = tuple(held), max(held.values())
        return cls(equations, len(blocks))

    def __repr__(self) -> str:
        if not self.equations:
            return "nothing was verified"
        lines = [f"{'site':<12}{'largest error':<15}layers"]
        for site, (layers, error) in self.equations.items():
            lines.append(f"{site:<12}{error:<15.1e}{runs(layers) if len(layers) < self.layers else 'all'}")
        return "\n".join(lines)


def runs(layers: Sequence[int]) -> str:
    """Layers in short: 0–3, 5."""
    found: list[list[int]] = []
    for layer in layers:
        if found and layer == found[-1][1] + 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in found)
