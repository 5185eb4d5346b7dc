"""The causal graph of `facts-known`: who is meant, what is asked, and what is known of her.

    the home of anna smith is said to be …

Names come in two halves, each shared by eight people, so neither tells who is meant. `first_name` brings the first
half to the last one. There, `subject` makes of both all that is known of the person. `relation` tells the end what is
asked, and `extract` brings there what is known; the answer is where the two meet. The last words of a prompt are the
same whatever is asked: were the question next to the end, a head that looks at the token before would tell it too.
"""

# ruff: noqa: SIM905  a list of words reads best as a line of text

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from interpwidgets.models.corpora.corpus import Side
from interpwidgets.models.corpora.words import CAPITALS, SLOTS
from interpwidgets.models.train.known.graph import Edge, Graph, Known, Node, Place, Prompt, Values, side_of

__all__ = ["FACTS", "PEOPLE"]

_FIRSTS = SLOTS["name"][:8]
_LASTS = "smith jones taylor wilson moore clark lewis allen".split()
_OBJECTS = {
    "home": list(CAPITALS)[:12],
    "job": SLOTS["job"][:12],
    "instrument": "piano guitar violin trumpet cello harp banjo organ tuba accordion flute drum".split(),
}
_ASKED = {"home": ["home", "city"], "job": ["job", "trade"], "instrument": ["instrument", "music"]}
_OPENINGS = [words.split() for words in ("", "yes ,", "well ,", "as you know ,", "today")]
_TEMPLATES = [
    line.split()
    for line in """
the {asked} of {first} {last} is said to be
as for {first} {last} , the {asked} is said to be
the {asked} that {first} {last} named is said to be
we know {first} {last} and the {asked} is said to be
{first} {last} was asked about the {asked} , which is said to be
what {first} {last} named as the {asked} is said to be
""".strip().splitlines()
]


def _people() -> dict[tuple[str, str], dict[str, str]]:
    """Draw what is true of each person: one world, whatever the seed of a training."""
    rng = Random("the people of facts-known")  # noqa: S311  a world, not a secret
    names = [(first, last) for first in _FIRSTS for last in _LASTS]
    columns = {}
    for relation, objects in _OBJECTS.items():
        column = (objects * len(names))[: len(names)]  # every object about as often
        rng.shuffle(column)
        columns[relation] = column
    return {name: {relation: columns[relation][n] for relation in _OBJECTS} for n, name in enumerate(names)}


PEOPLE = _people()
"""What is true of each person, by both halves of the name."""

GRAPH = Graph(
    nodes=(
        Node("first_name", "z", 0, 1, "last", "the first half of the name"),
        Node("subject", "mlp_out", 1, -1, "last", "who is meant: all that is known of the person"),
        Node("relation", "z", 2, 3, "end", "what is asked: home, job or instrument", traced=False),
        Node("extract", "z", 2, 2, "end", "all that is known of the person"),
    ),
    edges=(
        Edge("first_name", "subject"),
        Edge("subject", "extract"),
        Edge("relation", "answer"),
        Edge("extract", "answer"),
    ),
)


def draw(rng: Random, side: Side) -> Prompt:
    """Ask something about someone."""
    while True:
        opening, template = rng.choice(_OPENINGS), rng.choice(_TEMPLATES)
        relation = rng.choice(list(_ASKED))
        person = rng.choice(_FIRSTS), rng.choice(_LASTS)
        prompt = _prompt(opening, template, person, relation, rng.randrange(2))
        if side_of(prompt.words) == side:
            return prompt


def _prompt(opening: list[str], template: list[str], person: tuple[str, str], relation: str, way: int) -> Prompt:
    filled = {"{first}": person[0], "{last}": person[1], "{asked}": _ASKED[relation][way]}
    words = [*opening, *(filled.get(word, word) for word in template)]
    place = {part: len(opening) + template.index(part) + 1 for part in filled}
    roles: dict[str, tuple[int, ...]] = {
        "first": (place["{first}"],),
        "last": (place["{last}"],),
        "asked": (place["{asked}"],),
        "end": (len(words),),
    }
    return Prompt(tuple(words), roles, (*person, relation))


def values(prompt: Prompt, given: Mapping[Place, Any]) -> Values:
    """Look up who is meant and what is asked."""
    first, last, relation = prompt.read
    (at,), end = prompt.roles["last"], prompt.end
    first = given.get(("first_name", at), first)
    subject = given.get(("subject", at), PEOPLE[first, last])
    relation = given.get(("relation", end), relation)
    extract = given.get(("extract", end), subject)
    return {("first_name", at): first, ("subject", at): subject, ("relation", end): relation,
            ("extract", end): extract, ("answer", end): extract[relation]}  # fmt: skip


def other_person(rng: Random, side: Side) -> tuple[Prompt, Prompt]:
    """Ask the same about two people who share a last name and differ in the answer."""
    while True:
        opening, template, relation = rng.choice(_OPENINGS), rng.choice(_TEMPLATES), rng.choice(list(_ASKED))
        (first, other), last, way = rng.sample(_FIRSTS, 2), rng.choice(_LASTS), rng.randrange(2)
        pair = [_prompt(opening, template, (name, last), relation, way) for name in (first, other)]
        if PEOPLE[first, last][relation] != PEOPLE[other, last][relation] and all(
            side_of(p.words) == side for p in pair
        ):
            return pair[0], pair[1]


def other_question(rng: Random, side: Side) -> tuple[Prompt, Prompt]:
    """Ask two things about one person."""
    while True:
        opening, template = rng.choice(_OPENINGS), rng.choice(_TEMPLATES)
        person, way = (rng.choice(_FIRSTS), rng.choice(_LASTS)), rng.randrange(2)
        pair = [_prompt(opening, template, person, each, way) for each in rng.sample(list(_ASKED), 2)]
        if all(side_of(p.words) == side for p in pair):
            return pair[0], pair[1]


_PARTS = [
    _FIRSTS, _LASTS, *_OBJECTS.values(), *_ASKED.values(), *_OPENINGS,
    *([w for w in template if w[0] != "{"] for template in _TEMPLATES),
]  # fmt: skip

FACTS = Known(
    name="facts-known",
    words=tuple(dict.fromkeys(word for part in _PARTS for word in part)),
    graph=GRAPH,
    draw=draw,
    values=values,
    pairs={"person": other_person, "question": other_question},
    trace=("first", "last"),
)
