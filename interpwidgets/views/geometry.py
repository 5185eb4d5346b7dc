"""How directions lie to each other: features in superposition, dictionaries, embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import frame, is_frame
from interpwidgets.tokens import show
from interpwidgets.views import directions
from interpwidgets.views.numbers import array_of, numbers
from interpwidgets.views.tile import CHUNK, Tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["GeometryView"]

Floats = NDArray[np.float32]

FEW = 64  # items that are drawn as directions from the origin, each with its label
BLOCK = 50_000  # items in a tile
COMPARED = 400  # items in a matrix of cosines; of more, those nearest to the one selected
NEAR = 12  # neighbours listed


class GeometryView(View, view="geometry"):
    """See how vectors lie to each other: in a plane, in space, and as a matrix of cosines.

        view = GeometryView(W.T)                                     # [item, dim]: a column of W is a direction
        view = GeometryView(dictionary.W_dec, groups=kinds)          # an SAE's features, coloured by group
        view = GeometryView(embedding, labels=tokens, values=counts)
        view = GeometryView(frame, groups=kinds)              # a DataFrame: rows are items, its index their labels
        view = GeometryView([toys.W(features=5, hidden=2, sparsity=s).T for s in steps], steps=steps)

    Two dimensions are shown as they are; of more, the plane (or the space) in which the vectors vary most: principal
    components over all steps together, with the share of the variance that they hold, and the origin where it is.
    Pictures of a few of many dimensions mislead: what lies together there may be at right angles. So the numbers
    beside are of all dimensions: a vector's length, its nearest by cosine, and its feature dimensionality
    ‖w_i‖² / Σ_j (ŵ_i · w_j)², the share of a dimension that it has to itself.

    Elhage et al. 2022, "Toy models of superposition" (geometry of superposition, feature dimensionality).

    Args:
        vectors: [item, dim], or a sequence of them, [step, item, dim]: over training, over sparsity.
        labels: a name for each item.
        groups: what kind each item is of, as text: its colour.
        values: a number for each item: its colour. `{"name": numbers}` says what it is.
        steps: what each step is called, as text or number.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: no vectors, or labels, groups, values or steps that do not fit them.
        TraitError: a setting out of range.
    """

    shape = traitlets.List(traitlets.Int(), help="[steps, items, dimensions]", read_only=True).tag(sync=True)
    steps = traitlets.List(traitlets.Unicode(), help="what each step is called", read_only=True).tag(sync=True)
    group_names = traitlets.List(traitlets.Unicode(), help="the groups", read_only=True).tag(sync=True)
    valued = traitlets.Unicode(help="what colours stand for; empty: nothing", read_only=True).tag(sync=True)
    value_range = traitlets.List(traitlets.Float(), help="[least, largest] value", read_only=True).tag(sync=True)
    variance = traitlets.List(traitlets.Float(), help="share along each axis shown", read_only=True).tag(sync=True)
    bounds = traitlets.List(traitlets.List(), help="[low, high] of each axis", read_only=True).tag(sync=True)
    step = traitlets.CInt(0, help="the step shown").tag(sync=True)
    feature = traitlets.CInt(None, allow_none=True, help="the item selected").tag(sync=True)
    reading = traitlets.Enum(("2d", "3d", "cosine"), "2d", help="how vectors are shown").tag(sync=True)
    rotation = traitlets.List(traitlets.Float(), [30.0, 20.0], help="[turn, tilt] in degrees").tag(sync=True)

    def __init__(
        self,
        vectors: Any,
        *,
        labels: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
        values: Any = None,
        steps: Sequence[Any] | None = None,
        **settings: Any,
    ) -> None:
        self._read(vectors, labels, groups, values, steps)
        super().__init__(settings, title="Geometry")
        self.open_with(self._on_screen())

    def show(
        self,
        vectors: Any,
        *,
        labels: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
        values: Any = None,
        steps: Sequence[Any] | None = None,
    ) -> None:
        """Show other vectors; what is selected stays where it still exists."""
        self._read(vectors, labels, groups, values, steps)
        count, items, dim = self.shape
        with self.hold_sync():
            if self.feature is not None and self.feature >= items:
                self.feature = None
            if self.step >= count:
                self.step = 0
            if self.reading == "3d" and dim < 3:
                self.reading = "2d"
            self.renew(self._on_screen())

    def _read(self, vectors: Any, labels: Any, groups: Any, values: Any, steps: Any) -> None:
        self.vectors = _vectors(vectors)  # [step, item, dim]
        labels = vectors.index if labels is None and is_frame(vectors) else labels
        count, items, dim = self.vectors.shape
        self.labels = [str(i) for i in range(items)] if labels is None else [_shown(label) for label in labels]
        _fits("labels", self.labels, items, "items")
        kinds = None if groups is None else [_shown(group) for group in groups]
        _fits("groups", kinds, items, "items")
        names = list(dict.fromkeys(kinds or []))
        place = {name: i for i, name in enumerate(names)}
        self.groups = None if kinds is None else np.array([place[kind] for kind in kinds], dtype=np.float32)
        name = "value"
        if isinstance(values, Mapping):
            if len(values) != 1:
                raise InputError(f"values are numbers, or {{name: numbers}} with one name; got {len(values)} names.")
            ((name, values),) = values.items()
        self.values = None if values is None else numbers(values, "Values", ["item"], [items], missing=True)
        called = [_shown(step) for step in steps] if steps is not None else [f"step {i}" for i in range(count)]
        _fits("steps", called, count, "steps")
        axes, share = self._axes()
        self.axes = axes  # [dim, 2 or 3]
        within = np.concatenate([self.points(step, axes.shape[1]) for step in range(count)])
        ends = np.concatenate([within, np.zeros((1, within.shape[1]))]) if items <= FEW else within
        known = self.values[~np.isnan(self.values)] if self.values is not None else np.zeros(0)
        facts = {
            "shape": [count, items, dim], "steps": called, "group_names": names,
            "valued": str(name) if self.values is not None else "",
            "value_range": [float(known.min()), float(known.max())] if known.size else [],
            "variance": share.tolist(), "bounds": np.stack([ends.min(0), ends.max(0)], axis=-1).tolist(),
        }  # fmt: skip
        for trait, fact in facts.items():
            self.set_trait(trait, fact)

    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The axes shown, [dim, 2 or 3], and the share of the variance along each; none where all is shown."""
        dim = self.vectors.shape[2]
        if dim <= 2:
            return np.eye(dim, 2), np.zeros(0)
        return directions.principal(self.vectors.reshape(-1, dim), 3)

    # The numbers -------------------------------------------------------------------------------------------------

    def points(self, step: int, axes: int) -> Floats:
        """Where each item lies in the plane or the space shown, [item, axes]."""
        found: Floats = (self.vectors[step] @ self.axes[:, :axes]).astype(np.float32)
        return found

    def facts(self, step: int) -> Floats:
        """Length and feature dimensionality of each item, [item, 2]."""
        vectors = self.vectors[step]
        both = np.stack([directions.lengths(vectors), directions.dimensionality(vectors)], axis=-1)
        return both.astype(np.float32)

    def near(self, step: int, feature: int) -> list[tuple[int, float]]:
        """The items nearest to one by cosine and those most opposed to it, with their cosines."""
        cosine = directions.cosines(self.vectors[step], of=feature)
        close, opposed = directions.nearest(cosine, feature, NEAR)
        return [(int(i), float(cosine[i])) for i in (*close, *opposed)]

    def compared(self, step: int, feature: int | None) -> NDArray[np.intp]:
        """Which items the matrix of cosines compares: all, or those nearest to the one selected, that one first."""
        items = self.shape[1]
        if items <= COMPARED:
            return np.arange(items)
        if feature is None:
            return np.arange(COMPARED)
        cosine = directions.cosines(self.vectors[step], of=feature)
        cosine[feature] = np.inf
        return np.argsort(-np.nan_to_num(cosine, nan=-2), kind="stable")[:COMPARED]

    def to_pandas(self) -> Any:
        """A row for each item at the step shown: label, x, y (and z), length, dimensionality.

        And, where there are such, its group, its value, and its cosine with the item selected.
        """
        axes = 3 if self.reading == "3d" else 2
        places = dict(zip("xyz", self.points(self.step, axes).T, strict=False))
        length, room = self.facts(self.step).T
        found: dict[str, Any] = {"label": self.labels, **places, "length": length, "dimensionality": room}
        if self.groups is not None:
            found["group"] = [self.group_names[int(group)] for group in self.groups]
        if self.values is not None:
            found["value"] = self.values
        if self.feature is not None:
            found["cosine"] = directions.cosines(self.vectors[self.step], of=self.feature)
        return frame(found)

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`points` [item, axes] and `facts` [item, 2] in blocks, `values`, `groups`, `labels`, `near`, `cosine`."""
        what, step = key["what"], key.get("step", 0)
        part = slice(key.get("block", 0) * BLOCK, (key.get("block", 0) + 1) * BLOCK)
        if what == "points":
            return Tile(self.points(step, key["axes"])[part])
        if what == "facts":
            return Tile(self.facts(step)[part])
        if what in ("values", "groups"):
            array = self.values if what == "values" else self.groups
            if array is None:
                raise InputError(f"These vectors came without {what}.")
            return Tile(array[part])
        if what == "labels":
            chunk = self.labels[key["chunk"] * CHUNK : (key["chunk"] + 1) * CHUNK]
            return Tile.of_json({"text": chunk, "ids": None, "special": []})
        if what == "near":
            return Tile.of_json(self.near(step, key["feature"]))
        if what == "cosine":
            items = self.compared(step, key["feature"])
            matrix = directions.cosines(self.vectors[step], items).astype(np.float32)
            return Tile(matrix, {"items": items.tolist()})
        raise InputError(f"There is no tile {what!r}.")

    def _step_keys(self, step: int, reading: str) -> Iterator[str]:
        if reading == "cosine":
            wide = self.shape[1] > COMPARED
            yield key_of(what="cosine", step=step, feature=self.feature if wide else None)
        else:
            for block in self._blocks():
                yield key_of(what="points", step=step, axes=int(reading[0]), block=block)
        for block in self._blocks():
            yield key_of(what="facts", step=step, block=block)

    def _blocks(self) -> range:
        return range(-(-self.shape[1] // BLOCK))

    def _on_screen(self) -> list[str]:
        colours = "values" if self.values is not None else "groups" if self.groups is not None else ""
        keys = list(self._step_keys(self.step, self.reading))
        keys += [key_of(what=colours, block=block) for block in self._blocks() if colours]
        keys.append(key_of(what="labels", chunk=0))
        return [*keys, key_of(what="near", step=self.step, feature=self.feature)] if self.feature is not None else keys

    def stored_keys(self) -> Iterator[str]:
        """What is on screen, then other steps, then other readings, then the neighbours of every item if few."""
        count, items, dim = self.shape
        yield from self._on_screen()
        for reading in dict.fromkeys([self.reading, "2d", "cosine", *(["3d"] if dim > 2 else [])]):
            for step in range(count):
                yield from self._step_keys(step, reading)
        for chunk in range(-(-items // CHUNK)):
            yield key_of(what="labels", chunk=chunk)
        if items <= FEW:
            yield from (key_of(what="near", step=s, feature=i) for s in range(count) for i in range(items))

    # Bad input -----------------------------------------------------------------------------------------------------

    @traitlets.validate("step", "feature")
    def _in_range(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        size = self.shape[0 if name == "step" else 1]
        if value is not None and not 0 <= value < size:
            raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return value  # type: ignore[no-any-return]

    @traitlets.validate("reading", "rotation")
    def _possible(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value == "3d" and self.shape[2] < 3:
            raise traitlets.TraitError(f"Vectors of {self.shape[2]} dimensions cannot be shown in 3d; take '2d'.")
        if isinstance(value, list) and (len(value) != 2 or not np.isfinite(value).all()):
            raise traitlets.TraitError(f"rotation must be [turn, tilt] in degrees; got {value}.")
        return value

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The vectors as they are read, and their dimensionality or the neighbours of the one selected."""
        from interpwidgets.views.geometry_picture import geometry_picture

        return geometry_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Length and dimensionality of the first items; or, with one selected, its nearest."""
        from interpwidgets.views.geometry_picture import geometry_table

        return geometry_table(self)

    def explained(self, axes: int) -> str:
        """What part of the whole the axes shown are, in words."""
        dim = self.shape[2]
        if not self.variance:
            return "all there is" if dim == 2 else "one dimension, along a line"
        return f"{axes} of {dim} dimensions, {100 * sum(self.variance[:axes]):.1f} % of the variance"

    def describe(self) -> str:
        """What is drawn, how much of it, and what is selected."""
        count, items, dim = self.shape
        at = f" at {self.steps[self.step]}" if count > 1 else ""
        axes = 3 if self.reading == "3d" else 2
        how = "as cosines" if self.reading == "cosine" else f"in {axes} dimensions ({self.explained(axes)})"
        selected = ""
        if self.feature is not None:
            length, room = self.facts(self.step)[self.feature].tolist()
            selected = f" Selected is {self.labels[self.feature]}: length {length:.3f}, dimensionality {room:.3f}."
        return f"{items:,} vectors of {dim:,} dimensions{at}, {how}.{selected}"

    def __repr__(self) -> str:
        count, items, dim = self.shape
        steps = f"{count} steps, " if count > 1 else ""
        return f"GeometryView({steps}{items:,} items, {dim:,} dimensions)"


def _vectors(data: Any) -> Floats:
    """[step, item, dim]."""
    if isinstance(data, (list, tuple)) and data and all(hasattr(each, "shape") for each in data):
        parts = [numbers(each, f"Vectors of step {i}", ["item", "dim"]) for i, each in enumerate(data)]
        if len({part.shape for part in parts}) > 1:
            raise InputError(f"Every step must have the same items and dimensions; got {[p.shape for p in parts]}.")
        return np.stack(parts)
    array = array_of(data, "Vectors")
    if array.ndim == 3:
        return numbers(array, "Vectors", ["step", "item", "dim"])
    return numbers(array, "Vectors", ["item", "dim"])[None]


def _shown(label: Any) -> str:
    """Text of which nothing is invisible, but spaces are spaces."""
    return show(f"{label:g}" if isinstance(label, float) else str(label)).replace("␣", " ")


def _fits(what: str, given: Sequence[Any] | None, size: int, of: str) -> None:
    if given is not None and len(given) != size:
        raise InputError(f"{size} {of} need {size} {what}; got {len(given)}.")
