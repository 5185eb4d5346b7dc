"""Which features are active at the same tokens: counted, over the whole dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from interpwidgets.features.state import Active

__all__ = ["Together"]

_SQUARE = 1 << 25  # pairs of features that may have a count each in memory: 128 MB
_CHUNK = 1 << 24  # numbers of a block of tokens × features: 64 MB
_DEARER = 250  # times that a pair costs more where it is counted alone than in a dense product
_MANY = 1 << 16  # features from which a count for each of them, of each feature, is too much
_TWICE = 2  # tokens at which two features are active together, at least, to be neighbours by it


class Together:
    """Of every two features at how many tokens both are active."""

    def __init__(self, actives: Iterable[Active], n_features: int) -> None:
        left = iter(actives)
        first = next(left)
        self._alone = np.zeros(n_features)  # [feature], tokens at which it is active
        self._dense: NDArray[np.int32] | None = None  # [feature, feature]
        if n_features**2 <= _SQUARE and _dearer(first, n_features):
            self._dense = np.zeros((n_features, n_features), dtype=np.int32)
            for active in self._counted(chain([first], left)):
                _add(self._dense, active)
        else:
            parts = [_by_token(active, n_features) for active in self._counted(chain([first], left))]
            self._by_token = sparse.vstack(parts, format="csr")  # [token, feature], ones
            self._by_feature = self._by_token.tocsc()

    def _counted(self, actives: Iterable[Active]) -> Iterator[Active]:
        for active in actives:
            self._alone += np.bincount(active.feature, minlength=len(self._alone))
            yield active

    def partners(self, first: int, last: int, k: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each feature from `first` to before `last` the k with the largest Jaccard index, and that."""
        for feature, (others, shared) in enumerate(self._shared(first, last), first):
            either = self._alone[feature] + self._alone[others] - shared
            jaccard = shared / np.maximum(either, 1)
            jaccard[(others == feature) | (shared < _TWICE)] = 0
            least = np.partition(jaccard, -k)[-k] if len(jaccard) > k else 0.0
            (near,) = np.nonzero((jaccard >= least) & (jaccard > 0))
            best = near[np.lexsort((others[near], -jaccard[near]))[:k]]
            yield others[best], jaccard[best]

    def _shared(self, first: int, last: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """For each feature others, and at how many tokens they are active as well."""
        if self._dense is not None:
            everyone = np.arange(len(self._dense))
            yield from ((everyone, counts) for counts in self._dense[first:last])
            return
        if self._by_token.shape[1] < _MANY:
            everyone = np.arange(self._by_token.shape[1])
            for feature in range(first, last):
                tokens = self._by_feature.indices[slice(*self._by_feature.indptr[feature : feature + 2])]
                yield everyone, np.bincount(self._by_token[tokens].indices, minlength=len(everyone))
            return
        both = (self._by_feature[:, first:last].T @ self._by_token).tocsr()
        for start, end in zip(both.indptr, both.indptr[1:], strict=False):
            yield both.indices[start:end].astype(np.int64), both.data[start:end]


def _dearer(active: Active, n_features: int) -> bool:
    """Whether going through the pairs of each token would cost more than a dense product [feature, token, feature]."""
    each = np.bincount(active.token - _range(active)[0])  # [token], features that are active there
    return float((each.astype(float) ** 2).sum()) * _DEARER > len(each) * n_features**2


def _range(active: Active) -> tuple[int, int]:
    return (int(active.token.min()), int(active.token.max()) + 1) if len(active.token) else (0, 0)


def _by_token(active: Active, n_features: int) -> Any:
    """Ones where features are active: a sparse matrix [token, feature]."""
    begin, end = _range(active)
    starts = np.searchsorted(active.feature, np.arange(n_features + 1))
    ones = np.ones(len(active.token), dtype=np.float32)
    return sparse.csc_matrix((ones, active.token - begin, starts), shape=(end - begin, n_features)).tocsr()


def _add(counts: NDArray[np.int32], active: Active) -> None:
    """Add how often features are active together [feature, feature]: blocks of tokens, each exact in float32."""
    begin, end = _range(active)
    step = max(1, min(_CHUNK // len(counts), end - begin))
    for start in range(begin, end, step):
        inside = (active.token >= start) & (active.token < start + step)
        block = np.zeros((len(counts), step), dtype=np.float32)  # [feature, token], as they come
        block[active.feature[inside], active.token[inside] - start] = 1
        counts += (block @ block.T).astype(np.int32)
