"""Training runs from whatever people log them in: numbers by name, tables, records, seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import is_frame
from interpwidgets.views.numbers import array_of, numbers

__all__ = ["Band", "read_bands", "read_metrics"]

Floats = NDArray[np.float32]

_LONGEST = 80_000  # checkpoints: three rows of them fit into a tile


@dataclass(frozen=True)
class Band:
    """A metric at each step, and how far it may be trusted."""

    value: Floats  # [step], NaN where nothing was measured
    low: Floats | None = None  # [step]
    high: Floats | None = None


def read_metrics(metrics: Any, steps: Any) -> tuple[NDArray[np.float64], dict[str, Band], int]:
    """Steps, each metric with the band of its seeds, and how many seeds there are.

    Raises:
        InputError: no metrics, sizes that do not fit, or steps that do not ascend.
    """
    named, own = _by_name(metrics)
    if own is not None and steps is not None:
        raise InputError("These metrics bring their steps; leave `steps` out.")
    if not named:
        raise InputError("TrainingView needs metrics: {'loss': [6.2, 5.1, …]}, a DataFrame, or records.")
    read = {name: _rows(name, values) for name, values in named.items()}
    sizes = {rows.shape[1] for rows in read.values()}
    if len(sizes) > 1:
        told = ", ".join(f"{name} {rows.shape[1]}" for name, rows in read.items())
        raise InputError(f"Metrics must be measured at the same steps, NaN where one was not; their lengths: {told}.")
    (size,) = sizes
    found = _steps(own if own is not None else steps, size)
    bands = {name: _band(rows) for name, rows in read.items()}
    return found, bands, max(len(rows) for rows in read.values())


def read_bands(metrics: dict[str, Band], bands: Mapping[str, tuple[Any, Any]] | None) -> dict[str, Band]:
    """The metrics, some of them with a band that was given.

    Raises:
        InputError: a band of no metric, of another size, or whose low is above its high.
    """
    found = dict(metrics)
    for name, band in (bands or {}).items():
        if name not in metrics:
            raise InputError(f"There is a band for {name!r}, but no such metric: {', '.join(metrics)}.")
        if not isinstance(band, (tuple, list)) or len(band) != 2:
            raise InputError(f"The band of {name!r} must be (low, high), two lists of numbers; got {band!r:.60}.")
        size = len(metrics[name].value)
        low, high = (
            numbers(side, f"The band of {name!r}, {which},", ["step"], [size], missing=True)
            for side, which in zip(band, ("low", "high"), strict=True)
        )
        if (low > high).any():
            at = int(np.argmax(low > high))
            raise InputError(f"The band of {name!r} must be (low, high); at {at} it is {low[at]:g} and {high[at]:g}.")
        found[name] = replace(metrics[name], low=low, high=high)
    return found


def _by_name(metrics: Any) -> tuple[dict[str, Any], Any]:
    """Values by name, and the steps where they come along."""
    if is_frame(metrics):
        return _of_frame(metrics)
    if hasattr(metrics, "to_frame"):  # a column of one
        return _of_frame(metrics.to_frame())
    if isinstance(metrics, Mapping):
        every = list(metrics.values())
        if every and all(_is_records(records) for records in every):
            return _of_seeds(every)
        return {str(name): values for name, values in metrics.items()}, None
    if _is_records(metrics):
        return _of_seeds([metrics])
    raise InputError(
        "Metrics are {name: numbers}, a DataFrame, records [{'step': 0, 'loss': 6.2}, …], or {seed: records}; got "
        f"{type(metrics).__name__}."
    )


def _is_records(data: Any) -> bool:
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)) or not data:
        return False
    return all(isinstance(record, Mapping) and "step" in record for record in data)


def _of_frame(frame: Any) -> tuple[dict[str, Any], Any]:
    frame = _wide(frame) if {"metric", "value"} <= set(frame.columns) else frame
    columns = {str(name): frame[name] for name in frame.columns}
    if "seed" in columns and "step" in columns:
        parts = [part for _, part in frame.groupby("seed")]
        return _of_seeds([part.drop(columns="seed").to_dict("records") for part in parts])
    steps = columns.pop("step", None)
    if steps is None and frame.index.name == "step":
        steps = frame.index
    values = {name: column.to_numpy() for name, column in columns.items() if column.dtype.kind in "fiub"}
    return values, None if steps is None else steps.to_numpy()


def _wide(frame: Any) -> Any:
    """A row a step, from a row a metric and step."""
    index = [name for name in ("seed", "step") if name in frame.columns]
    try:
        wide = frame.pivot(columns="metric", values="value", **({"index": index} if index else {}))
    except ValueError:
        raise InputError("A table of metric and value has one row for each metric and step (and seed).") from None
    return wide[list(dict.fromkeys(frame["metric"]))].reset_index()


def _of_seeds(runs: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[dict[str, Any], Any]:
    """[seed, step] by name, on the steps that any seed has; NaN where one has not."""
    steps = sorted({record["step"] for run in runs for record in run})
    place = {step: i for i, step in enumerate(steps)}
    names = list(dict.fromkeys(name for run in runs for record in run for name in record if name != "step"))
    values = {name: np.full((len(runs), len(steps)), np.nan) for name in names}
    for seed, run in enumerate(runs):
        if len({record["step"] for record in run}) < len(run):
            raise InputError("Records of one run must have different steps; give {seed: records} for several runs.")
        for record in run:
            for name, value in record.items():
                if name == "step" or value is None:
                    continue
                if not np.isscalar(value) or isinstance(value, (str, bytes)):
                    raise InputError(f"Record of step {record['step']}: {name!r} must be a number; got {value!r:.60}.")
                values[name][seed, place[record["step"]]] = value
    return values, np.array(steps, dtype=float)


def _rows(name: str, values: Any) -> Floats:
    """[seed, step]."""
    what = f"Metric {name!r}"
    array = array_of(values, what)
    if array.ndim == 1:
        return numbers(array, what, ["step"], missing=True)[None]
    return numbers(array, what, ["seed", "step"], missing=True)


def _steps(steps: Any, size: int) -> NDArray[np.float64]:
    if size > _LONGEST:
        raise InputError(f"There are {size:,} steps, and at most {_LONGEST:,} can be shown. Take every k-th: x[::k].")
    if steps is None:
        return np.arange(size, dtype=float)
    numbers(steps, "Steps", ["step"], [size])
    found = array_of(steps, "Steps").astype(np.float64)
    falls = np.flatnonzero(np.diff(found) <= 0)
    if falls.size:
        at = int(falls[0])
        raise InputError(f"Steps must ascend; {found[at + 1]:g} follows {found[at]:g}.")
    return found


def _band(rows: Floats) -> Band:
    """The mean over seeds, and their range; of one seed just its values."""
    if len(rows) == 1:
        return Band(rows[0])
    there = ~np.isnan(rows)
    count = there.sum(0)
    total = np.where(there, rows, 0).sum(0, dtype=np.float64)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    low, high = np.where(there, rows, np.inf).min(0), np.where(there, rows, -np.inf).max(0)
    gone = count == 0
    low[gone] = high[gone] = np.nan
    return Band(mean, low, high)
