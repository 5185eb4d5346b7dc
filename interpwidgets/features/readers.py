"""What reads the residual stream: queries, keys and values of heads, and neurons, told by giving them directions.

No layout of weights is known here. The norm in front of a layer's attention or MLP is made to give a direction, and
what comes out beyond what comes of nothing is the direction times the layer's weights, in any architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from interpwidgets.features.logits import folding
from interpwidgets.features.writers import some_tokens
from interpwidgets.models.hold import turn
from interpwidgets.models.hooks import with_first
from interpwidgets.models.model import Model
from interpwidgets.models.sites import Site
from interpwidgets.models.splice import read
from interpwidgets.models.tape import lacks

__all__ = ["Readers"]

_AT_ONCE = 256  # directions in a pass
_INPUTS = ("q", "k", "v")


class Readers:
    """Every head and MLP that reads the stream through a norm, of which the weight and the centring count as theirs.

    `untold` says of which parts it cannot be told what they read, and why.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.untold = model, dict[str, str]()
        self._norms: dict[nn.Module, tuple[Tensor, bool]] = {}
        self.sites = list(self._found())
        self.lengths = self._measured()

    def _found(self) -> Iterator[Site]:
        like = self.model.anatomy.embed.weight[0].float()
        for layer, part in enumerate(self.model.anatomy.parts):
            for what, norm, sites in (("heads", part.ln1, _INPUTS), ("neurons", part.ln2, ("mlp_pre",))):
                absent = part.attention is None if what == "heads" else part.mlp_out is None
                why = "no norm was found in front of them." if norm is None else lacks(part, sites[0])
                if absent:
                    continue
                if norm is None or why:
                    self.untold[f"what the {what} of layer {layer} read"] = str(why)
                    continue
                if norm not in self._norms:
                    self._norms[norm] = folding(norm, like)
                yield from ((site, layer) for site in sites)

    def _measured(self) -> dict[Site, Tensor]:
        """How much each reads in all, [head] or [neuron]: the length of its weights. Those that are not linear go."""
        width, device = self.model.d_model, self.model.device
        signs = torch.ones(width, device=device)
        signs[torch.randperm(width, generator=torch.Generator().manual_seed(0))[: width // 2]] = -1
        told, squares, sums = self(signs[None]), dict[Site, Any](), dict[Site, Any]()
        for first in range(0, width, _AT_ONCE):
            rows = torch.eye(width, device=device)[first : first + _AT_ONCE]
            for site, value in self(rows).items():
                squares[site] = squares.get(site, 0) + value.square().sum(0)
                sums[site] = sums.get(site, 0) + torch.einsum("r,r...->...", rows @ signs, value)
        rough = self.model.module.dtype not in (torch.float32, torch.float64)
        for site in list(self.sites):
            gap = float((sums[site] - told[site][0]).norm())
            if gap > (3e-2 if rough else 1e-3) * float(told[site].norm()):
                self.untold[f"the {site[0]} of layer {site[1]}"] = "it is not linear in what its norm gives."
                self.sites.remove(site)
        return {site: (squares[site].sum(-1) if site[0] in _INPUTS else squares[site]).sqrt() for site in self.sites}

    @torch.no_grad()
    def __call__(self, directions: Tensor) -> dict[Site, Tensor]:
        """What each reads of directions [row, d_model]: [row, head, d_head] or [row, neuron]."""
        if not self.sites:
            return {}
        rows = torch.cat([torch.zeros_like(directions[:1]), directions]).to(self.model.device)
        with turn(self.model.anatomy.base), ExitStack() as undo:
            for norm, (weight, centres) in self._norms.items():
                folded = (rows - rows.mean(-1, keepdim=True) if centres else rows) * weight

                def give(_: nn.Module, __: Any, out: Any, folded: Tensor = folded) -> Any:
                    first = out if isinstance(out, Tensor) else out[0]
                    return with_first(out, folded.view_as(first).to(first))

                undo.callback(norm.register_forward_hook(give).remove)
            tokens = some_tokens(self.model, 1).expand(len(rows), 1)
            found = read(self.model, tokens, self.sites)
        return {site: (value[1:, 0] - value[:1, 0]).float() for site, value in found.items()}
