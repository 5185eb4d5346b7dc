"""What a forward pass emits, site by site: hooks on the blocks, and an attention function that passes q and k on.

The model stays the user's own. `recording_on` makes it emit for the length of a `with`: it selects our attention
function in the model's config, hangs hooks on the blocks and puts the model in eval mode; all of that is undone on
the way out, whatever happened. The attention function is `sdpa` with an ear: without a tape in the current context
it does nothing else, so that a model may be used by another thread meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from interpwidgets.errors import NoAttentionError
from interpwidgets.models.anatomy import Anatomy
from interpwidgets.models.mask import Mask
from interpwidgets.models.pattern import LayerAttention

__all__ = ["Tape", "recording_on"]

_NAME = "interpwidgets"  # of our attention function in transformers' register
_SETTING = "_attn_implementation_internal"  # of a config; its public face also writes to configs below it
_REFUSED = ("softcap", "s_aux", "position_bias")  # what sdpa does not compute, or we do not yet compute again

_current: ContextVar[Tape | None] = ContextVar("interpwidgets_tape", default=None)
_turns: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()  # recordings of one model go one after another


@dataclass(eq=False)
class Tape:
    """Collects what the blocks and their attention emit, for the sites and layers that are wanted."""

    sites: frozenset[str]
    layers: frozenset[int]
    lengths: list[int]  # of the prompts; positions from there on are padding
    residual: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # (site, layer) -> [batch, pos, d_model]
    attention: dict[int, LayerAttention] = field(default_factory=dict)
    last: Tensor | None = None  # [batch, pos, d_model], what the last block returned
    _layer: int | None = None  # the block that is running
    _masks: list[tuple[Tensor, Mask]] = field(default_factory=list)

    def enter_block(self, layer: int, hidden: Tensor) -> None:
        """Note that a block has begun, with this residual stream [batch, pos, d_model]."""
        self._layer = layer
        if "resid_pre" in self.sites and layer in self.layers:
            self.residual["resid_pre", layer] = hidden

    def leave_block(self, layer: int, hidden: Tensor) -> None:
        """Note that a block has ended, with this residual stream [batch, pos, d_model]."""
        self._layer = None
        self.last = hidden
        if "resid_post" in self.sites and layer in self.layers:
            self.residual["resid_post", layer] = hidden

    def attend(self, q: Tensor, k: Tensor, mask: Tensor | None, scaling: float | None, causal: bool) -> None:
        """Keep one layer's q [batch, head, query, d_head] and k [batch, kv_head, key, d_head]."""
        layer = self._layer
        if layer is None or layer not in self.layers or "q" not in self.sites:
            return
        if layer in self.attention:
            raise NoAttentionError(f"Block {layer} computes attention twice (cross-attention?); not supported yet.")
        self.attention[layer] = LayerAttention(
            q=_own(q),
            k=_own(k),
            scaling=float(scaling if scaling is not None else q.shape[-1] ** -0.5),
            mask=self._describe(mask, causal, heads=q.shape[1]),
        )

    def emissions(self) -> Iterator[tuple[tuple[str, int], Tensor]]:
        """Everything on the tape, in the order in which it was computed."""
        for layer in sorted(self.layers):
            if ("resid_pre", layer) in self.residual:
                yield ("resid_pre", layer), self.residual["resid_pre", layer]
            if layer in self.attention:
                yield ("q", layer), self.attention[layer].q
                yield ("k", layer), self.attention[layer].k
            if ("resid_post", layer) in self.residual:
                yield ("resid_post", layer), self.residual["resid_post", layer]

    def _describe(self, mask: Tensor | None, causal: bool, heads: int) -> Mask:
        """The mask in short; the tensor is the same in every layer, so it is read once."""
        if mask is None:
            return Mask(causal)
        for seen, short in self._masks:
            if seen is mask:
                return short
        short = Mask.of(mask, lengths=self.lengths, heads=heads)
        self._masks.append((mask, short))
        return short


def _own(tensor: Tensor) -> Tensor:
    """A tensor that keeps no larger one alive: GPT-2 cuts q, k and v out of one array."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`sdpa`, which also tells the tape, if there is one, what it was given."""
    tape = _current.get()
    if tape is not None:
        for name in _REFUSED:
            if kwargs.get(name) is not None:
                raise NoAttentionError(f"{type(module).__name__} uses `{name}` in its attention; not supported yet.")
        causal = kwargs.get("is_causal")
        causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
        tape.attend(query, key, attention_mask, kwargs.get("scaling"), causal)
    output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return output


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def recording_on(module: nn.Module, anatomy: Anatomy, tape: Tape) -> Iterator[None]:
    """Make the model emit to this tape, in this context, until the `with` ends."""
    with ExitStack() as undo:
        undo.enter_context(_turns.setdefault(anatomy.base, RLock()))
        token = _current.set(tape)
        undo.callback(_current.reset, token)
        for part in module.modules():
            if part.training:
                undo.callback(setattr, part, "training", True)
                part.training = False
        for config in _configs(module):
            undo.callback(setattr, config, _SETTING, getattr(config, _SETTING))
            setattr(config, _SETTING, _NAME)
        for layer, block in enumerate(anatomy.blocks):
            before, after = _hooks(layer, tape)
            undo.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            undo.callback(block.register_forward_hook(after).remove)
        yield


def _configs(module: nn.Module) -> list[Any]:
    """Every config that decides on an attention function somewhere in the model, once."""
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    return [config for config in configs.values() if hasattr(config, _SETTING)]


def _hooks(layer: int, tape: Tape) -> tuple[Callable[..., None], Callable[..., None]]:
    """What to call before and after a block; other contexts that use the model meanwhile are not listened to."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _current.get() is tape:
            tape.enter_block(layer, args[0] if args else kwargs["hidden_states"])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if _current.get() is tape:
            tape.leave_block(layer, output if isinstance(output, Tensor) else output[0])

    return before, after
