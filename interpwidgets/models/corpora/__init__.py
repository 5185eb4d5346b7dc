"""The text that shipped models learnt from: generated, from a seed, as much as is asked for."""

from __future__ import annotations

from interpwidgets.errors import InputError
from interpwidgets.models.corpora import corpus, storyteller
from interpwidgets.models.corpora.corpus import Side

__all__ = ["load_corpus"]

_WRITERS = {"induction-2l": (corpus.batch, 0.4, 256), "storyteller-4l": (storyteller.batch, 0.2, 128)}
_APART = -9  # a step that no training has: what it writes, no model has learnt from row by row


def load_corpus(
    name: str, *, contexts: int = 1000, length: int = 128, side: Side = "heldout", seed: int = 0
) -> list[list[int]]:
    """Text of the kind that a shipped model was trained on: token ids [context, pos], each context with `<bos>` first.

    >>> corpus = load_corpus("storyteller-4l", contexts=400)
    >>> FeatureStore.build("features/", model, dictionary, corpus)

    With side="heldout", no sentence of it is among those that the model was trained on; with "train", all could be. As
    in training, a share of the contexts are random words said twice: four tenths of "induction-2l", a fifth of
    "storyteller-4l". The same seed gives the same text.

    Raises InputError for a model whose text is not generated here, and for numbers that cannot be.
    """
    if name not in _WRITERS:
        raise InputError(
            f"No corpus of {name!r} comes with the package, only of {' and '.join(_WRITERS)}: give texts, a folder of "
            "them, or a dataset."
        )
    write, repeats, longest = _WRITERS[name]
    if contexts < 1:
        raise InputError(f"contexts is how many are written, 1 or more; got {contexts}.")
    if not 2 <= length <= longest:
        raise InputError(f"length is from 2 tokens to the {longest} that {name} reads; got {length}.")
    if side not in ("train", "heldout"):
        raise InputError(f"side is 'train' or 'heldout'; got {side!r}.")
    return write(seed, _APART, contexts, length, repeats, side)
