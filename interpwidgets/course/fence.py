"""A fence around the process that runs a learner's notebook: an audit hook, which no Python code takes away again.

It is a belt and no vault. It keeps honest code from doing harm by mistake, and answers from being looked up: writing
in a scratch folder only, no other processes, no network, no reading of lessons. Code that means harm, or that loads
machine code of its own, belongs into a container.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from interpwidgets.course.library import root

__all__ = ["Fence"]

_NEVER = {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "os.kill"}
_NEVER |= {"os.killpg", "subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "ctypes.dlopen"}
_NEVER |= {"ctypes.dlsym"}
_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.link"}
_CHANGES |= {"os.symlink", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Fence:
    """What may be opened and changed once it is closed; it holds what it needs, as it is before anyone patches it."""

    def __init__(self, scratch: Path) -> None:
        self._inside = f"{scratch}{os.sep}"
        self._lessons = f"{root().resolve()}{os.sep}"
        self._own = f"/proc/{os.getpid()}/"
        self._real, self._plain, self._is_folder = os.path.realpath, os.fsdecode, os.path.isdir
        self._never, self._changes = frozenset(_NEVER), frozenset(_CHANGES)

    def close(self) -> None:
        """From now on, and for ever."""
        with contextlib.suppress(ImportError, AttributeError):  # it starts processes, and no hook hears of it
            import _posixsubprocess
            import subprocess

            del _posixsubprocess.fork_exec
            vars(subprocess)["_fork_exec"] = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self._never:
            raise PermissionError(f"{event}: a graded notebook starts nothing and connects to nothing.")
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self._opened(*arguments)
        if event in self._changes and any(self._outside(path) for path in arguments[:2]):
            raise PermissionError(f"{event}: a graded notebook changes its own folder only.")

    def _outside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)) or self._plain(path) == os.devnull:
            return False
        return not self._where(path).startswith(self._inside)

    def _where(self, path: Any) -> str:
        return f"{self._real(self._plain(path))}{os.sep}"

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        where = self._where(path)
        foreign = where.startswith("/proc/") and not where.startswith(self._own)
        if where.startswith(self._lessons) or foreign or where == f"{self._own}mem{os.sep}":
            raise PermissionError("A graded notebook does not read the lessons, nor other processes.")
        folder = self._is_folder(self._plain(path)) and self._outside(path)
        if mode is None and (folder or ".." in self._plain(path)):  # files could be named by a folder's number
            raise PermissionError("A graded notebook opens no folder but its own.")
        writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & _WRITING
        if writing and self._outside(path):
            raise PermissionError(f"A graded notebook writes into its own folder only: {self._plain(path)}")
