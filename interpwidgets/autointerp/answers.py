"""Answers of language models, kept on disk by what was asked: a run that stopped goes on without paying again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interpwidgets.features.files import whole, writable

__all__ = ["Answers"]


class Answers:
    """Answers by the content of the question; in memory, and in a folder if there is one."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self._known: dict[str, Any] = {}

    @staticmethod
    def key(question: Mapping[str, Any]) -> str:
        """What an answer is filed under: a hash of everything that it depends on."""
        return hashlib.sha256(json.dumps(question, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def get(self, key: str) -> Any:
        """The answer; None if there is none, or its file is damaged."""
        if key not in self._known and self.folder is not None:
            try:
                self._known[key] = json.loads((self.folder / f"{key}.json").read_bytes())
            except (OSError, ValueError):
                return None
        return self._known.get(key)

    def put(self, key: str, answer: Any) -> None:
        """Keep an answer."""
        self._known[key] = answer
        if self.folder is not None:
            with writable(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                whole(self.folder / f"{key}.json", lambda file: file.write(json.dumps(answer).encode()))
