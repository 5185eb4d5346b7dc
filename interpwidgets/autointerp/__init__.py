"""What a feature is, said by a labeler; and what that is worth, on text that the labeler has not seen."""

from __future__ import annotations

from interpwidgets.autointerp.budget import Budget, Estimate, Spent
from interpwidgets.autointerp.chat import ChatLabeler
from interpwidgets.autointerp.enumerating import Enumeration
from interpwidgets.autointerp.evidence import Evidence, evidence
from interpwidgets.autointerp.investigate import Investigation, Step, investigate
from interpwidgets.autointerp.kinds import Kinds, kinds
from interpwidgets.autointerp.labeler import Judge, Labeler
from interpwidgets.autointerp.labelling import label
from interpwidgets.autointerp.local import ModelLabeler
from interpwidgets.autointerp.report import Labelled, Report
from interpwidgets.autointerp.rules import Rule
from interpwidgets.autointerp.scores import scores
from interpwidgets.autointerp.sources import OfStore, Sampled, Source
from interpwidgets.autointerp.statistics import StatisticsLabeler
from interpwidgets.autointerp.texts import Snippet, Text

__all__ = [
    "Budget",
    "ChatLabeler",
    "Enumeration",
    "Estimate",
    "Evidence",
    "Investigation",
    "Judge",
    "Kinds",
    "Labeler",
    "Labelled",
    "ModelLabeler",
    "OfStore",
    "Report",
    "Rule",
    "Sampled",
    "Snippet",
    "Source",
    "Spent",
    "StatisticsLabeler",
    "Step",
    "Text",
    "evidence",
    "investigate",
    "kinds",
    "label",
    "scores",
]
