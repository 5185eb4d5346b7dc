"""Where in a block each site is heard: hooks on the parts that were found in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpwidgets.models.attention import hidden, told
from interpwidgets.models.parts import Block, Write

if TYPE_CHECKING:
    from interpwidgets.models.tape import Pass

__all__ = ["after", "block_hooks", "first_of", "norm_scale", "scale_hook", "with_first"]

_SOFTMAX = {torch.softmax, torch.Tensor.softmax, nn.functional.softmax, torch.special.softmax}
_centring: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # whether a norm subtracts the mean


def first_of(output: Any) -> Tensor:
    """What a module returns; of a tuple, its first."""
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    return first


def with_first(output: Any, value: Tensor) -> Any:
    """The same output, with another tensor in the place of its first."""
    if isinstance(output, Tensor):
        return value
    return output if output[0] is value else type(output)((value, *output[1:]))


def after(now: Pass, module: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    """Let a module return what `change` makes of its output."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        return with_first(output, change(first_of(output))) if now.active else None

    return module.register_forward_hook(hook)


def _before(now: Pass, module: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    """Give a module what `change` makes of its input."""

    def hook(_: nn.Module, args: tuple[Any, ...]) -> Any:
        return (change(args[0]), *args[1:]) if now.active else None

    return module.register_forward_pre_hook(hook)


def block_hooks(now: Pass, layer: int, block: Block) -> Iterator[Any]:
    """Hooks on the parts of a block of which something is heard."""
    hears = partial(now.hears_any, layer)
    if not block.interface and block.attention is not None and hears("scores", "pattern"):
        yield from _softmax_hooks(now, layer, block.attention)
    if block.attn_out is not None and hears("attn_out", "resid_mid"):
        mid = block.kind == "sequential" and hears("resid_mid")
        yield after(now, block.attn_out.module, partial(_write, now, "attn_out", layer, block.attn_out, mid))
    if block.mid is not None and hears("resid_mid"):
        yield after(now, block.mid, lambda value: now.emit("resid_mid", layer, value))
    if block.z is not None and hears("z"):
        yield _before(now, block.z, partial(_by_head, now, "z", layer, block.heads or 1))
    for site, norm in (("ln1_scale", block.ln1), ("ln2_scale", block.ln2)):
        if norm is not None and hears(site):
            yield scale_hook(now, norm, site, layer)
    yield from _mlp_hooks(now, layer, block)


def _mlp_hooks(now: Pass, layer: int, block: Block) -> Iterator[Any]:
    hears = partial(now.hears_any, layer)
    if block.mlp_out is not None and hears("mlp_out"):
        yield after(now, block.mlp_out.module, partial(_write, now, "mlp_out", layer, block.mlp_out, False))
    if block.down is not None and hears("mlp_post"):
        yield _before(now, block.down, partial(_flat, now, "mlp_post", layer))
    if hears("mlp_pre"):
        if block.act is not None:
            yield _before(now, block.act, partial(_flat, now, "mlp_pre", layer))
        elif block.up is not None:
            yield after(now, block.up, partial(_flat, now, "mlp_pre", layer))


def _write(now: Pass, site: str, layer: int, write: Write, mid: bool, value: Tensor) -> Tensor:
    """What a part adds to the residual stream; with `mid`, also what the stream is then."""
    assert now.stream is not None
    shaped = value.reshape(*now.stream.shape[:2], -1) if value.ndim == 2 else value  # see `_flat`
    scaled = shaped if write.scale == 1 else shaped * write.scale
    heard = now.emit(site, layer, scaled)
    if mid:
        stream = now.stream + heard
        if (changed := now.emit("resid_mid", layer, stream)) is not stream:
            heard = changed - now.stream
    if heard is scaled:
        return value
    return (heard if write.scale == 1 else heard / write.scale).reshape(value.shape)


def _by_head(now: Pass, site: str, layer: int, heads: int, value: Tensor) -> Tensor:
    parted = value.reshape(*value.shape[:-1], heads, -1)
    heard = now.emit(site, layer, parted)
    return value if heard is parted else heard.flatten(-2)


def _flat(now: Pass, site: str, layer: int, value: Tensor) -> Tensor:
    """Some MLPs work on [batch · pos, d]."""
    assert now.stream is not None
    shaped = value.reshape(*now.stream.shape[:2], -1) if value.ndim == 2 else value
    heard = now.emit(site, layer, shaped)
    return value if heard is shaped else heard.reshape(value.shape)


def norm_scale(norm: nn.Module, x: Tensor) -> Tensor:
    """What a norm divides by, [batch, pos, 1]: a standard deviation if it centres (LayerNorm), else a root mean square.

    Told by what the norm does, not by its name: T5's `LayerNorm` does not centre.
    """
    numbers = x.float() if x.dtype != torch.float64 else x
    names = ("eps", "variance_epsilon", "norm_eps")
    eps = next((float(getattr(norm, name)) for name in names if hasattr(norm, name)), 0.0)
    if _centres(norm, x.shape[-1], x):
        numbers = numbers - numbers.mean(-1, keepdim=True)
    return (numbers.square().mean(-1, keepdim=True) + eps).sqrt()


def _centres(norm: nn.Module, size: int, like: Tensor) -> bool:
    if norm not in _centring:
        x = torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype)[None, None]
        with torch.no_grad():  # `forward`, since nobody shall hear this
            _centring[norm] = bool(
                (norm.forward(x) - norm.forward(x + 1)).abs().max() < 0.1 * norm.forward(x).abs().max()
            )
    return _centring[norm]


def scale_hook(now: Pass, norm: nn.Module, site: str, layer: int | None) -> Any:
    """Tell what a norm divides by, and let it divide by what is answered."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not now.active:
            return None
        scale = norm_scale(norm, args[0])
        heard = now.emit(site, layer, scale)
        if heard is scale:
            return None
        bias = getattr(norm, "bias", None)
        shift: Any = 0.0 if bias is None else bias
        changed: Tensor = ((output - shift) * (scale / heard) + shift).to(output.dtype)
        return changed

    return norm.register_forward_hook(hook)


class _Softmax(TorchFunctionMode):
    """Hears the softmax of an attention module that has code of its own: scores go in, the pattern comes out."""

    def __init__(self, now: Pass, layer: int) -> None:
        super().__init__()
        self.now, self.layer = now, layer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _SOFTMAX or (args[0] if args else kwargs["input"]).ndim != 4:
            return func(*args, **kwargs)
        scores = args[0] if args else kwargs.pop("input")

        def ear(site: str, value: Tensor, masked: Tensor) -> Tensor:
            return self.now.emit(site, self.layer, value, masked)

        out = hidden(scores)
        pattern = func(told(ear, "scores", scores, out), *args[1:], **kwargs)
        return told(ear, "pattern", pattern, out)


def _softmax_hooks(now: Pass, layer: int, attention: nn.Module) -> Iterator[Any]:
    modes: list[_Softmax] = []

    def enter(*_: Any) -> None:
        if now.active:
            modes.append(_Softmax(now, layer))
            modes[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: Any) -> None:
        if modes:
            modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    yield attention.register_forward_pre_hook(enter)
    yield attention.register_forward_hook(leave, always_call=True)
