"""What a learner of the course waits for: each verdict, in her notebook and when graded; and what CI does, for all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.attention import say
from bench.report import ROOT, Budget, Claim, Table, number

SHOWN = 10  # exercises in the table
NBVAL = "-m pytest -q -p no:cacheprovider -W default --nbval-lax --nbval-current-env --nbval-cell-timeout 120 -n 2"


def every() -> list[str]:
    """All lessons."""
    from interpwidgets.course.library import lessons

    return [each.folder.name for each in lessons()]


def run(lessons: Sequence[str], nbval: Sequence[str]) -> tuple[Claim, str]:
    """Judge every exercise of `lessons`, build them, and run the notebooks of `nbval`, solved and a learner's."""
    from interpwidgets.course.library import lesson

    rows: dict[str, dict[str, float]] = {}
    grades = Table("A whole notebook graded", ["lesson", "exercises", "wall"])
    for name in lessons:
        which = lesson(name)
        say(f"verdicts of {which.folder.name}")
        rows |= verdicts(which)
        total, graded = grading(which)
        for exercise, spent in graded.items():
            rows[exercise]["graded"] = spent
        grades.rows.append([which.folder.name, str(len(which.exercises)), f"{number(total)} s"])
    grades.notes = ["`interpwidgets grade` of the solved notebook: a process is started, all cells run, all judged."]

    columns = ("right", "again", "wrong", "graded")
    slowest = Table("The slowest verdicts", ["exercise", "right answer", "again", "wrong answer", "graded, wall"])
    for exercise, spent in sorted(rows.items(), key=lambda one: -max(one[1].values()))[:SHOWN]:
        slowest.rows.append([exercise, *(f"{number(spent[each])} s" if each in spent else "–" for each in columns)])
    slowest.notes = [
        f"The slowest {min(SHOWN, len(rows))} of {len(rows)} exercises. “Right” is the first check after the lesson's "
        "cells ran, and may load a model; “wrong” is an answer that is held against every known wrong one. “Graded” "
        "is what `interpwidgets grade` takes for the exercise."
    ]
    with tempfile.TemporaryDirectory() as folder:
        built = building(lessons, Path(folder))
        solved, learners = (running(nbval, Path(folder), kind) for kind in ("solved", "learner"))
    course = Table("All notebooks", ["what", "notebooks", "wall"])
    course.rows = [
        ["built: learner's, solved and page", str(len(lessons)), f"{number(built)} s"],
        ["run by nbval, solved", str(len(nbval)), f"{number(solved)} s"],
        ["run by nbval, a learner's", str(len(nbval)), f"{number(learners)} s"],
    ]
    course.notes = ["On two processes, each notebook in a kernel of its own. Building starts a Python."]
    most = {column: max((spent.get(column, 0.0) for spent in rows.values()), default=0.0) for column in columns}
    whole = len(nbval) == len(lessons) > 1
    budgets = [
        (Budget("the slowest verdict in a notebook", "<", 2, " s"), max(most["right"], most["wrong"])),
        (Budget("the slowest verdict when graded, wall", "<", 2, " s"), most["graded"]),
        (Budget("nbval of all notebooks, wall", "≤", 10, " min"), (solved + learners) / 60 if whole else None),
    ]
    return Claim("The course", [slowest, grades, course], budgets), ""


def verdicts(which: Any) -> dict[str, dict[str, float]]:
    """CPU seconds of the verdicts on each exercise of a lesson, in this process, as in a learner's kernel."""
    from interpwidgets.course import Function
    from interpwidgets.course.collecting import collect

    given, failed = collect([cell.solved for cell in which.cells if cell.kind == "code"])
    assert not failed, failed
    spent = {}
    for each in which.exercises:
        answer, sure = given[each.name].answer, given[each.name].confidence
        found = {"right": cpu(each.judged, answer, sure, 1), "again": cpu(each.judged, answer, sure, 2)}
        if isinstance(each, Function):
            found["wrong"] = cpu(each.judged, lambda *_: "something else", None, 3)
        spent[each.name] = found
    return spent


def cpu(function: Callable[..., Any], *arguments: Any) -> float:
    """CPU seconds of a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wrong answer may divide by zero
        started = time.process_time()
        function(*arguments)
        return time.process_time() - started


def grading(which: Any) -> tuple[float, dict[str, float]]:
    """Seconds for the solved notebook, and for each exercise but the first, which waits for the process."""
    from interpwidgets.course.grading import Run

    cells = [cell.solved for cell in which.cells if cell.kind == "code"]
    started = then = time.perf_counter()
    spent = {}
    for name, verdict in Run(cells, which.folder).verdicts({each.name: each for each in which.exercises}, "bench"):
        assert verdict, verdict
        now = time.perf_counter()
        spent[name], then = now - then, now
    spent.pop(which.exercises[0].name)
    return then - started, spent


def building(lessons: Sequence[str], folder: Path) -> float:
    """Seconds to build the lessons into `folder`."""
    return wall([sys.executable, "-m", "interpwidgets.course.build", *lessons, "--out", str(folder)])


def running(lessons: Sequence[str], folder: Path, kind: str) -> float:
    """Seconds that nbval takes for the solved notebooks, or the learners'; as `make notebooks` runs it."""
    from interpwidgets.course.library import lesson

    say(f"nbval, {kind}")
    expected = "passed recorded" if kind == "solved" else "not-attempted"
    notebooks = [str(folder / kind / f"{lesson(name).folder.name}.ipynb") for name in lessons]
    home = {"INTERPWIDGETS_HOME": str(folder / f"home-{kind}"), "INTERPWIDGETS_EXPECT": expected}
    return wall([sys.executable, *NBVAL.split(), "--dist", "loadfile", *notebooks], **home)


def wall(command: list[str], **environment: str) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.perf_counter() - started
