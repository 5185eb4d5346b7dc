"""A prompt to write on, and a model that reads along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from interpwidgets.errors import InputError, InterpError
from interpwidgets.frames import frame
from interpwidgets.tokens import Tokens
from interpwidgets.views.flow import in_text
from interpwidgets.views.tile import Tile, tokens_tile
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["PromptView"]

SITES = ("resid_pre", "resid_post", "q", "k", "v", "z", "attn_out", "mlp_out", "logits")
_BLOCK = 16_384  # positions in a tile of values
_KINDS = ("zero", "mean", "scale")  # interventions that the page can write down


class PromptView(View, view="prompt"):
    """Write a prompt, see its tokens and what the model says next; change the model, and see what that does.

        prompt = iw.PromptView(model, "the cat sat on the mat . the cat", drives=[attention, lens])
        prompt.text = "…"                       # or type: it is recorded again, and every view it drives follows
        prompt.add(iw.Ablate("z", layer=1, head=6))
        prompt.recording                        # of the run shown, with the interventions that are on

    Each token is on the colour of its surprise, −log₂ of the probability that the model gave it, in bits. Below are
    the next tokens after the one selected; with interventions, without and with them. `text`, `position` and `chips`
    (the interventions: what, and whether it is on) are traits.

    Args:
        model: a model, as `iw.load` gives it.
        text: what it reads.
        drives: views that show a recording: each is given every new one (`drive`).
        interventions: what to change in the model.
        sites: what is recorded, for the views that are driven.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: a model that is none, an intervention that it has no place for, a view that shows no recording.
    """

    text = traitlets.Unicode("", help="what the model reads").tag(sync=True)
    chips = traitlets.List(traitlets.Dict(), help="interventions: {label, on, spec} each").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="the token selected; none: the last").tag(sync=True)
    size = traitlets.Int(0, help="how many tokens there are", read_only=True).tag(sync=True)
    context = traitlets.Int(None, allow_none=True, help="how many there may be", read_only=True).tag(sync=True)
    layers = traitlets.Int(0, read_only=True).tag(sync=True)
    heads = traitlets.Int(0, help="of a layer", read_only=True).tag(sync=True)
    error = traitlets.Unicode("", help="why the text shown is not what is read", read_only=True).tag(sync=True)

    def __init__(
        self,
        model: Any,
        text: str = "",
        *,
        drives: Sequence[View] = (),
        interventions: Sequence[Any] = (),
        sites: Sequence[str] = SITES,
        **settings: Any,
    ) -> None:
        from interpwidgets.intervene import run

        if not hasattr(model, "tokenizer") or not hasattr(model, "n_layers"):
            raise InputError(f"PromptView needs a model, as iw.load(…) gives it; got {type(model).__name__}.")
        self.model = model
        self._sites = tuple(dict.fromkeys([*sites, "logits"]))
        self._held: dict[int, Any] = {}  # interventions that no spec can say, by the number in their chip
        self._driven: list[tuple[View, Callable[[Any], Any]]] = []
        self._record: Callable[[str, Sequence[Any]], Any] = lambda read, changes: run(
            model, read, changes, sites=self._sites
        )
        self._plain: Any = None
        self._changed: Any = None
        self._changes: list[Any] = []
        self.set_trait("context", model.context)
        self.set_trait("layers", model.n_layers)
        self.set_trait("heads", model.n_heads or 0)
        chips = [self._chip(each) for each in interventions]
        super().__init__({"text": text, **({"chips": chips} if chips else {}), **settings}, title="Prompt")
        self._read()
        if self._plain is None:
            raise InputError(self.error)
        for view in drives:
            self.drive(view)
        self.observe(lambda _: self._read(), ["text", "chips"])

    # The model -------------------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Any:
        """Of the run shown: with the interventions that are on."""
        return self._changed

    @property
    def interventions(self) -> list[Any]:
        """Those of the run shown, in their order."""
        return self._changes

    def add(self, intervention: Any) -> None:
        """Change the model by one more intervention.

        Raises:
            InputError: it is none, or the model has no place for it; nothing is changed then.
        """
        chip = self._chip(intervention)
        self._record(self._plain.tokens[0].ids.tolist(), [intervention])
        self.chips = [*self.chips, chip]

    def clear(self) -> None:
        """The model as it is."""
        self.chips = []

    def drive(self, view: View, make: Callable[[Any], Any] | None = None) -> None:
        """Let a view show every new recording, or what `make` makes of it.

        Raises:
            InputError: the view cannot be given other data.
        """
        if not callable(getattr(view, "show", None)):
            raise InputError(f"{type(view).__name__} shows no recording: it cannot follow a prompt.")
        self._driven.append((view, make or (lambda recording: recording)))
        view.show(self._driven[-1][1](self._changed))

    def _read(self) -> None:
        """Run the model on the text. What cannot be read is said, and what was read last stays."""
        try:
            changes = [self._intervention(chip) for chip in self.chips if chip.get("on", True)]
            plain = self._record(self.text, [])
            changed = self._record(self.text, changes) if changes else plain
        except InterpError as error:
            self.set_trait("error", str(error))
            return
        self._plain, self._changed, self._changes = plain, changed, changes
        self.chips = [{**chip, "label": repr(self._intervention(chip))} for chip in self.chips]
        self.set_trait("size", len(self.tokens))
        if self.position is not None and self.position >= self.size:
            self.position = None
        self.renew(self._first_screen())
        refused = [said for view, make in self._driven if (said := _refusal(view, make, changed))]
        self.set_trait("error", " ".join(refused))

    def _chip(self, what: Any) -> dict[str, Any]:
        """An intervention as the page shows it."""
        from interpwidgets.intervene import Ablate, Intervention, Scale

        if not isinstance(what, Intervention):
            raise InputError(f"Interventions are Patch, Ablate, Steer, Scale or Freeze; got {what!r:.80}.")
        plain = what.direction is None and all(isinstance(at, (int, type(None))) for at in (what.head, what.pos))
        where = {"site": what.site, "layer": what.layer, "head": what.head, "pos": what.pos}
        if plain and isinstance(what, Scale):
            spec = {"kind": "scale", **where, "factor": what.factor}
        elif plain and isinstance(what, Ablate) and what.kind in _KINDS and what.reference is None and not what.per_pos:
            spec = {"kind": what.kind, **where}
        else:
            number = len(self._held)
            self._held[number] = what
            spec = {"kind": "held", "number": number}
        return {"label": repr(what), "on": True, "spec": spec}

    def _intervention(self, chip: Mapping[str, Any]) -> Any:
        """The intervention that a chip stands for."""
        from interpwidgets.intervene import Ablate, Scale

        spec = dict(chip.get("spec") or {})
        kind = spec.pop("kind", None)
        if kind == "held":
            if spec.get("number") not in self._held:
                raise InputError(f"{chip.get('label')}: its values are not in this view; add it again in Python.")
            return self._held[spec["number"]]
        if kind not in _KINDS or not {*spec} <= {"site", "layer", "head", "pos", "factor"}:
            what = f"{{'on': …, 'spec': {{'kind': one of {_KINDS}, 'site': …, 'layer': …}}}}"
            raise InputError(f"A chip is {what}; got {chip}.")
        if kind == "scale":
            return Scale(**spec)
        return Ablate(**spec, kind=kind)

    # What is shown ---------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> Tokens:
        """Of the text as the model reads it."""
        tokens: Tokens = self._changed.tokens[0]
        return tokens

    def outcome(self) -> Any:
        """The next token after the one selected, without and with the interventions: an `Outcome`."""
        return self._outcome(self.size - 1 if self.position is None else self.position)

    def to_pandas(self) -> Any:
        """A row for each of the likeliest next tokens: position, token, and its probability before and after.

        Before and after the interventions that are on; after `position`, that is, the token selected.
        """
        found = self.outcome()
        return frame({"position": found.position, "token": found.tokens, "before": found.before, "after": found.after})

    def _outcome(self, position: int) -> Any:
        from interpwidgets.intervene.outcomes import compared

        how = "; ".join(map(repr, self.interventions)) or "nothing"
        own, changed = (rec["logits"][0, position] for rec in (self._plain, self._changed))
        return compared(self.model, own, changed, how=how, position=position)

    def surprise(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """−log₂ of the probability that the model gave each token, in bits, [pos]; NaN for the first."""
        ids = self.tokens.ids
        assert ids is not None
        logits = self._changed["logits"][0, : self.size].detach().float().cpu()
        nats = -logits[:-1].log_softmax(-1)[np.arange(self.size - 1), ids[1:]].numpy()
        return np.concatenate([[np.nan], nats / np.log(2)]).astype(np.float32)

    def tile(self, **key: Any) -> Tile:
        """One of: `tokens`, `values` (the surprise of each token, in bits), `next` (after a position)."""
        what = key["what"]
        if what == "tokens":
            return tokens_tile(self.tokens, key["chunk"])
        if what == "values":
            block: int = key["block"]
            return Tile(self.surprise()[None, block * _BLOCK : (block + 1) * _BLOCK])
        if what == "next" and 0 <= key["position"] < self.size:
            return Tile.of_json(self._outcome(key["position"]).to_json())
        raise KeyError(f"there is no tile {key}")

    def _first_screen(self) -> Iterator[str]:
        yield key_of(what="tokens", prompt=0, chunk=0)
        yield key_of(what="values", prompt=0, block=0)
        yield key_of(what="next", position=self.size - 1 if self.position is None else self.position)

    def stored_keys(self) -> Iterator[str]:
        """What a page without a kernel holds: the next token after every position."""
        yield from self._first_screen()
        for chunk in range(1, -(-self.size // 1024)):
            yield key_of(what="tokens", prompt=0, chunk=chunk)
        for position in range(self.size):
            yield key_of(what="next", position=position)

    @traitlets.validate("position")
    def _is_there(self, proposal: Any) -> int | None:
        found: int | None = in_text("position", proposal["value"], self.size or 1 << 40)
        return found

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The tokens on the colours of their surprise, and the next token's probabilities."""
        from interpwidgets.views.prompt_picture import prompt_picture

        return prompt_picture(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The likeliest next tokens, without and with the interventions."""
        found = self.outcome()
        rows = zip(found.tokens, found.before, found.after, strict=True)
        if not self.interventions:
            return ["next token", "probability"], [[token, f"{before:.4f}"] for token, before, _ in rows]
        headings = ["next token", "before", "after"]
        return headings, [[token, f"{before:.4f}", f"{after:.4f}"] for token, before, after in rows]

    def describe(self) -> str:
        """What is read, what was changed, and what comes next."""
        found = self.outcome()
        best = int(np.argmax(found.after))
        changed = f" with {found.how}" if self.interventions else ""
        return (
            f"{self.model.name} reads {self.size} tokens{changed}; after position {found.position} it expects "
            f"{found.tokens[best]} ({found.after[best]:.0%})."
        )

    def __repr__(self) -> str:
        changed = f", {len(self.interventions)} interventions" if self.interventions else ""
        return f"PromptView({self.model.name}, {self.size} tokens{changed})"


def _refusal(view: View, make: Callable[[Any], Any], recording: Any) -> str:
    """Let a view show a recording; why it does not, if so."""
    try:
        view.show(make(recording))
    except InterpError as error:
        return f"{type(view).__name__}: {error}"
    return ""
