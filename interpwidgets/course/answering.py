"""The process that runs a learner's notebook: fenced in, and without what is right.

It is told code and inputs on its standard input, and says answers on its standard output; the judge is elsewhere.
Everything here may be patched by the code that it runs, to no avail: an output is right or it is not.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from interpwidgets.course.collecting import Given, collect
from interpwidgets.course.fence import Fence
from interpwidgets.course.questions import selection
from interpwidgets.course.running import run_all
from interpwidgets.course.wire import encode, ran_to, read_frame, say, unpack

__all__ = ["main"]


def main() -> None:
    """Answer until the judge has no more to ask."""
    hear, speak = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    task = unpack(read_frame(hear, None) or b"")
    with contextlib.suppress(ImportError):
        import interpwidgets.models  # noqa: F401  before the fence: it loads libraries
    sys.path.insert(0, task["beside"])
    limit(task["memory"])
    Fence(Path.cwd().resolve()).close()
    skipped = set(task["skip"])

    def begin(number: int) -> bool:
        say(speak, cell=number)
        return number not in skipped

    given, failed = collect(task["cells"], begin=begin)
    say(speak, answers={name: handed_in(each) for name, each in given.items()}, failed=failed)
    answer(hear, speak, given)


def answer(hear: BinaryIO, speak: BinaryIO, given: dict[str, Given]) -> None:
    """Run the functions that were handed in on what the judge says."""
    while (frame := read_frame(hear, None)) is not None:
        asked = unpack(frame)
        function = given[asked["name"]].answer
        say(speak, ran=[ran_to(each) for each in run_all(function, asked["inputs"], asked["seconds"])])


def handed_in(given: Given) -> dict[str, Any]:
    """An answer as the judge is told of it."""
    if hasattr(given.answer, "settings") and hasattr(given.answer, "state"):
        return {"kind": "view", "value": encode(selection(given.answer)), "confidence": encode(given.confidence)}
    kind = "function" if callable(given.answer) else "value"
    value = None if kind == "function" else encode(given.answer)
    return {"kind": kind, "value": value, "confidence": encode(given.confidence)}


def limit(memory: int) -> None:
    """No more than `memory` megabytes beyond what is in use; no file over 100 MB; no core dumps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = 0
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 100 << 20}
    if used:  # where address space can be told, it can be limited
        limits[resource.RLIMIT_AS] = used + (memory << 20)
    for which, most in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (most, most))


if __name__ == "__main__":
    main()
