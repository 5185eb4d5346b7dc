"""The circuit view as a still: where its nodes stand, and the edges between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from interpwidgets.circuit import Circuit, CircuitNode
from interpwidgets.tokens import Tokens
from interpwidgets.views.drawing import ACCENT, INK, LINE, MUTED, PAD, WIDTH, Drawing, Point, text_width
from interpwidgets.views.palette import lut

__all__ = ["Drawn", "circuit_picture", "grouped"]

_ROW, _BOX, _LEFT = 58, 20, 74  # pixels: between rows, of a node's box, for the names of rows
_DRAWN = 2_000  # edges, the strongest
_STEPS = 12  # straight pieces of a curve
_ARRIVES = {"": 0.0, "q": -0.3, "k": 0.0, "v": 0.3}  # from the middle of a head's box, in widths of the box


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a circuit: supernodes are nodes, and edges between the same two are one."""

    nodes: Mapping[str, CircuitNode]
    edges: Mapping[tuple[str, str, str], float]  # source, target, via: the sum of effects


def grouped(circuit: Circuit) -> Drawn:
    """Every supernode as one node, in the place of its last."""
    of = {name: label for label, members in circuit.supernodes for name in members}
    nodes: dict[str, CircuitNode] = {}
    for node in sorted(circuit.nodes, key=lambda node: node.depth):
        name = f"supernode {of[node.id]}" if node.id in of else node.id
        nodes[name] = replace(node, id=name, label=of.get(node.id, node.label))
    edges: dict[tuple[str, str, str], float] = {}
    for edge in circuit.edges:
        source, target = (f"supernode {of[name]}" if name in of else name for name in (edge.source, edge.target))
        if source != target:
            key = source, target, "" if edge.target in of else edge.via
            edges[key] = edges.get(key, 0.0) + edge.effect
    return Drawn(nodes, edges)


def circuit_picture(circuit: Circuit, title: str, selected: str, hidden: str) -> Drawing:
    """The graph: positions or heads across, layers upwards, with what it hides and what the colours mean."""
    drawn = grouped(circuit)
    rows = sorted({node.depth for node in drawn.nodes.values()})
    places, width, columns = _places(list(drawn.nodes.values()), rows)
    bottom = 64 + _ROW * max(1, len(rows))
    drawing = Drawing(WIDTH, bottom + (90 if columns else 58))
    drawing.text((PAD, 12), title, 16, width=WIDTH - 2 * PAD)
    drawing.text((PAD, 34), hidden + (f". Effects on {circuit.metric}" if circuit.metric else ""), 11, MUTED,
                 width=WIDTH - 2 * PAD)  # fmt: skip
    for row, depth in enumerate(rows):
        y = _height(row, len(rows))
        drawing.line([(_LEFT, y), (WIDTH - PAD, y)], LINE)
        drawing.text((_LEFT - 8, y - 7), _row_name(depth, drawn), 11, MUTED, anchor="end")
    strongest = sorted(drawn.edges.items(), key=lambda item: -abs(item[1]))[:_DRAWN]
    most = abs(strongest[0][1]) if strongest else 1.0
    for (source, target, via), effect in reversed(strongest):  # the strongest on top
        (x0, y0), (x1, y1) = places[source], places[target]
        curve = _curve((x0, y0 - _BOX / 2), (x1 + _ARRIVES[via] * min(width, 34), y1 + _BOX / 2))
        drawing.line(curve, _ink(effect / most), 0.6 + 4.4 * abs(effect) / most)
    for name, node in drawn.nodes.items():
        text = node.label or node.spelling.split("@")[0]
        _box(drawing, places[name], width, text, name == selected, name in circuit.pinned)
    for pos, (x, room) in columns.items():
        token = "any position" if pos is None else _token(circuit.tokens, pos)
        drawing.text((x, bottom - 4), token, 11, INK, anchor="middle", width=room - 4)
    y = drawing.height - 40
    across = "position" if columns else "heads of a layer side by side"
    drawing.text((WIDTH / 2, y - 14), across, 11, MUTED, anchor="middle")
    what = "effect of an edge; width: |effect|"
    drawing.colour_bar((PAD, y + 8), f"−{most:.3g}", f"+{most:.3g}", what, "diverging-light")
    return drawing


def _places(
    nodes: list[CircuitNode], rows: list[float]
) -> tuple[dict[str, Point], float, dict[int | None, tuple[float, float]]]:
    """The middle of each node, how wide boxes are, and of each position's column middle and width; none without."""
    room = WIDTH - PAD - _LEFT
    cells: dict[tuple[float, int | None], list[CircuitNode]] = {}
    for node in sorted(nodes, key=lambda node: (node.number or 0, node.id)):
        cells.setdefault((node.depth, node.pos), []).append(node)
    positions = sorted({pos for _, pos in cells}, key=lambda pos: -1 if pos is None else pos)
    sizes = [max(len(some) for (_, pos), some in cells.items() if pos == each) for each in positions]
    if positions in ([], [None]):  # by heads: each number has its own place
        heads = max((node.number or 0 for node in nodes if node.kind == "head"), default=0) + 1
        sizes = [max([*sizes, heads])]
    starts = [_LEFT + room * start / max(1, sum(sizes)) for start in [0, *accumulate(sizes)]]
    unit = room / max(1, sum(sizes))
    places: dict[str, Point] = {}
    for (depth, pos), some in cells.items():
        at = positions.index(pos)
        y = _height(rows.index(depth), len(rows))
        by_head = positions == [None] and some[0].kind == "head"
        for i, node in enumerate(some):
            share = ((node.number or 0) + 0.5) / sizes[0] if by_head else (i + 0.5) / len(some)
            places[node.id] = starts[at] + share * (starts[at + 1] - starts[at]), y
    columns = {pos: ((starts[i] + starts[i + 1]) / 2, sizes[i] * unit) for i, pos in enumerate(positions)}
    return places, max(6.0, min(86.0, 0.86 * unit)), {} if positions == [None] else columns


def _height(row: int, rows: int) -> float:
    return 64 + _ROW * (rows - row - 0.5)


def _row_name(depth: float, drawn: Drawn) -> str:
    some = [node for node in drawn.nodes.values() if node.depth == depth]
    if some[0].layer is None:
        return some[0].kind
    kinds = {node.kind for node in some}
    return f"L{some[0].layer} {'heads' if kinds == {'head'} else 'mlp' if kinds == {'mlp'} else ''}".strip()


def _curve(begin: Point, end: Point) -> list[Point]:
    """Upwards at both ends: a cubic curve in straight pieces."""
    (x0, y0), (x1, y1) = begin, end
    lean = max(18.0, abs(y1 - y0) / 2)
    points = []
    for step in range(_STEPS + 1):
        t = step / _STEPS
        a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        points.append(((a + b) * x0 + (c + d) * x1, a * y0 + b * (y0 - lean) + c * (y1 + lean) + d * y1))
    return points


def _ink(share: float) -> str:
    """Between a fifth and all of the colour of its sign."""
    size = 0.25 + 0.6 * abs(share)
    r, g, b = lut("diverging-light")[round(127.5 + (127 if share > 0 else -127) * size)]
    return f"#{r:02x}{g:02x}{b:02x}"


def _box(drawing: Drawing, at: Point, width: float, text: str, selected: bool, pinned: bool) -> None:
    (x, y), height = at, _BOX
    fits = width >= min(44, text_width(text, 11) + 6)
    wide = width if not fits else min(width, max(26, text_width(text, 11) + 12))
    drawing.rect((x - wide / 2, y - height / 2), (wide, height), "#ffffff" if fits else INK,
                 ACCENT if selected else INK if pinned else MUTED, 2 if selected or pinned else 1)  # fmt: skip
    if fits:
        drawing.text((x, y - 7), text, 11, INK, anchor="middle", width=wide - 6)


def _token(tokens: Tokens | None, pos: int) -> str:
    return str(pos) if tokens is None else f"{tokens[pos]} {pos}"
