"""Labels that are rules: sentences about a token that its text alone decides, read back as exactly what they say.

    the token ␣Paris                    one of: ␣Paris, ␣Rome               a token ending in ing
    a token after ␣the                  the token ␣Paris after one of: ␣in, ␣to
    a token before .                    the first token of a sentence

Tokens are spelt as they are shown, in which there is never a plain space: what stands between two is a rule's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.texts import Text
from interpwidgets.errors import InputError

__all__ = ["ENDING", "SHAPES", "Rule"]

Where = NDArray[np.bool_]
_ENDS = {".", "!", "?", "␣.", "␣!", "␣?", "↵"}
ENDING = "a token ending in "


def _each(holds: Callable[[str], bool]) -> Callable[[Text], Where]:
    return lambda text: np.array([holds(word.lstrip("␣")) for word in text.words], dtype=bool)


def _first_of_text(text: Text) -> Where:
    found = np.zeros(len(text), dtype=bool)
    if text.start == 0 and len(text):
        found[min(int(text.tokens.special[0]), len(text) - 1)] = True
    return found


def _first_of_sentence(text: Text) -> Where:
    found = _first_of_text(text)
    for place, word in enumerate(text.words[:-1]):
        found[place + 1] |= word in _ENDS
    return found


def _said_before(text: Text) -> Where:
    return np.array([word in text.words[:place] for place, word in enumerate(text.words)], dtype=bool)


SHAPES: dict[str, Callable[[Text], Where]] = {
    "the first token of a text": _first_of_text,
    "the first token of a sentence": _first_of_sentence,
    "a repeated token": _said_before,
    "a number": _each(str.isdigit),
    "a capitalised word": _each(lambda word: word[:1].isupper()),
    "a mark": _each(lambda word: not any(character.isalnum() for character in word)),
}
"""Kinds of token, by name."""


@dataclass(frozen=True)
class Rule:
    """What a token is, what it comes after, and what it comes before; what is not given may be anything.

    Beyond the ends of a text there is nothing that a token could come after or before.
    """

    token: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    shape: str = ""  # one of SHAPES, or ENDING and letters

    def holds(self, text: Text) -> Where:
        """Where in a text it is true: [pos]."""
        words = text.words
        found = np.ones(len(words), dtype=bool) if not self.shape else self._shaped(text)
        if self.token:
            found &= _among(words, self.token)
        if self.after:
            found &= np.concatenate([[False], _among(words[:-1], self.after)])[: len(words)]
        if self.before:
            found &= np.concatenate([_among(words[1:], self.before), [False]])[-len(words) :]
        return found

    def _shaped(self, text: Text) -> Where:
        if self.shape in SHAPES:
            return SHAPES[self.shape](text)
        ending = self.shape.removeprefix(ENDING)
        return np.array([word.endswith(ending) for word in text.words], dtype=bool)

    @property
    def parts(self) -> int:
        """How much it takes to say it: clauses, and tokens beyond the first of each."""
        some = [each for each in (self.token, self.after, self.before) if each]
        return len(some) + bool(self.shape) + sum(len(each) - 1 for each in some)

    def __str__(self) -> str:
        what = self.shape or (_listed(self.token, "the token ") if self.token else "a token")
        after = f" after {_listed(self.after)}" if self.after else ""
        before = f" before {_listed(self.before)}" if self.before else ""
        return f"{what}{after}{before}"

    @classmethod
    def parse(cls, label: str) -> Rule:
        """Read a label; InputError if it is no rule."""
        match = _GRAMMAR.fullmatch(label)
        if match and (match["shape"] or match["token"] or match["after"] or match["before"]):
            tokens, after, before = (_tokens(match[name]) for name in ("token", "after", "before"))
            return cls(tokens, after, before, shape=match["shape"] or "")
        raise InputError(
            f"{label!r} is no rule that can be applied to text. Rules read like: the token ␣Paris · one of: ␣a, ␣the · "
            f"a token after ␣the · {' · '.join(SHAPES)}."
        )


def _among(words: list[str], some: tuple[str, ...]) -> Where:
    chosen = set(some)
    return np.array([word in chosen for word in words], dtype=bool)


def _listed(tokens: tuple[str, ...], one: str = "") -> str:
    return f"{one}{tokens[0]}" if len(tokens) == 1 else f"one of: {', '.join(tokens)}"


def _tokens(said: str | None) -> tuple[str, ...]:
    if said is None:
        return ()
    return tuple(said.removeprefix("one of: ").split(", ")) if said.startswith("one of: ") else (said,)


_LIST = r"one of: [^ ]+(?:, [^ ]+)+"
_GRAMMAR = re.compile(
    rf"(?:(?P<shape>{'|'.join(map(re.escape, SHAPES))}|{ENDING}\w+)|(?:the token (?=[^ ])|(?=one of: ))"
    rf"(?P<token>{_LIST}|[^ ]+)|a token)(?: after (?P<after>{_LIST}|[^ ]+))?(?: before (?P<before>{_LIST}|[^ ]+))?"
)
