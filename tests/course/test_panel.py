"""The verdict as a widget: the same as its text, hints one by one, a picture where an exercise draws one."""

from __future__ import annotations

import numpy as np
import pytest
from course.samples import choice, estimate, function, in_view, over_columns, share

import interpwidgets as iw
from interpwidgets.course import Mutant
from interpwidgets.course.panel import VerdictView, shown
from interpwidgets.course.progress import events, standing


def test_a_notebook_gets_a_widget_and_the_same_text():
    verdict = function().check(over_columns)
    data = verdict._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(verdict)
    assert "Your columns sum to one." in data["text/html"]


def test_hostile_answers_are_text():
    bad = "<img src=x onerror=alert(1)>"
    view = VerdictView(function().check(lambda x: bad))
    assert bad not in view.still()
    assert "&lt;img" in view.still()


def test_hints_open_one_by_one_are_written_down_and_stay():
    exercise = function()
    view = VerdictView(exercise.check(over_columns))
    assert (view.hints, view.solution) == ([], {})
    for _ in range(4):
        view._receive(view, {"hint": True}, [])
    assert view.hints == list(exercise.hints)
    view._receive(view, {"solution": True}, [])
    assert view.solution == {"code": "", "why": exercise.solution}
    now = standing(exercise)
    assert (now.hints, now.solution) == (3, True)
    assert VerdictView(exercise.check(over_columns)).hints == list(exercise.hints)
    assert VerdictView(exercise.check(share)).hints == []


def test_inputs_have_the_names_that_they_have_in_the_lesson():
    three = [Mutant(f"no. {i}", lambda rows, by, i=i: rows * (by + i), "You …", "…") for i in (1, 2, 3)]
    scaled = function(draw=lambda rng: (rng.normal(size=3), 2.5), oracle=lambda rows, by: rows * by, mutants=three)
    view = VerdictView(scaled.check(lambda a, b: a))
    assert [name for name, _ in view.verdict["example"]] == ["rows", "by", "got", "expected"]
    assert "  by 2.5" in str(view)


def test_the_module_goes_along():
    view = VerdictView(function().check(share))
    assert view.module["exercises"][0]["state"] == "passed"


def test_a_counter_example_is_drawn_by_the_exercise():
    def drawn(example):
        return iw.AttentionView(example.arguments[0][None, None], tokens=list("abcdefgh"[: len(example.got)]))

    square = function(draw=lambda rng: (rng.uniform(0.5, 2, size=(3, 3)),), drawn=drawn)
    board = shown(square.check(lambda x: share(x) + 1))
    assert [type(view).__name__ for view in board.views] == ["VerdictView", "AttentionView"]
    assert isinstance(shown(square.check(share)), VerdictView)
    broken = function(drawn=lambda example: 1 / 0)
    assert isinstance(shown(broken.check(lambda x: np.zeros(1))), VerdictView)


def test_a_verdict_is_a_page_and_a_picture(tmp_path):
    view = VerdictView(function().check(over_columns))
    assert "over the columns" in view.save_html(tmp_path / "verdict.html").read_text("utf-8")
    assert "Your columns sum to one." in view.save_svg(tmp_path / "verdict.svg").read_text("utf-8")
    assert view.save_png(tmp_path / "verdict.png").stat().st_size > 1000


def test_a_question_is_answered_in_the_view_and_asked_once():
    exercise = choice()
    view = VerdictView(exercise.check())
    assert view.form["options"][1] == ["b", "blue"]
    assert not view.form["later"]
    for answer, confidence, status in [("a", 0.6, "wrong"), ("b", None, "error"), ("b", 0.9, "passed")]:
        view.answer, view.confidence = answer, confidence
        view._receive(view, {"submit": True}, [])
        assert view.verdict["status"] == status
    assert view._submitted == 3
    assert view.module["exercises"][0]["state"] == "passed"
    assert "It is." in str(view)
    again = VerdictView(exercise.check())
    assert (again.answer, again.confidence, again.verdict["status"]) == ("b", 0.9, "passed")
    assert [event["status"] for event in events()] == ["not attempted", "wrong", "error", "passed", "not attempted"]


def test_a_prediction_made_in_the_view_is_the_first_one():
    exercise = estimate(later=True)
    view = VerdictView(exercise.check())
    for answer in (0.9, 0.4):
        view.answer, view.confidence = answer, 0.8
        view.submit()
    again = VerdictView(exercise.check())
    assert (again.answer, again.verdict["status"]) == (0.9, "recorded")
    assert again.form["later"]


@pytest.mark.parametrize("kind", [function, in_view])
def test_what_is_no_question_has_no_form(kind):
    assert VerdictView(kind().check()).form is None


def test_where_no_widget_runs_a_question_is_text():
    text = str(choice().check())
    assert "check(" in text
    assert [line for line in text.splitlines() if line.startswith("  ")] == ["  a  red", "  b  blue", "  c  green"]
    assert "right to within 0.05" in str(estimate().check())
