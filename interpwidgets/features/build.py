"""Build a feature store: one pass over a corpus for all features, in steps that a killed build goes on from.

1. The corpus is cut into contexts (`corpus.py`), and the build gets a key: everything that its result depends on, by
   content. What an earlier build has left under another key is thrown away.
2. Some shards, spread over the corpus, are the warm-up. Their activations are kept on disk: they tell where each
   feature's groups begin and which features are active together, and are then read instead of computed.
3. Every shard is added to one state, which is written down now and then.
4. Ranges of features are finished, and put together; `store.json` comes last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from interpwidgets.errors import InputError
from interpwidgets.features import finish
from interpwidgets.features.corpus import CONTEXTS, TOKENS, Corpus, Cut, cut
from interpwidgets.features.files import alone, need, read_json, writable, write_json
from interpwidgets.features.layout import ABOUT, FORMAT, VERSION, assemble, vocabulary
from interpwidgets.features.shard import Shard, active_in, read_active, shard_of, shards, write_active
from interpwidgets.features.state import AFTER, BEFORE, Active, Scale, State
from interpwidgets.features.together import Together
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.texts import token_texts

__all__ = ["Settings", "build"]

PAUSE = 30.0  # seconds of work between two writings of the state, at least
WARM = 16  # shards of the warm-up, at most
_WARM_MOST = 1 << 25  # activations kept of the warm-up, about
_COMMON = 200  # activations in the warm-up from which a feature's groups have bounds of their own
_BATCH = 4096  # tokens run at a time


@dataclass(frozen=True)
class Settings:
    """What a build was asked for, beside model, dictionary and corpus."""

    context: int
    top: int
    groups: int
    per_group: int
    batch: int  # contexts run at a time
    seed: int
    ablate: bool

    @classmethod
    def of(
        cls, context: int, top: int, groups: int, per_group: int, batch: int | None, seed: int, ablate: bool
    ) -> Settings:
        """What was asked for, with a batch; InputError for what cannot be."""
        given = cls(context, top, groups, per_group, 1 if batch is None else batch, seed, ablate)
        for name, most in (("context", 1 << 20), ("top", 255), ("groups", 100), ("per_group", 255), ("batch", 1 << 20)):
            least = 2 if name in ("groups", "context") else 1
            value = getattr(given, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{name} is a number from {least} to {most}; got {value!r}.")
        return replace(given, batch=max(1, _BATCH // context)) if batch is None else given


def build(
    folder: str | Path,
    model: Model | Any,
    dictionary: Dictionary,
    corpus: Any,
    settings: Settings,
    *,
    engine: Literal["ray"] | None = None,
    workers: int | None = None,
    progress: bool = True,
    resume: bool = True,
) -> Path:
    """Build a store in a folder; see `FeatureStore.build`."""
    need("duckdb", "pyarrow", "zstandard")
    model, folder = as_model(model), Path(folder).expanduser()
    if not isinstance(dictionary, Dictionary):
        raise InputError(f"Expected a Dictionary, as load_dictionary(…) gives; got {type(dictionary).__name__}.")
    if engine not in (None, "ray"):
        raise InputError(f"engine is None (this process) or 'ray'; got {engine!r}.")
    _check(model, dictionary, settings.ablate)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            job = _Job(folder, model, dictionary, settings, progress)
            if job.begin(corpus, resume):
                job.run(engine, workers)
    return folder


def _check(model: Model, dictionary: Dictionary, ablate: bool) -> None:
    """Raise InputError if the dictionary cannot be of the model, or holds what is no number."""
    for name, weight in dictionary.state_dict().items():
        if not bool(weight.isfinite().all()):
            raise InputError(f"{name} of {dictionary!r} holds NaN or infinite numbers.")
    dictionary.check(model)
    if ablate and (len(dictionary.reads), len(dictionary.writes)) != (1, 1):
        raise InputError(f"Ablation needs a dictionary that reads one place and writes one; {dictionary!r} does not.")


class _Job:
    """One build, from its key to its files."""

    def __init__(self, folder: Path, model: Model, dictionary: Dictionary, settings: Settings, progress: bool) -> None:
        self.folder, self.work = folder, folder / "work"
        self.model, self.dictionary, self.settings, self.progress = model, dictionary, settings, progress
        self.cut: Cut
        self.corpus: Corpus
        self.about: dict[str, Any]

    def begin(self, corpus: Any, resume: bool) -> bool:
        """Cut the corpus and find out what is there of this build; whether there is anything left to do."""
        self.work.mkdir(exist_ok=True)
        self.cut = cut(corpus, self.model, self.dictionary, self.settings.context, self.work)
        self.corpus = Corpus.open(self.work, self.cut.bos)
        self.about = _about(self.model, self.dictionary, self.settings, self.cut, self.corpus)
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.about["key"] = key
        if (self.folder / ABOUT).exists():
            found = read_json(self.folder / ABOUT).get("key")
            if resume and found == key:
                shutil.rmtree(self.work)
                return False
            if resume:
                shutil.rmtree(self.work)
                raise InputError(
                    f"{self.folder} holds a store of another model, dictionary, corpus or settings. Choose another "
                    "folder, or replace that store: resume=False."
                )
            (self.folder / ABOUT).unlink()
        path = self.work / "key.json"
        if not resume or not path.exists() or read_json(path) != key:
            for old in self.work.iterdir():
                if old.name not in (TOKENS, CONTEXTS):
                    old.unlink()
            write_json(path, key)
        return True

    def run(self, engine: str | None, workers: int | None) -> None:
        """Do everything after the cut."""
        ranges = shards(self.corpus, self.settings.context)
        with self._pool(engine, workers) as pool:
            warm = self._warm_up(ranges, pool)
            state = self._count(ranges, warm, pool)
        self._finish(state, warm)

    def _pool(self, engine: str | None, workers: int | None) -> AbstractContextManager[Any]:
        """What does shards."""
        if engine is None:
            return nullcontext(_Here(self.model, self.dictionary, self.settings))
        from interpwidgets.features.scale_out import pool

        return pool(self.model, self.dictionary, self.settings.batch, workers)

    # --- the warm-up

    def _warm_up(self, ranges: list[tuple[int, int]], pool: Any) -> list[int]:
        """Compute and keep the activations of some shards; which."""
        everywhere = np.linspace(0, len(ranges) - 1, min(WARM, len(ranges))).round().astype(int).tolist()
        chosen = [everywhere[len(everywhere) // 2]]
        self._keep(chosen, ranges, pool)
        many = len(read_active(self._active(chosen[0])).value)
        fewer = max(1, min(len(everywhere), _WARM_MOST // max(many, 1)))
        rest = [everywhere[i] for i in np.linspace(0, len(everywhere) - 1, fewer).round().astype(int)]
        chosen = sorted({*chosen, *rest})
        self._keep(chosen, ranges, pool)
        return chosen

    def _keep(self, numbers: list[int], ranges: list[tuple[int, int]], pool: Any) -> None:
        missing = [number for number in numbers if not self._active(number).exists()]
        given = (shard_of(self.corpus, number, *ranges[number]) for number in missing)
        for number, active in self._bar(pool.actives(given), len(missing), "warm-up", "shard"):
            write_active(self._active(number), active)

    def _active(self, number: int) -> Path:
        return self.work / f"active-{number:06d}.npz"

    def _bounds(self, warm: list[int], everything: bool) -> tuple[Scale, NDArray[np.float32]]:
        """The scale of codes, and the activations at which each feature's groups begin."""
        groups, n = self.settings.groups, self.dictionary.d_dict
        parts = []
        for number in warm:
            active = read_active(self._active(number))
            parts.append((active.value, np.searchsorted(active.feature, np.arange(n + 1))))
        count = np.sum([np.diff(starts) for _, starts in parts], axis=0)
        (common,) = np.nonzero(count >= (groups if everything else max(_COMMON, groups)))
        bounds = np.full((n, groups - 1), np.nan, dtype=np.float32)
        for feature in common:
            values = np.concatenate([value[starts[feature] : starts[feature + 1]] for value, starts in parts])
            values.sort()
            bounds[feature] = values[len(values) * np.arange(1, groups) // groups]
        return Scale.of(max(float(value.max(initial=0.0)) for value, _ in parts)), bounds

    # --- the pass

    def _count(self, ranges: list[tuple[int, int]], warm: list[int], pool: Any) -> State:
        """Add every shard to the state."""
        path = self.work / "state.npz"
        if path.exists():
            state = State.open(path)
        else:
            scale, bounds = self._bounds(warm, len(warm) == len(ranges))
            state = State.new(
                scale, self.settings.seed, bounds, len(ranges), self.settings.top, self.settings.per_group
            )
        for number in warm:
            if not state.done[number]:
                state.add(number, read_active(self._active(number)))
        left = np.flatnonzero(~state.done).tolist()
        given = (shard_of(self.corpus, number, *ranges[number]) for number in left)
        written, cost = time.monotonic(), 0.0
        with self._progress(len(left), "features", "shard") as bar:
            for count in pool.add(state, given):
                bar.update(count)
                if time.monotonic() - written > max(PAUSE, 20 * cost):
                    started = time.monotonic()
                    state.save(path)
                    written = time.monotonic()
                    cost = written - started
        state.save(path)
        return state

    # --- files

    def _finish(self, state: State, warm: list[int]) -> None:
        """Finish ranges of features, put them together, and write what says that the store is there."""
        texts = self._texts()
        together = Together((read_active(self._active(number)) for number in warm), self.dictionary.d_dict)
        work = finish.Finish(self.model, self.dictionary, self.corpus, state, together, texts, self.settings.ablate)
        firsts = range(0, self.dictionary.d_dict, finish.RANGE)
        for number, first in enumerate(self._bar(firsts, len(firsts), "records", "range")):
            if finish.read_part(self.work, number) is None:
                last = min(first + finish.RANGE, self.dictionary.d_dict)
                finish.write_part(self.work, number, *work.part(first, last))
        special = np.flatnonzero(texts.special).tolist()
        self.about |= {
            "n_features": self.dictionary.d_dict,
            "n_tokens": self.corpus.counted,
            "scale": state.scale.top,
            "warm_up": {"shards": len(warm), "tokens": _tokens(self.corpus, warm, self.settings.context)},
        }
        assemble(self.folder, self.work, len(firsts), self.about, vocabulary(texts.text, special))

    def _texts(self) -> Any:
        size = self.model.anatomy.embed.num_embeddings
        unembed = self.model.anatomy.unembed
        return token_texts(self.model.tokenizer, np.arange(max(size, getattr(unembed, "out_features", 0))))

    def _bar(self, what: Iterable[Any], total: int, said: str, unit: str) -> Iterator[Any]:
        with self._progress(total, said, unit) as bar:
            for each in what:
                yield each
                bar.update()

    def _progress(self, total: int, said: str, unit: str) -> Any:
        return tqdm(total=total, desc=said, unit=unit, delay=1.0, disable=not self.progress)


class _Here:
    """Does shards in this process."""

    def __init__(self, model: Model, dictionary: Dictionary, settings: Settings) -> None:
        self.model, self.dictionary, self.settings = model, dictionary, settings

    def actives(self, given: Iterable[Shard]) -> Iterator[tuple[int, Active]]:
        """The activations of each shard."""
        for shard in given:
            yield shard.number, active_in(self.model, self.dictionary, shard, self.settings.batch)

    def add(self, state: State, given: Iterable[Shard]) -> Iterator[int]:
        """Add shards to a state; how many were added at a time."""
        for number, active in self.actives(given):
            state.add(number, active)
            yield 1


def _tokens(corpus: Corpus, numbers: list[int], context: int) -> int:
    ranges = shards(corpus, context)
    return sum(int(corpus.starts[ranges[i][1]] - corpus.starts[ranges[i][0]]) for i in numbers)


def _about(model: Model, dictionary: Dictionary, settings: Settings, cut: Cut, corpus: Corpus) -> dict[str, Any]:
    """Everything that a store's content depends on."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "dictionary": {
            "what": repr(dictionary)[1:-1],
            "kind": dictionary.kind,
            "site": dictionary.site,
            "layer": dictionary.layer,
            "site_out": dictionary.site_out,
            "layer_out": dictionary.layer_out,
            "d_in": dictionary.d_in,
            "d_out": dictionary.d_out,
            "dtype": str(dictionary.W_dec.dtype).removeprefix("torch."),
            "fingerprint": dictionary.fingerprint,
        },
        "corpus": {
            "sha256": cut.sha256,
            "documents": cut.documents,
            "contexts": len(corpus),
            "repeated": cut.repeated,
            "tokens": len(corpus.tokens),
            "bos": cut.bos,
        },
        "settings": asdict(settings),
        "window": [BEFORE, AFTER],
        "decoder_norm_folded": bool(dictionary.metadata.get("decoder_norm_folded", False)),
        "torch": torch.__version__,
    }
