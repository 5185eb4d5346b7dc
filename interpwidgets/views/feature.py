"""The features of a dictionary, one at a time and all of them: what each answers to, and what it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import traitlets

from interpwidgets.errors import InputError, InterpError
from interpwidgets.frames import frame
from interpwidgets.tokens import show
from interpwidgets.views.feature_live import HOW, Live
from interpwidgets.views.feature_tiles import (
    COLUMNS,
    MAP,
    ROWS,
    condition_of,
    map_tile,
    names_of,
    pair_tile,
    record_of,
    rows_tile,
    said_of,
    weaker_of,
)
from interpwidgets.views.tile import Tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["FeatureView"]

_NEEDED = ("n_features", "n_tokens", "columns", "table", "label_of", "note_of", "lists", "context", "features_of")
_SAYINGS = 64  # remembered, so that each is taken down once
_LISTED = 200  # features of a list, in a tile
_ABOVE = 16  # rows drawn above the feature, at most
_STORED = 4  # blocks of the table that a page without a kernel holds


class FeatureView(View, view="feature"):
    """Browse the features of a dictionary, see what each answers to, and test what you think it does.

        store = iw.FeatureStore.open("features/")
        view = iw.FeatureView(store, feature=4721)
        view = iw.FeatureView(store, model=model, dictionary=sae)     # text of your own, steering, ablation
        view.filter = "density < 0.01 and top_token = ' Paris'"       # or 31, or a word to look for
        view.selection                                                # the feature shown, as store[i] gives it

    Of a feature: how often it is active, with a histogram; examples, one a line with the token in the middle, from the
    strongest down to the weakest tenth of its activations; the logits that its direction raises and lowers; the
    features whose direction is nearest, and those active at the same tokens. Beside it is the table of all features,
    sorted by `sort_by` ("density desc"), of those that pass `filter`: only rows in view are read, so a million are no
    more than a hundred. `compare` puts a second feature at its side.

    With a model bound to the store, `text` is yours: where the feature fires in it, which others do, and with
    `intervention` "steer" or "ablate" what the model says then. `strength` is in units of the feature's largest
    activation. `connections` are what it reads from and writes to by weights alone (`features.VirtualWeights`): a click
    on a head or a neuron there sets `layer`, `head` and `neuron`, which linked views share. Labels, lists and notes
    that are written in the page are kept in the store's folder.

    Bricken et al. 2023, "Towards Monosemanticity" (the feature dashboards); Bills et al. 2023, "Language models can
    explain neurons in language models" (examples by quantile). Steering along a decoder direction: Templeton et al.
    2024, "Scaling Monosemanticity".

    Args:
        store: a `FeatureStore`.
        feature: the one to begin with.
        model: and
        dictionary: what the store was built from, to run them; or `store.bind(model, dictionary)` before.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: something that is no store, or a model or dictionary that it was not built from.
        TraitError: a feature that the store does not have, or another setting out of range.
    """

    facts = traitlets.Dict(help="of the store: features, tokens, model, …", read_only=True).tag(sync=True)
    feature = traitlets.CInt(0, help="the feature shown").tag(sync=True)
    feature_layer = traitlets.CInt(None, allow_none=True, help="the store's layer", read_only=True).tag(sync=True)
    compare = traitlets.CInt(None, allow_none=True, help="a second one beside it").tag(sync=True)
    example = traitlets.List(traitlets.CInt(), help="[feature, group, example, token] selected").tag(sync=True)
    whole = traitlets.Bool(False, help="whether examples are whole contexts").tag(sync=True)
    filter = traitlets.Unicode("", help="which features are in the table: 31, a word, density < 0.01").tag(sync=True)
    sort_by = traitlets.Unicode("index", help="a column, and perhaps desc").tag(sync=True)
    text = traitlets.Unicode("", help="a text of your own").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="the token of it selected; none: the last").tag(sync=True)
    intervention = traitlets.Enum(HOW, "none", help="what is done to the model").tag(sync=True)
    strength = traitlets.CFloat(1.0, help="of steering, in largest activations").tag(sync=True)
    map = traitlets.Bool(False, help="whether the map of all features is shown").tag(sync=True)
    connections = traitlets.Bool(False, help="whether what it reads from and writes to is shown").tag(sync=True)
    layer = traitlets.CInt(None, allow_none=True, help="of the head or neuron chosen among these").tag(sync=True)
    head = traitlets.CInt(None, allow_none=True, help="the head chosen").tag(sync=True)
    neuron = traitlets.CInt(None, allow_none=True, help="the neuron chosen").tag(sync=True)
    written = traitlets.Int(0, help="labels, lists and notes written here, so far", read_only=True).tag(sync=True)
    error = traitlets.Unicode("", help="why something could not be written", read_only=True).tag(sync=True)

    _said = traitlets.List(traitlets.Dict()).tag(sync=True)  # by the page, the latest: {id, feature, what, …}

    def __init__(
        self, store: Any, feature: int = 0, *, model: Any = None, dictionary: Any = None, **settings: Any
    ) -> None:
        if (model is None) != (dictionary is None):
            raise InputError("To run, a store needs both: FeatureView(store, model=model, dictionary=dictionary).")
        self._take(store)
        if model is not None:
            store.bind(model, dictionary)
            self._take(store)
        self._heard: list[str] = []
        super().__init__({"feature": feature, **settings}, title="Features")
        self.open_with(self._first_screen())

    def show(self, store: Any) -> None:
        """Show another store, or this one after others have written in it; the feature stays where it still exists."""
        with self.hold_trait_notifications():
            self._take(store)
            last = self.facts["features"] - 1
            self.feature = min(self.feature, last)
            self.compare = None if self.compare is None or self.compare > last else self.compare
        self.renew(self._first_screen())

    @property
    def selection(self) -> Any:
        """The feature shown, with its examples: `store[feature]`."""
        return self.store[self.feature]

    def to_pandas(self, limit: int | None = 1000) -> Any:
        """A row for each feature that passes `filter`, as sorted by `sort_by`: the first ones, or with None all."""
        rows = self.store.table(
            [name for name in COLUMNS if name in self.store.columns and name != "index"],
            count=self.facts["features"] if limit is None else limit,
            order=self.sort_by,
            where=condition_of(self.filter),
        )
        shown = {
            name: [None if value is None else show(value) for value in column] if name.endswith("_token") else column
            for name, column in rows.columns.items()
        }
        return frame({"feature": rows.index, **shown})

    def _take(self, store: Any) -> None:
        if lacking := [name for name in _NEEDED if not hasattr(store, name)]:
            raise InputError(
                f"FeatureView shows a store of features, as iw.FeatureStore.open(folder) gives it; got "
                f"{type(store).__name__}, which has no {lacking[0]}."
            )
        self.store, self._runs = store, Live(store)
        about = getattr(store, "about", {})
        self.set_trait("feature_layer", about.get("dictionary", {}).get("layer"))
        self.set_trait(
            "facts",
            {
                "features": store.n_features,
                "tokens": store.n_tokens,
                "model": str(about.get("model", {}).get("name", "")),
                "dictionary": str(about.get("dictionary", {}).get("what", "")),
                "columns": list(store.columns),
                "runs": getattr(store, "bound", None) is not None,
            },
        )

    # What is said of features ----------------------------------------------------------------------------------------

    @traitlets.observe("_said")
    def _listen(self, change: Any) -> None:
        """Take down what the page has said since; each once, though it says the latest few again."""
        for said in change["new"]:
            if said.get("id") in self._heard:
                continue
            self._heard = [*self._heard, said.get("id")][-_SAYINGS:]
            try:
                self._write(said)
            except (InterpError, OSError) as error:
                self.set_trait("error", str(error))
            else:
                self.set_trait("error", "")
                self.set_trait("written", self.written + 1)

    def _write(self, said: dict[str, Any]) -> None:
        feature, what = said["feature"], said["what"]
        if what == "label":
            self.store.set_label(feature, said["text"].strip() or None, by="hand")
        elif what == "note":
            self.store.note(feature, said["text"])
        elif what == "list":
            self.store.star(feature, said["list"], said["on"])

    # What travels ----------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """Of one feature: its `record`, `weaker` examples, what is `said`, `whole` contexts; `names` of some, a `pair`.

        Of all: `rows` of the table, the `map`, `lists`. Computed now: its `connections`, a `text`, the features `at` a
        position of it, one `along` it, the `outcome` of an intervention, and the `continuation`. `written` in a key
        tells an answer from the one before something was written.
        """
        what, store = key.pop("what"), self.store
        key.pop("written", None)
        if what == "record":
            return Tile.of_json(record_of(store, key["feature"]))
        if what == "weaker":
            return Tile.of_json(weaker_of(store, key["feature"]))
        if what == "said":
            return Tile.of_json(said_of(store, key["feature"]))
        if what == "names":
            return Tile.of_json(names_of(store, key["features"]))
        if what == "lists":
            return Tile.of_json({name: chosen[:_LISTED] for name, chosen in store.lists.items()})
        if what == "rows":
            return rows_tile(store, key["filter"], key["sort"], key["block"])
        if what == "pair":
            return pair_tile(store, *key["features"])
        if what == "map":
            return map_tile(store, key["block"])
        if what in ("text", "at", "along", "whole", "connections", "outcome", "continuation"):
            found: Tile = getattr(self._runs, what)(**key)
            return found
        raise KeyError(f"no tile is called {what!r}")

    def _record_keys(self, feature: int) -> Iterator[str]:
        """A feature as it is shown, with the names of its neighbours."""
        yield key_of(what="record", feature=feature)
        yield key_of(what="said", feature=feature, written=self.written)
        others = self._others(feature)
        if others:
            yield key_of(what="names", features=others, written=self.written)

    def _others(self, feature: int) -> list[int]:
        found = self.store[feature]
        return [int(other.index) for other in (*found.neighbours, *found.co_firing)]

    def _rows_keys(self, blocks: int) -> Iterator[str]:
        """Rows of the table: the first, or those around the feature where every feature has its row."""
        first = max(0, self.feature - _ABOVE) // ROWS if not self.filter and self.sort_by == "index" else 0
        last = max(1, -(-self.facts["features"] // ROWS))
        for block in range(first, min(first + blocks, last)):
            yield key_of(what="rows", filter=self.filter, sort=self.sort_by, block=block, written=self.written)

    def _first_screen(self) -> Iterator[str]:
        yield from self._record_keys(self.feature)
        if self.compare is not None:
            yield from self._record_keys(self.compare)
            yield key_of(what="pair", features=[self.feature, self.compare])
        yield from self._answered(self._rows_keys(2))

    def _answered(self, keys: Iterable[str]) -> Iterator[str]:
        """Those keys that have a tile: a filter that cannot be read has none, and the page is told when it asks."""
        for key in keys:
            with suppress(InterpError):
                self.packed(key)
                yield key

    def stored_keys(self) -> Iterator[str]:
        """The feature shown, its examples whole, what was run; the table's first rows, and features near this one."""
        yield from self._first_screen()
        yield key_of(what="weaker", feature=self.feature)
        yield key_of(what="lists", written=self.written)
        yield from self._whole_keys()
        yield from self._answered(self._connection_keys())
        yield from self._answered(self._live_keys())
        total = self.facts["features"]
        near = [*self._others(self.feature), *range(self.feature - 3, self.feature + 4)]
        for feature in dict.fromkeys(each for each in near if 0 <= each < total):
            yield from self._record_keys(feature)
            yield key_of(what="weaker", feature=feature)
        yield from self._answered(self._rows_keys(_STORED))
        if self.map and {"x", "y"} <= set(self.store.columns):
            for block in range(-(-total // MAP)):
                yield key_of(what="map", block=block)

    def _whole_keys(self) -> Iterator[str]:
        feature = self.selection
        for group in self._groups(feature) if self.whole else ():
            for example in feature.examples(group):
                yield key_of(what="whole", context=example.context, feature=self.feature)

    def _connection_keys(self) -> Iterator[str]:
        if self.connections and self.facts["runs"]:
            yield key_of(what="connections", feature=self.feature)
            with suppress(InterpError):
                yield key_of(what="names", features=self._runs.connected(self.feature), written=self.written)

    def _live_keys(self) -> Iterator[str]:
        if not (self.text and self.facts["runs"]):
            return
        where = {"text": self.text, "feature": self.feature}
        yield key_of(what="text", text=self.text)
        yield key_of(what="along", **where)
        with suppress(InterpError):
            yield key_of(what="names", features=self._runs.strongest(self.text, self.position), written=self.written)
        if self.position is not None:
            yield key_of(what="at", text=self.text, position=self.position)
        if self.intervention != "none":
            # As the page writes numbers: 1, not 1.0.
            strength = int(self.strength) if self.strength.is_integer() else self.strength
            how = {"how": self.intervention, "strength": strength}
            yield key_of(what="outcome", text=self.text, position=self.position, feature=self.feature, **how)
            yield key_of(what="continuation", **where, **how)

    @staticmethod
    def _groups(feature: Any) -> list[str]:
        """Names of a feature's groups as they are shown: the strongest, then down to the weakest."""
        return ["top", *(group.name for group in reversed(feature.groups))]

    # Bad input -------------------------------------------------------------------------------------------------------

    @traitlets.validate("feature", "compare")
    def _is_there(self, proposal: Any) -> int | None:
        value: int | None = proposal["value"]
        last = self.facts["features"] - 1
        if value is not None and not 0 <= value <= last:
            raise traitlets.TraitError(
                f"{proposal['trait'].name} {value} does not exist: this store has features 0 to {last}."
            )
        return value

    @traitlets.validate("layer", "head", "neuron")
    def _is_a_number(self, proposal: Any) -> int | None:
        value: int | None = proposal["value"]
        if value is not None and value < 0:
            raise traitlets.TraitError(f"{proposal['trait'].name} is a number from 0 on, or None; got {value}.")
        return value

    @traitlets.validate("sort_by")
    def _can_be_sorted(self, proposal: Any) -> str:
        column, _, way = proposal["value"].partition(" ")
        if column not in self.facts["columns"] or way not in ("", "asc", "desc"):
            raise traitlets.TraitError(
                f"sort_by is a column, and perhaps desc; got {proposal['value']!r}. There are: "
                f"{', '.join(self.facts['columns'])}."
            )
        return proposal["value"]  # type: ignore[no-any-return]

    @traitlets.validate("example")
    def _is_one(self, proposal: Any) -> list[int]:
        value: list[int] = proposal["value"]
        if value and (len(value) != 4 or min(value) < 0):
            raise traitlets.TraitError(f"example is [feature, group, example, token], or empty; got {value}.")
        return value

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The feature's numbers, histogram, logits, and strongest examples."""
        from interpwidgets.views.feature_picture import feature_picture

        return feature_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The strongest example of every group: group, activation, tokens around it."""
        feature = self.selection
        rows = []
        for group in self._groups(feature):
            for example in feature.examples(group)[: 5 if group == "top" else 1]:
                around = list(example.tokens[max(0, example.position - 6) : example.position + 5])
                rows.append([group, f"{example.value:.4g}", " ".join(around)])
        return ["group", "activation", "tokens"], rows

    def describe(self) -> str:
        """Which feature is shown, how active it is, and what it does."""
        feature, label = self.selection, self.store.label_of(self.feature)
        called = f" ({label.text})" if label else ""
        raises = ", ".join(str(token) for token, _ in record_of(self.store, self.feature)["top_logits"][:3])
        return (
            f"Feature {self.feature:,}{called} of {self.facts['features']:,}: active at {feature.count:,} of "
            f"{self.facts['tokens']:,} tokens ({feature.density:.3%}), max {feature.max:.4g}, mean {feature.mean:.4g}"
            f"{f'; raises {raises}' if raises else ''}."
        )

    def __repr__(self) -> str:
        return f"FeatureView({self.facts['features']:,} features over {self.facts['tokens']:,} tokens)"
