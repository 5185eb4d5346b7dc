"""Run a learner's function on many inputs, and come back whatever it does."""

from __future__ import annotations

import contextlib
import io
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Ran", "copy", "run_all"]

_PACKAGE = str(Path(__file__).parent)


class OutOfTimeError(BaseException):
    """The learner's code took too long; no `except Exception` of hers stops it."""


@dataclass(frozen=True)
class Ran:
    """What a function did with one input."""

    value: Any = None
    error: str = ""  # `ValueError: what it said`; empty if it returned
    frames: str = ""  # where, in the learner's own lines
    attempted: bool = True
    changed: bool = False  # the input is no longer what it was


def run_all(function: Callable[..., Any], inputs: Sequence[tuple[Any, ...]], seconds: float) -> list[Ran]:
    """Run `function` on copies of each input: quiet, within `seconds` for all, and nothing global left changed."""
    ran: list[Ran] = []
    with restored():
        try:
            with limited(seconds):
                for arguments in inputs:
                    ran.append(run(function, arguments))  # noqa: PERF401  what was done is kept when time is out
        except OutOfTimeError:
            late = f"Not done after {seconds:g} s: a loop that never ends, or one over too much?"
            ran += [Ran(error=late)] * (len(inputs) - len(ran))
    return ran


def run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Ran:
    """Run `function` once."""
    given = tuple(copy(each) for each in arguments)
    before = [mark(each) for each in arguments]
    try:
        with contextlib.redirect_stdout(Sink()), contextlib.redirect_stderr(Sink()):
            value = function(*given)
    except NotImplementedError:
        return Ran(attempted=False, error="NotImplementedError")
    except OutOfTimeError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  sys.exit() in an answer must not end the notebook
        return Ran(error=told(error), frames=own_frames(error))
    if value is None or value is Ellipsis or value is NotImplemented:
        return Ran(value, attempted=False)
    return Ran(copy(value), changed=any(mark(each) != was for each, was in zip(given, before, strict=True)))


def told(error: BaseException) -> str:
    """An exception in a line."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  a learner's exception may fail to say anything
        said = ""
    return f"{type(error).__name__}: {said[:500]}" if said else type(error).__name__


def own_frames(error: BaseException) -> str:
    """The traceback, cut to the learner's lines: not ours, not those of libraries."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_PACKAGE)
        and "site-packages" not in frame.filename
        and not frame.filename.startswith((sys.prefix, sys.base_prefix, "<frozen"))
    ]
    return "\n".join(f"line {frame.lineno}, in {frame.name}: {frame.line or ''}".rstrip(": ") for frame in frames[-5:])


def copy(value: Any) -> Any:
    """A copy of arrays, tensors and containers; anything else, a model above all, as it is."""
    if isinstance(value, (list, tuple, set, frozenset)) and type(value) in (list, tuple, set, frozenset):
        return type(value)(copy(each) for each in value)
    if type(value) is dict:
        return {key: copy(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    if hasattr(value, "detach") and hasattr(value, "clone"):
        return value.detach().clone()
    return value


def mark(value: Any) -> Any:
    """Something that differs if the value was changed: the bytes of arrays, the fingerprint of a model."""
    if isinstance(value, (list, tuple)):
        return [mark(each) for each in value]
    if isinstance(value, dict):
        return [(key, mark(each)) for key, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if hasattr(value, "fingerprint"):
        return value.fingerprint
    return repr(value) if isinstance(value, (str, bytes, int, float, bool, type(None))) else None


class Sink(io.TextIOBase):
    """Takes what is printed, and keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in here after so long; no limit off the main thread, or where there are no alarms."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Random generators, and whether torch keeps gradients, are afterwards what they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  a learner may use it
    torch = sys.modules.get("torch")
    state = (torch.get_rng_state(), torch.is_grad_enabled()) if torch else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if torch and state:
            torch.set_rng_state(state[0])
            torch.set_grad_enabled(state[1])
