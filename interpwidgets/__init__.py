"""See inside a transformer, and test what you think you saw."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpwidgets.errors import InputError, InterpError, NoAttentionError, NotRecordedError, UnknownModelError
    from interpwidgets.intervene import (
        Ablate,
        Approximation,
        Axis,
        CausalTrace,
        Effect,
        Effects,
        Freeze,
        Generated,
        Hypothesis,
        Intervention,
        LogitAttribution,
        LogitLens,
        Metric,
        Node,
        Outcome,
        Patch,
        Scale,
        Scrubbed,
        Steer,
        ablate_sweep,
        accuracy,
        attribution_patch,
        causal_scrub,
        causal_trace,
        direct_logit_attribution,
        generate,
        integrated_attribution_patch,
        kl,
        log_prob,
        logit,
        logit_diff,
        logit_lens,
        loss,
        outcome,
        patch_sweep,
        path_patch,
        path_sweep,
        prob,
        rank,
        run,
        steer,
    )
    from interpwidgets.models import Dictionary, Model, Recording, load, load_dictionary, record
    from interpwidgets.tokens import Tokens
    from interpwidgets.views import AttentionView, Dashboard, View, link, save_page

__version__ = "0.1.0"

# A name is imported when it is first used: `import interpwidgets` needs no torch, and takes no time (PEP 562).
_HOME = {
    "Ablate": "intervene",
    "Approximation": "intervene",
    "AttentionView": "views",
    "Axis": "intervene",
    "CausalTrace": "intervene",
    "Dashboard": "views",
    "Dictionary": "models",
    "Effect": "intervene",
    "Effects": "intervene",
    "Freeze": "intervene",
    "Generated": "intervene",
    "Hypothesis": "intervene",
    "InputError": "errors",
    "InterpError": "errors",
    "Intervention": "intervene",
    "LogitAttribution": "intervene",
    "LogitLens": "intervene",
    "Metric": "intervene",
    "Model": "models",
    "NoAttentionError": "errors",
    "Node": "intervene",
    "NotRecordedError": "errors",
    "Outcome": "intervene",
    "Patch": "intervene",
    "Recording": "models",
    "Scale": "intervene",
    "Scrubbed": "intervene",
    "Steer": "intervene",
    "Tokens": "tokens",
    "UnknownModelError": "errors",
    "View": "views",
    "ablate_sweep": "intervene",
    "accuracy": "intervene",
    "attribution_patch": "intervene",
    "causal_scrub": "intervene",
    "causal_trace": "intervene",
    "direct_logit_attribution": "intervene",
    "generate": "intervene",
    "integrated_attribution_patch": "intervene",
    "kl": "intervene",
    "link": "views",
    "load": "models",
    "load_dictionary": "models",
    "log_prob": "intervene",
    "logit": "intervene",
    "logit_diff": "intervene",
    "logit_lens": "intervene",
    "loss": "intervene",
    "outcome": "intervene",
    "patch_sweep": "intervene",
    "path_patch": "intervene",
    "path_sweep": "intervene",
    "prob": "intervene",
    "rank": "intervene",
    "record": "models",
    "run": "intervene",
    "save_page": "views",
    "steer": "intervene",
}

__all__ = [  # `_HOME` in order, spelt out for tools that read this file
    "Ablate",
    "Approximation",
    "AttentionView",
    "Axis",
    "CausalTrace",
    "Dashboard",
    "Dictionary",
    "Effect",
    "Effects",
    "Freeze",
    "Generated",
    "Hypothesis",
    "InputError",
    "InterpError",
    "Intervention",
    "LogitAttribution",
    "LogitLens",
    "Metric",
    "Model",
    "NoAttentionError",
    "Node",
    "NotRecordedError",
    "Outcome",
    "Patch",
    "Recording",
    "Scale",
    "Scrubbed",
    "Steer",
    "Tokens",
    "UnknownModelError",
    "View",
    "ablate_sweep",
    "accuracy",
    "attribution_patch",
    "causal_scrub",
    "causal_trace",
    "direct_logit_attribution",
    "generate",
    "integrated_attribution_patch",
    "kl",
    "link",
    "load",
    "load_dictionary",
    "log_prob",
    "logit",
    "logit_diff",
    "logit_lens",
    "loss",
    "outcome",
    "patch_sweep",
    "path_patch",
    "path_sweep",
    "prob",
    "rank",
    "record",
    "run",
    "save_page",
    "steer",
]


_PARTS = ("intervene", "models", "views")  # `iw.models.scorecard`, with nothing else imported


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
