"""The learner's copies of the lessons: made once, never written over; where she is, and what comes next."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from textwrap import shorten

from interpwidgets.course.build import learner
from interpwidgets.course.library import Lesson, lessons
from interpwidgets.course.progress import Standing, events, standing, standings
from interpwidgets.course.source import percent

__all__ = ["FOLDER", "Copied", "copy_lessons", "lab_environment", "next_lesson", "overview", "script"]

FOLDER = Path("interp-course")
LAB = Path(__file__).with_name("lab")  # defaults of JupyterLab's settings; what somebody has set herself goes first


@dataclass(frozen=True)
class Copied:
    """One lesson in the learner's folder."""

    path: Path
    state: str  # new: written now; kept: as she left it; old: kept, and the course has another by now


def copy_lessons(folder: Path, only: Lesson | None = None, *, fresh: bool = False) -> list[Copied]:
    """Write the lessons that are not there yet. With `fresh`, what the course has by now goes beside an old one.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for each in [only] if only else lessons():
        path, text = folder / f"{each.folder.name}.ipynb", learner(each)
        if fresh:
            path = _of_edition(path, _edition(text))
        if not path.exists():
            _write(path, text)
            made.append(Copied(path, "new"))
        else:
            same = _edition(path.read_text("utf-8")) == _edition(text)
            made.append(Copied(path, "kept" if same else "old"))
    return made


def script(folder: Path, which: Lesson) -> Path:
    """The lesson as a script of cells, for those who write in an editor; as it is, if it is there."""
    path = folder / f"{which.folder.name}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, percent(which.cells))
    return path


def lab_environment() -> dict[str, str]:
    """The environment of a JupyterLab that keeps views in the notebook, and asks a beginner nothing about its news."""
    paths = [path for path in (os.environ.get("JUPYTER_CONFIG_PATH"), str(LAB)) if path]
    return os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def next_lesson() -> Lesson | None:
    """Where to go on: the lesson worked on last, if it is not done, else the first that is not; None at the end."""
    open_ones = [each for each in lessons() if not _done(each)]
    for event in reversed(events()):
        for each in open_ones:
            if each.name == event["exercise"].partition(".")[0]:
                return each
    return open_ones[0] if open_ones else None


def overview() -> str:
    """The lessons with how long they take, how far each is, and what is next."""
    known, lines, following = standings(), [], next_lesson()
    for each in lessons():
        states = [standing(one, known) for one in each.exercises]
        done = sum(state.state == "passed" for state in states)
        bar = "█" * round(10 * done / max(1, len(states)))
        title = shorten(each.title, 44, placeholder=" …")
        line = f"{each.number}  {title:<44}  {each.minutes:3.0f} min  {bar:·<10}  {done} of {len(states)}"
        again = [one.title for one, state in zip(each.exercises, states, strict=True) if state.state == "check again"]
        lines.append(line + ("  ← next" if each == following else ""))
        lines += [f"    check again, it has changed: {title}" for title in again]
    if not lines:
        return "There are no lessons in this installation."
    if following is None:
        lines.append("All done. What will you find out next?")
    else:
        first = next((one for one in following.exercises if standing(one, known).state != "passed"), None)
        lines.append(f"Next: {following.title}" + (f", “{first.title}”." if first else "."))
    return "\n".join(lines)


def _done(which: Lesson) -> bool:
    known: dict[str, list[dict[str, object]]] = standings()
    found: list[Standing] = [standing(each, known) for each in which.exercises]
    return bool(found) and all(each.state == "passed" for each in found)


def _of_edition(path: Path, edition: str) -> Path:
    """The lesson's own file, or the first beside it that is of this edition or is not there yet."""
    names = (f"{path.stem}{kind}.ipynb" for kind in chain(["", ".new"], (f".new-{number}" for number in count(2))))
    files = (path.with_name(name) for name in names)
    return next(file for file in files if not file.exists() or _edition(file.read_text("utf-8")) == edition)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: half a lesson would be taken for hers, and kept."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _edition(text: str) -> str:
    """Which edition of a lesson a notebook was made from."""
    try:
        return str(json.loads(text)["metadata"]["interpwidgets"]["edition"])
    except (ValueError, KeyError, TypeError):
        return ""
