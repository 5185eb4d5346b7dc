"""A labeler that asks a language model over HTTP: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.answers import Answers
from interpwidgets.autointerp.budget import Budget, Estimate, Spent
from interpwidgets.autointerp.prompts import read_labels, read_numbers, to_judge, to_label, to_predict
from interpwidgets.autointerp.texts import Snippet, Text
from interpwidgets.errors import InputError, InterpError

__all__ = ["ChatLabeler"]

_BATCH = 10  # texts asked about in one call
_LABEL, _NUMBER, _AROUND = 60, 3, 8  # tokens of an answer: of a label, of a number, of what stands around them
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_WAIT, _LONGEST = 1.0, 60.0  # seconds before the second try, then twice as long each time; at most


class ChatLabeler:
    """Asks a language model, at any endpoint of OpenAI's kind: a local server, or a service with a key.

    >>> ChatLabeler("http://localhost:11434/v1", "llama3.1")
    >>> ChatLabeler(url, "a-model", key=os.environ["KEY"], prices=(0.15, 0.6), budget=Budget(cost=2), cache="answers/")

    `prices` are for a million tokens read and written. Answers are kept in the folder `cache` by what was asked, never
    by name, and the key is kept nowhere. A call that fails for a reason that passes is tried again, `retries` times,
    each time after twice as long or as long as the server says. `unread` counts answers that could not be read, even
    the second time: they count as not knowing. Raises BudgetError when the budget is used up, InputError when the
    server refuses.
    """

    exact = False  # whether tokens are counted before a call

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        key: str | None = None,
        budget: Budget | None = None,
        prices: tuple[float, float] | None = None,
        cache: str | Path | None = None,
        candidates: int = 3,
        retries: int = 4,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"An endpoint is an address such as http://localhost:11434/v1; got {endpoint!r}.")
        if parts.username or parts.password:
            raise InputError("Give the key as key=…, not in the address, which is shown and kept.")
        self.endpoint = endpoint.rstrip("/").removesuffix("/chat/completions")
        self.model, self.name = model, model
        self.budget, self.spent = budget or Budget(), Spent(prices)
        self.candidates, self.retries, self.timeout = candidates, retries, timeout
        self.unread = 0
        self._key, self._answers = key, Answers(cache)
        self._dry, self._free, self._asked = False, 0, set[str]()

    # --- what a labeler does

    def label(self, examples: Sequence[Snippet]) -> list[str]:
        """Ask what a feature may be, the likeliest first."""
        answer = self._ask(to_label(examples, self.candidates), _LABEL * self.candidates)
        return [f"label {self.spent.calls}"] if answer is None else read_labels(answer, self.candidates)

    def judge(
        self, label: str, texts: Sequence[Text], marks: Sequence[NDArray[np.bool_]] | None = None
    ) -> NDArray[np.float64]:
        """Ask which texts a label is true of, or in which exactly the marked tokens are meant: [text]."""
        found = []
        for first in range(0, len(texts), _BATCH):
            part = slice(first, first + _BATCH)
            some = texts[part]
            found.append(self._numbers(to_judge(label, some, None if marks is None else marks[part]), len(some), 1))
        return np.concatenate(found) if found else np.zeros(0)

    def predict(self, label: str, texts: Sequence[Text]) -> list[NDArray[np.float64]]:
        """Ask how active the feature is at each token, from 0 to 1: [pos] for each text, one call each."""
        return [self._numbers(to_predict(label, text), len(text), 10) for text in texts]

    # --- what it costs

    def dry_run(self) -> ChatLabeler:
        """The same labeler, calling nobody: it counts what it would ask, and answers that it does not know."""
        twin = copy(self)
        vars(twin).update(spent=Spent(self.spent.prices), budget=Budget(), unread=0, _dry=True, _free=0, _asked=set())
        return twin

    @property
    def estimate(self) -> Estimate:
        """What a dry run has counted."""
        return Estimate(self.name, self.spent, self.exact, self._free)

    # --- asking

    def _numbers(self, prompt: str, count: int, most: float) -> NDArray[np.float64]:
        """Numbers in an answer; asked once more if it cannot be read, and ½ if it still cannot."""
        limit = _NUMBER * count + _AROUND
        for attempt in range(2):
            answer = self._ask(prompt, limit, attempt)
            if answer is None:
                break
            found = read_numbers(answer, count, most)
            if found is not None:
                return found
        else:
            self.unread += 1
        return np.full(count, 0.5)

    def _ask(self, prompt: str, limit: int, attempt: int = 0) -> str | None:
        """An answer: from the cache, or of a call. None in a dry run."""
        question = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 4 * limit,  # room for words around the answer
            "temperature": 0,
        }
        key = Answers.key(question | {"endpoint": self.endpoint, "attempt": attempt})
        known = self._answers.get(key)
        if isinstance(known, str):
            self._free += 1
            return None if self._dry else known
        self.spent.check(self.budget)
        read = self._count(prompt)
        if self._dry:
            if key in self._asked:
                return None
            self._asked.add(key)
            self.spent.calls, self.spent.read = self.spent.calls + 1, self.spent.read + read
            self.spent.written += limit
            return None
        answer, used = self._call(question)
        self.spent.calls += 1
        self.spent.read += int(used.get("prompt_tokens") or read)
        self.spent.written += int(used.get("completion_tokens") or self._count(answer))
        self._answers.put(key, answer)
        return answer

    def _count(self, text: str) -> int:
        """Tokens of a text, about."""
        return -(-len(text) // 4)

    def _call(self, question: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """One answer and what it used, after as many tries as it takes."""
        for attempt in range(self.retries + 1):
            try:
                return self._post(question)
            except urllib.error.HTTPError as error:
                said, after = _message(error), error.headers.get("Retry-After", "")
                if error.code not in _AGAIN:
                    raise InputError(f"{self.endpoint} refuses {self.model!r} ({error.code}): {said}") from None
                problem = f"{error.code}: {said}"
            except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
                after, problem = "", str(getattr(error, "reason", error))
            if attempt < self.retries:
                asked = float(after) if after.replace(".", "", 1).isdigit() else _WAIT * 2**attempt
                self._sleep(min(asked, _LONGEST))
        raise InterpError(f"{self.endpoint} gave no answer in {self.retries + 1} tries; the last time: {problem}")

    def _post(self, question: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(  # noqa: S310  the scheme was checked
            f"{self.endpoint}/chat/completions", json.dumps(question).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310
            found = json.loads(response.read())
        try:
            return str(found["choices"][0]["message"]["content"] or ""), found.get("usage") or {}
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"no chat completion: {str(found)[:200]}") from None

    @staticmethod
    def _sleep(seconds: float) -> None:
        time.sleep(seconds)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model} at {self.endpoint}; {self.spent}>"


def _message(error: urllib.error.HTTPError) -> str:
    """What a server says is wrong."""
    text = error.read(2000).decode("utf-8", "replace")
    try:
        found = json.loads(text)
        return str(found["error"]["message"] if isinstance(found["error"], dict) else found["error"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200] or error.reason
