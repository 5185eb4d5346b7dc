"""Files that are there whole or not at all, and names for what is in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from interpwidgets.errors import InputError

__all__ = ["alone", "checksum", "need", "read_json", "whole", "writable", "write_json"]

_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space, and build again: it goes on where it was",
    errno.EDQUOT: "your quota on this disk is used up. Free some space, and build again: it goes on where it was",
    errno.EACCES: "you may not write there. Choose another folder, or change its permissions",
    errno.EPERM: "you may not write there. Choose another folder, or change its permissions",
    errno.EROFS: "this disk can only be read. Choose another folder",
    errno.ENOTDIR: "a part of this path is a file. Choose another folder",
    errno.EEXIST: "there is a file of that name. Choose another folder",
}


def whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a file that appears under its name when everything is in it and on the disk."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    whole(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read JSON; InputError names the file if it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged ({error}). Build the store again.") from None


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: IO[bytes]) -> str:  # Python 3.10
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Say in words why a folder cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise InputError(f"{error.filename or folder} cannot be written: {_REASONS[error.errno]}.") from error


def need(*names: str) -> list[Any]:
    """Import the packages that a store needs, or say what to install."""
    from importlib import import_module

    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise ImportError(
            f'A feature store needs {error.name}, which is missing: pip install "interpwidgets[features]".'
        ) from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep others from building in a folder meanwhile; the lock ends with the process, however it ends."""
    with (folder / "lock").open("w") as file:
        if not _lock(file):
            raise InputError(f"Another process is building in {folder}. Wait for it, or choose another folder.")
        yield


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: who builds twice in one folder is on their own
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
