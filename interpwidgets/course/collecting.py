"""Run the code of a notebook and take down what it hands to `check`, instead of checking it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import interpwidgets.course as course
from interpwidgets.course.running import Sink, own_frames, told

__all__ = ["Given", "collect"]


@dataclass(frozen=True)
class Given:
    """An answer as it was handed in; the last one counts."""

    answer: Any
    confidence: float | None = None


class Stand:
    """Stands where an exercise would: takes the answer, says nothing."""

    def __init__(self, name: str, given: dict[str, Given]) -> None:
        self._name, self._given = name, given

    def check(self, answer: Any = ..., *, confidence: Any = None, seed: Any = None) -> None:
        """Take the answer down."""
        self._given[self._name] = Given(answer, confidence)

    def hint(self, number: Any = None) -> None:
        """No hint."""

    def show_solution(self) -> None:
        """No solution."""


def collect(
    cells: Sequence[str],
    namespace: dict[str, Any] | None = None,
    begin: Callable[[int], bool] = lambda _: True,
) -> tuple[dict[str, Given], list[str]]:
    """Run cells one after the other, whatever one of them does; the answers, and what failed.

    `begin` is called with the number of each cell before it is run, and may say no.
    """
    given: dict[str, Given] = {}
    failed: list[str] = []
    names: dict[str, Any] = (
        {"__name__": "__main__", "display": lambda *_, **__: None} if namespace is None else namespace
    )
    with standing_in(given), contextlib.redirect_stdout(Sink()), contextlib.redirect_stderr(Sink()):
        for number, cell in enumerate(cells):
            if not begin(number):
                continue
            lines = [line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))]
            try:
                exec(compile("\n".join(lines), f"cell {number + 1}", "exec"), names)  # noqa: S102  it is what we are for
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  sys.exit() in one cell must not end the others
                failed.append(f"Cell {number + 1}: {told(error)}\n{own_frames(error)}".strip())
    return given, failed


@contextlib.contextmanager
def standing_in(given: dict[str, Given]) -> Iterator[None]:
    """`from interpwidgets.course import exercise` gives stands in here, and predictions are not looked up."""
    before: dict[str, Any] = {name: vars(course)[name] for name in ("exercise", "predictions") if name in vars(course)}
    course.exercise = lambda name: Stand(name, given)  # type: ignore[assignment,return-value]
    course.predictions = lambda _: None  # type: ignore[assignment,return-value]
    try:
        yield
    finally:
        del course.exercise, course.predictions
        for name, value in before.items():
            setattr(course, name, value)
