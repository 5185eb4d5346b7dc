"""Coloured text: `colored_tokens`, `colored_tokens_multi` and `visualize_model_performance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpwidgets.circuitsvis.ranges import colour_range
from interpwidgets.errors import InputError
from interpwidgets.views.numbers import array_of, numbers
from interpwidgets.views.tokens import TokensView

__all__ = ["colored_tokens", "colored_tokens_multi", "visualize_model_performance"]


def colored_tokens(
    tokens: Sequence[str],
    values: Any,
    min_value: float | None = None,
    max_value: float | None = None,
    negative_color: str | None = None,
    positive_color: str | None = None,
) -> TokensView:
    """Text on the colour of one value per token, [pos]."""
    array = numbers(values, "values", ["pos"], [len(tokens)], missing=True)
    return TokensView(list(tokens), array, colour_range=colour_range(array, min_value, max_value))


def colored_tokens_multi(tokens: Sequence[str], values: Any, labels: Sequence[str] | None = None) -> TokensView:
    """Text on the colour of one of several values per token, [pos, series]; `labels` name the series."""
    array = numbers(values, "values", ["pos", "series"], [len(tokens), None], missing=True)
    names = [str(i) for i in range(array.shape[1])] if labels is None else list(labels)
    if len(names) != array.shape[1]:
        raise InputError(f"{array.shape[1]} series need {array.shape[1]} labels; got {len(names)}.")
    return TokensView(list(tokens), dict(zip(names, array.T, strict=True)))


def visualize_model_performance(tokens: Any, str_tokens: Sequence[str], logits: Any) -> TokensView:
    """Text from the second token on, on the logit, log-probability or probability that each was predicted with.

    `tokens` are ids [pos] and `logits` [pos, vocab], either with a batch of one before.
    """
    ids, scores = array_of(tokens, "tokens"), array_of(logits, "logits")
    ids, scores = (ids[0] if ids.ndim == 2 else ids), (scores[0] if scores.ndim == 3 else scores)
    size = len(str_tokens)
    came = numbers(ids, "tokens", ["pos"], [size]).astype(np.int64)[1:]
    own = numbers(scores, "logits", ["pos", "vocab"], [size, None])[:-1].astype(np.float64)
    log_probs = own - own.max(axis=1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    at = np.arange(size - 1), came
    series = {"logits": own[at], "log_probs": log_probs[at], "probs": np.exp(log_probs[at])}
    return TokensView(list(str_tokens[1:]), series)
