"""From what one run of a block computed to its parts: what adds up, and what feeds what.

Nothing here knows an architecture. Modules are told apart by the numbers that they took and gave: the pair whose
outputs add up to what the block added, the norm that was given what attention left, the linear map whose output is
what was added. A part is only named if its equation holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from interpwidgets.models.calls import ACTIVATIONS, close, head_error, is_linear, is_norm, pieces
from interpwidgets.models.parts import Block, Kind, Write
from interpwidgets.models.probe import Attended, BlockTrace, Call
from interpwidgets.models.sums import Ruler, Sum, add_up, same

__all__ = ["dissect", "unknown"]

_NAMED = re.compile(r"att(n|ention)", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe|expert", re.IGNORECASE)


@dataclass(eq=False)
class _Parts:
    """What is known of a block while it is being taken apart."""

    kind: Kind = "unknown"
    attn: Call | None = None
    attn_scale: float = 1.0
    mlp: Call | None = None
    mlp_scale: float = 1.0
    mixers: list[tuple[Call, float]] = field(default_factory=list)
    mid: Tensor | None = None
    norm: Call | None = None  # post-norm: the one that gives resid_mid
    why: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)  # what else goes into a Block


def unknown(block: nn.Module, reason: str, *more: str) -> Block:
    """A block of which no part is known."""
    sites = ("resid_mid", "attn_out", "mlp_out", "z", "mlp_pre", "mlp_post", "q", "k", "v", "scores", "pattern")
    return Block(block, why=dict.fromkeys((*sites, *more), reason))


def dissect(trace: BlockTrace, heads: int | None) -> Block:
    """The parts of a block, from one run of it; `heads` is what the config says of their number."""
    if trace.post is None or trace.post.shape != trace.pre.shape:
        return unknown(trace.module, "The block does not return a stream of the shape that it was given.", "resid_post")
    if trace.pre.ndim > 3:
        return unknown(trace.module, "The residual stream has several lanes, which the block mixes.")
    dissection = _Dissection(trace, trace.post)
    parts = dissection.sums()
    if parts is None:
        return unknown(trace.module, "No outputs of modules add up to what the block adds to the residual stream.")
    dissection.attention_parts(parts, heads)
    dissection.mlp_parts(parts)
    dissection.norms(parts)
    return Block(
        trace.module,
        kind=parts.kind,
        attention=dissection.attention,
        attn_out=Write(parts.attn.module, parts.attn_scale) if parts.attn else None,
        mlp_out=Write(parts.mlp.module, parts.mlp_scale) if parts.mlp else None,
        mixers=tuple(Write(call.module, scale) for call, scale in parts.mixers),
        mid=parts.norm.module if parts.norm else None,
        why=parts.why,
        errors=parts.errors,
        **parts.found,
    )


class _Dissection:
    def __init__(self, trace: BlockTrace, post: Tensor) -> None:
        self.trace, self.pre, self.post = trace, trace.pre, post
        self.ruler = Ruler(self.pre, post)
        self.attention, self.attended, self.since = self._attention()
        runs = Counter(id(call.module) for call in trace.calls)
        self.single = [call for call in trace.calls if runs[id(call.module)] == 1]  # a hook hears these only
        self.candidates: list[Call] = []  # modules that may write; of those with one output, the last to end
        for call in self.single:
            if call.out is not None and self._is_stream(call.out) and not same(call.out, self.pre):
                self.candidates = [other for other in self.candidates if not same(other.out, call.out)] + [call]

    def _is_stream(self, tensor: Tensor) -> bool:
        """Whether it has the shape of the stream, its batch and positions perhaps in one."""
        return tensor.shape[-1] == self.pre.shape[-1] and tensor.numel() == self.pre.numel()

    def _attention(self) -> tuple[nn.Module | None, Attended | None, int]:
        """The module that computes attention, what was heard of it, and since when there was something to write."""
        if self.trace.attended:
            return self.trace.attended[0].module, self.trace.attended[0], self.trace.attended[0].time
        named = [call for call in self.trace.calls if _NAMED.search(call.name.rpartition(".")[2]) and not is_norm(call)]
        if not named:
            return None, None, -1
        outermost = min(named, key=lambda call: call.begin)
        return outermost.module, None, outermost.begin

    # -- the writes

    def sums(self) -> _Parts | None:
        """Who writes to the stream, and in which order."""
        return self._added() or self._post_norm() or self._in_two_steps()

    def _added(self) -> _Parts | None:
        """resid_post = resid_pre + one or two outputs."""
        total = add_up(self.ruler, self.pre, self.post, self.candidates, (1, 2))
        if total is None:
            return None
        parts = _Parts(errors={"resid_post": self._error(total)})
        terms = sorted(zip(total.calls, total.scales, strict=True), key=lambda term: term[0].end)
        if len(terms) == 1:
            call, scale = terms[0]
            later = [other for other in self.candidates if other.end > call.end and not _any(other)]
            if self._is_mlp(call):
                terms = []
                parts.mlp, parts.mlp_scale = call, scale
            elif later:
                parts.mlp = later[-1]  # an MLP that is all zeros
            first = terms
        else:
            early = [term for term in terms if term[0].end < self.since]
            other = early[0] if early else terms[1]
            parts.mlp, parts.mlp_scale = other
            first = [term for term in terms if term is not other]
        self._first(parts, first)
        self._find_mid(parts, Sum(tuple(call for call, _ in first), tuple(scale for _, scale in first)))
        return parts

    def _in_two_steps(self) -> _Parts | None:
        """Up to two outputs until something is given resid_mid, and one from there, or more than can be told apart."""
        for given, begin in self._streams():
            before = [call for call in self.candidates if call.end < begin]
            first = add_up(self.ruler, self.pre, given, before, (1, 2))
            if first is None:
                continue
            parts = _Parts("sequential", mid=given)
            parts.errors["resid_mid"] = self.ruler.gap(first.added_to(self.pre), given, self.pre)
            self._first(parts, list(zip(first.calls, first.scales, strict=True)))
            after = [call for call in self.candidates if call.begin >= begin]
            if second := add_up(self.ruler, given, self.post, after, (1, 2)):
                parts.errors["resid_post"] = self._error(Sum(first.calls + second.calls, first.scales + second.scales))
                if len(second.calls) == 1:
                    parts.mlp, parts.mlp_scale = second.calls[0], second.scales[0]
                else:
                    parts.why["mlp_out"] = "What is added after attention is the sum of several modules' outputs."
                return parts
            stream, nothing = Call(self.trace.module, "", begin, given, begin, given), torch.zeros_like(given)
            whole = add_up(self.ruler, nothing, self.post, [stream, *after], (2, 3))
            if whole and whole.calls[0] is stream:
                parts.errors["resid_post"] = self.ruler.gap(whole.added_to(nothing), self.post, self.pre)
                parts.why["mlp_out"] = f"The block multiplies what it returns by {whole.scales[0]:g}."
                return parts
        return None

    def _post_norm(self) -> _Parts | None:
        """resid_mid = norm(resid_pre + attn_out), resid_post = norm(resid_mid + mlp_out)."""
        norms = [call for call in self.single if is_norm(call) and call.out is not None and self._is_stream(call.out)]
        for last in norms:
            if not same(last.out, self.post):
                continue
            for middle in norms:
                if middle.end > last.begin or middle.given is None or middle.out is None or last.given is None:
                    continue
                inner = [call for call in self.candidates if middle.end < call.begin and call.end < last.begin]
                outer = [call for call in self.candidates if call.end < middle.begin]
                mlp = add_up(self.ruler, middle.out, last.given, inner, (1,))
                attn = mlp and add_up(self.ruler, self.pre, middle.given, outer, (1, 2))
                if mlp and attn:
                    parts = _Parts("post-norm", norm=middle, mid=middle.out)
                    parts.errors["resid_mid"] = self.ruler.gap(attn.added_to(self.pre), middle.given, self.pre)
                    parts.errors["resid_post"] = self.ruler.gap(mlp.added_to(middle.out), last.given, middle.out)
                    parts.mlp, parts.mlp_scale = mlp.calls[0], mlp.scales[0]
                    self._first(parts, list(zip(attn.calls, attn.scales, strict=True)))
                    return parts
        return None

    def _first(self, parts: _Parts, terms: list[tuple[Call, float]]) -> None:
        """Tell attention from what else writes before the MLP does."""
        written = [term for term in terms if self.since >= 0 and term[0].end > self.since and self._attends(term[0])]
        if written:
            parts.attn, parts.attn_scale = written[0]
        elif self.attention is not None:
            parts.why["attn_out"] = "What attention returns is not what is added to the residual stream."
        parts.mixers = [term for term in terms if term[0] is not parts.attn]

    def _beside_attention(self, module: nn.Module) -> bool:
        """Whether a module is neither part of attention nor has it as a part."""
        attention = self.attention
        if attention is None:
            return True
        around = any(part is attention for part in module.modules())
        return not around and all(part is not module for part in attention.modules())

    def _attends(self, write: Call) -> bool:
        """Whether a write is attention's: it is part of it, contains it, or goes on with what it returns."""
        if not self._beside_attention(write.module):
            return True
        passed = [call.out for call in self.trace.calls if call.module is self.attention]
        for call in self.trace.calls:
            if any(same(call.given, out) for out in passed):
                passed.append(call.out)
        return any(same(write.out, out) for out in passed)

    def _find_mid(self, parts: _Parts, first: Sum) -> None:
        """Sequential if some module was given the stream as attention leaves it."""
        if not first.calls or parts.mlp is None:
            parts.kind, parts.mid = "sequential", self.post if parts.mlp is None else self.pre
            parts.why["resid_mid"] = "Only one module writes to the stream in this block: there is nothing in between."
            return
        expected = first.added_to(self.pre)
        for given, begin in self._streams():
            error = self.ruler.gap(expected, given, self.pre)
            if begin > first.calls[-1].end and error < self.ruler.tolerance:
                parts.kind, parts.mid = "sequential", given
                parts.errors["resid_mid"] = error
                return
        early = [call.out for call in self.trace.calls if is_norm(call) and same(call.given, self.pre)]
        readers = [call for call in self.trace.calls if not is_norm(call) and self._beside_attention(call.module)]
        if any(same(call.given, out) for call in readers if call.end <= parts.mlp.end for out in (self.pre, *early)):
            parts.kind = "parallel"
            parts.why["resid_mid"] = "Attention and the MLP read the stream side by side: there is nothing in between."
        else:
            parts.why["resid_mid"] = "Nothing that the MLP reads is the stream as attention leaves it."

    def _streams(self) -> Iterator[tuple[Tensor, int]]:
        """What modules were given that looks like the stream, in the order of time."""
        for call in sorted(self.trace.calls, key=lambda call: call.begin):
            if call.given is not None and self._is_stream(call.given) and not same(call.given, self.pre):
                yield call.given.reshape(self.pre.shape), call.begin

    def _error(self, total: Sum) -> float:
        """Of the sum, in the model's precision; blocks differ in what they add first."""
        forth = total.added_to(self.pre)
        back = self.pre + Sum(total.calls[1:], total.scales[1:]).added_to(
            Sum(total.calls[:1], total.scales[:1]).added_to(torch.zeros_like(self.pre))
        )
        return min(self.ruler.gap(made, self.post, self.pre) for made in (forth, back))

    def _is_mlp(self, call: Call) -> bool:
        return self.since < 0 and bool(_MLP.search(call.name) or _MLP.search(type(call.module).__name__))

    # -- attention

    def attention_parts(self, parts: _Parts, heads: int | None) -> None:
        """The output projection, and how its input falls into heads."""
        attended = self.attended
        once = len(self.trace.attended) == 1
        interface = attended is not None and attended.interface and once
        heard = attended.heads if attended is not None else _heads_of(self.attention)
        sure = heard is None or heads is None or heard == heads or attended is None or interface
        heads = heard or heads
        parts.found.update(interface=interface, heads=heads if self.attention is not None else None)
        if attended is not None:
            parts.found["kv_heads"] = attended.kv_heads
        if not interface:
            reason = "There is no attention in this block."
            if self.attention is not None:
                reason = f"{type(self.attention).__name__} computes attention with code of its own."
            if attended is not None and not once:
                reason = f"The block computes attention {len(self.trace.attended)} times."
            parts.why.update(dict.fromkeys(("q", "k", "v", "scores", "pattern"), reason))
        if parts.attn is None:
            parts.why["z"] = parts.why.setdefault("attn_out", "There is no attention in this block.")
            return
        found = [call for call in self._linear_into(parts.attn) if call.begin > self.since]
        if not found or heads is None or not sure:
            parts.why["z"] = "No single linear map turns the heads' outputs into attn_out."
            return
        call = found[-1]
        assert call.given is not None
        width = call.given.shape[-1]
        if width % heads or (attended is not None and attended.width and attended.width != width):
            parts.why["z"] = f"The input of the output projection, {width} wide, is not {heads} heads side by side."
            return
        error = head_error(call, heads)
        if not error < self.ruler.tolerance:
            parts.why["z"] = "The output projection is not the linear map that its weight says."
            return
        parts.errors["z"] = error
        parts.found.update(z=call.module, d_head=width // heads)

    # -- the MLP

    def mlp_parts(self, parts: _Parts) -> None:
        """The last linear map, and the activation before it."""
        if parts.mlp is None:
            reason = parts.why.setdefault("mlp_out", "There is no MLP in this block.")
            parts.why.update(mlp_pre=reason, mlp_post=reason)
            return
        found = [call for call in self._linear_into(parts.mlp) if call.module is not parts.found.get("z")]
        if not found or found[-1].given is None:
            reason = "No single linear map gives mlp_out: a mixture of experts, or code of its own."
            parts.why.update(mlp_pre=reason, mlp_post=reason)
            return
        down = found[-1]
        assert down.given is not None
        error = head_error(down, 1)
        if not error < self.ruler.tolerance:
            reason = "The MLP's last map is not the linear map that its weight says."
            parts.why.update(mlp_pre=reason, mlp_post=reason)
            return
        parts.errors["mlp_post"] = error
        parts.found.update(down=down.module, d_mlp=down.given.shape[-1])
        act, up = self._activation(down)
        parts.found.update(act=act.module if act else None, up=up.module if up else None)
        if not act and not up:
            parts.why["mlp_pre"] = "No activation was found between the MLP's linear maps."

    def _activation(self, down: Call) -> tuple[Call | None, Call | None]:
        """The activation whose output is mlp_post, or mlp_post up to a gate; else the linear map in front of it."""
        post = down.given
        assert post is not None
        earlier = [call for call in self.single if call.end < down.begin and call.out is not None]
        linear = [call for call in earlier if is_linear(call)]
        halves = [piece for call in linear if call.out is not None for piece in pieces(call.out, post)]
        goals = [post, *(n.given for n in earlier if n.given is not None and is_norm(n) and same(n.out, post))]

        def makes(out: Tensor) -> bool:
            gated = (out * gate.reshape(out.shape) for gate in halves)
            return any(close(made, goal) for made in (out, *gated) for goal in goals)

        for call in reversed(earlier):
            if call.out is None or call.given is None or call.out.numel() != post.numel() or is_linear(call):
                continue
            changed = call.given.shape == call.out.shape and not same(call.given, call.out)
            if changed and not is_norm(call) and makes(call.out):
                return call, None
        for call in reversed(linear):
            assert call.out is not None
            if call.out.numel() == post.numel() and any(makes(function(call.out)) for function in ACTIVATIONS):
                return None, call
        return None, None

    def _linear_into(self, write: Call) -> list[Call]:
        """Linear maps whose output is what is written, or becomes it through a norm."""
        norms = [call for call in self.single if call.end <= write.end and is_norm(call)]
        sources = [write.out, *(norm.given for norm in norms if same(norm.out, write.out))]
        return [
            call
            for call in self.single
            if call.end <= write.end and is_linear(call) and any(same(call.out, source) for source in sources)
        ]

    # -- norms

    def norms(self, parts: _Parts) -> None:
        """The norms through which attention and the MLP read the stream."""
        if parts.kind not in ("sequential", "parallel"):
            return
        norms = [call for call in self.trace.calls if is_norm(call)]
        late = parts.mid if parts.kind == "sequential" else self.pre
        start = max((call.end for call in (parts.attn, *(call for call, _ in parts.mixers)) if call), default=-1)
        if parts.attn is not None or parts.mixers:
            parts.found["ln1"] = self._read_through([n for n in norms if same(n.given, self.pre)], -1, start)
        if parts.mlp is not None:
            since = start if parts.kind == "sequential" else self.since
            parts.found["ln2"] = self._read_through([n for n in norms if same(n.given, late)], since, parts.mlp.end)

    def _read_through(self, norms: list[Call], begin: int, end: int) -> nn.Module | None:
        """The norm whose output is given to something that runs between these times."""
        for norm in norms:
            if any(begin < call.begin <= end and call.begin > norm.end and same(call.given, norm.out)
                   for call in self.trace.calls):  # fmt: skip
                return norm.module
        return None


def _heads_of(attention: nn.Module | None) -> int | None:
    """What a module says of its heads; of linear attention, which falls into heads by its values."""
    names = ("num_v_heads", "num_heads", "num_attention_heads", "n_heads", "n_head")
    found = (getattr(attention, name, None) for name in names)
    return next((number for number in found if isinstance(number, int)), None)


def _any(call: Call) -> bool:
    return call.out is not None and bool(call.out.any())
