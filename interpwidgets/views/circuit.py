"""A circuit as a graph: positions across, layers upwards, and who tells whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from interpwidgets.circuit import Circuit, CircuitEdge, CircuitNode
from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.graph_json import read_graph, write_graph
from interpwidgets.views.tile import Tile, tokens_tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["CircuitView"]

_SHOWN = 150  # edges that a view opens with, at most
_SENT = 40_000  # edges that a page gets, the strongest: 960 kB
_VIAS = ("", "q", "k", "v")  # as the page reads them


class CircuitView(View, view="circuit"):
    """See who tells whom, from the embedding to the logits; pin, group and name nodes; test what is left.

        view = CircuitView(edge_attribution(model, clean, corrupted, metric))
        view = CircuitView(Circuit(edges=[("embed", "L0H1"), ("L0H1", "L1H2"), ("L1H2", "logits")]))
        view = CircuitView("graph.json")                  # of circuit-tracer, Neuronpedia, Anthropic's viewer

    Nodes stand at their position and layer; without positions, heads stand side by side. An edge is as wide as
    |effect|, its colour tells the sign. Edges below `threshold` are hidden, and nodes that then have none but are not
    `pinned`. A click selects a `node`, and with it `layer`, `head` and `position`. `circuit` is what is shown, in
    Python again; `save_graph` writes it as a file for other viewers.

    A circuit that knows how it is tested (`edge_attribution` leaves one) can be, with a button: everything outside the
    nodes shown, or pinned, is ablated, and random circuits of this size beside it.

    Wang et al. 2022 (circuits, and their tests); Conmy et al. 2023 (ACDC); Ameisen et al. 2025 (attribution graphs).

    Args:
        data: a `Circuit`, the path of an attribution graph, or such a graph as `json.load` gives it.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: none of these, or a file that is no such graph.
        TraitError: a setting that names a node that is not there.
    """

    facts = traitlets.Dict(help="sizes, and what effects are effects on", read_only=True).tag(sync=True)
    node = traitlets.Unicode("", help="the node selected, or none").tag(sync=True)
    layer = traitlets.CInt(None, allow_none=True, help="of the node selected").tag(sync=True)
    head = traitlets.CInt(None, allow_none=True, help="of the node selected").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="of the node selected").tag(sync=True)
    feature = traitlets.CInt(None, allow_none=True, help="the feature selected last").tag(sync=True)
    feature_layer = traitlets.CInt(None, allow_none=True, help="the layer that it is of").tag(sync=True)
    threshold = traitlets.CFloat(0.0, help="edges of smaller |effect| are hidden").tag(sync=True)
    pinned = traitlets.List(traitlets.Unicode(), help="nodes that stay").tag(sync=True)
    supernodes = traitlets.List(traitlets.List(traitlets.Unicode()), help="[label, node, …] each").tag(sync=True)
    node_labels = traitlets.Dict(help="names given to nodes").tag(sync=True)
    search = traitlets.Unicode("", help="nodes to mark").tag(sync=True)

    def __init__(self, data: Circuit | str | Path | Mapping[str, Any], **settings: Any) -> None:
        self._circuit = _circuit_of(data)
        self._take()
        super().__init__(settings, title="Circuit", **self._first())
        self.open_with(self._keys())

    def show(self, data: Circuit | str | Path | Mapping[str, Any]) -> None:
        """Show another circuit; what is selected, pinned and named stays where it exists."""
        self._circuit = _circuit_of(data)
        known = {node.id for node in self._circuit.nodes}
        with self.hold_trait_notifications():
            self._take()
            self.node = self.node if self.node in known else ""
            self.pinned = [name for name in self.pinned if name in known]
            groups = [[label, *(name for name in names if name in known)] for label, *names in self.supernodes]
            self.supernodes = [group for group in groups if len(group) > 1]
            self.node_labels = {name: text for name, text in self.node_labels.items() if name in known}
            self.threshold = self._first()["threshold"]
        self.renew(self._keys())

    def _take(self) -> None:
        circuit = self._circuit
        self._tests: dict[str, Any] = {}  # by key: what came of them
        kinds = {node.kind for node in circuit.nodes}
        tested = circuit.test is not None and kinds <= {"embed", "head", "mlp", "logits"}
        facts = {
            "nodes": len(circuit.nodes),
            "edges": len(circuit.edges),
            "sent": min(_SENT, len(circuit.edges)),
            "total": circuit.total,
            "tokens": 0 if circuit.tokens is None else len(circuit.tokens),
            "heads": max((node.number or 0 for node in circuit.nodes if node.kind == "head"), default=-1) + 1,
            "metric": circuit.metric,
            "how": circuit.how,
            "test": getattr(circuit.test, "over", "nodes") if tested else "",
        }
        self._strongest = sorted(range(len(circuit.edges)), key=lambda i: -abs(circuit.edges[i].effect))
        self.set_trait("facts", facts)

    def _first(self) -> dict[str, Any]:
        """What a view of this circuit opens with."""
        edges = self._circuit.edges
        least = abs(edges[self._strongest[_SHOWN - 1]].effect) if len(edges) > _SHOWN else 0.0
        groups = [[label, *names] for label, names in self._circuit.supernodes]
        return {"threshold": least, "pinned": list(self._circuit.pinned), "supernodes": groups}

    # What is shown -----------------------------------------------------------------------------------------------

    @property
    def circuit(self) -> Circuit:
        """The circuit as shown: edges from the threshold on, the nodes they have and those pinned, groups, names."""
        kept = [*self.pinned, *(name for group in self.supernodes for name in group[1:])]
        whole = self._circuit.with_groups(self.pinned, self.supernodes).with_labels(self.node_labels)
        return whole.above(self.threshold, keep=kept)

    def to_pandas(self) -> Any:
        """A row for each edge shown, the strongest first: source, target, via, effect, low, high, and their labels."""
        edges = sorted(self.circuit.edges, key=lambda edge: -abs(edge.effect))
        names = ("source", "target", "via", "effect", "low", "high")
        columns = {name: [getattr(edge, name) for edge in edges] for name in names}
        labels = {f"{end}_label": [self.name_of(name) for name in columns[end]] for end in names[:2]}
        return frame({**columns, **labels})

    @property
    def selection(self) -> CircuitNode | None:
        """The node selected, with its effect and interval; None if there is none."""
        return self._circuit.node(self.node) if self.node else None

    def test(self) -> Any:
        """Test the nodes pinned, or shown, as the button does; a page that is saved then holds the result.

        Returns `interpwidgets.intervene.Faithfulness`. Raises InputError for a circuit without a test.
        """
        nodes = self.pinned or [node.id for node in self.circuit.nodes]
        return self._tested(nodes, len(self.circuit.edges) if self.facts["test"] == "edges" else None)

    def _tested(self, nodes: list[str], edges: int | None) -> Any:
        """The test of some nodes, and of the strongest edges if it is by edges; made once."""
        key = key_of(what="faithfulness", nodes=nodes, **({} if edges is None else {"edges": edges}))
        if key not in self._tests:
            circuit = self._circuit if edges is None else self._circuit.top(edges)
            kept = [name for name in nodes if name in circuit]
            self._tests[key] = circuit.of_nodes(kept).faithfulness()
        return self._tests[key]

    def save_graph(self, path: str | Path) -> Path:
        """Write what is shown as an attribution graph, with pins, groups and names: see `write_graph`."""
        return write_graph(self.circuit, path)

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`nodes`, `edges` (the strongest), `tokens`, or a test: `faithfulness` of some nodes."""
        what = key["what"]
        if what == "nodes":
            return Tile.of_json(self._columns())
        if what == "edges":
            return Tile(self._rows())
        if what == "tokens" and self._circuit.tokens is not None:
            return tokens_tile(self._circuit.tokens, key["chunk"])
        if what == "faithfulness":
            return Tile.of_json(self._tested(key["nodes"], key.get("edges")).to_json())
        raise InputError(f"A circuit has no tile {what!r}.")

    def _columns(self) -> dict[str, list[Any]]:
        names = ("id", "kind", "layer", "number", "pos", "label", "effect", "low", "high")
        columns: dict[str, list[Any]] = {name: [getattr(node, name) for node in self._circuit.nodes] for name in names}
        return columns | {"name": [node.spelling for node in self._circuit.nodes]}

    def _rows(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[edge, (source, target, via, effect, low, high)], the strongest first; ends are places among the nodes."""
        at = {node.id: place for place, node in enumerate(self._circuit.nodes)}
        rows = np.full((self.facts["sent"], 6), np.nan, dtype=np.float32)
        for row, number in zip(rows, self._strongest, strict=False):
            edge = self._circuit.edges[number]
            row[:4] = at[edge.source], at[edge.target], _VIAS.index(edge.via), edge.effect
            row[4:] = [np.nan if side is None else side for side in (edge.low, edge.high)]
        return rows

    def _keys(self) -> Iterator[str]:
        yield key_of(what="nodes")
        if self.facts["sent"]:
            yield key_of(what="edges")
        if self._circuit.tokens is not None:
            yield key_of(what="tokens", prompt=0, chunk=0)

    def stored_keys(self) -> Iterator[str]:
        """The circuit, and the tests that were made of it."""
        yield from self._keys()
        yield from list(self._tests)

    # Bad input, and what belongs together ----------------------------------------------------------------------------

    @traitlets.validate("node", "pinned", "supernodes", "node_labels")
    def _there(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "supernodes" and (short := [group for group in value if len(group) < 2]):
            raise traitlets.TraitError(f"A supernode is [label, node, node, …]; got {short[0]}.")
        named = {"node": [value] if value else [], "pinned": value, "node_labels": list(value)}
        names = [each for group in value for each in group[1:]] if name == "supernodes" else named[name]
        if missing := [each for each in names if each not in self._circuit]:
            raise traitlets.TraitError(f"{name}: there is no node {missing[0]!r} in {self._circuit!r}.")
        return value

    @traitlets.validate("threshold")
    def _positive(self, proposal: Any) -> float:
        if not 0 <= proposal["value"] < float("inf"):
            raise traitlets.TraitError(f"threshold is a size of effects, 0 or more; got {proposal['value']}.")
        return float(proposal["value"])

    @traitlets.observe("node")
    def _node_selected(self, _: Any) -> None:
        if node := self.selection:
            self.layer, self.head, self.position = node.layer, node.head, node.pos
            if node.kind == "feature" and node.number is not None:
                self.feature_layer, self.feature = node.layer, node.number

    @traitlets.observe("layer", "head", "position")
    def _place_selected(self, _: Any) -> None:
        """A linked view selects a head: it is selected here, if it is in the circuit."""
        here, place = self.selection, (self.layer, self.head)
        if here is not None and (here.layer, here.head) == place and here.pos in (None, self.position):
            return
        fits = [n for n in self._circuit.nodes if n.layer is not None and (n.layer, n.head) == place]
        fits = [n for n in fits if n.pos in (None, self.position)] or fits
        self.node = fits[0].id if fits else ""

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The graph with its axes and a legend."""
        from interpwidgets.views.circuit_picture import circuit_picture

        return circuit_picture(self.circuit, self.title, self.node, self.hidden())

    def hidden(self) -> str:
        """What the threshold hides, in words."""
        edges = [edge for edge in self._circuit.edges if abs(edge.effect) >= self.threshold]
        kept = sum(abs(edge.effect) for edge in edges)
        share = 100 * kept / self._circuit.total if self._circuit.total else 100.0
        return (
            f"{len(edges):,} of {len(self._circuit.edges):,} edges, {share:.1f} % of the sum of |effect|; "
            f"{len(self.circuit.nodes):,} of {len(self._circuit.nodes):,} nodes"
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The strongest edges shown; of the node selected, if there is one."""
        edges = [edge for edge in self.circuit.edges if not self.node or self.node in (edge.source, edge.target)]
        strongest = sorted(edges, key=lambda edge: -abs(edge.effect))[:12]
        return ["from", "to", "by", "effect", "95 %"], [self._row(edge) for edge in strongest]

    def _row(self, edge: CircuitEdge) -> list[str]:
        low, high = ("" if side is None else f"{side:.3g}" for side in (edge.low, edge.high))
        bounds = f"{low} … {high}" if low else ""
        return [self.name_of(edge.source), self.name_of(edge.target), edge.via, f"{edge.effect:.4g}", bounds]

    def name_of(self, name: str) -> str:
        """What a node is called: as the reader named it, as its label says, or by its place."""
        node = self._circuit.node(name)
        return self.node_labels.get(name) or node.label or node.spelling

    def describe(self) -> str:
        """What is shown, and how to read it."""
        of = f" Effects are on {self._circuit.metric}." if self._circuit.metric else ""
        return (
            f"A circuit: {self.hidden()}. Layers upwards, from the embedding to the logits; an edge is as wide as its "
            f"effect, orange for positive and blue for negative.{of}"
        )

    def __repr__(self) -> str:
        return f"CircuitView({len(self._circuit.nodes):,} nodes, {len(self._circuit.edges):,} edges)"


def _circuit_of(data: Any) -> Circuit:
    if isinstance(data, Circuit):
        return data
    if isinstance(data, (str, Path, Mapping)):
        return read_graph(data)
    raise InputError(
        "CircuitView shows a Circuit, or an attribution graph: its path, or the object in it; got "
        f"{type(data).__name__}."
    )
