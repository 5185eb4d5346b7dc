"""From one source a lesson: the learner's notebook, the solved notebook, and the page.

    python -m interpwidgets.course.build                 all lessons, into build/curriculum
    python -m interpwidgets.course.build 02 --out DIR    one

The same source makes the same bytes. A lesson that nobody could be checked by, or that gives its solutions away, is
not built.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from interpwidgets.course.library import Lesson, everything, lesson
from interpwidgets.course.source import Cell
from interpwidgets.errors import InputError

__all__ = ["build", "learner", "lint", "main", "page", "solved"]

Which = Literal["learner", "solved"]
_FORBIDDEN = re.compile(r"^\s*[!%]|\bpip install\b|https?://|\binput\(|\bclear_output\b", re.MULTILINE)


def learner(which: Lesson) -> str:
    """The notebook that the learner gets, as text: placeholders where the solutions were."""
    return _notebook(which, "learner")


def solved(which: Lesson) -> str:
    """The notebook with its solutions, and what cells are known to print."""
    return _notebook(which, "solved")


def page(which: Lesson) -> str:
    """The lesson as Markdown: its text and the learner's code, hints and solutions folded."""
    return "\n\n".join(_page(which)) + "\n"


def build(which: Lesson, out: Path) -> list[Path]:
    """Write the three files of a lesson into `out`.

    Raises:
        InputError: a lint fails; nothing is written then.
    """
    if problems := lint(which):
        raise InputError("\n".join(problems))
    made = {
        out / "learner" / f"{which.folder.name}.ipynb": learner(which),
        out / "solved" / f"{which.folder.name}.ipynb": solved(which),
        out / "pages" / f"{which.folder.name}.md": page(which),
    }
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(made)


def lint(which: Lesson) -> list[str]:
    """What is wrong with a lesson, a sentence each."""
    problems: list[str] = []
    source = which.folder / "lesson.py"
    named = [name for cell in which.cells for name in cell.checks]
    known = {each.name for each in which.exercises}
    checked = {name for cell in which.cells for name in cell.checks if ".check(" in cell.source}
    if not checked:
        problems.append(f'{source}: nothing is checked: no cell has exercise("…").check(…).')
    problems += [f"{source}: there is no exercise {name!r}." for name in dict.fromkeys(named) if name not in known]
    problems += [f"{source}: {name} is never checked." for name in sorted(known - checked)]
    if not which.cells[0].source.startswith("# ") or which.cells[0].kind != "markdown":
        problems.append(f"{source}: a lesson starts with prose, and that with its heading: # # …")
    shown = "\n".join(cell.stub if cell.kind == "code" else cell.source for cell in which.cells)
    for cell in which.cells:
        where = f"{source}, line {cell.line}"
        if cell.kind == "code" and (bad := _FORBIDDEN.search(cell.stub)):
            problems.append(
                f"{where}: {bad.group().strip()!r} has no place in a lesson that runs offline and unwatched."
            )
        if cell.checks and ".check(" in cell.source and not cell.has_solution and not _solved_before(which, cell):
            problems.append(f"{where}: {cell.checks[0]} is checked, but no “# >>> solution” stands before it.")
        problems += [
            f"{where}: the learner's notebook shows a line of the solution: {line!r}."
            for line in cell.cut
            if len(line) > 20 and not line.startswith("#") and line in shown
        ]
    if folder := [path.name for path in which.folder.glob("*.ipynb")]:
        problems.append(f"{which.folder}: {folder[0]} is built from lesson.py; it is not kept in git.")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Build lessons; the exit status is 0 if every lint passes."""
    parser = argparse.ArgumentParser(prog="python -m interpwidgets.course.build", description="Build the lessons.")
    parser.add_argument("lesson", nargs="*", help="number or name (all)")
    parser.add_argument("--out", type=Path, default=Path("build/curriculum"), help="folder to write into (%(default)s)")
    given = parser.parse_args(arguments)
    status = 0
    for which in [lesson(name) for name in given.lesson] or everything():
        problems = lint(which)
        print(*(problems or build(which, given.out)), sep="\n", file=sys.stderr if problems else sys.stdout)
        status |= bool(problems)
    return status


def _solved_before(which: Lesson, cell: Cell) -> bool:
    """Whether a solution stands between the last check and this one."""
    for each in reversed(which.cells[: which.cells.index(cell)]):
        if each.has_solution:
            return True
        if each.checks:
            return False
    return False


def _notebook(which: Lesson, kind: Which) -> str:
    name = which.folder.name
    cells = [_cell(cell, f"{name.strip('_').replace('_', '-')}-{i:02}", kind) for i, cell in enumerate(which.cells)]
    notebook = {
        "cells": cells,
        "metadata": {
            "interpwidgets": {"edition": edition(cells), "lesson": which.name},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def edition(cells: list[dict[str, Any]]) -> str:
    """Eight letters that differ if the cells do."""
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:8]


def _cell(cell: Cell, number: str, kind: Which) -> dict[str, Any]:
    metadata = {key: value for key, value in cell.metadata.items() if key not in ("minutes", "tags")}
    tags = list(cell.metadata.get("tags", []))
    if cell.kind == "markdown":
        return {
            "cell_type": "markdown",
            "id": number,
            "metadata": _tagged(metadata, tags),
            "source": _lines(cell.source),
        }
    outputs = _outputs(cell) if kind == "solved" else []
    if cell.has_solution and "exercise" not in tags:
        tags.append("exercise")
    if outputs:
        tags.append("nbval-check-output")
    return {
        "cell_type": "code",
        "execution_count": 1 if outputs else None,
        "id": number,
        "metadata": _tagged(metadata, tags),
        "outputs": outputs,
        "source": _lines(cell.solved if kind == "solved" else cell.stub),
    }


def _tagged(metadata: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    return {**metadata, "tags": tags} if tags else metadata


def _outputs(cell: Cell) -> list[dict[str, Any]]:
    """What the author says the cell prints and returns, for nbval to compare."""
    found: list[dict[str, Any]] = []
    if cell.prints:
        found.append({"name": "stdout", "output_type": "stream", "text": _lines(cell.prints + "\n")})
    if cell.returns:
        data = {"text/plain": _lines(cell.returns)}
        found.append({"data": data, "execution_count": 1, "metadata": {}, "output_type": "execute_result"})
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _page(which: Lesson) -> Iterator[str]:
    known = {each.name: each for each in which.exercises}
    for cell in which.cells:
        if cell.kind == "markdown":
            yield cell.source
            continue
        yield f"```python\n{cell.stub}\n```"
        if told := "\n".join(filter(None, (cell.prints, cell.returns))):
            yield f"```\n{told}\n```"
        for each in (known[name] for name in cell.checks if ".check(" in cell.source):
            facts = f"{each.minutes:g} minutes · difficulty {each.difficulty} of 5 · importance {each.importance} of 5"
            yield f"*{each.title}* · {facts}"
            for number, hint in enumerate(each.hints, 1):
                yield _folded(f"Hint {number}", hint)
            yield _folded(
                "Solution", f"```python\n{cell.solution}\n```\n\n{each.solution}" if cell.solution else each.solution
            )


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


if __name__ == "__main__":
    sys.exit(main())
