"""Name what is in compiled weights: the ground truth, as plain JSON beside them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpwidgets.errors import InputError
from interpwidgets.models.compiler.language import BOS, Aggregate, Each, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpwidgets.models.compiler.layout import Layout
    from interpwidgets.models.compiler.neurons import Neuron

__all__ = ["FILE", "LAST", "Labels", "describe", "labels"]

FILE = "program.json"
LAST = ("attentions so far", "MLPs so far", "ground")  # the last coordinates of the stream


@dataclass(frozen=True)
class Labels:
    """What every head, neuron and direction of a compiled model is, and what it is connected with.

    >>> truth = labels(load("compiled-induction"))
    >>> truth.head[1, 0]
    'what came next'
    """

    program: str
    text: list[str]
    """The program, a line for each variable."""
    variables: list[dict[str, Any]]
    """For each variable: name, definition, home (`embed`, `head 0.1`, `mlp 0`), inputs, and its directions."""
    heads: list[dict[str, Any]]
    """For each head that is used: layer, head, the variable it computes, which keys it selects, what it moves."""
    neurons: list[dict[str, Any]]
    """For each neuron that is used: layer, neuron, the variable it is part of, and its name."""
    directions: list[str | None]
    """What each coordinate of the residual stream stands for; None is idle."""
    idle_heads: list[list[int]]
    """The (layer, head) whose weights are all zero."""
    idle_mlps: list[int]
    """The layers whose MLP is all zero."""
    edges: list[list[str]]
    """From which component to which, and by what: `q`, `k`, `v` of a head, `in` of an MLP or the logits.

    Not listed: the keys of every head tell `<bos>` by its embedding.
    """

    @cached_property
    def head(self) -> dict[tuple[int, int], str]:
        """The variable that each head computes, by (layer, head); idle heads are left out."""
        return {(each["layer"], each["head"]): each["name"] for each in self.heads}

    @cached_property
    def neuron(self) -> dict[tuple[int, int], str]:
        """The name of each neuron, by (layer, neuron); idle ones are left out."""
        return {(each["layer"], each["neuron"]): each["name"] for each in self.neurons}

    @cached_property
    def direction(self) -> dict[str, int]:
        """The coordinate of each named direction, such as `token is a`."""
        return {name: number for number, name in enumerate(self.directions) if name is not None}

    def json(self) -> str:
        """Write them down: a line for each entry."""
        parts = []
        for name, value in asdict(self).items():
            if isinstance(value, list) and value:
                lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
                parts.append(f' "{name}": [\n  {lines}\n ]')
            else:
                parts.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
        return "{\n" + ",\n".join(parts) + "\n}\n"

    def __repr__(self) -> str:
        lines = [f"{len(self.directions)} directions, {len(self.neurons)} neurons, heads:"]
        lines += [f"  {each['layer']}.{each['head']} {each['name']}: {each['selects']}" for each in self.heads]
        return "\n".join(lines)


def labels(model: Any) -> Labels:
    """Read the labels of a compiled model that was loaded from a folder, such as `load("compiled-sort")`."""
    module = getattr(model, "module", model)
    path = Path(getattr(module, "name_or_path", "")) / FILE
    if not path.is_file():
        raise InputError(f"{module.name_or_path or type(module).__name__!r} has no {FILE}: it was not compiled by us.")
    return Labels(**json.loads(path.read_text("utf-8")))


def describe(layout: Layout, units: list[list[Neuron]], heads: int, width: int) -> Labels:
    """Name everything in the weights that a layout and its neurons are written to."""
    program = layout.program
    place = {head: (layer, number) for layer, each in enumerate(layout.heads) for number, head in enumerate(each)}
    used = {*place.values()}
    home = {variable: _home(variable, layout, place) for variable in program.variables}
    named = [f"it is {BOS}", *(_direction(variable, value) for variable, value in layout.directions[1:])]
    idle: list[str | None] = [None] * (width - len(named) - len(LAST))
    return Labels(
        program=program.name,
        text=[repr(variable) for variable in program.variables],
        variables=[
            {
                "name": variable.name,
                "definition": variable.definition,
                "home": home[variable],
                "inputs": [one.name for one in variable.inputs],
                "directions": [number for number, (owner, _) in enumerate(layout.directions) if owner is variable],
            }
            for variable in program.variables
        ],
        heads=[
            {"layer": layer, "head": number, "name": head.name, "selects": head.selector.text, "moves": _moved(head)}
            for head, (layer, number) in sorted(place.items(), key=lambda item: item[1])
        ],
        neurons=[
            {"layer": layer, "neuron": number, "variable": unit.variable, "name": unit.name}
            for layer, mlp in enumerate(units)
            for number, unit in enumerate(mlp)
        ],
        directions=[*named, *idle, *LAST],
        idle_heads=[[layer, n] for layer in range(layout.layers) for n in range(heads) if (layer, n) not in used],
        idle_mlps=[layer for layer, mlp in enumerate(units) if not mlp],
        edges=[list(edge) for edge in dict.fromkeys(_edges(layout, home))],
    )


def _home(variable: Variable, layout: Layout, place: dict[Aggregate, tuple[int, int]]) -> str:
    if variable in layout.table:
        return "embed"
    if layout.only_said and variable is layout.program.output:
        return "logits"
    if isinstance(variable, Aggregate):
        layer, number = place[variable]
        return f"head {layer}.{number}"
    return f"mlp {layout.time[variable] // 2 - 1}"


def _direction(variable: Variable | None, value: Any) -> str:
    assert variable is not None
    return variable.name if variable.number else f"{variable.name} is {value}"


def _moved(head: Aggregate) -> str:
    return f"the flag of {BOS}" if head.of is None else head.of.name


def _edges(layout: Layout, home: dict[Variable, str]) -> Iterator[tuple[str, str, str]]:
    for variable in layout.program.variables:
        if isinstance(variable, Aggregate):
            selector = variable.selector
            paths = [("q", selector.queries), ("k", selector.keys), ("k", selector.prefer), ("v", variable.of)]
        elif isinstance(variable, Each) and home[variable].startswith("mlp"):
            paths = [("in", one) for one in variable.of]
        else:
            continue
        yield from ((home[one], home[variable], path) for path, one in paths if one is not None)
    yield home[layout.said[0]], "logits", "in"
