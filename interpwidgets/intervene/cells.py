"""What a cell of a table of effects is: a layer, a head or a position, or several of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

from interpwidgets.errors import InputError
from interpwidgets.intervene.effects import Axis
from interpwidgets.intervene.interventions import Patch
from interpwidgets.models.model import Model
from interpwidgets.models.record import layer_number
from interpwidgets.models.sites import PER_HEAD, Site, parse_site
from interpwidgets.models.tape import lacks
from interpwidgets.models.tokenize import Batch

__all__ = ["AxisName", "check_aligned", "first_difference", "labels_of", "patch_at", "places", "read_axes"]

AxisName = Literal["layer", "head", "pos"]


def read_axes(
    model: Model,
    batch: Batch,
    over: str,
    by: Sequence[AxisName] | None,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    positions: Sequence[int] | None,
) -> tuple[str, tuple[Axis, ...]]:
    """The site, and what a cell of the sweep is."""
    site: Site = parse_site(over)[0]
    name = site[0]
    of_heads = name in PER_HEAD
    names: Sequence[str] = by if by is not None else ("layer", "head") if of_heads else ("layer", "pos")
    if name == "embed":
        names = tuple(axis for axis in names if axis != "layer")
    if not names or len(set(names)) != len(names) or set(names) - {"layer", "head", "pos"}:
        raise InputError(f"`by` names axes out of 'layer', 'head' and 'pos', each once; got {by!r}.")
    if "head" in names and not of_heads:
        raise InputError(f"{name!r} has no heads; sweep by {'layer', 'pos'}, or over 'z'.")
    found = []
    for axis in names:
        if axis == "layer":
            chosen = [layer_number(model, layer) for layer in (range(model.n_layers) if layers is None else layers)]
            if name not in ("resid_pre", "resid_post"):
                reasons = {layer: lacks(model.anatomy.parts[layer], name) for layer in chosen}
                if layers is None:
                    chosen = [layer for layer in chosen if reasons[layer] is None]
                if not chosen or any(reasons[layer] for layer in chosen):
                    layer, why = next((layer, why) for layer, why in reasons.items() if why)
                    raise InputError(f"Layer {layer} of {model.name} has no {name!r}: {why}")
            found.append(Axis("layer", tuple(chosen)))
        elif axis == "head":
            part = model.anatomy.parts[0]
            total = (part.kv_heads if name in ("k", "v") else part.heads) or model.n_heads or 0
            chosen = _numbers(heads, total, f"heads at {name!r}")
            found.append(Axis("head", tuple(chosen)))
        else:
            found.append(Axis("pos", _position_labels(batch, positions)))
    return name, tuple(found)


def _position_labels(batch: Batch, positions: Sequence[int] | None) -> tuple[int | str, ...]:
    sizes = set(batch.lengths)
    if len(sizes) > 1:
        raise InputError(
            f"A sweep by position needs prompts of one length; these have {sorted(sizes)} tokens. Pad them to the same "
            "template, or sweep by layer only: by=('layer',)."
        )
    size = sizes.pop()
    return tuple(_numbers(positions, size, "positions in these prompts"))


def _numbers(chosen: Sequence[int] | None, total: int, of: str) -> list[int]:
    """Those chosen out of `total`, counted from 0; all if None."""
    try:
        return [range(total)[number] for number in (range(total) if chosen is None else chosen)]
    except (IndexError, TypeError):
        raise InputError(f"There are {total} {of}, numbered from 0; got {list(chosen or ())}.") from None


def labels_of(axes: Sequence[Axis], name: str) -> list[Any]:
    """What an axis of this name spans; nothing if there is none."""
    return next((list(axis.labels) for axis in axes if axis.name == name), [])


def places(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every cell by what it is called on each axis, in the order of the numbers of `Effects`."""
    names = [axis.name for axis in axes]
    return [dict(zip(names, labels, strict=True)) for labels in itertools.product(*(axis.labels for axis in axes))]


def patch_at(site: str, place: dict[str, Any], value: Any) -> Patch:
    """The patch that a cell stands for."""
    return Patch(site, place.get("layer"), head=place.get("head"), pos=place.get("pos"), value=value)


def check_aligned(clean: Batch, corrupted: Batch) -> None:
    """Refuse pairs of prompts that do not align token by token."""
    if len(clean.tokens) != len(corrupted.tokens):
        raise InputError(
            f"There are {len(clean.tokens)} clean prompts and {len(corrupted.tokens)} corrupted; they are pairs."
        )
    for number, (a, b) in enumerate(zip(clean.tokens, corrupted.tokens, strict=True)):
        if len(a) != len(b):
            own, other = ("|".join(map(str, tokens.text)) for tokens in (a, b))
            raise InputError(
                f"Pair {number} does not align: the clean prompt has {len(a)} tokens, {own}; the corrupted {len(b)},"
                f" {other}. Patch prompts that differ token for token."
            )


def first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    """The first position at which two prompts differ; their length if none."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
