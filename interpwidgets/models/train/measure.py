"""Measure everything that the card of `induction-2l` says, on a fresh sample of prompts.

Which head is which is decided on one half of the sample and what it does is measured on the other: a head picked for
being high on the prompts it is scored on would look better than it is.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from interpwidgets.models.scores import copy_accuracy, head_scores, in_context_score, repeated_tokens, token_losses
from interpwidgets.models.train.corpus import BOS, ORDINARY, batch
from interpwidgets.models.train.evidence import mean_outputs, replaced_heads, unread_heads

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.train.evidence import Head

__all__ = ["LENGTH", "MEASURES", "ROWS", "Roles", "measure", "roles"]

ROWS, LENGTH = 32, 40  # random prompts in a sample, and tokens said twice in each

MEASURES = {
    "copy_accuracy": f"second copy of {LENGTH} random tokens: share predicted best (chance 1/512)",
    "copy_accuracy_3": "the same, 3 random tokens",
    "copy_accuracy_10": "the same, 10 random tokens",
    "copy_accuracy_120": "the same, 120 random tokens (241 of 256 positions)",
    "first_copy_loss": "loss on the first copy, nats (ln 509 = 6.23 is all that can be had)",
    "second_copy_loss": "loss on the second copy, nats",
    "text_loss_train": "loss on text of the training side, new documents, nats",
    "text_loss_heldout": "loss on text none of whose sentences may occur in training, nats",
    "text_loss_late": "loss on such text at positions 192–255, nats",
    "in_context_score": f"loss at the last ten of {2 * LENGTH} tokens said as above less loss at the first ten, nats",
    "in_context_score_text": "loss on held-out text at positions 192–255 less loss at positions 8–39, nats",
    "previous_token_1": "previous-token score of the strongest layer-0 head",
    "previous_token_2": "of the second",
    "previous_token_3": "of the third",
    "previous_token_4": "of the fourth",
    "prefix_matching_1": "prefix-matching score of the strongest layer-1 head",
    "prefix_matching_2": "of the second",
    "prefix_matching_3": "of the third",
    "prefix_matching_4": "of the fourth",
    "prefix_matching_layer_0": "of the strongest layer-0 head (an induction head needs a layer below)",
    "current_token_1": "current-token score of the strongest current-token head of layer 0",
    "previous_token_heads": "number of previous-token heads in layer 0, the others being current-token heads",
    "without_previous_1": "copy accuracy, strongest previous-token head ablated",
    "without_previous": "all previous-token heads ablated",
    "without_current_1": "strongest current-token head ablated",
    "without_current": "all current-token heads ablated",
    "without_layer_0": "all layer-0 heads ablated",
    "without_induction_1": "strongest layer-1 head by prefix matching ablated",
    "without_induction_2": "strongest two ablated",
    "without_induction_3": "strongest three ablated",
    "without_layer_1": "all layer-1 heads ablated",
    "zeroed_layer_1": "all layer-1 heads ablated to zero in place of their mean",
    "previous_unread_by_keys": "previous-token heads kept from layer 1's keys, and from nothing else",
    "previous_unread_by_queries": "from its queries",
    "previous_unread_by_values": "from its values",
    "current_unread_by_keys": "current-token heads kept from layer 1's keys, and from nothing else",
    "current_unread_by_queries": "from its queries",
    "current_unread_by_values": "from its values",
}
"""What `measure` gives, by name, and what each number is. Ablated means: replaced by its mean over other prompts."""


class Roles(NamedTuple):
    """The heads of the model by what they attend to, the strongest first."""

    previous: list[Head]  # layer 0, the previous token more than the current one
    current: list[Head]  # layer 0, the others
    induction: list[Head]  # layer 1


def roles(scores: dict[str, Tensor]) -> Roles:
    """Sort the heads into their roles by the scores that `head_scores` gives."""
    lean = scores["previous_token"][0] - scores["current_token"][0]
    order = lean.argsort(descending=True).tolist()
    number = int((lean > 0).sum().clamp(1, len(order) - 1))  # an untrained model has no roles; name one head each
    by_prefix = scores["prefix_matching"][1].argsort(descending=True).tolist()
    return Roles(
        previous=sorted(((0, head) for head in order[:number]), key=lambda h: -float(scores["previous_token"][h])),
        current=sorted(((0, head) for head in order[number:]), key=lambda h: -float(scores["current_token"][h])),
        induction=[(1, head) for head in by_prefix],
    )


@torch.no_grad()
def measure(model: Any, seed: int) -> dict[str, float]:
    """Measure the model on prompts drawn from `seed`; the names are those of MEASURES, in order."""
    rng = Random(f"measure {seed}")  # noqa: S311  a test sample, not a secret

    def draw(length: int) -> Tensor:
        return repeated_tokens(ORDINARY, ROWS, length, rng.getrandbits(32), BOS)

    choosing, prompts = draw(LENGTH), draw(LENGTH)
    previous, current, induction = roles(head_scores(model, choosing))
    means = mean_outputs(model, choosing)
    scores = head_scores(model, prompts)
    logits = model(prompts).logits
    losses = token_losses(logits, prompts)
    text = _text_losses(model, rng, "heldout")  # [row, position]

    def accuracy(tokens: Tensor = prompts, length: int = LENGTH) -> float:
        return float(copy_accuracy(model(tokens).logits, tokens, length).mean())

    def without(heads: list[Head], values: Tensor | None = means) -> float:
        with replaced_heads(model, heads, values):
            return accuracy()

    def unread(heads: list[Head], path: Any) -> float:
        with unread_heads(model, heads, 1, path, means):
            return accuracy()

    found = {
        "copy_accuracy": accuracy(),
        "copy_accuracy_3": accuracy(draw(3), 3),
        "copy_accuracy_10": accuracy(draw(10), 10),
        "copy_accuracy_120": accuracy(draw(120), 120),
        "first_copy_loss": float(losses[:, :LENGTH].mean()),
        "second_copy_loss": float(losses[:, 1 - LENGTH :].mean()),
        "text_loss_train": float(_text_losses(model, rng, "train").mean()),
        "text_loss_heldout": float(text.mean()),
        "text_loss_late": float(text[:, 191:].mean()),
        "in_context_score": float(in_context_score(losses, slice(0, 10), slice(-10, None)).mean()),
        "in_context_score_text": float(in_context_score(text, slice(7, 39), slice(191, None)).mean()),
        "previous_token_heads": float(len(previous)),
        "current_token_1": float(scores["current_token"][current[0]]),
        "prefix_matching_layer_0": float(scores["prefix_matching"][0].max()),
        "without_previous_1": without(previous[:1]),
        "without_previous": without(previous),
        "without_current_1": without(current[:1]),
        "without_current": without(current),
        "without_layer_0": without(previous + current),
        "without_layer_1": without(induction),
        "zeroed_layer_1": without(induction, None),
    }
    strongest = scores["previous_token"][0].sort(descending=True).values
    for number in range(4):
        found[f"previous_token_{number + 1}"] = float(strongest[number])
        found[f"prefix_matching_{number + 1}"] = float(scores["prefix_matching"][induction[number]])
    for number in range(1, 4):
        found[f"without_induction_{number}"] = without(induction[:number])
    for path, readers in (("k", "keys"), ("q", "queries"), ("v", "values")):
        found[f"previous_unread_by_{readers}"] = unread(previous, path)
        found[f"current_unread_by_{readers}"] = unread(current, path)
    return {name: found[name] for name in MEASURES}


def _text_losses(model: Any, rng: Random, side: Any) -> Tensor:
    """Give the losses [row, position] on new documents of the full context, `<unk>` counted as any other word."""
    tokens = torch.tensor(batch(rng.getrandbits(32), -1, ROWS, 256, 0.0, side))  # no training step is number -1
    return token_losses(model(tokens).logits, tokens)
