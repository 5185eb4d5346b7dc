"""The texts on which a neuron is most active: `topk_samples`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.views.numbers import numbers
from interpwidgets.views.tokens import TokensView

__all__ = ["topk_samples"]


def topk_samples(
    tokens: Sequence[Sequence[Sequence[Sequence[str]]]],
    activations: Sequence[Sequence[Sequence[Any]]],
    zeroth_dimension_name: str | None = "Layer",
    first_dimension_name: str | None = "Neuron",
    zeroth_dimension_labels: Sequence[str] | None = None,
    first_dimension_labels: Sequence[str] | None = None,
) -> TokensView:
    """Texts of every neuron, [layer][neuron][sample][pos], the one with the largest activation first.

    Each is an entry of the view's `prompt` chooser, which names layer, neuron and place.
    """
    texts, values, names = [], [], []
    for layer, neurons in enumerate(tokens):
        for neuron, samples in enumerate(neurons):
            own = [numbers(sample, "activations", ["pos"]) for sample in activations[layer][neuron]]
            if len(own) != len(samples):
                raise InputError(
                    f"Layer {layer}, neuron {neuron} has {len(samples)} samples, and activations of {len(own)}."
                )
            where = [
                f"{zeroth_dimension_name or 'Layer'} {_label(zeroth_dimension_labels, layer)}",
                f"{first_dimension_name or 'Neuron'} {_label(first_dimension_labels, neuron)}",
            ]
            for place, sample in enumerate(np.argsort([-part.max() for part in own], kind="stable").tolist()):
                texts.append(list(samples[sample]))
                values.append({"activation": own[sample]})
                names.append(f"{', '.join(where)}: {place + 1}, max {own[sample].max():.3g}")
    if not texts:
        raise InputError("There are no samples: tokens are [layer][neuron][sample][pos].")
    one = len(texts) == 1
    view = TokensView(texts[0] if one else texts, values[0] if one else values, title="Top samples")
    named = zip(view.prompts, names, strict=True)
    view.set_trait("prompts", [{**prompt, "name": name} for prompt, name in named])
    return view


def _label(labels: Sequence[str] | None, place: int) -> str:
    return str(place) if labels is None else str(labels[place])
