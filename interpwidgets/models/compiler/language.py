"""Write a program that a transformer can carry out, as plain values, and run it on a list of tokens.

The language is a small RASP (Weiss, Goldberg and Yahav 2021, "Thinking like transformers"). A program is made of
*variables*: each has one value at every position of the prompt.

>>> before = each("index before", lambda i: i - 1, indices)
>>> previous = aggregate("previous token", select(indices, before, "=="), tokens)
>>> program = Program("previous", previous, vocabulary="abc", longest=8)
>>> program(list("cab"))
[None, None, 'c', 'a']

There are two kinds of step, as in a transformer. `each` computes at every position by itself, from the variables there:
an MLP does that, or the embedding. `select` and `aggregate` bring values from other positions: a head does that. A
position sees itself and what came before it, never what comes after.

Position 0 is `<bos>`, which stands before every prompt and where tokens and indices have no value. *No value* is None:
it matches nothing, and `each` makes None of it. A *number* is a variable that adds and averages; its None is 0. All
else is a *category*, one of finitely many values.

What `Program` gives is the oracle for the compiled weights: it shares no line with the compiler that makes them, but
for the variables themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from interpwidgets.errors import InputError

__all__ = [
    "BOS",
    "Aggregate",
    "Each",
    "Program",
    "Selector",
    "Source",
    "Variable",
    "aggregate",
    "each",
    "indices",
    "inverse_width",
    "select",
    "selector_width",
    "tokens",
]

BOS = "<bos>"
PREDICATES: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "any": lambda _key, _query: True,
}
Value = Any  # None, a category (anything that can be hashed), or the Fraction of a number
Trace = dict["Variable", list[Value]]


@dataclass(frozen=True, eq=False, repr=False)
class Variable:
    """Something that has a value at every position."""

    name: str

    @property
    def number(self) -> bool:
        """Whether it adds and averages; else it is a category."""
        return False

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The variables that it is computed from."""
        return ()

    def values(self, prompt: Sequence[str], known: Trace) -> list[Value]:
        """Compute it at `<bos>` and every token, from its inputs."""
        raise NotImplementedError

    @property
    def definition(self) -> str:
        """How it is computed, in the words of the language."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.name} = {self.definition}"


class Source(Variable):
    """What the prompt says by itself: `tokens`, or `indices` (0 for the token after `<bos>`)."""

    def values(self, prompt: Sequence[str], known: Trace) -> list[Value]:
        """Compute it at `<bos>`, where there is none, and every token."""
        return [None, *(prompt if self is tokens else range(len(prompt)))]

    @property
    def definition(self) -> str:
        """How it is computed, in the words of the language."""
        return "what the prompt says"


tokens = Source("token")
indices = Source("index")


@dataclass(frozen=True, eq=False, repr=False)
class Each(Variable):
    """A function of other variables, position by position."""

    function: Callable[..., Value]
    of: tuple[Variable, ...]
    gives_number: bool = False
    text: str = ""

    @property
    def number(self) -> bool:
        """Whether it adds and averages; else it is a category."""
        return self.gives_number

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The variables that it is computed from."""
        return self.of

    def at(self, values: Sequence[Value]) -> Value:
        """Compute it from the values of its inputs."""
        value = None if None in values else self.function(*values)
        if not self.number:
            return value
        return Fraction(0) if value is None else Fraction(value).limit_denominator(1_000_000)

    def values(self, prompt: Sequence[str], known: Trace) -> list[Value]:
        """Compute it at `<bos>` and every token, from its inputs."""
        return [self.at(values) for values in zip(*(known[variable] for variable in self.of), strict=True)]

    @property
    def definition(self) -> str:
        """How it is computed, in the words of the language."""
        says = f": {self.text}" if self.text else ""
        return f"each({', '.join(variable.name for variable in self.of)}){says}"


@dataclass(frozen=True, eq=False, repr=False)
class Selector:
    """Which keys each query attends to: those that match, or of these the first or last by another variable."""

    keys: Variable
    queries: Variable
    predicate: str
    prefer: Variable | None = None
    largest: bool = False

    def matches(self, key: Value, query: Value) -> bool:
        """Say whether a query attends to a key; None matches nothing."""
        return key is not None and query is not None and bool(PREDICATES[self.predicate](key, query))

    def chosen(self, position: int, known: Trace) -> list[int]:
        """Give the positions, up to and with `position`, that it attends to."""
        query = known[self.queries][position]
        found = [key for key in range(1, position + 1) if self.matches(known[self.keys][key], query)]
        if self.prefer is None or not found:
            return found
        rank = [known[self.prefer][key] for key in found]
        ranked = [value for value in rank if value is not None]
        best = (max(ranked) if self.largest else min(ranked)) if ranked else None
        return [key for key, value in zip(found, rank, strict=True) if value == best]

    @property
    def text(self) -> str:
        """Which keys it selects, in words."""
        match = (
            f"every {self.keys.name}" if self.predicate == "any" else
            f"{self.keys.name} {self.predicate} {self.queries.name}"
        )  # fmt: skip
        if self.prefer is None:
            return match
        return f"{match}, of these the {'largest' if self.largest else 'smallest'} {self.prefer.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(Variable):
    """What the selected positions hold: the mean of numbers, the one value of categories."""

    selector: Selector
    of: Variable | None  # None: 1 / (1 + how many are selected)
    default: Value = None

    @property
    def number(self) -> bool:
        """Whether it adds and averages; else it is a category."""
        return self.of is None or self.of.number

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The variables that it is computed from."""
        selector = self.selector
        found = [selector.keys, selector.queries, *filter(None, (selector.prefer, self.of))]
        return tuple(dict.fromkeys(found))

    def values(self, prompt: Sequence[str], known: Trace) -> list[Value]:
        """Compute it at `<bos>` and every token, from its inputs."""
        return [self._at(self.selector.chosen(position, known), known) for position in range(len(prompt) + 1)]

    def _at(self, chosen: list[int], known: Trace) -> Value:
        if self.of is None:
            return Fraction(1, 1 + len(chosen))
        found = [known[self.of][position] for position in chosen]
        if self.number:
            return sum(found, Fraction(0)) / len(found) if found else Fraction(self.default or 0)
        if not found:
            return self.default
        if len(set(found)) > 1:
            raise InputError(
                f"{self.name!r} selects positions with different values, {', '.join(map(repr, found[:4]))}: a head "
                "would mix them. Narrow the selection with first= or last=, or take the mean of numbers."
            )
        return found[0]

    @property
    def definition(self) -> str:
        """How it is computed, in the words of the language."""
        if self.of is None:
            return f"1 / (1 + number of keys with {self.selector.text})"
        default = "" if self.default is None else f", else {self.default!r}"
        return f"{'mean ' if self.number else ''}{self.of.name} where {self.selector.text}{default}"


def each(name: str, function: Callable[..., Value], *of: Variable, number: bool = False, text: str = "") -> Each:
    """Compute a variable at every position from others there; where one of them has no value, it has none.

    >>> each("is open", lambda token: token == "(", tokens, text="whether it is an opening bracket")
    """
    if not of:
        raise InputError(f"{name!r} is a function of nothing; name the variables that it reads.")
    if sum(variable.number for variable in of) > 1:
        raise InputError(f"{name!r} reads several numbers; one MLP can tell the cases of one number only.")
    return Each(name, function, of, number, text)


def select(
    keys: Variable, queries: Variable, predicate: str, *, first: Variable | None = None, last: Variable | None = None
) -> Selector:
    """Say which keys a query attends to: those for which `key predicate query` holds.

    >>> select(indices, before, "==")
    >>> select(previous, tokens, "==", last=indices)  # of those that match, the one with the largest index

    `first` and `last` keep, of the matching keys, those with the smallest or largest value of a variable.
    """
    if predicate not in PREDICATES:
        raise InputError(f"{predicate!r} compares no key with a query; there are {', '.join(PREDICATES)}.")
    if first is not None and last is not None:
        raise InputError("A selection keeps the first or the last of what matches, not both.")
    selector = Selector(keys, queries, predicate, first if last is None else last, last is not None)
    for variable in filter(None, (keys, queries, selector.prefer)):
        if variable.number:
            raise InputError(f"{variable.name!r} is a number; attention compares categories. Make it one with each(…).")
    return selector


def aggregate(name: str, selector: Selector, of: Variable, default: Value = None) -> Aggregate:
    """Bring the values of the selected positions here; `default` where nothing is selected."""
    return Aggregate(name, selector, of, default)


def inverse_width(name: str, selector: Selector) -> Aggregate:
    """Count the selected keys as a head can: 1 / (1 + their number), its attention to `<bos>` beside them."""
    if selector.prefer is not None:
        raise InputError(f"{name!r} counts what is selected; of the first or last there is one.")
    return Aggregate(name, selector, None)


def selector_width(name: str, selector: Selector) -> Each:
    """Count the selected keys: a head, and an MLP that reads its number."""
    share = inverse_width(f"1 / (1 + {name})", selector)
    return each(name, lambda x: round(1 / x) - 1 if x else None, share, text="1 / x - 1")


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """An output variable, the words that a prompt is made of, and the longest prompt.

    Called with a prompt, it gives the output at `<bos>` and after every token. In a language model that is the
    prediction of the next token; None predicts nothing.
    """

    name: str
    output: Variable
    vocabulary: Sequence[str]
    longest: int
    """How many tokens fit after `<bos>`."""
    eos: str | None = None
    """The word that ends an answer."""

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable, each after those that it is computed from."""
        found: dict[Variable, None] = {}

        def visit(variable: Variable) -> None:
            if variable not in found:
                for one in variable.inputs:
                    visit(one)
                found[variable] = None

        visit(self.output)
        names = [variable.name for variable in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"Two variables of {self.name!r} are called {twice.pop()!r}; names tell them apart.")
        return tuple(found)

    def __getitem__(self, name: str) -> Variable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise InputError(f"{self.name!r} has no variable {name!r}; it has {', '.join(v.name for v in self.variables)}.")

    def check(self, prompt: Sequence[str]) -> None:
        """Refuse a prompt that the program was not made for."""
        if len(prompt) > self.longest:
            raise InputError(f"The prompt has {len(prompt)} tokens, and {self.name!r} reads at most {self.longest}.")
        if unknown := [word for word in prompt if word not in self.vocabulary]:
            raise InputError(
                f"{self.name!r} has no token {unknown[0]!r}; its vocabulary is {' '.join(self.vocabulary)}."
            )

    def trace(self, prompt: Sequence[str], given: Mapping[Variable, Sequence[Value]] | None = None) -> Trace:
        """Compute every variable at `<bos>` and every token.

        `given` sets variables to values, and everything downstream follows from these: an intervention on the program.
        """
        self.check(prompt)
        known: Trace = {}
        for variable in self.variables:
            if given is not None and variable in given:
                known[variable] = [Fraction(v or 0) if variable.number else v for v in given[variable]]
            else:
                known[variable] = variable.values(prompt, known)
        return known

    def __call__(self, prompt: Sequence[str], given: Mapping[Variable, Sequence[Value]] | None = None) -> list[Value]:
        """Give the output at `<bos>` and after every token."""
        return self.trace(prompt, given)[self.output]

    def answer(self, prompt: Sequence[str]) -> list[str]:
        """Go on with a prompt, token by token, until the program says `eos`, says nothing, or is full."""
        said: list[str] = []
        while len(prompt) + len(said) <= self.longest:
            word = self([*prompt, *said])[-1]
            if word is None:
                break
            said.append(word)
            if word == self.eos:
                break
        return said

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}:", *(f"  {variable!r}" for variable in self.variables)])
