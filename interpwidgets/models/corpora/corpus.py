"""Make the small English-like corpus that the model systems learn, from a seed, as much as is asked for.

Two kinds of row, each one prompt long and opened by `<bos>`:

- **text**: documents of a few sentences about people, animals, things and places. Some carry a task with one right
  answer: who was given the thing, what the red box holds, which country a city is in, what comes after tuesday.
- **repeats**: words drawn at random, then the same words again (Olsson et al. 2022). Nothing but the copy predicts
  the second time. The period, the start and the gap between copies vary, so that no fixed distance does either.

Train and held-out text share no sentence: a hash of the sentence decides which side may use it. One seed and one
step name one batch, so that a run continued from its middle sees what it would have seen.
"""

from __future__ import annotations

import zlib
from random import Random
from typing import TYPE_CHECKING, Literal

from interpwidgets.models.corpora.words import CAPITALS, SLOTS, SPECIALS, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BOS", "ORDINARY", "PAD", "TOKEN_ID", "UNK", "batch", "document", "repeat_row", "side_of", "text_row"]

Side = Literal["train", "heldout"]

PAD, BOS, UNK = range(len(SPECIALS))
TOKEN_ID = {word: number for number, word in enumerate((*SPECIALS, *WORDS))}
ORDINARY = range(len(SPECIALS), len(TOKEN_ID))
"""Ids of the words proper, from which rows of repeats are drawn."""

HELDOUT_SHARE = 10  # one sentence in ten
UNK_SHARE = 0.01
REFRAIN_SHARE = 0.3
_TRIES = 20

# A word in braces is a slot. With a letter (`name_a`) it is the same word all through the document.
_STORY = """
once upon a time there was a {kind} {animal_a} .
there was a {kind} {animal_a} in the {place_a} .
the {animal_a} and the {animal_b} lived together in a {kind} {place} .
the {animal_a} {stayed} {side} the {thing} .
the {animal_a} {stayed} {side} the {thing_a} .
the {animal_b} {stayed} {side} the {animal_a} .
the {animal_a} was {mood} and the {animal_b} was {mood} .
the {animal_a} {moved} to the {place} and {ate} the {food} .
{name_a} and {name_b} {moved} to the {place_a} .
{name_a} {moved} to the {place} with {name_b} .
{name_a} {took} a {kind} {thing_a} in the {place_a} .
{name_b} {took} the {thing_a} .
{name_a} was {mood} because the {thing_a} was {kind} .
{name_b} was {mood} but {name_a} was {mood} .
{name_a} {told} the {animal_a} {side} the {place} .
{name_a} {told} {name_b} in the {time} .
the {animal_a} {told} {name_b} and the {animal_b} {told} {name_a} .
{name_a} {ate} the {food} while {name_b} {took} the {thing} .
on {day} the {weather} came to the {place_a} .
then the {weather} was very {kind} and {name_a} {moved} back home .
{name_a} looked into the {place_a} again and saw the {animal_a} .
{name_a} 's {relative} was a {job} and {name_b} 's {relative} was a {job} .
{name_a} asked : " where is the {thing_a} ? "
" the {thing_a} is {side} the {thing} , " said {name_b} .
" hello , {name_b} ! " said the {animal_a} .
" what is that ? " asked {name_a} . " it is a {kind} {thing_a} , " said {name_b} .
" no , please ! " said the {animal_b} .
" yes , " said {name_a} , " it is a {kind} {food} . "
every {day} {name_a} {took} {food} , {food} and {food} .
in {month} they all {moved} into the {place} .
she {stayed} there all {time} and he {took} their {thing} .
his {thing} was {kind} and her {thing} was {colour} .
the {ordinal} {animal_a} was {colour} and the {ordinal} {animal_b} was {colour} .
he had {number} {food} and she had {number} .
never again did {name_a} look up at the {place_a} .
so they lived together and were always {mood} .
the name of the {animal_a} was {name_a} .
this is not the {thing_a} of {name_b} , it is the {thing_a} of {name_a} .
before the {time} {name_a} {moved} home for {food} .
at the right of the {place_a} was a {thing} , at the left was the other {thing} .
"""

_RHYME = """
the {animal_a} {stayed} {side} the {thing} .
the {animal_b} {stayed} {side} the {thing} .
the {kind} {animal} {stayed} {side} the {kind} {thing} .
the {animal} {told} the {animal} that {told} the {animal} .
the {animal_a} looked up and the {animal_b} looked down .
"""

_GIVING = """
when {name_a} and {name_b} {moved} to the {place} , {name_s} {gave} a {thing} to {name_o} .
then {name_a} and {name_b} had a {kind} {thing} , and {name_s} {gave} it to {name_o} .
after {name_a} and {name_b} {ate} the {food} , {name_s} {gave} the {thing} to {name_o} .
while {name_a} and {name_b} {stayed} in the {place} , the {job} {gave} {name_s} a {thing} and {name_o} {took} it .
because {name_s} {told} {name_o} in the {place} , {name_o} {gave} {name_s} the {thing} .
"""

_PEOPLE = """
{name_a} is a {job} from {city_a} .
{name_b} is a {job} from {city_b} .
{name_a} lives in {city_a} and works in {city_b} .
{city_a} is in {country_a} and {city_b} is in {country_b} .
{name_a} 's {relative} {moved} to {country_b} with {name_b} .
on {day} {name_a} {moved} from {city_a} to {city_b} .
in {month} {name_b} {moved} back home to {country_b} .
who lives in {city_a} ? {name_a} .
where is {city_b} ? in {country_b} .
how did {name_b} come to {city_a} ? with {name_a} .
"""

_KINDS_OF_DOCUMENT = {"story": 40, "rhyme": 12, "giving": 16, "people": 12, "binding": 12, "counting": 8}
_TEMPLATES: dict[str, list[list[str]]] = {
    kind: [line.split() for line in lines.strip().splitlines()]
    for kind, lines in {"story": _STORY, "rhyme": _RHYME, "giving": _GIVING, "people": _PEOPLE}.items()
}


def side_of(sentence: Sequence[str]) -> Side:
    """Tell which side of the split a sentence belongs to: the same answer always, from its words alone."""
    return "heldout" if zlib.crc32(" ".join(sentence).encode()) % HELDOUT_SHARE == 0 else "train"


def document(rng: Random, side: Side) -> list[list[str]]:
    """Write one document: a list of sentences, each a list of words."""
    kind = rng.choices(list(_KINDS_OF_DOCUMENT), list(_KINDS_OF_DOCUMENT.values()))[0]
    if kind == "binding":
        return list(_binding(rng, side))
    if kind == "counting":
        return list(_counting(rng, side))
    cast: dict[str, str] = {}
    templates = _TEMPLATES[kind]
    chosen = rng.sample(templates, min(len(templates), rng.randint(3, 8)))
    told: list[list[str]] = []
    for template in chosen:
        if sentence := _write(rng, side, template, cast):
            told.append(sentence)
        if told and rng.random() < REFRAIN_SHARE:  # a sentence said before is said again, word for word
            told.append(rng.choice(told))
    return told


def _write(rng: Random, side: Side, template: list[str], cast: dict[str, str]) -> list[str]:
    """Fill a template until the sentence is on this side; nothing, if the cast leaves it no way to be."""
    for _ in range(_TRIES):
        giver = rng.random() < 0.5
        sentence = [_fill(rng, word, cast, giver) if word[0] == "{" else word for word in template]
        if side_of(sentence) == side:
            return sentence
    return []


def _fill(rng: Random, slot: str, cast: dict[str, str], giver: bool) -> str:
    kind, _, part = slot[1:-1].partition("_")
    if not part:
        return rng.choice(SLOTS[kind])
    if kind == "country":
        return CAPITALS[_fill(rng, f"{{city_{part}}}", cast, giver)]
    if part in "so":  # subject and object of giving: one each of a and b, in either order
        part = "a" if (part == "s") == giver else "b"
    key = f"{kind}_{part}"
    if key not in cast:
        cast[key] = rng.choice([word for word in SLOTS[kind] if word not in cast.values()])
    return cast[key]


def _binding(rng: Random, side: Side) -> Iterator[list[str]]:
    """Which box holds what: said once for each colour, then again in another order."""
    number = rng.randint(2, 4)
    holder = rng.choice(["box", "basket", "bottle", "bucket"])
    held = []
    for colour, thing in zip(rng.sample(SLOTS["colour"], number), rng.sample(SLOTS["thing"], number), strict=True):
        sentence = ["the", colour, holder, "holds", "the", thing, "."]
        if side_of(sentence) == side:
            held.append(sentence)
    yield from held
    for _ in range(2):
        rng.shuffle(held)
        yield from held


def _counting(rng: Random, side: Side) -> Iterator[list[str]]:
    """Count, or tell the days or the months, from anywhere in the series."""
    series = SLOTS[rng.choice(["number", "day", "month", "ordinal"])]
    start = rng.randrange(len(series) - 2)
    told = series[start : rng.randint(start + 3, len(series))]
    name = rng.choice(SLOTS["name"])
    sentence = [name, "said", ":", *[word for item in told for word in (item, ",")][:-1], "."]
    if side_of(sentence) == side:
        yield sentence


def text_row(rng: Random, length: int, side: Side) -> list[int]:
    """Write `length` token ids of text: `<bos>`, then one document after another, the last one cut."""
    ids = [BOS]
    while len(ids) < length:
        for sentence in document(rng, side):
            ids += [TOKEN_ID[word] if rng.random() >= UNK_SHARE else UNK for word in sentence]
    return ids[:length]


def repeat_row(rng: Random, length: int) -> list[int]:
    """Write `length` token ids of random words said again and again, from a random start, with random gaps."""
    copied = rng.choices(ORDINARY, k=rng.randint(4, max(4, length // 2 - 2)))
    ids = [BOS, *rng.choices(ORDINARY, k=rng.randint(0, 6))]
    while len(ids) < length:
        ids += copied + rng.choices(ORDINARY, k=max(0, rng.randint(-6, 6)))
    return ids[:length]


def batch(seed: int, step: int, rows: int, length: int, repeats: float, side: Side = "train") -> list[list[int]]:
    """Write the rows [row, position] of one training step; the share `repeats` of them are repeats."""
    rng = Random(f"{side} {seed} {step}")  # noqa: S311  a corpus, not a secret
    number = round(rows * repeats)
    return [repeat_row(rng, length) if row < number else text_row(rng, length, side) for row in range(rows)]
