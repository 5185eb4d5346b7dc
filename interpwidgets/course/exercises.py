"""What an exercise is: how fresh inputs are drawn, what is right, and which wrong answers people really give.

    Function    write a function; it is run on fresh inputs and held to an oracle
    Claim       a function that answers a question about a model; run on relabelled copies, and on a null model
    InView      select something in a view; its traits are the answer
    Estimate    a number, with how sure one is
    Choice      one of several statements, with how sure one is

All are values: made once in `curriculum/NN_name/exercises.py`, found by name with `exercise(name)`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from interpwidgets.course.comparing import Compare, close
from interpwidgets.course.running import Ran, run_all
from interpwidgets.course.verdict import CounterExample, Verdict
from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from interpwidgets.views import View

__all__ = ["Arguments", "Exercise", "Function", "Mutant"]

Arguments: TypeAlias = tuple[Any, ...]
_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Mutant:
    """A wrong answer that people really give.

    Args:
        name: the misconception in a few words: “softmax over the queries”.
        answer: the wrong answer, of the same kind as the oracle.
        why: the misconception in a sentence, as said to the learner: “You …”.
        advice: what to do, without giving the answer away.
    """

    name: str
    answer: Callable[..., Any]
    why: str
    advice: str


@dataclass(frozen=True, eq=False)
class Exercise:
    """What all exercises have. `name` is for ever: progress is kept under it, and under `version`.

    Args:
        name: `module.exercise`, in small letters: `heads.induction_score`.
        title: what the learner does, as a heading.
        minutes: how long it takes.
        difficulty: 1 to 5.
        importance: 1 to 5.
        hints: three: a question, a direction, nearly code.
        solution: why the right answer is right, and the wrong ones wrong; the code comes from the lesson.
        version: a whole number, raised when an answer that passed may no longer do.
        after: names of exercises that come before.
    """

    name: str
    _: KW_ONLY
    title: str
    minutes: float
    difficulty: int
    importance: int
    hints: tuple[str, str, str]
    solution: str
    version: int = 1
    after: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"An exercise is called module.name, in small letters, digits and _; got {self.name!r}.")
        if len(self.hints) != 3 or not all(self.hints):
            raise InputError(f"{self.name}: three hints are wanted: a question, a direction, nearly code.")
        if not (1 <= self.difficulty <= 5 and 1 <= self.importance <= 5):
            raise InputError(f"{self.name}: difficulty and importance go from 1 to 5.")
        if not self.minutes > 0 or not self.solution.strip() or not self.title.strip():
            raise InputError(f"{self.name}: title, minutes and solution are wanted.")

    @property
    def module(self) -> str:
        """The module that the exercise is of: the first part of its name."""
        return self.name.partition(".")[0]

    def check(self, answer: Any = ..., *, confidence: float | None = None, seed: int | None = None) -> Verdict:
        """Say whether the answer is right, and if not, what is wrong with it; the attempt is written down.

        Args:
            answer: a function, a view, a number or an option: whatever the exercise asks for.
            confidence: how sure you are, from 0 to 1, where the exercise asks for that.
            seed: draws the same inputs as the verdict that named it.
        """
        from interpwidgets.course.progress import write_down

        verdict = self.judged(answer, confidence, secrets.randbelow(10**6) if seed is None else seed)
        wanted = os.environ.get("INTERPWIDGETS_EXPECT", "").split()
        if wanted and verdict.status.replace(" ", "-") not in wanted:
            raise AssertionError(f"Expected {' or '.join(wanted)}: {verdict}")  # so that a notebook's run is a test
        return write_down(verdict)

    def judged(self, answer: Any, confidence: float | None, seed: int) -> Verdict:
        """The verdict, and nothing written down."""
        raise NotImplementedError

    def hint(self, number: int | None = None) -> None:
        """Print the next hint, or hint 1, 2 or 3."""
        from interpwidgets.course.progress import next_hint

        which = next_hint(self) if number is None else number
        if not 1 <= which <= 3:
            raise InputError(f"There are hints 1, 2 and 3; got {number!r}.")
        print(f"Hint {which} of 3: {self.hints[which - 1]}")

    def show_solution(self) -> None:
        """Print the solution, with why it is right."""
        from interpwidgets.course.progress import solution_shown

        solution_shown(self)
        print(self.solution_text())

    def solution_text(self) -> str:
        """The code from the lesson, and the why."""
        return f"{self.solution_code()}\n\n{self.solution}".strip()

    def solution_code(self) -> str:
        """The code from the lesson; empty where there is none."""
        from interpwidgets.course.library import solution_code

        return solution_code(self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {self.title})"

    def _said(self, status: Any, said: str, **more: Any) -> Verdict:
        return Verdict(self, status, said, **more)


@dataclass(frozen=True, eq=False, repr=False)
class Function(Exercise):
    """Write a function.

    Args:
        draw: fresh inputs from a NumPy generator, as a tuple of arguments: awkward shapes and unequal scales too.
        oracle: what is right, written independently of the solution in the lesson.
        mutants: wrong functions, three at least.
        same: when two answers are the same.
        cases: arguments that are always tried as well.
        trials: how often inputs are drawn.
        seconds: how long all of them may take.
        drawn: a counter-example as one of our views.
    """

    _: KW_ONLY
    draw: Callable[[np.random.Generator], Arguments]
    oracle: Callable[..., Any]
    mutants: Sequence[Mutant]
    same: Compare = field(default_factory=close)
    cases: Sequence[Arguments] = ()
    trials: int = 20
    seconds: float = 10
    drawn: Callable[[CounterExample], View] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({mutant.name for mutant in self.mutants}) < 3:
            raise InputError(f"{self.name}: three different wrong answers are wanted, at least; got {self.mutants!r}.")

    def inputs(self, seed: int) -> list[Arguments]:
        """All that is tried under a seed, the smallest first."""
        drawn = [self.draw(np.random.default_rng([seed, i])) for i in range(self.trials)]
        return sorted([*self.cases, *drawn], key=size)

    def judged(self, answer: Any, confidence: float | None, seed: int) -> Verdict:
        """The verdict, and nothing written down."""
        if answer is None or answer is Ellipsis:
            return self._said("not attempted", "Write the function, then run the cell.")
        if not callable(answer):
            kind = type(answer).__name__
            return self._said("error", f"A function is wanted: check(my_function), without calling it; got {kind}.")
        inputs = self.inputs(seed)
        return self.verdict(inputs, run_all(answer, inputs, self.seconds), seed)

    def verdict(self, inputs: Sequence[Arguments], ran: Sequence[Ran], seed: int) -> Verdict:
        """What follows from what a function did with the inputs; it need not have run in this process."""
        if not any(each.attempted for each in ran):
            return self._said("not attempted", "Replace the placeholder, then run the cell.")
        right = [self.oracle(*copied(arguments)) for arguments in inputs]
        said = ["" if each.error else self.same(each.value, value) for each, value in zip(ran, right, strict=True)]
        wrong = [i for i, each in enumerate(ran) if each.error or said[i]]
        changed = next((i for i, each in enumerate(ran) if each.changed), None)
        if not wrong and changed is None:
            return self._said("passed", f"{len(inputs)} of {len(inputs)} checks on fresh inputs.", seed=seed)
        if not wrong and changed is not None:
            return self._said(
                "wrong",
                "You changed the input: what you were given is not the same after your function ran.",
                misconception="changes its input",
                advice="Work on a copy (.clone(), .copy()), or use an operation that makes a new array.",
                seed=seed,
            )
        if (found := self.recognised(inputs, ran, right)) is not None:
            mutant, first = found
            example = CounterExample(inputs[first], ran[first].value, right[first], said[first])
            named = {"misconception": mutant.name, "advice": mutant.advice}
            return self._said("wrong", mutant.why, example=example, seed=seed, **named)
        first = wrong[0]
        if ran[first].error:
            often = "" if len(wrong) == len(inputs) else f" (on {len(wrong)} of {len(inputs)} inputs)"
            return self._said("error", f"{ran[first].error}{often}", frames=ran[first].frames, seed=seed)
        example = CounterExample(inputs[first], ran[first].value, right[first], said[first])
        good = len(inputs) - len(wrong)
        count = f"Right on {good} of {len(inputs)} inputs." if good else f"Wrong on all {len(inputs)} inputs."
        return self._said("wrong", f"{count} Here your answer {example.difference}.", example=example, seed=seed)

    def recognised(
        self, inputs: Sequence[Arguments], ran: Sequence[Ran], right: Sequence[Any]
    ) -> tuple[Mutant, int] | None:
        """The wrong answer that does what the learner's does, and the first input on which that shows.

        On every input, or else on nine of ten: one who sums over the wrong axis may also have an exponential overflow.
        """
        nearly: tuple[Mutant, int] | None = None
        for mutant in self.wrong_answers():
            theirs = run_all(mutant.answer, inputs, self.seconds)
            agree = [
                bool(mine.error) if other.error else not mine.error and not self.same(mine.value, other.value)
                for mine, other in zip(ran, theirs, strict=True)
            ]
            differ = [not each.error and bool(self.same(each.value, v)) for each, v in zip(theirs, right, strict=True)]
            shows = next((i for i, both in enumerate(zip(agree, differ, strict=True)) if all(both)), None)
            if shows is not None and all(agree):
                return mutant, shows
            if shows is not None and nearly is None and sum(agree) >= 0.9 * len(agree):
                nearly = mutant, shows
        return nearly

    def wrong_answers(self) -> Sequence[Mutant]:
        """The mutants, and those that come with the kind of exercise."""
        return self.mutants


def copied(arguments: Arguments) -> Arguments:
    """Arguments of one's own: arrays and containers are copies, models are not."""
    from interpwidgets.course.running import copy

    return tuple(copy(each) for each in arguments)


def size(value: Any) -> int:
    """How much there is to look at: the numbers in arguments."""
    if isinstance(value, (list, tuple)):
        return sum(map(size, value))
    if isinstance(value, str):
        return len(value)
    shape = getattr(value, "shape", None)
    return int(np.prod(shape)) if shape is not None else 1
