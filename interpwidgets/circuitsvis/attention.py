"""Attention patterns: `attention_heads`, `attention_pattern` and `attention_patterns`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpwidgets.circuitsvis.ranges import colour_range
from interpwidgets.views.attention import AttentionView
from interpwidgets.views.numbers import numbers

__all__ = ["attention_heads", "attention_pattern", "attention_patterns"]


def attention_heads(
    attention: Any,
    tokens: Sequence[str],
    attention_head_names: Sequence[str] | None = None,
    max_value: float | None = None,
    min_value: float | None = None,
    negative_color: str | None = None,
    positive_color: str | None = None,
    mask_upper_tri: bool | None = None,
) -> AttentionView:
    """Heads of one layer, [head, dest, src], small, and one large; nothing above the diagonal, unless told so."""
    values = numbers(attention, "attention", ["head", "dest", "src"])
    if mask_upper_tri is not False:
        values = np.tril(values)
    labels = {(0, head): name for head, name in enumerate(attention_head_names or ())}
    limits = colour_range(values, min_value, max_value)
    if not (values < 0).any():
        return AttentionView(values[None], tokens=tokens, labels=labels, colour_range=limits, scale="linear")
    # Patterns are not negative, but what was made of them may be: that is a difference of two that are not.
    return AttentionView(
        np.maximum(values, 0)[None], np.maximum(-values, 0)[None], tokens=[tokens, tokens], labels=labels,
        names=["above 0", "below 0"], compare=1, difference=True, colour_range=limits, scale="linear",
    )  # fmt: skip


def attention_pattern(
    tokens: Sequence[str],
    attention: Any,
    max_value: float | None = None,
    min_value: float | None = None,
    negative_color: str | None = None,
    show_axis_labels: bool | None = None,
    positive_color: str | None = None,
    mask_upper_tri: bool | None = None,
) -> AttentionView:
    """One pattern, [dest, src]; its axes are always labelled."""
    values = numbers(attention, "attention", ["dest", "src"])
    return attention_heads(values[None], tokens, None, max_value, min_value, mask_upper_tri=mask_upper_tri)


def attention_patterns(tokens: Sequence[str], attention: Any) -> AttentionView:
    """Heads of one layer, [head, dest, src], nothing hidden."""
    return attention_heads(attention, tokens, mask_upper_tri=False)
