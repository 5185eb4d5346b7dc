"""What a forward pass emits, site by site, and how it goes on with what a listener answers.

The model stays the user's own. `listening` makes it emit to a tape for the length of a `with`: it selects our
attention function in the model's configs, wraps the blocks, hangs hooks on the parts that write to the residual
stream and puts the model in eval mode; all of that is undone on the way out, whatever happened. In another context
(another thread) the model runs as if nothing were there.

Values are emitted with the position second, `[batch, pos, …]`, patterns and scores as [batch, query, head, key].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.masking_utils import sdpa_mask

from interpwidgets.models.anatomy import Anatomy
from interpwidgets.models.attention import AttentionCall
from interpwidgets.models.hold import held
from interpwidgets.models.hooks import after, block_hooks, first_of, scale_hook, with_first
from interpwidgets.models.parts import Block

__all__ = ["Route", "Tape", "lacks", "listening"]

_NAME = "interpwidgets"  # of our attention function in transformers' register


# Sites inside a block, but for those that its attention function emits.
_INSIDE = (
    "ln1_scale",
    "scores",
    "pattern",
    "z",
    "attn_out",
    "resid_mid",
    "ln2_scale",
    "mlp_pre",
    "mlp_post",
    "mlp_out",
)

_STEPS = ("scores", "pattern")
_FUSED = {NewGELUActivation, FastGELUActivation}  # both are gelu(approximate="tanh"), written out in seven steps

_current: ContextVar[Pass | None] = ContextVar("interpwidgets_pass", default=None)
_widths: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()  # of the tuple a block returns, if it does


class Tape:
    """Hears a forward pass. Subclasses say what they want to hear, and may answer with another value."""

    route: Route | None = None
    masked: Tensor | None = None  # while scores or a pattern are emitted: which entries belong to masked keys

    def hears(self, site: str, layer: int | None) -> bool:
        """Whether `emit` shall be called for a site."""
        return False

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        """Take a value [batch, pos, …], and return what the model shall go on with."""
        return value

    def attends(self, layer: int, call: AttentionCall) -> None:
        """Take note of what a layer's attention is computed from."""


class Route(Protocol):
    """Takes a pass another way than from the first block to the last with every row (see intervene/packed.py)."""

    tokens: Tensor | None  # ids of those whose logits are wanted; all if None. The others become NaN
    maskless: bool  # whether `attend` stands in for the model's attention and its masks

    def skips(self, layer: int) -> bool:
        """Whether a block is not run: the stream goes by, through `leave`."""

    def enter(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """The residual stream and the other arguments that a block is run with."""

    def narrows(self, layer: int) -> bool:
        """Whether a block's keys and values are wanted of all rows, and the rest of it of few."""

    def keep(self, call: AttentionCall) -> None:
        """Keys and values of all rows."""

    def narrow(self, layer: int, stream: Tensor, options: Any) -> tuple[Tensor, Any]:
        """The few."""

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """The residual stream that goes on."""

    def attend(self, layer: int, call: AttentionCall, ear: Any) -> Tensor:
        """z, [batch, query, head, d_head]."""


class _Enough(Exception):  # noqa: N818  it ends a block of which only keys and values were wanted
    def __init__(self, call: AttentionCall) -> None:
        super().__init__()
        self.call = call


@dataclass(eq=False)
class Pass:
    """A forward pass on a tape, and where in it we are."""

    tape: Tape
    spelt_out: bool = False  # whether causal masks are tensors, since a module would not know that no mask means one
    layer: int | None = None  # the block that is running
    stream: Tensor | None = None  # what it was entered with: resid_pre
    phase: Literal["keys", "rest"] | None = None  # of a block that is run twice, see `Route.narrows`

    @property
    def active(self) -> bool:
        """Whether this is the pass of the current context; others that use the model meanwhile are not heard."""
        return _current.get() is self

    def hears_any(self, layer: int, *sites: str) -> bool:
        """Whether one of the sites is heard."""
        return any(self.tape.hears(site, layer) for site in sites)

    def emit(self, site: str, layer: int | None, value: Tensor, masked: Tensor | None = None) -> Tensor:
        """Tell the tape a value, if it hears the site; what to go on with."""
        silent = self.phase is not None and (site in ("k", "v")) != (self.phase == "keys")
        self.tape.masked = masked
        return value if silent or not self.tape.hears(site, layer) else self.tape.emit(site, layer, value)

    def attend(self, call: AttentionCall) -> Tensor:
        """A layer's attention, told step by step where somebody hears: z, [batch, query, head, d_head]."""
        layer, tape = self.layer, self.tape
        assert layer is not None
        for site in ("q", "k", "v"):
            heads: Tensor = getattr(call, site)
            shown = heads.transpose(1, 2)
            if (heard := self.emit(site, layer, shown)) is not shown:
                changed: dict[str, Any] = {site: heard.transpose(1, 2)}
                call = replace(call, **changed)
        if self.phase == "keys":
            raise _Enough(call)
        tape.attends(layer, call)
        listened = tape.hears("scores", layer) or tape.hears("pattern", layer)
        ear = (lambda site, value, masked: self.emit(site, layer, value, masked)) if listened else None
        if tape.route is not None and tape.route.maskless:
            return tape.route.attend(layer, call, ear)
        return call.compute(ear)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """The model's attention, which also tells the tape, if there is one, what it was given."""
    call = AttentionCall.of(module, query, key, value, attention_mask, options)
    now = _current.get()
    return (call.compute() if now is None or now.layer is None else now.attend(call)), None


def _mask(*args: Any, **options: Any) -> Any:
    now = _current.get()
    if now is not None and now.tape.route is not None and now.tape.route.maskless:
        return None
    if now is not None and now.spelt_out:
        options["allow_is_causal_skip"] = False
    return sdpa_mask(*args, **options)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _mask)


@contextmanager
def listening(module: nn.Module, anatomy: Anatomy, tape: Tape) -> Iterator[None]:
    """Make the model emit to this tape, in this context, until the `with` ends."""
    with ExitStack() as undo:
        undo.enter_context(held(module, anatomy.base, _attention_for(anatomy, tape)))
        now = Pass(tape, spelt_out=not all(getattr(part.attention, "is_causal", True) for part in anatomy.parts))
        token = _current.set(now)
        undo.callback(_current.reset, token)
        for layer, block in enumerate(anatomy.blocks):
            _wrap(undo, block, partial(_run_block, now, layer, block))
            if now.hears_any(layer, *_INSIDE):
                for hooked in block_hooks(now, layer, anatomy.parts[layer]):
                    undo.callback(hooked.remove)
        if tape.route is not None:
            for part in module.modules():
                if type(part) in _FUSED:
                    _wrap(undo, part, partial(_in_one_step, now))
            if tape.route.tokens is not None and type(anatomy.unembed) is nn.Linear:
                _wrap(undo, anatomy.unembed, partial(_some_logits, now, anatomy.unembed, tape.route.tokens))
        if tape.hears("embed", None):
            undo.callback(after(now, anatomy.embed, lambda value: now.emit("embed", None, value)).remove)
        if tape.hears("ln_final_scale", None) and anatomy.ln_final is not None:
            undo.callback(scale_hook(now, anatomy.ln_final, "ln_final_scale", None).remove)
        yield


def _attention_for(anatomy: Anatomy, tape: Tape) -> str | None:
    """The attention function to select. Code of a model's own has steps to listen to when it is eager."""
    if any(block.interface for block in anatomy.parts):
        return _NAME
    depth = range(len(anatomy.blocks))
    return "eager" if any(tape.hears(site, layer) for site in _STEPS for layer in depth) else None


def lacks(block: Block, site: str) -> str | None:
    """Why a block has no such site; None if it has."""
    has = {
        "q": block.interface, "k": block.interface, "v": block.interface,
        "scores": block.attention, "pattern": block.attention, "z": block.z,
        "attn_out": block.attn_out, "mlp_out": block.mlp_out,
        "resid_mid": block.mid or (block.kind == "sequential" and block.attn_out),
        "mlp_pre": block.act or block.up, "mlp_post": block.down,
        "ln1_scale": block.ln1, "ln2_scale": block.ln2,
    }  # fmt: skip
    return None if has.get(site, True) else block.why.get(site, "it was not found in the block.")


def _wrap(undo: ExitStack, block: nn.Module, around: Callable[..., Any]) -> None:
    """Put `around(forward, *args, **options)` in the place of a block's forward."""
    own = block.__dict__.get("forward")  # of a module that somebody else has wrapped
    forward = block.forward
    block.forward = lambda *args, **options: around(forward, *args, **options)
    undo.callback(setattr, block, "forward", own) if own is not None else undo.callback(delattr, block, "forward")


def _in_one_step(now: Pass, forward: Callable[..., Any], value: Tensor) -> Tensor:
    """The same function of fewer passes over memory: in a sweep, a quarter of the time went by there."""
    result: Tensor = nn.functional.gelu(value, approximate="tanh") if now.active else forward(value)
    return result


def _some_logits(now: Pass, unembed: nn.Linear, tokens: Tensor, forward: Callable[..., Any], stream: Tensor) -> Tensor:
    """The logits of a few tokens; what a model does to logits afterwards, it does to each by itself."""
    if not now.active:
        whole: Tensor = forward(stream)
        return whole
    tokens = tokens.to(stream.device)
    logits = stream.new_full((*stream.shape[:-1], unembed.out_features), torch.nan)
    bias = None if unembed.bias is None else unembed.bias[tokens]
    logits[..., tokens] = nn.functional.linear(stream, unembed.weight[tokens], bias)
    return logits


def _run_block(now: Pass, layer: int, block: nn.Module, forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """One block: its input and output are emitted, and the route decides on which rows it works."""
    if not now.active:
        return forward(*args, **options)
    stream, rest = (args[0], args[1:]) if args else (options.pop("hidden_states"), ())
    before, route = stream, now.tape.route
    if route is not None:
        if route.skips(layer):
            width, stream = _widths.get(block), route.leave(layer, stream, stream)
            return stream if width is None else (stream, *[None] * (width - 1))
        stream, (rest, options) = route.enter(layer, stream, (rest, options))
    stream = now.emit("resid_pre", layer, stream)
    outer = now.layer, now.stream
    now.layer, now.stream = layer, stream
    try:
        if route is not None and route.narrows(layer):
            now.phase = "keys"
            try:
                forward(stream, *rest, **options)
            except _Enough as enough:
                route.keep(enough.call)
            now.phase = "rest"
            stream, (rest, options) = route.narrow(layer, stream, (rest, options))
            now.stream = stream
        output = forward(stream, *rest, **options)
    finally:
        (now.layer, now.stream), now.phase = outer, None
    _widths[block] = None if isinstance(output, Tensor) else len(output)
    left = now.emit("resid_post", layer, first_of(output))
    if route is not None:
        left = route.leave(layer, before, left)
    return with_first(output, left)
