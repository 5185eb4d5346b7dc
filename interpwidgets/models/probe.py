"""One small forward pass, of which everything is written down that tells how the blocks are built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from interpwidgets.models.hold import held

__all__ = ["Attended", "BlockTrace", "Call", "Trace", "probe"]

_NAME = "interpwidgets-probe"  # of our attention function in transformers' register
_TOKENS = 9  # no usual number of heads or experts, so that a [query, key] array is known by its shape
_SOFTMAX = {torch.softmax, torch.Tensor.softmax, nn.functional.softmax}
_SDPA = nn.functional.scaled_dot_product_attention


@dataclass(eq=False)
class Call:
    """A module that ran: what came in and out, cloned, and when; time is a count of events."""

    module: nn.Module
    name: str  # its path below the block
    begin: int
    given: Tensor | None
    end: int = -1
    out: Tensor | None = None


@dataclass(eq=False)
class Attended:
    """Attention was computed, in this module, with this many heads."""

    module: nn.Module
    time: int
    heads: int | None
    kv_heads: int | None
    interface: bool  # through transformers' AttentionInterface, else by code of the module's own
    width: int | None = None  # heads × d_head of what it returned


@dataclass(eq=False)
class BlockTrace:
    """One run of one block."""

    module: nn.Module
    pre: Tensor
    post: Tensor | None = None
    calls: list[Call] = field(default_factory=list)  # in the order in which they ended
    attended: list[Attended] = field(default_factory=list)


@dataclass(eq=False)
class Trace:
    """What the pass was: the runs of the blocks in order, and what ran after the last of them."""

    blocks: list[BlockTrace] = field(default_factory=list)
    after: list[Call] = field(default_factory=list)
    clock: int = 0
    running: list[Call] = field(default_factory=list)
    inside: list[BlockTrace] = field(default_factory=list)

    def tick(self) -> int:
        """The time, which moves on."""
        self.clock += 1
        return self.clock

    def attend(self, module: nn.Module, heads: int | None, kv_heads: int | None, interface: bool, width: int) -> None:
        """Note that a block computed attention."""
        if self.inside:
            self.inside[-1].attended.append(Attended(module, self.tick(), heads, kv_heads, interface, width))

    def attend_by_softmax(self, shape: tuple[int, ...], width: int = 0) -> None:
        """Note a softmax of this shape, if it is one over keys, in the innermost running module with weights."""
        if len(shape) >= 3 and shape[-2] == _TOKENS and shape[-1] >= _TOKENS and self.inside:
            owners = [call.module for call in self.running if next(call.module.parameters(), None) is not None]
            module = owners[-1] if owners else self.inside[-1].module
            heads = shape[-3] if shape[-3] > 1 or len(shape) == 4 else None
            self.attend(module, heads, heads, False, width)


_current: ContextVar[Trace | None] = ContextVar("interpwidgets_probe", default=None)
_by_interface: ContextVar[bool] = ContextVar("interpwidgets_probe_interface", default=False)


def probe(module: Any, base: nn.Module, blocks: tuple[nn.Module, ...], vocabulary: int) -> Trace:
    """Run the model on a few random tokens. It is left as it was found, and a recording under way hears nothing."""
    return Context().run(_run, module, base, blocks, vocabulary)


def _run(module: Any, base: nn.Module, blocks: tuple[nn.Module, ...], vocabulary: int) -> Trace:
    ids = _tokens(module.config, vocabulary).to(module.get_input_embeddings().weight.device)
    options = {"use_cache": False} if "use_cache" in inspect.signature(base.forward).parameters else {}
    try:
        with _listening(module, base, blocks, _NAME) as trace:
            base(input_ids=ids, **options)
    except (TypeError, ValueError, RuntimeError, KeyError, IndexError, AttributeError):
        # It does not take an attention function of ours: hear what can be heard of its own.
        with _listening(module, base, blocks, None) as trace:
            base(input_ids=ids, **options)
    return trace


def _tokens(config: Any, vocabulary: int) -> Tensor:
    """Random tokens, none of them special, always the same."""
    special: set[Any] = set()
    for part in {id(part): part for part in (config, config.get_text_config(decoder=True))}.values():
        for name, value in part.to_dict().items():
            if name.endswith(("token_id", "token_ids", "token_index")):
                special.update(value if isinstance(value, list) else [value])
    plain = [token for token in range(min(vocabulary, 2000)) if token not in special] or [0]
    drawn = torch.randint(len(plain), (1, _TOKENS), generator=torch.Generator().manual_seed(0))
    return torch.tensor(plain)[drawn]


@contextmanager
def _listening(
    module: nn.Module, base: nn.Module, blocks: tuple[nn.Module, ...], attention: str | None
) -> Iterator[Trace]:
    """A trace that is written while the `with` lasts."""
    trace = Trace()
    with ExitStack() as undo:
        undo.enter_context(held(module, base, attention))
        token = _current.set(trace)
        undo.callback(_current.reset, token)
        tops = {id(block) for block in blocks}
        names = {id(part): name for block in blocks for name, part in block.named_modules() if id(part) not in tops}
        for part in base.modules():
            if part is not base:
                enter, leave = _block_hooks(trace) if id(part) in tops else _part_hooks(trace, names.get(id(part), ""))
                undo.callback(part.register_forward_pre_hook(enter, with_kwargs=True).remove)
                undo.callback(part.register_forward_hook(leave).remove)
        undo.enter_context(torch.random.fork_rng(devices=[]))
        undo.enter_context(torch.no_grad())
        undo.enter_context(_Softmaxes())
        yield trace


Hooks = tuple[Callable[..., None], Callable[..., None]]


def _block_hooks(trace: Trace) -> Hooks:
    def enter(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = _given(args, kwargs)
        if _current.get() is trace and given is not None:
            trace.inside.append(BlockTrace(block, _copy(given)))
            trace.after = []

    def leave(block: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        if _current.get() is trace and trace.inside and trace.inside[-1].module is block:
            done = trace.inside.pop()
            result = _result(output)
            done.post = None if result is None else _copy(result)
            trace.blocks.append(done)

    return enter, leave


def _part_hooks(trace: Trace, name: str) -> Hooks:
    def enter(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _current.get() is trace:
            given = _given(args, kwargs)
            trace.running.append(Call(part, name, trace.tick(), None if given is None else _copy(given)))

    def leave(part: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        if _current.get() is trace and trace.running and trace.running[-1].module is part:
            call = trace.running.pop()
            result = _result(output)
            call.end, call.out = trace.tick(), None if result is None else _copy(result)
            (trace.inside[-1].calls if trace.inside else trace.after).append(call)

    return enter, leave


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    first = [*args[:1], kwargs.get("hidden_states"), *kwargs.values()]
    return next((value for value in first if isinstance(value, Tensor) and value.is_floating_point()), None)


def _result(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    return first if isinstance(first, Tensor) else None


def _copy(tensor: Tensor) -> Tensor:
    """A copy that later in-place arithmetic does not reach."""
    return tensor.detach().to("cpu", copy=True)


class _Softmaxes(TorchFunctionMode):
    """Hears attention that modules compute by themselves."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        trace = _current.get()
        if trace is not None and not _by_interface.get():
            if func in _SOFTMAX:
                trace.attend_by_softmax(output.shape)
            elif func is _SDPA:
                trace.attend_by_softmax((*output.shape[:-1], _TOKENS), output.shape[-3] * output.shape[-1])
        return output


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`sdpa`, which also tells the trace, if there is one, for which module it ran."""
    trace = _current.get()
    if trace is not None:
        kwargs.pop("softcap", None)  # changes numbers, not who adds what to what
        trace.attend(module, query.shape[1], key.shape[1], True, query.shape[1] * value.shape[-1])
    token = _by_interface.set(True)
    try:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    finally:
        _by_interface.reset(token)
    return output


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
