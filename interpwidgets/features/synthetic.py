"""A store of made-up features, a million in a few minutes: to see how browsing and look-ups do at a size that few have.

Everything in it is drawn at random and written by the code that writes real stores; its statistics look like those of
a trained dictionary: densities are log-normal, activations exponential, tokens Zipf-distributed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from interpwidgets.features import finish, layout
from interpwidgets.features.build import Settings
from interpwidgets.features.corpus import CONTEXTS, TOKENS
from interpwidgets.features.files import alone, whole, writable
from interpwidgets.features.records import Record, pack
from interpwidgets.features.state import AFTER, BEFORE, BINS, WINDOW, Active, Scale, tokens_of
from interpwidgets.features.store import FeatureStore

__all__ = ["synthetic_store"]

_VOCABULARY, _CONTEXT, _DISTINCT = 5000, 128, finish.RANGE
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def synthetic_store(
    folder: str | Path,
    n_features: int = 1_000_000,
    *,
    n_tokens: int = 1_280_000,
    top: int = 20,
    groups: int = 10,
    per_group: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> FeatureStore:
    """Write a store of made-up features, of a model that there is not; 4,096 of them differ, the others repeat them."""
    folder = Path(folder).expanduser()
    rng = np.random.default_rng(seed)
    work = folder / "work"
    settings = Settings(_CONTEXT, top, groups, per_group, 32, seed, ablate=False)
    with writable(folder):
        work.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            tokens = np.minimum(rng.zipf(1.3, n_tokens), _VOCABULARY) - 1
            starts = np.arange(0, n_tokens + 1, _CONTEXT, dtype="<i8")
            tokens = tokens[: starts[-1]].astype("<u4")
            whole(work / TOKENS, lambda file: file.write(tokens.tobytes()))
            whole(work / CONTEXTS, lambda file: file.write(starts.tobytes()))
            words = [f" {_word(number)}" for number in range(_VOCABULARY)]
            records = [_record(rng, settings, len(tokens), len(words), n_features) for _ in range(_DISTINCT)]
            frames = finish.compressed(map(pack, records))
            columns = _columns(records, len(tokens), words, tokens)
            firsts = range(0, n_features, finish.RANGE)
            for number, first in enumerate(tqdm(firsts, desc="records", delay=1.0, disable=not progress)):
                count = min(finish.RANGE, n_features - first)
                own = {
                    "index": np.arange(first, first + count),
                    "x": rng.normal(size=count),
                    "y": rng.normal(size=count),
                }
                rows = {name: ({**columns, **own})[name][:count] for name in finish.schema().names}
                finish.write_part(work, number, frames[:count], rows)
            about = _about(n_features, len(tokens), len(starts) - 1, settings)
            layout.assemble(folder, work, len(firsts), about, layout.vocabulary(words, []))
    return FeatureStore.open(folder)


def _word(number: int) -> str:
    """A word of its own for each number."""
    text = ""
    while number or not text:
        number, rest = divmod(number, len(_SYLLABLES))
        text += _SYLLABLES[rest]
    return text


def _record(rng: np.random.Generator, settings: Settings, n_tokens: int, n_words: int, n_features: int) -> Record:
    """A feature."""
    groups, n = settings.groups, settings.top + settings.groups * settings.per_group
    count = int(np.clip(n_tokens * np.exp(rng.normal(-7.5, 1.5)), 300, n_tokens // 3))
    scale = float(np.exp(rng.normal(0.5, 0.5)))
    values = np.sort(rng.exponential(scale, 2000).astype(np.float32) + np.float32(1e-3))
    bounds = np.quantile(values, np.arange(1, groups) / groups).astype("<f4")
    chosen = [values[-settings.top :][::-1]]
    chosen += [np.sort(rng.choice(part, settings.per_group))[::-1] for part in np.array_split(values, groups)]
    places = np.sort(rng.integers(0, n_tokens, n))
    strength = np.concatenate(chosen).astype(np.float32)
    active = Active(np.zeros(n, np.int32), rng.permutation(places), places // _CONTEXT, strength)
    codes = np.where(rng.random((n, WINDOW)) < 0.08, rng.integers(120, 180, (n, WINDOW)), 0).astype(np.uint8)
    codes[:, BEFORE] = 0
    histogram = np.bincount(Scale(6).bins(values), minlength=BINS)
    (used,) = np.nonzero(histogram)
    near, others = np.sort(rng.beta(2, 6, 8))[::-1], rng.integers(0, n_features, (2, 8)).astype("<u4")
    logits = np.sort(rng.normal(0, 0.4, 2 * finish.LOGITS))[::-1]
    sizes = np.array([settings.top, *[settings.per_group] * groups], dtype=np.uint8)
    return Record(
        count, float(values.mean()), float(strength[0]), int(used[0]),
        (histogram[used[0] : used[-1] + 1] * count // 2000).astype("<u4"), bounds,
        np.diff(count * np.arange(groups + 1) // groups).astype("<u4"), sizes, active.entries().astype("<u8"), codes,
        rng.integers(0, n_words, (2, finish.LOGITS)).astype("<u4"),
        np.stack([logits[: finish.LOGITS], logits[: -finish.LOGITS - 1 : -1]]).astype("<f2"),
        others[0], near.astype("<f2"), others[1], (near / 2).astype("<f2"), None,
    )  # fmt: skip


def _columns(records: list[Record], n_tokens: int, words: list[str], tokens: NDArray[np.uint32]) -> dict[str, Any]:
    """What the index says of records, but for their numbers and places."""
    text = np.array(words, dtype=object)
    return {
        "density": [record.count / n_tokens for record in records],
        "count": [record.count for record in records],
        "max_activation": np.array([record.max for record in records], dtype=np.float32),
        "mean_activation": [record.mean for record in records],
        "top_token": text[[record.logit_tokens[0, 0] for record in records]],
        "top_logit": np.array([record.logits[0, 0] for record in records], dtype=np.float32),
        "bottom_token": text[[record.logit_tokens[1, 0] for record in records]],
        "bottom_logit": np.array([record.logits[1, 0] for record in records], dtype=np.float32),
        "peak_token": text[[tokens[tokens_of(record.entries[:1])[0]] for record in records]],
        "decoder_norm": np.ones(len(records), dtype=np.float32),
        "nearest": [int(record.near[0]) for record in records],
        "nearest_cosine": np.array([record.cosines[0] for record in records], dtype=np.float32),
        "partner": [int(record.together[0]) for record in records],
        "partner_jaccard": np.array([record.jaccard[0] for record in records], dtype=np.float32),
    }


def _about(n_features: int, n_tokens: int, contexts: int, settings: Settings) -> dict[str, Any]:
    """What a store says of itself."""
    what = f"dictionary of {n_features} features that are made up"
    return {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "key": f"synthetic {n_features} {n_tokens} {settings}",
        "model": {"name": "none", "fingerprint": "none"},
        "dictionary": {
            "what": what, "kind": "relu", "site": "resid_post", "layer": 0, "site_out": "resid_post", "layer_out": 0,
            "d_in": 0, "d_out": 0, "dtype": "float32", "fingerprint": "none",
        },
        "corpus": {
            "sha256": "none", "documents": contexts, "contexts": contexts, "repeated": 0, "tokens": n_tokens,
            "bos": None,
        },
        "settings": vars(settings),
        "window": [BEFORE, AFTER],
        "decoder_norm_folded": False,
        "n_features": n_features,
        "n_tokens": n_tokens,
        "scale": 6,
        "warm_up": {"shards": 0, "tokens": 0},
    }  # fmt: skip
