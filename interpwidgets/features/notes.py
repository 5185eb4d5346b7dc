"""What people and labelers say of features: labels, lists and notes, in a file beside the store.

Every line is one saying; the last one counts. A line is added by one write, so that several processes may, and a line
that was cut off is passed over.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError

__all__ = ["Label", "Notes"]


@dataclass(frozen=True)
class Label:
    """What a feature is said to be, how well that predicts where it is active, and who says so."""

    text: str
    score: float | None = None
    low: float | None = None  # of the score's interval
    high: float | None = None
    by: str | None = None


class Notes:
    """Labels, lists and notes of a store."""

    def __init__(self, path: Path, n_features: int) -> None:
        self.path, self.n_features = path, n_features
        self.labels: dict[int, Label] = {}
        self.notes: dict[int, str] = {}
        self.lists: dict[str, dict[int, None]] = {}  # ordered sets
        self.changed: set[int] = set()  # since somebody has last taken note
        self._read = 0  # bytes
        self.refresh()

    def refresh(self) -> None:
        """Read what was added since, also by others."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self._read:
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._read += complete
        for line in data[:complete].splitlines():
            with suppress(ValueError, KeyError, TypeError):  # cut off when somebody was killed
                self._take(json.loads(line))

    def say(self, index: int, **what: Any) -> None:
        """Add a line."""
        self.say_all([{"index": index, **what}])

    def say_all(self, lines: list[dict[str, Any]]) -> None:
        """Add lines, in one write."""
        for line in lines:
            index = line["index"]
            if not 0 <= index < self.n_features:
                raise InputError(f"There is no feature {index}; there are {self.n_features}, numbered from 0.")
        text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
        number = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(number).st_size
            torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
            os.write(number, (b"\n" if torn else b"") + text.encode())
        finally:
            os.close(number)
        self.refresh()

    def _take(self, said: Mapping[str, Any]) -> None:
        index = int(said["index"])
        if not 0 <= index < self.n_features:
            return
        if "label" in said:
            if said["label"] is None:
                self.labels.pop(index, None)
            else:
                score, low, high = (_number(said.get(name)) for name in ("score", "low", "high"))
                self.labels[index] = Label(str(said["label"]), score, low, high, said.get("by"))
        elif "note" in said:
            self.notes[index] = str(said["note"])
        elif "list" in said:
            chosen = self.lists.setdefault(str(said["list"]), {})
            if said.get("on", True):
                chosen[index] = None
            else:
                chosen.pop(index, None)
        self.changed.add(index)

    def rows(self, indices: Iterator[int] | set[int]) -> Iterator[tuple[Any, ...]]:
        """(index, label, score, low, high, labelled_by, note, lists) of some features."""
        for index in sorted(indices):
            label = self.labels.get(index)
            said = (None,) * 5 if label is None else (label.text, label.score, label.low, label.high, label.by)
            yield (index, *said, self.notes.get(index), self.lists_of(index))

    def lists_of(self, index: int) -> list[str]:
        """Names of the lists that a feature is on."""
        return sorted(name for name, chosen in self.lists.items() if index in chosen)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
