"""What the model would say if it stopped after a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.views.logit_lens_tiles import LensSource, LensTiles, lens_sources
from interpwidgets.views.tile import Tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["MEASURES", "LogitLensView"]

MEASURES = {
    "probability": "probability of the top token",
    "entropy": "entropy in nats",
    "kl": "KL(the model's own prediction ‖ the layer's) in nats",
    "token_probability": "probability of",
    "token_rank": "rank of",
}
_MOST = 50  # tokens of a cell


class LogitLensView(View, view="logit_lens"):
    """Watch a prediction form: after each layer, at each position, the token that the model would say.

        view = LogitLensView(rec)                                  # a Recording
        view = LogitLensView(rec, token=" Mary", measure="token_probability")
        view = LogitLensView(logit_lens(rec), logit_lens(rec, translators=tuned), compare=1)   # a tuned lens beside it

    Rows are layers, the last on top; columns are positions. In each cell stands the likeliest next token, coloured by
    `measure`: its `probability`, the `entropy` of the prediction, its divergence from the model's own (`kl`), or the
    probability or rank (0: likeliest) of a chosen `token`. A click selects a cell, `layer` and `position`; below are
    its likeliest tokens, how their probability grows over layers, and what each component wrote to the logit of the
    top token or the chosen one: direct logit attribution at that layer and position, which adds up to the logit.

    Only what is on screen is unembedded, a block of positions at a time.

    nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, "Eliciting latent predictions from
    transformers with the tuned lens" §2 and §3. An early layer may write in directions that the unembedding does not
    read; that a token is not there does not show that the model does not know it.

    Args:
        data: a recording, or what `logit_lens` makes of one, with translators or without; or several of them.
        token: a token to follow, by its text or id.
        top_k: how many tokens of the selected cell are listed.
        names: what to call each prompt.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: nothing a lens can read, or a `token` that is not one token.
        NotRecordedError: the recording holds no resid_post.
        TraitError: a setting out of range.
    """

    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, layers, size", read_only=True).tag(sync=True)
    prompt = traitlets.CInt(0, help="the prompt shown").tag(sync=True)
    compare = traitlets.CInt(None, allow_none=True, help="a second prompt, shown below the first").tag(sync=True)
    layer = traitlets.CInt(0, help="the layer selected").tag(sync=True)
    position = traitlets.CInt(0, help="the position selected").tag(sync=True)
    measure = traitlets.Enum(tuple(MEASURES), "probability", help="what colours show").tag(sync=True)
    token = traitlets.Unicode("", help="the token followed; empty: the top one of each cell").tag(sync=True)
    top_k = traitlets.CInt(5, help="tokens listed of the selected cell").tag(sync=True)
    scale = traitlets.Enum(("linear", "sqrt", "log"), "linear", help="how colour follows the measure").tag(sync=True)
    colour_range = Range()

    def __init__(
        self,
        *data: Any,
        token: str | int | None = None,
        top_k: int = 5,
        names: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self._take(data, names)
        if token is not None:
            settings["token"] = f"#{token}" if isinstance(token, (int, np.integer)) else token
        first = self._tiles.sources[_number(settings.get("prompt", 0), len(self._tiles.sources))]
        measure = settings.get("measure") or ("token_probability" if settings.get("token") else "probability")
        kinds = {source.kind for source in self._tiles.sources}
        super().__init__(
            {**settings, "top_k": top_k},
            layer=first.layers[-1],
            position=len(first.tokens) - 1,
            measure=measure,
            scale="log" if measure == "token_rank" else "linear",
            title="Tuned lens" if kinds == {"tuned lens"} else "Logit lens",
        )
        self.open_with(self._first_screen())

    def _take(self, data: Sequence[Any], names: Sequence[str] | None) -> None:
        if not data:
            raise InputError("LogitLensView needs something to read: a Recording, or what logit_lens(…) makes of one.")
        sources = [source for each in data for source in lens_sources(each)]
        if names is not None and len(names) != len(sources):
            raise InputError(f"{len(sources)} prompts need {len(sources)} names; got {len(names)}.")
        self._tiles = LensTiles(sources, list(names) if names is not None else _names(sources))
        self.set_trait("prompts", [self._tiles.facts(prompt) for prompt in range(len(sources))])

    def show(self, *data: Any, names: Sequence[str] | None = None) -> None:
        """Show other data; what is selected stays where it exists."""
        with self.hold_trait_notifications():
            self._take(data, names)
            count = len(self._tiles.sources)
            if self.compare is not None and self.compare >= count:
                self.compare = None
            if self.prompt >= count:
                self.prompt = 0
        self._other_prompt(None)
        self.renew(self._first_screen())

    # What travels ------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """A tile of `LensTiles`."""
        return self._tiles.tile(**key)

    def to_pandas(self) -> Any:
        """A row for each cell: layer, position, token, top_token, its probability, entropy and kl (nats).

        And token_probability or token_rank, where that is the `measure`. Of two prompts, `prompt` says which.
        """
        parts = [self._tiles.columns(prompt, self.token, self.measure) for prompt in self._shown()]
        if len(parts) == 1:
            return frame(parts[0])
        sizes = [len(part["layer"]) for part in parts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return frame({"prompt": np.repeat(self._shown(), sizes), **joined})

    def stored_keys(self) -> Iterator[str]:
        """Keys of what a page without a kernel holds."""
        for prompt in self._shown():
            yield from self._tiles.stored(prompt, *self._on_screen())

    def _first_screen(self) -> list[str]:
        return [key for prompt in self._shown() for key in self._tiles.first_screen(prompt, *self._on_screen())]

    def _shown(self) -> list[int]:
        return [self.prompt, *([] if self.compare in (None, self.prompt) else [self.compare])]

    def _on_screen(self) -> tuple[int, dict[str, Any], str, str]:
        return self.position, {"layer": self.layer, "k": self.top_k}, self.token, self.measure

    # Bad input -----------------------------------------------------------------------------------------------------

    @traitlets.observe("prompt")
    def _other_prompt(self, _: Any) -> None:
        """What was selected in one prompt may not exist in the next."""
        source = self._tiles.sources[self.prompt]
        if self.layer not in source.layers:
            self.layer = source.layers[-1]
        if self.position >= len(source.tokens):
            self.position = len(source.tokens) - 1

    @traitlets.validate("layer", "position", "prompt", "compare", "top_k")
    def _in_range(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        prompt = _number(self.prompt, len(self._tiles.sources))  # which may itself be out of range
        source = self._tiles.sources[prompt]
        if name == "top_k":
            most = min(_MOST, self._tiles.vocabulary(prompt))
            if not 1 <= value <= most:
                raise traitlets.TraitError(f"top_k is a number from 1 to {most}; got {value}.")
        elif name == "layer":
            if value not in source.layers:
                raise traitlets.TraitError(f"layer {value} does not exist: this view has layers {list(source.layers)}.")
        else:
            size = len(source.tokens) if name == "position" else len(self._tiles.sources)
            if value is not None and not 0 <= value < size:
                raise traitlets.TraitError(f"{name} {value} does not exist: this view has {name} 0 to {size - 1}.")
        return value  # type: ignore[no-any-return]

    @traitlets.validate("token")
    def _is_token(self, proposal: Any) -> str:
        text: str = proposal["value"]
        if text:
            self._tiles.find(self.prompt, text)
        return text

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The table around the selected position, with what each layer says there."""
        from interpwidgets.views.logit_lens_picture import lens_picture

        return lens_picture(self, self._tiles)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """What each layer says at the selected position, the last layer first."""
        tops, (probability, entropy, kl) = self._tiles.numbers(self.prompt, self.position, self.position + 1)
        rows = [
            [str(layer), top, f"{p:.4f}", f"{h:.3f}", "" if np.isnan(d) else f"{d:.3f}"]
            for layer, (top,), (p,), (h,), (d,) in zip(
                self._tiles.sources[self.prompt].layers, tops, probability, entropy, kl, strict=True
            )
        ]
        return ["layer", f"top token at {self.position}", "probability", "entropy", "KL to the last"], rows[::-1]

    def describe(self) -> str:
        """What is shown, and what is selected."""
        source = self._tiles.sources[self.prompt]
        (top,) = self._tiles.numbers(self.prompt, self.position, self.position + 1)[0][source.layers.index(self.layer)]
        of = f"{MEASURES[self.measure]}{f' {self.token}' if self.measure.startswith('token_') else ''}"
        return (
            f"{source.kind.capitalize()} on {self.prompts[self.prompt]['name']}: rows are {len(source.layers)} layers, "
            f"the last on top, columns {len(source.tokens)} tokens; a cell is the likeliest next token, coloured by "
            f"the {of}. Selected: layer {self.layer} at position {self.position}, which says {top}."
        )

    def __repr__(self) -> str:
        source = self._tiles.sources[self.prompt]
        several = f"{len(self._tiles.sources)} prompts, " if len(self._tiles.sources) > 1 else ""
        return f"LogitLensView({several}{len(source.layers)} layers, {len(source.tokens):,} tokens)"


def _number(given: Any, size: int) -> int:
    """A prompt's number; 0 where it is none, which its trait says."""
    try:
        return int(given) if 0 <= int(given) < size else 0
    except (TypeError, ValueError):
        return 0


def _names(sources: Sequence[LensSource]) -> list[str]:
    """A name each: the model's, with the kind of lens and the first tokens where several share one."""
    names = [source.lens.model.name for source in sources]
    begin = [" ".join(source.tokens[:5])[:28] for source in sources]
    named = [f"{i}: {begin[i]} …" if names.count(name) > 1 else name for i, name in enumerate(names)]
    several = len({source.kind for source in sources}) > 1
    return [f"{name}, {source.kind}" if several else name for name, source in zip(named, sources, strict=True)]
