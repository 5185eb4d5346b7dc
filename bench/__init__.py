"""What we claim, measured against the peers in the same run: `python -m bench`, or `python -m bench attention`.

One file a claim: `attention.py` (against CircuitsVis and BertViz), `long.py` (contexts that peers do not open),
`record.py` (what recording adds to a forward pass), `sweep.py` (recordings and sweeps, against TransformerLens and
nnsight), `features.py` (feature stores, beside SAEDashboard), `course.py` (verdicts; notebooks built and run),
`package.py` (import time, bytes of JavaScript).
Times are CPU seconds unless a column says wall: a busy machine changes them little.
"""
