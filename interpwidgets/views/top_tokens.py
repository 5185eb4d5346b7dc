"""What the model expected instead: the likeliest next tokens after each, and how surprising the one was that came."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import traitlets

from interpwidgets.errors import InputError
from interpwidgets.frames import frame
from interpwidgets.views.flow import TextStill, in_text
from interpwidgets.views.predictions import Block, Floats, Predictions, compared, divergence, is_run, predictions
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.traits import Range
from interpwidgets.views.view import View, key_of

if TYPE_CHECKING:
    from interpwidgets.views.drawing import Drawing

__all__ = ["Prediction", "TopTokensView"]

COLOURS = ("surprise", "rank", "entropy", "kl", "change")
_KEPT = 512  # blocks of numbers
_STORED = 64  # blocks that a page without a kernel holds
_IN_STILL = 300  # tokens of a still


class Prediction(NamedTuple):
    """What was predicted at one position, and what came."""

    position: int
    top: list[tuple[str | bytes, float]]  # tokens and probabilities, the likeliest first
    came: str | bytes | None  # the next token; None after the last
    probability: float  # of what came; NaN after the last, as are rank and surprise
    rank: float  # how many tokens were likelier
    surprise: float  # −log2 probability, bits
    entropy: float  # of the prediction, bits


class _Read(NamedTuple):
    runs: list[Block]
    numbers: Floats  # [4, or 10 with a second run, pos]: see `tile`


class TopTokensView(View, view="top_tokens"):
    """See at which tokens the model was surprised, and what it expected there.

        view = TopTokensView(rec)                             # a Recording with logits, or with its model
        view = TopTokensView(logits, tokens=ids, decode=tokenizer)        # [pos, vocab]: NumPy or torch
        view = TopTokensView(rec, compare=iw.Ablate("z", layer=1, head=6))    # under an intervention
        view = TopTokensView(rec, compare=other_model)        # of the same vocabulary

    A token's colour is what the model's prediction made of it: its surprise, −log2 of its probability, in bits
    (Shannon 1951, "Prediction and entropy of printed English"); its rank, 0 for the likeliest; or the entropy of the
    prediction. With a second run also KL(first ‖ second) and the change of surprise, second − first, all in bits.

    `position` is where the prediction is made: selecting a token selects the position before it, so that linked views
    show what the model had to go by. The last entry stands for what comes after the text. `prediction` is what is
    selected, as numbers.

    The picture is `token_log_probs` of CircuitsVis (Cooney and Nanda 2023), which sorts the whole vocabulary at every
    position; here a block of positions is read when it is looked at.

    Args:
        data: a `Recording`, or logits or log-probabilities [pos, vocab].
        compare: interventions, a model, a `Recording` or an array to set beside it.
        tokens: the ids of an array's prompt; a `Recording` brings its own.
        decode: a tokenizer, or a function from ids to strings; without, tokens are called by their numbers.
        k: how many of the likeliest tokens are listed.
        names: what to call the two runs.
        settings: initial values of the traits below, by name.

    Raises:
        InputError: there is nothing to predict from, or what is compared is of another prompt or vocabulary.
        TraitError: a setting out of range.
    """

    prompts = traitlets.List(traitlets.Dict(), help="each prompt: name, size, vocab, block", read_only=True).tag(
        sync=True
    )
    prompt = traitlets.CInt(0, help="the prompt shown").tag(sync=True)
    runs = traitlets.List(traitlets.Unicode(), help="what each run is called", read_only=True).tag(sync=True)
    colour = traitlets.Enum(COLOURS, "surprise", help="what colours the text").tag(sync=True)
    colour_range = Range()
    search = traitlets.Unicode("", help="tokens to mark").tag(sync=True)
    position = traitlets.CInt(None, allow_none=True, help="whose prediction is shown; None: the last").tag(sync=True)

    def __init__(
        self,
        data: Any,
        *,
        compare: Any = None,
        tokens: Any = None,
        decode: Any = None,
        k: int = 10,
        names: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        if k < 1:
            raise InputError(f"k is how many tokens are listed, 1 or more; got {k}.")
        self._k = int(k)
        self._guard = threading.Lock()
        self._again = compare if is_run(compare) else None
        self._take(data, compare, tokens, decode, names)
        super().__init__(settings, title="Next tokens")
        self.open_with(self._first_screen())

    def show(
        self, data: Any, *, compare: Any = None, tokens: Any = None, decode: Any = None,
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Show other predictions; what is selected stays where it still exists.

        Interventions, or a model, that the view was given are compared with again unless another `compare` is given.
        """
        compare, names = (self._again, names or self.runs) if compare is None else (compare, names)
        with self.hold_trait_notifications():
            self._take(data, compare, tokens, decode, names if len(names or ()) == 1 + (compare is not None) else None)
            self.prompt = min(self.prompt, len(self.prompts) - 1)
            if len(self.runs) == 1 and self.colour in ("kl", "change"):
                self.colour = "surprise"
            self._keep_what_exists()
        self.renew(self._first_screen())

    # What is shown ---------------------------------------------------------------------------------------------------

    @property
    def prediction(self) -> Prediction:
        """What the first run predicts at the position selected, else at the last."""
        own = self._own[self.prompt]
        at = self._at()
        read, i = self._read(self.prompt, at // own.per_block), at % own.per_block
        surprise, rank, probability, entropy = (float(value) for value in read.runs[0].came[:, i])
        texts = own.texts(read.runs[0].top[i].tolist()).text
        came = own.tokens.text[at + 1] if at + 1 < len(own.tokens) else None
        top = list(zip(texts, read.runs[0].p[i].tolist(), strict=True))
        return Prediction(at, top, came, probability, rank, surprise, entropy)

    def to_pandas(self) -> Any:
        """A row for each position: what stood there, what came next, and what the model had expected; bits.

        position, token, next_token; probability, rank and surprise of that one; entropy, top_token, top_probability.
        Of two runs a row each, `run`; `kl` and `change` are from the first to this one.
        """
        own = self._own[self.prompt]
        size, n = len(own.tokens), len(self.runs)
        read = [self._read(self.prompt, block) for block in range(-(-size // own.per_block))]
        came = np.concatenate([[run.came for run in each.runs] for each in read], axis=-1)  # [run, number, pos]
        top = np.concatenate([[run.top[:, 0] for run in each.runs] for each in read], axis=-1)  # [run, pos]
        likeliest = np.concatenate([[run.p[:, 0] for run in each.runs] for each in read], axis=-1)
        surprise, rank, probability, entropy = came.swapaxes(0, 1).reshape(4, -1)
        between = {}
        if n > 1:
            kl = np.concatenate([each.numbers[8] for each in read])
            change = (came[:, 0] - came[0, 0]).ravel()
            between = {"kl": np.concatenate([np.zeros_like(kl), kl]), "change": change}
        return frame({
            **({"run": np.repeat(self.runs, size)} if n > 1 else {}),
            "position": np.tile(np.arange(size), n),
            "token": list(own.tokens) * n,
            "next_token": [*own.tokens[1:], None] * n,
            "probability": probability, "rank": rank, "surprise": surprise, "entropy": entropy,
            "top_token": list(own.texts(top.ravel().tolist())), "top_probability": likeliest.ravel(),
            **between,
        })  # fmt: skip

    def _at(self) -> int:
        return len(self._own[self.prompt].tokens) - 1 if self.position is None else self.position

    # What travels ----------------------------------------------------------------------------------------------------

    def tile(self, **key: Any) -> Tile:
        """`tokens` of a chunk; of a block of positions its `numbers`, float32 [number, pos], or the `top` tokens.

        Numbers are surprise, rank, probability and entropy; with a second run then its own four, KL and change.
        """
        prompt = key["prompt"]
        if key["what"] == "tokens":
            return tokens_tile(self._own[prompt].tokens, key["chunk"])
        if key["what"] == "numbers":
            return Tile(self._read(prompt, key["block"]).numbers)
        if key["what"] == "top":
            return Tile.of_json([self._listed(run, prompt) for run in self._read(prompt, key["block"]).runs])
        raise KeyError(f"no tile is called {key['what']!r}")

    def _listed(self, run: Block, prompt: int) -> dict[str, Any]:
        texts = list(self._own[prompt].texts(run.top.ravel().tolist()))
        k = run.top.shape[1]
        rows = [texts[i : i + k] for i in range(0, len(texts), k)]
        return {"tokens": rows, "ids": run.top.tolist(), "p": [[float(f"{p:.4g}") for p in row] for row in run.p]}

    def _read(self, prompt: int, block: int) -> _Read:
        """The numbers of a block of positions, which are kept; the logits are not."""
        with self._guard:
            kept = self._blocks
            if (found := kept.get((prompt, block))) is not None:
                return found
        own = self._own[prompt]
        rows = slice(block * own.per_block, min(len(own.tokens), (block + 1) * own.per_block))
        if rows.start >= len(own.tokens):
            raise InputError(f"There is no block {block} of prompt {prompt}.")
        log_p = own.log_probs(rows)
        first = own.block(log_p, rows, self._k)
        found = _Read([first], first.came)
        if self._other:
            log_q = self._other[prompt].log_probs(rows)
            second = self._other[prompt].block(log_q, rows, self._k)
            between = np.stack([divergence(log_p, log_q), second.came[0] - first.came[0]])
            found = _Read([first, second], np.concatenate([first.came, second.came, between]))
        with self._guard:
            kept[prompt, block] = found
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        return found

    def stored_keys(self) -> Iterator[str]:
        """The first screen, then all texts and their predictions, the prompt shown first."""
        yield from self._first_screen()
        for prompt in sorted(range(len(self._own)), key=lambda prompt: prompt != self.prompt):
            facts = self.prompts[prompt]
            for chunk in range(-(-facts["size"] // CHUNK)):
                yield key_of(what="tokens", prompt=prompt, chunk=chunk)
            for block in range(min(_STORED, -(-facts["size"] // facts["block"]))):
                yield from self._block_keys(prompt, block)

    def _first_screen(self) -> list[str]:
        facts, here = self.prompts[self.prompt], self._at()
        chunks = range(min(4, -(-facts["size"] // CHUNK)))
        keys = [key_of(what="tokens", prompt=self.prompt, chunk=chunk) for chunk in chunks]
        for block in sorted({0, here // facts["block"]}):
            keys += self._block_keys(self.prompt, block)
        return keys

    @staticmethod
    def _block_keys(prompt: int, block: int) -> list[str]:
        return [key_of(what=what, prompt=prompt, block=block) for what in ("numbers", "top")]

    # Bad input -------------------------------------------------------------------------------------------------------

    def _take(self, data: Any, compare: Any, tokens: Any, decode: Any, names: Sequence[str] | None) -> None:
        own = predictions(data, tokens, decode)
        other = [] if compare is None else compared(data, compare, own)
        runs = [own[0].name, *(each.name for each in other[:1])]
        if len(set(runs)) < len(runs):
            runs = ["first", "second"]
        if names is not None and len(names) != len(runs):
            raise InputError(f"{len(runs)} runs need {len(runs)} names; got {len(names)}.")
        with self._guard:
            self._own: list[Predictions] = own
            self._other: list[Predictions] = other
            self._blocks: OrderedDict[tuple[int, int], _Read] = OrderedDict()
        self.set_trait("runs", list(names or runs))
        facts = [
            {
                "name": f"{i}: {' '.join(each.tokens[:5])[:28]} …",
                "size": len(each.tokens),
                "vocab": each.vocab,
                "block": each.per_block,
            }
            for i, each in enumerate(own)
        ]
        self.set_trait("prompts", facts)

    @traitlets.observe("prompt")
    def _keep_what_exists(self, _: Any = None) -> None:
        if (self.position or 0) >= self.prompts[self.prompt]["size"]:
            self.position = None

    @traitlets.validate("prompt")
    def _known_prompt(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if not 0 <= value < len(self._own):
            raise traitlets.TraitError(f"prompt {value} does not exist: there is prompt 0 to {len(self._own) - 1}.")
        return value

    @traitlets.validate("position")
    def _in_text(self, proposal: Any) -> Any:
        return in_text("position", proposal["value"], len(self._own[self.prompt].tokens))

    @traitlets.validate("colour")
    def _has_second(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value in ("kl", "change") and len(self.runs) < 2:
            raise traitlets.TraitError(f"Colour by {value!r} needs a second run: give compare=….")
        return value

    # Without a page --------------------------------------------------------------------------------------------------

    def picture(self) -> Drawing:
        """The text on its colours, and what was expected at the position selected."""
        from interpwidgets.views.drawing import ACCENT, MUTED, PAD, WIDTH, Drawing

        own = self._own[self.prompt]
        first, values = self._coloured()
        bits = float(np.log2(own.vocab))  # what guessing among all tokens alike would cost
        high = {"surprise": bits, "entropy": bits, "rank": own.vocab - 1.0}.get(self.colour)
        kind = "log" if self.colour == "rank" else "linear"
        text = TextStill(
            list(own.tokens[first : first + len(values)]), values, kind, self.colour_range, first=first, high=high,
            floor=0.5 if high else None, signed=self.colour == "change", more=len(own.tokens) - len(values),
        )  # fmt: skip
        headings, rows = self.table()
        drawing = Drawing(WIDTH, 62 + text.height + 46 + 18 * (len(rows) + 1) + 10)
        drawing.text((PAD, 8), self.title, 16)
        drawing.text((PAD, 32), self.describe(), 12, MUTED, width=WIDTH - 2 * PAD)
        text.draw(drawing, 56, self._at() + 1, [])
        text.legend(drawing, 56 + text.height + 12, _WHAT[self.colour])
        top = 56 + text.height + 46
        for row, cells in enumerate([headings, *rows]):
            for column, cell in enumerate(cells):
                at = (PAD + 180 * column, top + 18 * row)
                drawing.text(
                    at, cell, 12, MUTED if row == 0 else ACCENT if cell.endswith(" ◂") else "#1b1b1f", width=170
                )
        return drawing

    def _coloured(self) -> tuple[int, Floats]:
        """The first token of a still, and what colours it and those after it: about the position, in a long text."""
        own = self._own[self.prompt]
        which = {"surprise": 0, "rank": 1, "entropy": 3, "kl": 8, "change": 9}[self.colour]
        size, per = len(own.tokens), own.per_block
        first = max(0, min(self._at() - _IN_STILL // 2, size - _IN_STILL)) // per * per
        blocks = range(first // per, -(-min(size, first + _IN_STILL) // per))
        values = np.concatenate([self._read(self.prompt, block).numbers[which] for block in blocks])
        before = np.full(1, np.nan, np.float32)  # what the token before these predicts is not read
        return first, np.concatenate([before, values])[: size - first]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The likeliest tokens at the position selected, by run, with their probabilities; ◂ is the one that came."""
        own, at = self._own[self.prompt], self._at()
        read, i = self._read(self.prompt, at // own.per_block), at % own.per_block
        came = own.next_ids[at]
        columns = []
        for run in read.runs:
            ids = run.top[i]
            texts = list(own.texts(ids.tolist()))
            columns.append([f"{text} ◂" if token == came else text for text, token in zip(texts, ids, strict=True)])
            columns.append([f"{100 * p:.2f} %" for p in run.p[i]])
        headings = ["rank", *(name for run in self.runs for name in (run, "probability"))]
        return headings, [[str(rank), *cells] for rank, cells in enumerate(zip(*columns, strict=True))]

    def describe(self) -> str:
        """Where the prediction is made, and what came of it."""
        own, found = self._own[self.prompt], self.prediction
        after = f"After {own.tokens[found.position]} at position {found.position}"
        if found.came is None:
            return f"{after}, the last: a prediction of {found.entropy:.2f} bits."
        return (
            f"{after} came {own.tokens[found.position + 1]}: probability {100 * found.probability:.2f} %, surprise "
            f"{found.surprise:.2f} bits, rank {found.rank:.0f}; entropy {found.entropy:.2f} bits."
        )

    def __repr__(self) -> str:
        several = f"{len(self._own)} prompts, " if len(self._own) > 1 else ""
        own = self._own[self.prompt]
        both = f"; {' and '.join(self.runs)}" if len(self.runs) > 1 else ""
        return f"TopTokensView({several}{len(own.tokens):,} tokens, vocabulary {own.vocab:,}{both})"


_WHAT = {
    "surprise": "surprise of the token (bits)",
    "rank": "rank of the token (0: the likeliest)",
    "entropy": "entropy of the prediction (bits)",
    "kl": "KL(first ‖ second) of the prediction (bits)",
    "change": "change of surprise, second − first (bits)",
}
