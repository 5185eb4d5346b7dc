"""Tell candidate labels apart by experiment: edit a text so that they disagree, run the model, see which was right.

    propose   swap a token of an example, so that one label says "active" here and another says "not"
    run       the model on both texts, and read the feature
    update    what is believed of each label, by how likely it made what was seen, before the swap and after it
    stop      when one label is believed, or nothing is left to try

The noise model is stated and simple: whatever a label says comes out otherwise with probability `noise`. Beside the
labels stands "none of these", which says nothing and is right half of the time: it gains where all the labels fail.
What comes later in a text cannot change a causal model. Swapping that tells labels apart which say something of it,
and tells nothing of "none of these", whose belief it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interpwidgets.autointerp.evidence import Evidence, evidence
from interpwidgets.autointerp.labeler import Labeler
from interpwidgets.autointerp.markdown import escaped, table
from interpwidgets.autointerp.sources import OfStore
from interpwidgets.autointerp.statistics import StatisticsLabeler
from interpwidgets.autointerp.texts import Snippet, Text, mark
from interpwidgets.errors import InputError
from interpwidgets.features import FeatureStore
from interpwidgets.tokens import Tokens

__all__ = ["NONE", "Investigation", "Step", "investigate"]

NONE = "none of these"
_EDITS = 240  # thought of, for a labeler that costs nothing
_FEW = 48  # for one that does
_REACH = (0, -1, 1, -2)  # tokens around the strongest that are swapped, in turn
_LEAST = 0.01  # bits that an experiment has to promise
_BOTH = 2  # trials of each kind that a label has to stand before it is believed

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """One experiment: an edit, what each label said of it, what the feature did, and what is believed since."""

    before: Text
    after: Text  # one token of it swapped
    edited: int  # position of that token
    position: int  # where the feature is read
    was: float  # activation there before
    now: float  # and after
    said_before: tuple[float, ...]  # by each label: how likely it is active there before the edit
    said: tuple[float, ...]  # and after it
    promised: float  # bits that the edit was expected to tell
    belief: tuple[float, ...]  # in each label, and in none of them, after it

    @property
    def active(self) -> bool:
        """Whether the feature is active after the edit."""
        return self.now > 0

    def predictions(self) -> list[str]:
        """What each label says of the text before and after, in words."""
        return [f"{_yes(a)} → {_yes(b)}" for a, b in zip(self.said_before, self.said, strict=True)]

    def __str__(self) -> str:
        where = np.arange(len(self.after)) == self.position
        swap = f"{self.before.words[self.edited]} → {self.after.words[self.edited]}"
        return f"{swap}: {mark(self.after, where)}"


@dataclass(frozen=True, eq=False)
class Investigation:
    """What was asked of the model to tell labels apart, and what is believed after it; a log to be read."""

    feature: int
    labels: tuple[str, ...]
    noise: float
    prior: tuple[float, ...]  # of each label, and of none
    steps: tuple[Step, ...]
    ended: str

    @property
    def belief(self) -> tuple[float, ...]:
        """In each label, and in none of them."""
        return self.steps[-1].belief if self.steps else self.prior

    @property
    def verdict(self) -> str | None:
        """The label that is believed; `NONE` if none of them is, and None if it is open."""
        best = int(np.argmax(self.belief))
        return (*self.labels, NONE)[best] if self.ended == _BELIEVED else None

    def bayes_factor(self, one: int = 0, other: int = 1) -> float:
        """How much likelier the first of two labels makes what was seen than the second (−1: none of these)."""
        return (self.belief[one] / self.belief[other]) / (self.prior[one] / self.prior[other])

    def __repr__(self) -> str:
        lines = [f"Feature {self.feature}: which label?"]
        for number, label in enumerate((*self.labels, NONE)):
            lines.append(
                f"  {_name(number, self.labels)}  {label}   {self.prior[number]:.2f} → {self.belief[number]:.2f}"
            )
        for number, step in enumerate(self.steps, 1):
            said = ", ".join(f"{_name(i, self.labels)} {each}" for i, each in enumerate(step.predictions()))
            believed = " ".join(f"{each:.2f}" for each in step.belief)
            lines.append(f"{number}. {step}")
            lines.append(f"   labels say {said}; activation {step.was:.3g} → {step.now:.3g}; belief {believed}")
        return "\n".join([*lines, self._conclusion()])

    def _conclusion(self) -> str:
        said = f"Believed: {self.verdict}." if self.verdict else "Open."
        return f"{said} {self.ended} A label is taken to be wrong {self.noise:.0%} of the time."

    def _repr_markdown_(self) -> str:
        names = [_name(number, self.labels) for number in range(len(self.belief))]
        head = ["label", "", "before", "after"]
        labels = [
            [name, label, f"{was:.2f}", f"{now:.2f}"]
            for name, label, was, now in zip(names, (*self.labels, NONE), self.prior, self.belief, strict=True)
        ]
        steps = [["", "swap", "read at «»", *(f"{name} says" for name in names[:-1]), "was", "is", *names]]
        for number, step in enumerate(self.steps, 1):
            swap, _, text = str(step).partition(": ")
            said = step.predictions()
            believed = [f"{each:.2f}" for each in step.belief]
            steps.append([str(number), swap, text, *said, f"{step.was:.3g}", f"{step.now:.3g}", *believed])
        return "\n\n".join(
            [
                f"**Feature {self.feature}: which label?**",
                table([head, *labels]),
                table(steps),
                escaped(self._conclusion()),
            ]
        )


_BELIEVED = "One of them is likely enough."


def _name(number: int, labels: Sequence[str]) -> str:
    return "–" if number == len(labels) else chr(ord("A") + number)


def _yes(p: float) -> str:
    return "yes" if p > 0.9 else "no" if p < 0.1 else f"{p:.1f}"


@dataclass(frozen=True, eq=False)
class _Edit:
    """A text to try."""

    ids: list[int]  # of the context up to the end of the window
    at: int  # where the feature is read, in the context
    snippet: Snippet
    after: Text
    edited: int
    position: int


def investigate(
    store: FeatureStore,
    feature: int,
    *,
    labels: Sequence[str] | None = None,
    labeler: Labeler | None = None,
    noise: float = 0.1,
    enough: float = 0.95,
    steps: int = 20,
    seed: int = 0,
) -> Investigation:
    """Find out by experiment which of some labels a feature deserves, or that it deserves none.

    >>> iw.autointerp.investigate(store, 8)
    >>> iw.autointerp.investigate(store, 8, labels=["the token was", "one of: 's, was"])

    `labels` are those that the labeler makes of half of the examples, unless they are given; texts are edited in the
    other half. Every experiment is the one that promises to tell the most (expected information, Lindley 1956), no
    text is used twice, and outcomes count as independent. It ends when something is believed with `enough` (a label
    only after it was tried twice where it says "active" and where it says "not", of texts that were active and of
    others, as far as there are any), after `steps`, or when the labels agree on all that is left.
    Raises InputError if the store has no model, or there are fewer than two labels to tell apart.
    """
    for name, value, low, high in (("noise", noise, 0, 0.5), ("enough", enough, 0.5, 1)):
        if not low < value < high:
            raise InputError(f"{name} is between {low} and {high}; got {value!r}.")
    labeler = labeler or StatisticsLabeler()
    source = OfStore(store, seed)
    feature = store[feature].index
    here = evidence(source, feature, seed=seed)
    labels = tuple(dict.fromkeys(labels if labels is not None else labeler.label(here.train)))
    if len(labels) < 2:
        raise InputError(f"There are two labels or more to tell apart; of feature {feature} there is {len(labels)}.")
    rng = np.random.default_rng([seed, feature])
    edits = _edits(source, here, labels, rng, _EDITS if isinstance(labeler, StatisticsLabeler) else _FEW)
    before, said = (
        _predictions(labeler, labels, edits, texts)
        for texts in ([edit.snippet.text for edit in edits], [edit.after for edit in edits])
    )
    active = _mixed(said, noise)  # [edit, label]
    later = np.array([edit.edited > edit.position for edit in edits], dtype=bool)
    was = np.array([edit.snippet.activations[edit.position] > 0 for edit in edits], dtype=bool)
    prior = np.full(len(labels) + 1, 1 / (len(labels) + 1))
    belief, left = prior, np.arange(len(edits))
    done: list[Step] = []
    while True:
        none = np.where(later, active @ belief[:-1] / belief[:-1].sum(), 0.5)
        every = np.column_stack([active, none])  # [edit, label or none]
        believed = belief.max() >= enough
        some = _untried(int(belief.argmax()), said, was, left, done) if believed else left
        promise = _information(every[some], belief)
        if ended := _end(believed, some, len(done), steps, promise):
            break
        best = int(some[promise.argmax()])
        edit = edits[best]
        now = float(store.features_of(edit.ids).of(feature)[edit.at])
        belief = _believed(belief, _mixed(before[best], noise), 0.5, bool(was[best]))
        unmoved = float(active[best] @ belief[:-1] / belief[:-1].sum()) if later[best] else 0.5
        belief = _believed(belief, active[best], unmoved, now > 0)
        done.append(_step(edit, now, before[best], said[best], float(promise.max()), belief))
        left = left[[edits[i].snippet is not edit.snippet for i in left]]
    return Investigation(feature, labels, noise, tuple(prior.tolist()), tuple(done), ended)


def _end(believed: bool, some: NDArray[np.int64], done: int, steps: int, promise: Floats) -> str:
    """Why it is over, with some edits that may be tried; nothing if it is not."""
    if believed and not len(some):
        return _BELIEVED
    if done == steps:
        return f"{steps} experiments were not enough."
    if not believed and promise.max(initial=0.0) < _LEAST:
        return "Nothing is left on which the labels disagree." if done else "The labels agree on every edit tried."
    return ""


def _untried(
    best: int, said: Floats, active: NDArray[np.bool_], left: NDArray[np.int64], done: Sequence[Step]
) -> NDArray[np.int64]:
    """Edits to try before a label is believed: where it says "active", or "not", and the text was before, or was not.

    Most features are silent at most tokens, so that who says "not" is nearly always right; and who says "active" is
    right wherever an edit changes nothing.
    """
    if best == said.shape[1]:
        return left[:0]
    for yes in (True, False):
        for was in (True, False):
            if sum((step.said[best] > 0.5) is yes and (step.was > 0) is was for step in done) < _BOTH:
                some: NDArray[np.int64] = left[((said[left, best] > 0.5) == yes) & (active[left] == was)]
                if len(some):
                    return some
    return left[:0]


def _mixed(said: Floats, noise: float) -> Floats:
    """What a label says, if it comes out otherwise so often."""
    return said * (1 - noise) + (1 - said) * noise


def _believed(belief: Floats, active: Floats, none: float, seen: bool) -> Floats:
    """Bayes' rule: after a feature was seen active or not, which labels and none of them held likely."""
    likely = np.append(active, none)
    likely = likely if seen else 1 - likely
    found: Floats = belief * likely / (belief @ likely)
    return found


def _predictions(labeler: Labeler, labels: Sequence[str], edits: Sequence[_Edit], texts: Sequence[Text]) -> Floats:
    """How likely each label says that the feature is active where it is read: [edit, label]."""
    rows = [labeler.predict(label, texts) for label in labels]
    return np.array([[float(row[number][edit.position]) for row in rows] for number, edit in enumerate(edits)]).reshape(
        len(edits), len(labels)
    )


def _step(edit: _Edit, now: float, before: Floats, said: Floats, promised: float, belief: Floats) -> Step:
    was = float(edit.snippet.activations[edit.position])
    return Step(
        edit.snippet.text, edit.after, edit.edited, edit.position, was, now, tuple(before.tolist()),
        tuple(said.tolist()), promised, tuple(belief.tolist()),
    )  # fmt: skip


def _information(active: Floats, belief: Floats) -> Floats:
    """Bits that each experiment is expected to tell about which label is right: [edit]."""
    return _entropy(active @ belief) - _entropy(active) @ belief


def _entropy(p: Floats) -> Floats:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    found: Floats = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return found


def _edits(source: OfStore, here: Evidence, labels: Sequence[str], rng: np.random.Generator, count: int) -> list[_Edit]:
    """Held-out texts with one token swapped for another that stands in such a place in an example.

    A text is edited at its strongest activation or beside it. One without the feature is edited at random, so that
    labels which say too little are found out as well as those that say too much.
    """
    snippets = here.test or here.train
    if not snippets:
        return []
    words = _pool(here, labels)
    if not words:
        return []
    found: dict[tuple[int, int, int], _Edit] = {}
    for number in range(4 * count):
        snippet = snippets[int(rng.integers(len(snippets)))]
        text = snippet.text
        at = int(snippet.activations.argmax()) if snippet.positive else int(rng.integers(len(text)))
        edited = at + _REACH[number % len(_REACH)]
        if not 0 <= edited < len(text) or text.tokens.special[edited] or (edited > at and not snippet.positive):
            continue
        token, name, special = words[int(rng.integers(len(words)))]
        key = (snippet.context, edited, token)
        assert text.tokens.ids is not None
        if key in found or special or token == int(text.tokens.ids[edited]):
            continue
        found[key] = _edit(source, snippet, at, edited, token, name)
        if len(found) == count:
            break
    return list(found.values())


def _pool(here: Evidence, labels: Sequence[str]) -> list[tuple[int, str | bytes, bool]]:
    """Tokens to swap in: a third stand at or beside activations, a third elsewhere, a third are named in a label."""
    near, others = [], []
    named: dict[int, tuple[int, str | bytes, bool]] = {}
    said = {part for label in labels for word in label.split(" ") for part in (word, word.removesuffix(","))}
    for snippet in here.train:
        tokens = snippet.text.tokens
        assert tokens.ids is not None
        rows = list(zip(tokens.ids.tolist(), tokens.text, tokens.special.tolist(), strict=True))
        named.update({row[0]: row for row, word in zip(rows, snippet.text.words, strict=True) if word in said})
        if snippet.positive:
            at = int(snippet.activations.argmax())
            near += rows[max(at - 1, 0) : at + 2]
        else:
            others += rows
    step = max(1, len(others) // max(len(near), 1))
    return [*near, *others[::step], *(list(named.values()) * (len(near) // max(len(named), 1)))]


def _edit(source: OfStore, snippet: Snippet, at: int, edited: int, token: int, name: str | bytes) -> _Edit:
    tokens, start = source.tokens(snippet.context), snippet.text.start
    assert tokens.ids is not None
    ids = tokens.ids[: start + len(snippet.text)].copy()
    ids[start + edited] = token
    text = list(snippet.text.tokens.text)
    text[edited] = name
    inside = slice(start, start + len(text))
    after = Text(Tokens(tuple(text), ids[inside], snippet.text.tokens.special), start)
    return _Edit(ids.tolist(), start + at, snippet, after, edited, at)
