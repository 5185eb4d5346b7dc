"""A labeler that needs no language model: it counts which tokens, neighbours and places go with a feature."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.rules import ENDING, SHAPES, Rule
from interpwidgets.autointerp.texts import Snippet, Text
from interpwidgets.errors import InputError

__all__ = ["StatisticsLabeler"]

Where = NDArray[np.bool_]
Ints = NDArray[np.int64]


class StatisticsLabeler:
    """Says "the token ␣Paris", "a token after ␣the", "the first token of a sentence", whichever rule fits best.

    A rule fits by F1 over the tokens it is made from, with one false alarm added, less `price` for every clause or
    further token: of two that fit alike, the shorter one. A token counts only if it goes with the feature in two
    examples or more, and at most `longest` are listed. Its predictions are what the rule says (`Rule`), exactly.
    """

    def __init__(self, *, candidates: int = 3, longest: int = 12, price: float = 0.01) -> None:
        if candidates < 1 or longest < 1:
            raise InputError(f"A labeler gives one label or more, of one token or more; got {candidates}, {longest}.")
        self.name = "statistics"
        self.candidates, self.longest, self.price = candidates, longest, price

    def label(self, examples: Sequence[Snippet]) -> list[str]:
        """The rules that fit best, the best first, no two of which say much the same of these examples."""
        counts = _Counts(examples)
        if not counts.active.any():
            return []
        found = {str(rule): rule for rule in self._rules(counts)}
        worth = {name: counts.f1(self._where(counts, rule)) - self.price * rule.parts for name, rule in found.items()}
        chosen: dict[str, Where] = {}
        for name in sorted(worth, key=lambda name: (-worth[name], name)):
            where = self._where(counts, found[name])
            if all(_alike(where, other) < 0.8 for other in chosen.values()):
                chosen[name] = where
            if len(chosen) == self.candidates:
                break
        return list(chosen)

    def predict(self, label: str, texts: Sequence[Text]) -> list[NDArray[np.float64]]:
        """1 where the rule holds, 0 elsewhere: [pos] for each text."""
        rule = _parsed(label)
        return [rule.holds(text).astype(np.float64) for text in texts]

    def _where(self, counts: _Counts, rule: Rule) -> Where:
        return np.concatenate([rule.holds(text) for text in counts.texts])

    def _rules(self, counts: _Counts) -> Iterator[Rule]:
        """Everything that may be said: of the token, of its neighbours, of its kind, and of two of these together."""
        everywhere = np.ones(len(counts.active), dtype=bool)
        for name in ("token", "after", "before"):
            for some in self._sets(counts, name, everywhere):
                one = _rule({name: some})
                yield one
                where = self._where(counts, one)
                for other in ("token", "after", "before"):
                    if other != name:
                        yield from (_rule({name: some, other: more}) for more in self._sets(counts, other, where))
        for shape in chain(SHAPES, (f"{ENDING}{letters}" for letters in counts.endings())):
            one = Rule(shape=shape)
            yield one
            where = self._where(counts, one)
            if (where & counts.active).any():
                yield from (Rule(shape=shape, after=some) for some in self._sets(counts, "after", where))

    def _sets(self, counts: _Counts, name: str, where: Where) -> Iterator[tuple[str, ...]]:
        """The best token to say, and the best list of them, among those places that are left."""
        words = counts.words[name]
        kinds = len(counts.vocabulary)
        inside = where & (words >= 0)
        hits = np.bincount(words[inside & counts.active], minlength=kinds)
        alarms = np.bincount(words[inside & ~counts.active], minlength=kinds)
        pairs = np.unique(np.stack([words, counts.example])[:, inside & counts.active], axis=1)
        (often,) = np.nonzero(np.bincount(pairs[0], minlength=kinds) > 1)
        if not len(often):
            return
        precision = hits[often] / (hits[often] + alarms[often] + 1)
        order = often[np.argsort(-precision, kind="stable")][: self.longest]
        f1 = _f1(np.cumsum(hits[order]), np.cumsum(alarms[order]), counts.total)
        best = int(np.argmax(f1 - self.price * np.arange(len(order))))
        yield tuple(counts.vocabulary[i] for i in order[: best + 1])
        single = int(often[np.argmax(_f1(hits[often], alarms[often], counts.total))])
        yield (counts.vocabulary[single],)


class _Counts:
    """Examples as rows of numbers: which token is where, what stands before and after it, where the feature is on."""

    def __init__(self, examples: Sequence[Snippet]) -> None:
        self.texts = [snippet.text for snippet in examples]
        self.active = np.concatenate([snippet.active for snippet in examples] or [np.zeros(0, dtype=bool)])
        self.total = int(self.active.sum())
        self.example = np.repeat(np.arange(len(self.texts)), [len(text) for text in self.texts])
        self.vocabulary = sorted({word for text in self.texts for word in text.words})
        number = {word: place for place, word in enumerate(self.vocabulary)}
        rows = [[number[word] for word in text.words] for text in self.texts]
        self.words: dict[str, Ints] = {
            "token": _joined(rows),
            "after": _joined([[-1, *row[:-1]][: len(row)] for row in rows]),
            "before": _joined([[*row[1:], -1][-len(row) :] if row else [] for row in rows]),
        }

    def endings(self) -> list[str]:
        """Two or three letters in which several of the active tokens end."""
        on = {self.vocabulary[i] for i in np.unique(self.words["token"][self.active])}
        ends = Counter(word[-n:] for word in on for n in (2, 3) if len(word) > n + 1)
        return [letters for letters, count in ends.most_common(6) if count > 1 and re.fullmatch(r"[^\W\d_]+", letters)]

    def f1(self, where: Where) -> float:
        """How well places fit those where the feature is active."""
        return float(_f1((where & self.active).sum(), (where & ~self.active).sum(), self.total))


def _f1(hits: Ints, alarms: Ints, total: int) -> NDArray[np.float64]:
    """F1 with one false alarm added."""
    found: NDArray[np.float64] = 2 * hits / (hits + alarms + 1 + total)
    return found


def _rule(clauses: dict[str, Any]) -> Rule:
    return Rule(**clauses)


def _joined(rows: list[list[int]]) -> Ints:
    return np.array([number for row in rows for number in row], dtype=np.int64)


def _alike(one: Where, other: Where) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


@lru_cache(4096)
def _parsed(label: str) -> Rule:
    return Rule.parse(label)
