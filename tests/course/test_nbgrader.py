"""A teacher's day with nbgrader's own commands: release, collect, autograde, read the gradebook, give feedback."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from interpwidgets.course.build import learner
from interpwidgets.course.exporting import CONFIG, export_nbgrader
from interpwidgets.course.library import everything, lesson

pytest.importorskip("nbgrader")
pytestmark = pytest.mark.slow

NAME = "_example"
SCORES = """
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print(json.dumps({
        found.student.id: {grade.name: grade.score for notebook in found.notebooks for grade in notebook.grades}
        for found in book.assignment_submissions(sys.argv[1])
    }))
"""
STUBS = """
import json, sys
from nbformat import reads
from interpwidgets.course.exporting import nbgrader_source
from interpwidgets.course.library import everything
from interpwidgets.course.nbgrader import Stubs
released = {}
for each in everything():
    notebook, _ = Stubs().preprocess(reads(nbgrader_source(each), as_version=4), {})
    released |= {cell.id: cell.source for cell in notebook.cells if not cell.metadata.nbgrader.grade}
print(json.dumps(released))
"""
CHEAT = """
import interpwidgets.course as course, interpwidgets.course.verdict as verdict, numpy as np
verdict.Verdict.__bool__ = lambda self: True
np.isclose = lambda *a, **k: np.array(True)
def attention(scores):
    return scores
exercise("example.attention").check(attention)
exercise = lambda name: type("Sure", (), {"check": lambda self, *a, **k: True})()
"""


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def nbgrader(folder: Path, *command: str) -> None:
    run(folder, "-m", "nbgrader", *command, NAME)


def cells(path: Path) -> dict[str, dict]:
    return {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in json.loads(path.read_text("utf-8"))["cells"]}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A course, its lesson released, with a test of the teacher's own at its end."""
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    export_nbgrader(folder, [lesson("example")])
    source = folder / f"source/{NAME}/{NAME}.ipynb"
    notebook = json.loads(source.read_text("utf-8"))
    role = {**notebook["cells"][-1]["metadata"]["nbgrader"], "grade": True, "grade_id": "own", "points": 3}
    text = "assert abs(attention(np.zeros((2, 2))).sum() - 2) < 1e-6"
    notebook["cells"].append({**notebook["cells"][-1], "id": "own", "metadata": {"nbgrader": role}, "source": text})
    source.write_text(json.dumps(notebook), "utf-8")
    nbgrader(folder, "generate_assignment")
    return folder


def submit(folder: Path, who: str, **answers: str) -> Path:
    """The release with a learner's answers in place, under the cells' ids; without any, the solutions."""
    notebook = json.loads((folder / f"release/{NAME}/{NAME}.ipynb").read_text("utf-8"))
    solved = cells(folder / f"source/{NAME}/{NAME}.ipynb")
    for cell in notebook["cells"]:
        role = cell["metadata"]["nbgrader"]
        if role["solution"]:
            name = role["grade_id"]
            cell["source"] = answers.get(name.replace("-", "_"), "".join(solved[name]["source"]))
    path = folder / f"submitted/{who}/{NAME}/{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook), "utf-8")
    return path


def scores(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads(run(folder, "-c", SCORES, NAME))


FULL = {each.name.replace(".", "-"): each.difficulty for each in lesson("example").exercises}
WRONG = """def attention(scores):
    weights = np.exp(scores - scores.max(0))
    return weights / weights.sum(0)
exercise("example.attention").check(attention)"""


def test_the_release_is_the_learners_notebook_of_every_lesson(tmp_path):
    """But for answers that are given with the mouse: here they are written into the file."""
    shown = json.loads(run(tmp_path, "-c", STUBS))
    for each in everything():
        for cell, made in zip(each.cells, json.loads(learner(each))["cells"], strict=True):
            release = shown[made["id"]]
            if release.startswith("# What counts is written here"):
                assert not [line for line in cell.cut if line in release]
            else:
                assert release == "".join(made["source"])


def test_a_release_shows_no_solution_and_begins_with_what_to_know(released):
    text = (released / f"release/{NAME}/{NAME}.ipynb").read_text("utf-8")
    assert "BEGIN SOLUTION" not in text
    assert "raise NotImplementedError" in text
    first = json.loads(text)["cells"][0]
    assert "on inputs that nobody has seen" in "".join(first["source"])
    for each in json.loads(text)["cells"]:
        assert each["metadata"].get("editable", True) == each["metadata"]["nbgrader"]["solution"]


def test_points_are_what_our_checks_say(released):
    """Everything right; nothing done; one answer wrong; a cheat; a kernel that ends; a test that is deleted."""
    submit(released, "right")
    nothing = released / f"submitted/nothing/{NAME}/{NAME}.ipynb"
    nothing.parent.mkdir(parents=True)
    nothing.write_text((released / f"release/{NAME}/{NAME}.ipynb").read_text("utf-8"), "utf-8")
    submit(released, "wrong", example_05=WRONG)
    submit(released, "cheat", example_05=CHEAT)
    submit(released, "ends", example_03="import os; os._exit(0)", example_05="while True print('no Python')")
    path = submit(released, "deletes")
    kept = json.loads(path.read_text("utf-8"))
    kept["cells"] = [each for each in kept["cells"] if each["metadata"]["nbgrader"]["grade_id"] != "example-attention"]
    path.write_text(json.dumps(kept), "utf-8")

    nbgrader(released, "autograde")
    found = scores(released)
    own = {who: each.pop("own") for who, each in found.items()}
    assert own == {"right": 3, "deletes": 3, "wrong": 3, "cheat": 0, "ends": 0, "nothing": 0}
    assert found["right"] == found["deletes"] == FULL
    assert found["nothing"] == dict.fromkeys(FULL, 0)
    assert found["wrong"] == {**FULL, "example-attention": 0}
    assert found["cheat"] == dict.fromkeys(FULL, 0) | {"example-share": FULL["example-share"]}
    assert found["ends"] == {**FULL, "example-attention": 0, "example-share": 0}

    run(released, "-m", "nbgrader", "export", "--to", "grades.csv")
    with (released / "grades.csv").open(encoding="utf-8") as file:
        totals = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    most = sum(FULL.values()) + 3
    assert totals["right"] == (most, most)
    assert totals["wrong"] == (most - FULL["example-attention"], most)

    nbgrader(released, "generate_feedback")
    told = {who: feedback(released, who) for who in ("wrong", "ends", "nothing")}
    assert "✗ example.attention: wrong." in told["wrong"]
    assert "you share each key among the queries" in told["wrong"]
    assert "✓ example.previous: passed." in told["wrong"]
    assert "It ended the process (status 0)" in told["ends"]
    assert "SyntaxError" in told["ends"]
    assert "○ example.attention: not attempted" in told["nothing"]


def feedback(folder: Path, who: str) -> str:
    page = (folder / f"feedback/{who}/{NAME}/{NAME}.html").read_text("utf-8")
    return unescape(re.sub("<[^>]+>", "", page))


def test_without_our_configuration_a_wrong_answer_is_worth_nothing_either(tmp_path):
    """nbgrader as it comes: it runs the tests in the learner's kernel, unprotected, and they still tell."""
    folder = tmp_path / "course"
    export_nbgrader(folder, [lesson("example")])
    config = folder / "nbgrader_config.py"
    config.write_text(config.read_text("utf-8").replace(CONFIG, ""), "utf-8")
    nbgrader(folder, "generate_assignment")
    submit(folder, "wrong", example_05=WRONG)
    nbgrader(folder, "autograde")
    assert scores(folder) == {"wrong": {**FULL, "example-attention": 0}}
