"""What the learner did, in one file that only grows: `events.jsonl`, one JSON object a line.

Progress is a fold over events. They are kept under the exercise's name and version, never under the name of a
notebook, a cell or a folder: what is renamed, moved or copied stays done; what was changed asks to be checked again.
Two kernels may write at once, also on a file system that several machines share: a line is written whole, under a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from interpwidgets.course.exercises import Exercise
    from interpwidgets.course.verdict import Verdict

__all__ = ["Standing", "append", "events", "export", "home", "merge", "standing", "standings"]

_LONGEST = 4000  # bytes: a line that is written in one go
_unsaved: list[bytes] = []  # lines that found no room, for the next time
_TURN = threading.RLock()  # a lock on a file is the process's: among threads there is this one


@dataclass(frozen=True)
class Standing:
    """Where a learner is with one exercise."""

    state: str = "new"  # new, tried, passed, check again
    tries: int = 0
    hints: int = 0
    solution: bool = False  # it was shown
    answer: Any = None  # the first that was given with confidence: a prediction is none once the result is seen
    confidence: float | None = None
    last: tuple[Any, float] | None = None  # the last that was, and how sure she was


def home() -> Path:
    """The folder that progress is kept in; INTERPWIDGETS_HOME names another."""
    if named := os.environ.get("INTERPWIDGETS_HOME"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "interpwidgets"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/interpwidgets"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "interpwidgets"


def append(what: str, exercise: Exercise, **facts: Any) -> str:
    """Write one event down; what went wrong in a sentence, or nothing. It never raises: a check must not fail by it."""
    event = {"time": round(time.time(), 3), "what": what, "exercise": exercise.name, "version": exercise.version}
    event |= {key: fact for key, fact in facts.items() if fact not in (None, "")}
    line = (json.dumps(event, ensure_ascii=False, default=repr) + "\n").encode()
    if len(line) > _LONGEST:
        event["answer"] = repr(event.get("answer"))[:200]
        line = (json.dumps(event, ensure_ascii=False, default=repr) + "\n").encode()
    with _TURN:
        _unsaved.append(line)
        try:
            write_line(home() / "events.jsonl", b"".join(_unsaved))
        except OSError as error:
            return (
                f"Your progress is not saved yet: {error.strerror or error} ({home()}). The verdict holds all the "
                "same; what is not saved is kept, and saved with the next check that can be."
            )
        _unsaved.clear()
    if (home() / "workshop.json").exists():  # she has joined one, which another thread tells
        from interpwidgets.course.workshop import nudge

        nudge()
    return ""


def write_line(path: Path, line: bytes) -> None:
    """Add whole lines, or nothing: what was written of it is taken back if the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _TURN, path.open("ab+", buffering=0) as file, locked(file):
        end = file.seek(0, os.SEEK_END)
        if end and file.seek(end - 1) >= 0 and file.read(1) != b"\n":
            line = b"\n" + line  # another process died within its line
        try:
            if file.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


@contextlib.contextmanager
def locked(file: Any) -> Iterator[None]:
    """Alone with the file, also among machines; where there are no locks, appending has to do."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN)


def events(path: Path | None = None) -> list[dict[str, Any]]:
    """All events in the order they were written; a line that was cut short is passed over."""
    path = path or home() / "events.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("exercise"), str):
                found.append(event)
    return found


def standings() -> dict[str, list[dict[str, Any]]]:
    """The events of each exercise."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events():
        found.setdefault(event["exercise"], []).append(event)
    return found


def standing(exercise: Exercise, known: dict[str, list[dict[str, Any]]] | None = None) -> Standing:
    """Where the learner is with an exercise."""
    found = (standings() if known is None else known).get(exercise.name, [])
    now = [event for event in found if event.get("version") == exercise.version]
    tries = [event for event in now if event["what"] == "check" and event.get("status") != "not attempted"]
    done = any(event.get("status") in ("passed", "recorded") for event in tries)
    before = any(event.get("status") in ("passed", "recorded") for event in found if event not in now)
    given = [event for event in tries if event.get("confidence") is not None]
    return Standing(
        state="passed" if done else "check again" if before else "tried" if tries else "new",
        tries=len(tries),
        hints=max((event.get("number", 0) for event in now if event["what"] == "hint"), default=0),
        solution=any(event["what"] == "solution" for event in now),
        answer=given[0].get("answer") if given else None,
        confidence=given[0]["confidence"] if given else None,
        last=(given[-1].get("answer"), given[-1]["confidence"]) if given else None,
    )


def export(path: Path) -> int:
    """Write all events to a file of its own; how many."""
    found = events()
    path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in found), "utf-8")
    return len(found)


def merge(path: Path) -> int:
    """Add the events of another file that are not known yet, as from another machine; how many.

    Raises:
        InputError: there is no such file, or no event in it.
    """
    theirs = events(path)
    if not theirs:
        raise InputError(f"{path} holds no progress: it is written by `interpwidgets progress --export FILE`.")
    known = {json.dumps(event, sort_keys=True) for event in events()}
    new = [event for event in theirs if json.dumps(event, sort_keys=True) not in known]
    for event in new:
        write_line(home() / "events.jsonl", (json.dumps(event, ensure_ascii=False) + "\n").encode())
    return len(new)


def write_down(verdict: Verdict) -> Verdict:
    """Write a check down; the verdict, with a note if that failed."""
    note = append(
        "check",
        verdict.exercise,
        status=verdict.status,
        misconception=verdict.misconception,
        answer=verdict.answer,
        confidence=verdict.confidence,
        score=verdict.score,
    )
    return replace(verdict, advice=f"{verdict.advice}\n{note}".strip()) if note else verdict


def next_hint(exercise: Exercise) -> int:
    """The number of the next hint, which is thereby taken; the last one again when there is none left."""
    number = min(3, standing(exercise).hints + 1)
    append("hint", exercise, number=number)
    return number


def solution_shown(exercise: Exercise) -> None:
    """Write down that the solution was opened."""
    append("solution", exercise)
