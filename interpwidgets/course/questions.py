"""Exercises that are answered without writing a function: in a view, with a number, with one of several statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any

from interpwidgets.course.comparing import Compare, exact
from interpwidgets.course.exercises import Exercise, Mutant
from interpwidgets.course.verdict import Verdict
from interpwidgets.errors import InputError

__all__ = ["Choice", "Confident", "Estimate", "InView", "Option", "selection"]


@dataclass(frozen=True, eq=False, repr=False)
class InView(Exercise):
    """Select something in a view; `check(view)` reads its traits, which a test sets without a browser.

    Args:
        reads: the traits that are the answer: `("layer", "head")`.
        oracle: all right answers, a list of tuples with a value for each trait.
        mutants: functions without arguments, each a list of wrong answers of one kind.
        same: when an answer is one of those.
    """

    _: KW_ONLY
    reads: Sequence[str]
    oracle: Callable[[], Sequence[tuple[Any, ...]]]
    mutants: Sequence[Mutant]
    same: Compare = exact

    def judged(self, answer: Any, confidence: float | None, seed: int) -> Verdict:
        """The verdict, and nothing written down."""
        if answer is None or answer is Ellipsis:
            return self._said("not attempted", "Answer in the view, then run the cell again.")
        given = answer if isinstance(answer, Mapping) else selection(answer)
        if missing := [trait for trait in self.reads if trait not in given]:
            return self._said(
                "error",
                f"The answer is read from a view with {', '.join(self.reads)}; {missing[0]} is not there: check(view).",
            )
        if not set(self.reads) & set(given["touched"]):
            return self._said(
                "not attempted", f"Answer in the view ({', '.join(self.reads)}), then run the cell again."
            )
        values = tuple(given[trait] for trait in self.reads)
        shown = [f"“{value}”" if isinstance(value, str) else value for value in values]
        named = ", ".join(f"{trait} {value}" for trait, value in zip(self.reads, shown, strict=True))
        right = self.oracle()
        if any(not self.same(values, one) for one in right):
            return self._said("passed", f"{named}.")
        for mutant in self.mutants:
            if any(not self.same(values, one) for one in mutant.answer()):
                return self._said("wrong", f"{named}: {mutant.why}", misconception=mutant.name, advice=mutant.advice)
        return self._said("wrong", f"{named} is not it.")


def selection(view: Any) -> dict[str, Any]:
    """What is selected in a view: its traits, and under `touched` which of them differ from how it opened."""
    if not hasattr(view, "settings") or not hasattr(view, "touched"):
        return {"touched": []}
    return {**{name: getattr(view, name) for name in view.settings()}, "touched": view.touched}


@dataclass(frozen=True, eq=False, repr=False)
class Confident(Exercise):
    """An answer with how sure one is; guessing costs.

    Args:
        later: a prediction: it is written down, and judged by `predictions(module)` at the module's end.
    """

    _: KW_ONLY
    later: bool = False

    def judged(self, answer: Any, confidence: float | None, seed: int) -> Verdict:
        """The verdict, and nothing written down."""
        if answer is None or answer is Ellipsis:
            return self._said("not attempted", self.wanted)
        if problem := self.refused(answer):
            return self._said("error", problem)
        sure = confidence if isinstance(confidence, Real) and not isinstance(confidence, bool) else None
        if sure is None or not 0 <= sure <= 1:
            return self._said("error", f"How sure are you, from 0 to 1? check({answer!r}, confidence=0.7)")
        if self.later:
            said = f"You said {answer!r}, {100 * sure:.0f} % sure. We come back to it; what you say first counts."
            return self._said("recorded", said, answer=answer, confidence=float(sure))
        return self.settled(answer, float(sure))

    def settled(self, answer: Any, confidence: float) -> Verdict:
        """The verdict on an answer, also on a prediction."""
        right, said, more = self.outcome(answer)
        score = (confidence - right) ** 2
        priced = f"{said} You were {100 * confidence:.0f} % sure: Brier score {score:.2f} (0 best, 1 worst)."
        more |= {"score": score, "answer": answer, "confidence": confidence}
        return self._said("passed" if right else "wrong", priced, **more)

    @property
    def wanted(self) -> str:
        """What to do, as text."""
        raise NotImplementedError

    @property
    def form(self) -> dict[str, Any]:
        """What a page asks for the answer with."""
        raise NotImplementedError

    def refused(self, answer: Any) -> str:
        """Why this is no answer; empty if it is one."""
        raise NotImplementedError

    def outcome(self, answer: Any) -> tuple[bool, str, dict[str, Any]]:
        """Whether it is right, a sentence, and what else the verdict says."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Confident):
    """A number: `check(0.4, confidence=0.7)`.

    Args:
        oracle: the number, computed.
        within: how far off is still right.
        unit: what the number counts.
        between: the least and the largest number that make sense.
        mutants: functions without arguments, each a wrong number with a reason.
    """

    _: KW_ONLY
    oracle: Callable[[], float]
    within: float
    unit: str = ""
    between: tuple[float, float] = (-math.inf, math.inf)
    mutants: Sequence[Mutant] = ()

    @property
    def wanted(self) -> str:
        """What to do, as text."""
        number = f"Which number{self._range}, right to within {self.within:g}{self._unit}"
        return f"{number}, and how sure are you? check(number, confidence=0.7)"

    @property
    def form(self) -> dict[str, Any]:
        """What a page asks for the answer with."""
        return {"kind": "number", "what": f"a number{self._range}, right to within {self.within:g}{self._unit}"}

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    @property
    def _range(self) -> str:
        low, high = self.between
        return f" from {low:g} to {high:g}" if math.isfinite(high - low) else ""

    def refused(self, answer: Any) -> str:
        """Why this is no answer; empty if it is one."""
        number = isinstance(answer, Real) and not isinstance(answer, bool) and math.isfinite(answer)
        low, high = self.between
        good = number and low <= answer <= high
        return "" if good else f"A number{self._range} is wanted; got {answer!r}."

    def outcome(self, answer: Any) -> tuple[bool, str, dict[str, Any]]:
        """Whether it is right, a sentence, and what else the verdict says."""
        right, unit = float(self.oracle()), self._unit
        if abs(answer - right) <= self.within:
            return True, f"It is {right:.3g}{unit}.", {}
        told = f"It is {right:.3g}{unit}" if self.later else ""  # the lesson has shown it by then
        for mutant in self.mutants:
            if abs(answer - float(mutant.answer())) <= self.within:
                why = f"{told}. {mutant.why}" if told else mutant.why
                return False, why, {"misconception": mutant.name, "advice": mutant.advice}
        off = f"off by more than {self.within:g}{unit}"
        if told:
            return False, f"{told}; you said {answer:.3g}: {off}.", {}
        return False, f"{answer:.3g}{unit} is {off}.", {}


@dataclass(frozen=True)
class Option:
    """One of the statements to choose from; `why` it is right, or which misconception it is."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Confident):
    """One of several statements, by its letter or its text: `check("b", confidence=0.6)`."""

    _: KW_ONLY
    options: Sequence[Option]

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(option.right for option in self.options) != 1 or len(self.options) < 3:
            raise InputError(f"{self.name}: three options or more are wanted, and one that is right.")

    @property
    def wanted(self) -> str:
        """What to do, as text."""
        return f'Which one, and how sure are you? check("a", confidence=0.7)\n{self._options}'

    @property
    def form(self) -> dict[str, Any]:
        """What a page asks for the answer with."""
        return {"kind": "choice", "options": [[letter, option.text] for letter, option in self.lettered.items()]}

    def refused(self, answer: Any) -> str:
        """Why this is no answer; empty if it is one."""
        letters = ", ".join(self.lettered)
        return "" if self._option(answer) is not None else f"One of {letters} is wanted; got {answer!r}."

    def outcome(self, answer: Any) -> tuple[bool, str, dict[str, Any]]:
        """Whether it is right, a sentence, and what else the verdict says."""
        option = self._option(answer)
        assert option is not None
        return option.right, option.why, {} if option.right else {"misconception": option.text}

    @property
    def lettered(self) -> dict[str, Option]:
        """The options under a, b, c, …"""
        return {chr(ord("a") + i): option for i, option in enumerate(self.options)}

    @property
    def _options(self) -> str:
        return "\n".join(f"  {letter}  {option.text}" for letter, option in self.lettered.items())

    def __repr__(self) -> str:
        return f"{self.title}\n{self._options}"

    def _option(self, answer: Any) -> Option | None:
        if not isinstance(answer, str):
            return None
        texts = {option.text: option for option in self.options}
        return self.lettered.get(answer.strip().lower()) or texts.get(answer)
