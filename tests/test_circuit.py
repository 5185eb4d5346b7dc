"""Circuits as values, and attribution graphs as files."""

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import interpwidgets as iw
from interpwidgets.circuit import Circuit, CircuitEdge, CircuitNode
from interpwidgets.errors import InputError

RNG = np.random.default_rng()
IOI = [("embed", "L0H1"), ("L0H1", "L1H2", 0.8, "v"), ("L1H2", "L2H0", -0.5, "q"), ("L2H0", "logits", 2.0)]


@pytest.mark.parametrize(
    ("text", "kind", "layer", "number", "pos"),
    [
        ("embed", "embed", None, None, None),
        ("L1H6", "head", 1, 6, None),
        ("l12h0@7", "head", 12, 0, 7),
        ("head 1.6", "head", 1, 6, None),
        ("L0 mlp", "mlp", 0, None, None),
        ("mlp 3@2", "mlp", 3, None, 2),
        ("L0 neuron 12", "neuron", 0, 12, None),
        ("L3 feature 7@0", "feature", 3, 7, 0),
        ("L3 error", "error", 3, None, None),
        ("logits@4", "logits", None, None, 4),
    ],
)
def test_spellings(text, kind, layer, number, pos):
    node = CircuitNode.of(text)
    assert (node.kind, node.layer, node.number, node.pos) == (kind, layer, number, pos)
    assert CircuitNode.of(node.id) == node
    assert node.head == (number if kind == "head" else None)


@pytest.mark.parametrize("text", ["", "L1", "H6", "L1H", "head 1", "resid", "L1H6@", "L1H6@-1", "embed 3", "<b>"])
def test_what_names_no_node(text):
    with pytest.raises(InputError, match="names no node"):
        CircuitNode.of(text)


def test_a_circuit_by_hand():
    circuit = Circuit(edges=IOI)
    assert [node.id for node in circuit.nodes] == ["embed", "L0H1", "L1H2", "L2H0", "logits"]
    assert circuit.total == pytest.approx(1 + 0.8 + 0.5 + 2)
    assert [edge.source for edge in circuit.into("L1H2")] == ["L0H1"]
    assert [edge.effect for edge in circuit.out_of("L1H2")] == [-0.5]
    assert "L1H2" in circuit
    assert "L1H3" not in circuit
    assert len(circuit) == 5
    assert repr(circuit) == "Circuit(5 nodes, 4 edges)"
    assert repr(Circuit(edges=IOI, how="by hand")) == "Circuit(5 nodes, 4 edges; by hand)"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Circuit(["L0H1", "L0H1"]), "Two nodes are called 'L0H1'"),
        (lambda: Circuit(edges=[("L1H0", "L0H1")]), "L1H0 → L0H1: a model does not compute L0H1 after L1H0"),
        (lambda: Circuit(edges=[("L0H0", "L0H1")]), "does not compute L0H1 after L0H0"),
        (lambda: Circuit(edges=[("logits", "embed")]), "does not compute embed after logits"),
        (lambda: Circuit(edges=[("L0H1", "L0H1")]), "from 'L0H1' to itself"),
        (lambda: Circuit(edges=[("L0H1", "L0 mlp", 1.0, "q")]), "arrives by 'q', which only a head has"),
        (lambda: Circuit(edges=[("L0H1", "L1H1", 1.0, "z")]), "by q, k or v of a head, or by ''; got via='z'"),
        (lambda: Circuit(edges=[("L0H1", "L1H1", math.nan)]), "a finite number; got nan"),
        (lambda: Circuit(edges=[("L0H1", "L1H1", "big")]), "a finite number; got 'big'"),
        (lambda: Circuit(edges=["L0H1 → L1H1"]), r"An edge is \(source, target\)"),
        (lambda: Circuit(edges=[("L0H1",)]), r"An edge is \(source, target\)"),
        (lambda: Circuit(edges=[CircuitEdge("a", "L1H1")]), "An edge names 'a', and no node is called that"),
        (lambda: Circuit(["L0H1@3"], tokens=["a", "b"]), "'L0H1@3' is at position 3; there are 2 tokens"),
        (lambda: Circuit(["L0H1"], pinned=["L9H9"]), r"There is no node 'L9H9' \(pinned\). There are: L0H1"),
        (lambda: Circuit(["L0H1"], supernodes=[["x"]]), r"A supernode is \[label, node, node, …\]; got \['x'\]"),
        (lambda: Circuit(["L0H1"], supernodes=[["x", "L9H9"]]), "There is no node 'L9H9'"),
        (lambda: Circuit().node("L0H1"), "There is no node 'L0H1' .*There are: none"),
        (lambda: Circuit(["L0H1"]).with_labels({"L9H9": "x"}), "There is no node 'L9H9'"),
        (lambda: Circuit(["L0H1"]).of_nodes(["L9H9"]), "There is no node 'L9H9'"),
        (lambda: Circuit(edges=IOI).faithfulness(), "does not say how to test it"),
        (lambda: CircuitNode("x", "soul"), "A node is one of embed, head, .*'x' is 'soul'"),
    ],
)
def test_what_is_no_circuit(make, says):
    with pytest.raises(InputError, match=says):
        make()


def random_circuit(rng, layers=4, heads=3, chance=0.4):
    nodes = ["embed", *(f"L{at}H{head}" for at in range(layers) for head in range(heads)), "logits"]
    nodes = [CircuitNode.of(name) for name in nodes]
    edges = [
        CircuitEdge(a.id, b.id, float(rng.normal()))
        for a in nodes
        for b in nodes
        if a.depth < b.depth and rng.random() < chance
    ]
    return Circuit(nodes, edges)


def test_a_pruned_circuit_is_every_path_from_embed_to_logits():
    for _ in range(20):
        circuit = random_circuit(RNG, chance=0.15)
        on: dict[str, list[str]] = {}
        for edge in circuit.edges:
            on.setdefault(edge.source, []).append(edge.target)

        def paths(name, on=on):
            if name == "logits":
                return [[name]]
            return [[name, *rest] for after in on.get(name, []) for rest in paths(after)]

        found = paths("embed")
        pruned = circuit.pruned()
        assert {node.id for node in pruned.nodes} == {name for path in found for name in path}
        steps = {pair for path in found for pair in pairwise(path)}
        assert {(edge.source, edge.target) for edge in pruned.edges} == steps


def test_thresholds_and_tops():
    circuit = random_circuit(RNG)
    sizes = sorted((abs(edge.effect) for edge in circuit.edges), reverse=True)
    top = circuit.top(5)
    assert sorted((abs(edge.effect) for edge in top.edges), reverse=True) == sizes[:5]
    assert circuit.above(sizes[4]).edges == top.edges
    assert {node.id for node in top.nodes} == {name for edge in top.edges for name in (edge.source, edge.target)}
    assert "embed" in circuit.above(math.inf, keep=["embed"])
    assert len(circuit.above(math.inf)) == 0
    assert circuit.top(0).edges == ()


def test_groups_and_pins_go_with_their_nodes():
    circuit = Circuit(edges=IOI, pinned=["L0H1", "L2H0"], supernodes=[["movers", "L1H2", "L2H0"], ["first", "L0H1"]])
    some = circuit.of_nodes(["L2H0", "logits"])
    assert some.pinned == ("L2H0",)
    assert some.supernodes == (("movers", ("L2H0",)),)
    assert [(edge.source, edge.target) for edge in some.edges] == [("L2H0", "logits")]
    named = circuit.with_labels({"L1H2": "<b>s-inhibition</b>"})
    assert named.node("L1H2").label == "<b>s-inhibition</b>"
    assert named.supernodes == circuit.supernodes
    assert circuit.node("L1H2").label == ""


# Attribution graphs --------------------------------------------------------------------------------------------------

texts = st.text(max_size=12)
extras = st.dictionaries(st.sampled_from(["jsNodeId", "token_prob", "run_idx", "strange field"]), texts, max_size=3)


@st.composite
def graphs(draw):
    """A file as circuit-tracer and Neuronpedia write it, with fields that nobody announced."""
    tokens = draw(st.lists(texts, min_size=1, max_size=5))
    types = ["cross layer transcoder", "mlp reconstruction error", "embedding", "logit", "lorsa"]
    nodes = []
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(types))
        layer = {"embedding": "E", "logit": "27"}.get(kind, draw(st.sampled_from(["0", "11", 3])))
        node = {
            "node_id": f"{layer}_{i}_{draw(st.integers(0, 2))}", "feature": draw(st.none() | st.integers(-1, 10**9)),
            "layer": layer, "ctx_idx": draw(st.integers(0, len(tokens) - 1)), "feature_type": kind,
        }  # fmt: skip
        if draw(st.booleans()):
            node["clerp"] = draw(texts)
        if draw(st.booleans()):
            node["influence"] = draw(st.floats(-1, 1))
        nodes.append({**draw(extras), **node})
    ids = [node["node_id"] for node in nodes]
    kinds = {node["node_id"]: node["feature_type"] for node in reversed(nodes)}  # of the first of each name
    links = [
        {"source": a, "target": b, "weight": draw(st.floats(-5, 5)), **draw(extras)}
        for a, b in draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=8))
        if a != b and kinds[a] != "logit" and kinds[b] != "embedding"
    ]
    pinned = draw(st.lists(st.sampled_from(ids), unique=True, max_size=3))
    return {
        "metadata": {"slug": "a-b", "scan": "gemma", "prompt_tokens": tokens, "prompt": "", "schema_version": 1,
                     "info": {"creator_name": draw(texts)}},
        "qParams": {"pinnedIds": pinned, "supernodes": [[draw(texts), *pinned]] if pinned else [], "linkType": "both",
                    "clickedId": None, "sg_pos": ""},
        "nodes": nodes, "links": links, "qk_only_nodes": {},
    }  # fmt: skip


@given(graphs())
def test_a_graph_comes_back_as_it_was(tmp_path_factory, graph):
    folder = tmp_path_factory.mktemp("graphs")
    (folder / "in.json").write_text(json.dumps(graph))
    circuit = iw.read_graph(folder / "in.json")
    assert len(circuit.nodes) == len(graph["nodes"])
    assert [edge.effect for edge in circuit.edges] == [link["weight"] for link in graph["links"]]
    iw.write_graph(circuit, folder / "out.json")
    assert json.loads((folder / "out.json").read_text()) == graph


def test_a_graph_is_read(tmp_path):
    graph = {
        "metadata": {"slug": "austin", "scan": "gemma-2-2b", "prompt_tokens": ["<bos>", " Dallas"], "prompt": "…"},
        "qParams": {"pinnedIds": ["5_77_1", "gone"], "supernodes": [["Texas", "5_77_1"], ["lost", "gone"]]},
        "nodes": [
            {"node_id": "E_9_1", "feature": 9, "layer": "E", "ctx_idx": 1, "feature_type": "embedding", "clerp": "Emb"},
            {"node_id": "5_77_1", "feature": 77, "layer": "5", "ctx_idx": 1, "clerp": "<script>alert(1)</script>",
             "feature_type": "cross layer transcoder", "influence": 0.25},
            {"node_id": "0_5_1", "feature": -1, "layer": "5", "ctx_idx": 1, "feature_type": "mlp reconstruction error"},
            {"node_id": "0_5_1", "feature": 5, "layer": "0", "ctx_idx": 1, "feature_type": "cross layer transcoder"},
            {"node_id": "27_4_1", "feature": 4, "layer": "27", "ctx_idx": 1, "feature_type": "logit"},
        ],
        "links": [{"source": "E_9_1", "target": "5_77_1", "weight": 1.5}, {"source": "0_5_1", "target": "27_4_1",
                                                                            "weight": -2}],
    }  # fmt: skip
    circuit = iw.read_graph(graph)
    assert [node.kind for node in circuit.nodes] == ["embed", "feature", "error", "feature", "logits"]
    feature = circuit.node("5_77_1")
    assert (feature.layer, feature.number, feature.pos, feature.effect) == (5, 77, 1, 0.25)
    assert feature.label == "<script>alert(1)</script>"
    assert circuit.node("0_5_1").kind == "error"  # the first of the two that share an id
    assert circuit.node("0_5_1 #2").layer == 0
    assert circuit.node("27_4_1").layer is None
    assert list(circuit.tokens) == ["<bos>", "␣Dallas"]
    assert circuit.pinned == ("5_77_1",)
    assert circuit.supernodes == (("Texas", ("5_77_1",)),)
    assert [(edge.source, edge.effect) for edge in circuit.edges] == [("E_9_1", 1.5), ("0_5_1", -2.0)]
    written = json.loads(iw.write_graph(circuit, tmp_path / "x.json", slug="mine").read_text())
    assert written["metadata"]["slug"] == "mine"
    assert [node["node_id"] for node in written["nodes"]] == [node["node_id"] for node in graph["nodes"]]
    renamed = iw.write_graph(circuit.with_labels({"5_77_1": "Texas"}), tmp_path / "y.json")
    assert json.loads(renamed.read_text())["nodes"][1]["clerp"] == "Texas"


def test_a_circuit_of_heads_is_written_and_read_again(tmp_path):
    edges = [
        ("embed@0", "L0H1@1", 0.5, "q"),
        CircuitEdge("L0H1@1", "L0 mlp", -1.25, "", -2.0, -0.5),
        ("L0 mlp", "logits"),
    ]
    nodes = [CircuitNode("L0H1@1", "head", 0, 1, 1, "copies </script>", 0.3, 0.1, 0.5)]
    circuit = Circuit(nodes, edges, tokens=["a", "<img src=x onerror=alert(1)>"], pinned=["L0 mlp"], how="by hand",
                      supernodes=[["both", "L0H1@1", "L0 mlp"]])  # fmt: skip
    path = iw.write_graph(circuit, tmp_path / "heads.json")
    again = iw.read_graph(path)
    assert again.nodes == circuit.nodes
    assert again.edges == circuit.edges
    assert (again.pinned, again.supernodes, again.how) == (circuit.pinned, circuit.supernodes, "by hand")
    assert list(again.tokens) == list(circuit.tokens)
    plain = json.loads(path.read_text())
    assert plain["nodes"][0].keys() >= {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}


NODE = {"node_id": "1_2_0", "layer": "1", "ctx_idx": 0, "feature_type": "cross layer transcoder"}


def graph_with(**changes):
    return {"nodes": [dict(NODE)], "links": [], **changes}


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ([], "This graph must be an object of named fields; got list"),
        ({}, "This graph must have a list 'nodes'; got NoneType"),
        ({"nodes": []}, "must have a list 'links'"),
        (graph_with(nodes=[3]), r"nodes\[0\] must be an object"),
        (graph_with(nodes=[{**NODE}, {"layer": 1}]), r"nodes\[1\] has no 'node_id'; it has 'layer'"),
        (graph_with(nodes=[{**NODE, "layer": "x"}]), r"nodes\[0\]: layer must be a whole number from 0 on; got 'x'"),
        (graph_with(nodes=[{**NODE, "ctx_idx": -1}]), "ctx_idx must be a whole number from 0 on; got -1"),
        (graph_with(nodes=[{**NODE, "ctx_idx": True}]), "ctx_idx must be a whole number"),
        (graph_with(nodes=[{**NODE, "ctx_idx": "9" * 999}]), "ctx_idx must be a whole number"),
        (graph_with(nodes=[{**NODE, "influence": "much"}]), "influence must be a finite number; got 'much'"),
        (graph_with(nodes=[{**NODE, "interpwidgets": {"kind": "soul"}}]), "A node is one of"),
        (graph_with(links=[{"source": "1_2_0", "target": "q"}]), r"links\[0\]: target is 'q', and no node has that"),
        (graph_with(links=[{"target": "1_2_0", "weight": 1}]), r"links\[0\]: source is None"),
        (graph_with(links=[{"source": "1_2_0", "target": "1_2_0", "weight": 1}]), "from '1_2_0' to itself"),
        (graph_with(metadata={"prompt_tokens": [1]}), "prompt_tokens is a list of strings"),
        (graph_with(metadata={"prompt_tokens": "abc"}), "must have a list 'prompt_tokens'; got str"),
        (
            graph_with(metadata={"prompt_tokens": ["a"]}, nodes=[{**NODE, "ctx_idx": 4}]),
            "position 4; there are 1 tokens",
        ),
        (graph_with(qParams={"supernodes": ["x"]}), "a supernode is"),
        (graph_with(qParams={"supernodes": [["x", 3]]}), "a supernode is"),
        (graph_with(qParams=[1]), "qParams must be an object"),
    ],
)
def test_files_that_are_no_graph_say_where(tmp_path, graph, says):
    with pytest.raises(InputError, match=says):
        iw.read_graph(graph) if isinstance(graph, dict) else iw.read_graph(
            written(tmp_path, graph).with_name("This graph")
        )


def written(folder: Path, graph) -> Path:
    (folder / "This graph").write_text(json.dumps(graph))
    return folder / "x"


def test_weights_that_are_missing_or_no_number():
    two = [{**NODE}, {**NODE, "node_id": "2_2_0", "layer": 2}]
    for weight, says in (
        (None, "has no weight"),
        ("1", "must be a finite number"),
        (math.inf, "must be a finite number"),
    ):
        with pytest.raises(InputError, match=says):
            iw.read_graph(graph_with(nodes=two, links=[{"source": "1_2_0", "target": "2_2_0", "weight": weight}]))


def test_a_folder_of_graphs_is_not_left(tmp_path):
    folder = tmp_path / "graphs"
    folder.mkdir()
    (tmp_path / "secret.json").write_text(json.dumps(graph_with()))
    (folder / "one.json").write_text(json.dumps(graph_with()))
    index = {"graphs": [{"slug": "one"}, {"slug": "../secret"}, {"slug": str(tmp_path / "secret")}, {"slug": "gone"}]}
    (folder / "graph-metadata.json").write_text(json.dumps(index))
    assert len(iw.read_graph(folder, "one").nodes) == 1
    for slug in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(InputError, match="leads out of the folder"):
            iw.read_graph(folder, slug)
    (folder / "linked.json").symlink_to(tmp_path / "secret.json")
    (folder / "graph-metadata.json").write_text(json.dumps({"graphs": [{"slug": "linked"}]}))
    with pytest.raises(InputError, match="leads out of the folder"):
        iw.read_graph(folder)  # the only one there is
    (folder / "graph-metadata.json").write_text(json.dumps(index))
    for slug, says in ((None, "lists 'one', "), ("two", "got slug='two'"), ("gone", "there is no gone.json")):
        with pytest.raises(InputError, match=says):
            iw.read_graph(folder, slug)
    with pytest.raises(InputError, match="A slug chooses a graph from a folder"):
        iw.read_graph(folder / "one.json", "one")
    with pytest.raises(InputError, match="There is no file"):
        iw.read_graph(folder / "none.json")
    (folder / "bad.json").write_text("{" * random.randrange(1, 2_000))
    with pytest.raises(InputError, match=r"bad.json is no JSON"):
        iw.read_graph(folder / "bad.json")


@pytest.mark.parametrize("layer", [0, 3, 17])
def test_a_feature_is_known_by_its_place_in_the_dictionary_of_its_layer(tmp_path, layer):
    place = int(np.random.default_rng().integers(0, 100_000))
    diagonal = layer + place
    paired = diagonal * (diagonal + 1) // 2 + place  # Cantor's pairing, by hand
    common = {"layer": str(layer), "ctx_idx": 1, "feature_type": "cross layer transcoder"}
    nodes = [
        {"node_id": f"{layer}_{place}_1", "feature": paired, **common},
        {"node_id": "other", "feature": paired, **common},
        {"node_id": f"{layer}_{paired}_1", "feature": paired, **common},  # it calls itself by the whole number
    ]
    circuit = iw.read_graph({"metadata": {}, "nodes": nodes, "links": []})
    assert [node.number for node in circuit.nodes] == [place, place, paired]
    own = iw.Circuit(nodes=[f"L{layer} feature {place}"], edges=[])
    iw.write_graph(own, tmp_path / "own.json")
    (written,) = json.loads((tmp_path / "own.json").read_text())["nodes"]
    assert written["feature"] == paired
    (again,) = iw.read_graph(tmp_path / "own.json").nodes
    assert (again.layer, again.number) == (layer, place)
