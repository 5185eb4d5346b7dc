"""Neurons over text: `text_neuron_activations`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.views.neurons import NeuronsView
from interpwidgets.views.numbers import numbers

__all__ = ["text_neuron_activations"]


def text_neuron_activations(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    activations: Any,
    first_dimension_name: str | None = "Layer",
    second_dimension_name: str | None = "Neuron",
    first_dimension_labels: Sequence[str] | None = None,
    second_dimension_labels: Sequence[str] | None = None,
) -> NeuronsView:
    """Text on the colour of one neuron, [pos, layer, neuron]; or a list of those, with a list of texts.

    The title tells the names of the dimensions; neurons go by their numbers, and a warning says so if they have labels.
    """
    if second_dimension_labels is not None:
        warnings.warn("Neurons go by their numbers: second_dimension_labels are not shown.", stacklevel=2)
    several = isinstance(activations, (list, tuple))
    each = list(activations) if several else [activations]
    arrays = [numbers(array, "activations", ["pos", "layer", "neuron"]) for array in each]
    texts = list(tokens) if several and not isinstance(tokens[0], str) else [tokens]
    if len(texts) != len(arrays):
        raise InputError(f"{len(texts)} texts need {len(texts)} activations; got {len(arrays)}.")
    title = f"{first_dimension_name or 'Layer'}s and {(second_dimension_name or 'Neuron').lower()}s"
    one = len(arrays) == 1
    return NeuronsView(
        arrays[0] if one else arrays, texts[0] if one else texts, names=first_dimension_labels, title=title
    )
