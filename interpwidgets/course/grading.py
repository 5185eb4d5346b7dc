"""Grade a notebook: run it in a process of its own, and judge here what its functions do with fresh inputs.

The learner's process has neither oracles nor solutions; this one runs none of the learner's code. Whatever a notebook
does (loops, exits, forks, prints, deletes, patches), it ends in a verdict, and nothing of the learner's is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interpwidgets.course.exercises import Exercise, Function
from interpwidgets.course.library import everything
from interpwidgets.course.questions import InView
from interpwidgets.course.running import Ran
from interpwidgets.course.source import NAMED, cells_of
from interpwidgets.course.verdict import MARKS, Verdict
from interpwidgets.course.wire import decode, pack, ran_from, read_frame, write_frame

__all__ = ["Grade", "Report", "Run", "grade", "judged_cells"]


@dataclass(frozen=True)
class Grade:
    """What one exercise of a notebook is worth."""

    exercise: str
    status: str  # a verdict's, or unknown: the course has no such exercise (any more)
    said: str
    misconception: str = ""
    score: float | None = None


@dataclass(frozen=True)
class Report:
    """All grades of a notebook."""

    notebook: str
    salt: str  # grades again on the same inputs
    grades: tuple[Grade, ...]
    failed: tuple[str, ...] = ()  # cells that did not run

    @property
    def passed(self) -> int:
        """How many exercises are done."""
        return sum(each.status in ("passed", "recorded") for each in self.grades)

    def to_json(self) -> str:
        """The report for a machine."""
        return json.dumps({**asdict(self), "passed": self.passed}, indent=1, ensure_ascii=False)

    def __str__(self) -> str:
        width = max((len(each.exercise) for each in self.grades), default=0)
        rows = [
            f"{MARKS.get(each.status, '?')} {each.exercise:<{width}}  {each.status:<13}  "
            f"{(each.misconception + ': ') if each.misconception else ''}{each.said.splitlines()[0]}"
            for each in self.grades
        ]
        failed = [f"! {line}" for each in self.failed for line in each.splitlines()[:1]]
        return "\n".join([*rows, *failed, f"{self.passed} of {len(self.grades)} exercises ({self.notebook})"])


def grade(notebook: str | Path, *, salt: str = "", seconds: float = 60, memory: int = 2048) -> Report:
    """Grade a notebook on inputs that nobody has seen.

    Args:
        notebook: the learner's.
        salt: what inputs are drawn from; the same salt draws the same.
        seconds: how long a cell, or an exercise, may take.
        memory: megabytes that it may use.

    Raises:
        InputError: there is no such notebook.
    """
    path = Path(notebook)
    cells = cells_of(path)
    salt = salt or secrets.token_hex(8)
    named = dict.fromkeys(re.findall(NAMED, "\n".join(cells)))
    modules = {name.partition(".")[0] for name in named}
    wanted = {each.name: each for one in everything() if one.name in modules for each in one.exercises}
    run = Run(cells, path.resolve().parent, seconds, memory)
    verdicts = dict(run.verdicts(wanted, salt))
    grades = [Grade(name, v.status, v.said, v.misconception, v.score) for name, v in verdicts.items()]
    gone = "This version of the course has no such exercise."
    grades += [Grade(name, "unknown", gone) for name in named if name not in wanted]
    return Report(path.name, salt, tuple(grades), tuple(run.failed))


def judged_cells(cells: Sequence[str], beside: Path, exercises: Sequence[Exercise]) -> Iterator[tuple[str, Verdict]]:
    """The verdicts on what cells hand in, each as soon as it is known."""
    wanted = {each.name: each for each in exercises}
    return Run(cells, beside.resolve()).verdicts(wanted, secrets.token_hex(8))


class GoneError(Exception):
    """The learner's process ended, hung, or said what makes no sense."""


class Run:
    """One notebook, run as often as it takes: a cell or an exercise that ends the process is passed over.

    Args:
        cells: the code, a cell each.
        beside: the folder that its imports are looked for in.
        seconds: how long a cell, or an exercise, may take.
        memory: megabytes that it may use.
    """

    def __init__(self, cells: Sequence[str], beside: Path, seconds: float = 60, memory: int = 2048) -> None:
        self.cells, self.beside, self.seconds, self.memory = cells, beside, seconds, memory
        self.skip: list[int] = []
        self.failed: list[str] = []  # `Cell 3: what happened`, then the lines where

    def verdicts(self, wanted: dict[str, Exercise], salt: str) -> Iterator[tuple[str, Verdict]]:
        """The verdict on each exercise, in order, each as soon as it is known."""
        left = dict(wanted)
        while left:
            with _child() as child:
                try:
                    answers = self.run_cells(child)
                except GoneError as gone:
                    if child.cell is None or child.cell in self.skip:
                        yield from ((name, Verdict(each, "error", str(gone))) for name, each in left.items())
                        return
                    self.skip.append(child.cell)
                    self.failed.append(f"Cell {child.cell + 1}: {gone}")
                    continue
                for name, exercise in list(left.items()):
                    del left[name]
                    try:
                        yield name, self.judge(child, exercise, answers.get(name), seed_of(salt, name))
                    except GoneError as gone:
                        yield name, Verdict(exercise, "error", str(gone))
                        break

    def run_cells(self, child: _Child) -> dict[str, Any]:
        """Run the notebook; what it handed in, under the exercises' names."""
        task = {"cells": self.cells, "skip": self.skip, "memory": self.memory, "beside": str(self.beside)}
        child.tell(pack(task))
        while True:
            said = child.hear(self.seconds + (_START if child.cell is None else 0))
            if "answers" in said:
                break
            if not isinstance(said.get("cell"), int):
                raise GoneError(_NONSENSE)
            child.cell = said["cell"]
        answers, failed = said["answers"], said.get("failed")
        if not isinstance(answers, dict) or not isinstance(failed, list):
            raise GoneError(_NONSENSE)
        known = [each.partition(":")[0] for each in self.failed]
        self.failed += [str(each)[:2000] for each in failed if str(each).partition(":")[0] not in known]
        return answers

    def judge(self, child: _Child, exercise: Exercise, given: Any, seed: int) -> Verdict:
        """The verdict on what was handed in."""
        if given is None:
            return Verdict(exercise, "not attempted", "The notebook does not check it.")
        try:
            value, confidence, kind = decode(given["value"]), decode(given["confidence"]), given["kind"]
        except (ValueError, TypeError, KeyError):
            raise GoneError(_NONSENSE) from None
        if isinstance(exercise, Function) and kind == "function":
            inputs = exercise.inputs(seed)
            seconds = min(self.seconds, exercise.seconds)
            child.tell(pack({"name": exercise.name, "inputs": inputs, "seconds": seconds}))
            ran = self.ran(child, seconds + _GRACE, len(inputs))
            return exercise.verdict(inputs, ran, seed)
        if isinstance(exercise, InView) != (kind == "view") and value is not Ellipsis:
            return Verdict(exercise, "error", f"{exercise!r} is not answered by a {kind}.")
        return exercise.judged(value, confidence, seed)

    def ran(self, child: _Child, seconds: float, count: int) -> list[Ran]:
        """What a function did with the inputs, as the process says."""
        said = child.hear(seconds)
        if "too_much" in said:
            raise GoneError(f"The outputs are {said['too_much']} bytes long.")
        try:
            ran = [ran_from(each) for each in said["ran"]]
        except (ValueError, TypeError, KeyError):
            raise GoneError(_NONSENSE) from None
        if len(ran) != count:
            raise GoneError(_NONSENSE)
        return ran


_START = 60  # seconds for the process to start
_GRACE = 10  # seconds for a function to notice that its time is out
_NONSENSE = "The notebook's process said what no answer says: was something patched?"


def seed_of(salt: str, name: str) -> int:
    """The seed of an exercise under a salt."""
    return int.from_bytes(hashlib.sha256(f"{salt} {name}".encode()).digest()[:6], "big")


class _Child:
    """The learner's process: told things, and heard, for so long."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.cell: int | None = None  # that it is in
        self._heard: queue.Queue[bytes | None] = queue.Queue(maxsize=64)
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._listen)

    def tell(self, data: bytes) -> None:
        """Say something; a process that does not listen is found out when it is to be heard."""
        assert self.process.stdin is not None
        stdin = self.process.stdin

        def write() -> None:
            with contextlib.suppress(OSError, ValueError):
                write_frame(stdin, data)  # type: ignore[arg-type]

        self._start(write)

    def end(self) -> None:
        """End it, with all that it started, and let go of it."""
        self.ended.set()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def hear(self, seconds: float) -> dict[str, Any]:
        """What it says next."""
        try:
            data = self._heard.get(timeout=seconds)
        except queue.Empty:
            raise GoneError(f"Not done after {seconds:g} s.") from None
        if data is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            raise GoneError(f"It ended the process (status {self.process.poll()}).")
        try:
            said = json.loads(data)
        except ValueError:
            raise GoneError(_NONSENSE) from None
        if not isinstance(said, dict):
            raise GoneError(_NONSENSE)
        return said

    def _listen(self) -> None:
        data: bytes | None = b""
        while data is not None and not self.ended.is_set():
            try:
                data = read_frame(self.process.stdout)  # type: ignore[arg-type]
            except (OSError, ValueError):
                data = None
            while not self.ended.is_set():
                with contextlib.suppress(queue.Full):
                    self._heard.put(data, timeout=0.1)
                    break


@contextlib.contextmanager
def _child() -> Iterator[_Child]:
    """A process in a folder of its own, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="interpwidgets-", ignore_cleanup_errors=True) as scratch:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_"))},
            "HOME": scratch,
            "INTERPWIDGETS_HOME": scratch,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "interpwidgets.course.answering"],
            cwd=scratch,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        child = _Child(process)
        try:
            yield child
        finally:
            child.end()
