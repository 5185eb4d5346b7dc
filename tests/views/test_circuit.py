"""The circuit view in Python: what it shows of a circuit, what travels, and how it refuses."""

import json
import re
from random import Random

import numpy as np
import pytest
import traitlets
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.circuit import Circuit, CircuitEdge, CircuitNode
from interpwidgets.errors import InputError
from interpwidgets.views import AttentionView, CircuitView, circuit_picture
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
HOSTILE = ["<img src=x onerror=alert(1)>", "</script>", "\u202eleft", "new\nline"]


def some_circuit(positions=True):
    """A random circuit over four positions, with hostile labels."""
    nodes = [CircuitNode.of(f"embed@{pos}") for pos in range(4)] if positions else [CircuitNode.of("embed")]
    for layer in range(3):
        for head in range(3):
            pos = int(RNG.integers(4)) if positions else None
            name = f"L{layer}H{head}" + ("" if pos is None else f"@{pos}")
            nodes.append(CircuitNode(name, "head", layer, head, pos, HOSTILE[head], float(RNG.normal()), -1.0, 1.0))
    nodes.append(CircuitNode.of("logits@3" if positions else "logits"))
    edges = [
        CircuitEdge(
            a.id, b.id, float(RNG.normal()), str(RNG.choice(["q", "k", "v"])) if b.kind == "head" else "", -2, 2
        )
        for a in nodes
        for b in nodes
        if a.depth < b.depth and RNG.random() < 0.5
    ]
    return Circuit(nodes, edges, tokens=HOSTILE if positions else None, metric="logit difference")


@pytest.fixture(params=[True, False], ids=["positions", "heads"])
def circuit(request):
    return some_circuit(request.param)


@pytest.fixture
def view(circuit):
    return CircuitView(circuit)


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def as_json(view, **key):
    return json.loads(bytes(ask(view, **key)))


def test_what_travels_is_the_circuit(view, circuit):
    nodes = as_json(view, what="nodes")
    assert nodes["id"] == [node.id for node in circuit.nodes]
    assert nodes["label"] == [node.label for node in circuit.nodes]
    assert nodes["pos"] == [node.pos for node in circuit.nodes]
    rows = ask(view, what="edges")
    assert rows.dtype == np.float32
    assert (np.diff(np.abs(rows[:, 3])) <= 0).all()
    sent = {
        (nodes["id"][int(a)], nodes["id"][int(b)], ["", "q", "k", "v"][int(via)], effect)
        for a, b, via, effect, *_ in rows
    }
    assert sent == {(edge.source, edge.target, edge.via, np.float32(edge.effect)) for edge in circuit.edges}
    np.testing.assert_array_equal(rows[:, 4:], np.tile([-2, 2], (len(rows), 1)))
    if circuit.tokens is not None:
        assert as_json(view, what="tokens", prompt=0, chunk=0)["text"] == list(circuit.tokens)
    else:
        with pytest.raises(InputError, match="no tile 'tokens'"):
            view.tile(what="tokens", prompt=0, chunk=0)
    with pytest.raises(InputError, match="no tile 'soul'"):
        view.tile(what="soul")


def test_a_threshold_hides_edges_and_then_nodes(view, circuit):
    sizes = sorted((abs(edge.effect) for edge in circuit.edges), reverse=True)
    view.threshold = sizes[3]
    assert {abs(edge.effect) for edge in view.circuit.edges} == set(sizes[:4])
    ends = {name for edge in view.circuit.edges for name in (edge.source, edge.target)}
    assert {node.id for node in view.circuit.nodes} == ends
    share = 100 * sum(sizes[:4]) / sum(sizes)
    assert f"4 of {len(sizes)} edges, {share:.1f} %" in view.hidden()
    assert f"{len(ends)} of {len(circuit.nodes)} nodes" in view.describe()
    lonely = next(node.id for node in circuit.nodes if node.id not in ends)
    view.pinned = [lonely]
    assert lonely in view.circuit
    assert view.circuit.pinned == (lonely,)


def test_a_large_circuit_opens_with_its_strongest_edges():
    heads = [f"L{layer}H{head}" for layer in range(6) for head in range(4)]
    nodes = [CircuitNode.of(name) for name in heads]
    edges = [CircuitEdge(a.id, b.id, float(RNG.normal())) for a in nodes for b in nodes if a.depth < b.depth]
    view = CircuitView(Circuit(nodes, edges))
    assert len(edges) > 150
    assert len(view.circuit.edges) == 150
    assert view.state() == "CircuitView?"
    assert {*view.circuit.edges} == {*Circuit(nodes, edges).top(150).edges}


def test_pins_names_and_groups_come_back(view, circuit, tmp_path):
    a, b, c = [node.id for node in circuit.nodes if node.kind == "head"][:3]
    view.pinned, view.supernodes, view.node_labels = [a, b], [["movers </script>", a, b]], {c: "s-inhibition"}
    shown = view.circuit
    assert shown.supernodes == (("movers </script>", (a, b)),)
    assert shown.node(a).label == circuit.node(a).label
    assert c not in shown or shown.node(c).label == "s-inhibition"
    assert view.name_of(c) == "s-inhibition"
    again = iw.read_graph(view.save_graph(tmp_path / "graph.json"))
    assert again.nodes == shown.nodes
    assert again.edges == shown.edges
    assert (again.pinned, again.supernodes) == (shown.pinned, shown.supernodes)
    reopened = CircuitView(tmp_path / "graph.json")
    assert (reopened.pinned, reopened.supernodes) == (view.pinned, view.supernodes)


def test_a_node_and_its_place_are_selected_together(view, circuit):
    node = next(node for node in circuit.nodes if node.kind == "head")
    view.node = node.id
    assert (view.layer, view.head, view.position) == (node.layer, node.number, node.pos)
    assert view.selection == node
    last = circuit.nodes[-1]
    view.node = last.id
    assert (view.layer, view.head) == (None, None)
    view.node = ""
    assert view.selection is None


def test_a_head_selected_elsewhere_is_selected_here():
    circuit = some_circuit(False)
    attention = AttentionView(np.full((3, 3, 4, 4), 0.25), tokens=["a", "b", "c", "d"])
    view = CircuitView(circuit)
    iw.link(attention, view)
    attention.layer, attention.head = 2, 1
    assert view.node == "L2H1"
    view.node = "L1H2"
    assert (attention.layer, attention.head) == (1, 2)
    small = CircuitView(circuit.of_nodes(["embed", "L1H2", "logits"]))
    small.layer, small.head = 1, 2
    assert small.node == "L1H2"
    small.head = 0
    assert small.node == ""  # not in this circuit


def test_a_view_opens_again_as_it_was(view, circuit):
    head = next(node.id for node in circuit.nodes if node.kind == "head")
    view.node, view.threshold, view.search, view.pinned = head, 0.5, "x", [head]
    view.node_labels = {head: HOSTILE[0]}
    again = CircuitView.from_state(view.state(), circuit)
    for name in ("node", "layer", "head", "position", "threshold", "search", "pinned", "node_labels"):
        assert getattr(again, name) == getattr(view, name)
    for name in CircuitView.settings():
        assert name in view.keys, f"{name} does not travel"


def test_other_data_keeps_what_still_exists():
    circuit = some_circuit(False)
    view = CircuitView(circuit, node="L1H1", pinned=["L1H1", "L2H2"], node_labels={"L2H2": "x", "L1H1": "y"},
                       supernodes=[["both", "L1H1", "L2H2"]])  # fmt: skip
    version = view._version
    view.show(circuit.of_nodes([node.id for node in circuit.nodes if node.id != "L2H2"]))
    assert view._version == version + 1
    assert (view.node, view.pinned, view.node_labels) == ("L1H1", ["L1H1"], {"L1H1": "y"})
    assert view.supernodes == [["both", "L1H1"]]
    assert view.facts["nodes"] == len(circuit.nodes) - 1
    view.show(Circuit(edges=[("embed", "logits")]))
    assert (view.node, view.pinned, view.supernodes) == ("", [], [])


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("node", "L9H9", r"node: there is no node 'L9H9' in Circuit\("),
        ("pinned", ["L9H9"], "pinned: there is no node 'L9H9'"),
        ("supernodes", [["x"]], r"A supernode is \[label, node, node, …\]; got \['x'\]"),
        ("supernodes", [["x", "L9H9"]], "supernodes: there is no node 'L9H9'"),
        ("node_labels", {"L9H9": "x"}, "node_labels: there is no node 'L9H9'"),
        ("threshold", -1, "threshold is a size of effects, 0 or more; got -1"),
        ("threshold", float("nan"), "threshold is a size of effects"),
    ],
)
def test_settings_that_are_refused(view, circuit, setting, value, says):
    with pytest.raises(traitlets.TraitError, match=says):
        CircuitView(circuit, **{setting: value})
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, setting, value)
    assert getattr(view, setting) == before


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "CircuitView shows a Circuit, or an attribution graph: .*got int"),
        ({"nodes": 3}, "This graph must have a list 'nodes'"),
        ("nowhere.json", "There is no file nowhere.json"),
    ],
)
def test_data_that_is_refused(data, says):
    with pytest.raises(InputError, match=says):
        CircuitView(data)


def test_an_empty_circuit_is_shown():
    view = CircuitView(Circuit())
    assert view.circuit.nodes == ()
    assert view.table() == (["from", "to", "by", "effect", "95 %"], [])
    assert len(view.picture().png()) > 100


# A test that runs the model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    from interpwidgets.models.train.known.ioi import IOI

    rng = Random(int(RNG.integers(2**31)))
    pairs = [IOI.pairs["giver"](rng, "heldout") for _ in range(4)]
    right, wrong = ([IOI.answer(pair[side]) for pair in pairs] for side in (0, 1))
    clean, corrupted = ([pair[side].text for pair in pairs] for side in (0, 1))
    model = iw.load("ioi-known")
    return iw.edge_attribution(model, clean, corrupted, iw.logit_diff(right, wrong)), model, clean, corrupted


def test_everything_outside_the_nodes_shown_is_ablated(known):
    circuit, model, clean, corrupted = known
    view = CircuitView(circuit)
    assert view.facts["test"] == "nodes"
    nodes = ["embed", "L0H1", "L1H2", "L2H0", "logits"]
    told = as_json(view, what="faithfulness", nodes=nodes)
    real = iw.faithfulness(model, clean, Circuit(nodes), circuit.test.metric, reference=corrupted, ablate="patch")
    assert told == json.loads(json.dumps(real.to_json()))
    assert told["size"] == 3
    assert len(told["kept"]["control"]) == 20
    stored = [key for key in view.stored_keys() if "faithfulness" in key]
    assert stored == [key_of(what="faithfulness", nodes=nodes)]
    view.pinned = nodes
    assert view.test().to_json() == real.to_json()
    assert [key for key in view.stored_keys() if "faithfulness" in key] == stored  # as the button asks for it
    view.show(circuit)
    assert [key for key in view.stored_keys() if "faithfulness" in key] == []
    assert CircuitView(Circuit(edges=[("embed", "logits")])).facts["test"] == ""


def test_a_test_by_edges_is_of_the_edges_shown(known):
    circuit, model, clean, corrupted = known
    test = iw.CircuitTest(model, clean, circuit.test.metric, reference=corrupted, ablate="patch", over="edges", draws=0)
    view = CircuitView(circuit.with_test(test))
    assert view.facts["test"] == "edges"
    view.threshold = 0.5
    nodes, count = [node.id for node in view.circuit.nodes], len(view.circuit.edges)
    assert 0 < count < len(circuit.edges)
    told = as_json(view, what="faithfulness", nodes=nodes, edges=count)
    assert (told["what"], told["size"]) == ("edges", count)
    assert view.test().to_json() == told
    assert len([key for key in view.stored_keys() if "faithfulness" in key]) == 1


# Without a page ------------------------------------------------------------------------------------------------------


def test_the_still_tells_what_is_shown(view, circuit, tmp_path):
    node = next(node for node in circuit.nodes if node.kind == "head" and (circuit.into(node.id)))
    view.node = node.id
    headings, rows = view.table()
    assert headings == ["from", "to", "by", "effect", "95 %"]
    own = sorted(circuit.into(node.id) + circuit.out_of(node.id), key=lambda edge: -abs(edge.effect))
    assert [row[3] for row in rows] == [f"{edge.effect:.4g}" for edge in own[:12]]
    assert rows[0][4] == "-2 … 2"
    svg = view.save_svg(tmp_path / "x.svg").read_text()
    assert "<img" not in svg
    assert "</script>" not in svg
    assert "effect of an edge" in svg
    assert ("position" in svg) == (circuit.tokens is not None)
    assert svg.count("<polyline") >= len(view.circuit.edges)
    assert view.save_png(tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    still = view.still()
    assert "<img src=x" not in still
    assert "CircuitView(" in repr(view)
    assert "0x" not in repr(view)


def test_a_supernode_is_drawn_as_one():
    circuit = Circuit(
        edges=[("embed", "L0H0", 1.0), ("embed", "L0H1", 2.0), ("L0H0", "L1H0", 3.0, "q"), ("L0H1", "L1H0", -1.0, "q"),
               ("L0H0", "logits", 5.0)],
        supernodes=[["pair", "L0H0", "L0H1"]],
    )  # fmt: skip
    drawn = circuit_picture.grouped(circuit)
    assert {node.label or node.id for node in drawn.nodes.values()} == {"embed", "pair", "L1H0", "logits"}
    assert drawn.edges == {
        ("embed", "supernode pair", ""): 3.0,
        ("supernode pair", "L1H0", "q"): 2.0,
        ("supernode pair", "logits", ""): 5.0,
    }


def test_a_page_holds_the_circuit_and_no_markup_of_it(view, circuit, tmp_path):
    page = view.save_html(tmp_path / "x.html").read_text()
    assert "<img src=x" not in page
    data = json.loads(re.search(r'id="iw-data">(.*?)</script>', page, re.S)[1])
    state = data["views"][0]["state"]
    assert state["_live"] is False
    kinds = [json.loads(entry["key"])["what"] for entry in state["_opening"]]
    assert kinds == ["nodes", "edges", *(["tokens"] if circuit.tokens is not None else [])]


def test_a_graph_of_twenty_thousand_edges_fits_a_tile():
    count = 1_000
    nodes = [{"node_id": f"{i % 25}_{i}_0", "layer": i % 25, "ctx_idx": i % 9, "feature_type": "cross layer transcoder",
              "clerp": "a label of some length"} for i in range(count)]  # fmt: skip
    pairs = RNG.integers(count, size=(2, 20_000))
    links = [
        {"source": nodes[a]["node_id"], "target": nodes[b]["node_id"], "weight": 1.0} for a, b in pairs.T if a != b
    ]
    view = CircuitView({"nodes": nodes, "links": links})
    for key in view.stored_keys():
        meta, _ = view.packed(key)
        assert np.prod(meta["shape"]) * (4 if meta["kind"] == "f4" else 1) < 1_000_000
    assert view.facts["sent"] == len(links)
