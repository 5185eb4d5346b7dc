"""What a module did, told by the numbers that it took and gave: a norm, a linear map, an activation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from interpwidgets.models.probe import Call
from interpwidgets.models.sums import same

__all__ = ["ACTIVATIONS", "by_heads", "close", "head_error", "is_linear", "is_norm", "matrix", "pieces"]

ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    F.gelu,
    lambda x: F.gelu(x, approximate="tanh"),
    F.relu,
    F.silu,
    lambda x: F.relu(x).square(),
)


def matrix(linear: nn.Module) -> Tensor:
    """The weight of a linear map as [in, out]; GPT-2's `Conv1D` keeps it that way, everyone else transposed."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(linear, Conv1D) else weight.T


def by_heads(weight: Tensor, heads: int) -> Tensor:
    """An output matrix [heads × d_head, d_model] as [head, d_head, d_model]."""
    return weight.reshape(heads, -1, weight.shape[-1])


def is_norm(call: Call) -> bool:
    """Whether a module did what norms do: no matrix in it, the shape kept and the numbers changed."""
    weights = list(call.module.parameters())
    return (
        call.given is not None
        and call.out is not None
        and call.given.shape == call.out.shape
        and next(call.module.children(), None) is None
        and all(weight.shape == call.out.shape[-1:] for weight in weights)
        and (bool(weights) or "norm" in type(call.module).__name__.lower())
        and not same(call.given, call.out)
    )


def is_linear(call: Call) -> bool:
    """Whether a module has a matrix that could take what it was given to what it gave."""
    weight = getattr(call.module, "weight", None)
    if call.given is None or call.out is None or not isinstance(weight, Tensor) or weight.ndim != 2:
        return False
    return sorted(weight.shape) == sorted((call.given.shape[-1], call.out.shape[-1]))


def head_error(call: Call, heads: int) -> float:
    """Relative error of Σ over heads of z · W_O + bias against what the linear map gave."""
    assert call.given is not None
    assert call.out is not None
    if matrix(call.module).is_meta:  # offloaded: it comes and goes with each call
        return float("nan")
    weight = matrix(call.module).detach().to("cpu", torch.float64)
    bias = getattr(call.module, "bias", None)
    z = call.given.double()
    z = z.reshape(*z.shape[:-1], heads, -1)
    made = torch.einsum("...hd,hdm->...m", z, by_heads(weight, heads))
    if isinstance(bias, Tensor):
        made = made + bias.detach().to("cpu", torch.float64)
    size = float(call.out.double().norm())
    gap = float((made - call.out.double()).norm())
    return gap / size if size > 0 else gap


def close(a: Tensor, b: Tensor) -> bool:
    """Whether these are the same numbers but for rounding in the model's precision."""
    a, b = a.reshape(-1).double(), b.reshape(-1).double()
    return float((a - b).norm()) <= 1e-2 * float(b.norm())


def pieces(out: Tensor, like: Tensor) -> list[Tensor]:
    """The output of a linear map if it has this many numbers, or its halves if it has twice as many."""
    if out.numel() == like.numel():
        return [out]
    if out.numel() == 2 * like.numel():
        return [*out.chunk(2, -1), out[..., 0::2], out[..., 1::2]]
    return []
