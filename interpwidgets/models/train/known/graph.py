"""Say which component of a model carries which variable of a causal model, and what happens when one is exchanged.

A *causal model* is a few lines of Python that compute every variable of a prompt, and the answer, from its words. Some
variables may be given: then all that follows from them is computed with what was given. That is an interchange as the
causal model understands it, and what the trained model has to do too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal, NamedTuple

from interpwidgets.models.corpora.corpus import Side

__all__ = ["Component", "Edge", "Graph", "Known", "Node", "Place", "Prompt", "Values", "side_of"]

Place = tuple[str, int]  # a node's name, and a position of the prompt; <bos> is position 0
Values = dict[Place, Any]
Component = tuple[str, int, int]  # site, layer, head; −1 for an MLP


def side_of(words: Sequence[str]) -> Side:
    """Tell which side of the split a prompt belongs to, from its words alone; one in ten is held out.

    The hash is a cryptographic one: checksums of prompts that differ in a word at one place are tied to each other,
    and pairs of such prompts might never be held out together.
    """
    return "heldout" if hashlib.sha256(" ".join(words).encode()).digest()[0] % 10 == 0 else "train"


class Prompt(NamedTuple):
    """A prompt, the positions that play a part in it, and what the causal model reads off it."""

    words: tuple[str, ...]
    roles: dict[str, tuple[int, ...]]
    read: Any

    @property
    def text(self) -> str:
        """The words as one string, without `<bos>`."""
        return " ".join(self.words)

    @property
    def end(self) -> int:
        """The last position: what the answer is read from."""
        return len(self.words)


@dataclass(frozen=True)
class Node:
    """A variable of the causal model, and the component that carries it."""

    name: str
    site: Literal["z", "mlp_out"]
    layer: int
    head: int  # −1 for an MLP
    role: str
    """At which positions: a key of a prompt's roles."""
    means: str
    traced: bool = True
    """Whether what a causal trace puts noise on goes through it."""

    @property
    def component(self) -> Component:
        """What carries it, whatever the position."""
        return self.site, self.layer, self.head


class Edge(NamedTuple):
    """One node is read by another; `answer` is what the residual stream says at the end."""

    sender: str
    receiver: str


@dataclass(frozen=True)
class Graph:
    """The ground truth: all that carries the answer, and who reads whom."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, name: str) -> Node:
        """Find a node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def as_json(self) -> dict[str, Any]:
        """Give the graph as it stands in `card.json`."""
        nodes = {node.name: {k: v for k, v in asdict(node).items() if k != "name"} for node in self.nodes}
        return {"nodes": nodes, "edges": [edge._asdict() for edge in self.edges]}


@dataclass(frozen=True)
class Known:
    """A causal model, its prompts, and where a trained model is to carry it."""

    name: str
    words: tuple[str, ...]
    """Every word that a prompt or an answer may have."""
    graph: Graph
    draw: Callable[[Random, Side], Prompt]
    """A prompt of one side of the split."""
    values: Callable[[Prompt, Mapping[Place, Any]], Values]
    """Every variable of a prompt where some are given; the answer is that of the node `answer` at the end."""
    pairs: Mapping[str, Callable[[Random, Side], tuple[Prompt, Prompt]]]
    """By what differs: two prompts of one shape whose answers differ for one reason."""
    trace: tuple[str, ...] = ()
    """The roles that a causal trace puts noise on; none where the method has no subject to look for."""

    def answer(self, prompt: Prompt, given: Mapping[Place, Any] | None = None) -> str:
        """Give what the causal model says, if some of its variables are given."""
        return str(self.values(prompt, given or {})["answer", prompt.end])
