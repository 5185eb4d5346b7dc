"""Text on the colour of one or many values per token: a loss, an attribution, an activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.frames import frame, is_frame, text_of
from interpwidgets.tokens import Tokens
from interpwidgets.views.flow import TextStill, in_text, prompts_of
from interpwidgets.views.numbers import array_of, numbers
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["TokensView"]

Floats = NDArray[np.float32]

_BLOCK = 1 << 17  # values in a tile
_SERIES = 64  # more are a NeuronsView
_ROWS = 12  # of the table


class TokensView(View, view="tokens"):
    """Read a text with a number on every token: where the loss is high, which tokens an attribution falls on.

        view = TokensView(tokens, loss)                       # [pos]
        view = TokensView(rec, {"loss": loss, "entropy": h})  # a Recording's tokens, a series a name
        view = TokensView(tokens, values, names=["clean", "patched"])     # [series, pos]
        view = TokensView(tokens, frame)                      # a pandas DataFrame, a column a series
        view = TokensView(frame)                              # with the tokens in its column "token"
        view = TokensView([first, second], [loss0, loss1])    # two prompts, values for each

    Tokens are `Tokens`, lists of strings, or a `Recording`, which brings its own. NaN is a token without a value (the
    first has no loss). Colours go from 0 to the largest value; where one is negative, from it through 0 to as far on
    the other side. `all series` shows every series as a stripe under each line, on a scale of its own.

    A click selects a token, `position`; a drag, Shift and the arrow keys a `span` [first, before last], of which
    `position` is where it began. `selected` and `selected_values` are what lies there.

    The picture is `colored_tokens_multi` of CircuitsVis (Cooney and Nanda 2023,
    github.com/TransformerLensOrg/CircuitsVis), for texts of any length.

    Args:
        tokens: those of a text, or of several.
        values: of each token; for several texts a list, one entry a text. Or a function that makes them of `tokens`,
            for a text that will change.
        names: what to call the series of an array.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: values that are no numbers, are infinite, or do not fit the tokens.
        TraitError: a setting out of range.
    """

    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, size, block", read_only=True).tag(sync=True)
    prompt = traitlets.CInt(0, help="the prompt shown").tag(sync=True)
    series_names = traitlets.List(traitlets.Unicode(), help="what there is to colour by", read_only=True).tag(sync=True)
    series = traitlets.Unicode("", help="the series that colours the text").tag(sync=True)
    side_by_side = traitlets.Bool(False, help="show all series under the text").tag(sync=True)
    scale = traitlets.Enum(("linear", "sqrt", "log"), "linear", help="how colour follows value").tag(sync=True)
    colour_range = Range()
    search = traitlets.Unicode("", help="tokens to mark").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="the token selected").tag(sync=True)
    span = traitlets.List(traitlets.CInt(), help="[first, before last] selected, or empty").tag(sync=True)

    def __init__(self, tokens: Any, values: Any = None, *, names: Sequence[str] | None = None, **settings: Any) -> None:
        self._function = values if callable(values) else None
        found = self._take(tokens, values, names)
        super().__init__(settings, title="Tokens", series=found[0] if found else "")
        self.open_with(self._first_screen())

    def show(self, tokens: Any, values: Any = None, *, names: Sequence[str] | None = None) -> None:
        """Show another text, or other values; what is selected stays where it still exists.

        Values that were given as a function are computed again unless others are given.
        """
        values = self._function if values is None else values
        with self.hold_trait_notifications():
            self._take(tokens, values, names)
            self.prompt = min(self.prompt, len(self._tokens) - 1)
            if self.series not in self.series_names:
                self.series = self.series_names[0] if self.series_names else ""
            self._keep_what_exists()
        self.renew(self._first_screen())

    # What is shown ---------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> list[str | bytes]:
        """The tokens of the span, else the one selected: their texts."""
        return list(self._tokens[self.prompt].text[self._chosen()])

    @property
    def selected_values(self) -> dict[str, Floats]:
        """The values of those tokens, by series: [pos]."""
        return {name: values[self._chosen()] for name, values in self._named().items()}

    def to_pandas(self) -> Any:
        """A row for each token of the prompt shown: position, token, and a column for each series."""
        tokens = self._tokens[self.prompt]
        return frame({"position": np.arange(len(tokens)), "token": list(tokens), **self._named()})

    def _chosen(self) -> slice:
        if self.span:
            return slice(*self.span)
        return slice(0) if self.position is None else slice(self.position, self.position + 1)

    def _named(self) -> dict[str, Floats]:
        return dict(zip(self.series_names, self._values[self.prompt], strict=True))

    # What travels ----------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`tokens` of a chunk, or `values` of a block: float32 [series, pos]."""
        prompt = key["prompt"]
        if key["what"] == "tokens":
            return tokens_tile(self._tokens[prompt], key["chunk"])
        if key["what"] == "values":
            size = self.prompts[prompt]["block"]
            return Tile(self._values[prompt][:, key["block"] * size : (key["block"] + 1) * size])
        raise KeyError(f"no tile is called {key['what']!r}")

    def stored_keys(self) -> Iterator[str]:
        """All texts and their values, the one shown first."""
        for prompt in sorted(range(len(self._tokens)), key=lambda prompt: prompt != self.prompt):
            yield from self._keys(prompt, 1 << 30)

    def _first_screen(self) -> list[str]:
        return list(self._keys(self.prompt, 4))

    def _keys(self, prompt: int, at_most: int) -> Iterator[str]:
        facts = self.prompts[prompt]
        for chunk in range(min(at_most, -(-facts["size"] // CHUNK))):
            yield key_of(what="tokens", prompt=prompt, chunk=chunk)
        for block in range(min(at_most, -(-facts["size"] // facts["block"])) if self.series_names else 0):
            yield key_of(what="values", prompt=prompt, block=block)

    # Bad input -------------------------------------------------------------------------------------------------------

    def _take(self, tokens: Any, values: Any, names: Sequence[str] | None) -> list[str]:
        """Take in the data, or nothing of it; the names of its series."""
        if is_frame(tokens):
            tokens, columns = text_of(tokens)
            values = columns if values is None else values
            if tokens is None:
                raise InputError(f"A table of a text has a column 'token'; there are: {', '.join(columns)}.")
        prompts = prompts_of(tokens)
        values = values(tokens) if callable(values) else values
        each = [_series(part, own, names) for part, own in zip(_of_each(values, prompts), prompts, strict=True)]
        found = list(each[0])
        if other := next((series for series in each if list(series) != found), None):
            raise InputError(f"All prompts need the same series; one has {found}, another {list(other)}.")
        if len(found) > _SERIES:
            raise InputError(f"A text shows {_SERIES} series at most; got {len(found)}. NeuronsView shows more.")
        self._tokens = prompts
        self._values = [
            np.array([*series.values()], np.float32).reshape(len(found), len(own))
            for series, own in zip(each, prompts, strict=True)
        ]
        block = max(CHUNK, _BLOCK // max(1, len(found)))
        facts = [
            {"name": f"{i}: {' '.join(own[:5])[:28]} …", "size": len(own), "block": block}
            for i, own in enumerate(prompts)
        ]
        self.set_trait("prompts", facts)
        self.set_trait("series_names", found)
        return found

    @traitlets.observe("prompt")
    def _keep_what_exists(self, _: Any = None) -> None:
        size = len(self._tokens[self.prompt])
        if (self.position or 0) >= size:
            self.position = None
        if self.span and self.span[1] > size:
            self.span = []

    @traitlets.validate("prompt")
    def _known_prompt(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if not 0 <= value < len(self._tokens):
            raise traitlets.TraitError(f"prompt {value} does not exist: there is prompt 0 to {len(self._tokens) - 1}.")
        return value

    @traitlets.validate("position", "span")
    def _in_text(self, proposal: Any) -> Any:
        return in_text(proposal["trait"].name, proposal["value"], len(self._tokens[self.prompt]))

    @traitlets.validate("series")
    def _known_series(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name not in (self.series_names or [""]):
            raise traitlets.TraitError(f"No series is called {name!r}. There are: {', '.join(self.series_names)}.")
        return name

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The text on its colours, with a legend and what is selected."""
        from interpwidgets.views.drawing import MUTED, PAD, WIDTH, Drawing

        values = self._named().get(self.series)
        text = TextStill(list(self._tokens[self.prompt]), values, self.scale, self.colour_range)
        drawing = Drawing(WIDTH, 56 + text.height + 52)
        drawing.text((PAD, 8), self.title, 16)
        drawing.text((PAD, 32), self._selection_in_words(), 12, MUTED, width=WIDTH - 2 * PAD)
        text.draw(drawing, 56, self.position, self.span)
        if values is not None:
            text.legend(drawing, 56 + text.height + 14, self.series)
        return drawing

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The tokens whose value is furthest from 0, in order; without values, the first."""
        tokens, named = self._tokens[self.prompt], self._named()
        size = np.nan_to_num(np.abs(named[self.series])) if named else np.arange(len(tokens), 0, -1)
        places = np.argsort(-size, kind="stable")[:_ROWS].tolist()
        rows = [[f"{i}: {tokens[i]}", *(_in_words(values[i]) for values in named.values())] for i in places]
        return ["token", *named], rows

    def describe(self) -> str:
        """What the colours are, and what is selected."""
        size = len(self._tokens[self.prompt])
        coloured = f", each on the colour of its {self.series}" if self.series else ""
        return f"{size:,} tokens{coloured}. {self._selection_in_words()}"

    def _selection_in_words(self) -> str:
        where = self._chosen()
        tokens = self._tokens[self.prompt][where]
        if not tokens:
            return "No token is selected."
        means = [f"{name} {_in_words(_mean(values[where]))}" for name, values in self._named().items()]
        if len(tokens) == 1:
            return f"Selected: {tokens[0]} at position {where.start}. {', '.join(means)}"
        return f"Selected: {len(tokens):,} tokens from {tokens[0]} at position {where.start}. Means: {', '.join(means)}"

    def __repr__(self) -> str:
        several = f"{len(self._tokens)} prompts, " if len(self._tokens) > 1 else ""
        series = f"; {', '.join(self.series_names[:4])}{', …' * (len(self.series_names) > 4)}" * bool(self.series_names)
        return f"TokensView({several}{len(self._tokens[self.prompt]):,} tokens{series})"


def _of_each(values: Any, prompts: Sequence[Tokens]) -> list[Any]:
    """The values of each prompt."""
    if values is None:
        return [None] * len(prompts)
    if len(prompts) == 1:
        listed = isinstance(values, (list, tuple)) and len(values) == 1 and isinstance(values[0], Mapping)
        return [values[0] if listed else values]
    if isinstance(values, Mapping):
        named = {name: _of_each(series, prompts) for name, series in values.items()}
        return [{name: series[i] for name, series in named.items()} for i in range(len(prompts))]
    parts = list(values) if hasattr(values, "__iter__") else []
    if len(parts) != len(prompts):
        raise InputError(f"{len(prompts)} prompts need a list of {len(prompts)} values; got {len(parts)}.")
    return parts


def _series(values: Any, tokens: Tokens, names: Sequence[str] | None) -> dict[str, Floats]:
    """The series of one prompt by name, [pos] each."""
    size = len(tokens)
    if values is None:
        return {}
    if is_frame(values):
        _, values = text_of(values)
    if isinstance(values, Mapping):
        if names is not None:
            raise InputError("Values that are named need no names: leave names= out.")
        return {str(name): _fit(series, f"values[{name!r}]", size) for name, series in values.items()}
    array = array_of(values, "values")
    rows = [array] if array.ndim < 2 else list(array)
    if array.ndim == 2 and array.shape[0] == size != array.shape[1]:
        raise InputError(f"values are [series, pos]; got [pos, series] = {list(array.shape)}. Give values.T.")
    if names is not None and len(names) != len(rows):
        raise InputError(f"{len(rows)} series need {len(rows)} names; got {len(names)}.")
    own = names or (["value"] if len(rows) == 1 else [f"series {i}" for i in range(len(rows))])
    return {str(name): _fit(row, "values", size) for name, row in zip(own, rows, strict=True)}


def _fit(series: Any, what: str, size: int) -> Floats:
    """One series [pos], without the NaN that a batch of several prompts has after the end of a shorter one."""
    array = array_of(series, what)
    array = array[0] if array.ndim == 2 and len(array) == 1 else array  # a batch of one
    if array.ndim == 1 and len(array) > size and np.isnan(array[size:].astype(float)).all():
        array = array[:size]
    if array.ndim == 1 and len(array) == size - 1:
        raise InputError(
            f"{what} are {size - 1} numbers for {size} tokens. Where the first token has none, as a loss, put NaN "
            "before them: np.r_[np.nan, values]."
        )
    return numbers(array, what, ["pos"], [size], missing=True)


def _mean(values: Floats) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan


def _in_words(value: float) -> str:
    return "missing" if np.isnan(value) else f"{value:.4g}"
