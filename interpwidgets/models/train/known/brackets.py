"""The causal graph of `brackets-known`: does every bracket have its partner?

    ( ( ) ) ( ) ? …

`depth` counts, at every bracket, how many are open there, and `total` at the end how many stay open. A bracket where
the depth is below zero closes what was never opened: `below` says so there, and `went_below` tells the end whether
there is such a place. `unequal` says that not as many close as open. Either makes it unbalanced.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from random import Random
from typing import Any

from interpwidgets.models.corpora.corpus import Side
from interpwidgets.models.train.known.graph import Edge, Graph, Known, Node, Place, Prompt, Values, side_of

__all__ = ["BRACKETS"]

_SHORTEST, _LONGEST = 4, 16
_STEP = {"(": 1, ")": -1}
_ANSWERS = ("unbalanced", "balanced")

GRAPH = Graph(
    nodes=(
        Node("depth", "z", 0, 1, "string", "how many brackets are open here"),
        Node("total", "z", 0, 1, "end", "how many stay open"),
        Node("below", "mlp_out", 0, -1, "string", "whether the depth is below zero here"),
        Node("unequal", "mlp_out", 0, -1, "end", "whether the total is not zero"),
        Node("went_below", "z", 1, 2, "end", "whether the depth is below zero anywhere"),
    ),
    edges=(
        Edge("depth", "below"),
        Edge("total", "unequal"),
        Edge("below", "went_below"),
        Edge("unequal", "answer"),
        Edge("went_below", "answer"),
    ),
)


def draw(rng: Random, side: Side) -> Prompt:
    """Write a string: balanced, or with equal numbers in a wrong order, or with a bracket too many, or any."""
    while True:
        kind, length = rng.random(), rng.randint(_SHORTEST, _LONGEST)
        if kind < 0.4:
            string = _balanced(rng, length // 2)
        elif kind < 0.6:
            string = rng.sample(["(", ")"] * (length // 2), length // 2 * 2)
        elif kind < 0.8:
            string = _balanced(rng, length // 2)
            string[rng.choice([at for at, mark in enumerate(string) if mark == ")"])] = "("
        else:
            string = [rng.choice("()") for _ in range(length)]
        prompt = _prompt(string)
        if side_of(prompt.words) == side:
            return prompt


def _balanced(rng: Random, pairs: int) -> list[str]:
    string: list[str] = []
    opened = 0
    while len(string) < 2 * pairs:
        left = 2 * pairs - len(string)
        opens = opened < left and (opened == 0 or rng.random() < 0.5)
        string.append("(" if opens else ")")
        opened += 1 if opens else -1
    return string


def _prompt(string: list[str]) -> Prompt:
    roles = {"string": tuple(range(1, len(string) + 1)), "end": (len(string) + 1,)}
    return Prompt((*string, "?"), roles, tuple(string))


def values(prompt: Prompt, given: Mapping[Place, Any]) -> Values:
    """Count what is open at each bracket, and look for places below zero."""
    string, end = prompt.roles["string"], prompt.end
    counts = list(accumulate(_STEP[mark] for mark in prompt.read))
    found: Values = {("depth", at): given.get(("depth", at), n) for at, n in zip(string, counts, strict=True)}
    found |= {("below", at): given.get(("below", at), found["depth", at] < 0) for at in string}
    found["total", end] = given.get(("total", end), counts[-1])
    found["unequal", end] = given.get(("unequal", end), found["total", end] != 0)
    found["went_below", end] = given.get(("went_below", end), any(found["below", at] for at in string))
    found["answer", end] = _ANSWERS[not (found["unequal", end] or found["went_below", end])]
    return found


def order(rng: Random, side: Side) -> tuple[Prompt, Prompt]:
    """Write a balanced string, and one of as many brackets of each kind that goes below zero."""
    while True:
        string = _balanced(rng, rng.randint(_SHORTEST, _LONGEST) // 2)
        pair = _prompt(string), _prompt(rng.sample(string, len(string)))
        if _differ(pair, side):
            return pair


def number(rng: Random, side: Side) -> tuple[Prompt, Prompt]:
    """Write a balanced string, and the same with its last bracket opening what nothing closes."""
    while True:
        string = _balanced(rng, rng.randint(_SHORTEST, _LONGEST) // 2)
        pair = _prompt(string), _prompt([*string[:-1], "("])
        if _differ(pair, side):
            return pair


def _differ(pair: tuple[Prompt, Prompt], side: Side) -> bool:
    answers = {values(prompt, {})["answer", prompt.end] for prompt in pair}
    return len(answers) == 2 and all(side_of(prompt.words) == side for prompt in pair)


BRACKETS = Known(
    name="brackets-known",
    words=("(", ")", "?", *_ANSWERS),
    graph=GRAPH,
    draw=draw,
    values=values,
    pairs={"order": order, "number": number},
)
