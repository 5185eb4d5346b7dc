"""The source of a course for nbgrader: roles, ids and points, from the one source of each lesson."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from interpwidgets.cli import main
from interpwidgets.course.build import learner
from interpwidgets.course.collecting import collect
from interpwidgets.course.exporting import CONFIG, nbgrader_source
from interpwidgets.course.library import Lesson, everything, lesson
from interpwidgets.errors import InputError

of_lessons = pytest.mark.parametrize("which", everything(), ids=lambda which: which.folder.name)


def cells(which: Lesson) -> list:
    notebook = nbformat.reads(nbgrader_source(which), as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


@of_lessons
def test_every_exercise_has_one_test_worth_its_difficulty(which):
    roles = [cell.metadata.nbgrader for cell in cells(which)]
    assert len({role.grade_id for role in roles}) == len(roles)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", role.grade_id) for role in roles)  # what nbgrader takes for an id
    points = {role.grade_id: role.points for role in roles if role.grade}
    assert points == {each.name.replace(".", "-"): each.difficulty for each in which.exercises}


@of_lessons
def test_what_is_no_solution_is_read_only_and_nothing_of_the_lesson_is_lost(which):
    made = cells(which)
    assert all(cell.metadata.nbgrader.locked != cell.metadata.nbgrader.solution for cell in made)
    given = [cell for cell in made if not cell.metadata.nbgrader.grade]
    theirs = nbformat.reads(learner(which), as_version=4).cells
    assert [cell.id for cell in given] == [cell.id for cell in theirs]
    for mine, other in zip(given, theirs, strict=True):
        assert mine.metadata.nbgrader.solution or mine.source == other.source


def test_a_test_follows_its_solution_and_hands_in_the_same():
    made = cells(lesson("example"))
    code = [cell for cell in made if cell.cell_type == "code"]
    given, failed = collect([cell.source for cell in code])
    assert set(given) == {each.name for each in lesson("example").exercises}
    assert len(failed) == 5  # nobody is there to judge: each test asserts nothing
    assert given["example.share"].answer == 0.95
    for cell in made:
        if cell.metadata.nbgrader.grade:
            before = made[made.index(cell) - 1]
            assert before.metadata.nbgrader.solution
            assert cell.source.splitlines()[1].removeprefix("verdict = ") in before.source


def test_what_is_answered_with_the_mouse_is_written_down_here():
    made = {cell.metadata.nbgrader.grade_id: cell.source for cell in cells(lesson("example"))}
    names = list(made)
    clicked, said = (made[names[names.index(test) - 1]] for test in ("example-look", "example-meaning"))
    assert clicked.splitlines()[0] == "# What counts is written here: view.layer, view.head = …"
    assert said.splitlines() == [
        "# What counts is written here: your answer, and how sure you are, from 0 to 1",
        "### BEGIN SOLUTION: answer, sure = ..., ...",
        "answer, sure = 'b', 0.9",
        "### END SOLUTION",
        'exercise("example.meaning").check(answer, confidence=sure)',
    ]


def test_the_command_writes_a_course_and_keeps_what_a_teacher_changed(tmp_path, capsys):
    folder = tmp_path / "course"
    assert main(["export", "--nbgrader", str(folder), "example", "00"]) == 0
    assert "4 files written" in capsys.readouterr().out
    notebook = folder / "source/_example/_example.ipynb"
    assert notebook.read_text() == nbgrader_source(lesson("example"))
    config = folder / "nbgrader_config.py"
    assert CONFIG in config.read_text()
    assert main(["export", "--nbgrader", str(folder)]) == 0  # all lessons; what is there already stays
    said = capsys.readouterr().out
    assert "is kept" not in said
    changed = json.loads(notebook.read_text())
    changed["cells"][1]["source"] = "mine = 1"
    notebook.write_text(json.dumps(changed))
    config.write_text("c = get_config()\n")
    assert main(["export", "--nbgrader", str(folder), "example"]) == 0
    said = capsys.readouterr().out
    assert f"{notebook} is kept" in said
    assert f"once it ends with these lines:\n{CONFIG}" in said
    assert "mine = 1" in notebook.read_text()
    assert config.read_text() == "c = get_config()\n"


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    (tmp_path / "course").write_text("in the way")
    assert main(["export", "--nbgrader", str(tmp_path / "course"), "example"]) == 1
    assert "The course cannot be written into" in capsys.readouterr().err
    assert main(["export", "--nbgrader", str(tmp_path / "other"), "99"]) == 1
    assert "There is no lesson '99'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_exercise_without_a_line_of_its_own_is_refused(tmp_path):
    folder = tmp_path / "_example"
    folder.mkdir()
    source = lesson("example").folder
    for name in ("lesson.py", "exercises.py"):
        text = (source / name).read_text("utf-8")
        (folder / name).write_text(text.replace('exercise("example.look").check', 'x = exercise("example.look").check'))
    with pytest.raises(InputError, match=r"example\.look has no line of its own"):
        nbgrader_source(Lesson(folder))
