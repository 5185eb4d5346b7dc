"""What a good exercise holds to, tried out: a sentence for each thing that does not hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from interpwidgets.course.exercises import Arguments, Exercise, Function, copied
from interpwidgets.course.questions import Choice, Confident, Estimate, InView

__all__ = ["problems"]

_LONGEST = 2.0  # CPU-seconds for a verdict
_SLOW = 0.1  # from here on, a model is run: ten seeds have to do


def problems(exercise: Exercise, seeds: int = 200, solution: Any = None) -> list[str]:
    """What is wrong with an exercise; nothing if all of this holds.

    The oracle passes, and so does the lesson's `solution` on every seed (on ten, where models are run), in two
    CPU-seconds; placeholders are “not attempted”; every wrong answer fails, and is recognised as itself; answers that
    took no thought fail; a function that changes its input does not pass.
    """
    if isinstance(exercise, Function):
        return list(_of_function(exercise, seeds, solution))
    if isinstance(exercise, InView):
        return list(_of_view(exercise))
    if isinstance(exercise, (Estimate, Choice)):
        return list(_of_confident(exercise))
    return [f"{exercise.name}: {type(exercise).__name__} is no kind of exercise that lints know."]


def _of_function(exercise: Function, seeds: int, solution: Any) -> Iterator[str]:
    start = time.process_time()
    yield from _expect(exercise, "the oracle", exercise.oracle, "passed")
    slow = time.process_time() - start > _SLOW
    seeds = min(seeds, 10) if slow else seeds
    for what, stub in STUBS.items():
        yield from _expect(exercise, f"a function that {what}", stub, "not attempted")
    few = range(min(seeds, 2 if slow else 10))
    for mutant, seed in product(exercise.wrong_answers(), few):
        yield from _expect(exercise, f"{mutant.name!r}", mutant.answer, "wrong", seed=seed, misconception=mutant.name)
    for what, shallow in _shallow(exercise):
        yield from _expect(exercise, f"the answer {what}", shallow, "wrong", "error", "not attempted")
    if any(_array(argument) is not None for argument in exercise.inputs(0)[0]):
        yield from _expect(exercise, "a right answer that changes its input", _spoiling(exercise.oracle), "wrong")
    if solution is not None:
        start = time.process_time()
        yield from _expect(exercise, "the lesson's solution", solution, "passed")
        if (spent := time.process_time() - start) > _LONGEST:
            yield f"{exercise.name}: a verdict takes {spent:.1f} CPU-seconds; {_LONGEST:g} is the most."
        for seed in range(1, seeds):
            yield from _expect(exercise, "the lesson's solution", solution, "passed", seed=seed)


def _expect(
    exercise: Function, what: str, function: Any, *statuses: str, seed: int = 0, misconception: str = ""
) -> Iterator[str]:
    verdict = exercise.judged(function, None, seed)
    if verdict.status not in statuses:
        yield f"{exercise.name}: {what} is {verdict.status}, seed {seed}: {verdict.said}"
    elif misconception and verdict.misconception != misconception:
        taken = repr(verdict.misconception) if verdict.misconception else "nothing known"
        yield f"{exercise.name}: {what} is taken for {taken}, seed {seed}: {verdict.said}"


def _not_implemented(*_: Any) -> Any:
    raise NotImplementedError


STUBS: dict[str, Callable[..., Any]] = {
    "raises NotImplementedError": _not_implemented,
    "returns nothing": lambda *_: None,
    "returns …": lambda *_: ...,
}


def _shallow(exercise: Function) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Answers that took no thought: constants, zeros, the input, what was right once."""
    constants: list[Any] = [0, 1, 0.5, True, False, "", [], (), {}]
    for constant in constants:
        yield repr(constant), _constant(constant)
    inputs = exercise.inputs(0)
    for i in range(len(inputs[0])):
        yield f"that is argument {i}", _argument(i)
    once = exercise.oracle(*copied(inputs[-1] if exercise.trials > 5 else inputs[0]))
    yield "that was right once", _constant(once)

    def zeros(*given: Any) -> Any:
        value = exercise.oracle(*given)
        array = _array(value)
        return value if array is None else np.zeros_like(array)

    if _array(once) is not None:
        yield "zero, in the right shape", zeros


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def _argument(number: int) -> Callable[..., Any]:
    return lambda *given: given[number]


def _spoiling(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, that leaves its arrays changed."""

    def spoil(*given: Any) -> Any:
        value = function(*copied(given))
        for argument in given:
            if _array(argument) is not None:
                argument[...] = argument + 1 if argument.dtype not in (bool, np.bool_) else ~argument
        return value

    return spoil


def _array(value: Any) -> Any:
    return value if getattr(value, "shape", ()) and hasattr(value, "dtype") else None


def _of_view(exercise: InView) -> Iterator[str]:
    def verdict(values: Arguments, touched: list[str]) -> Any:
        traits = dict(zip(exercise.reads, values, strict=True))
        return exercise.judged({**traits, "touched": touched}, None, 0)

    right = exercise.oracle()
    if not right:
        yield f"{exercise.name}: there is no right answer."
    for values in right:
        if (found := verdict(values, list(exercise.reads))).status != "passed":
            yield f"{exercise.name}: the right answer {values!r} is {found.status}: {found.said}"
    if right and verdict(right[0], []).status != "not attempted":
        yield f"{exercise.name}: a view that was not touched is an attempt."
    for mutant in exercise.mutants:
        for values in mutant.answer():
            if (found := verdict(values, list(exercise.reads))).misconception != mutant.name:
                yield f"{exercise.name}: {mutant.name!r}, {values!r}, is {found.status}, {found.misconception!r}"


def _of_confident(exercise: Confident) -> Iterator[str]:
    if exercise.judged(..., 0.5, 0).status != "not attempted":
        yield f"{exercise.name}: … is an attempt."
    if isinstance(exercise, Estimate):
        right: Any = float(exercise.oracle())
        wrong = {mutant.name: float(mutant.answer()) for mutant in exercise.mutants}
        wrong_any: Any = right + 2 * exercise.within + 1
    else:
        assert isinstance(exercise, Choice)
        right = next(option.text for option in exercise.options if option.right)
        wrong = {option.text: option.text for option in exercise.options if not option.right}  # type: ignore[misc]
        wrong_any = next(iter(wrong))
    if (found := exercise.settled(right, 1.0)).status != "passed" or found.score != 0:
        yield f"{exercise.name}: the right answer {right!r} is {found.status}: {found.said}"
    if (found := exercise.settled(wrong_any, 1.0)).status != "wrong" or found.score != 1:
        yield f"{exercise.name}: {wrong_any!r} is {found.status}: {found.said}"
    for name, answer in wrong.items():
        if (found := exercise.settled(answer, 0.5)).misconception != name:
            yield f"{exercise.name}: {name!r}, {answer!r}, is {found.status}, {found.misconception!r}"
    if exercise.judged(right, None, 0).status != "error" or exercise.judged(right, 1.5, 0).status != "error":
        yield f"{exercise.name}: an answer without a confidence from 0 to 1 counts."
