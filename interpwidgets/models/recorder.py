"""The tape that keeps what it hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interpwidgets.errors import NoAttentionError
from interpwidgets.models.attention import AttentionCall
from interpwidgets.models.mask import Mask
from interpwidgets.models.pattern import LayerAttention
from interpwidgets.models.sites import PER_HEAD, Site
from interpwidgets.models.tape import Tape

__all__ = ["Recorder"]

_WRITES = ("attn_out", "mlp_out")  # to which some models add in place what comes next


@dataclass(eq=False)
class Recorder(Tape):
    """Keeps the values of some sites, and of some layers what their patterns can be computed from."""

    sites: frozenset[Site]
    patterns: frozenset[int] = frozenset()  # layers
    lengths: Sequence[int] = ()  # of the prompts; positions from there on are padding
    positions: Tensor | None = None  # [batch, n], the only ones kept
    heads: Tensor | None = None  # [n], the only ones kept
    grad: bool = False  # whether the values shall be part of autograd's graph
    values: dict[Site, Tensor] = field(default_factory=dict)  # [batch, pos, …]
    attention: dict[int, LayerAttention] = field(default_factory=dict)
    last: Tensor | None = None  # [batch, pos, d_model], what the last block returned
    _masks: list[tuple[Tensor, Mask]] = field(default_factory=list)

    def hears(self, site: str, layer: int | None) -> bool:
        """Of `resid_post`, that of the last block also tells whether the numbers are sound."""
        return site == "resid_post" or (site, layer) in self.sites

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """Keep it, or the part of it that was asked for."""
        if site == "resid_post":
            self.last = value
            if (site, layer) not in self.sites:
                return value
        if self.grad:
            value = value.view_as(value)  # one that the rest of the pass is computed from, also if it was cut out
        self.values[site, layer] = self.part(site, value)
        if site not in _WRITES:
            return value
        if self.grad:
            return value.clone()
        self.values[site, layer] = self.values[site, layer].clone()
        return value

    def attends(self, layer: int, call: AttentionCall) -> None:
        """Keep q and k."""
        if layer not in self.patterns:
            return
        if layer in self.attention:
            raise NoAttentionError(f"Block {layer} computes attention twice (cross-attention?); not supported yet.")
        self.attention[layer] = LayerAttention(
            q=_own(call.q),
            k=_own(call.k),
            scaling=call.scaling,
            mask=self.describe(call),
            softcap=call.softcap,
            sinks=call.sinks,
            bias=call.bias,
        )

    def describe(self, call: AttentionCall) -> Mask:
        """The mask in short; the tensor is the same in many layers, so it is read once."""
        if call.mask is None:
            return Mask(call.causal or call.q.shape[2] == 1)
        for seen, short in self._masks:
            if seen is call.mask:
                return short
        short = Mask.of(call.mask, lengths=list(self.lengths), heads=call.q.shape[1])
        self._masks.append((call.mask, short))
        return short

    def part(self, site: str, value: Tensor) -> Tensor:
        """Of a value [batch, pos, …], the positions and heads that are kept."""
        if self.positions is not None:
            rows = torch.arange(value.shape[0], device=value.device)[:, None]
            value = value[rows, self.positions.to(value.device)]
        if self.heads is not None and site in PER_HEAD and site not in ("k", "v"):
            value = value[:, :, self.heads.to(value.device)]
        return value if self.grad else _own(value)


def _own(tensor: Tensor) -> Tensor:
    """A tensor that keeps no larger one alive: GPT-2 cuts q, k and v out of one array."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
