"""Every error of ours, so that one `except` can catch them all.

    InterpError
    ├── InputError          what was given cannot be used         (also a ValueError)
    ├── UnknownModelError   no model goes by that name            (also a LookupError)
    ├── NoAttentionError    this model has no attention weights   (also a TypeError)
    ├── NotRecordedError    the recording does not hold that site (also a KeyError)
    └── BudgetError         a labeler may spend no more

A message says what was given, what was expected and what to do next.
"""

from __future__ import annotations

__all__ = ["BudgetError", "InputError", "InterpError", "NoAttentionError", "NotRecordedError", "UnknownModelError"]


class InterpError(Exception):
    """Something interpwidgets could not do, and why."""


class InputError(InterpError, ValueError):
    """What was given cannot be used as it is."""


class UnknownModelError(InterpError, LookupError):
    """No shipped model, local folder or hub entry goes by that name."""


class NoAttentionError(InterpError, TypeError):
    """The model computes no softmax attention that could be shown."""


class NotRecordedError(InterpError, KeyError):
    """The recording does not hold what was asked for."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class BudgetError(InterpError):
    """A labeler may make no more calls, use no more tokens or cost no more."""
