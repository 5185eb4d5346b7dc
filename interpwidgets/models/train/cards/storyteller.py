"""Measure what the card of `storyteller-4l` says: what it can do, which parts each task needs, where answers are made.

Whatever is picked for being strongest is picked on one half of the questions and measured on the other.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from interpwidgets.intervene import (
    Ablate,
    ablate_sweep,
    accuracy,
    direct_logit_attribution,
    logit_diff,
    patch_sweep,
    run,
)
from interpwidgets.models.corpora.corpus import BOS, UNK
from interpwidgets.models.corpora.storybook import FACTS, TOKEN_ID
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.corpora.tasks import TASKS, Instance
from interpwidgets.models.record import record
from interpwidgets.models.scores import copy_accuracy, head_scores, repeated_tokens, token_losses
from interpwidgets.models.train.card import blanks, measured_table
from interpwidgets.models.train.storyteller import (
    NAME,
    Recipe,
    Storyteller,
    questions,
    task_accuracy,
    task_mass,
)
from interpwidgets.models.train.system import System

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from interpwidgets.intervene import Effects
    from interpwidgets.models.model import Model

__all__ = ["MEASURES", "SYSTEM", "card_text", "measure"]

_ASKED = 120  # questions of a task
_CHOOSING = 40  # of them, to choose by
_PAIRS = 40  # clean and corrupted prompts of a sweep
_TASK = {
    "ioi_pair": "who was given the thing, two people",
    "ioi_triple": "the same, three people, two of them named again",
    "facts": "a fact about a person in words that training did not have for it",
    "geography": "the country of a city",
    "agreement": "number of the verb, a noun of any number in between",
    "quotes": "whether a quotation ends",
    "brackets": "which of four kinds of bracket closes, up to four deep",
    "greater": "from a number to a greater one",
    "succession": "the next number, day, month, ordinal",
    "binding": "what the box of a colour holds, two to four boxes",
}
_ONE_ANSWER = [task for task in _TASK if task not in ("agreement", "greater")]
_LAYERS = range(4)
_FOLLOWED = {  # where the clean run's value is put back: role by sweep
    "pair": ("s2", "end"),
    "triple": ("s2", "end"),
    "facts": ("first", "last", "end"),
}
_ROLE = {
    "s2": "at the name said again",
    "end": "at the prompt's last token",
    "first": "at the first name",
    "last": "at the last name",
}

MEASURES = {
    **{f"task_{task}": f"{what}: best next word is right" for task, what in _TASK.items()},
    "greater_mass": "probability of all greater numbers together",
    "train_ioi_pair": "indirect object, two people, on sentences that may be in training",
    "train_ioi_triple": "three people, on sentences that may be in training",
    "train_facts": "facts in words that training has",
    "copy_accuracy": "second copy of 30 random words: share predicted best (chance 1/586)",
    "text_loss": "loss on held-out stories and tasks, nats",
    **{f"head_{task}": f"{task}: accuracy without the head it needs most" for task in _ONE_ANSWER},
    **{f"mlp_{task}": f"{task}: accuracy without the MLP it needs most" for task in _ONE_ANSWER},
    **{
        f"{sweep}_{role}_{layer}": f"{sweep}: share restored {_ROLE[role]}, before layer {layer}"
        for sweep, roles in _FOLLOWED.items()
        for role in roles
        for layer in _LAYERS
    },
    **{
        f"facts_mlp_last_{layer}": f"facts: share restored by the MLP of layer {layer} at the last name alone"
        for layer in _LAYERS
    },
    "pair_reads_s2": "attention from the last token to the name said again, strongest head of layer 0",
    "pair_without_readers": "accuracy, two people, without the two heads of layer 0 that give it most",
    "pair_reads_io_1": "attention from the last token to the indirect object, strongest head of layer 1",
    "pair_reads_io_2": "strongest head of layer 2",
    "pair_without_movers": "accuracy, two people, without the strongest of layer 1 and of layer 2",
    "pair_direct_heads": "share of the logit difference that heads write directly, two people",
    "pair_direct_mlp_3": "share that the last MLP writes",
    "prefix_matching": "prefix-matching score of the strongest head",
    "prefix_matching_layer_0": "of the strongest in layer 0",
    "induction_without_1": "copy accuracy without the strongest head",
    "induction_without_2": "without the strongest two",
    "induction_without_4": "without the strongest four",
    "induction_control_4": "without four others of those layers, or as many as there are",
}
"""What `measure` gives. "Without" is: replaced by its mean over held-out text. "Restored": from 0, corrupted, to 1."""

Head = tuple[int, int]


@torch.no_grad()
def measure(model: Model, seed: int) -> dict[str, float]:
    """Measure what `load` gave, on questions drawn from `seed`; the names are those of MEASURES, in order."""
    rng = Random(f"measure the storyteller {seed}")  # noqa: S311  a test sample, not a secret
    text = torch.tensor(batch(rng.getrandbits(32), -1, 24, 128, 0.2, "heldout"))
    means = record(model, text.tolist(), sites=["z", "mlp_out"])
    found: dict[str, float] = {}
    for task, draw in TASKS.items():
        asked = [draw(rng, "heldout") for _ in range(_ASKED)]
        found[f"task_{task}"] = float(task_accuracy(model.module, asked).mean())
        if task == "greater":
            found["greater_mass"] = float(task_mass(model.module, asked).mean())
        if task in _ONE_ANSWER:
            found[f"head_{task}"] = _without_most_needed(model, asked, means, "z")
            found[f"mlp_{task}"] = _without_most_needed(model, asked, means, "mlp_out")
    for task in ("ioi_pair", "ioi_triple", "facts"):
        asked = [TASKS[task](rng, "train") for _ in range(_ASKED)]
        found[f"train_{task}"] = float(task_accuracy(model.module, asked).mean())
    losses = token_losses(model.module(text).logits, text)
    found["text_loss"] = float(losses[5:].mean())  # the first fifth of the rows are repeats
    found |= _pair(model, rng, means) | _triple(model, rng) | _facts(model, rng) | _induction(model, rng, means)
    return {name: found[name] for name in MEASURES}


def _without_most_needed(model: Model, asked: list[Instance], means: Any, site: str) -> float:
    """Give the accuracy when the head, or the MLP, is ablated whose ablation costs most on other questions."""
    prompts, right = _prompts(asked), [TOKEN_ID[instance.answer] for instance in asked]
    lost = ablate_sweep(model, prompts[:_CHOOSING], accuracy(right[:_CHOOSING]), over=site, reference=means,
                        progress=False, by=("layer", "head") if site == "z" else ("layer",))  # fmt: skip
    place = np.unravel_index(int(np.argmin(lost.effect)), lost.effect.shape)
    head = int(place[1]) if site == "z" else None
    cut = Ablate(site, int(place[0]), head=head, kind="mean", reference=means)
    return _mean(run(model, prompts[_CHOOSING:], [cut], metric=accuracy(right[_CHOOSING:])))


def _pair(model: Model, rng: Random, means: Any) -> dict[str, float]:
    """Follow which name is said again, with two people; ABBA and BABA alike."""
    asked = _drawn(rng, "ioi_pair", lambda i: i.words[0] == "when")
    found, metric = _follow(model, asked, [_exchanged(i) for i in asked], "pair")
    half = len(asked) // 2
    prompts = _prompts(asked)
    patterns = record(model, prompts, sites=["pattern"])
    to = {role: torch.tensor([i.roles[role] + 1 for i in asked]) for role in ("s2", "io")}  # <bos> comes first

    def attention(layer: int, role: str, part: slice) -> NDArray[Any]:
        at_end = patterns["pattern", layer][:, :, -1]  # [prompt, head, key]
        given = at_end.gather(2, to[role][:, None, None].expand(-1, at_end.shape[1], 1))[part, :, 0]
        return np.asarray(given.mean(0))  # [head]

    first, second = slice(half), slice(half, None)
    readers = np.argsort(-attention(0, "s2", first))[:2]
    movers = {layer: int(np.argmax(attention(layer, "io", first))) for layer in (1, 2)}
    found["pair_reads_s2"] = float(attention(0, "s2", second)[readers[0]])
    for layer, head in movers.items():
        found[f"pair_reads_io_{layer}"] = float(attention(layer, "io", second)[head])
    right = [TOKEN_ID[i.answer] for i in asked[half:]]

    def without(heads: list[Head]) -> float:
        cut = [Ablate("z", layer, head=head, kind="mean", reference=means) for layer, head in heads]
        return _mean(run(model, prompts[half:], cut, metric=accuracy(right)))

    found["pair_without_readers"] = without([(0, int(head)) for head in readers])
    found["pair_without_movers"] = without(list(movers.items()))
    direct = direct_logit_attribution(model, prompts, metric)
    total = float(np.mean(direct.total))
    found["pair_direct_heads"] = float(np.mean(np.asarray(direct.attn).sum(1))) / total
    found["pair_direct_mlp_3"] = float(np.mean(np.asarray(direct.mlp)[:, 3])) / total
    return found


def _triple(model: Model, rng: Random) -> dict[str, float]:
    asked = _drawn(rng, "ioi_triple", lambda i: i.words[0] == "when")
    return _follow(model, asked, [_exchanged(i) for i in asked], "triple")[0]


def _facts(model: Model, rng: Random) -> dict[str, float]:
    """Follow who is asked about, in the wording that puts most words between the name and the answer."""
    homes = {fact.person: fact.object for fact in FACTS if fact.relation == "home"}
    clean: list[Instance] = []
    corrupted: list[Instance] = []
    while len(clean) < _PAIRS:
        one, other = rng.sample(list(homes), 2)
        if homes[one] != homes[other]:
            for kept, person in ((clean, one), (corrupted, other)):
                words = ("if", "you", "look", "for", *person, ",", "go", "to", homes[person])
                kept.append(Instance(words, 9, (homes[person],), (), {"first": 4, "last": 5, "end": 8}))
    found, metric = _follow(model, clean, corrupted, "facts")
    sweep = patch_sweep(model, _prompts(clean), _prompts(corrupted), metric, over="mlp_out", positions=[6],
                        by=("layer", "pos"), progress=False)  # fmt: skip
    return found | {f"facts_mlp_last_{layer}": float(sweep.recovered[layer, 0]) for layer in _LAYERS}


def _follow(model: Model, clean: list[Instance], corrupted: list[Instance], sweep: str) -> tuple[dict[str, float], Any]:
    """Put the clean residual stream back, by layer, at each of the sweep's roles."""
    metric = logit_diff(
        [TOKEN_ID[instance.answer] for instance in clean], [TOKEN_ID[instance.answer] for instance in corrupted]
    )
    positions = {role: clean[0].roles[role] + 1 for role in _FOLLOWED[sweep]}
    effects: Effects = patch_sweep(
        model, _prompts(clean), _prompts(corrupted), metric, over="resid_pre", positions=sorted(positions.values()),
        by=("layer", "pos"), progress=False,
    )  # fmt: skip
    column = {role: sorted(positions.values()).index(position) for role, position in positions.items()}
    restored = {
        f"{sweep}_{role}_{layer}": float(effects.recovered[layer, at])
        for role, at in column.items()
        for layer in _LAYERS
    }
    return restored, metric


def _induction(model: Model, rng: Random, means: Any) -> dict[str, float]:
    """Take induction heads away, the strongest first by prefix matching on other prompts; others for control."""
    words = range(UNK + 1, len(TOKEN_ID))
    choosing, prompts = (repeated_tokens(words, 24, 30, rng.getrandbits(32), BOS) for _ in range(2))
    chosen, scores = (head_scores(model.module, tokens)["prefix_matching"] for tokens in (choosing, prompts))
    heads = scores.shape[1]
    order: list[Head] = [(int(i) // heads, int(i) % heads) for i in chosen.flatten().argsort(descending=True)]
    strongest = order[:4]
    others = [head for head in order[4:] if head[0] in {layer for layer, _ in strongest}][-4:]

    def without(some: list[Head]) -> float:
        cut = [Ablate("z", layer, head=head, kind="mean", reference=means) for layer, head in some]
        logits = run(model, prompts.tolist(), cut, sites=["logits"])["logits"]
        return float(copy_accuracy(logits, prompts, 30).mean())

    return {
        "copy_accuracy": without([]),
        "prefix_matching": float(scores[strongest[0]]),
        "prefix_matching_layer_0": float(scores[0].max()),
        **{f"induction_without_{number}": without(strongest[:number]) for number in (1, 2, 4)},
        "induction_control_4": without(others),
    }


def _drawn(rng: Random, task: str, wanted: Any) -> list[Instance]:
    """Draw held-out questions of one wording, so that each role has one position in all of them."""
    found: list[Instance] = []
    while len(found) < _PAIRS:
        instance = TASKS[task](rng, "heldout")
        if wanted(instance):
            found.append(instance)
    return found


def _exchanged(instance: Instance) -> Instance:
    """Let the indirect object be the one said again, and so the subject the answer: one word and the answer change."""
    words, roles = list(instance.words), instance.roles
    words[roles["s2"]], words[instance.at] = instance.answer, words[roles["s2"]]
    return instance._replace(words=tuple(words))


def _prompts(instances: list[Instance]) -> list[list[int]]:
    tokens, end = questions(instances)
    return [row[: int(last) + 1].tolist() for row, last in zip(tokens, end, strict=True)]


def _mean(effect: Any) -> float:
    return float(np.mean(effect.values))


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    shapes = card["recipe"]["shapes"]
    tables = {
        "does": ("task_", "greater_", "train_", "copy_", "text_"),
        "needs": ("head_", "mlp_"),
        "ioi": ("pair_", "triple_"),
        "knows": ("facts_",),
        "copies": ("prefix_", "induction_"),
    }
    return (
        (Path(__file__).parent / f"{NAME}.md")
        .read_text("utf-8")
        .format(
            **blanks(card),
            **{name: measured_table(card["measured"], *starts) for name, starts in tables.items()},
            tokens=card["recipe"]["steps"] * sum(rows * length for rows, length in shapes) // len(shapes),
            words=len(TOKEN_ID),
        )
    )


SYSTEM = System(
    name=NAME,
    recipe=Recipe,
    task=Storyteller,
    measures=MEASURES,
    measure=measure,
    text=card_text,
    samples=12,
)
