"""What a module did, told by the numbers that it took and gave: a norm, a linear map, an activation."""

from __future__ import annotations

import itertools
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
    """A linear map as a matrix [in, out]: its weight; if that is packed or adapted, what becomes of unit vectors."""
    if _is_plain(linear):
        weight = linear.weight
        assert isinstance(weight, Tensor)
        return weight if isinstance(linear, Conv1D) else weight.T
    width = linear.in_features
    assert isinstance(width, int)
    units = torch.eye(width, device=_device(linear))
    with torch.no_grad():
        made: Tensor = linear.forward(units) - linear.forward(torch.zeros_like(units[:1]))
    return made


def _is_plain(linear: nn.Module) -> bool:
    return type(linear) in (nn.Linear, Conv1D)


def _device(module: nn.Module) -> torch.device:
    return next(itertools.chain(module.parameters(), module.buffers())).device


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
    if call.given is None or call.out is None:
        return False
    sizes = [getattr(call.module, "in_features", None), getattr(call.module, "out_features", None)]
    if isinstance(call.module, Conv1D):
        sizes = list(call.module.weight.shape)
    return sizes == [call.given.shape[-1], call.out.shape[-1]]


def head_error(call: Call, heads: int) -> float:
    """Relative error of Σ over heads of z · W_O + bias against what the linear map gave."""
    assert call.given is not None
    assert call.out is not None
    z = call.given.reshape(*call.given.shape[:-1], heads, -1)
    if not _is_plain(call.module):
        made = _one_by_one(call.module, z)
    elif matrix(call.module).is_meta:  # offloaded: it comes and goes with each call
        return float("nan")
    else:
        weight = matrix(call.module).detach().to("cpu", torch.float64)
        made = torch.einsum("...hd,hdm->...m", z.double(), by_heads(weight, heads))
        bias = getattr(call.module, "bias", None)
        if isinstance(bias, Tensor):
            made = made + bias.detach().to("cpu", torch.float64)
    size = float(call.out.double().norm())
    gap = float((made - call.out.double()).norm())
    return gap / size if size > 0 else gap


def _one_by_one(linear: nn.Module, z: Tensor) -> Tensor:
    """What a linear map makes of the heads, given one at a time; of a single one, of its halves."""
    parts = z.shape[-2] if z.shape[-2] > 1 else 2
    flat = z.flatten(-2).to(_device(linear))
    width = flat.shape[-1] // parts
    with torch.no_grad():
        bias = linear.forward(torch.zeros_like(flat))
        made = bias.double()
        for part in range(parts):
            alone = torch.zeros_like(flat)
            stop = flat.shape[-1] if part == parts - 1 else (part + 1) * width
            alone[..., part * width : stop] = flat[..., part * width : stop]
            made = made + (linear.forward(alone) - bias).double()
    total: Tensor = made.cpu()
    return total


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
