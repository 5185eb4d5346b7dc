"""Every feature of a dictionary as a folder: built in one pass over a corpus, read in well under a millisecond."""

from __future__ import annotations

from interpwidgets.features.notes import Label
from interpwidgets.features.records import Example, Feature, Group, Neighbour
from interpwidgets.features.store import FeatureStore, Firing
from interpwidgets.features.table import Rows

__all__ = ["Example", "Feature", "FeatureStore", "Firing", "Group", "Label", "Neighbour", "Rows"]
