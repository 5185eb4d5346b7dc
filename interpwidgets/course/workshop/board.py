"""What the board shows: each learner on each exercise, what an exercise does to them, and who is stuck."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from statistics import median
from typing import Any

__all__ = ["STUCK", "board", "course_order", "to_csv"]

STUCK = 3  # wrong answers in a row, with none that passed
_COLUMNS = (
    "learner",
    "time",
    "what",
    "exercise",
    "version",
    "status",
    "misconception",
    "number",
    "confidence",
    "score",
)
_COLUMNS_LIMIT = 300


def course_order() -> list[str]:
    """The exercises as the course asks them; found in the lessons' text, without running it."""
    from interpwidgets.course.library import lessons

    return [name for lesson in lessons() for cell in lesson.cells for name in cell.checks]


def board(learners: Mapping[str, str], events: Iterable[Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """All that the page draws.

    Args:
        learners: names by identity, in the order of joining.
        events: in the order of their time.
        order: exercises in the order of the course; others come after them.

    Returns:
        `learners`, with a cell for each exercise that she tried; `exercises`; `stuck`, the longest first, and last
        those who went on to another exercise.
    """
    names = distinct(learners)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    seen: dict[str, float] = {}
    at: dict[str, str] = {}  # the exercise that she did something with last
    for event in events:
        if event["learner"] in names:
            groups[event["learner"], event["exercise"]].append(event)
            seen[event["learner"]], at[event["learner"]] = event["time"], event["exercise"]
    cells = {where: cell for where, group in groups.items() if (cell := _cell(group))}
    place = {name: at for at, name in enumerate(dict.fromkeys(order))}
    tried = sorted({exercise for _, exercise in cells}, key=lambda name: (place.get(name, len(place)), name))
    tried = tried[:_COLUMNS_LIMIT]
    return {
        "learners": [
            {
                "id": who,
                "name": name,
                "seen": seen.get(who),
                "cells": {exercise: cells[who, exercise] for exercise in tried if (who, exercise) in cells},
            }
            for who, name in names.items()
        ],
        "exercises": [
            {"name": exercise, **_summary([cells[who, exercise] for who in names if (who, exercise) in cells])}
            for exercise in tried
        ],
        "stuck": sorted(
            (
                {"learner": names[who], "exercise": exercise, "left": at[who] != exercise, **cell}
                for (who, exercise), cell in cells.items()
                if cell["state"] == "stuck" and exercise in tried
            ),
            key=lambda one: (one["left"], one["since"]),
        ),
    }


def distinct(learners: Mapping[str, str]) -> dict[str, str]:
    """Names by identity; the second “quiet heron” is called so."""
    found: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for who, name in learners.items():
        taken[name] += 1
        found[who] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return found


def _cell(group: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One learner on one exercise, in the version she has now."""
    version = max(event["version"] for event in group)
    now = [event for event in group if event["version"] == version]
    tries = [event for event in now if event["what"] == "check" and event["status"] != "not attempted"]
    first = next((at for at, event in enumerate(tries) if event["status"] in ("passed", "recorded")), None)
    needed = tries if first is None else tries[: first + 1]
    hints = max((int(event["number"] or 0) for event in now if event["what"] == "hint"), default=0)
    solution = any(event["what"] == "solution" for event in now)
    if not (tries or hints or solution):
        return None
    wrong = [event["misconception"] for event in needed if event["status"] == "wrong" and event["misconception"]]
    state = "passed" if first is not None else "stuck" if len(tries) >= STUCK else "tried" if tries else "opened"
    return {
        "state": state,
        "tries": len(needed),
        "hints": hints,
        "solution": solution,
        "misconceptions": list(dict.fromkeys(wrong)),
        "since": (needed or now)[0]["time"],
    }


def _summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    tried = [cell for cell in cells if cell["tries"]]
    passed = [cell for cell in tried if cell["state"] == "passed"]
    shared = Counter(name for cell in tried for name in cell["misconceptions"])  # learners, not tries
    name, count = max(shared.items(), key=lambda one: (one[1], one[0]), default=("", 0))
    return {
        "tried": len(tried),
        "passed": len(passed),
        "stuck": sum(cell["state"] == "stuck" for cell in tried),
        "median_tries": median(cell["tries"] for cell in passed) if passed else None,
        "misconception": name,
        "misconception_learners": count,
    }


def to_csv(learners: Mapping[str, str], events: Iterable[Mapping[str, Any]]) -> str:
    """All events as a table. No cell is a formula to a spreadsheet, whatever a learner calls herself."""
    names = distinct(learners)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for event in events:
        if event["learner"] in names:
            when = datetime.fromtimestamp(min(max(event["time"], 0), 4e9), timezone.utc).isoformat(timespec="seconds")
            row = {**event, "learner": names[event["learner"]], "time": when}
            writer.writerow([_safe(row[column]) for column in _COLUMNS])
    return out.getvalue()


def _safe(value: Any) -> Any:
    """A text that a spreadsheet would calculate gets an apostrophe before it, which says that it is text."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip()[:1] in tuple("=+-@＝＋－＠|%") else value
