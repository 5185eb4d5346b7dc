"""Every feature of a dictionary as a folder: built in one pass over a corpus, read in well under a millisecond."""

from __future__ import annotations

from interpwidgets.features.absorption import Absorbed
from interpwidgets.features.connections import Connection, Connections, Ranked, VirtualWeights
from interpwidgets.features.firing import Firing
from interpwidgets.features.notes import Label
from interpwidgets.features.records import Example, Feature, Group, Neighbour
from interpwidgets.features.report import DictionaryReport, Estimate, dictionary_report
from interpwidgets.features.store import FeatureStore
from interpwidgets.features.table import Rows
from interpwidgets.features.train_dictionary import train_dictionary

__all__ = [
    "Absorbed",
    "Connection",
    "Connections",
    "DictionaryReport",
    "Estimate",
    "Example",
    "Feature",
    "FeatureStore",
    "Firing",
    "Group",
    "Label",
    "Neighbour",
    "Ranked",
    "Rows",
    "VirtualWeights",
    "dictionary_report",
    "train_dictionary",
]
