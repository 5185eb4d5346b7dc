"""Hold a model still: in eval mode, with an attention function of ours, and nobody else's turn meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["held", "turn"]

_SETTING = "_attn_implementation_internal"  # of a config; its public face also writes to configs below it
_turns: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()  # users of one model go one after another


def turn(base: nn.Module) -> RLock:
    """The lock of a model; `base` is the part that all heads put on it share."""
    return _turns.setdefault(base, RLock())


@contextmanager
def held(module: nn.Module, base: nn.Module, attention: str | None = None) -> Iterator[None]:
    """Until the `with` ends: eval mode, and the attention function of this name where the model asks for one."""
    with ExitStack() as undo:
        undo.enter_context(turn(base))
        for part in module.modules():
            if part.training:
                undo.callback(setattr, part, "training", True)
                part.training = False
        for config in _configs(module) if attention else ():
            undo.callback(setattr, config, _SETTING, getattr(config, _SETTING))
            setattr(config, _SETTING, attention)
        yield


def _configs(module: nn.Module) -> list[Any]:
    """Every config that decides on an attention function somewhere in the model, once."""
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    return [config for config in configs.values() if hasattr(config, _SETTING)]
