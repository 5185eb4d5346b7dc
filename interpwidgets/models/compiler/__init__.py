"""Transformers compiled from programs: models whose every weight has a reason, and a name.

`language` is what programs are written in, and runs them; `layout`, `neurons` and `weights` turn one into a GPT-2;
`labels` says what is where. `programs` are those that ship as `compiled-*`.
"""

from __future__ import annotations

from interpwidgets.models.compiler.labels import Labels, labels
from interpwidgets.models.compiler.language import (
    Program,
    aggregate,
    each,
    indices,
    inverse_width,
    select,
    selector_width,
    tokens,
)
from interpwidgets.models.compiler.weights import Compiled, compile_program

__all__ = [
    "Compiled",
    "Labels",
    "Program",
    "aggregate",
    "compile_program",
    "each",
    "indices",
    "inverse_width",
    "labels",
    "select",
    "selector_width",
    "tokens",
]
