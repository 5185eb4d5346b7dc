"""The tokens on which a neuron is most and least active: `topk_tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interpwidgets.circuitsvis.activations import text_neuron_activations
from interpwidgets.errors import InputError
from interpwidgets.views.neurons import NeuronsView
from interpwidgets.views.numbers import numbers

__all__ = ["topk_tokens"]


def topk_tokens(
    tokens: Sequence[Sequence[str]],
    activations: Sequence[Any],
    max_k: int = 10,
    first_dimension_name: str = "Layer",
    third_dimension_name: str = "Neuron",
    sample_labels: Sequence[str] | None = None,
    first_dimension_labels: Sequence[str] | None = None,
) -> NeuronsView:
    """Neurons of several texts, [layer, pos, neuron] each; all tokens of a text are shown, not `max_k` of them."""
    arrays = [numbers(array, "activations", ["layer", "pos", "neuron"]) for array in activations]
    if len(arrays) != len(tokens):
        raise InputError(f"{len(tokens)} texts need {len(tokens)} activations; got {len(arrays)}.")
    by_position = [array.transpose(1, 0, 2) for array in arrays]  # [pos, layer, neuron]
    view = text_neuron_activations(
        list(tokens), by_position, first_dimension_name, third_dimension_name, first_dimension_labels
    )
    if sample_labels is not None:
        if len(sample_labels) != len(tokens):
            raise InputError(f"{len(tokens)} texts need {len(tokens)} sample_labels; got {len(sample_labels)}.")
        named = zip(view.prompts, sample_labels, strict=True)
        view.set_trait("prompts", [{**prompt, "name": str(label)} for prompt, label in named])
    return view
