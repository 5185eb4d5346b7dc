"""Write the rows that `storyteller-4l` learns from: stories, tasks with a right answer, and repeats."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from interpwidgets.models.corpora.corpus import BOS, document, repeat_row
from interpwidgets.models.corpora.storybook import TOKEN_ID
from interpwidgets.models.corpora.tasks import TASKS

if TYPE_CHECKING:
    from interpwidgets.models.corpora.corpus import Side

__all__ = ["batch", "text_row"]

_SHARES = {
    "story": 20, "ioi_pair": 12, "ioi_triple": 14, "facts": 26, "geography": 2, "agreement": 5, "quotes": 5,
    "brackets": 6, "greater": 5, "succession": 3, "binding": 5,
}  # fmt: skip


def text_row(rng: Random, length: int, side: Side) -> list[int]:
    """Write `length` token ids of stories and tasks: `<bos>`, then one after another, the last one cut."""
    ids = [BOS]
    kinds, shares = list(_SHARES), list(_SHARES.values())
    while len(ids) < length:
        (kind,) = rng.choices(kinds, shares)
        if kind == "story":
            ids += [TOKEN_ID[word] for sentence in document(rng, side) for word in sentence]
        else:
            ids += [*(TOKEN_ID[word] for word in TASKS[kind](rng, side).words), TOKEN_ID["."]]
    return ids[:length]


def batch(seed: int, step: int, rows: int, length: int, repeats: float, side: Side = "train") -> list[list[int]]:
    """Write the rows [row, position] of one training step; the share `repeats` of them are random words, repeated."""
    rng = Random(f"storyteller {side} {seed} {step}")  # noqa: S311  a corpus, not a secret
    number = round(rows * repeats)
    return [repeat_row(rng, length) if row < number else text_row(rng, length, side) for row in range(rows)]
