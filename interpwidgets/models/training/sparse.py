"""How sparse dictionaries learn, one step of one dictionary at a time.

- TopK, with a loss that revives dead features (Gao et al. 2024)
- BatchTopK: as many features of a whole batch, with one threshold in their place once trained (Bussmann et al. 2024)
- JumpReLU, with a straight-through penalty on the number of active features (Rajamanoharan et al. 2024)
- L1: ReLU, with a penalty on activations along directions of length one (Bricken et al. 2023)

While they learn, activations are divided by their root mean square; `shipped` folds the factor into the weights.
Directions have length one in every step. Losses are shares of the variance that is left unexplained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from interpwidgets.models.dictionary import Dictionary, Kind

__all__ = ["KINDS", "Learning", "Trainer", "begin", "learn", "ship"]

Trainer = Literal["topk", "batchtopk", "jumprelu", "l1"]

KINDS: dict[Trainer, Kind] = {"topk": "topk", "batchtopk": "jumprelu", "jumprelu": "jumprelu", "l1": "relu"}
"""Which kind of dictionary comes of each way of training."""

_FOLLOWS = 0.9  # of BatchTopK's threshold, what stays at each step


class Learning(NamedTuple):
    """How one dictionary is trained."""

    trainer: Trainer
    steps: int
    k: int
    penalty: float  # for each feature active on a token, or each unit of activation, so much of the variance
    bandwidth: float = 0.3
    threshold: float = 0.5  # of JumpReLU, to begin with
    # Features that were not active for so many steps are dead; so many of them are asked to explain the error.
    patience: int = 40
    revived: int = 64
    revival: float = 1 / 32


class _Step(torch.autograd.Function):
    """What passes a threshold: the value, or one for each that does. To the threshold goes the gradient of a box."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor, bandwidth: float, value: bool) -> Tensor:
        ctx.save_for_backward(before, threshold)
        ctx.bandwidth, ctx.value = bandwidth, value
        above = (before > threshold).to(before.dtype)
        return before.relu() * above if value else above

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        before, threshold = ctx.saved_tensors
        (gradient,) = gradients
        near = ((before - threshold).abs() < ctx.bandwidth / 2) * gradient / ctx.bandwidth
        to_threshold = -(near * threshold if ctx.value else near).sum(0)
        to_value = gradient * (before > threshold.clamp(min=0)) if ctx.value else None
        return to_value, to_threshold, None, None


@torch.no_grad()
def begin(one: Dictionary, how: Learning, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the first weights, and set biases by some activations [token, d]; give the scales of x and of y."""
    scales = torch.stack([x.square().mean().sqrt(), y.square().mean().sqrt()])
    into, outof = scales
    one.W_dec.copy_(F.normalize(torch.randn(one.W_dec.shape, generator=generator), dim=1))
    one.W_enc.copy_(one.W_dec.T)
    one.b_dec.copy_(y.mean(0) / outof)
    if one.transcoder:  # what it reads has nothing to do with what it writes
        one.W_enc.copy_(F.normalize(torch.randn(one.W_enc.shape, generator=generator), dim=0))
        one.b_enc.copy_(-(x.mean(0) / into) @ one.W_enc)
    if how.trainer == "jumprelu":
        one.threshold.fill_(how.threshold)
    return scales


def learn(one: Dictionary, how: Learning, number: int, x: Tensor, y: Tensor, idle: Tensor) -> Tensor:
    """Give the loss of step `number` on scaled activations; count in `idle` [feature] the steps without activity."""
    directions = F.normalize(one.W_dec, dim=1)
    variance = (y - y.mean(0)).square().sum(-1).mean()
    before = one.before(x)
    ramp = min(1.0, 4 * (number + 1) / how.steps)
    penalty: Tensor | float = 0.0
    if how.trainer == "jumprelu":
        features: Tensor = _Step.apply(before, one.threshold, how.bandwidth, True)  # type: ignore[no-untyped-call]
        active: Tensor = _Step.apply(before, one.threshold, how.bandwidth, False)  # type: ignore[no-untyped-call]
        penalty = ramp * how.penalty * active.sum(-1).mean()
    elif how.trainer == "batchtopk":
        features = _of_batch(one, how, before)
    else:
        features = one.active(before)
    if how.trainer == "l1":
        penalty = ramp * how.penalty * features.sum(-1).mean()
    error = y - features @ directions - one.b_dec
    if how.trainer in ("topk", "batchtopk"):
        penalty = _revival(how, idle >= how.patience, before, error.detach(), directions) / variance
    with torch.no_grad():
        idle.copy_((idle + 1) * ~(features > 0).any(0))
    unexplained: Tensor = error.square().sum(-1).mean() / variance
    return unexplained + penalty


def _of_batch(one: Dictionary, how: Learning, before: Tensor) -> Tensor:
    """Keep the k largest a token, on average over the batch; let the threshold follow the smallest that is kept."""
    flat = before.relu().flatten()
    values, which = flat.topk(how.k * len(before), sorted=False)
    with torch.no_grad():
        if bool((values > 0).any()):
            least = values[values > 0].min()
            first = bool((one.threshold == 0).all())
            one.threshold.copy_(least if first else _FOLLOWS * one.threshold + (1 - _FOLLOWS) * least)
    return torch.zeros_like(flat).scatter(0, which, values).view_as(before)


def _revival(how: Learning, dead: Tensor, before: Tensor, error: Tensor, directions: Tensor) -> Tensor:
    """What is left of the error when dead features explain as much of it as they can."""
    if not (count := int(dead.sum())):
        return before.new_zeros(())
    values, which = before[:, dead].topk(min(how.revived, count), dim=-1)
    features = before.new_zeros(len(before), count).scatter(-1, which, values.relu())
    left: Tensor = (error - features @ directions[dead]).square().sum(-1).mean()
    return left * how.revival


@torch.no_grad()
def ship(one: Dictionary, given: Dictionary, scales: Tensor) -> Dictionary:
    """Fill a dictionary for activations as the model has them, with directions of length one."""
    into, outof = scales
    given.metadata["activation_scale"] = float(into)
    given.W_enc.copy_(one.W_enc * (outof / into))
    given.W_dec.copy_(F.normalize(one.W_dec, dim=1))
    given.b_enc.copy_(one.b_enc * outof)
    given.b_dec.copy_(one.b_dec * outof)
    if one.kind == "jumprelu":
        given.threshold.copy_(one.threshold * outof)
    return given.requires_grad_(False).eval()
