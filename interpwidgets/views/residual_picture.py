"""A residual view as a still, and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from interpwidgets.errors import InterpError
from interpwidgets.views.drawing import MUTED, PAD, WIDTH, Drawing
from interpwidgets.views.plotting import Bar, bars, signed

if TYPE_CHECKING:
    from interpwidgets.views.residual import ResidualView

__all__ = ["residual_picture", "residual_table"]

_LARGEST = 16  # rows of the table
_SHOWN = 30  # bars of a column; of more, the largest


def residual_picture(view: ResidualView) -> Drawing:
    """Layers, the heads of the layer selected, and the source tokens of the head where a prompt is chosen."""
    n = view.shape[0]
    mean = f"mean over {n} prompts, lines: 95 % interval"
    columns = [_layers(view), _heads(view), _sources(view)]
    columns = [column for column in columns if column[1]]
    width = (WIDTH - PAD * (len(columns) + 1)) / len(columns)
    top = 76
    drawing = Drawing(WIDTH, top + 60 + 18 * max(len(rows) for _, rows in columns))
    drawing.text((PAD, 8), f"{view.title}: {view.measured}", 16, width=WIDTH - 2 * PAD)
    drawing.text(
        (PAD, 32), mean if view.prompt is None else _called(view, view.prompt), 12, MUTED, width=WIDTH - 2 * PAD
    )
    warning = "the direct path only, the final norm's scale held: a hypothesis, not a causal effect"
    drawing.text((PAD, 50), warning, 12, MUTED, width=WIDTH - 2 * PAD)
    for i, (axis, rows) in enumerate(columns):
        bars(drawing, (PAD + i * (width + PAD), top), width, rows, axis)
    return drawing


def residual_table(view: ResidualView) -> tuple[list[str], list[list[str]]]:
    """The largest contributions either way: embedding, heads, MLPs, the rest."""
    rows = dict(zip(view.row_names, view.rows(view.prompt), strict=True))
    total = rows.pop("total")
    parts = {name: row for name, row in rows.items() if not name.endswith("attn")}
    for layer in range(view.shape[1]):
        *heads, bias = view.heads(view.prompt, layer)
        parts |= {f"L{layer}H{head}": row for head, row in enumerate(heads)}
        parts[f"L{layer} attn bias" if not np.isnan(heads).all() else f"L{layer} attn"] = bias
    there = {name: row for name, row in parts.items() if not np.isnan(row[0]) and row[0]}
    largest = sorted(there.items(), key=lambda each: -abs(float(each[1][0])))[:_LARGEST]
    cells = [[name, signed(row[0]), _between(row)] for name, row in [*largest, ("total", total)]]
    return [f"part, writing straight to {view.measured}", "contribution", "95 % interval"], cells


def _called(view: ResidualView, prompt: int) -> str:
    return f"prompt {view.prompts[prompt] if prompt < len(view.prompts) else prompt}"


def _layers(view: ResidualView) -> tuple[str, list[Bar]]:
    rows = view.rows(view.prompt)
    found, end = [], 0.0
    for name, row in zip(view.row_names, rows, strict=True):
        value, low, high = map(float, row)
        strong = name == "total"
        start = 0.0 if strong or view.sort == "size" else end
        found.append(Bar(name, value, start, low, high, strong))
        end += 0.0 if np.isnan(value) or strong else value
    if view.sort == "size" or len(found) > 2 * _SHOWN:
        *parts, total = found
        parts = [Bar(bar.label, bar.value, 0.0, bar.low, bar.high) for bar in parts if not np.isnan(bar.value)]
        found = [*sorted(parts, key=lambda bar: -abs(bar.value))[:_SHOWN], total]
    return "by layer (logits)", found


def _heads(view: ResidualView) -> tuple[str, list[Bar]]:
    *heads, bias = view.heads(view.prompt, view.layer)
    found = [Bar(f"L{view.layer}H{head}", *_bar(row)) for head, row in enumerate(heads) if not np.isnan(row[0])]
    if not np.isnan(bias[0]) and bias[0]:
        found.append(Bar("bias" if found else f"L{view.layer} attn", *_bar(bias)))
    if view.sort == "size" or len(found) > _SHOWN:
        found = sorted(found, key=lambda bar: -abs(bar.value))[:_SHOWN]
    return f"heads of layer {view.layer} (logits)", found


def _sources(view: ResidualView) -> tuple[str, list[Bar]]:
    if view.prompt is None or view.head is None:
        return "", []
    try:
        values = view.sources(view.layer, view.head)[view.prompt]
    except InterpError:
        return "", []  # what cannot be split is not shown
    tokens = view.found.tokens[view.prompt]
    there = [i for i in range(len(tokens)) if not np.isnan(values[i])]
    largest = sorted(there, key=lambda i: -abs(float(values[i])))[:_SHOWN]
    order = largest if view.sort == "size" else sorted(largest)
    shown = "" if len(order) == len(there) else f", the {len(order)} largest of {len(there):,}"
    found = [Bar(f"{i}: {tokens[i]}", float(values[i])) for i in order]
    return f"L{view.layer}H{view.head} by source token{shown} (logits)", found


def _bar(row: np.ndarray) -> tuple[float, float, float, float]:
    value, low, high = map(float, row)
    return value, 0.0, low, high


def _between(row: np.ndarray) -> str:
    _, low, high = map(float, row)
    return "" if np.isnan(low) else f"{signed(low)} … {signed(high)}"
