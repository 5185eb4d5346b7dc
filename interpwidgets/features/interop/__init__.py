"""Features to and from the files of other tools: circuit-tracer, SAEDashboard, Neuronpedia, delphi.

>>> write_neuronpedia("export", records_of(store), model="gpt2-small", source="8-res_mine")
>>> for record in read_circuit_tracer("features", layer=3):
...     print(record.index, record.label)

A `FeatureRecord` is what they have in common: plain tuples, of which each format holds a part. Names inside files never
lead out of their folder, and what is not as it should be raises InputError that names file and place.
"""

from __future__ import annotations

from interpwidgets.features.interop.circuit_tracer import read_circuit_tracer, write_circuit_tracer
from interpwidgets.features.interop.delphi import DelphiCache, read_delphi, write_delphi
from interpwidgets.features.interop.neuronpedia import read_neuronpedia, write_neuronpedia
from interpwidgets.features.interop.records import FeatureRecord, Snippet, record_of, records_of
from interpwidgets.features.interop.sae_dashboard import read_sae_dashboard, write_sae_dashboard
from interpwidgets.graph_json import cantor, uncantor

__all__ = [
    "DelphiCache",
    "FeatureRecord",
    "Snippet",
    "cantor",
    "read_circuit_tracer",
    "read_delphi",
    "read_neuronpedia",
    "read_sae_dashboard",
    "record_of",
    "records_of",
    "uncantor",
    "write_circuit_tracer",
    "write_delphi",
    "write_neuronpedia",
    "write_sae_dashboard",
]
