"""The causal graph of `ioi-known`: who was given the thing, found by which of two slots holds the name said twice.

    when anna and ben went to the park , ben gave a book to …

`duplicate` looks from the second "ben" back to the first one and says which slot that is: the second. `s_inhibition`
brings this to the end, where `name_mover` copies the name in the other slot. Which name that is plays no part until
then: with the slot of another prompt, the answer is the name in the other slot of *this* prompt.

The first name stands at position 2 or 3, the second at 4 or 5, so a position tells the slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from interpwidgets.models.corpora.corpus import Side
from interpwidgets.models.corpora.words import SLOTS
from interpwidgets.models.train.known.graph import Edge, Graph, Known, Node, Place, Prompt, Values, side_of

__all__ = ["IOI"]

_NAMES = SLOTS["name"][:30]
_FILLERS = {
    "moved": SLOTS["moved"],
    "place": SLOTS["place"][:16],
    "gave": SLOTS["gave"],
    "thing": SLOTS["thing"][:16],
    "kind": SLOTS["kind"][:8],
    "food": SLOTS["food"][:8],
    "ate": SLOTS["ate"],
    "day": SLOTS["day"],
    "mood": SLOTS["mood"][:6],
}
_OPENINGS = [words.split() for words in ("when", "then", "after", "while", "once", "one day", "at night", "at home")]
_JOINED = ["and", "with", "beside"]
_TAILS = [
    line.split()
    for line in """
{moved} to the {place} , {s} {gave} a {thing} to
{moved} to the {kind} {place} , and then {s} {gave} the {thing} to
were in the {place} , and on {day} {s} {gave} a {kind} {thing} to
{ate} the {food} , and {s} {gave} it to
were {mood} , so {s} {gave} the {food} to
had a {thing} . in the {kind} {place} {s} {gave} it to
""".strip().splitlines()
]

GRAPH = Graph(
    nodes=(
        Node("duplicate", "z", 0, 1, "s2", "which slot the name at S2 was in before: 0 or 1"),
        Node("s_inhibition", "z", 1, 2, "end", "which slot is not the answer: 0 or 1"),
        Node("name_mover", "z", 2, 0, "end", "the name in the other slot"),
    ),
    edges=(
        Edge("duplicate", "s_inhibition"),
        Edge("s_inhibition", "name_mover"),
        Edge("name_mover", "answer"),
    ),
)


def draw(rng: Random, side: Side) -> Prompt:
    """Write a sentence of either order, ABBA or BABA."""
    while True:
        opening, tail = rng.choice(_OPENINGS), rng.choice(_TAILS)
        names = tuple(rng.sample(_NAMES, 2))
        again = rng.randrange(2)
        filled = [names[again] if w == "{s}" else rng.choice(_FILLERS[w[1:-1]]) if w[0] == "{" else w for w in tail]
        prompt = _prompt([*opening, names[0], rng.choice(_JOINED), names[1], *filled], len(opening), tail)
        if side_of(prompt.words) == side:
            return prompt


def _prompt(words: list[str], opening: int, tail: list[str]) -> Prompt:
    first, s2 = opening + 1, opening + 4 + tail.index("{s}")
    roles = {"io_or_s1": (first, first + 2), "s2": (s2,), "end": (len(words),)}
    return Prompt(tuple(words), roles, (words[first - 1], words[first + 1], words[s2 - 1]))


def values(prompt: Prompt, given: Mapping[Place, Any]) -> Values:
    """Compute the slot of the name said twice, and the name in the other one."""
    *slots, again = prompt.read
    (s2,), end = prompt.roles["s2"], prompt.end
    duplicate = given.get(("duplicate", s2), slots.index(again))
    avoided = given.get(("s_inhibition", end), duplicate)
    name = given.get(("name_mover", end), slots[1 - avoided])
    return {("duplicate", s2): duplicate, ("s_inhibition", end): avoided, ("name_mover", end): name,
            ("answer", end): name}  # fmt: skip


def other_giver(rng: Random, side: Side) -> tuple[Prompt, Prompt]:
    """Write a sentence twice: once one of the two gives, once the other."""
    while True:
        prompt = draw(rng, side)
        *slots, again = prompt.read
        (s2,) = prompt.roles["s2"]
        words = list(prompt.words)
        words[s2 - 1] = slots[1 - slots.index(again)]
        if side_of(words) == side:
            return prompt, Prompt(tuple(words), prompt.roles, (*slots, words[s2 - 1]))


_PARTS = [_NAMES, *_FILLERS.values(), *_OPENINGS, _JOINED, *([w for w in tail if w[0] != "{"] for tail in _TAILS)]

IOI = Known(
    name="ioi-known",
    words=tuple(dict.fromkeys(word for part in _PARTS for word in part)),
    graph=GRAPH,
    draw=draw,
    values=values,
    pairs={"giver": other_giver},
)
