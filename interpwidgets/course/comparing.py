"""What counts as the same answer: a comparison says how an answer differs, or nothing.

    close(1e-4)      numbers, arrays, tensors, and lists, tuples and dictionaries of them
    exact            equal, and of the same kind
    unordered()      a collection whose order does not matter

A comparison takes (got, expected) and returns a clause that goes on from “your answer …”, or the empty string.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Number
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Compare", "close", "exact", "unordered"]

Compare: TypeAlias = Callable[[Any, Any], str]


def close(tolerance: float = 1e-4) -> Compare:
    """Equal up to `tolerance`, absolute and relative; shapes must agree, number types need not."""

    def compare(got: Any, expected: Any) -> str:
        if isinstance(expected, Mapping):
            return _mapping(got, expected, compare)
        if isinstance(expected, (list, tuple)) and not all(isinstance(each, Number) for each in expected):
            return _sequence(got, expected, compare)
        if expected is None or isinstance(expected, (str, bytes, bool, AbstractSet)):
            return exact(got, expected)
        return _numbers(got, expected, tolerance)

    return compare


def exact(got: Any, expected: Any) -> str:
    """Equal, and of the same kind: a list is no tuple, True is not 1; NumPy's numbers are numbers."""
    got, expected = _plain(got), _plain(expected)
    if isinstance(expected, (list, tuple)):
        return _sequence(got, expected, exact)
    if isinstance(expected, Mapping):
        return _mapping(got, expected, exact)
    if type(got) is not type(expected) and not (_is_number(got) and _is_number(expected)):
        return f"is {described(got)}; expected {described(expected)}"
    return "" if got == expected else "has another value"


def unordered(each: Compare = exact) -> Compare:
    """A collection with the same members, in any order, each once for each time."""

    def compare(got: Any, expected: Any) -> str:
        got = _plain(got)
        if isinstance(got, (str, bytes, Mapping)) or not isinstance(got, (Sequence, AbstractSet)):
            return f"is {described(got)}; expected a list or a set"
        left = [_tupled(one) for one in got]
        for one in map(_tupled, _plain(expected)):
            found = next((i for i, other in enumerate(left) if not each(other, one)), None)
            if found is None:
                return f"lacks {one!r}"
            del left[found]
        return f"has {left[0]!r}, which does not belong there" if left else ""

    return compare


def described(value: Any) -> str:
    """What a value is, in a few words: `an array of shape [3, 4]`."""
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape):
        return f"{'a tensor' if hasattr(value, 'detach') else 'an array'} of shape {list(shape)}"
    if value is None:
        return "None"
    if isinstance(value, bool):
        return repr(value)
    if _is_number(value) or shape is not None:
        return "a number"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return {"str": "a text", "function": "a function"}.get(name, f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")


def as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """Numbers as an array; None for what is no numbers."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception:  # noqa: BLE001  whatever a learner's object does when it is asked for its numbers
        return None
    return array if array.dtype.kind in "biufc" else None


def _numbers(got: Any, expected: Any, tolerance: float) -> str:
    right, ours = as_array(expected), as_array(got)
    if right is None:
        return exact(got, expected)
    if ours is None or isinstance(got, bool):
        return f"is {described(got)}; expected {described(expected)}"
    if ours.shape != right.shape:
        return f"is {described(got)}; expected {described(expected)}"
    kind = np.complex128 if "c" in ours.dtype.kind + right.dtype.kind else np.float64
    ours, right = ours.astype(kind), right.astype(kind)
    wrong = ~np.isclose(ours, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f" at {list(place)}" if place else ""
    return f"is {ours[place]:.5g}{where}; expected {right[place]:.5g}"


def _sequence(got: Any, expected: Sequence[Any], each: Compare) -> str:
    if not isinstance(got, (list, tuple)) or (each is exact and type(got) is not type(expected)):
        return f"is {described(got)}; expected {described(expected)}"
    if len(got) != len(expected):
        return f"has {len(got)} entries; expected {len(expected)}"
    for i, (one, right) in enumerate(zip(got, expected, strict=True)):
        if said := each(one, right):
            return f"at [{i}] {said}"
    return ""


def _mapping(got: Any, expected: Mapping[Any, Any], each: Compare) -> str:
    if not isinstance(got, Mapping):
        return f"is {described(got)}; expected {described(expected)}"
    if missing := [key for key in expected if key not in got]:
        return f"has no key {missing[0]!r}"
    if more := [key for key in got if key not in expected]:
        return f"has a key {more[0]!r}, which does not belong there"
    for key, right in expected.items():
        if said := each(got[key], right):
            return f"at [{key!r}] {said}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """NumPy and torch values as Python's own."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "shape") else value


def _tupled(value: Any) -> Any:
    value = _plain(value)
    return tuple(_tupled(each) for each in value) if isinstance(value, (list, tuple)) else value
