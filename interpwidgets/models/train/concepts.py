"""Say of every token of held-out text what is true of it: the concepts that features are compared with.

Three families. *Tokens*: which word it is. *Classes*: which list the word is in. *Context*: what the word alone does
not tell, such as the word before it, the depth of brackets, or the part that a name plays in a sentence.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

import torch

from interpwidgets.models.corpora.corpus import BOS, document
from interpwidgets.models.corpora.storybook import BRACKETS, INSTRUMENTS, NUMBERS, PLURALS, TOKEN_ID, VERBS
from interpwidgets.models.corpora.tasks import TASKS
from interpwidgets.models.corpora.words import CAPITALS, SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from interpwidgets.models.corpora.tasks import Instance

__all__ = ["CLASSES", "Labelled", "labelled"]

CLASSES: dict[str, list[str]] = {
    **SLOTS,
    "number": NUMBERS,
    "country": list(CAPITALS.values()),
    "instrument": INSTRUMENTS,
    "plural animal": list(PLURALS.values()),
    "singular verb": [singular for singular, _ in VERBS],
    "plural verb": [plural for _, plural in VERBS],
    "opening bracket": list(BRACKETS),
    "closing bracket": list(BRACKETS.values()),
    "mark": [".", ",", "?", "!", ":", '"'],
}
"""Lists of words by what their words have in common."""

_CLASS_OF: dict[int, list[str]] = {}
for _name, _words in CLASSES.items():
    for _word in _words:
        _CLASS_OF.setdefault(TOKEN_ID[_word], []).append(_name)
_WORD = {number: word for word, number in TOKEN_ID.items()}
_STORIES = 0.4  # of the pieces; the others are tasks, each as often


class Labelled(NamedTuple):
    """Rows of tokens, and of every position after `<bos>` what is true there."""

    tokens: Tensor  # [row, position]
    classes: Tensor  # [row · (position − 1), class] of 0 and 1
    context: Tensor  # [row · (position − 1), concept] of 0 and 1
    class_names: list[str]
    context_names: list[str]


def labelled(seed: int, rows: int, length: int) -> Labelled:
    """Write held-out rows of stories and tasks, and their labels."""
    rng = Random(f"concepts {seed}")  # noqa: S311  a test sample, not a secret
    tokens, found = [], []
    for _ in range(rows):
        ids, labels = _row(rng, length)
        tokens.append(ids)
        found.append(labels)
    names = list(CLASSES)
    number = {name: index for index, name in enumerate(_CONTEXT)}
    classes, context = torch.zeros(rows, length, len(names)), torch.zeros(rows, length, len(_CONTEXT))
    for row, labels in enumerate(found):
        for position, (ids_at, labels_at) in enumerate(zip(tokens[row], labels, strict=True)):
            for name in _CLASS_OF.get(ids_at, ()):
                classes[row, position, names.index(name)] = 1
            for name in labels_at:
                context[row, position, number[name]] = 1
    return Labelled(
        torch.tensor(tokens), classes[:, 1:].flatten(0, 1), context[:, 1:].flatten(0, 1), names, list(_CONTEXT)
    )


def _row(rng: Random, length: int) -> tuple[list[int], list[set[str]]]:
    """One row of token ids, and what is true at each."""
    words, labels = ["<bos>"], [set[str]()]
    while len(words) < length + 1:
        if rng.random() < _STORIES:
            piece = [word for sentence in document(rng, "heldout") for word in sentence]
            roles = [set[str]() for _ in piece]
        else:
            task = rng.choice(list(TASKS))
            instance = TASKS[task](rng, "heldout")
            piece = [*instance.words, "."]
            roles = [*_roles(task, instance), set()]
        for at, inside in enumerate(_inside(piece)):
            roles[at] |= inside
        words += piece
        labels += roles
    ids = [BOS, *(TOKEN_ID[word] for word in words[1:])]
    for at in range(1, length):
        labels[at] |= {f"after {name}" for name in _CLASS_OF.get(ids[at - 1], ())}
        labels[at] |= {f"before {name}" for name in _CLASS_OF.get(ids[at + 1], ())}
        if words[at - 1] in (".", "<bos>"):
            labels[at].add("first word of a sentence")
    return ids[:length], labels[:length]


def _roles(task: str, instance: Instance) -> list[set[str]]:
    """What the words of a task are in it."""
    labels = [set[str]() for _ in instance.words]
    for role, position in instance.roles.items():
        labels[position].add(f"{task}: {role}")
    if task == "agreement":
        plural = instance.words[instance.roles["subject"]] in PLURALS.values()
        for position in range(instance.roles["subject"], instance.at):
            labels[position].add("plural subject, verb to come" if plural else "singular subject, verb to come")
    return labels


def _inside(words: list[str]) -> Iterator[set[str]]:
    """What surrounds each word of a piece of text: quotation marks, brackets, and words said before."""
    quoted, opened, said = False, list[str](), set[str]()
    for word in words:
        labels = set[str]()
        if word == '"':
            quoted = not quoted
        elif quoted:
            labels.add("inside a quotation")
        if word in BRACKETS:
            opened.append(word)
        elif opened and word == BRACKETS[opened[-1]]:
            opened.pop()
        if opened:
            labels |= {f"{opened[-1]} is to be closed", f"brackets {len(opened)} deep"}
        if word in said and word in SLOTS["name"]:
            labels.add("name said before")
        said.add(word)
        yield labels


_CONTEXT = [
    *(f"after {name}" for name in CLASSES),
    *(f"before {name}" for name in CLASSES),
    "first word of a sentence",
    "inside a quotation",
    "name said before",
    *(f"{bracket} is to be closed" for bracket in BRACKETS),
    *(f"brackets {depth} deep" for depth in range(1, 5)),
    "plural subject, verb to come",
    "singular subject, verb to come",
    *(
        f"{task}: {role}"
        for task, function in TASKS.items()
        for role in function(Random(0), "heldout").roles  # noqa: S311  any instance has the roles of all
    ),
]
