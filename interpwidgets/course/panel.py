"""The verdict as a widget: what was found, a counter-example, hints, the solution, how far the module is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from interpwidgets.course.verdict import MARKS, Verdict, example_lines
from interpwidgets.views.drawing import Drawing
from interpwidgets.views.view import View

if TYPE_CHECKING:
    from interpwidgets.course.exercises import Exercise

__all__ = ["VerdictView", "panel_of"]


class VerdictView(View, view="verdict"):
    """A verdict, with what helps to go on; `hints` and `solution` open with a click, and are written down."""

    verdict = traitlets.Dict(help="what was found", read_only=True).tag(sync=True)
    module = traitlets.Dict(help="the module: title, exercises, their states", read_only=True).tag(sync=True)
    hints = traitlets.List(traitlets.Unicode(), help="the hints opened so far", read_only=True).tag(sync=True)
    solution = traitlets.Unicode("", help="the solution, once it is opened", read_only=True).tag(sync=True)

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.set_trait("verdict", _facts(verdict))
        self.set_trait("module", _module(verdict.exercise))
        super().__init__({}, title=verdict.exercise.title)

    def _receive(self, view: View, content: Any, buffers: Any) -> None:
        if "hint" in content:
            self.open_hint()
        elif "solution" in content:
            self.open_solution()
        else:
            super()._receive(view, content, buffers)

    def open_hint(self) -> None:
        """Open the next hint."""
        from interpwidgets.course.progress import append

        number = len(self.hints) + 1
        if number <= 3:
            append("hint", self._verdict.exercise, number=number)
            self.set_trait("hints", list(self._verdict.exercise.hints[:number]))

    def open_solution(self) -> None:
        """Open the solution."""
        from interpwidgets.course.progress import solution_shown

        solution_shown(self._verdict.exercise)
        self.set_trait("solution", self._verdict.exercise.solution_text())

    def picture(self) -> Drawing:
        """The verdict as a line of text."""
        lines = str(self._verdict).splitlines()
        drawing = Drawing(8 * max(map(len, lines)) + 16, 18 * len(lines) + 12)
        for i, line in enumerate(lines):
            drawing.text((8, 18 * i + 8), line)
        return drawing

    def still(self) -> str:
        """The verdict as text, for where no widget may run."""
        from html import escape

        return f"<pre>{escape(str(self._verdict))}</pre>"

    def describe(self) -> str:
        """The verdict as text."""
        return str(self._verdict)

    def __repr__(self) -> str:
        return str(self._verdict)


def panel_of(verdict: Verdict) -> VerdictView:
    """The widget of a verdict."""
    return VerdictView(verdict)


def _facts(verdict: Verdict) -> dict[str, Any]:
    example = [] if verdict.example is None else example_lines(verdict.example)
    return {
        "name": verdict.exercise.name,
        "status": verdict.status,
        "mark": MARKS[verdict.status],
        "said": verdict.said,
        "misconception": verdict.misconception,
        "advice": verdict.advice,
        "frames": verdict.frames,
        "example": example,
        "seed": verdict.seed,
    }


def _module(exercise: Exercise) -> dict[str, Any]:
    from interpwidgets.course.library import everything
    from interpwidgets.course.progress import standing, standings

    known = standings()
    found = next((each for each in everything() if each.name == exercise.module), None)
    each = found.exercises if found else [exercise]
    states = [{"name": one.name, "title": one.title, "state": standing(one, known).state} for one in each]
    return {"title": found.title if found else exercise.module, "exercises": states}
