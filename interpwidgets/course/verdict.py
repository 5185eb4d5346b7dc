"""What a check says: passed, wrong, not attempted or error, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from interpwidgets.course.exercises import Exercise

__all__ = ["CounterExample", "Status", "Verdict"]

Status = Literal["passed", "recorded", "wrong", "not attempted", "error"]
MARKS: dict[str, str] = {"passed": "✓", "recorded": "✎", "wrong": "✗", "not attempted": "○", "error": "!"}


@dataclass(frozen=True)
class CounterExample:
    """One input on which the answer is wrong."""

    arguments: tuple[Any, ...]
    got: Any
    expected: Any
    difference: str  # goes on from “your answer …”


@dataclass(frozen=True)
class Verdict:
    """What is known about an answer: a line in a terminal, a widget in a notebook.

    `bool(verdict)` is true for an answer that passed, or was recorded.
    """

    exercise: Exercise
    status: Status
    said: str  # the sentence under the status
    misconception: str = ""  # the name of the wrong answer that was recognised
    advice: str = ""  # what to do about it
    example: CounterExample | None = None
    score: float | None = None  # Brier score of an answer given with confidence: 0 best, 1 worst
    answer: Any = None  # that answer, and how sure she was: predictions come back to them
    confidence: float | None = None
    seed: int | None = None  # draws the same inputs again: check(answer, seed=…)
    frames: str = field(default="", repr=False)  # of an error, the learner's own

    def __bool__(self) -> bool:
        return self.status in ("passed", "recorded")

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [f"{MARKS[self.status]} {self.exercise.name}: {self.status}. {self.said}".rstrip()]
        if self.frames:
            lines.append(_indented(self.frames))
        lines += [_indented(f"{what} {value}") for what, value in example_rows(self)]
        if self.advice:
            lines.append(_indented(self.advice))
        if self.seed is not None and self.status == "wrong":
            lines.append(_indented(f"The same inputs again: check(…, seed={self.seed})."))
        return "\n".join(lines)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and the text for where there is none."""
        from interpwidgets.course.panel import shown

        return shown(self)._repr_mimebundle_(**kwargs)


def example_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """The counter-example as text: inputs under the names that the oracle has for them, got, expected."""
    example = verdict.example
    if example is None:
        return []
    parameters = list(signature(verdict.exercise.oracle).parameters)  # type: ignore[attr-defined]
    names = parameters + ["input"] * (len(example.arguments) - len(parameters))
    inputs = [(name, short(argument)) for name, argument in zip(names, example.arguments, strict=False)]
    return [*inputs, ("got", short(example.got)), ("expected", short(example.expected))]


def short(value: Any, width: int = 300) -> str:
    """A value as one readable text: numbers to four digits, long ones cut."""
    import numpy as np

    from interpwidgets.course.comparing import as_array

    array = None if isinstance(value, (bool, int, float, str, list, tuple, set, dict)) else as_array(value)
    if isinstance(value, float):
        return f"{value:.5g}"
    if array is not None:
        text = np.array2string(array, precision=4, suppress_small=True, threshold=64, edgeitems=3, separator=", ")
    else:
        try:
            text = repr(value)
        except Exception:  # noqa: BLE001  a learner's object may fail to say what it is
            text = f"<{type(value).__name__}>"
    return text if len(text) <= width else text[: width - 1] + "…"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
