"""Running text coloured by a value per token: what the views of text have in common, and its still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.drawing import ACCENT, LINE, MUTED, PAD, WIDTH, Drawing, text_width
from interpwidgets.views.palette import lut, place

__all__ = ["OCTAVES", "TextStill", "extent", "in_text", "prompts_of"]

Floats = NDArray[np.float32]

OCTAVES = 10  # of a log scale, below the largest value
_LINES = 16  # in a still
_HEIGHT, _SIZE = 22, 12  # pixels of a line, and of its text


def prompts_of(tokens: Any) -> list[Tokens]:
    """The tokens of each prompt, of a Recording, a list of tokens, or a list of those.

    Raises:
        InputError: something else, or a prompt without tokens.
    """
    if hasattr(tokens, "tokens") and not isinstance(tokens, Tokens):  # a Recording
        prompts = list(tokens.tokens)
    elif isinstance(tokens, (Tokens, str)):
        prompts = [Tokens.of(tokens)]
    else:
        given = list(tokens) if hasattr(tokens, "__iter__") else [tokens]
        if wrong := next((each for each in given if not hasattr(each, "__iter__")), None):
            raise InputError(f"tokens are a list of strings, a Tokens or a Recording; got {wrong!r:.40}.")
        one = all(isinstance(token, (str, bytes)) for token in given)
        prompts = [Tokens.of(each) for each in ([given] if one else given)]
    if not prompts or not all(map(len, prompts)):
        raise InputError("There is no text without tokens: every prompt needs one at least.")
    return prompts


def in_text(name: str, value: Any, size: int) -> Any:
    """A `position` that exists, or a `span` [first, before last] of such.

    Raises:
        TraitError: it does not.
    """
    if name == "span":
        if value and not (len(value) == 2 and 0 <= value[0] < value[1] <= size):
            raise traitlets.TraitError(f"span is [first, before last] within 0 to {size}, or empty; got {list(value)}.")
    elif value is not None and not 0 <= value < size:
        raise traitlets.TraitError(f"position {value} does not exist: this text has position 0 to {size - 1}.")
    return value


def extent(values: Floats) -> tuple[float, float]:
    """The least and the largest value, with 0 between or below them; 0 and 1 if there is none."""
    there = values[~np.isnan(values)]
    low, high = min(0.0, float(there.min(initial=0))), max(0.0, float(there.max(initial=0)))
    return (low, high) if low < high else (0.0, 1.0)


class TextStill:
    """Text on the colours of its values, drawn into a still below what is there.

    Lines beyond the first few are left out, and counted.
    """

    def __init__(
        self,
        tokens: Sequence[str],  # as shown
        values: Floats | None,  # [pos]
        scale: str = "linear",
        colour_range: Sequence[float] = (),
        *,
        first: int = 0,
        signed: bool | None = None,
        high: float | None = None,
        floor: float | None = None,  # of a log scale
        more: int = 0,  # tokens that are not among these
    ) -> None:
        self._tokens, self._values, self._scale, self._first = tokens, values, scale, first
        self._more = more
        least, most = (0.0, 1.0) if values is None else extent(values)
        self.signed = least < 0 if signed is None else signed
        self.low = 0.0 if self.signed or not colour_range else colour_range[0]
        self.high = colour_range[1] if colour_range else high or max(-least, most)
        self._floor = floor or self.high / 2**OCTAVES
        self._lines = self._laid_out()
        self.height = _HEIGHT * len(self._lines) + (16 if self.left_out else 0)

    @property
    def left_out(self) -> int:
        """How many tokens are not drawn."""
        return len(self._tokens) - (self._lines[-1][-1][0] + 1) + self._more

    def draw(self, drawing: Drawing, top: float, position: int | None, span: Sequence[int]) -> None:
        """Draw the lines, with what is selected outlined."""
        for row, line in enumerate(self._lines):
            y = top + row * _HEIGHT
            for i, x, width in line:
                at, size = (x, y), (width - 1, _HEIGHT - 3)
                background = self._colour(i)
                drawing.rect(at, size, background, None if background else LINE)
                drawing.text((x + 2, y + 2), self._tokens[i], _SIZE, _ink(background), width=width - 3)
                here = i + self._first
                if here == position or (span and span[0] <= here < span[1]):
                    drawing.rect(at, size, outline=ACCENT, stroke=2 if here == position else 1)
        if self.left_out:
            y = top + len(self._lines) * _HEIGHT
            drawing.text((PAD, y), f"… and {self.left_out:,} tokens more", 10, MUTED)

    def legend(self, drawing: Drawing, top: float, what: str) -> None:
        """Draw what the colours stand for."""
        low = -self.high if self.signed else self.low
        drawing.colour_bar((PAD, top), f"{low:.3g}", f"{self.high:.3g}", f"{what}, {self._scale}", self._palette)

    @property
    def _palette(self) -> str:
        return "diverging-light" if self.signed else "light"

    def _colour(self, i: int) -> str | None:
        if self._values is None or np.isnan(self._values[i]):
            return None
        keys = 1 / (16 * self._floor)
        at = place(self._values[i : i + 1], self._scale, self.low, self.high, keys, self.signed)
        return "#" + bytes(lut(self._palette)[at[0]].tolist()).hex()

    def _laid_out(self) -> list[list[tuple[int, float, float]]]:
        """By line, the tokens on it: which, how far from the left, how wide."""
        lines: list[list[tuple[int, float, float]]] = [[]]
        x = float(PAD)
        for i, token in enumerate(self._tokens):
            width = min(text_width(token, _SIZE) + 5, WIDTH - 2 * PAD)
            if lines[-1] and (x + width > WIDTH - PAD or self._tokens[i - 1].endswith("↵")):
                if len(lines) == _LINES:
                    break
                lines.append([])
                x = float(PAD)
            lines[-1].append((i, x, width))
            x += width
        return lines


def _ink(background: str | None) -> str:
    """Black or white, whichever is easier to read on a colour."""
    if background is None:
        return "#000000"
    red, green, blue = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "#000000" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "#ffffff"
