"""What a model can do and which heads look like what: the same short examination for any causal language model."""

# ruff: noqa: SIM905  a list of words reads best as a line of text

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.load import load
from interpwidgets.models.model import Model
from interpwidgets.models.record import record
from interpwidgets.models.scores import (
    copy_accuracy,
    current_token_score,
    duplicate_token_score,
    in_context_score,
    prefix_matching_score,
    previous_token_score,
    repeated_tokens,
    token_losses,
)
from interpwidgets.stats import interval

__all__ = ["Question", "Score", "Scorecard", "fact_questions", "ioi_questions", "scorecard"]

_NAMES = "Mary John Anna Ben Alice Bob Kate Mark Paul Tom Emma Jack Laura Peter Simon Helen George Adam".split()
_PLACES = "park market school garden library station museum hotel".split()
_THINGS = "book ball key box lamp ring drum kite".split()
_GIVING = (
    "When {a} and {b} went to the {place}, {s} gave a {thing} to",
    "Then {a} and {b} had a new {thing}, and {s} gave it to",
    "After {a} and {b} came to the {place}, {s} sent the {thing} to",
    "When {a} and {b} walked to the {place}, {s} handed a {thing} to",
)
_COUNTRIES = {
    "Paris": "France", "London": "England", "Rome": "Italy", "Berlin": "Germany", "Madrid": "Spain", "Oslo": "Norway",
    "Cairo": "Egypt", "Tokyo": "Japan", "Delhi": "India", "Lima": "Peru", "Athens": "Greece", "Dublin": "Ireland",
    "Vienna": "Austria", "Lisbon": "Portugal", "Warsaw": "Poland", "Ottawa": "Canada", "Nairobi": "Kenya",
    "Beijing": "China", "Havana": "Cuba", "Bern": "Switzerland",
}  # fmt: skip
_ROLES = {
    "previous_token": "previous token",
    "prefix_matching": "induction",
    "duplicate_token": "duplicate token",
    "current_token": "current token",
}


@dataclass(frozen=True)
class Question:
    """A prompt in token ids, the ids of the right answer and of those it has to beat."""

    prompt: tuple[int, ...]
    right: int
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """A mean over prompts with its 95 % bootstrap interval; `n` 0 where the model could not be asked, and NaN."""

    what: str
    value: float
    low: float
    high: float
    n: int
    chance: float | None = None

    def __str__(self) -> str:
        if not self.n:
            return f"{self.what}: could not be asked"
        chance = "" if self.chance is None else f"; chance {self.chance:.2g}"
        return f"{self.what}: {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n}{chance})"


@dataclass(frozen=True)
class Scorecard:
    """What `scorecard` found: `heads` by score, each [layer, head], and `scores` of the model by name.

    A head's score says what it attends to, on random tokens said twice; not what the model uses it for. That takes an
    intervention: `iw.ablate_sweep`, `iw.path_patch`.
    """

    model: str
    heads: dict[str, NDArray[np.float64]]
    scores: dict[str, Score]

    def labels(self, least: float = 0.3) -> dict[tuple[int, int], str]:
        """Name the heads that give at least this share of their attention to one thing: for `AttentionView(labels=…)`.

        A head is named by the highest of its scores.
        """
        names = list(_ROLES)
        stacked = np.stack([self.heads[name] for name in names])  # [score, layer, head]
        best = stacked.argmax(0)
        return {
            (int(layer), int(head)): _ROLES[names[best[layer, head]]]
            for layer, head in zip(*np.nonzero(stacked.max(0) >= least), strict=True)
        }

    def top(self, score: str, n: int = 5) -> list[tuple[int, int, float]]:
        """Give the (layer, head, score) of the heads that have most of a score, the highest first."""
        if score not in self.heads:
            raise InputError(f"There is no head score {score!r}; there are {', '.join(self.heads)}.")
        values = self.heads[score]
        order = np.argsort(values, axis=None)[::-1][:n]
        return [(int(i) // values.shape[1], int(i) % values.shape[1], float(values.flat[i])) for i in order]

    def __str__(self) -> str:
        lines = [f"Scorecard of {self.model}", *(f"  {score}" for score in self.scores.values()), ""]
        for name in self.heads:
            best = ", ".join(f"{layer}.{head} {value:.2f}" for layer, head, value in self.top(name, 4))
            lines.append(f"  {name.replace('_', ' ')} heads: {best}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score.value:.2f}" for name, score in self.scores.items() if score.n)
        return f"Scorecard({self.model}: {found})"


def scorecard(model: str | Path | Model | Any, *, prompts: int = 32, length: int = 25, seed: int = 0) -> Scorecard:
    """Examine any causal language model: what its heads attend to, whether it copies, two tasks of the field.

    >>> card = scorecard("induction-2l")                       # or any Hugging Face id, module, Model
    >>> print(card)
    >>> AttentionView(rec, scores=card.heads, labels=card.labels())

    Heads are scored on `prompts` prompts of `length` random tokens said twice (Olsson et al. 2022): `previous_token`,
    `prefix_matching` (induction), `duplicate_token`, `current_token`. The model: accuracy on the second copy, the
    in-context score in nats, indirect objects (Wang et al. 2022: accuracy, logit difference) and countries of capitals,
    as far as its tokenizer has the words, each answer as one token.

    Raises InputError for a model whose context does not hold two copies.
    """
    model = load(model)
    if not isinstance(model, Model):
        raise InputError(f"A scorecard is of a language model; {type(model).__name__} is none.")
    bos = _bos(model)
    if model.context is not None and 2 * length + len(bos) > model.context:
        raise InputError(
            f"{model.name} reads {model.context} tokens; two copies of {length} need {2 * length + len(bos)}: give a "
            "smaller `length`."
        )
    tokens = repeated_tokens(_ordinary(model), prompts, length, seed)
    tokens = torch.cat([torch.tensor([bos] * prompts, dtype=torch.long), tokens], dim=1)  # [prompt, pos]
    recording = record(model, tokens.tolist(), sites=["pattern", "logits"])
    logits = recording["logits"].float().cpu()
    losses = token_losses(logits, tokens)
    tail = min(10, length - 1)
    start = len(bos)
    gain = in_context_score(losses, slice(start, start + tail), slice(-tail, None))
    scores = {
        "copy_accuracy": _score("second copy predicted", copy_accuracy(logits, tokens, length), 1 / logits.shape[-1]),
        "in_context_score": _score("in-context score, nats (lower is better)", gain),
    }
    asked = ioi_questions(model, 2 * prompts, seed)
    margins = _margins(model, asked)
    scores["ioi_accuracy"] = _score("indirect object preferred to subject", (margins > 0).float(), 0.5)
    scores["ioi_logit_diff"] = _score("its logit difference", margins)
    capitals = fact_questions(model)
    right = (_margins(model, capitals) > 0).float()
    chance = 1 / (1 + len(capitals[0].wrong)) if capitals else None
    scores["facts_accuracy"] = _score("a capital's country preferred to every other", right, chance)
    patterns = [recording["pattern", layer].float().cpu() for layer in range(model.n_layers)]
    heads = {
        "previous_token": [previous_token_score(p).mean(0) for p in patterns],
        "prefix_matching": [_by_row(prefix_matching_score, p, tokens) for p in patterns],
        "duplicate_token": [_by_row(duplicate_token_score, p, tokens) for p in patterns],
        "current_token": [current_token_score(p).mean(0) for p in patterns],
    }
    return Scorecard(model.name, {name: torch.stack(each).double().numpy() for name, each in heads.items()}, scores)


def ioi_questions(model: Model, n: int, seed: int = 0) -> list[Question]:
    """Draw prompts where the person named once is to be named next, ABBA and BABA alike; none without the words."""
    rng = Random(f"indirect objects {seed}")  # noqa: S311  a test sample, not a secret
    if model.tokenizer is None:
        return []
    found: list[Question] = []
    for _ in range(4 * n):
        if len(found) == n:
            break
        a, b = rng.sample(_NAMES, 2)
        subject, other = (a, b) if rng.random() < 0.5 else (b, a)
        blanks = {"place": rng.choice(_PLACES), "thing": rng.choice(_THINGS)}
        text = rng.choice(_GIVING).format(a=a, b=b, s=subject, **blanks)
        if question := _question(model, text, other, [subject]):
            found.append(question)
    return found


def fact_questions(model: Model) -> list[Question]:
    """Ask for the country of every capital that the model has as single tokens; none without the words."""
    if model.tokenizer is None:
        return []
    countries = [c for c in _COUNTRIES.values() if _question(model, "Paris is in", c, [])]
    asked = [
        _question(model, f"{city} is in", country, [other for other in countries if other != country])
        for city, country in _COUNTRIES.items()
        if country in countries
    ]
    return [question for question in asked if question and question.wrong]


def _question(model: Model, text: str, right: str, wrong: Sequence[str]) -> Question | None:
    """Make a question of a prompt and words to follow it; None where a word is not one token, or not known."""
    unknown = model.tokenizer.unk_token_id
    prompt = model.tokenizer(text)["input_ids"]
    end = 1 if prompt and prompt[-1] in _closing(model) else 0  # a [SEP] or </s> that the tokenizer adds
    prompt = prompt[: len(prompt) - end]
    answers = []
    for word in (right, *wrong):
        whole = model.tokenizer(f"{text} {word}")["input_ids"]
        whole = whole[: len(whole) - end]
        if len(whole) != len(prompt) + 1 or whole[:-1] != prompt or unknown in whole:
            return None
        answers.append(whole[-1])
    return Question(tuple(prompt), answers[0], tuple(answers[1:]))


def _closing(model: Model) -> set[int | None]:
    return {model.tokenizer.eos_token_id, model.tokenizer.sep_token_id} - {None}


def _bos(model: Model) -> list[int]:
    """What the tokenizer puts before a text."""
    if model.tokenizer is None:
        return []
    ids = model.tokenizer("")["input_ids"]
    return [token for token in ids[:1] if token in model.tokenizer.all_special_ids and token not in _closing(model)]


def _ordinary(model: Model) -> list[int]:
    special = set() if model.tokenizer is None else set(model.tokenizer.all_special_ids)
    size = model.anatomy.embed.num_embeddings if model.tokenizer is None else len(model.tokenizer)
    return [token for token in range(size) if token not in special]


def _margins(model: Model, asked: Sequence[Question]) -> Tensor:
    """Give by how much the logit of the right answer exceeds the highest wrong one, [question]."""
    if not asked:
        return torch.zeros(0)
    recording = record(model, [list(q.prompt) for q in asked], sites=["logits"], positions=-1, batch_size=64)
    logits = recording["logits"].float().cpu()[:, 0]  # [question, token]
    return torch.stack([row[q.right] - row[list(q.wrong)].max() for row, q in zip(logits, asked, strict=True)])


def _by_row(score: Any, pattern: Tensor, tokens: Tensor) -> Tensor:
    return torch.stack([score(*row) for row in zip(pattern, tokens, strict=True)]).mean(0)


def _score(what: str, values: Tensor, chance: float | None = None) -> Score:
    if not len(values):
        return Score(what, float("nan"), float("nan"), float("nan"), 0, chance)
    low, high = interval(values.double().numpy())
    return Score(what, float(values.mean()), float(low), float(high), len(values), chance)
