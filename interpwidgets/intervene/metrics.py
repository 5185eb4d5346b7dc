"""What an intervention is measured by: one number a prompt, from the model's logits.

>>> metric = logit_diff(" Mary", " John")
>>> metric.name
'logit(␣Mary) − logit(␣John)'

A `Metric` is a wish, in words; bound to a model and its prompts it is a function of logits. Tokens are strings that
are one token each, or ids; one for all prompts, or a list with one per prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.tokens import read_tokens, spell
from interpwidgets.models.model import Model

__all__ = [
    "BoundMetric",
    "Metric",
    "accuracy",
    "as_metric",
    "kl",
    "log_prob",
    "logit",
    "logit_diff",
    "loss",
    "prob",
    "rank",
]

Given = Any  # a string, an id, or a sequence with one of them per prompt
# (logits [n, vocab], one argument [n] of ids per token given, the reference [n, vocab] where needed) -> [n]
Formula = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Metric:
    """A number a prompt that a model's logits are asked for.

    Your own: `Metric("entropy", lambda logits: …, pos=3)`, of logits [batch, vocab] → [batch].
    """

    name: str
    formula: Formula
    tokens: tuple[Given, ...] = ()
    pos: int | None = -1  # negative counts from the end; None: all with a next token, which the formula gets too
    needs_reference: bool = False  # the logits of the clean run, as the formula's last argument
    local: bool = False  # whether the formula reads the logits of its tokens only

    def bind(self, model: Model, prompts: Sequence[Sequence[int]]) -> BoundMetric:
        """The metric on these prompts of token ids."""
        if not len(prompts):
            raise InputError(f"{self.name} is measured on prompts; there is none.")
        if self.pos is None:
            positions = [_with_next(number, prompt) for number, prompt in enumerate(prompts)]
            ids = [torch.from_numpy(_pad([np.asarray(prompt)[1:] for prompt in prompts]))]  # [prompt, P]
        else:
            positions = [np.array([_from_front(self.pos, number, len(p))]) for number, p in enumerate(prompts)]
            ids = [read_tokens(model, given, len(prompts))[:, None] for given in self.tokens]
        return BoundMetric(self, positions, ids)

    def __repr__(self) -> str:
        return f"Metric({self.name})"


class BoundMetric:
    """A metric on certain prompts, as a function of their logits.

    The logits of prompt `i` are wanted at `positions[i, : counts[i]]`; what follows repeats the last of them.
    """

    def __init__(self, metric: Metric, positions: Sequence[NDArray[np.int64]], ids: list[Tensor]) -> None:
        self.metric = metric
        self.positions = torch.from_numpy(_pad(positions))  # [prompt, P]
        self.counts = torch.tensor([len(row) for row in positions])  # [prompt]
        self._ids = ids  # each [prompt, P]
        self._reference: Tensor | None = None

    @property
    def name(self) -> str:
        """The metric's, in words."""
        return self.metric.name

    @property
    def needs_reference(self) -> bool:
        """Whether `reference` has to be set before the metric is asked."""
        return self.metric.needs_reference

    @property
    def reference(self) -> Tensor | None:
        """The logits of the clean run at the positions wanted: [prompt, P, vocab]."""
        return self._reference

    @reference.setter
    def reference(self, logits: Tensor | None) -> None:
        if logits is not None and (logits.ndim != 3 or logits.shape[:2] != self.positions.shape):
            wanted = ", ".join(map(str, self.positions.shape))
            raise InputError(f"The reference of {self.name} is [{wanted}, vocab]; got {list(logits.shape)}.")
        self._reference = None if logits is None else logits.detach()

    @property
    def tokens_read(self) -> Tensor | None:
        """The ids whose logits are read, of any prompt; None if all are."""
        return torch.unique(torch.cat([ids.flatten() for ids in self._ids])) if self.metric.local else None

    def __call__(self, logits: Tensor, prompt: Tensor) -> Tensor:
        """One number a row, [n], of logits [n, P, vocab] whose row `i` is of prompt `prompt[i]`."""
        n, size = len(prompt), self.positions.shape[1]
        if logits.ndim != 3 or logits.shape[:2] != (n, size):
            raise InputError(f"{self.name} takes logits [{n}, {size}, vocab]; got {list(logits.shape)}.")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        others = [self._of(ids, prompt, logits) for ids in self._ids]
        if self.needs_reference:
            if self._reference is None:
                raise InputError(f"{self.name} compares with the clean run: set `reference` to its logits first.")
            others.append(self._of(self._reference, prompt, logits).to(logits.dtype))
        values = self.metric.formula(logits.flatten(0, 1), *(other.flatten(0, 1) for other in others))
        if not isinstance(values, Tensor) or values.shape != (n * size,):
            shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"{self.name} has to make [batch] of logits [batch, vocab]: {n * size} numbers; got {shape}."
            )
        values = values.to(logits.dtype).reshape(n, size)
        counts = self._of(self.counts, prompt, logits)
        real = torch.arange(size, device=logits.device) < counts[:, None]
        return values.where(real, 0).sum(1) / counts

    @staticmethod
    def _of(table: Tensor, prompt: Tensor, like: Tensor) -> Tensor:
        """The rows of these prompts, where the logits are."""
        return table.to(like.device)[prompt.to(like.device)]

    def __repr__(self) -> str:
        count = len(self.counts)
        return f"BoundMetric({self.name}, on {count} prompt{'s' if count > 1 else ''})"


def logit_diff(correct: Given, wrong: Given, *, pos: int = -1) -> Metric:
    """How far the correct token's logit is above the wrong one's."""
    name = f"logit({spell(correct)}) − logit({spell(wrong)})"
    return _metric(
        name, lambda logits, right, other: _at(logits, right) - _at(logits, other), correct, wrong, pos=pos, local=True
    )


def logit(token: Given, *, pos: int = -1) -> Metric:
    """A token's logit. It has no zero of its own: where nothing else fixes it, take `logit_diff` or `log_prob`."""
    return _metric(f"logit({spell(token)})", _at, token, pos=pos, local=True)


def prob(token: Given, *, pos: int = -1) -> Metric:
    """The probability that the model gives a token."""
    return _metric(f"P({spell(token)})", lambda logits, ids: _log_prob(logits, ids).exp(), token, pos=pos)


def log_prob(token: Given, *, pos: int = -1) -> Metric:
    """The logarithm, in nats, of the probability that the model gives a token."""
    return _metric(f"log P({spell(token)})", _log_prob, token, pos=pos)


def rank(token: Given, *, pos: int = -1) -> Metric:
    """How many tokens have a larger logit: 0 is the top."""

    def formula(logits: Tensor, ids: Tensor) -> Tensor:
        return _or_nan((logits > _at(logits, ids)[:, None]).sum(-1), logits)

    return _metric(f"rank({spell(token)})", formula, token, pos=pos)


def accuracy(token: Given, *, pos: int = -1) -> Metric:
    """1 where greedy decoding picks the token, else 0."""
    return _metric(
        f"accuracy({spell(token)})", lambda logits, ids: _or_nan(logits.argmax(-1) == ids, logits), token, pos=pos
    )


def loss(targets: Given | None = None, *, pos: int | None = None) -> Metric:
    """Cross-entropy in nats: of each prompt's own next tokens, their mean; or of given targets at one position."""
    if targets is not None:
        return _metric(f"loss({spell(targets)})", _loss, targets, pos=-1 if pos is None else pos)
    if pos is not None:
        raise InputError(
            "loss() is a mean over the whole prompt; at one position it needs targets: loss(targets, pos=…)."
        )
    return Metric("next-token loss", _loss, pos=None)


def kl(*, pos: int = -1) -> Metric:
    """KL(clean ‖ this) in nats: how much of the clean run's prediction is lost."""

    def formula(logits: Tensor, reference: Tensor) -> Tensor:
        clean = reference.log_softmax(-1)
        weights = clean.exp()
        terms = weights * (clean - logits.log_softmax(-1))
        return terms.where(weights != 0, 0).sum(-1)

    return Metric(_named("KL(clean ‖ this)", pos), formula, pos=index(pos), needs_reference=True)


def as_metric(given: Any) -> Metric:
    """A metric from one, or from a function of the last position's logits, [batch, vocab] → [batch]."""
    if isinstance(given, Metric):
        return given
    if callable(given) and not isinstance(given, (type, BoundMetric)):
        name = getattr(given, "__name__", type(given).__name__)
        return Metric("a function of the logits" if name == "<lambda>" else name, given)
    raise InputError(
        f"A metric is one of ours, such as logit_diff(' Mary', ' John'), or a function of logits [batch, vocab] → "
        f"[batch]; got {given!r:.80}."
    )


def _metric(name: str, formula: Formula, *tokens: Given, pos: int, local: bool = False) -> Metric:
    return Metric(_named(name, pos), formula, tokens, index(pos), local=local)


def _named(name: str, pos: int) -> str:
    return name if pos == -1 else f"{name} at position {pos}"


def _at(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(-1, ids[:, None])[:, 0]


def _log_prob(logits: Tensor, ids: Tensor) -> Tensor:
    return _at(logits, ids) - logits.logsumexp(-1)


def _loss(logits: Tensor, ids: Tensor) -> Tensor:
    return -_log_prob(logits, ids)


def _or_nan(values: Tensor, logits: Tensor) -> Tensor:
    """Comparisons with NaN are false, which would pass for an answer."""
    return values.to(logits.dtype).masked_fill(logits.isnan().any(-1), torch.nan)


def _with_next(number: int, prompt: Sequence[int]) -> NDArray[np.int64]:
    if len(prompt) < 2:
        raise InputError(f"Prompt {number} has {len(prompt)} token: there is no next one to have a loss on.")
    return np.arange(len(prompt) - 1)


def _from_front(pos: int, number: int, length: int) -> int:
    if not -length <= pos < length:
        raise InputError(f"There is no position {pos} in prompt {number}, which has {length} tokens.")
    return pos % length


def _pad(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows of integers as one array, each prolonged by its last number."""
    size = max(map(len, rows))
    return np.stack([np.pad(row, (0, size - len(row)), mode="edge") for row in rows]).astype(np.int64)
