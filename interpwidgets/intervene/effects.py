"""What interventions did: numbers with their story.

An effect is the change of a metric, averaged over prompts: from the run that was intervened upon ("corrupted", the
base) to the run with the intervention. How sure it is follows from how much it varies between prompts.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.stats import interval

if TYPE_CHECKING:
    from typing import Self

    from interpwidgets.intervene.outcomes import Outcome
    from interpwidgets.tokens import Tokens

__all__ = ["Axis", "Effect", "Effects", "Rerun"]

Label = int | float | str
Floats = NDArray[np.float64]

_SAME = 1e-5  # baselines this close, relative to their size, differ by rounding
_COLUMNS = ("effect", "low", "high", "recovered", "metric", "n")
_FORMAT = "interpwidgets.Effects/1"


@dataclass(frozen=True)
class Axis:
    """What varies along one axis of a sweep: Axis("layer", (0, 1, 2)), Axis("pos", ("the", "␣cat"))."""

    name: str
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        labels = tuple(label.item() if isinstance(label, np.generic) else label for label in self.labels)
        if not labels or not all(isinstance(label, (int, float, str)) for label in labels):
            raise InputError(f"An axis has labels that are numbers or strings, one or more; got {self.labels!r:.80}.")
        if self.name in _COLUMNS:
            raise InputError(f"An axis cannot be called {self.name!r}: that is a column of the table of effects.")
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, repr=False)
class Rerun:
    """Runs one cell again, where the model is still at hand, and tells what it does to the next token.

    >>> effects.live({"layer": 9, "head": 6}, prompt=0)
    """

    run: Callable[[Mapping[str, Label], int], Outcome]
    corrupted: tuple[Tokens, ...]
    clean: tuple[Tokens, ...] | None = None
    fixed: Mapping[str, Label] = field(default_factory=dict)  # on axes that are no longer there

    def __call__(self, place: Mapping[str, Label], prompt: int = 0) -> Outcome:
        """At the place that these labels name, on that prompt: without the intervention, and with it."""
        if not 0 <= prompt < len(self.corrupted):
            raise InputError(f"There is no prompt {prompt}; there are {len(self.corrupted)}, numbered from 0.")
        return self.run({**self.fixed, **place}, prompt)

    def at(self, place: Mapping[str, Label]) -> Rerun:
        """The same where those axes are fixed."""
        return replace(self, fixed={**self.fixed, **place})

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()  # a copy in another process has no model


@dataclass(frozen=True, eq=False, repr=False)
class _Measured:
    """What one cell and many have in common. Here [*axes] is the shape of the cells: () for one."""

    _: KW_ONLY
    values: Floats  # the metric with the intervention, [*axes, prompt]; NaN where it was not run
    metric: str
    corrupted: Floats  # without it, [prompt]
    how: str  # one sentence: what was done
    clean: Floats | None = None  # in the run that the intervention takes from, [prompt]
    seed: int = 0
    control: Floats | None = None  # mean metric of the same done to random components, [*axes, draw]
    live: Rerun | None = None  # not saved; sums and multiples have none

    def __post_init__(self) -> None:
        for name in ("values", "corrupted", "clean", "control"):
            if (given := getattr(self, name)) is not None:
                array = np.array(given, dtype=np.float64)
                array.flags.writeable = False
                object.__setattr__(self, name, array)
        cells = self._cells()
        if self.values.shape[:-1] != cells or self.values.ndim == 0 or not self.values.size:
            raise InputError(f"values are [{_shape(*cells, 'prompt')}]; got shape {list(self.values.shape)}.")
        for name in ("corrupted", "clean"):
            array = getattr(self, name)
            if array is not None and array.shape != (self.n,):
                raise InputError(f"{name} has a number for each of the {self.n} prompts; got {list(array.shape)}.")
        if self.control is not None and (self.control.shape[:-1] != cells or not self.control.size):
            raise InputError(f"control is [{_shape(*cells, 'draw')}]; got shape {list(self.control.shape)}.")

    def _cells(self) -> tuple[int, ...]:
        return ()

    @property
    def n(self) -> int:
        """How many prompts."""
        return int(self.values.shape[-1])

    @property
    def per_prompt(self) -> Floats:
        """The change on each prompt: values − corrupted, [*axes, prompt]."""
        return self.values - self.corrupted

    def _effect(self) -> Floats:
        return np.asarray(self.per_prompt.mean(-1))

    def _recovered(self) -> Floats:
        return self._effect() / self.gap

    @property
    def gap(self) -> float:
        """From corrupted to clean, in the mean; NaN where there is no clean run, or no difference."""
        if self.clean is None:
            return float("nan")
        gap = float(self.clean.mean() - self.corrupted.mean())
        size = max(np.abs(self.clean).mean(), np.abs(self.corrupted).mean())
        return gap if abs(gap) > _SAME * size else float("nan")

    def _no_gap(self) -> str:
        """Why nothing can be recovered, if so."""
        if self.clean is None or not np.isnan(self.gap):
            return ""
        return f"clean ≈ corrupted ({_number(self.corrupted.mean())}): there is nothing to recover"

    def _warn(self) -> None:
        if said := self._no_gap():
            warnings.warn(f"{self.metric}: {said}.", stacklevel=3)

    def _exceeds_control(self) -> Floats:
        if self.control is None:
            return np.full(self._cells(), np.nan)
        smaller = np.abs(self.control - self.corrupted.mean()) < np.abs(self._effect())[..., None]
        return np.where(np.isnan(self._effect()), np.nan, smaller.mean(-1))

    def _combined(self, other: Self, sign: int) -> Self:
        """Paired by prompt. The sum has no clean run, nor a control, of its own."""
        if other.metric != self.metric or other.n != self.n:
            raise InputError(
                f"Effects on the same prompts by the same metric can be combined; these are of {self.metric} on "
                f"{self.n} and of {other.metric} on {other.n}."
            )
        return replace(
            self,
            values=self.values + sign * other.values,
            corrupted=self.corrupted + sign * other.corrupted,
            clean=None,
            control=None,
            live=None,
            how=f"({self.how}) {'+' if sign > 0 else '−'} ({other.how})",
        )

    def __add__(self, other: Self) -> Self:
        return self._combined(other, 1) if type(other) is type(self) else NotImplemented

    def __sub__(self, other: Self) -> Self:
        return self._combined(other, -1) if type(other) is type(self) else NotImplemented

    def __mul__(self, factor: float) -> Self:
        if not isinstance(factor, (int, float, np.integer, np.floating)):
            return NotImplemented
        return replace(
            self,
            values=self.values * factor,
            corrupted=self.corrupted * factor,
            clean=None if self.clean is None else self.clean * factor,
            control=None if self.control is None else self.control * factor,
            live=None,
            how=f"{factor:g} × ({self.how})",
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Self:
        return self * (1 / divisor) if isinstance(divisor, (int, float, np.integer, np.floating)) else NotImplemented

    def __neg__(self) -> Self:
        return self * -1


class Effect(_Measured):
    """What one intervention did to a metric.

    >>> effects[9, 6]
    logit(␣Mary) − logit(␣John): 1.83 → 3.02 (+1.19, 95 % 0.88…1.47 over 12 prompts, 61 % of the way to clean)

    `float(effect)` is the mean change. Effects of one metric on the same prompts add and subtract prompt by prompt.
    """

    @property
    def value(self) -> float:
        """The metric with the intervention, in the mean."""
        return float(self.values.mean())

    @property
    def effect(self) -> float:
        """How far the intervention moved the metric, in the mean."""
        return float(self._effect())

    @property
    def recovered(self) -> float:
        """The share of the way from corrupted to clean; see `Effects.recovered`."""
        self._warn()
        return float(self._recovered())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high) of the effect; NaN for one prompt."""
        low, high = interval(self.per_prompt, level, self.seed)
        return float(low), float(high)

    @property
    def exceeds_control(self) -> float:
        """The share of random components whose |effect| is smaller; NaN without a control."""
        return float(self._exceeds_control())

    def __float__(self) -> float:
        return self.effect

    def __repr__(self) -> str:
        if np.isnan(self.effect):
            return f"{self.metric}: not run"
        return f"{self.metric}: {_number(self.corrupted.mean())} → {_number(self.value)} ({', '.join(self._story())})"

    def _story(self) -> Iterator[str]:
        yield f"{'+' if self.effect > 0 else ''}{_number(self.effect)}"
        low, high = map(_number, self.interval())
        yield "one prompt: no interval" if self.n == 1 else f"95 % {low}…{high} over {self.n} prompts"
        if said := self._no_gap():
            yield said
        elif self.clean is not None:
            yield f"{100 * self._recovered():.0f} % of the way to clean".replace("-", "−")
        if self.control is not None:
            yield f"larger than {100 * self.exceeds_control:.0f} % of {self.control.shape[-1]} random components"


@dataclass(frozen=True, eq=False, repr=False)
class Effects(_Measured):
    """What many interventions did to one metric on the same prompts: [*axes, prompt].

    Numbers and slices select cells: `effects[3, 2]` is one `Effect`, `effects[3]` and `effects[:, 2]` are `Effects`.
    Cells that were not run (an interrupted sweep) hold NaN.
    """

    _: KW_ONLY
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        if len({axis.name for axis in self.axes}) < len(self.axes):
            raise InputError(f"Every axis has its own name; got {[axis.name for axis in self.axes]}.")
        super().__post_init__()

    def _cells(self) -> tuple[int, ...]:
        return tuple(map(len, self.axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """How many cells along each axis."""
        return self._cells()

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which cells were run, [*axes]."""
        return np.asarray(~np.isnan(self.values).any(-1))

    @property
    def mean(self) -> Floats:
        """The metric with each intervention, averaged over prompts: [*axes]."""
        return np.asarray(self.values.mean(-1))

    @property
    def effect(self) -> Floats:
        """How far each intervention moved the metric, averaged over prompts: [*axes]."""
        return self._effect()

    @property
    def recovered(self) -> Floats:
        """The share of the way from corrupted to clean, [*axes]: (mean − corrupted) / (clean − corrupted).

        0 is no effect, 1 is all of the clean run's behaviour; below 0 and above 1 are possible. Each is a mean over
        prompts before the division, since the share of one prompt whose baselines nearly agree would drown all others
        (the normalised logit difference of Wang et al. 2022, arXiv:2211.00593; Heimersheim & Nanda 2024, "How to use
        and interpret activation patching", arXiv:2404.15255). NaN without a clean run, and, with a warning, where
        clean ≈ corrupted.
        """
        self._warn()
        return self._recovered()

    @property
    def exceeds_control(self) -> Floats:
        """The share of random components whose |effect| is smaller, [*axes]; NaN without a control."""
        return self._exceeds_control()

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """(low, high) of the effect of each cell, [*axes]: a bootstrap over prompts."""
        return interval(self.per_prompt, level, self.seed)

    def _combined(self, other: Self, sign: int) -> Self:
        if other.axes != self.axes:
            raise InputError(f"Effects on the same axes can be combined; got {self._named()} and {other._named()}.")
        return super()._combined(other, sign)

    def __getitem__(self, key: Any) -> Any:  # an Effect where every axis is fixed, else Effects
        places = key if isinstance(key, tuple) else (key,)
        if len(places) > len(self.axes) or not all(isinstance(place, (int, np.integer, slice)) for place in places):
            raise InputError(f"{self._named()} is read by a number or a slice for each axis; got {key!r}.")
        axes, how, fixed = [], [self.how.rstrip(".")], {}
        for axis, place in zip(self.axes, places, strict=False):
            if isinstance(place, slice):
                axes.append(Axis(axis.name, axis.labels[place]))
            elif -len(axis) <= place < len(axis):
                fixed[axis.name] = axis.labels[place]
                how.append(f"{axis.name} {axis.labels[place]}")
            else:
                raise InputError(f"There is no {axis.name} number {place}; there are {len(axis)}, counted from 0.")
        axes += self.axes[len(places) :]
        rest: dict[str, Any] = {
            "values": self.values[places],
            "metric": self.metric,
            "corrupted": self.corrupted,
            "how": ", ".join(how),
            "clean": self.clean,
            "seed": self.seed,
            "control": None if self.control is None else self.control[places],
            "live": None if self.live is None else self.live.at(fixed),
        }
        return Effects(axes=tuple(axes), **rest) if axes else Effect(**rest)

    def __iter__(self) -> Iterator[Any]:
        """Along the first axis."""
        return (self[place] for place in range(len(self.axes[0])))

    def top(self, k: int = 5) -> list[tuple[tuple[Label, ...], Effect]]:
        """The cells that moved the metric furthest, either way, each with its labels."""
        size = np.abs(self.effect).ravel()
        strongest = [place for place in np.argsort(-size, kind="stable")[:k] if not np.isnan(size[place])]
        places = [tuple(map(int, np.unravel_index(place, self.shape))) for place in strongest]
        return [(self._labels(place), self[place]) for place in places]

    def to_pandas(self) -> Any:
        """A row for each cell: its labels, effect, low, high, recovered, metric, n."""
        low, high = self.interval()
        labels = zip(*(self._labels(place) for place in np.ndindex(*self.shape)), strict=True)
        columns: dict[str, Any] = {axis.name: list(part) for axis, part in zip(self.axes, labels, strict=True)}
        columns |= {"effect": self.effect.ravel(), "low": low.ravel(), "high": high.ravel()}
        columns |= {"recovered": self._recovered().ravel(), "metric": self.metric, "n": self.n}
        return frame(columns)

    def save(self, path: str | Path) -> None:
        """Write all of it into one file, .npz."""
        axes = [[axis.name, list(axis.labels)] for axis in self.axes]
        header = {"format": _FORMAT, "axes": axes, "metric": self.metric, "how": self.how, "seed": self.seed}
        arrays = {name: getattr(self, name) for name in ("values", "corrupted", "clean", "control")}
        with Path(path).open("wb") as file:
            np.savez(
                file,
                header=np.array(json.dumps(header)),
                **{name: array for name, array in arrays.items() if array is not None},
            )

    @classmethod
    def load(cls, path: str | Path) -> Effects:
        """What `save` wrote. No code in the file is run."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as saved:
                arrays = dict(saved)
            header = json.loads(str(arrays.pop("header")))
            if header.pop("format") != _FORMAT:
                raise ValueError("another format")
            axes = tuple(Axis(name, tuple(labels)) for name, labels in header.pop("axes"))
            return cls(axes=axes, **header, **arrays)
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} does not hold effects, as Effects.save writes them: {error}.") from None

    def _labels(self, place: tuple[int, ...]) -> tuple[Label, ...]:
        return tuple(axis.labels[at] for axis, at in zip(self.axes, place, strict=True))

    def _named(self) -> str:
        return " × ".join(f"{axis.name} {len(axis)}" for axis in self.axes) or "one cell"

    def __repr__(self) -> str:
        clean = "" if self.clean is None else f", clean {_number(self.clean.mean())}"
        done = f"{self.done.sum()} of {self.done.size} cells run"
        lines = [
            f"Effects({self._named()}) on {self.metric}, {self.n} prompt{'s' if self.n > 1 else ''}",
            f"  {self.how.rstrip('.')}; corrupted {_number(self.corrupted.mean())}{clean}; {done}",
        ]
        for labels, effect in self.top(1):
            place = ", ".join(f"{axis.name} {label}" for axis, label in zip(self.axes, labels, strict=True))
            lines.append(f"  strongest: {place}: {repr(effect).removeprefix(f'{self.metric}: ')}")
        return "\n".join(lines)


def _number(value: Any) -> str:
    """Three digits, or two after the point, with a true minus."""
    value = float(value)
    plain = 0.1 <= abs(value) < 1e5 or value == 0
    return (f"{value:.2f}" if plain else f"{value:.3g}").replace("-", "−")


def _shape(*sizes: object) -> str:
    return ", ".join(map(str, sizes))
