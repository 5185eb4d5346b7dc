"""Models, what they are made of, and recordings of what they do."""

from __future__ import annotations

try:
    import torch as _torch
    import transformers as _transformers
except ImportError as error:
    raise ImportError(
        f'Models need torch and transformers ({error.name} is missing): pip install "interpwidgets[models]". '
        "Views of NumPy arrays work without."
    ) from error

from interpwidgets.models.corpora import load_corpus
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.dictionary_files import load_dictionary
from interpwidgets.models.load import load, shipped
from interpwidgets.models.model import Model
from interpwidgets.models.record import record
from interpwidgets.models.recording import Recording
from interpwidgets.models.scorecard import Scorecard, scorecard

del _torch, _transformers

__all__ = [
    "Dictionary",
    "Model",
    "Recording",
    "Scorecard",
    "load",
    "load_corpus",
    "load_dictionary",
    "record",
    "scorecard",
    "shipped",
]
