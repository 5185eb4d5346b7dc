"""A corpus as rows of token ids for a model, in any order, with what counts of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interpwidgets.features.corpus import Corpus, Cut, cut
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.models.sites import Site
from interpwidgets.models.splice import read

__all__ = ["Contexts", "contexts_of", "cut_corpus", "flat"]


class Contexts(NamedTuple):
    """Some contexts of a corpus, padded on the right."""

    ids: Tensor  # [row, pos]
    real: Tensor  # [row, pos], no padding
    counted: Tensor  # [row, pos], neither padding nor `<bos>` at the start

    @property
    def mask(self) -> Tensor | None:
        """What the model has to know of padding; None if there is none."""
        return None if bool(self.real.all()) else self.real.long()


@contextmanager
def cut_corpus(corpus: Any, model: Model, dictionary: Dictionary, context: int) -> Iterator[tuple[Corpus, Cut]]:
    """Cut a corpus into contexts in a folder that lasts for the length of a `with`."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = cut(corpus, model, dictionary, context, Path(folder))
        yield Corpus.open(Path(folder), found.bos), found


def contexts_of(corpus: Corpus, which: Sequence[int] | np.ndarray[Any, Any], device: torch.device) -> Contexts:
    """The contexts with these numbers."""
    each = [torch.from_numpy(corpus[int(number)].astype(np.int64)) for number in which]
    ids = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
    real = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in each])[:, None]
    counted = real.clone()
    if corpus.bos is not None:
        counted[:, 0] &= ids[:, 0] != corpus.bos
    return Contexts(ids.to(device), real.to(device), counted.to(device))


def flat(model: Model, rows: Contexts, sites: Collection[Site]) -> dict[Site, Tensor]:
    """What stands at some sites where it counts: each [token, d], heads side by side."""
    found = read(model, rows.ids, sites, rows.mask)
    return {site: value.flatten(2)[rows.counted].float() for site, value in found.items()}
