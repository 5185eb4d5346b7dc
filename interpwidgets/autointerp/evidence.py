"""Examples to make a label from, and others to score it on: never two from one context.

Which side a context is on is drawn once, by its number and the seed, for all features and for every kind of example.
Where examples are drawn for both sides from one pool, as is common, a fifth or more of those that a label is scored on
are those that it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.sources import Place, Source
from interpwidgets.autointerp.texts import Snippet, Text
from interpwidgets.tokens import Tokens

__all__ = ["AFTER", "BEFORE", "Evidence", "evidence", "held_out", "window"]

BEFORE, AFTER = 10, 5  # tokens shown around one
_TRIES = 6  # positions tried in a context
_AT_ONCE = 32  # contexts asked for together


@dataclass(frozen=True, eq=False)
class Evidence:
    """Examples of a feature: in half of each the feature is active somewhere, in the other half nowhere."""

    feature: int
    train: list[Snippet]  # what a label is made from
    test: list[Snippet]  # what it is scored on, from other contexts

    def positives(self, side: str = "test") -> list[Snippet]:
        """Those in which the feature is active."""
        return [snippet for snippet in getattr(self, side) if snippet.positive]

    def __repr__(self) -> str:
        train, test = (f"{len(self.positives(side))} of {len(getattr(self, side))}" for side in ("train", "test"))
        return f"<Evidence for feature {self.feature}: active in {train} to learn from, and in {test} held out>"


def held_out(context: int, seed: int = 0) -> bool:
    """Whether a context is for scoring."""
    return bool(hashlib.blake2b(f"{seed} {context}".encode(), digest_size=1).digest()[0] & 1)


def window(tokens: Tokens, position: int) -> tuple[Text, slice]:
    """The text around a position, and which part of its context that is; all are as long, or length would tell."""
    size = BEFORE + 1 + AFTER
    start = max(min(position - BEFORE, len(tokens) - size), 0)
    part = slice(start, min(start + size, len(tokens)))
    ids = None if tokens.ids is None else tokens.ids[part]
    return Text(Tokens(tokens.text[part], ids, tokens.special[part]), part.start), part


def evidence(source: Source, feature: int, *, seed: int = 0, most: int = 30) -> Evidence:
    """Draw examples of a feature for both sides: up to `most` in which it is active, and as many in which it is not.

    Of the latter, half are text at random, and half are *hard*: they activate features that are like this one. A
    context gives at most one text of either kind, and all texts are as long, if their contexts are. A text that is held
    out and, word by word, also among those to learn from, is left out.
    """
    rng = np.random.default_rng([seed, feature])
    places = source.places(feature)
    places = [places[i] for i in rng.permutation(len(places))]
    hard = [place for other in source.near(feature) for place in source.places(other)]
    hard = [hard[i] for i in rng.permutation(len(hard))]
    anywhere = [(int(context), -1) for context in rng.permutation(source.pool)]
    sides: list[list[Snippet]] = []
    for scoring in (False, True):
        mine = [[each for each in some if held_out(each[0], seed) is scoring] for some in (places, hard, anywhere)]
        active = list(_first(_snippets(source, feature, mine[0], "active", rng), most))
        near = list(_first(_snippets(source, feature, mine[1], "hard", rng), len(active) // 2))
        random = list(_first(_snippets(source, feature, mine[2], "random", rng), len(active) - len(near)))
        sides.append([*active, *near, *random])
    known = {_words(snippet) for snippet in sides[0]}
    return Evidence(feature, sides[0], [snippet for snippet in sides[1] if _words(snippet) not in known])


def _snippets(
    source: Source, feature: int, places: Sequence[Place], kind: str, rng: np.random.Generator
) -> Iterator[Snippet]:
    """Texts around places, one a context; of "active" ones those that are, of others those that are not."""
    unique = list(dict(reversed(places)).items())[::-1]  # the first place of each context
    for first in range(0, len(unique), _AT_ONCE):
        some = unique[first : first + _AT_ONCE]
        rows = source.values(feature, [context for context, _ in some])
        for (context, position), row in zip(some, rows, strict=True):
            tokens = source.tokens(context)
            begin = int(bool(tokens.special[:1].any()))
            tried: Sequence[int] | NDArray[np.int64] = [position]
            if position < 0:
                tried = rng.integers(begin, len(tokens), _TRIES) if len(tokens) > begin else []
            for at in tried:
                text, part = window(tokens, int(at))
                if bool((row[part] > 0).any()) is (kind == "active"):
                    yield Snippet(text, row[part].copy(), context, kind)
                    break


def _first(snippets: Iterator[Snippet], count: int) -> Iterator[Snippet]:
    for _, snippet in zip(range(count), snippets, strict=False):
        yield snippet


def _words(snippet: Snippet) -> tuple[object, ...]:
    return snippet.text.tokens.keys
