"""Write a function of variables as neurons: one for each case of categories, two for each step of a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpwidgets.models.compiler.language import Each, Variable
    from interpwidgets.models.compiler.layout import Layout

__all__ = ["Neuron", "neurons"]

Direction = tuple["Variable", Any]


@dataclass(frozen=True)
class Neuron:
    """max(0, reads · x + bias), times what it writes."""

    name: str
    variable: str
    bias: float
    reads: dict[Direction, float] = field(default_factory=dict)
    writes: dict[Direction, float] = field(default_factory=dict)


def neurons(variable: Each, layout: Layout) -> Iterator[Neuron]:
    """Give the neurons that compute a variable.

    A case of categories is on where all of them are. A number x is read by steps: max(0, k(x − t) + ½) less
    max(0, k(x − t) − ½) goes from 0 to 1 around t, halfway between two values that x can have.
    """
    number = next((one for one in variable.of if one.number), None)
    categories = [one for one in variable.of if not one.number]
    for case in product(*(layout.domain[one] for one in categories)):
        chosen = dict(zip(categories, case, strict=True))
        gate = dict.fromkeys(chosen.items(), 1.0)
        when = " and ".join(f"{one.name} is {value}" for one, value in chosen.items()) or "always"
        if number is None:
            value = variable.at(case)
            if writes := _written(variable, value):
                yield Neuron(_named(variable, when, value), variable.name, 1.0 - len(gate), gate, writes)
            continue
        levels = layout.domain[number]
        values = [variable.at([chosen.get(one, level) for one in variable.of]) for level in levels]
        if start := _written(variable, values[0]):
            yield Neuron(_named(variable, when, values[0]), variable.name, 1.0 - len(gate), gate, start)
        for below, above, old, new in zip(levels, levels[1:], values, values[1:], strict=False):
            if old == new:
                continue
            steep, middle = 2 / float(above - below), float(above + below) / 2
            closed = steep * float(levels[-1] - below) + 1  # what a category that is not on takes away
            reads = dict.fromkeys(gate, closed) | {(number, None): steep}
            change = _difference(_written(variable, new), _written(variable, old))
            says = f"{_named(variable, when, new)} from {number.name} > {middle:.4g}"
            for sign, half in ((1.0, 0.5), (-1.0, -0.5)):
                yield Neuron(
                    f"{says}, {'rise' if sign > 0 else 'level'}", variable.name,
                    half - steep * middle - closed * len(gate), reads,
                    {direction: sign * size for direction, size in change.items()},
                )  # fmt: skip


def _named(variable: Each, when: str, value: Any) -> str:
    return f"{variable.name} is {'nothing' if value is None else value} if {when}"


def _written(variable: Each, value: Any) -> dict[Direction, float]:
    if variable.number:
        return {(variable, None): float(value)} if value else {}
    return {} if value is None else {(variable, value): 1.0}


def _difference(new: dict[Direction, float], old: dict[Direction, float]) -> dict[Direction, float]:
    change = {direction: new.get(direction, 0.0) - old.get(direction, 0.0) for direction in {**old, **new}}
    return {direction: size for direction, size in change.items() if size}
