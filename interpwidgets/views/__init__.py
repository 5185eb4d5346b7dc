"""What is shown: widgets over arrays and sources. Nothing here knows a model, or needs torch."""

from interpwidgets.views.attention import AttentionView, Edge
from interpwidgets.views.circuit import CircuitView
from interpwidgets.views.dashboard import Dashboard
from interpwidgets.views.feature import FeatureView
from interpwidgets.views.geometry import GeometryView
from interpwidgets.views.linking import Link, link
from interpwidgets.views.logit_lens import LogitLensView
from interpwidgets.views.neurons import Neuron, NeuronsView
from interpwidgets.views.page import Html, save_page
from interpwidgets.views.patching import PatchingView
from interpwidgets.views.prompt import PromptView
from interpwidgets.views.residual import Contribution, ResidualView
from interpwidgets.views.tokens import TokensView
from interpwidgets.views.top_tokens import Prediction, TopTokensView
from interpwidgets.views.training import TrainingView
from interpwidgets.views.view import View

__all__ = [
    "AttentionView",
    "CircuitView",
    "Contribution",
    "Dashboard",
    "Edge",
    "FeatureView",
    "GeometryView",
    "Html",
    "Link",
    "LogitLensView",
    "Neuron",
    "NeuronsView",
    "PatchingView",
    "Prediction",
    "PromptView",
    "ResidualView",
    "TokensView",
    "TopTokensView",
    "TrainingView",
    "View",
    "link",
    "save_page",
]
