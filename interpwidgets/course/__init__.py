"""The course: lessons, exercises, and checks that say what is wrong.

    from interpwidgets.course import exercise

    exercise("heads.induction_score").check(my_function)
    exercise("heads.induction_score").hint()
    exercise("heads.induction_score").show_solution()

Authors: docs/authoring.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpwidgets.course.claims import Claim, relabelled, scrambled
    from interpwidgets.course.comparing import close, exact, unordered
    from interpwidgets.course.exercises import Exercise, Function, Mutant
    from interpwidgets.course.library import exercise, lesson, lessons
    from interpwidgets.course.predicting import predictions
    from interpwidgets.course.questions import Choice, Estimate, InView, Option
    from interpwidgets.course.verdict import CounterExample, Verdict

_HOME = {
    "Choice": "questions",
    "Claim": "claims",
    "CounterExample": "verdict",
    "Estimate": "questions",
    "Exercise": "exercises",
    "Function": "exercises",
    "InView": "questions",
    "Mutant": "exercises",
    "Option": "questions",
    "Verdict": "verdict",
    "close": "comparing",
    "exact": "comparing",
    "exercise": "library",
    "lesson": "library",
    "lessons": "library",
    "predictions": "predicting",
    "relabelled": "claims",
    "scrambled": "claims",
    "unordered": "comparing",
}

__all__ = [
    "Choice",
    "Claim",
    "CounterExample",
    "Estimate",
    "Exercise",
    "Function",
    "InView",
    "Mutant",
    "Option",
    "Verdict",
    "close",
    "exact",
    "exercise",
    "lesson",
    "lessons",
    "predictions",
    "relabelled",
    "scrambled",
    "unordered",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
