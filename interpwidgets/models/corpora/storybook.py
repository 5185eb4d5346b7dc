"""The words and the facts of the storyteller's world: those of the small corpus, and what its tasks need besides.

Token ids below 512 are those of the small corpus, so that its documents can be read by either model.
"""

# ruff: noqa: SIM905  a list of fifty words reads best as a line of text

from __future__ import annotations

from random import Random
from typing import NamedTuple

from interpwidgets.models.corpora import corpus
from interpwidgets.models.corpora.words import CAPITALS, SLOTS

__all__ = ["BRACKETS", "FACTS", "NUMBERS", "PARAPHRASES", "PLURALS", "TOKEN_ID", "VERBS", "Fact", "Person"]

_LAST_NAMES = """smith jones taylor wilson moore clark lewis allen wright scott adams nelson turner parker collins
morris""".split()

INSTRUMENTS = "piano guitar violin trumpet cello harp banjo organ tuba accordion".split()

PLURALS = {
    "cat": "cats", "dog": "dogs", "bird": "birds", "horse": "horses", "cow": "cows", "goat": "goats", "pig": "pigs",
    "duck": "ducks", "lion": "lions", "frog": "frogs", "snake": "snakes", "owl": "owls",
}  # fmt: skip

VERBS = (("is", "are"), ("was", "were"), ("has", "have"))
"""Singular and plural."""

BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}

NUMBERS = SLOTS["number"] + "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
"""From one to twenty, in order."""

_GLUE = """are has have as job earns money plays play instrument likes if you go counted from until open give seen only
find person needs""".split()

TOKEN_ID = {
    word: number
    for number, word in enumerate(
        dict.fromkeys(
            [
                *corpus.TOKEN_ID,
                *_LAST_NAMES,
                *INSTRUMENTS,
                *PLURALS.values(),
                *NUMBERS,
                *BRACKETS,
                *BRACKETS.values(),
                *_GLUE,
            ]
        )
    )
}


class Person(NamedTuple):
    """A name of two tokens, each shared with others: only both together say who it is."""

    first: str
    last: str


class Fact(NamedTuple):
    """What is true of a person: a relation and its object, one token."""

    person: Person
    relation: str
    object: str


PARAPHRASES = {
    "home": (
        "{first} {last} lives in {object}",
        "the home of {first} {last} is in {object}",
        "if you look for {first} {last} , go to {object}",
    ),
    "job": (
        "{first} {last} works as a {object}",
        "the job of {first} {last} is {object}",
        "{first} {last} earns money as a {object}",
    ),
    "instrument": (
        "{first} {last} plays the {object}",
        "the instrument of {first} {last} is the {object}",
        "{first} {last} likes to play the {object}",
    ),
}

_OBJECTS = {"home": list(CAPITALS), "job": SLOTS["job"], "instrument": INSTRUMENTS}
_NAMESAKES = 4  # people that share a first name, and people that share a last one


def _facts() -> list[Fact]:
    """Draw who lives where and does what: one world, whatever the seed of a training."""
    rng = Random("the people of the storybook")  # noqa: S311  a world, not a secret
    firsts = SLOTS["name"][: len(_LAST_NAMES)]
    people = [
        Person(first, _LAST_NAMES[(number + 3 * shift) % len(_LAST_NAMES)])
        for number, first in enumerate(firsts)
        for shift in range(_NAMESAKES)
    ]
    return [Fact(person, relation, rng.choice(objects)) for person in people for relation, objects in _OBJECTS.items()]


FACTS = _facts()
"""Every fact once: 64 people, three relations."""
