"""What interventions are measured by, and what came of them."""

from __future__ import annotations

import interpwidgets.models as _models  # says what to install where torch is missing
from interpwidgets.intervene.effects import Axis, Effect, Effects
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

del _models

__all__ = [
    "Axis",
    "BoundMetric",
    "Effect",
    "Effects",
    "Metric",
    "accuracy",
    "as_metric",
    "kl",
    "log_prob",
    "logit",
    "logit_diff",
    "loss",
    "prob",
    "rank",
]
