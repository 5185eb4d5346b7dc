"""Every lesson builds, and every exercise of every lesson holds to what a good exercise does."""

from __future__ import annotations

import nbformat
import pytest

from interpwidgets.course.build import learner, lint, page, solved
from interpwidgets.course.collecting import collect
from interpwidgets.course.library import Lesson, everything
from interpwidgets.course.linting import problems

LESSONS = everything()
EXERCISES = [(lesson, each) for lesson in LESSONS for each in lesson.exercises]
of_lessons = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.folder.name)
_answers: dict[str, dict] = {}


def answers(lesson: Lesson) -> dict:
    """What the solved notebook hands in."""
    if lesson.name not in _answers:
        given, failed = collect([cell.solved for cell in lesson.cells if cell.kind == "code"])
        assert failed == []
        _answers[lesson.name] = given
    return _answers[lesson.name]


@of_lessons
def test_a_lesson_has_nothing_against_it(lesson):
    assert lint(lesson) == []


@of_lessons
def test_notebooks_are_notebooks_and_the_same_each_time(lesson):
    for made in (learner, solved):
        text = made(lesson)
        nbformat.validate(nbformat.reads(text, as_version=4))
        assert made(Lesson(lesson.folder)) == text
    assert page(Lesson(lesson.folder)) == page(lesson)


@pytest.mark.filterwarnings("ignore")  # what a wrong answer divides by is its own affair
@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES, ids=lambda each: getattr(each, "name", ""))
def test_an_exercise_has_nothing_against_it(lesson, exercise):
    solution = answers(lesson)[exercise.name].answer
    assert problems(exercise, seeds=200, solution=solution) == []


@of_lessons
def test_the_solved_notebook_passes_all_and_the_learners_attempts_none(lesson):
    given = answers(lesson)
    for each in lesson.exercises:
        verdict = each.judged(given[each.name].answer, given[each.name].confidence, 7)
        assert verdict.status == ("recorded" if getattr(each, "later", False) else "passed"), verdict
    untouched, failed = collect([cell.stub for cell in lesson.cells if cell.kind == "code"])
    assert failed == []
    for each in lesson.exercises:
        verdict = each.judged(untouched[each.name].answer, untouched[each.name].confidence, 7)
        assert verdict.status == "not attempted", verdict


def test_prerequisites_exist():
    names = {each.name for _, each in EXERCISES}
    assert {before for _, each in EXERCISES for before in each.after} <= names
