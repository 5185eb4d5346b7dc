"""Attribution graphs as JSON: the format of Anthropic's viewer, circuit-tracer and Neuronpedia, read and written.

    {"metadata": {"slug", "scan", "prompt_tokens": [str], "prompt", …},
     "qParams": {"pinnedIds": [id], "supernodes": [[label, id, …]], …},
     "nodes": [{"node_id", "feature", "layer", "ctx_idx", "feature_type", "clerp", …}],
     "links": [{"source", "target", "weight"}]}

What we do not understand is kept and written again. Files are other people's: every text in them stays text, and a
name in them never leads out of the folder that it was found in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interpwidgets.circuit import Circuit, CircuitEdge, CircuitNode
from interpwidgets.errors import InputError

__all__ = ["cantor", "read_graph", "uncantor", "write_graph"]

_OURS = "interpwidgets"  # our own field of a node or a link: what the format has no word for
_TYPES = {"embedding": "embed", "logit": "logits", "mlp reconstruction error": "error", "lorsa error": "error"}
_WRITTEN = {
    "embed": "embedding", "logits": "logit", "error": "mlp reconstruction error", "feature": "cross layer transcoder",
    "head": "attention head", "mlp": "mlp", "neuron": "neuron",
}  # fmt: skip
_INDEX = "graph-metadata.json"


def read_graph(source: str | Path | Mapping[str, Any], slug: str | None = None) -> Circuit:
    """An attribution graph as a circuit, from a file, or from what `json.load` made of one.

    >>> circuit = read_graph("graphs/gpt2-fact-dallas-austin.json")
    >>> circuit = read_graph("graphs", "gpt2-fact-dallas-austin")      # a folder with graph-metadata.json

    A node's label is its `clerp`, its effect its `influence`, an edge's effect its `weight`; pinned nodes and
    supernodes come with it. A feature's number is its place in the dictionary of its layer, whether the graph names it
    so or by `cantor(layer, feature)`. Two nodes of one `node_id` (an error node may share that of a feature) stay two,
    and links belong to the first.

    Raises InputError for a file that is not such a graph, with the place and what was expected there; and for a slug
    that the folder does not list, or that leads out of it.
    """
    if isinstance(source, Mapping):
        return _circuit(source, "This graph")
    path = Path(source)
    if path.is_dir():
        path = _in_folder(path, slug)
    elif slug is not None:
        raise InputError(f"A slug chooses a graph from a folder; {path} is none.")
    return _circuit(_json(path), path.name)


def cantor(layer: int, feature: int) -> int:
    """Pair a layer and a feature into the one number that graphs use (Cantor's pairing)."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def uncantor(paired: int) -> tuple[int, int]:
    """Give back (layer, feature)."""
    if paired < 0:
        raise InputError(f"{paired} stands for no feature: paired numbers start at 0 (−1 is an error node).")
    diagonal = (math.isqrt(8 * paired + 1) - 1) // 2
    feature = paired - diagonal * (diagonal + 1) // 2
    return diagonal - feature, feature


def write_graph(circuit: Circuit, path: str | Path, *, slug: str | None = None) -> Path:
    """Write a circuit as an attribution graph that the viewers of the format open.

    Heads and MLPs, which it has no words for, are nodes of the types "attention head" and "mlp"; nodes without a
    position stand at the first.
    """
    path = Path(path)
    graph = graph_of(circuit, path.stem, {} if slug is None else {"slug": slug})
    path.write_text(json.dumps(graph, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def graph_of(circuit: Circuit, name: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The graph as plain JSON: called `name` if it has no slug yet."""
    own: dict[str, Any] = json.loads(json.dumps(circuit.extra))
    tokens = [] if circuit.tokens is None else list(map(str, _texts(circuit)))
    facts = {"schema_version": 1, "slug": name, "scan": circuit.how, "prompt": "".join(tokens)}
    params = {"linkType": "both", "clickedId": None, "sg_pos": ""} | own.get("qParams", {})
    depth = max((node.layer for node in circuit.nodes if node.layer is not None), default=-1) + 1
    names = {node.id: str(node.extra.get("node_id", node.id)) for node in circuit.nodes}
    return own | {
        "metadata": facts | own.get("metadata", {}) | {"prompt_tokens": tokens} | dict(metadata),
        "qParams": params | {
            "pinnedIds": [names[name] for name in circuit.pinned],
            "supernodes": [[label, *(names[name] for name in members)] for label, members in circuit.supernodes],
        },
        "nodes": [_node_json(node, depth) for node in circuit.nodes],
        "links": [_link_json(edge, names) for edge in circuit.edges],
    }  # fmt: skip


def _texts(circuit: Circuit) -> Sequence[str]:
    assert circuit.tokens is not None
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in circuit.tokens.text]


def _node_json(node: CircuitNode, depth: int) -> dict[str, Any]:
    if "node_id" in node.extra:  # from a file: as it was, but for what may have been changed
        return {**node.extra, **({"clerp": node.label} if node.label != (node.extra.get("clerp") or "") else {})}
    layers = {"embed": "E", "logits": str(depth)}
    return {
        "node_id": node.id, "feature": _feature_json(node), "layer": layers.get(node.kind, str(node.layer)),
        "ctx_idx": node.pos or 0, "feature_type": _WRITTEN[node.kind], "jsNodeId": node.id,
        "clerp": node.label or node.spelling, "influence": node.effect, "is_target_logit": node.kind == "logits",
        _OURS: {"kind": node.kind, "pos": node.pos, "label": node.label, "low": node.low, "high": node.high},
    }  # fmt: skip


def _feature_json(node: CircuitNode) -> int | None:
    if node.kind == "feature" and node.layer is not None and node.number is not None:
        return cantor(node.layer, node.number)
    return node.number


def _link_json(edge: CircuitEdge, names: Mapping[str, str]) -> dict[str, Any]:
    found = {**edge.extra, "source": names[edge.source], "target": names[edge.target], "weight": edge.effect}
    ours = {name: value for name in ("via", "low", "high") if (value := getattr(edge, name))}
    return {**found, _OURS: ours} if ours else found


# Reading -------------------------------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is no JSON: {error}.") from None


def _in_folder(folder: Path, slug: str | None) -> Path:
    graphs = _list(_mapping(_json(folder / _INDEX), _INDEX), "graphs", _INDEX)
    slugs = [str(each["slug"]) for each in graphs if isinstance(each, Mapping) and "slug" in each]
    if slug is None and len(slugs) == 1:
        slug = slugs[0]
    if slug not in slugs:
        raise InputError(f"{_INDEX} lists {', '.join(map(repr, slugs)) or 'no graphs'}; got slug={slug!r}.")
    for path in (folder / f"{slug}.json", folder / "graph_data" / f"{slug}.json"):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"The slug {slug!r} leads out of the folder {folder}.")
        if path.exists():
            return path
    raise InputError(f"{_INDEX} lists {slug!r}, and there is no {slug}.json in {folder}.")


def _circuit(given: Any, name: str) -> Circuit:
    graph = _mapping(given, name)
    metadata, params = (_mapping(graph.get(key) or {}, f"{name}, {key}") for key in ("metadata", "qParams"))
    tokens = _list(metadata, "prompt_tokens", f"{name}, metadata") if "prompt_tokens" in metadata else None
    if tokens is not None and not all(isinstance(token, str) for token in tokens):
        raise InputError(f"{name}, metadata: prompt_tokens is a list of strings.")
    ids: dict[str, str] = {}  # of the first node of each name
    nodes: dict[str, CircuitNode] = {}
    for i, each in enumerate(_list(graph, "nodes", name)):
        node = _node(_mapping(each, f"{name}, nodes[{i}]"), f"{name}, nodes[{i}]", nodes)
        ids.setdefault(str(each["node_id"]), node.id)
        nodes[node.id] = node
    edges = [
        _edge(_mapping(each, f"{name}, links[{i}]"), f"{name}, links[{i}]", ids)
        for i, each in enumerate(_list(graph, "links", name))
    ]
    groups = _list(params, "supernodes", f"{name}, qParams") if params.get("supernodes") else []
    pinned = _list(params, "pinnedIds", f"{name}, qParams") if params.get("pinnedIds") else []
    if bad := [group for group in groups if not isinstance(group, list) or not all(isinstance(x, str) for x in group)]:
        raise InputError(f"{name}, qParams: a supernode is [label, node_id, …]; got {bad[0]!r:.80}.")
    known = [(label, *(ids[each] for each in members if each in ids)) for label, *members in filter(None, groups)]
    try:
        return Circuit(
            nodes.values(), edges, tokens=tokens or None, metric=str(metadata.get("target", "")),
            how=str(metadata.get("scan", "") or ""), pinned=[ids[each] for each in pinned if each in ids],
            supernodes=[group for group in known if len(group) > 1],
            extra={key: value for key, value in graph.items() if key not in ("nodes", "links")},
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _node(each: Mapping[str, Any], where: str, taken: Mapping[str, CircuitNode]) -> CircuitNode:
    for key in ("node_id", "layer", "ctx_idx", "feature_type"):
        if key not in each:
            raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, each)) or 'nothing'}.")
    name, ours = str(each["node_id"]), each.get(_OURS)
    ours = ours if isinstance(ours, Mapping) else {}
    kind = str(ours.get("kind") or _TYPES.get(each["feature_type"], "feature"))
    ends = kind in ("embed", "logits")
    layer = None if ends else _whole(each["layer"], f"{where}: layer")
    pos = ours["pos"] if "pos" in ours else _whole(each["ctx_idx"], f"{where}: ctx_idx")
    feature = each.get("feature")
    own, copies = name, 1
    while own in taken:
        copies += 1
        own = f"{name} #{copies}"
    try:
        return CircuitNode(
            own, kind,
            layer=layer, number=_number_of(feature, kind, layer, name),
            pos=pos, label=str(ours.get("label", each.get("clerp") or "")),
            effect=_number(each.get("influence"), f"{where}: influence"),
            low=_number(ours.get("low"), where), high=_number(ours.get("high"), where),
            extra={} if ours else each,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{where}: {error}" if where not in str(error) else str(error)) from None


def _number_of(feature: Any, kind: str, layer: int | None, name: str) -> int | None:
    """Of a feature, its place in the dictionary of its layer; `layer_feature_pos` is what many files call a node."""
    if not isinstance(feature, int) or feature < 0:
        return None
    if kind != "feature" or re.fullmatch(rf"{layer}_{feature}_\d+", name):
        return feature
    paired, place = uncantor(feature)
    return place if paired == layer else feature


def _edge(each: Mapping[str, Any], where: str, ids: Mapping[str, str]) -> CircuitEdge:
    for key in ("source", "target"):
        if str(each.get(key)) not in ids:
            raise InputError(f"{where}: {key} is {each.get(key)!r:.80}, and no node has that node_id.")
    source, target = (ids[str(each[key])] for key in ("source", "target"))
    weight = _number(each.get("weight"), f"{where}: weight")
    if weight is None:
        raise InputError(f"{where} has no weight.")
    ours = each.get(_OURS)
    ours = ours if isinstance(ours, Mapping) else {}
    more = {key: value for key, value in each.items() if key not in ("source", "target", "weight", _OURS)}
    low, high = (_number(ours.get(key), where) for key in ("low", "high"))
    return CircuitEdge(source, target, weight, str(ours.get("via", "")), low, high, more)


def _mapping(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be an object of named fields; got {type(given).__name__}: {given!r:.60}.")
    return given


def _list(given: Mapping[str, Any], key: str, where: str) -> list[Any]:
    if not isinstance(found := given.get(key), list):
        raise InputError(f"{where} must have a list {key!r}; got {type(found).__name__}.")
    return found


def _whole(given: Any, where: str) -> int:
    """A whole number from 0 on, also one that was written as text."""
    text = str(given)
    if isinstance(given, (int, str)) and not isinstance(given, bool) and text.isdecimal() and len(text) < 10:
        return int(text)
    raise InputError(f"{where} must be a whole number from 0 on; got {given!r:.60}.")


def _number(given: Any, where: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InputError(f"{where} must be a finite number; got {given!r:.60}.")
    return float(given)
