"""Read what stands at sites of a model, or put something else there, for many rows of tokens and without ceremony."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from interpwidgets.models.record import forward
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from interpwidgets.models.model import Model
    from interpwidgets.models.sites import Site

__all__ = ["read", "replaced"]


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


class _Writer(Tape):
    """Puts something else at one site, made from what stands there and at another."""

    def __init__(self, reads: Site, writes: Site, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.reads, self.writes, self.change = reads, writes, change

    def hears(self, site: str, layer: int | None) -> bool:
        return (site, layer) in (self.reads, self.writes)

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        if (site, layer) == self.reads:
            self.read = value
        return self.change(self.read, value) if (site, layer) == self.writes else value


def read(
    model: Model, tokens: Tensor, sites: Collection[Site], attention_mask: Tensor | None = None
) -> dict[Site, Tensor]:
    """Read what stands at some sites, each [row, position, …], in rows [row, position] of tokens."""
    tape = _Reader(sites)
    inputs = {"input_ids": tokens} | ({} if attention_mask is None else {"attention_mask": attention_mask})
    with suppress(_Enough):
        forward(model, Batch([], inputs), tape, logits=False)
    return tape.found


def replaced(
    model: Model,
    tokens: Tensor,
    reads: Site,
    writes: Site,
    change: Callable[[Tensor, Tensor], Tensor],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Give the logits when `change(what is read, what is written)` stands at the site that is written."""
    logits = forward(model, _rows(tokens, attention_mask), _Writer(reads, writes, change), logits=True)
    assert logits is not None
    return logits


def _rows(tokens: Tensor, attention_mask: Tensor | None) -> Batch:
    return Batch([], {"input_ids": tokens} | ({} if attention_mask is None else {"attention_mask": attention_mask}))
