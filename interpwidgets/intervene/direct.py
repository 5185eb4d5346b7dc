"""Direct logit attribution: what each component writes straight to the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.intervene.engine import ids_of, run_tape
from interpwidgets.intervene.metrics import BoundMetric, Metric, as_metric
from interpwidgets.models.hooks import norm_scale
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.parts import Block
from interpwidgets.models.record import record, recorder
from interpwidgets.models.sites import Site
from interpwidgets.models.tape import lacks
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts
from interpwidgets.stats import interval
from interpwidgets.tokens import Tokens

__all__ = ["LogitAttribution", "direct_logit_attribution"]

Floats = NDArray[np.float64]

_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # what configs call it
_TOP = 6  # contributions in a repr


@dataclass(frozen=True, eq=False, repr=False)
class LogitAttribution:
    """A logit, or a difference of logits, as the sum of what was written to it.

    `embed + Σ attn + Σ mlp + rest + constant = total` on each prompt, and the heads of a layer with the bias of its
    output add up to its attn. NaN stands where a layer has no such part, or heads cannot be told apart; what no named
    part wrote is in `rest`.
    """

    model: str
    metric: str
    embed: Floats  # [prompt], the stream that enters the first block
    heads: Floats  # [prompt, layer, head]
    attn: Floats  # [prompt, layer], all heads and the bias of their output
    mlp: Floats  # [prompt, layer]
    rest: Floats  # [prompt], of parts that are neither attention nor MLP
    constant: Floats  # [prompt], biases of the final norm and of the unembedding
    total: Floats  # [prompt], before any soft-cap
    softcap: float | None = None
    tokens: tuple[Tokens, ...] = ()  # of each prompt
    positions: tuple[int, ...] = ()  # of each prompt: whose logits are split
    _layer: Callable[[int], Floats] | None = None  # [prompt, head, key], see `sources`

    @property
    def n(self) -> int:
        """How many prompts."""
        return len(self.total)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the columns of `contributions` are: embed, L0H0 …, L0 attn bias, L0 mlp, …, rest, constant."""
        return tuple(label for label, _, _, _ in self._columns())

    @property
    def contributions(self) -> Floats:
        """All of them side by side, [prompt, component]; each row adds up to its prompt's total."""
        return np.stack([values for _, _, _, values in self._columns()], axis=-1)

    def sources(self, layer: int, head: int) -> Floats:
        """What a head's contribution is made of: the source token whose value it carried, [prompt, key].

        A head writes Σ_key pattern[key] · v[key] · W_O, so its contribution is a sum over the tokens that it attends
        to; each row adds up to `heads[:, layer, head]`. Keys after the position that is read, or after the end of a
        shorter prompt, are NaN. Computed when a layer is first asked for, by one more pass.

        Elhage et al. 2021, "A mathematical framework for transformer circuits" (attention heads as information
        movement).

        Raises InputError for a head that is not there or does not split that way, NoAttentionError for a model whose
        values cannot be recorded.
        """
        layers, heads = self.heads.shape[1:]
        if not (0 <= layer < layers and 0 <= head < heads) or np.isnan(self.heads[:, layer, head]).any():
            raise InputError(f"There is no layer {layer}, head {head}: {layers} layers × {heads} heads were split.")
        if self._layer is None:
            raise InputError("This attribution came without its model; make it with direct_logit_attribution(…).")
        if layer not in self._found:
            self._found[layer] = self._layer(layer)
        return self._found[layer][:, head]

    @cached_property
    def _found(self) -> dict[int, Floats]:
        return {}

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The largest contributions either way, in the mean over prompts."""
        mean = self.contributions.mean(0)
        return [(self.labels[i], float(mean[i])) for i in np.argsort(-np.abs(mean), kind="stable")[:k]]

    def to_pandas(self) -> Any:
        """A row for each contribution: component, layer, head, contribution, low, high, metric, n."""
        values = self.contributions.T  # [component, prompt]
        low, high = interval(values)
        labels, layers, heads, _ = zip(*self._columns(), strict=True)
        return frame(
            {"component": labels, "layer": layers, "head": heads}
            | {"contribution": values.mean(-1), "low": low, "high": high, "metric": self.metric, "n": self.n}
        )

    def _columns(self) -> list[tuple[str, int | None, int | None, Floats]]:
        found: list[tuple[str, int | None, int | None, Floats]] = [("embed", None, None, self.embed)]
        for layer in range(self.attn.shape[1]):
            heads, attn, mlp = self.heads[:, layer], self.attn[:, layer], self.mlp[:, layer]
            own = [head for head in range(heads.shape[1]) if not np.isnan(heads[:, head]).any()]
            found += [(f"L{layer}H{head}", layer, head, heads[:, head]) for head in own]
            if not np.isnan(attn).any():
                label = f"L{layer} attn bias" if own else f"L{layer} attn"
                found.append((label, layer, None, attn - heads[:, own].sum(-1)))
            if not np.isnan(mlp).any():
                found.append((f"L{layer} mlp", layer, None, mlp))
        return [*found, ("rest", None, None, self.rest), ("constant", None, None, self.constant)]

    def __repr__(self) -> str:
        parts = {
            "embed": self.embed, "attention": np.nansum(self.attn, 1), "MLPs": np.nansum(self.mlp, 1),
            "rest": self.rest, "constant": self.constant,
        }  # fmt: skip
        total = " ".join(f"{_signed(value.mean())} {name}" for name, value in parts.items())
        capped = "" if self.softcap is None else f", before the soft-cap at {self.softcap:g}"
        return "\n".join([
            f"LogitAttribution({self.model}) of {self.metric}, {self.n} prompt{'s' if self.n > 1 else ''}",
            f"  total {_signed(self.total.mean())} = {total}{capped}",
            "  most: " + ", ".join(f"{label} {_signed(value)}" for label, value in self.top(_TOP)),
        ])  # fmt: skip


def direct_logit_attribution(model: Model | Any, prompts: Prompts, metric: Metric | Any) -> LogitAttribution:
    """Split a logit, or a difference of logits, into what the embedding, each head and each MLP write to it.

    >>> direct_logit_attribution(model, prompts, logit_diff(" Mary", " John")).heads     # [prompt, layer, head]

    The residual stream is a sum, and the final norm linear once its scale is held at the value that it has; so each
    term is the component's output times one direction. A norm between attention and the stream (Gemma 2) has its
    scale held as well. Effects through later layers are not in it: for those, patch. A single logit has no zero of
    its own, so prefer `logit_diff`.

    Elhage et al. 2021, "A mathematical framework for transformer circuits"; TransformerLens' `logit_attrs`.

    Raises InputError for a metric that is not linear in the logits of one position, and for a model whose blocks do
    not add to the stream or whose logits are not a linear map of its final norm (verified to 10⁻³).
    """
    model = as_model(model)
    batch = read_prompts(model, prompts)
    bound = as_metric(metric).bind(model, ids_of(batch))
    if bound.positions.shape[1] > 1 or bound.needs_reference:
        raise _not_linear(bound)
    parts = model.anatomy.parts
    _check_blocks(model)
    last = model.n_layers - 1
    here = [(site, layer) for layer, part in enumerate(parts) for site in ("attn_out", "mlp_out", "z")
            if lacks(part, site) is None and (site != "z" or part.attn_out)]  # fmt: skip
    sites: list[Site] = [("resid_pre", 0), *here, ("resid_post", last)]
    tape = recorder(model, batch, sites)
    tape.positions = bound.positions
    logits = run_tape(model, batch, tape, bound.positions)[:, 0]  # [prompt, vocab]
    values = {site: value[:, 0] for site, value in tape.values.items()}  # [prompt, …]

    weights = _linear(bound, logits)
    final = values["resid_post", last]
    head = _Head(model, logits, final)
    direction, constant, total = head.read(weights)

    def written(site: str, layer: int) -> Floats:
        value = values.get((site, layer))
        return np.full(len(final), np.nan) if value is None else _numbers((value * direction).sum(-1))

    embed = written("resid_pre", 0)
    attn = np.stack([written("attn_out", layer) for layer in range(len(parts))], axis=1)
    mlp = np.stack([written("mlp_out", layer) for layer in range(len(parts))], axis=1)
    whole = _numbers((final.double() * direction).sum(-1))
    gap = np.abs(whole + constant - total).max()
    size = max(np.abs(total).max(), np.abs(whole).max())
    if not gap <= _tolerance(model) * size:
        raise InputError(
            f"The logits of {model.name} are not linear in its last stream with the final norm's scale held (relative "
            f"error {gap / size:.0e}), so they do not split into contributions."
        )
    count = max([part.heads or 0 for part in parts] or [0])
    heads = np.full((len(final), len(parts), count), np.nan)
    for layer, part in enumerate(parts):
        if ("z", layer) in values:
            found = _heads(model, layer, part, values["z", layer], values["attn_out", layer], direction)
            if found is not None:
                heads[:, layer, : found.shape[1]] = found

    def by_source(layer: int) -> Floats:
        return _by_source(model, batch, bound.positions[:, 0], layer, direction, heads[:, layer])

    return LogitAttribution(
        model.name, bound.name, embed, heads, attn, mlp, whole - embed - np.nansum(attn, 1) - np.nansum(mlp, 1),
        constant, total, head.cap, tuple(batch.tokens), tuple(bound.positions[:, 0].tolist()), by_source,
    )  # fmt: skip


class _Head:
    """From the last stream to the logits: scale × unembedding of the final norm, then perhaps a soft-cap."""

    def __init__(self, model: Model, logits: Tensor, final: Tensor) -> None:
        assert model.anatomy.unembed is not None
        self._unembed, self._norm, self._final = model.anatomy.unembed, model.anatomy.ln_final, final
        caps = (getattr(model.config, name, None) for name in _CAPS)
        self.cap = next((float(cap) for cap in caps if cap), None)
        wide, plain = logits.double(), self._affine(final).double()
        clear = torch.ones_like(wide, dtype=torch.bool)
        if self.cap is not None:
            clear = wide.abs() < 0.9 * self.cap  # beyond, the cap leaves too few digits to undo it
            wide = self.cap * torch.atanh((wide / self.cap).where(clear, 0))
        truth, tried = wide[clear], plain[clear]
        self._scale = float((truth @ tried) / (tried @ tried))
        if not float((truth - self._scale * tried).abs().max()) <= _tolerance(model) * float(truth.abs().max()):
            raise InputError(
                f"The logits of {model.name} are not a matrix times its final norm: there is more in its head, so they "
                "do not split into contributions."
            )

    def _affine(self, stream: Tensor) -> Tensor:
        with torch.no_grad():
            normed: Tensor = stream if self._norm is None else self._norm(stream)
            found: Tensor = self._unembed(normed)
        return found

    def read(self, weights: Tensor) -> tuple[Tensor, Floats, Floats]:
        """Of weighted logits [prompt, vocab]: the direction [prompt, d_model] they are read along, constant, total."""
        weights = weights * self._scale
        total = (self._affine(self._final).double() * weights).sum(-1)
        constant = (self._affine(torch.zeros_like(self._final)).double() * weights).sum(-1)
        with torch.enable_grad():
            stream = self._final.detach().requires_grad_()
            normed = stream if self._norm is None else _held(self._norm, stream)
            read = (self._unembed(normed).double() * weights).sum()
        (direction,) = torch.autograd.grad(read, stream)
        return direction.double(), _numbers(constant), _numbers(total)


def _held(norm: nn.Module, x: Tensor) -> Tensor:
    """What a norm does to x but for its bias, with its scale held at what it is: linear in x."""
    scale = norm_scale(norm, x)
    shift = norm(torch.zeros_like(x)).detach()
    held: Tensor = (norm(x) - shift) * (scale / scale.detach())
    return held.to(x.dtype)


def _heads(model: Model, layer: int, part: Block, z: Tensor, attn: Tensor, direction: Tensor) -> Floats | None:
    """What each head writes along a direction, [prompt, head]; None if it cannot be told."""
    along = _before_norm(model, part, z, attn, direction)
    if along is None:
        return None
    return _numbers(torch.einsum("phd,hdm,pm->ph", z.double(), _w_o(model, layer, z), along))


def _by_source(model: Model, batch: Batch, positions: Tensor, layer: int, direction: Tensor, heads: Floats) -> Floats:
    """What each head carries from each key, [prompt, head, key]; NaN where there is none to be seen."""
    rec = record(model, {name: value.cpu() for name, value in batch.inputs.items()},
                 sites=["q", "k", "v", "z", "attn_out"], layers=[layer])  # fmt: skip
    rows, part = torch.arange(len(positions)), model.anatomy.parts[layer]
    z, attn, v = rec["z", layer], rec["attn_out", layer], rec["v", layer].double()  # v: [prompt, key, kv head, d_head]
    along = _before_norm(model, part, z[rows, positions], attn[rows, positions], direction)
    assert along is not None  # or there would be no heads
    read = torch.einsum("hdm,pm->phd", _w_o(model, layer, v), along)
    group = read.shape[1] // v.shape[2]  # heads that share a value
    values = torch.einsum("pkhd,phd->phk", v.repeat_interleave(group, dim=2), read)
    found = np.full((*heads.shape, v.shape[1]), np.nan)
    for prompt, pos in enumerate(positions.tolist()):
        for head in range(read.shape[1]):
            pattern = rec.pattern(layer, head, prompt, queries=pos, keys=slice(0, pos + 1)).double()
            found[prompt, head, : pos + 1] = _numbers(pattern * values[prompt, head, : pos + 1].cpu())
    gap, size = np.abs(np.nansum(found, -1) - heads)[:, : read.shape[1]].max(), np.nanmax(np.abs(heads))
    if not gap <= _tolerance(model) * max(size, 1e-6):
        raise InputError(
            f"What the heads of layer {layer} of {model.name} write is not attention times values (it differs by "
            f"{gap:.1e}), so it does not split by source token."
        )
    return found


def _before_norm(model: Model, part: Block, z: Tensor, attn: Tensor, direction: Tensor) -> Tensor | None:
    """The direction [prompt, d_model] along which z · W_O reads what attention writes; None if there is none."""
    assert part.z is not None
    assert part.attn_out is not None
    module, scale = part.attn_out.module, part.attn_out.scale
    with torch.no_grad():
        out = part.z(z.flatten(-2)).to(z)  # [prompt, d_model]
    if not _close(out * scale, attn, model):
        with torch.enable_grad():  # a norm stands between
            before = out.detach().requires_grad_()
            after = module(before)
            if after.shape != attn.shape or not _close(after * scale, attn, model):
                return None
            (direction,) = torch.autograd.grad((_held(module, before).double() * direction).sum(), before)
    return direction.double() * scale


def _w_o(model: Model, layer: int, like: Tensor) -> Tensor:
    """A layer's output matrices in double precision, [head, d_head, d_model]."""
    return model.anatomy.w_o(layer).to(like.device).double()


def _linear(bound: BoundMetric, logits: Tensor) -> Tensor:
    """The weights [prompt, vocab] of a metric that is a weighted sum of logits."""
    every = torch.arange(len(logits))
    at = torch.zeros_like(logits, dtype=torch.float64)
    with torch.enable_grad():
        zero = at[:, None].requires_grad_()
        value = bound(zero, every)
        if not value.requires_grad:
            raise _not_linear(bound)
        (found,) = torch.autograd.grad(value.sum(), zero)
    weights: Tensor = found[:, 0]
    tried, truth = (logits.double() * weights).sum(-1), bound(logits.double()[:, None], every)
    if not bool((value.detach().abs() < 1e-9).all()) or not torch.allclose(tried, truth, rtol=1e-6, atol=1e-9):
        raise _not_linear(bound)
    return weights


def _not_linear(bound: BoundMetric) -> InputError:
    return InputError(
        f"{bound.name} is no weighted sum of the logits at one position. Take logit(…) or logit_diff(…, …)."
    )


def _check_blocks(model: Model) -> None:
    """Refuse blocks that do more to the stream than to add to it."""
    for layer, part in enumerate(model.anatomy.parts):
        why = part.why.get("mlp_out", "")
        if part.kind == "post-norm":
            why = "a norm is applied to the stream itself, so that it is no sum of what was written."
        elif part.kind != "unknown" and "multiplies" not in why:
            continue
        raise InputError(f"Layer {layer} of {model.name} does not only add to the stream: {why}")


def _close(a: Tensor, b: Tensor, model: Model) -> bool:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max()) <= _tolerance(model) * float(b.abs().max())


def _tolerance(model: Model) -> float:
    return 1e-3 if model.module.dtype in (torch.float32, torch.float64) else 3e-2


def _numbers(values: Tensor) -> Floats:
    numbers: Floats = values.detach().double().cpu().numpy()
    return numbers


def _signed(value: Any) -> str:
    return f"{float(value):+.2f}".replace("-", "−")
