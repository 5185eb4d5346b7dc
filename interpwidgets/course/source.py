"""The source of a lesson, a jupytext percent file, as cells; and what the learner's and the solved notebook have of it.

# %% [markdown] minutes=30        prose: each line a comment
# %% tags=["skip-publish"]        code
# >>> solution                    cut for the learner, `raise NotImplementedError` in its place
# >>> solution: answer = ...      cut, with this line in its place
# <<< solution
# -> text                         what the cell prints, each line; # => what it returns. Compared by nbval
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from interpwidgets.errors import InputError

__all__ = ["Cell", "cells_of", "percent", "read_cells"]

_HEAD = re.compile(r"# %%( \[markdown\])?(.*)")
_OPEN = re.compile(r"( *)# >>> solution(?:: ?(.*))?")
_CLOSE = re.compile(r" *# <<< solution")
NAMED = r"""\bexercise\(\s*["']([^"']+)["']"""  # the exercises that code names
_CHECK = re.compile(NAMED)
STUB = "raise NotImplementedError"


@dataclass(frozen=True)
class Cell:
    """One cell as it is written."""

    kind: Literal["markdown", "code"]
    source: str
    line: int  # where it starts in the file
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def checks(self) -> list[str]:
        """The exercises that the cell names."""
        return _CHECK.findall(self.source) if self.kind == "code" else []

    @property
    def has_solution(self) -> bool:
        """Whether something is cut for the learner."""
        return any(_OPEN.fullmatch(line) for line in self.source.splitlines())

    @property
    def solution(self) -> str:
        """The solved cell, if something of it is cut for the learner, without the checks that she has as well."""
        hers = [line for line in self.solved.splitlines() if _CHECK.search(line) and line.strip() not in self.cut]
        return "\n".join(line for line in self.solved.splitlines() if line not in hers).strip() if self.cut else ""

    @property
    def cut(self) -> list[str]:
        """The lines that the learner must not see."""
        inside, found = False, []
        for line in self.source.splitlines():
            if _OPEN.fullmatch(line):
                inside = True
            elif _CLOSE.fullmatch(line):
                inside = False
            elif inside and line.strip():
                found.append(line.strip())
        return found

    @property
    def solved(self) -> str:
        """The cell with its solution."""
        return "\n".join(
            line
            for line in self.source.splitlines()
            if not (_OPEN.fullmatch(line) or _CLOSE.fullmatch(line) or line.startswith(("# -> ", "# => ")))
        ).strip()

    def marked(self, begin: str, end: str) -> str:
        """The cell with its solution between other marks; a placeholder goes after the first: `begin: answer = ...`."""
        lines = []
        for line in self.source.splitlines():
            if found := _OPEN.fullmatch(line):
                indent, placeholder = found.groups()
                lines.append(f"{indent}{begin}: {placeholder}" if placeholder else indent + begin)
            elif _CLOSE.fullmatch(line):
                lines.append(line.partition("#")[0] + end)
            elif not line.startswith(("# -> ", "# => ")):
                lines.append(line)
        return "\n".join(lines).strip()

    @property
    def stub(self) -> str:
        """The cell as the learner gets it."""
        return "\n".join(self._stubbed()).strip()

    def _stubbed(self) -> Iterator[str]:
        inside = False
        for line in self.source.splitlines():
            if found := _OPEN.fullmatch(line):
                inside = True
                indent, placeholder = found.groups()
                yield indent + (placeholder or (STUB if indent else "..."))
            elif _CLOSE.fullmatch(line):
                inside = False
            elif not inside and not line.startswith(("# -> ", "# => ")):
                yield line

    @property
    def prints(self) -> str:
        """What the cell prints, as the author wrote it down; empty if she did not."""
        return self._told("# -> ")

    @property
    def returns(self) -> str:
        """What the cell's last line is, as text."""
        return self._told("# => ")

    def _told(self, mark: str) -> str:
        return "\n".join(line[len(mark) :] for line in self.source.splitlines() if line.startswith(mark))


def read_cells(path: Path) -> list[Cell]:
    """The cells of a lesson.

    Raises:
        InputError: a region that does not close, or does not open; metadata that is no JSON; a line before any cell.
    """
    cells: list[Cell] = []
    text = path.read_text("utf-8")
    starts = [(i, found) for i, line in enumerate(text.splitlines()) if (found := _HEAD.fullmatch(line))]
    lines = text.splitlines()
    if not starts or any(line.strip() for line in lines[: starts[0][0]]):
        raise InputError(f"{path}: a lesson starts with a cell: # %% [markdown].")
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    for (start, found), end in zip(starts, ends, strict=True):
        where = f"{path}, line {start + 1}"
        body = lines[start + 1 : end]
        kind: Literal["markdown", "code"] = "markdown" if found.group(1) else "code"
        if kind == "markdown":
            if bad := [line for line in body if line.strip() and not line.startswith("#")]:
                raise InputError(f"{where}: a line of prose starts with #; got {bad[0]!r}.")
            body = [line[2:] if line.startswith("# ") else line[1:] for line in body]
        source = "\n".join(line.rstrip() for line in body).strip()
        cell = Cell(kind, source, start + 1, dict(_metadata(found.group(2), where)))
        _check_regions(cell, where)
        if source:
            cells.append(cell)
    return cells


def _metadata(text: str, where: str) -> Iterator[tuple[str, Any]]:
    """`key=JSON` pairs, as jupytext writes them."""
    rest = text.strip()
    while rest:
        key, _, rest = rest.partition("=")
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except json.JSONDecodeError:
            raise InputError(f'{where}: metadata is key=JSON, as in tags=["skip-publish"]; got {text!r}.') from None
        yield key.strip(), value
        rest = rest[end:].strip()


def _check_regions(cell: Cell, where: str) -> None:
    inside = False
    for line in cell.source.splitlines():
        opens, closes = bool(_OPEN.fullmatch(line)), bool(_CLOSE.fullmatch(line))
        if (opens and inside) or (closes and not inside):
            raise InputError(
                f"{where}: solutions go from “# >>> solution” to “# <<< solution”; {line.strip()!r} is out of turn."
            )
        if not (opens or closes) and re.search(r"(>>>|<<<) *solution", line):
            raise InputError(f"{where}: {line.strip()!r} is no mark of a solution; “# >>> solution” stands on its own.")
        inside = (inside or opens) and not closes
    if inside:
        raise InputError(f"{where}: a solution does not end: “# <<< solution” is missing.")


def percent(cells: list[Cell]) -> str:
    """The learner's cells as a script: what `check --watch` looks at."""
    parts = []
    for cell in cells:
        prose = "\n".join(f"# {line}".rstrip() for line in cell.source.splitlines())
        parts.append(f"# %% [markdown]\n{prose}" if cell.kind == "markdown" else f"# %%\n{cell.stub}")
    return "\n\n".join(parts) + "\n"


def cells_of(path: Path) -> list[str]:
    """The code of a learner's file, a notebook or a script of cells.

    Raises:
        InputError: there is no such file, or it is neither.
    """
    if path.suffix == ".ipynb":
        return code_cells(path)
    try:
        return [cell.source for cell in read_cells(path) if cell.kind == "code"]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def code_cells(path: Path) -> list[str]:
    """The code of a notebook, a cell each.

    Raises:
        InputError: there is no notebook of that name.
    """
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except FileNotFoundError:
        raise InputError(f"There is no notebook {path}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no notebook: {type(error).__name__}: {error}") from None
