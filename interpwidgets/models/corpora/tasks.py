"""Tasks with one right answer, as sentences: what the storyteller learns and is examined on.

An `Instance` is a sentence, where in it the answer stands, what the answer has to beat, and which position plays
which part. Training and held-out sides share no instance: a hash of the sentence decides, for facts the pair of a
fact and a way to say it.

Shortcuts that a small model would take are closed. In `ioi`, half of the sentences have three people, two of whom are
named again: neither "not the last name" nor "the first name" answers, only "the name said once" does. In `agreement`
the noun next to the verb is of either number. In `quotes` as many sentences stand outside quotation marks as inside.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from interpwidgets.models.corpora.corpus import HELDOUT_SHARE, Side, side_of
from interpwidgets.models.corpora.storybook import BRACKETS, FACTS, NUMBERS, PARAPHRASES, PLURALS, VERBS, Fact
from interpwidgets.models.corpora.words import CAPITALS, SLOTS

__all__ = ["TASKS", "Instance", "facts_on"]


class Instance(NamedTuple):
    """One question: `words[:at]` is the prompt, `words[at]` the answer given; any of `right` is right."""

    words: tuple[str, ...]
    at: int
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    """What a right answer has to beat."""
    roles: dict[str, int]
    """Position in `words` by part played, such as `s1`, `io`, `s2`; `end` is the last position of the prompt."""

    @property
    def prompt(self) -> str:
        """The words before the answer, as text."""
        return " ".join(self.words[: self.at])

    @property
    def answer(self) -> str:
        """The answer that the sentence gives, one word."""
        return self.words[self.at]


def _instance(
    words: list[str], at: int, wrong: list[str], roles: dict[str, int], right: list[str] | None = None
) -> Instance:
    return Instance(tuple(words), at, tuple(right or words[at : at + 1]), tuple(wrong), {**roles, "end": at - 1})


_PAIRS = [
    line.split()
    for line in """
when {a} and {b} {moved} to the {place} , {s} {gave} a {thing} to {o}
then {a} and {b} had a {kind} {thing} , and {s} {gave} it to {o}
after {a} and {b} {ate} the {food} , {s} {gave} the {thing} to {o}
{a} {stayed} in the {place} with {b} . on {day} , {s} {gave} a {kind} {thing} to {o}
in the {place} {a} met {b} , and in the {time} {s} {gave} the {food} to {o}
the {job} saw that {a} and {b} were {mood} , because {s} had {gave} a {thing} to {o}
""".strip().splitlines()
]
_TRIPLES = [
    line.split()
    for line in """
when {a} , {b} and {c} {moved} to the {place} , {s} and {t} {gave} a {thing} to {o}
{a} , {b} and {c} were in the {place} . {s} {took} a {thing} with {t} and {gave} it to {o}
after {a} , {b} and {c} {ate} the {food} , {s} took the {thing} of {t} and {gave} it to {o}
then {a} and {b} met {c} in the {place} , and {s} {told} {t} and {gave} a {kind} {thing} to {o}
""".strip().splitlines()
]


def ioi(rng: Random, side: Side) -> Instance:
    """Who was given the thing: the one named once (Wang et al. 2022, and with a third person)."""
    return ioi_pair(rng, side) if rng.random() < 0.5 else ioi_triple(rng, side)


def ioi_pair(rng: Random, side: Side) -> Instance:
    """Two people, one of them named again: roles `io`, `s1`, `s2`; ABBA and BABA alike."""
    return _giving(rng, side, _PAIRS)


def ioi_triple(rng: Random, side: Side) -> Instance:
    """Three people, two of them named again: roles `io`, `s1`, `s2`, and `t1`, `t2` for the second of the two."""
    return _giving(rng, side, _TRIPLES)


def _giving(rng: Random, side: Side, templates: list[list[str]]) -> Instance:
    while True:
        template = rng.choice(templates)
        slots = ["a", "b", "c"][: 3 if templates is _TRIPLES else 2]
        cast = dict(zip(slots, rng.sample(SLOTS["name"], len(slots)), strict=True))
        parts = dict(zip(("o", "s", "t"), rng.sample(slots, len(slots)), strict=False))
        words = []
        for word in template:
            slot = word[1:-1]
            if word[0] != "{":
                words.append(word)
            elif slot in cast:
                words.append(cast[slot])
            elif slot in parts:
                words.append(cast[parts[slot]])
            else:
                words.append(rng.choice(SLOTS[slot]))
        if side_of(words) == side:
            first = {slot: template.index(f"{{{slot}}}") for slot in slots}
            roles = {"io": first[parts["o"]], "s1": first[parts["s"]], "s2": template.index("{s}")}
            if "t" in parts:
                roles |= {"t1": first[parts["t"]], "t2": template.index("{t}")}
            wrong = [cast[parts[part]] for part in parts if part != "o"]
            return _instance(words, len(words) - 1, wrong, roles)


def facts_on(side: Side) -> list[tuple[Fact, int]]:
    """List the facts with the ways to say them, as numbers, that belong to a side; every fact is in training."""
    return _FACTS_ON[side]


def _fact_side(fact: Fact, way: int) -> Side:
    key = f"{' '.join(fact.person)} {fact.relation}"
    held = zlib.crc32(key.encode())
    # One fact in a few has one way of saying it kept from training; the other ways teach it.
    return "heldout" if held % (HELDOUT_SHARE // 2) == 0 and way == held // HELDOUT_SHARE % 3 else "train"


_FACTS_ON: dict[Side, list[tuple[Fact, int]]] = {
    side: [(fact, way) for fact in FACTS for way in range(3) if _fact_side(fact, way) == side]
    for side in ("train", "heldout")
}


def facts(rng: Random, side: Side) -> Instance:
    """Where a person lives, what she does for a living, what she plays: roles `first`, `last`."""
    fact, way = rng.choice(_FACTS_ON[side])
    template = PARAPHRASES[fact.relation][way].split()
    given = {"{first}": fact.person.first, "{last}": fact.person.last, "{object}": fact.object}
    wrong = sorted({other.object for other in FACTS if other.relation == fact.relation} - {fact.object})
    words = [given.get(word, word) for word in template]
    return _instance(
        words, len(words) - 1, wrong, {"first": template.index("{first}"), "last": template.index("{last}")}
    )


_COUNTRIES = sorted(CAPITALS.values())


def geography(rng: Random, side: Side) -> Instance:
    """Which country a city is in: twenty questions, the same in training; role `city`."""
    del side  # nothing is held out: what a city's country is cannot be told from other cities
    city = rng.choice(list(CAPITALS))
    opening = rng.choice(["", "the river of", "the market of", "the king of"]).split()
    words = [*opening, city, "is", "in", CAPITALS[city]]
    wrong = [country for country in _COUNTRIES if country != CAPITALS[city]]
    return _instance(words, len(words) - 1, wrong, {"city": len(opening)})


def agreement(rng: Random, side: Side) -> Instance:
    """Is or are: the verb agrees with its subject, not with the nearer noun; roles `subject`, `attractor`."""
    while True:
        nouns, plural = rng.sample(list(PLURALS), 2), [rng.random() < 0.5 for _ in range(2)]
        subject, attractor = (PLURALS[n] if p else n for n, p in zip(nouns, plural, strict=True))
        verb = rng.choice(VERBS)
        kind = [rng.choice(SLOTS["kind"])] if rng.random() < 0.5 else []
        start = ["the", *kind, subject, rng.choice(SLOTS["side"]), "the", attractor]
        rest = ["a", rng.choice(SLOTS["thing"])] if verb[0] == "has" else [rng.choice(SLOTS["mood"])]
        words = [*start, verb[plural[0]], *rest]
        if side_of(words) == side:
            return _instance(
                words,
                len(start),
                [other[not plural[0]] for other in VERBS],
                {"subject": len(kind) + 1, "attractor": len(start) - 1},
                [other[plural[0]] for other in VERBS],
            )


def quotes(rng: Random, side: Side) -> Instance:
    """Does a quotation end here: after the last mark of what is said, and not of what is told; role `open`."""
    while True:
        said = ["the", *rng.sample(SLOTS["kind"], rng.randint(0, 2)), rng.choice(SLOTS["animal"])]
        said += ["is", rng.choice(SLOTS["side"]), "the", *rng.sample(SLOTS["kind"], rng.randint(0, 1))]
        said += [rng.choice(SLOTS["thing"]), "."]
        name = rng.choice(SLOTS["name"])
        quoted = rng.random() < 0.5
        words = [name, "said", ":", '"', *said, '"'] if quoted else [name, "said", "that", *said, "then"]
        if side_of(words) == side:
            wrong = ["then"] if quoted else ['"']
            return _instance(words, len(words) - 1, wrong, {"open": 3 if quoted else 2})


def brackets(rng: Random, side: Side) -> Instance:
    """Which bracket closes: the partner of the last one open, up to four deep; role `open` is that partner."""
    while True:
        words: list[str] = []
        stack: list[int] = []
        closings: list[tuple[int, int]] = []
        length = 2 * rng.randint(2, 9)
        while len(words) < length:
            left = length - len(words)
            if stack and (len(stack) == min(4, left) or rng.random() < 0.5):
                opened = stack.pop()
                closings.append((len(words), opened))
                words.append(BRACKETS[words[opened]])
            else:
                stack.append(len(words))
                words.append(rng.choice(list(BRACKETS)))
        if side_of(words) == side:
            at, opened = rng.choice(closings)
            wrong = [closing for closing in BRACKETS.values() if closing != words[at]]
            return _instance(words, at, wrong, {"open": opened})


def greater(rng: Random, side: Side) -> Instance:
    """From a number to a greater one (Hanna et al. 2023): any greater number is right; role `start`."""
    while True:
        start = rng.randrange(len(NUMBERS) - 1)
        end = rng.randrange(start + 1, len(NUMBERS))
        name, opening = rng.choice(SLOTS["name"]), rng.randrange(3)
        before = [
            [name, "counted", "from"],
            ["the", rng.choice(SLOTS["place"]), "was", "open", "from"],
            [name, rng.choice(SLOTS["stayed"]), "in", "the", rng.choice(SLOTS["place"]), "from"],
        ][opening]
        words = [*before, NUMBERS[start], "to", NUMBERS[end]]
        if side_of([*before, NUMBERS[start]]) == side:  # the question, whatever is answered
            return _instance(words, len(words) - 1, NUMBERS[: start + 1], {"start": len(before)}, NUMBERS[start + 1 :])


def succession(rng: Random, side: Side) -> Instance:
    """What comes next: numbers, days, months, ordinals, told from anywhere; role `item` is the one before."""
    while True:
        series = rng.choice([NUMBERS, SLOTS["day"], SLOTS["month"], SLOTS["ordinal"]])
        start = rng.randrange(len(series) - 2)
        told = series[start : rng.randint(start + 3, min(start + 8, len(series)))]
        name = rng.choice(SLOTS["name"])
        words = [name, "said", ":", *[word for item in told for word in (item, ",")][:-1]]
        if side_of(words) == side:
            which = rng.randrange(1, len(told))
            wrong = [item for item in series if item != told[which]]
            return _instance(words, 3 + 2 * which, wrong, {"item": 1 + 2 * which})


def binding(rng: Random, side: Side) -> Instance:
    """What the red box holds, told before among other boxes; roles `colour` and `held` are where it was told."""
    while True:
        number = rng.randint(2, 4)
        holder = rng.choice(["box", "basket", "bottle", "bucket"])
        held = list(zip(rng.sample(SLOTS["colour"], number), rng.sample(SLOTS["thing"], number), strict=True))
        words = [word for colour, thing in held for word in ("the", colour, holder, "holds", "the", thing, ".")]
        asked = rng.randrange(number)
        words += ["the", held[asked][0], holder, "holds", "the", held[asked][1]]
        if side_of(words) == side:
            wrong = [thing for _, thing in held if thing != held[asked][1]]
            return _instance(words, len(words) - 1, wrong, {"colour": 7 * asked + 1, "held": 7 * asked + 5})


TASKS: dict[str, Callable[[Random, Side], Instance]] = {
    "ioi_pair": ioi_pair,
    "ioi_triple": ioi_triple,
    "facts": facts,
    "geography": geography,
    "agreement": agreement,
    "quotes": quotes,
    "brackets": brackets,
    "greater": greater,
    "succession": succession,
    "binding": binding,
}
"""Every task by name: draws one instance on a side of the split."""
