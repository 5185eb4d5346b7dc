"""A labeler that asks a causal language model on this machine, by prompts: no network, no key, no cost but time."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interpwidgets.autointerp.answers import Answers
from interpwidgets.autointerp.budget import Budget, Estimate, Spent
from interpwidgets.autointerp.prompts import LONGEST
from interpwidgets.autointerp.texts import Snippet, Text, mark
from interpwidgets.errors import InputError
from interpwidgets.models.model import as_model

__all__ = ["ModelLabeler"]

_SHOWN = 12  # active examples shown
_LABEL = 24  # tokens of a label
_EXAMPLES = """Text: the cat sat in «Paris» .
Label: names of cities
Yes: «Rome» is old
No: the «cat» is old

"""


class ModelLabeler:
    """Asks a causal language model that runs here: any `transformers` model with a tokenizer.

    >>> ModelLabeler(iw.load("Qwen/Qwen2.5-1.5B"))

    A label is what it writes after some examples. Whether a label fits is what it holds likelier next, " Yes" or " No",
    as a probability: nothing has to be read out of an answer. Where a prompt is longer than the model's context, its
    beginning is left out. A prediction asks about each token, so simulation takes as many passes as there are tokens.
    """

    def __init__(
        self, model: Any, *, budget: Budget | None = None, cache: str | Path | None = None, batch: int = 16
    ) -> None:
        self.model = as_model(model)
        if self.model.tokenizer is None:
            raise InputError(f"{self.model!r} has no tokenizer, so it cannot be asked anything.")
        self.name = self.model.name
        self.budget, self.spent, self.batch = budget or Budget(), Spent(), batch
        self._answers, self._dry, self._free = Answers(cache), False, 0
        self._who = self.model.fingerprint
        self._yes, self._no = (self._ids(f" {word}")[-1] for word in ("Yes", "No"))
        if self._yes == self._no:
            self._yes, self._no = (self._ids(f" {word}")[-1] for word in ("yes", "no"))
        if self._yes == self._no:
            raise InputError(f"{self.model!r} has no tokens for yes and no, so it cannot be asked anything.")

    def label(self, examples: Sequence[Snippet]) -> list[str]:
        """What the model writes after the examples: one label, or none."""
        active = sorted((each for each in examples if each.positive), key=lambda each: -float(each.activations.max()))
        shown = "\n".join(f"Text: {each.marked()}" for each in active[:_SHOWN])
        prompt = f"{_EXAMPLES}{shown}\nLabel:"
        if self._dry:
            self._note(len(self._ids(prompt)), _LABEL)
            return [f"label {self.spent.calls}"]
        said = self._kept({"label": prompt}, lambda: self._write(prompt))
        clean = "".join(c if c.isprintable() else " " for c in said.partition("\n")[0])
        return [text] if (text := " ".join(clean.split())[:LONGEST]) else []

    def judge(
        self, label: str, texts: Sequence[Text], marks: Sequence[NDArray[np.bool_]] | None = None
    ) -> NDArray[np.float64]:
        """How much likelier " Yes" comes next than " No": [text]."""
        shown = (
            [" ".join(text.words) for text in texts]
            if marks is None
            else [mark(text, where) for text, where in zip(texts, marks, strict=True)]
        )
        asked = "Does the label fit a token of it?" if marks is None else "Does the label fit the tokens in « »?"
        prompts = [f"Label: {label}\nText: {text}\n{asked} Yes or No:" for text in shown]
        found = []
        for first in range(0, len(prompts), self.batch):
            some = prompts[first : first + self.batch]
            if self._dry:
                self._note(sum(len(self._ids(prompt)) for prompt in some), 0)
                found.append([0.5] * len(some))
            else:
                found.append(self._kept({"judge": some}, lambda some=some: self._yes_or_no(some)))
        return np.array([each for part in found for each in part], dtype=np.float64)

    def predict(self, label: str, texts: Sequence[Text]) -> list[NDArray[np.float64]]:
        """Whether the label fits each token, marked in the text: [pos] for each."""
        every = [(text, where) for text in texts for where in np.eye(len(text), dtype=bool)]
        said = self.judge(label, [text for text, _ in every], [where for _, where in every])
        return np.split(said, np.cumsum([len(text) for text in texts])[:-1]) if texts else []

    def dry_run(self) -> ModelLabeler:
        """The same labeler, running nothing: it counts what it would ask, and answers that it does not know."""
        twin = copy(self)
        vars(twin).update(spent=Spent(), budget=Budget(), _dry=True, _free=0)
        return twin

    @property
    def estimate(self) -> Estimate:
        """What a dry run has counted; a call is a batch."""
        return Estimate(self.name, self.spent, True, self._free)

    def _note(self, read: int, written: int) -> None:
        self.spent.calls, self.spent.read = self.spent.calls + 1, self.spent.read + read
        self.spent.written += written

    def _kept(self, question: dict[str, Any], answer: Any) -> Any:
        """An answer from the cache, or computed and kept."""
        key = Answers.key(question | {"model": self._who})
        if (known := self._answers.get(key)) is not None:
            self._free += 1
            return known
        self.spent.check(self.budget)
        found = answer()
        self._answers.put(key, found)
        return found

    def _ids(self, text: str, room: int = 0) -> list[int]:
        ids: list[int] = self.model.tokenizer(text, verbose=False)["input_ids"]
        return ids if self.model.context is None else ids[-(self.model.context - room) :]

    @torch.no_grad()
    def _yes_or_no(self, prompts: list[str]) -> list[float]:
        rows = [self._ids(prompt) for prompt in prompts]
        self._note(sum(map(len, rows)), 0)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows], device=self.model.device)
        logits = self.model.module(ids).logits  # [row, pos, vocabulary]; causal, so what fills up does not matter
        last = logits[torch.arange(len(rows)), [len(row) - 1 for row in rows]]
        found: list[float] = (last[:, self._yes] - last[:, self._no]).float().sigmoid().tolist()
        return found

    @torch.no_grad()
    def _write(self, prompt: str) -> str:
        ids = self._ids(prompt, _LABEL)
        written: list[int] = []
        for _ in range(_LABEL):
            logits = self.model.module(torch.tensor([[*ids, *written]], device=self.model.device)).logits
            written.append(int(logits[0, -1].argmax()))
            text = str(self.model.tokenizer.decode(written, skip_special_tokens=True))
            if "\n" in text.lstrip() or written[-1] == self.model.tokenizer.eos_token_id:
                break
        self._note(len(ids), len(written))
        return text.strip()
