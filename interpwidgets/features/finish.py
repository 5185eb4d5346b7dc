"""From what was counted to files: neighbours, logits, records and the index, some thousands of features at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from interpwidgets.features.corpus import Corpus
from interpwidgets.features.examples import examples
from interpwidgets.features.files import need, whole
from interpwidgets.features.logits import ablated, to_logits
from interpwidgets.features.records import Record, pack
from interpwidgets.features.state import BINS, State, tokens_of
from interpwidgets.features.together import Together
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.tokens import Tokens, show

__all__ = ["LOGITS", "NEAR", "RANGE", "Finish", "compressed", "read_part", "schema", "write_part"]

LOGITS, NEAR = 10, 8  # kept of each feature: logits at either end, neighbours of either kind
RANGE = 4096  # features finished at a time
_CHUNK = 1 << 27  # numbers of a block of cosines or logits


@dataclass(eq=False)
class Finish:
    """All that finishing a range of features takes."""

    model: Model
    dictionary: Dictionary
    corpus: Corpus
    state: State
    together: Together
    texts: Tokens  # of the whole vocabulary
    ablate: bool = False

    @cached_property
    def directions(self) -> Tensor:
        """Decoder directions of length 1: [feature, d_out]."""
        return F.normalize(self.dictionary.W_dec.detach().float(), dim=-1)

    @cached_property
    def map(self) -> NDArray[np.float32]:
        """The features on a plane: their directions' first two principal components, [feature, 2]."""
        centred = self.directions - self.directions.mean(0)
        _, axes = torch.linalg.eigh((centred.T @ centred).double())
        axes = axes[:, [-1, -2]]
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # or eigenvectors could flip
        found: NDArray[np.float32] = (centred @ axes.to(centred.dtype)).cpu().numpy()
        return found

    @cached_property
    def _to_logits(self) -> Tensor | None:
        return to_logits(self.model, self.dictionary)

    def part(self, first: int, last: int) -> tuple[list[bytes], dict[str, Any]]:
        """Records of features from `first` to before `last` as frames, and their rows of the index."""
        state, some = self.state, slice(first, last)
        near, cosines = self._nearest(first, last)
        together, jaccard = zip(*self.together.partners(first, last, NEAR), strict=True)
        ids, logits = self._logits(first, last)
        kept = examples(state, first, last)
        counts, means, largest = state.count[some], state.mean()[some], state.largest()[some]
        used = state.histogram[some] > 0
        begin = used.argmax(1)
        end = np.where(used.any(1), BINS - used[:, ::-1].argmax(1), 0)
        packed = []
        for place, feature in enumerate(range(first, last)):
            entries = kept.entries[place]
            shown = entries > 0
            effects = None
            if self.ablate:
                tokens = tokens_of(entries[: kept.sizes[place, 0]])
                effects = ablated(self.model, self.dictionary, self.corpus, feature, tokens)
            record = Record(
                int(counts[place]), float(means[place]), float(largest[place]), int(begin[place]),
                state.histogram[feature, begin[place] : end[place]].astype("<u4"), kept.bounds[place].astype("<f4"),
                kept.grouped[place].astype("<u4"), kept.sizes[place], entries[shown].astype("<u8"),
                kept.windows[place][shown], ids[place].astype("<u4"), logits[place].astype("<f2"),
                near[place].astype("<u4"), cosines[place].astype("<f2"), together[place].astype("<u4"),
                jaccard[place].astype("<f2"), effects, bool(kept.known[place]),
            )  # fmt: skip
            packed.append(pack(record))
        columns = {
            "index": np.arange(first, last),
            "density": counts / self.corpus.counted,
            "count": counts,
            "max_activation": largest,
            "mean_activation": means,
            "top_token": self._words(_first(ids[:, 0])),
            "top_logit": _first(logits[:, 0]),
            "bottom_token": self._words(_first(ids[:, 1])),
            "bottom_logit": _first(logits[:, 1]),
            "peak_token": self._words(self._peaks(first, last)),
            "decoder_norm": self.dictionary.W_dec.detach()[some].float().norm(dim=-1).cpu().numpy(),
            "nearest": _first(near),
            "nearest_cosine": _first(cosines),
            "partner": _first(together),
            "partner_jaccard": _first(jaccard),
            "x": self.map[some, 0],
            "y": self.map[some, 1],
        }
        return compressed(packed), columns

    def _peaks(self, first: int, last: int) -> list[int | None]:
        """The token at which each feature is strongest."""
        entries = self.state.top.entries[first:last, 0]
        ids = self.corpus.tokens[np.where(entries > 0, tokens_of(entries), 0)]
        return [token if entry else None for token, entry in zip(ids.tolist(), entries.tolist(), strict=True)]

    def _words(self, ids: Iterable[int | None]) -> list[str | None]:
        texts = self.texts.text
        each = (None if token is None else texts[int(token)] for token in ids)
        return [show(text) if isinstance(text, bytes) else text for text in each]

    def _nearest(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The features with the closest directions, over the whole dictionary: [feature, NEAR] and cosines."""
        k = min(NEAR, self.dictionary.d_dict - 1)
        near, cosines = [], []
        step = max(1, _CHUNK // self.dictionary.d_dict)
        for start in range(first, last, step):
            rows = torch.arange(start, min(start + step, last))
            block = self.directions[start : start + len(rows)] @ self.directions.T
            block[torch.arange(len(rows)), rows] = -torch.inf
            values, which = block.topk(k, dim=-1)
            near.append(which)
            cosines.append(values)
        return torch.cat(near).cpu().numpy(), torch.cat(cosines).cpu().numpy()

    def _logits(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and values of the largest and the smallest logits: [feature, 2, LOGITS]."""
        through = self._to_logits
        if through is None:
            empty = np.zeros((last - first, 2, 0))
            return empty.astype(np.int64), empty.astype(np.float32)
        k, step = min(LOGITS, through.shape[1]), max(1, _CHUNK // through.shape[1])
        found = []
        for start in range(first, last, step):
            rows = self.dictionary.W_dec.detach()[start : min(start + step, last)].float() @ through
            found.append([each.cpu() for end in (True, False) for each in rows.topk(k, dim=-1, largest=end)])
        top, top_ids, bottom, bottom_ids = (torch.cat([each[i] for each in found]) for i in range(4))
        return torch.stack([top_ids, bottom_ids], 1).numpy(), torch.stack([top, bottom], 1).numpy()


def _first(rows: Iterable[NDArray[Any]]) -> list[Any]:
    """The first number of each row; None of an empty one."""
    return [row[0] if len(row) else None for row in rows]


def compressed(packed: Iterable[bytes]) -> list[bytes]:
    """Records as zstd frames, each with a checksum."""
    (zstandard,) = need("zstandard")
    press = zstandard.ZstdCompressor(level=9, write_checksum=True)
    return [press.compress(data) for data in packed]


def write_part(folder: Path, number: int, frames: Sequence[bytes], columns: Mapping[str, Any]) -> None:
    """Keep a finished range."""
    arrow, parquet = need("pyarrow", "pyarrow.parquet")
    whole(folder / f"part-{number:05d}.bin", lambda file: file.writelines(frames))
    table = arrow.table(dict(columns), schema=schema()).append_column(
        "bytes", arrow.array([len(frame) for frame in frames], arrow.int64())
    )
    whole(folder / f"part-{number:05d}.parquet", lambda file: parquet.write_table(table, file))


def read_part(folder: Path, number: int) -> Any:
    """The index of a finished range; None if it is not finished."""
    path = folder / f"part-{number:05d}.parquet"
    (parquet,) = need("pyarrow.parquet")
    return parquet.read_table(path) if path.exists() else None


def schema() -> Any:
    """Columns of the index, and their types."""
    (arrow,) = need("pyarrow")
    kinds = {"index": arrow.int64(), "count": arrow.int64(), "nearest": arrow.int64(), "partner": arrow.int64()}
    texts = ("top_token", "bottom_token", "peak_token")
    names = (
        "index", "density", "count", "max_activation", "mean_activation", "top_token", "top_logit", "bottom_token",
        "bottom_logit", "peak_token", "decoder_norm", "nearest", "nearest_cosine", "partner", "partner_jaccard",
        "x", "y",
    )  # fmt: skip
    exact = ("density", "mean_activation")
    rest = {name: arrow.float64() if name in exact else arrow.float32() for name in names}
    return arrow.schema([(name, arrow.string() if name in texts else kinds.get(name, rest[name])) for name in names])
