"""Tables that come out readable, budgets with a verdict, and what the machine was."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Budget:
    """A promise about one number: `at most` or `at least` its bound."""

    what: str
    kind: Literal["<", "≤", "≥", "="]
    bound: float
    unit: str = ""

    def kept(self, measured: float) -> bool:
        """Whether the number is as promised."""
        kept = {
            "<": measured < self.bound,
            "≤": measured <= self.bound,
            "≥": measured >= self.bound,
            "=": measured == self.bound,
        }
        return kept[self.kind]

    def row(self, measured: float | None) -> list[str]:
        """The line of this budget in a table; a number that this run did not take is said to be missing."""
        promise = f"{self.kind} {number(self.bound)}{self.unit}"
        if measured is None:
            return [self.what, promise, "–", "not measured in this run"]
        return [self.what, promise, f"{number(measured)}{self.unit}", "PASS" if self.kept(measured) else "**over**"]


@dataclass
class Table:
    """One claim, or one part of it."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as Markdown that is also readable as text: columns are padded."""
        lines = [[str(cell) for cell in line] for line in [self.columns, *self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"### {self.title}", "", *text, "", *(f"{note}\n" for note in self.notes)])


@dataclass
class Claim:
    """What one file of this folder found out."""

    title: str
    tables: list[Table]
    budgets: list[tuple[Budget, float | None]]


def number(value: float | None) -> str:
    """A figure with as many digits as it deserves."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    digits = 1 if size >= 10 else 2 if size >= 0.095 else 3 if size >= 0.0095 else 4
    return f"{value:.{digits}f}"


def size(count: float | None) -> str:
    """Bytes, in a unit that fits."""
    if count is None:
        return "–"
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{number(count / factor)} {unit}"
    return f"{count:.0f} B"


def times(ours: float | None, theirs: float | None) -> str:
    """How many times more theirs is."""
    return f"{number(theirs / ours)}×" if ours and theirs is not None else "–"


def middle(values: Sequence[float]) -> float | None:
    """The median, and None of nothing."""
    return median(values) if values else None


HEAD = """# Benchmarks

Written by `python -m bench`, a section by each claim's own run; nothing here is typed by hand. Run it again to get the
figures of your machine: ratios carry over, seconds do not.
"""


def section(claim: Claim, started: datetime, load: float, arguments: str, browser: str) -> str:
    """A claim: how it was measured, its promises, its tables."""
    promises = [budget.row(measured) for budget, measured in claim.budgets]
    budgets = Table("Budgets", ["what", "budget", "measured", "verdict"], promises)
    lines = [f"## {claim.title}", "", f"- `python -m bench {arguments}`", *machine(started, load, browser), ""]
    return "\n".join([*lines, *(table.markdown() for table in [budgets, *claim.tables])]).rstrip() + "\n"


def document(sections: Sequence[str], before: str = "") -> str:
    """The whole report: these sections, and those of a report before that are not measured anew."""
    found = {part.partition("\n")[0]: f"## {part}" for part in before.split("\n## ")[1:]}
    for text in sections:
        found[text.partition("\n")[0].removeprefix("## ")] = text
    return "\n".join([HEAD, *(text.rstrip("\n") + "\n" for text in found.values())])


def machine(started: datetime, load: float, browser: str) -> list[str]:
    """The circumstances of a run."""
    packages = ("interpwidgets", "numpy", "torch", "transformers", "anywidget", "circuitsvis", "bertviz")
    took = (datetime.now(timezone.utc) - started).total_seconds() / 60
    return [
        f"- {started:%Y-%m-%d %H:%M} UTC, {took:.1f} minutes; load average {load:.1f} at the start, "
        f"{os.getloadavg()[0]:.1f} at the end, on {os.cpu_count()} cores ({processor()}), {memory()}",
        f"- {platform.system()} {platform.release()}, Python {platform.python_version()}, {browser}",
        f"- {', '.join(f'{name} {installed(name)}' for name in packages)}; commit {commit()}",
    ]


def installed(name: str) -> str:
    """The version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The name of the processor, as far as the system says it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory() -> str:
    """How much memory there is."""
    return size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def commit() -> str:
    """Which state of the repository was measured."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"
