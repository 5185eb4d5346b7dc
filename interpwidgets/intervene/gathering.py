"""What a sweep has found so far: shown, kept, and not lost when it is interrupted."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from interpwidgets.intervene.effects import Effects

__all__ = ["Into", "gather"]

Floats = NDArray[np.float64]
Into = Callable[[Effects], object]  # who is shown what is done so far, such as a view's `show`

_KEEP = 5.0  # seconds between two writes
_SHOW = 0.4  # seconds between two looks


def gather(
    values: Floats,
    found: Iterable[tuple[NDArray[np.intp], Floats]],
    effects: Callable[[], Effects],
    *,
    name: str,
    progress: bool,
    into: Into | None = None,
    keep: Callable[[], None] | None = None,
) -> Effects:
    """Put what is found, (places in `values`, numbers), into `values`, which are NaN until then; the `effects` of it.

    A bar called `name` tells how far it is. `into` is shown the effects now and then, `keep` is called more seldom, and
    both at the end. Ctrl-C ends it with a warning that says how many are done.
    """
    each: list[tuple[float, Callable[[], object]]] = []
    if keep is not None:
        each.append((_KEEP, keep))
    if into is not None:
        each.append((_SHOW, lambda: into(effects())))
    called = [float("-inf")] * len(each)
    try:
        with tqdm(total=int(np.isnan(values).sum()), desc=name, unit="run", delay=1.0, disable=not progress) as bar:
            for places, numbers in found:
                values[places] = numbers
                bar.update(len(places))
                for i, (seconds, call) in enumerate(each):
                    if time.monotonic() - called[i] > seconds:
                        call()
                        called[i] = time.monotonic()
    except KeyboardInterrupt:
        done = int((~np.isnan(values)).sum())
        warnings.warn(f"Interrupted: {done} of {values.size} runs are done, the others are NaN.", stacklevel=4)
    for _, call in each:
        call()
    return effects()
