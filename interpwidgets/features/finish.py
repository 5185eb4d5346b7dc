"""From what was counted to files: neighbours, logits, records and the index, some thousands of features at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from interpwidgets.features.corpus import Corpus
from interpwidgets.features.files import need, whole
from interpwidgets.features.logits import ablated, to_logits
from interpwidgets.features.records import Record, pack
from interpwidgets.features.state import BEFORE, Active, State, tokens_of, values_of
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.tokens import Tokens, show

__all__ = ["LOGITS", "NEAR", "RANGE", "Finish", "compressed", "counted_together", "read_part", "schema", "write_part"]

LOGITS, NEAR = 10, 8  # kept of each feature: logits at either end, neighbours of either kind
RANGE = 4096  # features finished at a time
_CHUNK = 1 << 27  # numbers of a block of cosines or logits
_TWICE = 2  # tokens at which two features are active together, at least, to be neighbours by it


def counted_together(actives: Iterable[Active], n_features: int) -> Any:
    """Which features are active at which tokens: a sparse matrix [token, feature] of ones."""
    from scipy import sparse

    rows, columns = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
    for active in actives:
        rows.append(active.token)
        columns.append(active.feature)
    tokens, row = np.unique(np.concatenate(rows), return_inverse=True)
    column = np.concatenate(columns)
    shape = (len(tokens), n_features)
    return sparse.csr_matrix((np.ones(len(column), dtype=np.float32), (row, column)), shape=shape)


@dataclass(eq=False)
class Finish:
    """All that finishing a range of features takes."""

    model: Model
    dictionary: Dictionary
    corpus: Corpus
    state: State
    together: Any  # sparse [token, feature]
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

    @cached_property
    def _alone(self) -> NDArray[np.float64]:
        return np.asarray(self.together.sum(0), dtype=np.float64).ravel()

    def part(self, first: int, last: int) -> tuple[list[bytes], dict[str, list[Any]]]:
        """Records of features from `first` to before `last` as frames, and their rows of the index."""
        near, cosines = self._nearest(first, last)
        partners = list(self._partners(first, last))
        ids, logits = self._logits(first, last)
        norms = self.dictionary.W_dec.detach()[first:last].float().norm(dim=-1).cpu().numpy()
        means, packed, rows = self.state.mean(), [], []
        for place, feature in enumerate(range(first, last)):
            together, jaccard = partners[place]
            sizes, entries, windows, bounds, grouped, known = self._examples(feature)
            histogram = self.state.histogram[feature]
            (used,) = np.nonzero(histogram)
            bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
            effects = None
            if self.ablate:
                tokens = tokens_of(entries[: sizes[0]])
                effects = ablated(self.model, self.dictionary, self.corpus, feature, tokens)
            count, largest = int(self.state.count[feature]), float(values_of(entries[:1])[0]) if len(entries) else 0.0
            record = Record(
                count, float(means[feature]), largest, bins.start, histogram[bins].astype("<u4"), bounds, grouped,
                sizes, entries.astype("<u8"), windows, ids[place].astype("<u4"), logits[place].astype("<f2"),
                near[place].astype("<u4"), cosines[place].astype("<f2"), together.astype("<u4"),
                jaccard.astype("<f2"), effects, known,
            )  # fmt: skip
            packed.append(pack(record))
            rows.append(self._row(feature, record, float(norms[place]), logits[place], cosines[place], jaccard))
        return compressed(packed), {name: [row[name] for row in rows] for name in rows[0]}

    def _row(
        self, feature: int, record: Record, norm: float, logits: Any, cosines: Any, jaccard: Any
    ) -> dict[str, Any]:
        """A feature's row of the index."""
        top, bottom = record.logit_tokens if record.logit_tokens.size else ([], [])
        peak = self.corpus.tokens[tokens_of(record.entries[:1])]
        return {
            "index": feature,
            "density": record.count / self.corpus.counted,
            "count": record.count,
            "max_activation": record.max,
            "mean_activation": record.mean,
            "top_token": self._text(top),
            "top_logit": float(logits[0, 0]) if len(top) else None,
            "bottom_token": self._text(bottom),
            "bottom_logit": float(logits[1, 0]) if len(bottom) else None,
            "peak_token": self._text(peak),
            "decoder_norm": norm,
            "nearest": int(record.near[0]) if len(record.near) else None,
            "nearest_cosine": float(cosines[0]) if len(record.near) else None,
            "partner": int(record.together[0]) if len(record.together) else None,
            "partner_jaccard": float(jaccard[0]) if len(record.together) else None,
            "x": float(self.map[feature, 0]),
            "y": float(self.map[feature, 1]),
        }

    def _text(self, ids: Sequence[int] | NDArray[Any]) -> str | None:
        if not len(ids):
            return None
        text = self.texts.text[int(ids[0])]
        return show(text) if isinstance(text, bytes) else text

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

    def _partners(self, first: int, last: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each feature those that are active at the same tokens, and Jaccard's index of each."""
        both = (self.together[:, first:last].T @ self.together).tocsr()
        for place, feature in enumerate(range(first, last)):
            row = slice(both.indptr[place], both.indptr[place + 1])
            others, shared = both.indices[row].astype(np.int64), both.data[row].astype(np.float64)
            keep = (others != feature) & (shared >= _TWICE)
            others, shared = others[keep], shared[keep]
            jaccard = shared / (self._alone[feature] + self._alone[others] - shared)
            best = np.lexsort((others, -jaccard))[:NEAR]
            yield others[best], jaccard[best]

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

    def _examples(self, feature: int) -> tuple[Any, Any, Any, Any, Any, bool]:
        """(sizes, entries, windows, bounds, counts of groups, whether counted), examples the strongest first."""
        state, groups = self.state, self.state.grouped.shape[1]
        known = bool(np.isfinite(state.bounds[feature]).all())
        kept = [(state.top.entries[feature], state.top.windows[feature])]
        if known:
            rows = slice(feature * groups, (feature + 1) * groups)
            kept += zip(state.groups.entries[rows], state.groups.windows[rows], strict=True)
            bounds, grouped = state.bounds[feature], state.grouped[feature]
        else:
            kept_groups, bounds, grouped = _cut(state, feature)
            kept += kept_groups
        sorted_ = []
        for entries, windows in kept:
            order = np.argsort(~entries, kind="stable")[: int((entries > 0).sum())]
            sorted_.append((entries[order], windows[order]))
        sizes = np.array([len(entries) for entries, _ in sorted_], dtype=np.uint8)
        entries = np.concatenate([entries for entries, _ in sorted_])
        windows = np.concatenate([windows for _, windows in sorted_])
        windows[:, BEFORE] = 0  # the entry itself says it exactly
        return sizes, entries, windows, bounds.astype("<f4"), grouped.astype("<u4"), known


def _cut(state: State, feature: int) -> tuple[list[tuple[Any, Any]], NDArray[np.float32], NDArray[np.int64]]:
    """A rare feature's one sample as quantile groups, and how many of its activations each stands for."""
    groups = state.grouped.shape[1]
    per_group = state.groups.entries.shape[1]
    sample, windows = (each[feature] for each in state.one)
    order = np.argsort(sample, kind="stable")[int((sample == 0).sum()) :]  # from the weakest on
    edges = len(order) * np.arange(groups + 1) // groups
    parts = [order[start:end] for start, end in pairwise(edges)]
    assert all(len(part) <= per_group for part in parts)
    inner = edges[1:-1]
    bounds = np.full(groups - 1, np.nan, dtype=np.float32)
    if len(order):
        bounds = values_of(sample[order[np.minimum(inner, len(order) - 1)]])
    count = int(state.count[feature])
    shares = np.diff(count * edges // max(len(order), 1))
    return [(sample[part], windows[part]) for part in parts], bounds, shares


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
