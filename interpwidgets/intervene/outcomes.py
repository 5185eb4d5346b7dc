"""What an intervention did to what the model says next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.interventions import Intervention
from interpwidgets.intervene.running import run
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.texts import token_texts
from interpwidgets.models.tokenize import Prompts

__all__ = ["Outcome", "compared", "outcome"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """The next token's distribution without and with interventions.

    Shown are the tokens that are likeliest in either, in the order of the larger of their two probabilities, `before`
    and `after`.
    """

    how: str  # what was done
    position: int  # whose next token it is
    tokens: tuple[str, ...]  # as shown
    ids: tuple[int, ...]
    before: Floats  # [token]
    after: Floats  # [token]
    kl: float  # KL(before ‖ after) in nats, over the whole vocabulary

    def to_json(self) -> dict[str, Any]:
        """For a page: plain lists and numbers."""
        return {
            "how": self.how,
            "position": self.position,
            "tokens": list(self.tokens),
            "before": self.before.tolist(),
            "after": self.after.tolist(),
            "kl": self.kl,
        }

    def __repr__(self) -> str:
        width = max(5, *map(len, self.tokens))
        lines = [
            f"Outcome of {self.how}: the token after position {self.position}, KL {self.kl:.3g} nats",
            f"  {'token':<{width}}  before   after",
        ]
        lines += [
            f"  {token:<{width}}  {before:6.3f}  {after:6.3f}"
            for token, before, after in zip(self.tokens, self.before, self.after, strict=True)
        ]
        return "\n".join(lines)


def outcome(
    model: Model | Any,
    prompt: Prompts,
    interventions: Intervention | Sequence[Intervention] = (),
    *,
    pos: int = -1,
    k: int = 10,
    logits: Tensor | None = None,
) -> Outcome:
    """What interventions do to the token after position `pos`: the distribution without and with them.

    >>> outcome(model, "the cat sat on the mat . the cat", Ablate("z", layer=1, head=6))

    The `k` likeliest tokens of each are shown; without interventions, those of the model as it is. `logits`
    [pos, vocab] of the run as it is spare that pass.

    Raises InputError for several prompts, a position that is not there, or interventions that the model has no place
    for.
    """
    model = as_model(model)
    chosen = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    changed = run(model, prompt, chosen, sites=("logits",))
    size = len(changed.tokens[0])
    if len(changed) != 1:
        raise InputError(f"An outcome is of one prompt; got {len(changed)}.")
    if not -size <= pos < size:
        raise InputError(f"There is no position {pos}; the prompt has {size}, numbered from 0.")
    own = run(model, prompt, (), sites=("logits",))["logits"][0] if logits is None else logits
    how = "; ".join(map(repr, chosen)) or "nothing"
    return compared(model, own[pos % size], changed["logits"][0, pos % size], how=how, position=pos % size, k=k)


def compared(model: Model, own: Tensor, changed: Tensor, *, how: str, position: int, k: int = 10) -> Outcome:
    """The outcome of which these are the logits [vocab], without and with interventions."""
    before, after = (row.detach().double().cpu().log_softmax(-1) for row in (own, changed))
    p, q = before.exp(), after.exp()
    most = min(k, len(p))
    shown = torch.cat([p.topk(most).indices, q.topk(most).indices]).unique()  # type: ignore[no-untyped-call]
    shown = shown[p.maximum(q)[shown].argsort(descending=True, stable=True)]
    return Outcome(
        how=how,
        position=position,
        tokens=tuple(token_texts(model.tokenizer, shown.tolist())),
        ids=tuple(shown.tolist()),
        before=p[shown].numpy(),
        after=q[shown].numpy(),
        kl=max(0.0, float((p * (before - after)).where(p > 0, 0).sum())),
    )
