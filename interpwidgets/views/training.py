"""What was measured over a training run, and a cursor that other views follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.views.runs import read_bands, read_metrics
from interpwidgets.views.tile import Tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["Drive", "TrainingView"]

_KEPT = 64  # what `make` gave, at the latest checkpoints


class TrainingView(View, view="training"):
    """Follow metrics over a training run, stop at a checkpoint, and let other views show the model as it was there.

        view = TrainingView({"loss": loss, "accuracy": accuracy}, steps)     # numbers [step], or [seed, step]
        view = TrainingView(frame)                                           # a DataFrame: step and metrics
        view = TrainingView(frame)                                           # or step, metric and value; and seed
        view = TrainingView([{"step": 0, "loss": 6.2}, …])                   # records, as training logs write them
        view = TrainingView({0: records, 1: records})                        # of several seeds
        iw.link(view, attention, on=[("step", "prompt")])                    # one recording for each checkpoint
        view.drive(lens, lambda step: iw.record(iw.load(name, checkpoint=step), prompt))

    Metrics that end in the same word (train_loss, test_loss) share a panel. Several seeds are drawn as their mean, in
    a band from the least to the largest. `step` is the number of the checkpoint, `step_value` its step in training.

    What to look for: a metric that falls without a break may hide one that changes at once, as induction heads do
    (Olsson et al. 2022, "In-context learning and induction heads"); and measures that are about the mechanism may move
    long before the loss does (Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability").

    Args:
        metrics: numbers by name, a DataFrame, records, or records by seed. NaN: not measured there.
        steps: the step of each checkpoint, ascending; without them, checkpoints are numbered.
        bands: (low, high) for metrics that come without seeds.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: no metrics, sizes that do not fit, or steps that do not ascend.
        TraitError: a setting out of range.
    """

    names = traitlets.List(traitlets.Unicode(), help="the metrics", read_only=True).tag(sync=True)
    panels = traitlets.List(traitlets.List(traitlets.Unicode()), help="metrics, panel by panel").tag(sync=True)
    step = traitlets.CInt(0, help="the checkpoint that the cursor is on, by its number").tag(sync=True)
    x_scale = traitlets.Enum(("linear", "log"), "linear", help="how steps are laid out").tag(sync=True)
    axis = traitlets.Unicode("step", help="what a step is called").tag(sync=True)
    banded = traitlets.Unicode(help="what the bands are; empty: none", read_only=True).tag(sync=True)
    failed = traitlets.Unicode(help="why a driven view did not follow", read_only=True).tag(sync=True)

    def __init__(
        self, metrics: Any, steps: Any = None, *, bands: Mapping[str, tuple[Any, Any]] | None = None, **settings: Any
    ) -> None:
        self._read(metrics, steps, bands)
        last = len(self.steps) - 1
        super().__init__(settings, title="Training", panels=_panels(self.names), step=last)
        self.open_with(self._keys())

    def _read(self, metrics: Any, steps: Any, bands: Mapping[str, tuple[Any, Any]] | None) -> None:
        self.steps, self.metrics, seeds = read_metrics(metrics, steps)
        self.metrics = read_bands(self.metrics, bands)
        self.set_trait("names", list(self.metrics))
        between = f"from the least to the largest of {seeds} seeds, the line is their mean"
        self.set_trait("banded", between if seeds > 1 else "those given with the data" if bands else "")

    def show(self, metrics: Any, steps: Any = None, *, bands: Mapping[str, tuple[Any, Any]] | None = None) -> None:
        """Show another run, or the same one with more checkpoints; the cursor stays where it is, or goes to the end."""
        at_end = self.step == len(self.steps) - 1
        before = self.names
        self._read(metrics, steps, bands)
        last = len(self.steps) - 1
        with self.hold_sync():
            if self.names != before:
                self.panels = _panels(self.names)
            self.step = last if at_end else min(self.step, last)
            self.renew(self._keys())

    @property
    def step_value(self) -> float:
        """The step in training that the cursor is on."""
        value = float(self.steps[self.step])
        return int(value) if value.is_integer() else value

    @property
    def values(self) -> dict[str, float]:
        """Each metric at the cursor."""
        return {name: float(band.value[self.step]) for name, band in self.metrics.items()}

    def to_pandas(self) -> Any:
        """A row for each metric and checkpoint: metric, step, value, and low and high where it has a band."""
        shown = [name for panel in self.panels for name in panel]
        bands = [self.metrics[name] for name in shown]
        none = np.full(len(self.steps), np.nan, dtype=np.float32)
        ends = {
            "low": [none if band.low is None else band.low for band in bands],
            "high": [none if band.high is None else band.high for band in bands],
        }
        return frame(
            {
                "metric": np.repeat(np.array(shown, dtype=object), len(self.steps)),
                "step": np.tile(self.steps, len(shown)),
                "value": np.ravel([band.value for band in bands]),
                **({end: np.ravel(rows) for end, rows in ends.items()} if self.banded else {}),
            }
        )

    def drive(self, view: Any, make: Callable[[Any], Any]) -> Drive:
        """Let another view show `make(step_value)` whenever the cursor moves, until `stop()` of what this returns.

        >>> training.drive(lens, lambda step: iw.record(iw.load("induction-2l", checkpoint=step), prompt))

        `view.show` gets what `make` gave. It is kept, so that going back costs nothing. Where `make` fails, the page
        says so, and the view stays as it was.

        Raises:
            InputError: a view that cannot show other data.
        """
        if not callable(getattr(view, "show", None)):
            raise InputError(f"{type(view).__name__} has no show(data), so it cannot be driven.")
        return Drive(self, view, make)

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`steps`, or a `metric` [1 or 3, step]: its value, and the band's low and high where there is one."""
        what, name = key["what"], key.get("name", "")
        if what == "steps":
            return Tile.of_json([int(step) if float(step).is_integer() else float(step) for step in self.steps])
        if what != "metric" or name not in self.metrics:
            raise InputError(f"There is no {what} {name!r}. There are the metrics {', '.join(self.metrics)}.")
        band = self.metrics[name]
        rows = [band.value] if band.low is None or band.high is None else [band.value, band.low, band.high]
        return Tile(np.stack(rows).astype(np.float32))

    def _keys(self) -> list[str]:
        shown = [name for panel in self.panels for name in panel]
        return [key_of(what="steps"), *(key_of(what="metric", name=name) for name in shown)]

    def stored_keys(self) -> Iterator[str]:
        """Steps, and every metric that is shown."""
        yield from self._keys()

    # Bad input -----------------------------------------------------------------------------------------------------

    @traitlets.validate("step")
    def _in_range(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if not 0 <= value < len(self.steps):
            raise traitlets.TraitError(f"step {value} does not exist: this view has step 0 to {len(self.steps) - 1}.")
        return value

    @traitlets.validate("panels")
    def _known(self, proposal: Any) -> list[list[str]]:
        panels: list[list[str]] = proposal["value"]
        for name in (name for panel in panels for name in panel):
            if name not in self.metrics:
                raise traitlets.TraitError(f"No metric is called {name!r}. There are: {', '.join(self.metrics)}.")
        return panels

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """Every panel, with the cursor."""
        from interpwidgets.views.training_picture import training_picture

        return training_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Each metric at the cursor, at the first checkpoint and at the last."""
        from interpwidgets.views.training_picture import training_table

        return training_table(self)

    def describe(self) -> str:
        """What is drawn, and where the cursor is."""
        bands = f" Bands are {self.banded}." if self.banded else ""
        return (
            f"{', '.join(self.names)} over {len(self.steps)} checkpoints, {self.axis} {self.steps[0]:,.10g} to "
            f"{self.steps[-1]:,.10g}; the cursor is on {self.axis} {self.step_value:,}.{bands}"
        )

    def __repr__(self) -> str:
        metrics = f"{len(self.names)} metrics" if len(self.names) != 1 else self.names[0]
        return f"TrainingView({metrics}, {len(self.steps)} checkpoints, {self.axis} {self.step_value:,})"


class Drive:
    """A view that shows what the cursor of a `TrainingView` is on, until `stop()`."""

    def __init__(self, training: TrainingView, view: Any, make: Callable[[Any], Any]) -> None:
        self._training, self._view, self._make = training, view, make
        self._made: dict[float, Any] = {}
        training.observe(self._follow, "step")
        self._follow()

    def stop(self) -> None:
        """Let the view stay as it is."""
        self._training.unobserve(self._follow, "step")

    def _follow(self, _: Any = None) -> None:
        step = self._training.step_value
        failed = ""
        try:
            if step not in self._made:
                self._made[step] = self._make(step)
                while len(self._made) > _KEPT:
                    del self._made[next(iter(self._made))]
            self._view.show(self._made[step])
        except Exception as error:  # noqa: BLE001  a notebook would lose it: the page shows it
            failed = f"{type(self._view).__name__} did not follow to step {step:,}: {type(error).__name__}: {error}"
        self._training.set_trait("failed", failed)

    def __repr__(self) -> str:
        return f"Drive({type(self._training).__name__}.step → {type(self._view).__name__}.show)"


def _panels(names: Sequence[str]) -> list[list[str]]:
    """Metrics whose names end in the same word, together."""
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(name.replace("_", " ").split()[-1] if name.strip("_ ") else name, []).append(name)
    return list(panels.values())
