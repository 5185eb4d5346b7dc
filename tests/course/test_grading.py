"""Graded runs: whatever a notebook does, it ends in a verdict, and what is right cannot be looked up."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from interpwidgets.course.build import learner, solved
from interpwidgets.course.grading import grade
from interpwidgets.course.library import lesson, lessons, root
from interpwidgets.course.running import Ran
from interpwidgets.course.wire import Other, decode, encode, pack, ran_from, ran_to, unpack
from interpwidgets.errors import InputError

HEAD = "import numpy as np\nimport interpwidgets as iw\nfrom interpwidgets.course import exercise, predictions"
RIGHT = """def attention(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
exercise("example.attention").check(attention)"""
STUBBORN = """def previous(model):
    while True:
        try:
            while True: pass
        except BaseException: pass
exercise("example.previous").check(previous)"""
CHOICE = 'exercise("example.meaning").check("b", confidence=1.0)'


def notebook(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (HEAD, *cells)])
    path.write_text(nbformat.writes(made))
    return path


def grades(path: Path, **how) -> dict[str, tuple[str, str]]:
    return {each.exercise: (each.status, each.said) for each in grade(path, **how).grades}


def test_the_solved_notebook_passes_and_the_learners_is_not_attempted(tmp_path):
    (tmp_path / "mine.ipynb").write_text(solved(lesson("example")))
    report = grade(tmp_path / "mine.ipynb")
    assert {each.status for each in report.grades} == {"passed", "recorded"}
    assert json.loads(report.to_json())["passed"] == len(report.grades) == 5
    assert "5 of 5 exercises (mine.ipynb)" in str(report)
    (tmp_path / "mine.ipynb").write_text(learner(lesson("example")))
    assert {each.status for each in grade(tmp_path / "mine.ipynb").grades} == {"not attempted"}


@pytest.mark.slow
@pytest.mark.parametrize("which", lessons(), ids=lambda which: which.folder.name)
def test_every_solution_of_every_lesson_passes_when_graded(tmp_path, which):
    (tmp_path / "mine.ipynb").write_text(solved(which))
    report = grade(tmp_path / "mine.ipynb")
    assert [each for each in report.grades if each.status not in ("passed", "recorded")] == []
    assert report.failed == ()
    assert report.passed == len(which.exercises)


def test_many_troubles_in_one_notebook_cost_only_themselves(tmp_path):
    """Loops, exits and errors in cells; each of the other exercises still gets its verdict."""
    path = notebook(
        tmp_path / "trouble.ipynb",
        "raise SystemExit",
        "import os; os._exit(3)",
        "while True: pass",
        "undefined_name",
        STUBBORN,
        RIGHT,
        "print('x' * 50_000_000)",
        CHOICE,
        "exercise('example.gone').check(1)",
    )
    before = path.read_bytes()
    report = grade(path, seconds=8)
    found = {each.exercise: each.status for each in report.grades}
    assert found["example.attention"] == "passed"
    assert found["example.meaning"] == "passed"
    assert found["example.previous"] == "error"
    assert found["example.share"] == "not attempted"
    assert found["example.gone"] == "unknown"
    said = "\n".join(report.failed)
    assert "Cell 2: SystemExit" in said
    assert "Cell 3: It ended the process (status 3)" in said
    assert "Cell 4: Not done after 8 s." in said
    assert "Cell 5: NameError" in said
    assert path.read_bytes() == before


CHEAT = """
import interpwidgets.course as course, interpwidgets.course.running as running, interpwidgets.course.verdict as v
import numpy as np, sys, os, builtins, gc
v.Verdict.__bool__ = lambda self: True
np.isclose = lambda *a, **k: np.array(True)
def look_up(scores):
    frame = sys._getframe()
    while frame is not None:   # the oracle would stand on the stack of an in-process check
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if getattr(value, "__name__", "") == "softmax" or hasattr(value, "oracle"):
                return (value.oracle if hasattr(value, "oracle") else value)(scores)
        frame = frame.f_back
    for value in gc.get_objects():
        if type(value).__name__ == "Function":
            return value.oracle(scores)
    from interpwidgets.course.library import exercise as real, everything
    for attempt in (
        lambda: next(e for l in everything() for e in l.exercises if e.name == "example.attention").oracle(scores),
        lambda: open(ROOT + "/_example/exercises.py").read() and 1 / 0,
        lambda: os.open(ROOT + "/_example/lesson.py", os.O_RDONLY) and 1 / 0,
        lambda: os.open("_example/lesson.py", os.O_RDONLY, dir_fd=os.open(ROOT + "/..", os.O_RDONLY)) and 1 / 0,
        lambda: open(f"/proc/{os.getppid()}/mem", "rb") and 1 / 0,
        lambda: os.symlink(ROOT, "there") or open("there/_example/lesson.py") and 1 / 0,
        lambda: os.system("cp -r " + ROOT + " .") or 1 / 0,
        lambda: os.fork() or 1 / 0,
        lambda: __import__("subprocess").run(["cat", ROOT + "/_example/lesson.py"]) and 1 / 0,
    ):
        try:
            return attempt()
        except ZeroDivisionError:
            raise RuntimeError("THE FENCE IS OPEN: " + str(attempt.__code__.co_firstlineno))
        except Exception:
            pass
    return np.zeros_like(scores)
exercise("example.attention").check(look_up)
"""


def test_what_is_right_cannot_be_looked_up_and_patches_do_nothing(tmp_path):
    path = notebook(tmp_path / "cheat.ipynb", CHEAT.replace("ROOT", repr(str(root()))), CHOICE)
    found = grades(path)
    assert found["example.attention"][0] == "wrong", found
    assert found["example.meaning"][0] == "passed"


def test_nothing_of_the_learners_is_changed_or_lost(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "helper.py").write_text("FACTOR = 1\n")
    (mine / "thesis.txt").write_text("years of work")
    damage = f"""
import os, shutil, pathlib
from helper import FACTOR
here = pathlib.Path({str(mine)!r})
for attempt in (
    lambda: (here / "thesis.txt").unlink(),
    lambda: (here / "thesis.txt").write_text("gone"),
    lambda: open(here / "thesis.txt", "r+").write("gone"),
    lambda: (here / "thesis.txt").rename("thesis.txt"),
    lambda: shutil.rmtree(here),
    lambda: os.truncate(here / "thesis.txt", 0),
    lambda: os.replace(__file__ if "__file__" in globals() else "x", here / "thesis.txt"),
    lambda: (here / "new.txt").write_text("more"),
    lambda: os.kill(os.getppid(), 9),
):
    try:
        attempt()
    except Exception:
        pass
open("scratch.txt", "w").write("this is fine")
"""
    path = notebook(mine / "damage.ipynb", damage, RIGHT)
    report = grade(path)
    assert {each.exercise: each.status for each in report.grades}["example.attention"] == "passed"
    assert report.failed == ()
    assert {each.name for each in mine.iterdir()} == {"helper.py", "thesis.txt", "damage.ipynb"}
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_memory_and_outputs_are_limited(tmp_path):
    path = notebook(
        tmp_path / "greedy.ipynb",
        "x = bytearray(6 << 30)",
        "def attention(scores):\n    return np.zeros((3000, 3000))\nexercise('example.attention').check(attention)",
        "exercise('example.meaning').check('b' * 100_000_000, confidence=1.0)",
    )
    report = grade(path, memory=1500)
    found = {each.exercise: each.status for each in report.grades}
    assert "MemoryError" in "\n".join(report.failed)
    assert found["example.attention"] in ("error", "wrong")
    assert found["example.meaning"] == "error"


def test_the_same_salt_draws_the_same(tmp_path):
    wrong = RIGHT.replace("return weights /", "return 2 * weights /")
    path = notebook(tmp_path / "wrong.ipynb", wrong)
    one = grade(path)
    assert grade(path, salt=one.salt).grades == one.grades


@pytest.mark.parametrize("text", ["no json", "{}", '{"cells": 3}', "[]"])
def test_what_is_no_notebook_is_refused(tmp_path, text):
    (tmp_path / "bad.ipynb").write_text(text)
    with pytest.raises(InputError, match="is no notebook"):
        grade(tmp_path / "bad.ipynb")
    with pytest.raises(InputError, match="There is no notebook"):
        grade(tmp_path / "none.ipynb")


# What travels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "a", [1, (2, {"x": {3}})], {(0, 1): "b"}, frozenset([1]), ..., float("inf")],
)
def test_a_value_comes_back_as_it_was(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value


def test_arrays_come_back_as_they_were():
    rng = np.random.default_rng()
    for value in (rng.normal(size=(2, 3)), rng.integers(0, 9, size=(0, 3)), np.float32(3), np.array([True]), 1 + 2j):
        np.testing.assert_array_equal(decode(json.loads(json.dumps(encode(value)))), value)
    tensor = torch.randn(3, 2).T.requires_grad_()
    np.testing.assert_array_equal(decode(encode(tensor)), tensor.detach().numpy())


def test_nothing_that_runs_comes_back():
    class Sly:
        def __reduce__(self):
            return os.system, ("true",)

    assert isinstance(decode(encode(Sly())), Other)
    assert isinstance(decode(encode(np.array([Sly()]))), Other)
    for said in ({"array": "", "dtype": "O", "shape": [1]}, {"what": 1}, {"list": 3}, {"array": "AAAA"}):
        with pytest.raises(ValueError):  # noqa: PT011  of several kinds
            decode(said)
    with pytest.raises(ValueError, match="no account"):
        ran_from({"value": 1})
    ran = Ran(np.ones(2), error="", attempted=True, changed=True)
    assert ran_from(json.loads(json.dumps(ran_to(ran)))).changed


def test_a_lessons_own_object_travels_and_the_lesson_does_not(tmp_path):
    source = """
class Team:
    def __init__(self, scores):
        self.scores = scores
    def __call__(self, kept):
        return sum(self.scores[part] for part in kept)
def oracle(team):
    return 42
"""
    (tmp_path / "exercises.py").write_text(source)
    name = "interpwidgets_course_99_team"
    spec = importlib.util.spec_from_file_location(name, tmp_path / "exercises.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        packed = pack((module.Team({"a": 2, "b": 3}), frozenset("ab")))
    finally:
        del sys.modules[name]  # as in the process that answers
    team, kept = unpack(packed)
    assert team(kept) == 5
    assert b"42" not in packed


def test_a_model_travels():
    import interpwidgets as iw
    from interpwidgets.course import relabelled

    model = relabelled(iw.load("induction-2l"), np.random.default_rng(0))
    ids = torch.arange(8, 20)[None]
    (again,) = unpack(pack((model,)))
    torch.testing.assert_close(again.module(ids).logits, model.module(ids).logits)
