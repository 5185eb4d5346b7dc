"""Tokens as they are shown: every one visible, none mistaken for another, none ever executed.

A tokenizer's pieces are hostile to display. Some are invisible (a space, a newline, a zero-width joiner), some
are half a character (a byte of a UTF-8 sequence), some reorder the line they stand in (right-to-left marks), and
some look like markup (`<s>`, `</script>`). `show` maps each to a string of visible characters, and two different
tokens never to the same string.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError

__all__ = ["Tokens", "show", "unshow"]

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
_MEANT = {mark: character for character, mark in MARKS.items()}
_LITERAL = {*MARKS.values(), "⟨", "⟩", "∅"}  # shown as code points when a token really contains them
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}  # Unicode categories that leave no mark on a screen
_COMBINING = {"Mn", "Mc", "Me"}  # these are drawn onto the character before
# Characters of other categories that leave no mark by themselves: joiners and fillers, the blank of Braille, and
# variation selectors, which at most change how the character before them looks.
_FILLERS = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_SELECTORS = {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def show(token: str | bytes) -> str:
    """A visible spelling of one token: `" cat"` is `␣cat`, a newline `↵`, the byte 0xE2 `⟨E2⟩`, nothing at all `∅`.

    Characters without a glyph, accents without a letter, and the marks themselves are written as their code point
    (`⟨U+200B⟩`). Two different tokens, strings or bytes, are never spelt alike: `⟨` and `⟩` stand for nothing else,
    and what is between them tells bytes from code points.
    """
    if isinstance(token, bytes):
        return f"⟨{token.hex(' ').upper()}⟩"
    if token == "":
        return "∅"
    shown = ""
    bare = False  # whether the last character stands for itself, so that an accent may be drawn onto it
    for character in token:
        bare = _has_glyph(character) and (bare or unicodedata.category(character) not in _COMBINING)
        shown += character if bare else MARKS.get(character, f"⟨U+{ord(character):04X}⟩")
    return shown


def unshow(shown: str) -> str | bytes:
    """The token that `show` spells so; text that is not spelt by it stays as it is."""
    if shown == "∅":
        return ""
    if spelt := re.fullmatch(r"⟨((?:[0-9A-F]{2}(?: [0-9A-F]{2})*)?)⟩", shown):
        return bytes.fromhex(spelt[1])
    return re.sub(r"⟨U\+([0-9A-F]{4,5}|10[0-9A-F]{4})⟩|[␣↵⇥␍]", _character, shown)


def _character(spelt: re.Match[str]) -> str:
    return chr(int(spelt[1], 16)) if spelt[1] else _MEANT[spelt[0]]


def _has_glyph(character: str) -> bool:
    if character in MARKS or character in _LITERAL or ord(character) in _FILLERS or ord(character) in _SELECTORS:
        return False
    return unicodedata.category(character) not in _HIDDEN


@dataclass(frozen=True, eq=False)
class Tokens(Sequence[str]):
    """The tokens of one prompt: their text, their ids where known, and which of them are special.

    `text[i]` is what token `i` decodes to; bytes where it is no whole character. As a sequence, a `Tokens` is the
    list of those texts *as shown*.
    """

    text: tuple[str | bytes, ...]
    ids: NDArray[np.int64] | None = None  # [position]
    special: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))  # [position]

    def __post_init__(self) -> None:
        size = len(self.text)
        if not self.special.size:
            object.__setattr__(self, "special", np.zeros(size, dtype=bool))
        for name, array in (("ids", self.ids), ("special", self.special)):
            if array is not None and array.shape != (size,):
                raise InputError(f"{size} tokens need {size} {name}; got an array of shape {array.shape}.")

    @classmethod
    def of(cls, tokens: Tokens | Sequence[str | bytes]) -> Tokens:
        """Tokens from what a user has: these, or a list of strings."""
        if isinstance(tokens, Tokens):
            return tokens
        if isinstance(tokens, (str, bytes)):
            raise InputError("tokens are a list of strings, one per position; got one string. Did you mean list(…)?")
        text = tuple(tokens)
        for position, token in enumerate(text):
            if not isinstance(token, (str, bytes)):
                kind = type(token).__name__
                raise InputError(f"tokens are strings; token {position} is {token!r}, of type {kind}.")
        return cls(text)

    @classmethod
    def numbered(cls, count: int) -> Tokens:
        """Names for positions whose tokens are not known: their numbers."""
        return cls(tuple(map(str, range(count))))

    @property
    def keys(self) -> tuple[object, ...]:
        """What makes two tokens the same: the id where there is one, else the text."""
        return self.text if self.ids is None else tuple(self.ids.tolist())

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int | slice) -> str | list[str]:  # type: ignore[override]
        part = self.text[index]
        return [show(token) for token in part] if isinstance(index, slice) else show(part)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        return map(show, self.text)

    def __repr__(self) -> str:
        head = " ".join(self[:8])
        return f"Tokens({len(self)}: {head}{' …' if len(self) > 8 else ''})"
