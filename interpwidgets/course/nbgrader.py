"""What makes nbgrader's points those of our checks; the last two lines of a course's `nbgrader_config.py`.

    from interpwidgets.course.nbgrader import configure
    configure(c)

nbgrader runs its tests in the kernel that ran the learner's code: there a reference can be looked up, an `assert` be
patched away, and a kernel that ends leaves no points at all. So with this configuration `nbgrader autograde` starts no
kernel. It runs the notebook as `interpwidgets grade` does, and each test's output is the verdict.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from nbformat import from_dict
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import ClearSolutions, Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade

from interpwidgets.course.exporting import BEGIN
from interpwidgets.course.grading import Run
from interpwidgets.course.library import exercise
from interpwidgets.course.source import NAMED, STUB

__all__ = ["Judge", "Stubs", "configure"]


class Stubs(ClearSolutions):  # type: ignore[misc,unused-ignore]
    """Puts the lesson's placeholder where a solution was: after `### BEGIN SOLUTION: answer = ...` stands which."""

    def preprocess_cell(self, cell: Any, resources: Any, cell_index: int) -> Any:
        """The cell as it is released."""
        named = re.search(rf"{BEGIN}: (.*)", cell.source)
        self.code_stub = {"python": named[1] if named else STUB}
        return super().preprocess_cell(cell, resources, cell_index)


class Judge(NbGraderPreprocessor):  # type: ignore[misc,unused-ignore]
    """Stands where nbgrader would run the notebook in a kernel."""

    def preprocess(self, nb: Any, resources: Any) -> Any:
        """The notebook with verdicts as its tests' outputs: an error is worth nothing, anything else all points.

        Raises:
            InputError: a test names an exercise that this version of the course does not have.
        """
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        tests = {name: cell for cell in code if is_grade(cell) for name in re.findall(NAMED, cell.source)}
        wanted = {name: exercise(name) for name in tests}
        run = Run([cell.source for cell in code], Path(resources["metadata"]["path"]).resolve())
        verdicts = dict(run.verdicts(wanted, secrets.token_hex(8)))
        for cell in code:
            cell.outputs = []
        for failed in run.failed:
            number, _, said = failed.removeprefix("Cell ").partition(": ")
            code[int(number) - 1].outputs = [_error(said)]
        for name, cell in tests.items():
            said = str(verdicts[name])
            cell.outputs = [_said(said) if verdicts[name] else _error(said)]
        return nb, resources


def configure(config: Any) -> None:
    """Put both into nbgrader's configuration; the header above lessons; and tests back that a learner deleted."""
    ours = {ClearSolutions: Stubs, Execute: Judge}
    for converter, steps in ((GenerateAssignment, "preprocessors"), (Autograde, "autograde_preprocessors")):
        config[converter.__name__][steps] = [ours.get(each, each) for each in getattr(converter(), steps)]
    config.IncludeHeaderFooter.header = "source/header.ipynb"
    config.OverwriteCells.add_missing_cells = True


def _said(said: str) -> Any:
    return from_dict({"output_type": "stream", "name": "stdout", "text": f"{said}\n"})  # type: ignore[no-untyped-call]


def _error(said: str) -> Any:
    first, *_ = lines = said.splitlines()
    output = {"output_type": "error", "ename": "Verdict", "evalue": first, "traceback": lines}
    return from_dict(output)  # type: ignore[no-untyped-call]
