"""See inside a transformer, and test what you think you saw."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpwidgets.errors import InputError, InterpError, NoAttentionError, NotRecordedError, UnknownModelError
    from interpwidgets.models import Model, Recording, load, record
    from interpwidgets.tokens import Tokens
    from interpwidgets.views import AttentionView, View, save_page

__version__ = "0.1.0"

# A name is imported when it is first used: `import interpwidgets` needs no torch, and takes no time (PEP 562).
_HOME = {
    "AttentionView": "views",
    "InputError": "errors",
    "InterpError": "errors",
    "Model": "models",
    "NoAttentionError": "errors",
    "NotRecordedError": "errors",
    "Recording": "models",
    "Tokens": "tokens",
    "UnknownModelError": "errors",
    "View": "views",
    "load": "models",
    "record": "models",
    "save_page": "views",
}

__all__ = [  # `_HOME` in order, spelt out for tools that read this file
    "AttentionView",
    "InputError",
    "InterpError",
    "Model",
    "NoAttentionError",
    "NotRecordedError",
    "Recording",
    "Tokens",
    "UnknownModelError",
    "View",
    "load",
    "record",
    "save_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
