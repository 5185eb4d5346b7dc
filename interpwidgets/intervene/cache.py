"""Half-done sweeps on disk, under a name made of everything that their numbers depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.intervene.engine import Engine, ids_of
from interpwidgets.intervene.interventions import Intervention
from interpwidgets.models.recording import Recording

__all__ = ["cache_path", "save"]


def cache_path(folder: Path, engine: Engine, *told: Any) -> Path:
    """The file of a sweep on an engine; `told` is what else it depends on."""
    folder.mkdir(parents=True, exist_ok=True)
    metric = engine.metric.metric
    code = getattr(getattr(metric.formula, "__code__", None), "co_code", b"")
    base = [f"{value:.4g}" for value in engine.base_values]  # tells functions apart that have one name
    digest = hashlib.sha256()
    for thing in (*engine.model.module.parameters(), *engine.model.module.buffers()):
        _feed(digest, thing)
    _feed(digest, [metric.name, code, base, ids_of(engine.batch), told])
    return folder / f"sweep-{digest.hexdigest()[:16]}.npy"


def save(path: Path, values: NDArray[np.float64]) -> None:
    """Write the values in one step: there is never half a file."""
    unfinished = path.with_suffix(".part.npy")
    np.save(unfinished, values, allow_pickle=False)
    unfinished.replace(path)


def _feed(digest: Any, thing: Any) -> None:
    """Take a value into a digest, whatever is inside it."""
    digest.update(type(thing).__name__.encode())
    if isinstance(thing, Tensor):
        digest.update(thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(thing, np.ndarray):
        digest.update(np.ascontiguousarray(thing))
    elif isinstance(thing, Recording):
        _feed(digest, [thing.name, [tokens.text for tokens in thing.tokens], dict(thing.values)])
        _feed(digest, {layer: (kept.q, kept.k) for layer, kept in thing.kept.items()})
    elif isinstance(thing, Intervention):
        _feed(digest, {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)})
    elif isinstance(thing, Mapping):
        for key in sorted(thing, key=repr):
            _feed(digest, key)
            _feed(digest, thing[key])
    elif isinstance(thing, Iterable) and not isinstance(thing, (str, bytes)):
        for part in thing:
            _feed(digest, part)
        digest.update(b"end")
    else:
        digest.update(repr(thing).encode())
