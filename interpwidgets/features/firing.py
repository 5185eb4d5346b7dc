"""A text of one's own, and the features that are active in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.features.shard import activations
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.models.tokenize import read_prompts
from interpwidgets.tokens import Tokens

__all__ = ["Firing", "firing"]


@dataclass(frozen=True, eq=False)
class Firing:
    """Which features are active where in a text: activations above zero, by position."""

    tokens: Tokens
    position: NDArray[np.int64]  # [n]
    feature: NDArray[np.int64]  # [n]
    value: NDArray[np.float32]  # [n]

    def of(self, feature: int) -> NDArray[np.float32]:
        """One feature along the text: [pos]."""
        found = np.zeros(len(self.tokens), dtype=np.float32)
        mine = self.feature == feature
        found[self.position[mine]] = self.value[mine]
        return found

    @property
    def features(self) -> NDArray[np.int64]:
        """All that are active somewhere, the strongest first."""
        which, place = np.unique(self.feature, return_inverse=True)
        most = np.zeros(len(which), dtype=np.float32)
        np.maximum.at(most, place, self.value)
        found: NDArray[np.int64] = which[np.lexsort((which, -most))]
        return found

    def strongest(self, top: int) -> Firing:
        """Of the `top` strongest features only."""
        some = np.isin(self.feature, self.features[:top])
        return Firing(self.tokens, self.position[some], self.feature[some], self.value[some])

    def __repr__(self) -> str:
        few = self.features
        return f"<{len(few)} features active in {self.tokens!r}; the strongest: {', '.join(map(str, few[:5]))}>"


def firing(model: Model, dictionary: Dictionary, text: str | Sequence[int], bos: int | None) -> Firing:
    """Run a text, and see which features are active where.

    A `bos` that it starts with is run and, as in a store, not counted.
    """
    batch = read_prompts(model, text if isinstance(text, str) else [list(text)])
    ids = batch.inputs["input_ids"][:1].cpu()
    x = activations(model, dictionary, ids, torch.tensor([ids.shape[1]]))
    with torch.no_grad():
        dense = dictionary.encode(x).float().cpu()  # [pos, feature]
    if int(ids[0, 0]) == bos:
        dense[0] = 0
    position, feature = (dense > 0).nonzero(as_tuple=True)
    value = dense[position, feature]
    return Firing(batch.tokens[0], position.numpy(), feature.numpy(), value.numpy())
