"""Decide where everything in a program goes: which values a variable can have, its layer, its directions.

Layers are as few as the program allows: a variable is computed as soon as its inputs are there. Time runs through the
blocks: 0 is the embedding, 2l + 1 after the attention of layer l, 2l + 2 after its MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.models.compiler.language import BOS, Aggregate, Each, Program, Variable, indices, tokens

__all__ = ["Layout"]

_MOST = 50_000  # cases that one variable may have; more is a model that nobody wants to read


@dataclass(frozen=True, eq=False)
class Layout:
    """The places of a program's variables."""

    program: Program

    @cached_property
    def domain(self) -> dict[Variable, tuple[Any, ...]]:
        """The values that a variable can have, in order, None left out; a number's have 0 among them."""
        found: dict[Variable, tuple[Any, ...]] = {}
        for variable in self.program.variables:
            if variable is tokens:
                found[variable] = tuple(self.program.vocabulary)
            elif variable is indices:
                found[variable] = tuple(range(self.program.longest))
            elif isinstance(variable, Each):
                found[variable] = _images(variable, [found[one] for one in variable.of])
            elif isinstance(variable, Aggregate):
                found[variable] = self._gathered(variable, found)
        return found

    @cached_property
    def table(self) -> dict[Variable, Variable]:
        """Which of `tokens` and `indices` alone decides a variable: it stands in the embedding of that."""
        found: dict[Variable, Variable] = {tokens: tokens, indices: indices}
        for variable in self.program.variables:
            homes = {found.get(one) for one in variable.inputs}
            if isinstance(variable, Each) and len(homes) == 1 and None not in homes:
                found[variable] = homes.pop()  # type: ignore[assignment]
        return found

    @cached_property
    def only_said(self) -> bool:
        """Whether the output is a function of one category: that needs no MLP, the unembedding can say it."""
        output = self.program.output
        read = {one for variable in self.program.variables for one in variable.inputs}
        return (
            isinstance(output, Each)
            and len(output.of) == 1
            and not output.of[0].number
            and output not in self.table
            and output not in read
        )

    @cached_property
    def said(self) -> tuple[Variable, dict[Any, Any]]:
        """What the unembedding reads, and the word that it says for each value."""
        output = self.program.output
        if not self.only_said:
            return output, {value: value for value in self.domain[output]}
        assert isinstance(output, Each)
        words = {value: output.at([value]) for value in self.domain[output.of[0]]}
        return output.of[0], {value: word for value, word in words.items() if word is not None}

    def looked_up(self, variable: Variable, value: Any) -> Any:
        """Compute a variable of a table from the one token or index that decides it."""
        if variable is self.table[variable]:
            return value
        assert isinstance(variable, Each)
        return variable.at([self.looked_up(one, value) for one in variable.of])

    @cached_property
    def time(self) -> dict[Variable, int]:
        """When a variable is there."""
        found: dict[Variable, int] = {}
        for variable in self.program.variables:
            ready = max((found[one] for one in variable.inputs), default=0)
            if variable in self.table:
                found[variable] = 0
            elif isinstance(variable, Aggregate):
                found[variable] = ready + (ready % 2) + 1  # reads an even time, writes the next
            elif self.only_said and variable is self.program.output:
                found[variable] = ready
            else:
                found[variable] = ready + 2 - (ready % 2)
        return found

    @property
    def layers(self) -> int:
        """How many blocks there are: one at least, for a model has blocks."""
        return max(1, (max(self.time.values()) + 1) // 2)

    @cached_property
    def heads(self) -> list[list[Aggregate]]:
        """The variables that the heads of each layer compute."""
        return [[v for v in self._at(2 * layer + 1) if isinstance(v, Aggregate)] for layer in range(self.layers)]

    @cached_property
    def mlps(self) -> list[list[Each]]:
        """The variables that the MLP of each layer computes."""
        return [
            [
                v
                for v in self._at(2 * layer + 2)
                if isinstance(v, Each) and (v is not self.program.output or not self.only_said)
            ]
            for layer in range(self.layers)
        ]

    @cached_property
    def read(self) -> list[Variable]:
        """The variables that need directions: those that a head, an MLP or the unembedding reads."""
        readers = [head for heads in self.heads for head in heads] + [each for mlp in self.mlps for each in mlp]
        wanted = {self.said[0], *(one for reader in readers for one in reader.inputs)}
        return [variable for variable in self.program.variables if variable in wanted]

    @cached_property
    def directions(self) -> list[tuple[Variable | None, Any]]:
        """What each coordinate of the residual stream stands for: `<bos>`, a variable's value, or its number."""
        found: list[tuple[Variable | None, Any]] = [(None, BOS)]
        for variable in self.read:
            found.extend((variable, value) for value in ([None] if variable.number else self.domain[variable]))
        return found

    @cached_property
    def place(self) -> dict[tuple[Variable | None, Any], int]:
        """The coordinate of each direction."""
        return {direction: number for number, direction in enumerate(self.directions)}

    def check(self) -> None:
        """Refuse a program that no weights of ours carry out."""
        program = self.program
        if len(set(program.vocabulary)) < len(program.vocabulary):
            raise InputError(f"The vocabulary of {program.name!r} names a word twice.")
        if program.output.number:
            raise InputError(f"The output of {program.name!r} is a number; a prediction is a word of the vocabulary.")
        if wrong := [value for value in self.domain[program.output] if value not in program.vocabulary]:
            raise InputError(f"{program.name!r} can say {wrong[0]!r}, which its vocabulary does not have.")
        at_bos = {variable: values[0] for variable, values in program.trace([]).items()}
        for head in (variable for heads in self.heads for variable in heads):
            read = filter(None, (head.selector.keys, head.selector.prefer, head.of))
            for variable in read:
                if at_bos[variable] != 0 if variable.number else at_bos[variable] is not None:
                    raise InputError(
                        f"{head.name!r} reads {variable.name!r} at other positions, and at <bos> that is "
                        f"{at_bos[variable]!r}: every head looks at <bos> when it finds nothing, so there has to be "
                        "no value there. Pass it through each(…) together with a token or an index."
                    )

    def _at(self, time: int) -> list[Variable]:
        return [variable for variable in self.program.variables if self.time[variable] == time]

    def _gathered(self, head: Aggregate, found: dict[Variable, tuple[Any, ...]]) -> tuple[Any, ...]:
        if head.of is None:
            return tuple(sorted({Fraction(0), *(Fraction(1, 1 + n) for n in range(self.program.longest + 1))}))
        if not head.number:
            extra = () if head.default is None or head.default in found[head.of] else (head.default,)
            return (*found[head.of], *extra)
        means, sums = {Fraction(0), Fraction(head.default or 0)}, {Fraction(0)}
        for number in range(1, self.program.longest + 1):
            sums = {total + value for total in sums for value in found[head.of]}
            means |= {total / number for total in sums}
            _few(head, len(means))
        return tuple(sorted(means))


def _images(variable: Each, domains: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    _few(variable, prod(map(len, domains)))
    values = {variable.at(given) for given in product(*domains)} - {None}
    if variable.number:
        return tuple(sorted(values | {Fraction(0)}))
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=repr))


def _few(variable: Variable, cases: int) -> None:
    if cases > _MOST:
        raise InputError(f"{variable.name!r} has {cases:,} cases, more than {_MOST:,}: make what it reads coarser.")
