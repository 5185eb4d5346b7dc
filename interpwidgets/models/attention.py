"""Attention as the model computes it: by the fast kernel, or step by step where somebody looks at the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from interpwidgets.errors import NoAttentionError

__all__ = ["AttentionCall", "hidden", "stepwise", "told"]

Ear = Callable[[str, Tensor, Tensor], Tensor]  # (site, value, which keys are masked) -> the value to go on with


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """What a layer's attention is computed from. q and k are past the rotary embedding."""

    module: nn.Module
    q: Tensor  # [batch, head, query, d_head]
    k: Tensor  # [batch, kv_head, key, d_head]
    v: Tensor  # [batch, kv_head, key, d_head of z]
    mask: Tensor | None  # [batch, 1 or head, query, key]: bool (True: may attend) or added to the scores
    scaling: float
    causal: bool  # whether no mask means: nothing later than the query
    softcap: float | None  # scores are softcap · tanh(scores / softcap)
    sinks: Tensor | None  # [head], scores of a key that is not there (attention sinks)
    bias: Tensor | None  # [1 or batch, head, query, key], added to the scores
    options: dict[str, Any]  # what else the kernel is handed

    @classmethod
    def of(
        cls, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> AttentionCall:
        """The call that transformers makes of an attention function."""
        causal, scaling = options.get("is_causal"), options.get("scaling")
        causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
        sinks = options.get("s_aux")
        if (chosen := options.get("indices")) is not None:
            mask = _only(chosen, mask, causal, k.shape[2])
        return cls(
            module, q, k, v, mask,
            scaling=float(scaling if scaling is not None else q.shape[-1] ** -0.5),
            causal=causal and q.shape[2] > 1,
            softcap=options.get("softcap"),
            sinks=options.get("sinks") if sinks is None else sinks,
            bias=options.get("position_bias"),
            options=options,
        )  # fmt: skip

    @property
    def plain(self) -> bool:
        """Whether the fast kernel computes all of it."""
        return self.softcap is None and self.sinks is None

    def compute(self, ear: Ear | None = None) -> Tensor:
        """z, [batch, query, head, d_head]. An ear is told `scores` and `pattern` as [batch, query, head, key]."""
        if ear is None and self.plain:
            output = sdpa_attention_forward(self.module, self.q, self.k, self.v, self.mask, **self.options)
            return output[0]
        allowed, bias = self.mask, self.bias
        if self.mask is None and self.causal:
            queries, keys = self.q.shape[2], self.k.shape[2]
            allowed = torch.ones(queries, keys, dtype=torch.bool, device=self.q.device).tril_()
        elif self.mask is not None and self.mask.dtype != torch.bool:
            allowed, bias = None, self.mask if self.bias is None else self.mask + self.bias
        return stepwise(
            self.q, self.k, self.v, allowed=allowed, bias=bias, scaling=self.scaling, softcap=self.softcap,
            sinks=self.sinks, ear=ear,
        )  # fmt: skip


def stepwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    allowed: Tensor | None,
    bias: Tensor | None = None,
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    ear: Ear | None = None,
) -> Tensor:
    """Attention by its definition, which an ear may listen to and change: z, [batch, query, head, d_head]."""
    if q.shape[1] % k.shape[1]:
        raise NoAttentionError(f"{q.shape[1]} query heads do not share {k.shape[1]} key heads evenly.")
    groups = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (k, v))
    scores = (q @ k.transpose(-1, -2)) * scaling  # [batch, head, query, key]
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    if ear is not None:
        out = hidden(scores)
        scores = told(ear, "scores", scores, out)
    numbers = scores.float() if scores.dtype != torch.float64 else scores
    if sinks is None:
        pattern = numbers.softmax(-1)
    else:
        nowhere = sinks.to(numbers).reshape(1, -1, 1, 1).expand(*numbers.shape[:3], 1)
        pattern = torch.cat([numbers, nowhere], dim=-1).softmax(-1)[..., :-1]
    if allowed is not None:
        pattern = pattern.masked_fill(~allowed.any(-1, keepdim=True), 0.0)  # padding that may look at nothing
    pattern = pattern.to(v.dtype)
    if ear is not None:
        pattern = told(ear, "pattern", pattern, out)
    return (pattern @ v).transpose(1, 2).contiguous()


def _only(chosen: Tensor, mask: Tensor | None, causal: bool, keys: int) -> Tensor:
    """A mask that leaves a query the keys that an indexer chose for it, [batch, query, n] (DeepSeek 3.2)."""
    seen = chosen.new_zeros(*chosen.shape[:2], keys, dtype=torch.bool).scatter(-1, chosen.long(), True)[:, None]
    if mask is None:
        return seen.tril_() if causal else seen
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, torch.finfo(mask.dtype).min)


def hidden(scores: Tensor) -> Tensor:
    """Which keys are masked: their scores are minus infinity, or close to it."""
    return scores <= torch.finfo(scores.dtype).min / 2


def told(ear: Ear, site: str, value: Tensor, out: Tensor) -> Tensor:
    """What an ear makes of a value [batch, head, query, key]."""
    return ear(site, value.transpose(1, 2), out.transpose(1, 2)).transpose(1, 2)
