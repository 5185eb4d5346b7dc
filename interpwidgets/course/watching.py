"""The course in a terminal: save, and read the verdict; h for a hint, s for the solution, n for the next exercise."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interpwidgets.course.exercises import Exercise
from interpwidgets.course.grading import judged_cells
from interpwidgets.course.library import Lesson
from interpwidgets.course.progress import next_hint, solution_shown, standing, write_down
from interpwidgets.course.source import cells_of
from interpwidgets.course.verdict import Verdict

__all__ = ["Watch"]

KEYS = "[h]int  [s]olution  [n]ext  [l]ist  [q]uit"


class Watch:
    """One lesson, and the exercise that the learner is at.

    Args:
        lesson: which one.
        path: the notebook or the script that she writes in.
        say: where lines go.
    """

    def __init__(self, lesson: Lesson, path: Path, say: Callable[[str], object] = print) -> None:
        self.lesson, self.path, self.say = lesson, path, say
        self.passed_over: set[str] = set()
        self.verdicts: dict[str, Verdict] = {}

    @property
    def now(self) -> Exercise | None:
        """The first exercise that is neither done nor passed over; None if there is none."""
        return next((each for each in self.lesson.exercises if each.name not in self.passed_over | self.done), None)

    @property
    def done(self) -> set[str]:
        """The exercises that the file solves now."""
        return {name for name, verdict in self.verdicts.items() if verdict}

    def check(self) -> bool:
        """Run the file, and say what there is to say; whether all is done."""
        before = self.done
        cells = cells_of(self.path)
        for name, verdict in judged_cells(cells, self.path.parent, self.lesson.exercises):
            self.verdicts[name] = verdict
            if verdict.status != "not attempted":
                write_down(verdict)
        for name in sorted(self.done - before):
            self.say(str(self.verdicts[name]))
        if self.now is not None and self.now.name in self.verdicts:
            self.say(str(self.verdicts[self.now.name]))
        self.say(self.bar())
        return self.now is None

    def bar(self) -> str:
        """How far the lesson is, in a line."""
        total, done = len(self.lesson.exercises), len(self.done)
        following = f"  now: {self.now.title}" if self.now else "  all done"
        return f"[{'#' * done}{'-' * (total - done)}] {done} of {total}{following}"

    def press(self, key: str) -> bool:
        """Do what a key is for; False to leave."""
        now = self.now
        if key == "q":
            return False
        if key == "l":
            for each in self.lesson.exercises:
                verdict = self.verdicts.get(each.name)
                self.say(f"  {standing(each).state if verdict is None else verdict.status:<14} {each.title}")
        elif now is None:
            self.say("Nothing is left in this lesson.")
        elif key == "h":
            number = next_hint(now)
            self.say(f"Hint {number} of 3: {now.hints[number - 1]}")
        elif key == "s":
            solution_shown(now)
            self.say(now.solution_text())
        elif key == "n":
            self.passed_over.add(now.name)
            self.say(self.bar())
        return True

    def run(self, keys: Iterator[str] | None = None) -> bool:
        """Check at every save, until all is done or the learner leaves; whether all is done."""
        self.say(f"{self.lesson.title}: write in {self.path}, save, read.  {KEYS}")
        saved = None
        with typed() if keys is None else contextlib.nullcontext(keys) as pressed:
            while True:
                now = self._saved()
                if now != saved:
                    saved = now
                    if now is not None and self.check():
                        return True
                key = next(pressed, "q")
                if key and not self.press(key):
                    return False

    def _saved(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:  # an editor replaces files: it is there again in a moment
            return None
        return found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def typed() -> Iterator[Iterator[str]]:
    """Keys as they are pressed, and "" three times a second while none is."""
    try:
        import select
        import termios
        import tty

        before: Any = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    except ImportError:  # Windows
        yield _waiting()
        return
    if before is None:
        yield _waiting()
        return

    def keys() -> Iterator[str]:
        while True:
            ready, _, _ = select.select([sys.stdin], [], [], 0.3)
            yield sys.stdin.read(1).lower() if ready else ""

    tty.setcbreak(sys.stdin)
    try:
        yield keys()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _waiting() -> Iterator[str]:
    while True:
        time.sleep(0.3)
        yield ""
