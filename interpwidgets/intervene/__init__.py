"""Interventions, what they are measured by, and what came of them."""

from __future__ import annotations

import interpwidgets.models as _models  # says what to install where torch is missing
from interpwidgets.intervene.attribution import Approximation, attribution_patch, integrated_attribution_patch
from interpwidgets.intervene.direct import LogitAttribution, direct_logit_attribution
from interpwidgets.intervene.edges import edge_attribution, edge_sweep
from interpwidgets.intervene.effects import Axis, Effect, Effects
from interpwidgets.intervene.faithful import CircuitTest, Faithfulness, faithfulness
from interpwidgets.intervene.generation import Generated, generate
from interpwidgets.intervene.interventions import Ablate, Freeze, Intervention, Patch, Scale, Steer
from interpwidgets.intervene.lens import LogitLens, logit_lens
from interpwidgets.intervene.lens_attribution import LensAttribution, lens_logit_attribution
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
from interpwidgets.intervene.outcomes import Outcome, outcome
from interpwidgets.intervene.paths import path_patch, path_sweep
from interpwidgets.intervene.running import run
from interpwidgets.intervene.scrub import Hypothesis, Node, Scrubbed, causal_scrub
from interpwidgets.intervene.sweep import ablate_sweep, patch_sweep, steer
from interpwidgets.intervene.trace import CausalTrace, causal_trace

del _models

__all__ = [
    "Ablate",
    "Approximation",
    "Axis",
    "BoundMetric",
    "CausalTrace",
    "CircuitTest",
    "Effect",
    "Effects",
    "Faithfulness",
    "Freeze",
    "Generated",
    "Hypothesis",
    "Intervention",
    "LensAttribution",
    "LogitAttribution",
    "LogitLens",
    "Metric",
    "Node",
    "Outcome",
    "Patch",
    "Scale",
    "Scrubbed",
    "Steer",
    "ablate_sweep",
    "accuracy",
    "as_metric",
    "attribution_patch",
    "causal_scrub",
    "causal_trace",
    "direct_logit_attribution",
    "edge_attribution",
    "edge_sweep",
    "faithfulness",
    "generate",
    "integrated_attribution_patch",
    "kl",
    "lens_logit_attribution",
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
    "run",
    "steer",
]
