"""Which lessons there are, and which exercises: found in the folder that came with the package."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

from interpwidgets.course.exercises import Exercise
from interpwidgets.course.source import Cell, read_cells
from interpwidgets.errors import InputError

__all__ = ["Lesson", "exercise", "lesson", "lessons", "solution_code"]

_PACKAGE = Path(__file__).parents[1]
_FOLDER = re.compile(r"([0-9]{2})_([a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class Lesson:
    """One module of the course: `02_heads` is number 2, called heads."""

    folder: Path

    @property
    def name(self) -> str:
        """What its exercises' names begin with."""
        return self.folder.name.partition("_")[2]

    @property
    def number(self) -> str:
        """Two digits; empty for an example."""
        return self.folder.name.partition("_")[0]

    @cached_property
    def cells(self) -> list[Cell]:
        """The source."""
        return read_cells(self.folder / "lesson.py")

    @property
    def title(self) -> str:
        """Its first heading."""
        first = next((cell.source for cell in self.cells if cell.kind == "markdown"), "")
        return first.splitlines()[0].lstrip("# ").strip() if first.startswith("# ") else self.name

    @property
    def minutes(self) -> float:
        """How long it takes: what the first cell says, or the sum of its exercises."""
        return float(self.cells[0].metadata.get("minutes") or sum(each.minutes for each in self.exercises))

    @cached_property
    def exercises(self) -> list[Exercise]:
        """In the order of the lesson; those that the lesson does not name come last."""
        named = list(dict.fromkeys(name for cell in self.cells for name in cell.checks))
        found = self._defined
        return sorted(found.values(), key=lambda each: named.index(each.name) if each.name in named else len(named))

    @cached_property
    def _defined(self) -> dict[str, Exercise]:
        module = _load(self.folder / "exercises.py", f"interpwidgets_course_{self.folder.name}")
        found: dict[str, Exercise] = {}
        for each in vars(module).values():
            if isinstance(each, Exercise) and found.setdefault(each.name, each) is not each:
                raise InputError(f"{self.folder}: two exercises are called {each.name}.")
        if bad := [name for name in found if name.partition(".")[0] != self.name]:
            raise InputError(f"{self.folder}: its exercises are called {self.name}.…; got {bad[0]}.")
        return found


def root() -> Path:
    """The folder of the lessons: in a wheel inside of the package, in a checkout beside it."""
    inside, beside = _PACKAGE / "curriculum", _PACKAGE.parent / "curriculum"
    return inside if inside.is_dir() else beside


@cache
def lessons() -> tuple[Lesson, ...]:
    """All lessons, in order."""
    folders = (path.parent for path in root().glob("*/lesson.py"))
    return tuple(Lesson(folder) for folder in sorted(folders) if _FOLDER.fullmatch(folder.name))


def lesson(name: str) -> Lesson:
    """A lesson by its number, its name, or both: 02, heads, 02_heads.

    Raises:
        InputError: there is no such lesson.
    """
    for each in everything():
        if name in (each.folder.name, each.name, each.number, each.number.lstrip("0") or "0"):
            return each
    known = ", ".join(each.folder.name for each in lessons())
    raise InputError(f"There is no lesson {name!r}. There are: {known or 'none'}.")


def exercise(name: str) -> Exercise:
    """An exercise by its name: `exercise("heads.induction_score").check(my_function)`.

    Raises:
        InputError: there is no such exercise.
    """
    module = name.partition(".")[0]
    for each in everything():
        if each.name == module:
            found = {one.name: one for one in each.exercises}
            if name in found:
                return found[name]
            raise InputError(f"There is no exercise {name!r}. {each.folder.name} has: {', '.join(found)}.")
    raise InputError(
        f"There is no exercise {name!r}: no module is called {module!r}. There are: "
        f"{', '.join(one.name for one in lessons())}."
    )


def solution_code(name: str) -> str:
    """The code that solves an exercise in its lesson; empty if the lesson does not hold it."""
    module = name.partition(".")[0]
    cells = next((each.cells for each in everything() if each.name == module), [])
    return next((cell.solution for cell in cells if name in cell.checks and cell.solution), "")


@cache
def everything() -> tuple[Lesson, ...]:
    """The lessons, and folders that begin with _: examples for authors, not in any list."""
    return (*lessons(), *(Lesson(path.parent) for path in sorted(root().glob("_*/lesson.py"))))


def _load(path: Path, name: str) -> ModuleType:
    if not path.exists():
        raise InputError(f"{path} is missing: it holds the exercises of the lesson beside it.")
    beside = [str(path.parent)]  # `from .oracles import …` finds the files beside it
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=beside)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look for it there
    spec.loader.exec_module(module)
    return module
