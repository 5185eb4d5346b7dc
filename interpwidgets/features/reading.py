"""Reading one feature of a store: its record, and the tokens that its examples point at."""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features.corpus import Corpus
from interpwidgets.features.files import need, read_json
from interpwidgets.features.layout import OFFSETS, RECORDS, VOCABULARY
from interpwidgets.features.records import Example, Feature, Group, Neighbour, Record, group_names, unpack
from interpwidgets.features.state import Scale
from interpwidgets.tokens import Tokens

__all__ = ["Reader"]


class Reader:
    """The records and the tokens of a store that is there."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self._names = group_names(about["settings"]["groups"])
        self._scale = Scale(about["scale"])
        self._offsets = np.fromfile(folder / OFFSETS, dtype="<u8")
        with (folder / RECORDS).open("rb") as file:
            self._records = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._records.madvise(mmap.MADV_RANDOM)  # a page is read, not 128 kB around it
        self._corpus = Corpus.open(folder, about["corpus"]["bos"])
        self._local = local()

    def feature(self, index: int) -> Feature:
        """A feature, by its number."""
        record = self.record(index)
        top, bottom = (
            [(self._text(int(token)), float(value)) for token, value in zip(tokens, values, strict=True)]
            for tokens, values in zip(record.logit_tokens, record.logits, strict=True)
        )
        edges = self._scale.edges[record.first_bin : record.first_bin + len(record.histogram) + 1].copy()
        if record.first_bin == 0 and len(record.histogram):
            edges[0] = 0  # the first bin is open
        if len(record.histogram) and record.max > edges[-1]:
            edges[-1] = record.max  # and so is the last
        return Feature(
            index=index,
            count=record.count,
            n_tokens=self.about["n_tokens"],
            mean=record.mean,
            max=record.max,
            histogram=(edges, record.histogram),
            top_logits=top,
            bottom_logits=bottom,
            neighbours=_neighbours(record.near, record.cosines),
            co_firing=_neighbours(record.together, record.jaccard),
            groups=self._groups(record),
            _record=record,
            _example=self._example,
            _scale=self._scale,
        )

    def record(self, index: int) -> Record:
        """A feature's record; InputError if it is damaged."""
        (zstandard,) = need("zstandard")
        if not hasattr(self._local, "zstd"):  # a decompressor is for one thread
            self._local.zstd = zstandard.ZstdDecompressor()
        start, end = self._offsets[index : index + 2].tolist()
        try:
            return unpack(self._local.zstd.decompress(self._records[start:end]))
        except (zstandard.ZstdError, ValueError) as error:
            raise InputError(
                f"{self.folder / RECORDS} is damaged at feature {index} ({error}). Build the store again."
            ) from None

    def _groups(self, record: Record) -> list[Group]:
        """Quantile groups; the first begins at its weakest example where nothing weaker was kept."""
        values = record.bounds.astype(float).tolist()
        capacity = self.about["settings"]["groups"] * self.about["settings"]["per_group"]
        exact = record.known or record.count <= capacity
        return [
            Group(name, low, high, int(count), exact)
            for name, low, high, count in zip(
                self._names, [0.0, *values], [*values, record.max], record.grouped, strict=True
            )
        ]

    def _example(
        self, token: int, value: float, window: NDArray[np.float32], effects: NDArray[np.float16] | None
    ) -> Example:
        context = int(np.searchsorted(self._corpus.starts, token, side="right")) - 1
        begin, end = self._corpus.starts[context : context + 2].tolist()
        before = self.about["window"][0]
        first, last = max(begin, token - before), min(end, token - before + len(window))
        part = slice(first - token + before, last - token + before)
        shown = window[part].copy()
        shown[token - first] = value
        return Example(
            self._tokens(self._corpus.tokens[first:last]),
            shown,
            token - first,
            context,
            first - begin,
            None if effects is None else effects[part].astype(np.float32),
        )

    # --- tokens

    def context(self, number: int) -> Tokens:
        """All tokens of a context."""
        if not 0 <= number < len(self._corpus):
            raise InputError(f"There is no context {number}; there are {len(self._corpus)}, numbered from 0.")
        return self._tokens(self._corpus[number])

    @cached_property
    def _vocabulary(self) -> tuple[list[str | bytes], frozenset[int]]:
        found = read_json(self.folder / VOCABULARY)
        texts = [bytes(text) if isinstance(text, list) else str(text) for text in found["texts"]]
        return texts, frozenset(found["special"])

    def _text(self, token: int) -> str | bytes:
        return self._vocabulary[0][token]

    def _tokens(self, ids: NDArray[np.uint32]) -> Tokens:
        texts, special = self._vocabulary
        numbers = ids.tolist()
        return Tokens(
            tuple(texts[token] for token in numbers),
            np.asarray(ids, dtype=np.int64),
            np.array([token in special for token in numbers], dtype=bool),
        )


def _neighbours(indices: NDArray[np.uint32], values: NDArray[np.float16]) -> list[Neighbour]:
    return [Neighbour(int(index), float(value)) for index, value in zip(indices, values, strict=True)]
