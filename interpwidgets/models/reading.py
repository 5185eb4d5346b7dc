"""Read what stands at sites of a model, for many rows of tokens and without ceremony."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from torch import Tensor

from interpwidgets.models.model import Model
from interpwidgets.models.record import forward
from interpwidgets.models.sites import Site
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch

__all__ = ["read"]


class _Enough(Exception):  # noqa: N818  everything that was wanted has been heard
    pass


class _Reader(Tape):
    """Keeps what stands at some sites, and ends the pass at the last of them."""

    def __init__(self, sites: Collection[Site]) -> None:
        self.sites = set(sites)
        self.found: dict[Site, Tensor] = {}

    def hears(self, site: str, layer: int | None) -> bool:
        return (site, layer) in self.sites

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        self.found[site, layer] = value
        if len(self.found) == len(self.sites):
            raise _Enough
        return value


def read(
    model: Model, tokens: Tensor, sites: Collection[Site], attention_mask: Tensor | None = None
) -> dict[Site, Tensor]:
    """Read what stands at some sites, each [row, position, …], in rows [row, position] of tokens."""
    tape = _Reader(sites)
    inputs = {"input_ids": tokens} | ({} if attention_mask is None else {"attention_mask": attention_mask})
    with suppress(_Enough):
        forward(model, Batch([], inputs), tape, logits=False)
    return tape.found
