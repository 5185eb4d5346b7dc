"""What is wrong with this machine, and what to do about it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interpwidgets.course.library import lessons
from interpwidgets.course.progress import home, write_line
from interpwidgets.views.view import STATIC

__all__ = ["Finding", "examine"]

_ROOM = 200  # MB of disk that a course may take


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    said: str  # what was found, or what to do


def examine() -> Iterator[Finding]:
    """Look at everything that a lesson needs."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 10), f"{python}; 3.10 or newer is needed")
    for what, module, extra in (
        ("models", "torch", "models"),
        ("models", "transformers", "models"),
        ("notebooks", "jupyterlab", "lab"),
        ("notebooks", "ipykernel", "lab"),
        ("widgets", "anywidget", ""),
    ):
        yield _tried(f"{what}: {module}", partial(_version, module), _install(extra))
    yield _tried("widgets in JupyterLab", _labextension, "pip install --force-reinstall anywidget, in this environment")
    yield _tried("views", _bundles, "reinstall interpwidgets; in a checkout: npm ci && npm run build")
    yield _tried("lessons", _lessons, "reinstall interpwidgets")
    yield _tried("a model", _model, "reinstall interpwidgets")
    yield _tried("progress", _progress, "name a folder that you may write to: INTERPWIDGETS_HOME=…")
    yield _tried("disk", _disk, f"make room: {_ROOM} MB")
    if (home() / "workshop.json").exists():
        yield _workshop()
    yield Finding("processors", True, f"{os.cpu_count()}; lessons use one")


def _workshop() -> Finding:
    from interpwidgets.course.workshop import status

    found = status()
    return Finding("workshop", not found.error, str(found))


def _tried(what: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, look())
    except Exception as error:  # noqa: BLE001  whatever is wrong is what is looked for
        return Finding(what, False, f"{type(error).__name__}: {error}. {remedy[:1].upper()}{remedy[1:]}.")


def _install(extra: str) -> str:
    return f'pip install "interpwidgets[{extra}]"' if extra else "pip install --upgrade interpwidgets"


def _version(module: str) -> str:
    return str(getattr(importlib.import_module(module), "__version__", "found"))


def _labextension() -> str:
    places = [Path(sys.prefix), Path(sys.base_prefix), Path.home() / ".local"]
    for place in places:
        folder = place / "share/jupyter/labextensions/anywidget"
        if (folder / "package.json").exists():
            return str(folder)
    raise FileNotFoundError("JupyterLab will not find anywidget's extension")


def _bundles() -> str:
    found = sorted(STATIC.glob("*.js"))
    if not (STATIC / "verdict.js").exists():
        raise FileNotFoundError(STATIC / "verdict.js")
    return f"{len(found)} scripts"


def _lessons() -> str:
    count = sum(len(each.exercises) for each in lessons())
    if not count:
        raise FileNotFoundError("no lessons")
    return f"{len(lessons())} lessons, {count} exercises"


def _model() -> str:
    from interpwidgets.models import load, record

    model = load("induction-2l")
    record(model, [[8, 9, 10]])
    return repr(model)


def _progress() -> str:
    with tempfile.TemporaryDirectory(dir=_made(home())) as folder:
        write_line(Path(folder) / "events.jsonl", b"{}\n")
    return str(home())


def _disk() -> str:
    free = shutil.disk_usage(_made(home())).free / 1e6
    if free < _ROOM:
        raise OSError(f"{free:.0f} MB are free")
    return f"{free / 1000:.1f} GB free"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
