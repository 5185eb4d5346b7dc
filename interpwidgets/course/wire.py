"""Values between the process that judges and the one that answers.

What the learner's process says is read as JSON: numbers, texts, containers and arrays of numbers, and nothing that
could run. What it is told comes from us, and may be a model: that is pickled.
"""

from __future__ import annotations

import inspect
import io
import json
import pickle
import struct
from base64 import b64decode, b64encode
from typing import Any, BinaryIO

import numpy as np

from interpwidgets.course.running import Ran

__all__ = ["Other", "decode", "encode", "pack", "ran_from", "ran_to", "read_frame", "unpack", "write_frame"]

_MOST = 64 << 20  # bytes in a frame
_LARGEST = 16 << 20  # bytes of one text or array


class Other:
    """Something that is no value: all we know is what it is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


def encode(value: Any) -> Any:
    """A value as JSON can say it."""
    if isinstance(value, str) and len(value) > _LARGEST:
        return {"other": f"a text of {len(value)} letters"}
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(each)] for key, each in value.items()]}
    if value is Ellipsis:
        return {"ellipsis": True}
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception:  # noqa: BLE001  a learner's object may do anything
        return {"other": type(value).__name__[:80]}
    if array.dtype.kind not in "biufc":
        return {"other": type(value).__name__[:80]}
    if array.nbytes > _LARGEST:
        return {"other": f"an array of shape {list(array.shape)}, too large to look at"}
    data = b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"array": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def decode(said: Any) -> Any:
    """The value that was encoded.

    Raises:
        ValueError: it was not.
    """
    if not isinstance(said, dict):
        return said
    try:
        for kind in (list, tuple, set, frozenset):
            if kind.__name__ in said:
                return kind(decode(each) for each in said[kind.__name__])
        if "dict" in said:
            return {decode(key): decode(each) for key, each in said["dict"]}
        if "array" in said:
            dtype = np.dtype(said["dtype"])
            if dtype.kind not in "biufc":
                raise ValueError(f"no numbers: {dtype}")
            return np.frombuffer(b64decode(said["array"]), dtype).reshape(said["shape"])
        return Ellipsis if "ellipsis" in said else Other(str(said["other"])[:80])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"nothing that was encoded: {error}") from None


def ran_to(ran: Ran) -> dict[str, Any]:
    """What a function did, for JSON."""
    return {**vars(ran), "value": encode(ran.value)}


def ran_from(said: Any) -> Ran:
    """The same back.

    Raises:
        ValueError: it says something else.
    """
    if not isinstance(said, dict) or set(said) != set(vars(Ran())):
        raise ValueError("no account of what a function did")
    texts = {name: str(said[name])[:4000] for name in ("error", "frames")}
    return Ran(decode(said["value"]), attempted=bool(said["attempted"]), changed=bool(said["changed"]), **texts)


class _Pickler(pickle.Pickler):
    """Pickles a model as its module and tokenizer, whose parts are found again; a lesson's own object with its class.

    A lesson cannot be imported where an answer runs. So such a class has to make do with what Python has built in.
    """

    def reducer_override(self, value: Any) -> Any:
        from interpwidgets.models import Model

        if isinstance(value, Model):
            return Model, (value.module, value.tokenizer)
        kind = type(value)
        if kind.__module__.startswith("interpwidgets_course_"):
            return _remade, (inspect.getsource(kind), kind.__name__, vars(value))
        return NotImplemented


def _remade(source: str, name: str, state: dict[str, Any]) -> Any:
    """An object of a class that comes as its source."""
    names: dict[str, Any] = {"__name__": "a lesson"}
    exec(source, names)  # noqa: S102  the judge's words
    made = object.__new__(names[name])
    vars(made).update(state)
    return made


def pack(value: Any) -> bytes:
    """Anything of ours."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def unpack(data: bytes) -> Any:
    """What was packed; only in the process that answers, from the one that judges."""
    return pickle.loads(data)  # noqa: S301  the judge's words


def write_frame(file: BinaryIO, data: bytes) -> None:
    """Write data with its length before it."""
    file.write(struct.pack("<Q", len(data)) + data)
    file.flush()


def read_frame(file: BinaryIO, most: int | None = _MOST) -> bytes | None:
    """Read what was written; None at the end.

    Raises:
        ValueError: too much, or less than was promised.
    """
    head = file.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    if most is not None and length > most:
        raise ValueError(f"an answer of {length} bytes")
    data = file.read(length)
    if len(data) < length:
        return None
    return data


def say(file: BinaryIO, **what: Any) -> None:
    """Say something from the process that answers."""
    data = json.dumps(what).encode()
    if len(data) > _MOST:
        data = json.dumps({"too_much": len(data)}).encode()
    write_frame(file, data)
