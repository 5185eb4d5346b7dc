"""What a check says of right answers, of wrong ones, and of functions that misbehave."""

from __future__ import annotations

import contextlib
import random
import re
import sys
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from course.samples import MUTANTS, choice, draw, estimate, function, in_view, over_columns, share
from hypothesis import given, settings
from hypothesis import strategies as st

import interpwidgets as iw
from interpwidgets.course import Mutant, close, exact, predicting, unordered
from interpwidgets.course.linting import problems
from interpwidgets.course.progress import events, standing
from interpwidgets.errors import InputError


def test_a_right_answer_passes_and_what_is_said_is_stable():
    exercise = function()
    said = {repr(exercise.check(lambda x: x / x.sum(-1, keepdims=True))) for _ in range(5)}
    assert said == {"✓ sample.share: passed. 20 of 20 checks on fresh inputs."}
    assert exercise.check(share)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_answer_that_was_foreseen_is_named(mutant):
    verdict = function().check(lambda x: torch.as_tensor(mutant.answer(x)))
    assert not verdict
    assert (verdict.status, verdict.misconception) == ("wrong", mutant.name)
    assert mutant.why in str(verdict)
    assert mutant.advice in str(verdict)


def test_any_other_wrong_answer_gets_the_smallest_counter_example_and_its_seed():
    exercise = function()
    verdict = exercise.check(lambda x: share(x) + 0.5 * (x.shape[0] > 2))
    assert verdict.status == "wrong"
    assert not verdict.misconception
    sizes = [x.size for (x,) in exercise.inputs(verdict.seed) if x.shape[0] > 2]
    assert verdict.example.arguments[0].size == min(sizes)
    np.testing.assert_allclose(verdict.example.got - verdict.example.expected, 0.5)
    seed = int(re.search(r"seed=(\d+)", str(verdict)).group(1))
    again = exercise.check(lambda x: share(x) + 0.5 * (x.shape[0] > 2), seed=seed)
    np.testing.assert_array_equal(again.example.arguments[0], verdict.example.arguments[0])


@pytest.mark.parametrize("stub", [..., None, lambda x: None, lambda x: ..., lambda x: NotImplemented])
def test_a_placeholder_is_not_attempted(stub):
    assert function().check(stub).status == "not attempted"


def test_an_error_is_shown_with_the_learners_lines_only():
    def mine(x):
        return np.linalg.inv(x)

    verdict = function().check(mine)
    assert verdict.status == "error"
    assert "LinAlgError" in verdict.said
    assert "return np.linalg.inv(x)" in verdict.frames
    assert "running.py" not in verdict.frames
    assert "numpy" not in verdict.frames.replace("np.linalg", "")


def test_an_error_on_some_inputs_says_on_how_many():
    def picky(x):
        if x.shape[0] == 2:
            raise ValueError("two is too few")
        return share(x)

    verdict = function().check(picky, seed=1)
    few = sum(x.shape[0] == 2 for (x,) in function().inputs(1))
    assert f"two is too few (on {few} of 20 inputs)" in verdict.said


@pytest.mark.parametrize("answer", [3, "share", [1]])
def test_what_is_no_function_is_asked_for_one(answer):
    verdict = function().check(answer)
    assert verdict.status == "error"
    assert "A function is wanted" in verdict.said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: share(x)[0], "is an array of shape"),
        (lambda x: share(x).tolist()[0], "is a list of"),
        (lambda x: "text", "is a text; expected an array"),
        (lambda x: x.shape, "is a tuple of 2"),
        (lambda x: 1.0, "is a number; expected an array"),
    ],
)
def test_a_wrong_type_or_shape_says_which_was_expected(answer, said):
    assert said in function().check(answer).said


def test_an_answer_may_exit_print_and_seed():
    def rude(x):
        print("x" * 10_000)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        torch.set_grad_enabled(False)
        return share(x)

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    following = random.Random(5).random(), np.random.RandomState(5).rand()
    assert function().check(rude)
    assert (random.random(), np.random.rand()) == following  # noqa: NPY002
    assert torch.is_grad_enabled()
    assert function().check(lambda x: sys.exit()).status == "error"


def test_a_loop_that_never_ends_ends():
    def forever(x):
        while True:
            with contextlib.suppress(Exception):
                x = x + 1

    verdict = function(seconds=0.2).check(forever)
    assert verdict.status == "error"
    assert "Not done after 0.2 s" in verdict.said


@pytest.mark.parametrize("tensors", [False, True])
def test_changing_the_input_is_no_pass(tensors):
    def drawn(rng):
        return (torch.as_tensor(draw(rng)[0]),) if tensors else draw(rng)

    def in_place(x):
        x /= x.sum(-1, keepdims=True)
        return x

    exercise = function(draw=drawn, oracle=lambda x: share(np.asarray(x)))
    assert exercise.check(in_place).misconception == "changes its input"
    assert exercise.check(lambda x: x / x.sum(-1, keepdims=True))


def test_what_a_view_selects_is_an_answer():
    view = iw.AttentionView(np.full((2, 4, 3, 3), 1 / 3), tokens=["a", "b", "c"])
    exercise = in_view()
    assert exercise.check(view).status == "not attempted"
    view.head = 2
    assert exercise.check(view)
    view.layer, view.head = 1, 1
    assert exercise.check(view).said == "layer 1, head 1 is not it."
    assert exercise.check(3).status == "error"


def test_a_text_in_a_view_is_quoted():
    exercise = in_view(reads=("text",), oracle=lambda: [("a b",)], mutants=[])
    assert exercise.check({"text": "a: b", "touched": ["text"]}).said == "text “a: b” is not it."


def test_a_selection_that_was_foreseen_is_named():
    assert in_view().check({"layer": 3, "head": 1, "touched": ["layer"]}).misconception == "swapped"


@given(st.floats(0, 1), st.sampled_from(["a", "b", "red", "blue", "B"]))
@settings(max_examples=30, deadline=None)
def test_a_choice_costs_what_brier_says(confidence, answer):
    verdict = choice().judged(answer, confidence, 0)
    right = answer.lower() in ("b", "blue")
    assert verdict.status == ("passed" if right else "wrong")
    assert verdict.score == pytest.approx((confidence - right) ** 2)


def test_an_estimate_is_right_within_its_bounds():
    assert estimate().check(0.44, confidence=0.9)
    assert estimate().check(0.46, confidence=0.9).status == "wrong"
    assert estimate().check(40, confidence=0.9).misconception == "in percent"
    assert estimate().check(..., confidence=0.9).status == "not attempted"


@pytest.mark.parametrize("answer", [-0.01, 1.5, 60])
def test_what_cannot_be_is_no_estimate(answer):
    exercise = estimate(later=True, between=(0, 1))
    assert exercise.check(answer, confidence=0.5).said == f"A number from 0 to 1 is wanted; got {answer}."
    assert exercise.check(0.3, confidence=0.5)
    assert standing(exercise).answer == 0.3


@pytest.mark.parametrize("confidence", [None, -0.1, 1.1, "sure", True])
def test_without_a_confidence_nothing_counts(confidence):
    assert "How sure are you" in choice().check("b", confidence=confidence).said


@pytest.mark.parametrize("answer", ["d", 3, "purple"])
def test_no_option_is_no_answer(answer):
    assert "One of a, b, c is wanted" in choice().check(answer, confidence=0.5).said


def test_a_prediction_is_written_down_and_judged_later():
    exercise = estimate(later=True)
    verdict = exercise.check(0.9, confidence=0.8)
    assert verdict.status == "recorded"
    assert "0.4" not in verdict.said
    kept = standing(exercise)
    assert (kept.answer, kept.confidence) == (0.9, 0.8)
    exercise.check(0.4, confidence=1.0)  # after the result was seen
    assert standing(exercise).answer == 0.9
    settled = exercise.settled(kept.answer, kept.confidence)
    assert settled.score == pytest.approx(0.64)
    assert "It is 0.4" in settled.said


def test_a_prediction_that_was_foreseen_is_told_the_number_too():
    said = estimate(later=True).settled(40.0, 0.5).said
    assert said.startswith("It is 0.4. That is in percent.")
    assert "0.4" not in estimate().settled(40.0, 0.5).said


def test_predictions_that_came_true_and_that_did_not_are_both_told(monkeypatch):
    right, wrong = estimate(later=True), choice(later=True)
    module = SimpleNamespace(exercises=[right, wrong, function()])
    monkeypatch.setattr(predicting, "lesson", lambda _: module)
    assert predicting.predictions("sample")._repr_html_().count("No prediction was given") == 2
    right.check(0.41, confidence=0.8)
    wrong.check("a", confidence=0.6)
    found = predicting.predictions("sample")
    assert found.score == pytest.approx((0.2**2 + 0.6**2) / 2)
    for text in (repr(found), found._repr_html_()):
        assert "It is 0.4." in text
        assert "It is not red." in text


def test_a_check_is_written_down():
    function().check(over_columns)
    (event,) = events()
    assert (event["exercise"], event["status"]) == ("sample.share", "wrong")
    assert event["misconception"] == "over the columns"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "Heads"}, "called module.name"),
        ({"hints": ("one", "two")}, "three hints"),
        ({"difficulty": 6}, "from 1 to 5"),
        ({"mutants": MUTANTS[:2]}, "three different wrong answers"),
        ({"solution": " "}, "title, minutes and solution"),
    ],
)
def test_a_half_made_exercise_is_refused(more, said):
    with pytest.raises(InputError, match=said):
        function(**more)


# The lints are only worth something if they fail --------------------------------------------------------------------


def test_a_good_exercise_has_no_problems():
    for exercise in (function(), in_view(), estimate(), choice()):
        assert problems(exercise, 20, solution=share) == []


CALLS = count(1)  # an oracle that counts is none


def narrow(rng):
    return (rng.uniform(0.5, 2, size=(1, 1)),)


@pytest.mark.parametrize(
    ("bad", "solution", "said"),
    [
        ({"draw": narrow}, share, "'over the columns' is passed"),
        ({"draw": narrow}, share, "the answer that was right once is passed"),
        ({"same": close(5.0)}, share, "the answer zero, in the right shape is passed"),
        ({"mutants": [*MUTANTS, Mutant("twin", over_columns, "You …", "…")]}, share, "taken for 'over the columns'"),
        ({"oracle": lambda x: x}, share, "the answer that is argument 0 is passed"),
        ({}, over_columns, "the lesson's solution is wrong"),
        ({"oracle": lambda x: share(x) + next(CALLS)}, share, "the oracle is wrong"),
    ],
)
def test_lints_notice(bad, solution, said):
    assert any(said in problem for problem in problems(function(**bad), 5, solution))


def test_lints_notice_in_other_kinds():
    assert any("no right answer" in each for each in problems(in_view(oracle=list)))
    right_after_all = Mutant("right after all", lambda: [(1, 3)], "…", "…")
    assert any("right after all" in each for each in problems(in_view(mutants=[right_after_all])))
    close_by = Mutant("close by", lambda: 0.41, "…", "…")
    assert any("close by" in each for each in problems(estimate(mutants=[close_by])))


# Comparisons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("same", "got", "expected", "said"),
    [
        (close(), [1.0, 2.0], np.array([1, 2]), ""),
        (close(), torch.tensor([1.0, 2.0]), [1, 2], ""),
        (close(), {"a": 1.00001}, {"a": 1.0}, ""),
        (close(), {"a": 1.0}, {"b": 1.0}, "has no key 'b'"),
        (close(), [np.ones(2), np.ones(3)], [np.ones(2), np.zeros(3)], "at [1] is 1 at [0]; expected 0"),
        (close(), np.nan, 1.0, "is nan; expected 1"),
        (close(), np.array([np.nan]), np.array([np.nan]), ""),
        (close(), True, 1.0, "is True; expected a number"),
        (close(), "a", "a", ""),
        (exact, (1, 2), [1, 2], "is a tuple of 2; expected a list of 2"),
        (exact, np.int64(3), 3, ""),
        (exact, True, 1, "is True; expected a number"),
        (unordered(), [(1, 0), (0, 2)], [(0, 2), (1, 0)], ""),
        (unordered(), {(0, 2)}, [(0, 2)], ""),
        (unordered(), [(0, 2), (0, 2)], [(0, 2)], "has (0, 2), which does not belong there"),
        (unordered(), [[0, 2]], [(0, 2), (1, 1)], "lacks (1, 1)"),
        (unordered(), "02", [(0, 2)], "is a text; expected a list or a set"),
        (unordered(), np.array([[0, 2]]), [(0, 2)], ""),
    ],
)
def test_comparisons(same, got, expected, said):
    assert same(got, expected) == said


class Hostile:
    def __array__(self, *_, **__):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


def test_an_answer_that_fights_back_is_wrong():
    verdict = function().check(lambda x: Hostile())
    assert verdict.status == "wrong"
    assert "is a Hostile" in verdict.said
    assert "Hostile" in str(verdict)


def test_a_misconception_is_named_through_a_second_mistake():
    """Over the wrong axis, and overflowing: the one is named, on an input that shows it."""

    def draw_scores(rng):
        return (rng.normal(size=(rng.integers(2, 5), rng.integers(5, 8))),)

    def softmax(scores):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    wrong = [Mutant("over the queries", lambda s: softmax(s.T).T, "Your columns sum to one.", "Which axis?")]
    wrong += [Mutant(f"no. {i}", lambda s, i=i: s * i, "You multiply.", "Do not.") for i in range(2)]
    exercise = function(draw=draw_scores, oracle=softmax, mutants=wrong, cases=[(np.array([[1000.0, 0.0]]),)])
    with np.errstate(all="ignore"):
        verdict = exercise.check(lambda s: np.exp(s) / np.exp(s).sum(0))
    assert verdict.misconception == "over the queries"
    assert np.isfinite(verdict.example.got).all()


def test_a_misconception_is_named_though_it_fails_on_some_inputs():
    """A wrong answer that raises on two rows, as foreseen: it is its misconception, not its error, that is said."""

    def picky(x):
        if x.shape[0] == 2:
            raise IndexError("too few")
        return x + 1

    exercise = function(mutants=[*MUTANTS, Mutant("adds one", picky, "You add one.", "Divide.")])
    assert exercise.check(picky).misconception == "adds one"
    verdict = exercise.check(lambda x: x.tolist()[9])
    assert verdict.status == "error"
