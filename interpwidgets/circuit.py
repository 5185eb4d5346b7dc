"""Circuits as values: the parts of a model that are said to do something, and who tells whom.

A circuit is a hypothesis. What it is worth is measured by `interpwidgets.intervene.faithfulness`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens

__all__ = ["KINDS", "Circuit", "CircuitEdge", "CircuitNode", "Supernode"]

KINDS = ("embed", "head", "mlp", "neuron", "feature", "error", "logits")
Supernode = tuple[str, tuple[str, ...]]  # a label, and the nodes that it stands for

_SPELLINGS = (
    ("head", r"L(?P<layer>\d+)\s*H(?P<number>\d+)"),
    ("head", r"head (?P<layer>\d+)\.(?P<number>\d+)"),
    ("mlp", r"L(?P<layer>\d+)\s*mlp"),
    ("mlp", r"mlp (?P<layer>\d+)"),
    ("neuron", r"L(?P<layer>\d+)\s*neuron (?P<number>\d+)"),
    ("feature", r"L(?P<layer>\d+)\s*feature (?P<number>\d+)"),
    ("error", r"L(?P<layer>\d+)\s*error"),
    ("embed", r"embed"),
    ("logits", r"logits"),
)
_INPUTS = ("", "q", "k", "v")
_ORDERED = {"embed", "head", "mlp", "logits"}  # features of some dictionaries write to their own layer


@dataclass(frozen=True)
class CircuitNode:
    """One part of a model, at one position or at all (`pos` None).

    `number` is the head's, the neuron's or the feature's, or the token's id for an embedding and a logit. `effect` is
    what the node does to the metric, `low` and `high` its 95 % interval; each None where it is not known. `extra` is
    what a file says of it besides.
    """

    id: str
    kind: str
    layer: int | None = None
    number: int | None = None
    pos: int | None = None
    label: str = ""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"A node is one of {', '.join(KINDS)}; {self.id!r} is {self.kind!r}.")

    @classmethod
    def of(cls, given: CircuitNode | str) -> CircuitNode:
        """A node from its spelling: `embed`, `L1H6`, `L0 mlp`, `L0 neuron 12`, `logits`, each perhaps with `@5`.

        `head 1.6` and `mlp 0`, as the labels of compiled models have it, are understood as well; `@5` is position 5.
        """
        if isinstance(given, CircuitNode):
            return given
        text, sign, at = str(given).partition("@")
        for kind, pattern in _SPELLINGS:
            if (match := re.fullmatch(pattern, text.strip(), re.IGNORECASE)) and bool(sign) == at.isdecimal():
                found: dict[str, Any] = {name: int(value) for name, value in match.groupdict().items()}
                node = cls("", kind, pos=int(at) if at else None, **found)
                return replace(node, id=node.spelling)
        raise InputError(
            f"{given!r} names no node. Write 'embed', 'L1H6' (layer 1, head 6), 'L0 mlp', 'L0 neuron 12', "
            "'L3 feature 7' or 'logits', with '@5' for position 5 only."
        )

    @property
    def head(self) -> int | None:
        """The head's number, if it is a head."""
        return self.number if self.kind == "head" else None

    @property
    def spelling(self) -> str:
        """Its short name, as `of` reads it."""
        name = f"L{self.layer}H{self.number}" if self.kind == "head" else self.kind
        if self.kind in ("mlp", "error"):
            name = f"L{self.layer} {self.kind}"
        elif self.kind in ("neuron", "feature"):
            name = f"L{self.layer} {self.kind} {self.number}"
        return name if self.pos is None else f"{name}@{self.pos}"

    @property
    def depth(self) -> float:
        """Where it stands in a pass: embedding −1, then a block's heads before the rest of it, logits last."""
        if self.kind in ("embed", "logits"):
            return -1 if self.kind == "embed" else math.inf
        return 2 * (self.layer or 0) + (self.kind != "head")


@dataclass(frozen=True)
class CircuitEdge:
    """What one node tells another: `via` its q, k or v where the receiver is a head, and how much comes of it."""

    source: str
    target: str
    effect: float = 1.0
    via: str = ""
    low: float | None = None
    high: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.via not in _INPUTS:
            raise InputError(f"An edge arrives by q, k or v of a head, or by ''; got via={self.via!r}.")
        if isinstance(self.effect, bool) or not isinstance(self.effect, (int, float)) or not math.isfinite(self.effect):
            raise InputError(f"The effect of {self.source} → {self.target} is a finite number; got {self.effect!r}.")

    @classmethod
    def of(cls, given: CircuitEdge | Sequence[Any]) -> CircuitEdge:
        """An edge from (source, target), (source, target, effect) or (source, target, effect, via)."""
        if isinstance(given, CircuitEdge):
            return given
        if isinstance(given, str) or not isinstance(given, Sequence) or not 2 <= len(given) <= 4:
            raise InputError(f"An edge is (source, target), with its effect and by which input: {given!r:.80} is not.")
        source, target, *rest = given
        return cls(CircuitNode.of(source).id, CircuitNode.of(target).id, *rest)


class Circuit:
    """Nodes of a model and edges between them, by hand, from a method, or from a file.

    >>> Circuit(edges=[("embed", "L0H1"), ("L0H1", "L1H2", 0.8, "v"), ("L1H2", "logits")])
    Circuit(4 nodes, 3 edges)

    Nodes that only edges name are added. `tokens` are those of the prompt, where nodes have positions; `how` says in a
    sentence where the circuit is from, `metric` what its effects are effects on.

    Raises InputError for a spelling that names no node, two nodes of one name, edges that name no node, end where they
    begin, or go against the order in which a model computes, and positions that no token is at.
    """

    def __init__(
        self,
        nodes: Iterable[CircuitNode | str] = (),
        edges: Iterable[CircuitEdge | Sequence[Any]] = (),
        *,
        tokens: Tokens | Sequence[str | bytes] | None = None,
        how: str = "",
        metric: str = "",
        pinned: Sequence[str] = (),
        supernodes: Sequence[Sequence[Any]] = (),
        extra: Mapping[str, Any] | None = None,
        test: Callable[[Circuit], Any] | None = None,
    ) -> None:
        self.nodes = tuple(CircuitNode.of(node) for node in nodes)
        self.edges = tuple(CircuitEdge.of(edge) for edge in edges)
        self.tokens = None if tokens is None else Tokens.of(tokens)
        self.how, self.metric, self.test = how, metric, test
        self.extra = dict(extra or {})
        self._by_id: dict[str, CircuitNode] = {}
        for node in self.nodes:
            if node.id in self._by_id:
                raise InputError(f"Two nodes are called {node.id!r}; each has its own name.")
            self._by_id[node.id] = node
        for name in dict.fromkeys(name for edge in self.edges for name in (edge.source, edge.target)):
            if name not in self._by_id:
                self._by_id[name] = self._named_by_an_edge(name)
        self.nodes = tuple(self._by_id.values())
        self.pinned = tuple(self._known(name, "pinned") for name in pinned)
        self.supernodes: tuple[Supernode, ...] = tuple(
            (str(label), tuple(self._known(name, f"supernode {label!r}") for name in names))
            for label, *names in (self._group(group) for group in supernodes)
        )
        for edge in self.edges:
            self._check(edge)
        count = math.inf if self.tokens is None else len(self.tokens)
        if off := [node for node in self.nodes if node.pos is not None and not 0 <= node.pos < count]:
            raise InputError(f"{off[0].id!r} is at position {off[0].pos}; there are {count} tokens.")

    @classmethod
    def from_effects(cls, effects: Mapping[Any, Any], *, least: float = 0.0) -> Circuit:
        """A circuit from path patching: for each receiver, the `Effects` of its senders, one or a list.

        >>> Circuit.from_effects({
        ...     "logits": path_sweep(model, clean, corrupted, metric, receivers=[("resid_post", 2)]),
        ...     ("L2H0", "q"): path_sweep(model, clean, corrupted, metric, receivers=[("q", 2, 0)]),
        ... })

        Axes layer and head are senders that are heads, layer alone is MLPs; with pos each at one position. Cells that
        were not run, and those of |effect| < `least`, make no edge.

        Raises InputError for effects on other axes, and receivers that are none.
        """
        edges: list[CircuitEdge] = []
        metrics: dict[str, None] = {}
        for receiver, given in effects.items():
            name, via = receiver if isinstance(receiver, tuple) else (receiver, "")
            target = CircuitNode.of(name).id
            for one in given if isinstance(given, (list, tuple)) else [given]:
                metrics[one.metric] = None
                edges += _edges_of(one, target, via, least)
        return cls(edges=edges, metric=", ".join(metrics), how="path patching")

    # What is in it ---------------------------------------------------------------------------------------------------

    def node(self, name: str) -> CircuitNode:
        """The node of that name; raises InputError if there is none."""
        return self._by_id[self._known(name, "node")]

    def into(self, name: str) -> list[CircuitEdge]:
        """The edges that end at a node, the strongest first."""
        return _sorted(edge for edge in self.edges if edge.target == name)

    def out_of(self, name: str) -> list[CircuitEdge]:
        """The edges that begin at a node, the strongest first."""
        return _sorted(edge for edge in self.edges if edge.source == name)

    @property
    def total(self) -> float:
        """The sum of |effect| over all edges."""
        return math.fsum(abs(edge.effect) for edge in self.edges)

    # Parts of it -----------------------------------------------------------------------------------------------------

    def above(self, least: float, *, keep: Iterable[str] = ()) -> Circuit:
        """The edges of |effect| ≥ `least`, and the nodes that have one, or that shall be kept without."""
        edges = [edge for edge in self.edges if abs(edge.effect) >= least]
        return self._of(edges, {self._known(name, "keep") for name in keep})

    def top(self, n: int) -> Circuit:
        """The `n` edges of largest |effect|, and the nodes that have one."""
        kept = {id(edge) for edge in _sorted(self.edges)[:n]}
        return self._of([edge for edge in self.edges if id(edge) in kept])

    def pruned(self) -> Circuit:
        """Without what lies on no path from an embedding to the logits."""
        down, up = self._reached("embed", "source", "target"), self._reached("logits", "target", "source")
        return self._of([edge for edge in self.edges if edge.source in down and edge.target in up])

    def of_nodes(self, names: Iterable[str]) -> Circuit:
        """Those nodes, and the edges between them."""
        kept = {self._known(name, "node") for name in names}
        return self._of([edge for edge in self.edges if {edge.source, edge.target} <= kept], kept)

    def with_labels(self, labels: Mapping[str, str]) -> Circuit:
        """The same with other labels of some nodes: `{"L1H6": "induction"}`."""
        named = {self._known(name, "label"): str(text) for name, text in labels.items()}
        return self._copy(nodes=[replace(n, label=named[n.id]) if n.id in named else n for n in self.nodes])

    def with_groups(self, pinned: Sequence[str], supernodes: Sequence[Sequence[Any]]) -> Circuit:
        """The same with those nodes pinned, and those grouped: `[["copying", "L1H6", "L1H7"]]`."""
        return self._copy(pinned=pinned, supernodes=supernodes)

    def with_test(self, test: Callable[[Circuit], Any]) -> Circuit:
        """The same, remembering how to test it: `circuit.with_test(CircuitTest(model, prompts, metric))`."""
        return self._copy(test=test)

    def faithfulness(self) -> Any:
        """What comes of its test: see `interpwidgets.intervene.faithfulness`. Raises InputError if it has none."""
        if self.test is None:
            raise InputError(
                "This circuit does not say how to test it: use faithfulness(model, prompts, circuit, metric), or "
                "circuit.with_test(CircuitTest(model, prompts, metric))."
            )
        return self.test(self)

    def _reached(self, kind: str, begin: str, end: str) -> set[str]:
        """The nodes that can be reached from those of a kind along the edges, or against them."""
        on: dict[str, list[str]] = {}
        for edge in self.edges:
            on.setdefault(getattr(edge, begin), []).append(getattr(edge, end))
        found: set[str] = set()
        todo = [node.id for node in self.nodes if node.kind == kind]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += on.get(name, [])
        return found

    def _of(self, edges: Sequence[CircuitEdge], keep: Iterable[str] = ()) -> Circuit:
        kept = {name for edge in edges for name in (edge.source, edge.target)} | {*keep}
        groups = [(label, *(name for name in members if name in kept)) for label, members in self.supernodes]
        return self._copy(
            nodes=[node for node in self.nodes if node.id in kept],
            edges=edges,
            pinned=[name for name in self.pinned if name in kept],
            supernodes=[group for group in groups if len(group) > 1],
        )

    def _copy(self, **changes: Any) -> Circuit:
        own = {
            "nodes": self.nodes, "edges": self.edges, "tokens": self.tokens, "how": self.how, "metric": self.metric,
            "pinned": self.pinned, "supernodes": [(label, *names) for label, names in self.supernodes],
            "extra": self.extra, "test": self.test,
        }  # fmt: skip
        return Circuit(**{**own, **changes})

    # Bad input -------------------------------------------------------------------------------------------------------

    def _known(self, name: str, what: str) -> str:
        if name in self._by_id:
            return name
        some = ", ".join(list(self._by_id)[:6])
        more = f" … ({len(self._by_id)} in all)" if len(self._by_id) > 6 else ""
        raise InputError(f"There is no node {name!r} ({what}). There are: {some or 'none'}{more}.")

    def _named_by_an_edge(self, name: str) -> CircuitNode:
        try:
            return CircuitNode.of(name)
        except InputError:
            raise InputError(f"An edge names {name!r}, and no node is called that.") from None

    def _group(self, group: Sequence[Any]) -> Sequence[Any]:
        if isinstance(group, str) or not isinstance(group, Sequence) or len(group) < 2:
            raise InputError(f"A supernode is [label, node, node, …]; got {group!r:.80}.")
        return group

    def _check(self, edge: CircuitEdge) -> None:
        source, target = self._by_id[edge.source], self._by_id[edge.target]
        if source is target:
            raise InputError(f"An edge leads from {source.id!r} to itself.")
        if edge.via and target.kind not in ("head", "feature"):
            raise InputError(f"{source.id} → {target.id} arrives by {edge.via!r}, which only a head has.")
        ours = {source.kind, target.kind} <= _ORDERED
        if ours and source.depth >= target.depth:
            raise InputError(f"{source.id} → {target.id}: a model does not compute {target.id} after {source.id}.")

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._by_id

    def __repr__(self) -> str:
        return f"Circuit({len(self.nodes)} nodes, {len(self.edges)} edges{f'; {self.how}' if self.how else ''})"


def _sorted(edges: Iterable[CircuitEdge]) -> list[CircuitEdge]:
    return sorted(edges, key=lambda edge: -abs(edge.effect))


def _edges_of(effects: Any, target: str, via: str, least: float) -> list[CircuitEdge]:
    names = [axis.name for axis in effects.axes]
    if "layer" not in names or set(names) - {"layer", "head", "pos"}:
        raise InputError(f"Senders are told apart by layer, head and pos; these effects have the axes {names}.")
    low, high = effects.interval()
    found = []
    for place in zip(*np.nonzero(effects.done & (np.abs(effects.effect) >= least)), strict=True):
        at = {axis.name: axis.labels[i] for axis, i in zip(effects.axes, place, strict=True)}
        sender = f"L{at['layer']}H{at['head']}" if "head" in at else f"L{at['layer']} mlp"
        sender += f"@{at['pos']}" if "pos" in at else ""
        a, b = (None if np.isnan(side[place]) else float(side[place]) for side in (low, high))
        found.append(CircuitEdge(sender, target, float(effects.effect[place]), via, a, b))
    return found
