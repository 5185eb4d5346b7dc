"""Every feature of a dictionary, in a folder: what activates it, how often, how strongly, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interpwidgets.errors import InputError
from interpwidgets.features import build as builder
from interpwidgets.features.build import Settings
from interpwidgets.features.files import need, writable
from interpwidgets.features.firing import Firing, firing
from interpwidgets.features.layout import INDEX, check_files, read_about
from interpwidgets.features.notes import Label, Notes
from interpwidgets.features.reading import Reader
from interpwidgets.features.records import Feature, group_names
from interpwidgets.features.table import Rows, Table
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.tokens import Tokens

if TYPE_CHECKING:
    from interpwidgets.autointerp import Labeler
    from interpwidgets.autointerp.enumerating import Enumeration

__all__ = ["FeatureStore"]


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
        self._reader = Reader(folder, about)
        self._notes = Notes(folder / "notes.jsonl", self.n_features)
        self._table = Table(folder / INDEX, self._notes)
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
        settings = Settings.of(context, top, groups, per_group, batch, seed, ablate)
        path = builder.build(
            folder, model, dictionary, corpus, settings, engine=engine, workers=workers, progress=progress,
            resume=resume,
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
        return cls(folder, read_about(folder))

    def verify(self) -> None:
        """Read all files and records; InputError names the first that is damaged."""
        check_files(self.folder, self.about, None)
        for index in range(self.n_features):
            self._reader.record(index)

    # --- features

    def __len__(self) -> int:
        return self.n_features

    def __iter__(self) -> Iterator[Feature]:
        return (self[index] for index in range(self.n_features))

    def __getitem__(self, index: int) -> Feature:
        return self._reader.feature(self._number(index))

    def _number(self, index: int) -> int:
        try:
            return range(self.n_features)[index]
        except (IndexError, TypeError):
            raise InputError(f"There is no feature {index!r}; there are {self.n_features}, numbered from 0.") from None

    def context(self, number: int) -> Tokens:
        """All tokens of a context."""
        return self._reader.context(number)

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
        found = firing(model, dictionary, text, self.about["corpus"]["bos"])
        return found if top is None else found.strongest(top)

    def __repr__(self) -> str:
        what = self.about["dictionary"]["what"]
        return (
            f"<FeatureStore {self.folder}: {self.n_features:,} features over {self.n_tokens:,} tokens, of the {what}>"
        )
