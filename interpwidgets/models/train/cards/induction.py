"""Measure everything that the card of `induction-2l` says, on a fresh sample of prompts.

Which head is which is decided on one half of the sample and what it does is measured on the other: a head picked for
being high on the prompts it is scored on would look better than it is.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from interpwidgets.intervene import Ablate, Patch, run
from interpwidgets.models.corpora.corpus import BOS, ORDINARY, batch
from interpwidgets.models.load import checkpoints, load
from interpwidgets.models.record import record
from interpwidgets.models.scores import copy_accuracy, head_scores, in_context_score, repeated_tokens, token_losses
from interpwidgets.models.train.card import blanks, measured_table, rounded
from interpwidgets.models.train.induction import NAME, Induction, Recipe
from interpwidgets.models.train.system import System

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.model import Model
    from interpwidgets.models.recording import Recording
    from interpwidgets.models.training.runs import Run

__all__ = [
    "LENGTH",
    "MEASURES",
    "ROWS",
    "SYSTEM",
    "Roles",
    "card_text",
    "chosen_steps",
    "mean_of",
    "measure",
    "roles",
    "unread",
    "without",
]

# Beside the untrained model; in steps from where copying is half learnt.
AROUND_BUMP = (
    -475, -325, -225, -175, -150, -125, -100, -75, -50, -25, 0, 25, 50, 75, 100, 150, 225, 375, 525,
)  # fmt: skip

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


Head = tuple[int, int]  # layer, head


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


def mean_of(model: Model, prompts: Tensor) -> Recording:
    """Record what every head writes on prompts, to take means over; without `<bos>`, which is not like the rest."""
    return record(model, prompts.tolist(), sites=["z"], positions=list(range(1, prompts.shape[1])))


def without(model: Model, prompts: Tensor, heads: list[Head], means: Recording | None) -> Tensor:
    """Give the logits [prompt, pos, token] when `heads` write their mean, or nothing."""
    return run(model, prompts.tolist(), _ablated(heads, means), sites=["logits"])["logits"]


def unread(model: Model, prompts: Tensor, heads: list[Head], path: str, means: Recording) -> Tensor:
    """Give the logits when layer 1 computes its q, k or v as if `heads` of layer 0 wrote their mean.

    Everything else in the model sees them as they are.
    """
    as_if = run(model, prompts.tolist(), _ablated(heads, means), sites=[path], layers=[1])
    return run(model, prompts.tolist(), [Patch(path, 1, value=as_if)], sites=["logits"])["logits"]


def _ablated(heads: list[Head], means: Recording | None) -> list[Ablate]:
    return [
        Ablate("z", layer, head=head, kind="zero" if means is None else "mean", reference=means)
        for layer, head in heads
    ]


@torch.no_grad()
def measure(model: Model, seed: int) -> dict[str, float]:
    """Measure what `load` gave, on prompts drawn from `seed`; the names are those of MEASURES, in order."""
    module = model.module
    rng = Random(f"measure {seed}")  # noqa: S311  a test sample, not a secret

    def draw(length: int) -> Tensor:
        return repeated_tokens(ORDINARY, ROWS, length, rng.getrandbits(32), BOS)

    choosing, prompts = draw(LENGTH), draw(LENGTH)
    previous, current, induction = roles(head_scores(module, choosing))
    means = mean_of(model, choosing)
    scores = head_scores(module, prompts)
    logits = module(prompts).logits
    losses = token_losses(logits, prompts)
    text = _text_losses(module, rng, "heldout")  # [row, position]

    def accuracy(tokens: Tensor = prompts, length: int = LENGTH) -> float:
        return float(copy_accuracy(module(tokens).logits, tokens, length).mean())

    def cut(heads: list[Head], means: Recording | None = means) -> float:
        return float(copy_accuracy(without(model, prompts, heads, means), prompts, LENGTH).mean())

    def kept_from(heads: list[Head], path: str) -> float:
        return float(copy_accuracy(unread(model, prompts, heads, path, means), prompts, LENGTH).mean())

    found = {
        "copy_accuracy": accuracy(),
        "copy_accuracy_3": accuracy(draw(3), 3),
        "copy_accuracy_10": accuracy(draw(10), 10),
        "copy_accuracy_120": accuracy(draw(120), 120),
        "first_copy_loss": float(losses[:, :LENGTH].mean()),
        "second_copy_loss": float(losses[:, 1 - LENGTH :].mean()),
        "text_loss_train": float(_text_losses(module, rng, "train").mean()),
        "text_loss_heldout": float(text.mean()),
        "text_loss_late": float(text[:, 191:].mean()),
        "in_context_score": float(in_context_score(losses, slice(0, 10), slice(-10, None)).mean()),
        "in_context_score_text": float(in_context_score(text, slice(7, 39), slice(191, None)).mean()),
        "previous_token_heads": float(len(previous)),
        "current_token_1": float(scores["current_token"][current[0]]),
        "prefix_matching_layer_0": float(scores["prefix_matching"][0].max()),
        "without_previous_1": cut(previous[:1]),
        "without_previous": cut(previous),
        "without_current_1": cut(current[:1]),
        "without_current": cut(current),
        "without_layer_0": cut(previous + current),
        "without_layer_1": cut(induction),
        "zeroed_layer_1": cut(induction, None),
    }
    strongest = scores["previous_token"][0].sort(descending=True).values
    for number in range(4):
        found[f"previous_token_{number + 1}"] = float(strongest[number])
        found[f"prefix_matching_{number + 1}"] = float(scores["prefix_matching"][induction[number]])
    for number in range(1, 4):
        found[f"without_induction_{number}"] = cut(induction[:number])
    for path, readers in (("k", "keys"), ("q", "queries"), ("v", "values")):
        found[f"previous_unread_by_{readers}"] = kept_from(previous, path)
        found[f"current_unread_by_{readers}"] = kept_from(current, path)
    return {name: found[name] for name in MEASURES}


def _text_losses(model: Any, rng: Random, side: Any) -> Tensor:
    """Give the losses [row, position] on new documents of the full context, `<unk>` counted as any other word."""
    tokens = torch.tensor(batch(rng.getrandbits(32), -1, ROWS, 256, 0.0, side))  # no training step is number -1
    return token_losses(model(tokens).logits, tokens)


def chosen_steps(log: list[dict[str, Any]]) -> list[int]:
    """Choose the checkpoints to ship: the untrained model, and those around the step where copying is half learnt."""
    kept = [line["step"] for line in log]
    half = log[-1]["copy_accuracy"] / 2
    bump = next(line["step"] for line in log if line["copy_accuracy"] >= half)
    wanted = {0, *(bump + offset for offset in AROUND_BUMP)}
    return sorted(step for step in wanted if step in kept and step < kept[-1])


def _more(folders: dict[str, Path], runs: dict[str, Run], shipped: str) -> dict[str, Any]:
    """Score every head of every seed, and follow the shipped one's bump through its checkpoints."""
    loaded = {seed: load(folder).module for seed, folder in folders.items()}
    recipe = runs[shipped].about["recipe"]
    turn = [rows * length for rows, length in recipe["shapes"]]
    trained = [w for n, w in loaded[shipped].named_parameters() if ".mlp." not in n and "ln_2" not in n]
    return {
        "trained_parameters": sum(weight.numel() for weight in trained),
        "vocabulary": loaded[shipped].config.vocab_size,
        "tokens": sum(turn[step % len(turn)] for step in range(recipe["steps"])),
        "heads": {seed: _heads(model) for seed, model in loaded.items()},
        "checkpoints": [
            {"step": recipe["steps"] if step is None else step, **_bump_at(folders[shipped], step)}
            for step in [*checkpoints(folders[shipped]), None]
        ],
        "curves": {
            seed: [[line["step"], rounded(line["copy_accuracy"])] for line in run.log()] for seed, run in runs.items()
        },
    }


def _heads(model: Any) -> dict[str, Any]:
    """Score every head of a trained model, and say which are which."""
    scores = head_scores(model, repeated_tokens(ORDINARY, 4 * ROWS, LENGTH, seed=0, bos=BOS))
    values = {name: [[rounded(float(x)) for x in row] for row in score] for name, score in scores.items()}
    return {"roles": roles(scores)._asdict(), "scores": values}


def _bump_at(folder: Path, step: int | None) -> dict[str, Any]:
    """Measure what a checkpoint shows of the bump; the trained model if no step is given."""
    model = load(folder, checkpoint=step).module
    prompts = repeated_tokens(ORDINARY, 2 * ROWS, LENGTH, seed=1, bos=BOS)
    scores = head_scores(model, prompts)
    with torch.no_grad():
        logits = model(prompts).logits
        accuracy = copy_accuracy(logits, prompts, LENGTH).mean()
        losses = token_losses(logits, prompts)
        text = _text_losses(model, Random(0), "heldout")  # noqa: S311  a test sample, not a secret
    return {
        "copy_accuracy": rounded(float(accuracy)),
        "copy_loss": rounded(float(losses[:, 1 - LENGTH :].mean())),
        "in_context_score": rounded(float(in_context_score(losses, slice(0, 10), slice(-10, None)).mean())),
        "previous_token": rounded(float(scores["previous_token"][0].max())),
        "prefix_matching": rounded(float(scores["prefix_matching"][1].max())),
        "text_loss": rounded(float(text.mean())),
    }


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    recipe = card["recipe"]
    shipped = card["heads"][str(recipe["seed"])]["roles"]
    previous, current = ([f"{layer}.{head}" for layer, head in shipped[role]] for role in ("previous", "current"))
    tables = {
        "does": ("copy_", "first_", "second_", "text_", "in_context"),
        "attend": ("previous_token", "current_token", "prefix_"),
        "ablated": ("without_", "zeroed_"),
        "paths": ("previous_unread", "current_unread"),
    }
    given = blanks(card) | {
        **{name: measured_table(card["measured"], *starts) for name, starts in tables.items()},
        "previous": f"Heads {' and '.join(previous)}" if len(previous) > 1 else f"Head {previous[0]}",
        "current": " and ".join(current),
        "strongest_current": current[0],
        "numbers": " or ".join(sorted({str(len(each["roles"]["previous"])) for each in card["heads"].values()})),
        "first": card["checkpoints"][1]["step"],
        "vocabulary": card["vocabulary"],
        "trained": card["trained_parameters"],
        "tokens": card["tokens"],
        "text": 100 - 100 * recipe["repeats"],
        "repeats": 100 * recipe["repeats"],
        "rows": ROWS,
        "head_table": "\n\n".join(
            f"Seed {seed}:\n\n{_head_table(each['scores'])}"
            for seed, each in sorted(card["heads"].items(), key=lambda item: item[0] != str(recipe["seed"]))
        ),
        "bump": _bump_width(card["curves"]),
        "bump_table": _bump_table(card["checkpoints"]),
    }
    return (Path(__file__).parent / f"{NAME}.md").read_text("utf-8").format(**given)


def _head_table(scores: dict[str, list[list[float]]]) -> str:
    names = list(scores)
    lines = ["| head | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for layer, row in enumerate(scores[names[0]]):
        for head in range(len(row)):
            cells = " | ".join(f"{scores[name][layer][head]:.2f}" for name in names)
            lines.append(f"| {layer}.{head} | {cells} |")
    return "\n".join(lines)


def _bump_table(checkpoints: list[dict[str, Any]]) -> str:
    names = [name for name in checkpoints[0] if name != "step"]
    lines = ["| step | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {each['step']} | " + " | ".join(f"{each[name]:.2f}" for name in names) + " |" for each in checkpoints]
    lines[-1] += (
        "\n\nThe last row is the model itself. Scores are those of the strongest head of layer 0, and of layer 1."
    )
    return "\n".join(lines)


def _bump_width(curves: dict[str, list[list[float]]]) -> str:
    """Count the steps from a tenth to three quarters, in every seed."""
    widths = []
    for curve in curves.values():
        start = next(step for step, accuracy in curve if accuracy >= 0.1)
        end = next(step for step, accuracy in curve if accuracy >= 0.75)
        widths.append(int(end - start))
    return f"{min(widths)} to {max(widths)}" if min(widths) < max(widths) else str(widths[0])


SYSTEM = System(
    name=NAME,
    recipe=Recipe,
    task=Induction,
    measures=MEASURES,
    measure=measure,
    text=card_text,
    more=_more,
    checkpoints=chosen_steps,
)
