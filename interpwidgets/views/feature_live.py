"""What a feature store can compute now: where features fire in a text, and what one of them does to the model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.views.tile import Tile

__all__ = ["HOW", "Live"]

HOW = ("none", "steer", "ablate")
TOP = 12  # features listed
LINKED = 4  # connections of a kind
NEW = 20  # tokens of a continuation
_KEPT = 64  # texts


class Live:
    """Runs the model and the dictionary that a store is bound to; what a text does is computed once."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._fire = lru_cache(_KEPT)(store.features_of)
        self._weights: Any = None

    def text(self, text: str) -> Tile:
        """The tokens of a text, and its strongest features: [feature, activation, position] each."""
        found = self._fire(text)
        return Tile.of_json({"tokens": list(found.tokens), "strongest": _strongest(found, slice(None))})

    def at(self, text: str, position: int) -> Tile:
        """The strongest features at a position of a text."""
        found = self._fire(text)
        return Tile.of_json(_strongest(found, found.position == position))

    def strongest(self, text: str, position: int | None) -> list[int]:
        """The features that are listed for a text, or for a position of it."""
        found = self._fire(text)
        return [row[0] for row in _strongest(found, slice(None) if position is None else found.position == position)]

    def along(self, text: str, feature: int) -> Tile:
        """A feature's activations along a text: [1, pos]."""
        return Tile(self._fire(text).of(feature)[None])

    def whole(self, context: int, feature: int) -> Tile:
        """All tokens of a context; with a model to run, also the feature's activations, else None."""
        tokens = self._store.context(context)
        values = None
        if self._store.bound is not None:
            values = [float(f"{value:.8g}") for value in self._fire(tuple(tokens.ids.tolist())).of(feature)]
        return Tile.of_json({"tokens": list(tokens), "values": values})

    def outcome(self, text: str, position: int | None, feature: int, how: str, strength: float) -> Tile:
        """What steering with a feature, or ablating it, does to the token after a position; after the last if None."""
        from interpwidgets.intervene import outcome

        model, changes = self._changes(feature, how, strength)
        found = outcome(model, text, changes, pos=-1 if position is None else position).to_json()
        return Tile.of_json({**found, "how": self.words(feature, how, strength)})

    def continuation(self, text: str, feature: int, how: str, strength: float) -> Tile:
        """How the model goes on without and with it, token by token."""
        from interpwidgets.intervene import generate

        model, changes = self._changes(feature, how, strength)
        size = len(self._fire(text).tokens)
        new = NEW if model.context is None else min(NEW, model.context - size)
        if new < 1:
            raise InputError(f"The text has {size} tokens, and {model.name} no position for another one: shorten it.")
        written = [generate(model, text, interventions=each, max_new_tokens=new).tokens[0] for each in ((), changes)]
        return Tile.of_json({"before": list(written[0]), "after": list(written[1])})

    def connections(self, feature: int) -> Tile:
        """What a feature reads from and writes to, by weights; each as [layer, number, via, weight, cosine, token]."""
        model, found = self._bound()[0], self._connected(feature)

        def told(ranked: Any) -> dict[str, Any]:
            ids = [each.number for each in ranked.top] if ranked.kind in ("token", "logit") else []
            texts = list(model.tokens(ids)) if ids else [None] * len(ranked.top)
            top = [
                [each.layer, each.number, each.via, float(f"{each.weight:.4g}"), float(f"{each.cosine:.4g}"), text]
                for each, text in zip(ranked.top, texts, strict=True)
            ]
            return {"kind": ranked.kind, "count": ranked.count, "chance": float(f"{ranked.chance:.4g}"), "top": top}

        reads, writes = ([told(ranked) for ranked in side] for side in (found.reads, found.writes))
        return Tile.of_json({"reads": reads, "writes": writes, "untold": found.untold})

    def connected(self, feature: int) -> list[int]:
        """The features among its connections, in their order."""
        found = self._connected(feature)
        both = [each for each in (*found.reads, *found.writes) if each.kind == "feature"]
        return [one.number for ranked in both for one in ranked.top]

    def _connected(self, feature: int) -> Any:
        from interpwidgets.features import VirtualWeights

        if self._weights is None:
            self._weights = VirtualWeights(*self._bound())
        return self._weights.of(feature, top=LINKED)

    def words(self, feature: int, how: str, strength: float) -> str:
        """What is done, in words."""
        if how == "ablate":
            return f"nothing along feature {feature}"
        return f"{strength * self._most(feature):.3g} × feature {feature} added"

    def _bound(self) -> tuple[Any, Any]:
        """The model and the dictionary of the store."""
        if self._store.bound is None:
            raise InputError("The store has no model to run: store.bind(model, dictionary).")
        bound: tuple[Any, Any] = self._store.bound
        return bound

    def _most(self, feature: int) -> float:
        return float(self._store[feature].max) or 1.0

    def _changes(self, feature: int, how: str, strength: float) -> tuple[Any, list[Any]]:
        """The model, and interventions at every place that the dictionary writes, at all positions."""
        from interpwidgets.intervene import Ablate, Steer

        model, dictionary = self._bound()
        row = dictionary.W_dec[feature].detach()
        parts = zip(dictionary.writes, row.chunk(len(dictionary.writes)), strict=True)
        changes: list[Any] = []
        for (site, layer), direction in parts:
            if how == "ablate":
                changes.append(Ablate(site, layer, direction=direction))
            else:
                vector = direction.view(model.n_heads, -1) if site == "z" else direction
                changes.append(Steer(site, layer, vector=vector, coefficient=strength * self._most(feature)))
        return model, changes


def _strongest(found: Any, some: Any) -> list[list[Any]]:
    """Of each feature its largest activation and where, the strongest first."""
    feature, value, position = found.feature[some], found.value[some], found.position[some]
    order = np.argsort(-value, kind="stable")
    _, first = np.unique(feature[order], return_index=True)
    rows = order[np.sort(first)[:TOP]]
    return [[int(feature[i]), float(f"{value[i]:.8g}"), int(position[i])] for i in rows]
