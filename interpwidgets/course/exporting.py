"""The lessons as a course for nbgrader, for teachers who keep a gradebook: made of the one source of each lesson.

FOLDER/nbgrader_config.py                who grades: see interpwidgets.course.nbgrader
FOLDER/source/header.ipynb               what learners read first, in every release
FOLDER/source/02_heads/02_heads.ipynb    solutions between nbgrader's marks; a test with points after each exercise
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from interpwidgets.course.build import learner
from interpwidgets.course.exercises import Exercise
from interpwidgets.course.library import Lesson
from interpwidgets.course.questions import Confident, InView
from interpwidgets.course.source import NAMED, Cell
from interpwidgets.errors import InputError

__all__ = ["CONFIG", "export_nbgrader", "nbgrader_source"]

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONFIG = """from interpwidgets.course.nbgrader import configure
configure(c)"""
_CONFIG_FILE = f"""# What nbgrader does in this course. Add what you like; the last two lines give points by our checks.
c = get_config()
c.CourseDirectory.course_id = "interp-course"
{CONFIG}
"""
_HEADER = """\
Work through the cells from top to bottom, with Shift+Enter. The check under an exercise says at once what is wrong, \
as often as you like. **Points** are given later, on inputs that nobody has seen, by the cells that begin with \
`# … points`.

Grading reads this file and runs it from the top. What you chose with the mouse counts once it is written down in the \
cell of the exercise. Cells that you cannot change are part of the lesson; add cells of your own wherever you like."""


def export_nbgrader(folder: Path, lessons: Sequence[Lesson]) -> tuple[list[Path], list[Path]]:
    """Write the source of a course; what was written, and what was there and is kept.

    Raises:
        InputError: a lesson has an exercise that no line of its own checks.
        OSError: the folder cannot be written to.
    """
    source = folder / "source"
    made = {
        folder / "nbgrader_config.py": _CONFIG_FILE,
        source / "header.ipynb": _notebook([_prose("header", _HEADER)]),
    }
    made |= {source / each.folder.name / f"{each.folder.name}.ipynb": nbgrader_source(each) for each in lessons}
    written, kept = [], []
    for path, text in made.items():
        if path.exists():
            if path.read_text("utf-8") != text:
                kept.append(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        written.append(path)
    return written, kept


def nbgrader_source(which: Lesson) -> str:
    """The notebook that `nbgrader generate_assignment` reads: solved, with roles, ids and points.

    Raises:
        InputError: an exercise is checked by no line of its own.
    """
    known = {each.name: each for each in which.exercises}
    cells: list[dict[str, Any]] = []
    tested: set[str] = set()
    for cell, made in zip(which.cells, json.loads(learner(which))["cells"], strict=True):
        checks = dict(_checks(cell))
        made["metadata"]["nbgrader"] = _role(made["id"], solution=cell.has_solution)
        if cell.has_solution:
            made["source"] = cell.marked(BEGIN, END)
        for name, call in checks.items():
            if isinstance(known[name], InView):
                made["source"] = f"{_selected(known[name], call)}\n{made['source']}"
            elif isinstance(known[name], Confident) and call not in cell.stub:
                made["source"], checks[name] = _asked(name, call, made["source"])
        cells += [made, *(_test(known[name], call) for name, call in checks.items())]
        tested |= set(checks)
    if missing := [name for name in known if name not in tested]:
        raise InputError(f'{which.folder}: {missing[0]} has no line of its own, exercise("{missing[0]}").check(…).')
    return _notebook(cells)


def _checks(cell: Cell) -> Iterator[tuple[str, str]]:
    """The exercises that the cell checks, each with the call that does."""
    if cell.kind == "markdown":
        return
    for node in ast.parse(cell.solved).body:
        call = ast.get_source_segment(cell.solved, node) or ""
        if isinstance(node, ast.Expr) and ".check(" in call and (name := re.match(NAMED, call)):
            yield name[1], call


def _test(exercise: Exercise, call: str) -> dict[str, Any]:
    """The cell that gives the points: the check once more, as nbgrader wants it."""
    points = exercise.difficulty
    count = f"{points} point{'s' * (points > 1)}"
    name = exercise.name.replace(".", "-")
    source = f"# {count}: {exercise.title}\nverdict = {call}\nassert verdict, verdict"
    role = {**_role(name, grade=True), "points": points}
    cell: dict[str, Any] = {"cell_type": "code", "execution_count": None, "id": name, "outputs": []}
    return {**cell, "metadata": {"nbgrader": role}, "source": source}


def _selected(exercise: Any, call: str) -> str:
    """What to write so that a choice in a view is in the file."""
    view = re.findall(r"\.check\((\w+)", call)[0]
    return f"# What counts is written here: {', '.join(f'{view}.{trait}' for trait in exercise.reads)} = …"


def _asked(name: str, call: str, source: str) -> tuple[str, str]:
    """A question's cell with the answer in a line of its own, since what is said in a form is in no file; its check."""
    given = ast.parse(call, mode="eval").body
    assert isinstance(given, ast.Call)
    answer, sure = (ast.unparse(each) for each in (given.args[0], given.keywords[0].value))
    check = f'exercise("{name}").check(answer, confidence=sure)'
    source = re.sub(f"{BEGIN}: .*", f"{BEGIN}: answer, sure = ..., ...", source)
    source = source.replace(call, f"answer, sure = {answer}, {sure}")
    told = "# What counts is written here: your answer, and how sure you are, from 0 to 1"
    return f"{told}\n{source}\n{check}", check


def _role(name: str, *, solution: bool = False, grade: bool = False) -> dict[str, Any]:
    """nbgrader's metadata; a cell that is no solution is read-only."""
    part = {"grade": grade, "solution": solution, "locked": not solution, "task": False}
    return {**part, "grade_id": name, "schema_version": 3}


def _prose(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {"nbgrader": _role(name)}, "source": text}


def _notebook(cells: list[dict[str, Any]]) -> str:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
