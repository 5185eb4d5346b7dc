"""Interventions, what they are measured by, and what came of them."""

from __future__ import annotations

import interpwidgets.models as _models  # says what to install where torch is missing
from interpwidgets.intervene.effects import Axis, Effect, Effects
from interpwidgets.intervene.interventions import Ablate, Freeze, Intervention, Patch, Scale, Steer
from interpwidgets.intervene.metrics import (
    BoundMetric,
    Metric,
    accuracy,
    as_metric,
    kl,
    log_prob,
    logit,
    logit_diff,
    loss,
    prob,
    rank,
)
from interpwidgets.intervene.running import run
from interpwidgets.intervene.sweep import ablate_sweep, patch_sweep

del _models

__all__ = [
    "Ablate",
    "Axis",
    "BoundMetric",
    "Effect",
    "Effects",
    "Freeze",
    "Intervention",
    "Metric",
    "Patch",
    "Scale",
    "Steer",
    "ablate_sweep",
    "accuracy",
    "as_metric",
    "kl",
    "log_prob",
    "logit",
    "logit_diff",
    "loss",
    "patch_sweep",
    "prob",
    "rank",
    "run",
]
