"""Read files of others: nothing outside their folder, and InputError for what is not as it should be."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from interpwidgets.errors import InputError

__all__ = ["inside", "lines", "loads", "number", "numbered", "numbers", "take", "texts", "unzipped"]

_LARGEST = 1 << 28  # bytes that a compressed file or record may come to

T = TypeVar("T")


def inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder; InputError if it leads out of it, also by a link."""
    path = folder / name
    if not name or "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{name!r} leads out of {folder}: files are read and written in their own folder only.")
    return path


def loads(data: bytes | str, where: Any) -> dict[str, Any]:
    """One JSON object."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged ({error}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{where} is a {type(found).__name__}, not an object.")
    return found


def unzipped(data: bytes, where: Any) -> bytes:
    """What a zlib or gzip stream holds."""
    machine = zlib.decompressobj(wbits=47)  # either header
    try:
        found = machine.decompress(data, _LARGEST)
    except zlib.error as error:
        raise InputError(f"{where} is damaged ({error}).") from None
    if not machine.eof:
        why = "it ends early" if len(found) < _LARGEST else f"it comes to more than {_LARGEST:,} bytes"
        raise InputError(f"{where} is damaged ({why}).")
    return found


def lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a .jsonl.gz, and where each stands."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield loads(line, f"{path}, line {number},"), f"{path}, line {number},"
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}).") from None


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Files such as batch-7.json in the order of their numbers."""
    found = [path for path in folder.glob(pattern) if path.name.split(".")[0].rpartition("-")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.split(".")[0].rpartition("-")[2]))


def take(row: dict[str, Any], name: str, kind: type[T], where: Any) -> T:
    """An entry that has to be there, of a kind."""
    value = row.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        has = "is missing" if name not in row else f"is a {type(value).__name__}, not a {kind.__name__}"
        raise InputError(f"{where} is not as expected: {name!r} {has}.")
    return value


def number(row: dict[str, Any], name: str, where: Any, default: float | None = None) -> float:
    """A finite number, which may be written as text; `default` if it is missing or null."""
    value = row.get(name)
    if value is None and default is not None:
        return default
    return _finite(value, name, where)


def numbers(row: dict[str, Any], name: str, where: Any) -> tuple[float, ...]:
    """A list of finite numbers."""
    return tuple(_finite(value, name, where) for value in take(row, name, list, where))


def texts(row: dict[str, Any], name: str, where: Any) -> tuple[str, ...]:
    """A list of strings."""
    found = take(row, name, list, where)
    if wrong := [value for value in found if not isinstance(value, str)]:
        raise InputError(f"{where} is not as expected: {name!r} holds {wrong[0]!r:.40}, which is no text.")
    return tuple(found)


def _finite(value: Any, name: str, where: Any) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{where} is not as expected: {name!r} holds {value!r:.40}, which is no finite number.")
    return found
