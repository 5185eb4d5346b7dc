"""Predictions along a text: `token_log_probs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interpwidgets.views.numbers import array_of
from interpwidgets.views.top_tokens import TopTokensView

__all__ = ["token_log_probs"]


def token_log_probs(
    token_indices: Any, log_probs: Any, to_string: Callable[[int], str], top_k: int = 10
) -> TopTokensView:
    """Text on how surprising each token was, and the likeliest at each place.

    `token_indices` are [pos] and `log_probs` [pos, vocab], either with a batch of one before.
    """
    ids, scores = array_of(token_indices, "token_indices"), array_of(log_probs, "log_probs")
    ids, scores = (ids[0] if ids.ndim == 2 else ids), (scores[0] if scores.ndim == 3 else scores)
    return TopTokensView(scores, tokens=ids, decode=lambda some: [to_string(token) for token in some], k=top_k)
