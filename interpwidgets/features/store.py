"""Every feature of a dictionary, in a folder: what activates it, how often, how strongly, and what it does."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features import build as builder
from interpwidgets.features.corpus import Corpus
from interpwidgets.features.files import checksum, need, read_json, writable
from interpwidgets.features.notes import Label, Notes
from interpwidgets.features.records import Example, Feature, Group, Neighbour, Record, group_names, unpack
from interpwidgets.features.shard import activations
from interpwidgets.features.state import Scale
from interpwidgets.features.table import Rows, Table
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.tokenize import read_prompts
from interpwidgets.tokens import Tokens

if TYPE_CHECKING:
    from interpwidgets.autointerp import Labeler
    from interpwidgets.autointerp.enumerating import Enumeration

__all__ = ["FeatureStore", "Firing"]

_CHECKED = 1 << 26  # bytes up to which a file is checked whenever a store is opened


@dataclass(frozen=True, eq=False)
class Firing:
    """Which features are active where in a text: activations above zero, by position."""

    tokens: Tokens
    position: NDArray[np.int64]  # [n]
    feature: NDArray[np.int64]  # [n]
    value: NDArray[np.float32]  # [n]

    def of(self, feature: int) -> NDArray[np.float32]:
        """One feature along the text: [pos]."""
        found = np.zeros(len(self.tokens), dtype=np.float32)
        mine = self.feature == feature
        found[self.position[mine]] = self.value[mine]
        return found

    @property
    def features(self) -> NDArray[np.int64]:
        """All that are active somewhere, the strongest first."""
        which, place = np.unique(self.feature, return_inverse=True)
        most = np.zeros(len(which), dtype=np.float32)
        np.maximum.at(most, place, self.value)
        found: NDArray[np.int64] = which[np.lexsort((which, -most))]
        return found

    def __repr__(self) -> str:
        few = self.features
        return f"<{len(few)} features active in {self.tokens!r}; the strongest: {', '.join(map(str, few[:5]))}>"


class FeatureStore:
    """A folder that holds every feature of a dictionary: examples, counts, neighbours, logits, and what is said of it.

    >>> store = FeatureStore.build("features/", model, dictionary, corpus)
    >>> store = FeatureStore.open("features/")
    >>> store[4721].examples("top")
    >>> store.query("density < 0.01 and top_token = ' Paris' order by max_activation desc")

    `about` says what it was made of, and how. Everything is exact but for what says its error: activations around an
    example's own are within 1/32 of their value, logits and cosines are float16, and the groups of features that are
    rare in the warm-up are those of a sample.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.n_features: int = about["n_features"]
        self.n_tokens: int = about["n_tokens"]
        self.groups = ("top", *group_names(about["settings"]["groups"]))
        self._scale = Scale(about["scale"])
        self._offsets = np.fromfile(folder / builder.OFFSETS, dtype="<u8")
        with (folder / builder.RECORDS).open("rb") as file:
            self._records = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._corpus = Corpus.open(folder, about["corpus"]["bos"])
        self._notes = Notes(folder / "notes.jsonl", self.n_features)
        self._table = Table(folder / builder.INDEX, self._notes)
        self._local = local()
        self._bound: tuple[Model, Dictionary] | None = None

    # --- making and opening

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: Model | Any,
        dictionary: Dictionary,
        corpus: Any,
        *,
        context: int = 128,
        top: int = 20,
        groups: int = 10,
        per_group: int = 5,
        batch: int | None = None,
        engine: Literal["ray"] | None = None,
        workers: int | None = None,
        ablate: bool = False,
        seed: int = 0,
        progress: bool = True,
        resume: bool = True,
    ) -> FeatureStore:
        """Go through a corpus once, and keep of every feature what there is to show.

        The corpus is an iterable of texts or of lists of token ids, a split of Hugging Face `datasets`, or a folder
        of .txt, .jsonl and .parquet; it is cut into contexts of at most `context` tokens, repeated ones left out.
        Kept are the `top` contexts in which a feature is strongest, and `per_group` examples drawn at random from each
        of `groups` groups that hold an equal share of its activations above zero, the weakest included. With `ablate`,
        also how each token's log-probability changes without the feature, around the top examples: two forward passes
        an example.

        A build that was killed goes on where it was, and comes to the same bytes; one that is there already, of the
        same weights, tokens and settings, is opened. With engine="ray", shards are computed on a cluster, by `workers`
        at a time. Raises InputError for a dictionary that is not of this model, an empty corpus, or a folder that
        holds another store or cannot be written.
        """
        path = builder.build(
            folder, model, dictionary, corpus, context=context, top=top, groups=groups, per_group=per_group,
            batch=batch, engine=engine, workers=workers, ablate=ablate, seed=seed, progress=progress, resume=resume,
        )  # fmt: skip
        store = cls.open(path)
        return store.bind(model, dictionary)

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open a store. Sizes are checked, and the content of files up to 64 MB; `verify` checks all of it.

        Raises InputError for a folder without a store, a damaged file, or a store of a newer version.
        """
        need("duckdb", "pyarrow", "zstandard")
        folder = Path(folder).expanduser()
        if not (folder / builder.ABOUT).is_file():
            unfinished = " It was not finished: FeatureStore.build(…) goes on." * (folder / "work").is_dir()
            raise InputError(f"{folder} holds no feature store.{unfinished}")
        about = read_json(folder / builder.ABOUT)
        if not isinstance(about, dict) or about.get("format") != builder.FORMAT:
            raise InputError(f"{folder / builder.ABOUT} is not of a feature store.")
        if about.get("version") != builder.VERSION:
            raise InputError(
                f"{folder} is of version {about.get('version')}, and this interpwidgets reads version "
                f"{builder.VERSION}. Upgrade, or build the store again."
            )
        _check(folder, about, _CHECKED)
        return cls(folder, about)

    def verify(self) -> None:
        """Read all files and records; InputError names the first that is damaged."""
        _check(self.folder, self.about, None)
        for index in range(self.n_features):
            self._record(index)

    # --- features

    def __len__(self) -> int:
        return self.n_features

    def __iter__(self) -> Iterator[Feature]:
        return (self[index] for index in range(self.n_features))

    def __getitem__(self, index: int) -> Feature:
        index = self._number(index)
        record = self._record(index)
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
            n_tokens=self.n_tokens,
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

    def _number(self, index: int) -> int:
        try:
            return range(self.n_features)[index]
        except (IndexError, TypeError):
            raise InputError(f"There is no feature {index!r}; there are {self.n_features}, numbered from 0.") from None

    def _record(self, index: int) -> Record:
        (zstandard,) = need("zstandard")
        if not hasattr(self._local, "zstd"):  # a decompressor is for one thread
            self._local.zstd = zstandard.ZstdDecompressor()
        start, end = self._offsets[index : index + 2].tolist()
        try:
            return unpack(self._local.zstd.decompress(self._records[start:end]))
        except (zstandard.ZstdError, ValueError) as error:
            raise InputError(
                f"{self.folder / builder.RECORDS} is damaged at feature {index} ({error}). Build the store again."
            ) from None

    def _groups(self, record: Record) -> list[Group]:
        """Quantile groups; the first begins at its weakest example where nothing weaker was kept."""
        values = record.bounds.astype(float).tolist()
        capacity = self.about["settings"]["groups"] * self.about["settings"]["per_group"]
        exact = record.known or record.count <= capacity
        return [
            Group(name, low, high, int(count), exact)
            for name, low, high, count in zip(
                self.groups[1:], [0.0, *values], [*values, record.max], record.grouped, strict=True
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
        found = read_json(self.folder / builder.VOCABULARY)
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

    # --- questions

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that a query may use."""
        return self._table.columns

    def query(self, condition: str = "", *, columns: Sequence[str] | None = None, limit: int | None = 1000) -> Rows:
        """Find features by a condition in SQL over `columns`, and perhaps an order.

        >>> store.query("density < 0.01 and top_token = ' Paris' order by max_activation desc")
        >>> store.query("label like '%name%' and 'starred' in lists")

        Nothing but the index can be read, and nothing written. Raises InputError for what is no such condition.
        """
        return self._table.query(condition, columns, limit)

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        first: int = 0,
        count: int = 100,
        order: str = "",
        where: str = "",
    ) -> Rows:
        """A page of the table of all features: rows from `first` on, in an order such as "density desc"."""
        return self._table.page(columns, first, count, order, where)

    # --- what is said of features

    def set_label(
        self,
        index: int,
        text: str | None,
        *,
        score: float | None = None,
        low: float | None = None,
        high: float | None = None,
        by: str | None = None,
    ) -> None:
        """Say what a feature is, how well that predicts where it is active, and who says so; None takes it back."""
        self._say(index, label=text, score=score, low=low, high=high, by=by)

    def set_labels(self, labels: dict[int, Label]) -> None:
        """Say what many features are, in one go."""
        with writable(self.folder):
            self._notes.say_all(
                [
                    {"index": self._number(index), "label": each.text, "score": each.score, "low": each.low,
                     "high": each.high, "by": each.by}
                    for index, each in labels.items()
                ]
            )  # fmt: skip

    def label_of(self, index: int) -> Label | None:
        """What a feature is said to be."""
        self._notes.refresh()
        return self._notes.labels.get(self._number(index))

    def star(self, index: int, list: str = "starred", on: bool = True) -> None:  # noqa: A002
        """Put a feature on a list, or take it off."""
        self._say(index, list=list, on=on)

    def note(self, index: int, text: str) -> None:
        """Write something down of a feature."""
        self._say(index, note=text)

    def note_of(self, index: int) -> str:
        """What was written down of a feature."""
        self._notes.refresh()
        return self._notes.notes.get(self._number(index), "")

    @property
    def lists(self) -> dict[str, list[int]]:
        """The features on each list, in the order in which they were put there."""
        self._notes.refresh()
        return {name: [*chosen] for name, chosen in self._notes.lists.items() if chosen}

    def _say(self, index: int, **what: Any) -> None:
        with writable(self.folder):
            self._notes.say(self._number(index), **what)

    def label(
        self,
        labeler: Labeler | None = None,
        *,
        features: Sequence[int] | str | None = None,
        controls: bool | Mapping[str, tuple[Any, Dictionary]] = True,
        kinds: bool = True,
        simulation: bool = True,
        dry_run: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> Any:
        """Say of features what they are, and what that is worth on text that it was not made from, beside controls.

        >>> store.label()                                                    # token statistics, no language model
        >>> store.label(iw.autointerp.ChatLabeler(url, "name", key=key), features="density < 0.01", dry_run=True)

        `features` are numbers or a condition; all if None. Labels are kept with their detection score and its interval,
        and the report, an `autointerp.Report`, shows all scores in one table with those of controls: shuffled labels,
        activations dealt out to other tokens, random directions, and the model with new weights. `controls` may be
        {name: (model, dictionary)} to have dictionaries of other models in the place of the last. With `kinds`, each
        feature is also asked whether two clusters of its examples want two labels; `simulation=False` leaves out the
        score that takes a language model the most calls. `dry_run` writes nothing, and gives the calls, tokens and cost
        that it would take. Raises InputError if the store has no model.
        """
        from interpwidgets.autointerp.labelling import label

        return label(
            self, labeler, features=features, controls=controls, kinds=kinds, simulation=simulation, dry_run=dry_run,
            seed=seed, progress=progress,
        )  # fmt: skip

    def enumerate(
        self,
        rule: str | Callable[[Feature], bool],
        *,
        sample: int | None = None,
        level: float = 0.95,
        seed: int = 0,
        progress: bool = True,
    ) -> Enumeration:
        """Check a statement about all features: of how many it holds, and which break it.

        >>> store.enumerate("density < 0.1 or label is not null")
        >>> store.enumerate(lambda feature: feature.max < 100, sample=3000)

        A condition is checked of all. Of a function, `sample` features drawn at random may be enough: then it says how
        many of all may break it at most. Raises InputError for what is no condition.
        """
        from interpwidgets.autointerp.enumerating import enumerate_features

        return enumerate_features(self, rule, sample=sample, level=level, seed=seed, progress=progress)

    # --- live

    @property
    def bound(self) -> tuple[Model, Dictionary] | None:
        """The model and the dictionary that the store may run."""
        return self._bound

    def bind(self, model: Model | Any, dictionary: Dictionary) -> FeatureStore:
        """Give the store its model and dictionary back, after checking that they are the ones it was built from."""
        model = as_model(model)
        for what, found, said in (
            ("model", model.fingerprint, self.about["model"]),
            ("dictionary", dictionary.fingerprint, self.about["dictionary"]),
        ):
            if found != said["fingerprint"]:
                name = said.get("name") or said.get("what")
                raise InputError(
                    f"This is not the {what} that {self.folder} was built from ({name}): its weights differ."
                )
        self._bound = (model, dictionary)
        return self

    def features_of(self, text: str | Sequence[int], *, top: int | None = None) -> Firing:
        """Which features are active where in a text, computed now; only the `top` strongest, if it is given."""
        if self._bound is None:
            raise InputError("The store has no model to run: store.bind(model, dictionary).")
        model, dictionary = self._bound
        batch = read_prompts(model, text if isinstance(text, str) else [list(text)])
        ids = batch.inputs["input_ids"][:1].cpu()
        x = activations(model, dictionary, ids, torch.tensor([ids.shape[1]]))
        with torch.no_grad():
            dense = dictionary.encode(x).float().cpu()  # [pos, feature]
        if int(ids[0, 0]) == self.about["corpus"]["bos"]:
            dense[0] = 0  # as in the corpus, where it is not counted
        position, feature = (dense > 0).nonzero(as_tuple=True)
        value = dense[position, feature]
        found = Firing(batch.tokens[0], position.numpy(), feature.numpy(), value.numpy())
        if top is None:
            return found
        some = np.isin(found.feature, found.features[:top])
        return Firing(found.tokens, found.position[some], found.feature[some], found.value[some])

    def __repr__(self) -> str:
        what = self.about["dictionary"]["what"]
        return (
            f"<FeatureStore {self.folder}: {self.n_features:,} features over {self.n_tokens:,} tokens, of the {what}>"
        )


def _neighbours(indices: NDArray[np.uint32], values: NDArray[np.float16]) -> list[Neighbour]:
    return [Neighbour(int(index), float(value)) for index, value in zip(indices, values, strict=True)]


def _check(folder: Path, about: dict[str, Any], most: int | None) -> None:
    """Raise InputError for a file that is missing, cut off or changed; of larger ones than `most` only see the size."""
    for name, said in about["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise InputError(f"{path} is missing. Build the store again.")
        if size != said["bytes"]:
            raise InputError(f"{path} has {size:,} bytes instead of {said['bytes']:,}. Build the store again.")
        if (most is None or size <= most) and checksum(path) != said["sha256"]:
            raise InputError(f"{path} is damaged: its checksum is another. Build the store again.")
