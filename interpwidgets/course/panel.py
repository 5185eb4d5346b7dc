"""The verdict as a widget: what was found, a counter-example, hints, the solution, how far the module is.

Where the answer is a number or one of several statements, the widget asks for it, and checks what is said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from interpwidgets.course.progress import append, solution_shown, standing, standings
from interpwidgets.course.questions import Confident
from interpwidgets.course.verdict import MARKS, Verdict, example_rows
from interpwidgets.views.dashboard import Dashboard
from interpwidgets.views.drawing import Drawing
from interpwidgets.views.view import View

if TYPE_CHECKING:
    from interpwidgets.course.exercises import Exercise

__all__ = ["VerdictView", "shown"]


class VerdictView(View, view="verdict"):
    """A verdict, with what helps to go on: hints open one by one, then the solution; both are written down.

        exercise("heads.induction_score").check(my_function)     # what a notebook shows for it

    A counter-example stands as text in the view, and below it as one of our views where the exercise draws it. A
    question is answered in the view, by setting `answer` and `confidence`, and `submit`.
    """

    answer = traitlets.Any(None, help="a number, or the letter of an option").tag(sync=True)
    confidence = traitlets.Float(None, min=0, max=1, allow_none=True, help="how sure you are").tag(sync=True)
    verdict = traitlets.Dict(help="what was found", read_only=True).tag(sync=True)
    module = traitlets.Dict(help="the module: title, exercises, their states", read_only=True).tag(sync=True)
    hints = traitlets.List(traitlets.Unicode(), help="the hints opened so far", read_only=True).tag(sync=True)
    solution = traitlets.Dict(help="the solution, once it is opened: code, why", read_only=True).tag(sync=True)
    form = traitlets.Dict(
        default_value=None, help="how it is asked for, if it is", allow_none=True, read_only=True
    ).tag(sync=True)
    _submitted = traitlets.Int(0).tag(sync=True)  # how often: the page knows by it that there is a verdict

    def __init__(self, verdict: Verdict) -> None:
        exercise = verdict.exercise
        if isinstance(exercise, Confident):
            verdict = _as_said_before(exercise, verdict)
            self.set_trait("form", {**exercise.form, "later": exercise.later})
        self._show(verdict)
        super().__init__({}, title=exercise.title, answer=verdict.answer, confidence=verdict.confidence)

    def _show(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.set_trait("verdict", _facts(verdict))
        self.set_trait("module", _module(verdict.exercise))
        if not verdict:  # hints that were asked for once stay open
            self.set_trait("hints", list(verdict.exercise.hints[: standing(verdict.exercise).hints]))

    def _receive(self, view: View, content: Mapping[str, Any], buffers: list[memoryview]) -> None:
        if "hint" in content:
            self.open_hint()
        elif "solution" in content:
            self.open_solution()
        elif "submit" in content:
            self.submit()
        else:
            super()._receive(view, content, buffers)

    def submit(self) -> None:
        """Check the answer that stands in the view, as the exercise's `check` does."""
        with self.hold_sync():
            self._show(self._verdict.exercise.check(self.answer, confidence=self.confidence))
            self._submitted += 1

    def open_hint(self) -> None:
        """Open the next hint."""
        number = len(self.hints) + 1
        if number <= 3:
            append("hint", self._verdict.exercise, number=number)
            self.set_trait("hints", list(self._verdict.exercise.hints[:number]))

    def open_solution(self) -> None:
        """Open the solution."""
        exercise = self._verdict.exercise
        solution_shown(exercise)
        self.set_trait("solution", {"code": exercise.solution_code(), "why": exercise.solution})

    def picture(self) -> Drawing:
        """The verdict as lines of text."""
        lines = str(self._verdict).splitlines()
        drawing = Drawing(8 * max(map(len, lines)) + 16, 18 * len(lines) + 16)
        for i, line in enumerate(lines):
            drawing.text((8, 18 * i + 8), line)
        return drawing

    def still(self) -> str:
        """The verdict as text, for where no widget may run."""
        return f"<pre>{escape(str(self._verdict))}</pre>"

    def describe(self) -> str:
        """The verdict as text."""
        return str(self._verdict)

    def __repr__(self) -> str:
        return str(self._verdict)


def shown(verdict: Verdict) -> VerdictView | Dashboard:
    """The widget of a verdict, with the counter-example below it if the exercise draws it."""
    panel = VerdictView(verdict)
    draw = getattr(verdict.exercise, "drawn", None)
    if draw is None or verdict.example is None:
        return panel
    try:
        return Dashboard([panel, draw(verdict.example)], linked=False)
    except Exception:  # noqa: BLE001  an answer may be no picture: what is wrong with it stands in the verdict
        return panel


def _as_said_before(exercise: Confident, verdict: Verdict) -> Verdict:
    """What was answered before, where nothing is answered now: a notebook that is run again asks nothing twice."""
    known = standing(exercise)
    if verdict.status != "not attempted" or known.last is None:
        return verdict
    return exercise.judged(*((known.answer, known.confidence) if exercise.later else known.last), 0)


def _facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.exercise.name,
        "status": verdict.status,
        "mark": MARKS[verdict.status],
        "said": verdict.said,
        "misconception": verdict.misconception,
        "advice": verdict.advice,
        "frames": verdict.frames,
        "example": [list(row) for row in example_rows(verdict)],
        "seed": verdict.seed,
    }


def _module(exercise: Exercise) -> dict[str, Any]:
    from interpwidgets.course.library import everything

    known = standings()
    found = next((each for each in everything() if each.name == exercise.module), None)
    each = found.exercises if found else [exercise]
    states = [{"name": one.name, "title": one.title, "state": standing(one, known).state} for one in each]
    return {"title": found.title if found else exercise.module, "exercises": states}
