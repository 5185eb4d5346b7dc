"""What the formats of other tools have in common: a feature as plain tuples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

__all__ = ["FeatureRecord", "Snippet", "batches", "record_of", "records_of"]


@dataclass(frozen=True)
class Snippet:
    """Tokens, what a feature does at each, and of which group of examples it is.

    `position` is that of the activation that it is an example of. A group goes from activation `low` to `high`, and
    holds a `share` of all activations; of "top", all three are −1, as SAEDashboard has it.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    position: int
    group: str = "top"
    low: float = -1.0
    high: float = -1.0
    share: float = -1.0


@dataclass(frozen=True)
class FeatureRecord:
    """One feature: examples, logits that its direction raises and lowers most, and how often it is active."""

    index: int
    snippets: tuple[Snippet, ...] = ()
    top_logits: tuple[tuple[str, float], ...] = ()
    bottom_logits: tuple[tuple[str, float], ...] = ()
    bars: tuple[tuple[float, float], ...] = ()  # of the histogram of activations: the middle of each bin, and its count
    density: float = 0.0  # the share of tokens at which it is active
    max: float = 0.0
    label: str | None = None


def record_of(feature: Any, label: str | None = None) -> FeatureRecord:
    """Make a record of a `Feature` of a store, or of anything with its attributes."""
    edges, counts = feature.histogram
    groups = {"top": (-1.0, -1.0, -1.0)}
    total = max(1, sum(group.count for group in feature.groups))
    groups |= {group.name: (group.low, group.high, group.count / total) for group in feature.groups}
    return FeatureRecord(
        index=int(feature.index),
        snippets=tuple(
            Snippet(
                tuple(_text(token) for token in example.tokens.text),
                tuple(float(value) for value in example.activations),
                int(example.position),
                name,
                *map(float, bounds),
            )
            for name, bounds in groups.items()
            for example in feature.examples(name)
        ),
        top_logits=tuple((_text(token), float(value)) for token, value in feature.top_logits),
        bottom_logits=tuple((_text(token), float(value)) for token, value in feature.bottom_logits),
        bars=tuple(
            (float(low + high) / 2, float(count))
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ),
        density=float(feature.density),
        max=float(feature.max),
        label=label,
    )


def records_of(store: Any) -> Iterator[FeatureRecord]:
    """Make a record of every feature of a store, with its label if it has one."""
    for feature in store:
        label = store.label_of(feature.index)
        yield record_of(feature, None if label is None else label.text)


def batches(records: Iterable[FeatureRecord], size: int) -> Iterator[list[FeatureRecord]]:
    """So many records at a time."""
    given = iter(records)
    while some := list(islice(given, size)):
        yield some


def _text(token: str | bytes) -> str:
    """A token as other tools show it: part of a character becomes `�`."""
    return token if isinstance(token, str) else token.decode("utf-8", "replace")
