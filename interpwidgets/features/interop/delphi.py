"""delphi's cache of activations: every one above 1e-5, sparse, in files of some features each.

latents/{hookpoint}/{first}_{last}.safetensors
    locations      uint16 or uint32 [n, 3]: sequence, position, feature − first
    activations    float16 [n]
    tokens         int64 [sequence, position], the same in every file
latents/{hookpoint}/config.json
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from interpwidgets.errors import InputError
from interpwidgets.features.files import writable
from interpwidgets.features.interop.reading import inside, loads

__all__ = ["DelphiCache", "read_delphi", "write_delphi"]

_LEAST = 1e-5  # what is smaller is left out there


class DelphiCache(NamedTuple):
    """Activations of a dictionary on some text, sparse, in order of feature."""

    sequence: NDArray[np.int64]  # [n]
    position: NDArray[np.int64]  # [n]
    feature: NDArray[np.int64]  # [n]
    value: NDArray[np.float32]  # [n]
    tokens: NDArray[np.int64]  # [sequence, position]
    config: dict[str, Any]

    def of(self, feature: int) -> NDArray[np.float32]:
        """What one feature does at every token: [sequence, position]."""
        mine = self.feature == feature
        found = np.zeros(self.tokens.shape, dtype=np.float32)
        found[self.sequence[mine], self.position[mine]] = self.value[mine]
        return found


def write_delphi(folder: str | Path, hookpoint: str, cache: DelphiCache, *, n_features: int, splits: int = 5) -> Path:
    """Write a cache in so many files, and give the path. Activations become float16, those up to 1e-5 are left out."""
    if not 1 <= splits <= n_features:
        raise InputError(f"splits is between 1 and the {n_features} features; got {splits}.")
    top = inside(Path(folder) / "latents", hookpoint)
    top.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, n_features, splits + 1).astype(int)
    _check(cache.sequence, cache.position, cache.tokens, "The cache")
    if len(cache.feature) and not 0 <= cache.feature.min() <= cache.feature.max() < n_features:
        raise InputError(f"The cache has feature {cache.feature.max()}, and n_features is {n_features}.")
    with writable(top):
        for first, end in pairwise(edges.tolist()):
            kept = (cache.feature >= first) & (cache.feature < end) & (np.abs(cache.value) > _LEAST)
            places = np.stack([cache.sequence[kept], cache.position[kept], cache.feature[kept] - first], axis=1)
            small = not len(places) or places[:, [0, 2]].max() < 2**16
            tensors = {
                "locations": places.astype(np.uint16 if small else np.uint32),
                "activations": cache.value[kept].astype(np.float16),
                "tokens": cache.tokens.astype(np.int64),
            }
            save_file(tensors, top / f"{first}_{end - 1}.safetensors")
        (top / "config.json").write_text(json.dumps(cache.config) + "\n")
    return top


def read_delphi(folder: str | Path, hookpoint: str) -> DelphiCache:
    """Read the cache of a hookpoint. Raises InputError if there is none, and for damaged files."""
    top = inside(Path(folder) / "latents", hookpoint)
    paths = {
        int(match[1]): path for path in top.glob("*.safetensors") if (match := re.fullmatch(r"(\d+)_\d+", path.stem))
    }
    if not paths:
        raise InputError(f"{top} holds no cache of delphi: there is no {{first}}_{{last}}.safetensors.")
    config = loads((top / "config.json").read_bytes(), top / "config.json") if (top / "config.json").is_file() else {}
    parts = [_split(first, path) for first, path in sorted(paths.items())]
    tokens = parts[0][2]
    for (_, _, other), path in zip(parts, paths.values(), strict=True):
        if not np.array_equal(other, tokens):
            raise InputError(f"{path} holds other tokens than the first file of {top}.")
    places = np.concatenate([each[0] for each in parts])
    order = np.lexsort((places[:, 1], places[:, 0], places[:, 2]))
    value = np.concatenate([each[1] for each in parts])
    sequence, position, feature = places[order].T
    return DelphiCache(sequence, position, feature, value[order], tokens, config)


def _split(first: int, path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}).") from None
    if missing := {"locations", "activations", "tokens"} - set(found):
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}; it has {', '.join(sorted(found))}.")
    places, value, tokens = (found[name] for name in ("locations", "activations", "tokens"))
    if places.shape != (len(value), 3) or value.ndim != 1 or tokens.ndim != 2 or places.dtype.kind not in "ui":
        shapes = ", ".join(f"{name} {list(each.shape)}" for name, each in sorted(found.items()))
        raise InputError(f"{path} is not as expected: {shapes}; it should be [n, 3], [n] and [sequence, position].")
    if not np.isfinite(value).all():
        raise InputError(f"{path} holds NaN or infinite activations.")
    whole = places.astype(np.int64) + np.array([0, 0, first])
    _check(whole[:, 0], whole[:, 1], tokens, path)
    return whole, value.astype(np.float32), tokens.astype(np.int64)


def _check(sequence: NDArray[np.int64], position: NDArray[np.int64], tokens: NDArray[Any], where: Any) -> None:
    if not len(sequence):
        return
    rows, length = tokens.shape
    if min(sequence.min(), position.min()) < 0 or sequence.max() >= rows or position.max() >= length:
        raise InputError(
            f"{where} has an activation at sequence {sequence.max()}, position {position.max()}; tokens are "
            f"[{rows}, {length}]."
        )
