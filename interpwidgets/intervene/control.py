"""Random components in the place of chosen ones: what an effect has to exceed to mean something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.intervene.interventions import Intervention
from interpwidgets.models.model import Model
from interpwidgets.models.sites import PER_HEAD

__all__ = ["random_heads"]


def random_heads(
    model: Model, interventions: Sequence[Intervention], draws: int, seed: int
) -> list[tuple[Intervention, ...]]:
    """The same interventions, moved to heads drawn at random from those that they do not touch.

    Raises InputError if an intervention is not on heads, or too few heads are left.
    """
    single = [replace(what, head=head) for what in interventions for head in _heads(what)]
    if not single or not all(what.site in PER_HEAD and what.head is not None for what in interventions):
        raise InputError("control='random_heads' is for interventions on heads: every one needs head=….")
    touched = sorted({_place(what) for what in single})
    free = [
        (layer, head)
        for layer in range(model.n_layers)
        for head in range(min(_count(model, what.site, layer) for what in single))
        if (layer, head) not in touched
    ]
    if len(free) < len(touched):
        raise InputError(
            f"{len(touched)} heads are intervened on and {len(free)} are left: too few to draw controls from."
        )
    rng = np.random.default_rng(seed)
    moved = []
    for _ in range(draws):
        to = dict(zip(touched, (free[i] for i in rng.permutation(len(free))), strict=False))
        moved.append(tuple(replace(w, layer=to[_place(w)][0], head=to[_place(w)][1]) for w in single))
    return moved


def _heads(what: Intervention) -> list[int]:
    return [what.head] if isinstance(what.head, int) else list(what.head or ())


def _place(what: Intervention) -> tuple[int, int]:
    assert what.layer is not None
    assert isinstance(what.head, int)
    return what.layer, what.head


def _count(model: Model, site: str, layer: int) -> int:
    block = model.anatomy.parts[layer]
    return (block.kv_heads if site in ("k", "v") else block.heads) or 0
