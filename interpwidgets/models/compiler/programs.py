"""The programs that ship as `compiled-*`.

They are written for a decoder, which sees only what came before: a count is a count so far, and an answer to a whole
sequence is given after the sign `=` that ends it, a token at a time, each from the prompt and the answer so far.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from interpwidgets.models.compiler.language import (
    Program,
    aggregate,
    each,
    indices,
    inverse_width,
    select,
    tokens,
)

__all__ = ["END", "EOS", "PROGRAMS", "frequency", "induction", "parentheses", "reverse", "sort"]

END, EOS = "=", "<eos>"


def frequency(letters: str = "abcdefghij", longest: int = 20) -> Program:
    """Say how often the token just read has occurred so far: `a b a` → `1 1 2`."""
    share = inverse_width("1 / (1 + count)", select(tokens, tokens, "=="))
    said = each("count", lambda x: str(round(1 / x) - 1) if 0 < x < 1 else None, share, text="1 / x - 1, as a word")
    return Program("compiled-frequency", said, [*letters, *map(str, range(1, longest + 1))], longest)


def reverse(letters: str = "abcdefghij", longest: int = 10) -> Program:
    """Say it backwards after the `=`: `c a b =` → `b a c <eos>`."""
    is_end = each("end here", lambda token: True if token == END else None, tokens, text="True at =")
    end = aggregate("index of the end", select(is_end, tokens, "any", first=indices), indices)
    # The first answer, said at the end, is the token before it; so on backwards, and before the first, the end again.
    text = "2 · end - 1 - index, or the end itself in place of -1"
    mirror = each("mirror index", _mirrored, end, indices, text=text)
    there = aggregate("token at the mirror index", select(indices, mirror, "=="), tokens)
    said = each("what to say", lambda token: EOS if token == END else token, there, text="<eos> for =")
    return Program("compiled-reverse", said, [*letters, END, EOS], 2 * longest + 1, EOS)


def _mirrored(end: int, index: int) -> int | None:
    source = 2 * end - 1 - index
    if source == -1:
        return end
    return source if 0 <= source < end else None


def sort(digits: str = "0123456789", longest: int = 10) -> Program:
    """Say it in order after the `=`: `3 1 2 1 =` → `1 1 2 3 <eos>`."""
    order = {digit: number for number, digit in enumerate(digits)} | {END: len(digits)}
    is_end = each("end here", lambda token: "after" if token == END else None, tokens, text="'after' at =")
    part = aggregate("part", select(is_end, tokens, "any"), is_end, default="before")

    # What may be said: the tokens before the end, and the end itself, which is larger than all and means <eos>.
    def allowed(token: str, part: str) -> int | None:
        return order.get(token) if part == "before" or token == END else None

    source = each("source", allowed, tokens, part, text="the digit, if before the end; larger than all at the end")
    # Is the digit just said still to be said again? It is if it occurs more often before the end than after.
    text = "+1 before the end, -1 after"
    sign = each("sign", lambda part, _: 1 if part == "before" else -1, part, tokens, number=True, text=text)
    left = aggregate("left to say", select(tokens, tokens, "=="), sign)

    def above(left: Fraction, token: str, part: str) -> int | None:
        if token not in order or part == "before":
            return None
        return -1 if token == END else order[token] - (left > 0)

    text = "what the next digit is above: the last one, or one less if some of it is left"
    floor = each("floor", above, left, tokens, part, text=text)
    smallest = aggregate("smallest above the floor", select(source, floor, ">", first=source), source)
    said = each("what to say", [*digits, EOS].__getitem__, smallest, text="as a word")
    return Program("compiled-sort", said, [*digits, END, EOS], 2 * longest + 1, EOS)


def parentheses(longest: int = 20) -> Program:
    """Say how many brackets are open, or `!` once one was closed that was not open: `( ( ) ) ) (` → `1 2 1 0 ! !`.

    So a sequence is balanced if the last word is `0`.
    """
    sign = each("sign", {"(": 1, ")": -1}.get, tokens, number=True, text="+1 at (, -1 at )")
    balance = aggregate("balance", select(tokens, tokens, "any"), sign)  # their mean: depth / number of tokens
    text = "balance · (index + 1), or -1 if less"
    depth = each("depth", lambda mean, index: max(-1, round(mean * (index + 1))), balance, indices, text=text)
    below = each("below zero", lambda mean: True if mean < 0 else None, balance, text="True if negative")
    broken = aggregate("broken", select(below, indices, "any"), below, default=False)
    text = "the depth as a word, or ! if broken"
    says = each("verdict", lambda depth, broken: "!" if broken or depth < 0 else str(depth), depth, broken, text=text)
    return Program("compiled-parentheses", says, ["(", ")", "!", *map(str, range(longest + 1))], longest)


def induction(letters: str = "abcdefghijklmnopqrstuvwxyz", longest: int = 40) -> Program:
    """Say what followed the token just read when it was last there: `a b c a` → `b`."""
    before = each("index before", lambda index: index - 1, indices, text="index - 1")
    previous = aggregate("previous token", select(indices, before, "=="), tokens)
    said = aggregate("what came next", select(previous, tokens, "==", last=indices), tokens)
    return Program("compiled-induction", said, list(letters), longest)


PROGRAMS: dict[str, Callable[[], Program]] = {
    "compiled-frequency": frequency,
    "compiled-induction": induction,
    "compiled-parentheses": parentheses,
    "compiled-reverse": reverse,
    "compiled-sort": sort,
}
