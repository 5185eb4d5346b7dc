"""Measure everything that the card of `induction-2l` says, on a fresh sample of prompts.

Which head is which is decided on one half of the sample and what it does is measured on the other: a head picked for
being high on the prompts it is scored on would look better than it is.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.scores import copy_accuracy, head_scores, in_context_score, repeated_tokens, token_losses
from interpwidgets.models.train.corpus import BOS, ORDINARY, UNK, batch
from interpwidgets.models.train.evidence import mean_outputs, replaced_heads, unread_heads

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.train.evidence import Head

__all__ = ["LENGTH", "MEASURES", "ROWS", "measure", "ranked_heads"]

ROWS, LENGTH = 32, 40  # random prompts in a sample, and tokens said twice in each

MEASURES = {
    "copy_accuracy": f"second copy of {LENGTH} random tokens: share predicted best (chance 1/512)",
    "copy_accuracy_10": "the same, 10 random tokens",
    "copy_accuracy_120": "the same, 120 random tokens (241 of 256 positions)",
    "first_copy_loss": "loss on the first copy, nats (ln 509 = 6.23 is all that can be had)",
    "second_copy_loss": "loss on the second copy, nats",
    "text_loss_train": "loss on text of the training side, new documents, nats",
    "text_loss_heldout": "loss on text none of whose sentences may occur in training, nats",
    "in_context_score": f"loss at the last ten less loss at the first ten of {2 * LENGTH} random tokens said as above",
    "previous_token_1": "previous-token score of the strongest layer-0 head",
    "previous_token_2": "of the second",
    "previous_token_3": "of the third",
    "previous_token_4": "of the fourth",
    "prefix_matching_1": "prefix-matching score of the strongest layer-1 head",
    "prefix_matching_2": "of the second",
    "prefix_matching_3": "of the third",
    "prefix_matching_4": "of the fourth",
    "prefix_matching_layer_0": "of the strongest layer-0 head (an induction head needs a layer below)",
    "without_previous_1": "copy accuracy, strongest previous-token head ablated",
    "without_previous_2": "strongest two ablated",
    "without_previous_3": "strongest three ablated",
    "without_other_1": "control: weakest layer-0 head by previous-token score ablated",
    "without_other_2": "control: weakest two ablated",
    "without_layer_0": "all layer-0 heads ablated",
    "without_induction_1": "strongest layer-1 head by prefix matching ablated",
    "without_induction_2": "strongest two ablated",
    "without_induction_3": "strongest three ablated",
    "without_layer_1": "all layer-1 heads ablated",
    "unread_by_keys": "strongest two previous-token heads kept from layer 1's keys only",
    "unread_by_queries": "control: from its queries only",
    "unread_by_values": "control: from its values only",
    "others_unread_by_keys": "control: the weakest two layer-0 heads kept from its keys only",
    "zeroed_layer_1": "all layer-1 heads ablated to zero in place of their mean",
}
"""What `measure` gives, by name, and what each number is. Ablated means: replaced by its mean over other prompts."""


def ranked_heads(scores: dict[str, Tensor]) -> tuple[list[Head], list[Head]]:
    """Rank layer-0 heads by previous-token score and layer-1 heads by prefix matching, strongest first."""
    previous = scores["previous_token"][0].argsort(descending=True).tolist()
    induction = scores["prefix_matching"][1].argsort(descending=True).tolist()
    return [(0, head) for head in previous], [(1, head) for head in induction]


@torch.no_grad()
def measure(model: Any, seed: int) -> dict[str, float]:
    """Measure the model on prompts drawn from `seed`; the names are those of MEASURES, in order."""
    rng = Random(f"measure {seed}")  # noqa: S311  a test sample, not a secret
    draw = lambda length: repeated_tokens(ORDINARY, ROWS, length, rng.getrandbits(32), BOS)  # noqa: E731
    choosing, prompts = draw(LENGTH), draw(LENGTH)
    previous, induction = ranked_heads(head_scores(model, choosing))
    means = mean_outputs(model, choosing)
    scores = head_scores(model, prompts)
    logits = model(prompts).logits
    losses = token_losses(logits, prompts)

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
        "copy_accuracy_10": accuracy(draw(10), 10),
        "copy_accuracy_120": accuracy(draw(120), 120),
        "first_copy_loss": float(losses[:, :LENGTH].mean()),
        "second_copy_loss": float(losses[:, 1 - LENGTH :].mean()),
        "text_loss_train": _text_loss(model, rng, "train"),
        "text_loss_heldout": _text_loss(model, rng, "heldout"),
        "in_context_score": float(in_context_score(losses, slice(0, 10), slice(-10, None)).mean()),
        "prefix_matching_layer_0": float(scores["prefix_matching"][0].max()),
        "without_other_1": without(previous[-1:]),
        "without_other_2": without(previous[-2:]),
        "without_layer_0": without(previous),
        "without_layer_1": without(induction),
        "unread_by_keys": unread(previous[:2], "k"),
        "unread_by_queries": unread(previous[:2], "q"),
        "unread_by_values": unread(previous[:2], "v"),
        "others_unread_by_keys": unread(previous[2:], "k"),
        "zeroed_layer_1": without(induction, None),
    }
    for number in range(4):
        found[f"previous_token_{number + 1}"] = float(scores["previous_token"][previous[number]])
        found[f"prefix_matching_{number + 1}"] = float(scores["prefix_matching"][induction[number]])
    for number in range(1, 4):
        found[f"without_previous_{number}"] = without(previous[:number])
        found[f"without_induction_{number}"] = without(induction[:number])
    return {name: found[name] for name in MEASURES}


def _text_loss(model: Any, rng: Random, side: Any) -> float:
    tokens = torch.tensor(batch(rng.getrandbits(32), -1, ROWS, 128, 0.0, side))  # no training step is number -1
    return float(token_losses(model(tokens).logits, tokens)[tokens[:, 1:] != UNK].mean())
