"""One source a lesson: what the learner sees of it, what is solved, and what is refused."""

from __future__ import annotations

import json

import pytest

from interpwidgets.course import build
from interpwidgets.course.build import learner, lint, main, page, solved
from interpwidgets.course.library import Lesson
from interpwidgets.course.source import percent, read_cells
from interpwidgets.errors import InputError

SOURCE = '''# %% [markdown] minutes=20
# # Heads
#
# What do they do? `<script>` is text.

# %% tags=["skip-publish"]
from interpwidgets.course import exercise

print("two", 2)
# -> two 2

# %% [markdown]
# Write it.


# %%
def share(x):
    """Rows that sum to one."""
    # >>> solution
    total = x.sum(-1, keepdims=True)
    return x / total
    # <<< solution


# >>> solution: answer = ...
answer = "the quick brown fox"
# <<< solution
exercise("sample.share").check(share)
'''
EXERCISES = "from course.samples import function\n\nshare = function()\n"


def write(folder, source=SOURCE, exercises=EXERCISES):
    made = folder / "07_sample"
    made.mkdir()
    (made / "lesson.py").write_text(source)
    (made / "exercises.py").write_text(exercises)
    return Lesson(made)


def code(text):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def test_solutions_are_in_one_notebook_and_placeholders_in_the_other(tmp_path):
    lesson = write(tmp_path)
    assert lint(lesson) == []
    mine, theirs = code(learner(lesson))[1], code(solved(lesson))[1]
    assert mine == (
        'def share(x):\n    """Rows that sum to one."""\n    raise NotImplementedError\n\n\n'
        'answer = ...\nexercise("sample.share").check(share)'
    )
    assert "raise NotImplementedError" not in theirs
    assert "return x / total" in theirs
    assert "solution" not in theirs


def test_what_a_cell_prints_is_known_in_the_solved_notebook_only(tmp_path):
    lesson = write(tmp_path)
    cell = json.loads(solved(lesson))["cells"][1]
    assert cell["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["two 2\n"]}]
    assert cell["execution_count"] == 1
    assert cell["metadata"]["tags"] == ["skip-publish", "nbval-check-output"]
    bare = json.loads(learner(lesson))["cells"][1]
    assert (bare["outputs"], bare["execution_count"]) == ([], None)
    assert "-> two" not in "".join(bare["source"])


def test_the_page_has_code_of_the_learner_and_folds_the_rest(tmp_path):
    text = page(write(tmp_path))
    assert text.startswith("# Heads\n\nWhat do they do? `<script>` is text.")
    assert "raise NotImplementedError" in text
    before, _, after = text.partition("<details><summary>Solution</summary>")
    assert "return x / total" not in before
    assert "return x / total" in after
    assert text.count("<details>") == 4


def test_cells_know_their_exercises_and_the_lesson_its_length(tmp_path):
    lesson = write(tmp_path)
    assert [cell.checks for cell in lesson.cells] == [[], [], [], ["sample.share"]]
    assert (lesson.title, lesson.minutes, lesson.number, lesson.name) == ("Heads", 20, "07", "sample")
    again = tmp_path / "again.py"
    again.write_text(percent(lesson.cells))
    assert [cell.source for cell in read_cells(again)] == [
        cell.source if cell.kind == "markdown" else cell.stub for cell in lesson.cells
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('exercise("sample.share").check(share)', "share"), "nothing is checked"),
        (("sample.share", "sample.shore"), "there is no exercise 'sample.shore'"),
        (("# Write it.", "# Write it: total = x.sum(-1, keepdims=True)"), "shows a line of the solution"),
        (('print("two", 2)', "!pip install torch"), "has no place in a lesson"),
        (('print("two", 2)', 'open("https://example.org")'), "has no place in a lesson"),
        (("# # Heads", "# Heads"), "starts with prose"),
        (("    # >>> solution\n", ""), "out of turn"),
        (("    # <<< solution\n\n", "\n"), "out of turn"),
        (("    # >>> solution\n", "    # >>> solutions\n"), "is no mark of a solution"),
        (('tags=["skip-publish"]', "tags=skip"), "metadata is key=JSON"),
        (("# What do they do?", "What do they do?"), "a line of prose starts with #"),
        (("# %% [markdown] minutes=20\n", ""), "a lesson starts with a cell"),
    ],
)
def test_what_is_wrong_with_a_lesson_is_said(tmp_path, change, said):
    assert change[0] in SOURCE
    lesson = write(tmp_path, SOURCE.replace(*change, 1))
    try:
        problems = lint(lesson)
    except InputError as error:
        problems = [str(error)]
    assert any(said in problem for problem in problems), problems


def test_a_check_without_a_solution_is_noticed(tmp_path):
    source = SOURCE.replace("    # >>> solution\n", "").replace("    # <<< solution\n", "")
    source = source.replace("# >>> solution: answer = ...\n", "").replace("# <<< solution\n", "")
    assert any("no “# >>> solution” stands before it" in problem for problem in lint(write(tmp_path, source)))


def test_notebooks_beside_the_source_are_noticed(tmp_path):
    lesson = write(tmp_path)
    (lesson.folder / "sample.ipynb").write_text("{}")
    assert any("is not kept in git" in problem for problem in lint(lesson))


def test_exercises_are_called_after_their_lesson_and_once(tmp_path):
    other = write(tmp_path, exercises='from course.samples import function\nshare = function("tails.share")\n')
    with pytest.raises(InputError, match="its exercises are called sample"):
        _ = other.exercises
    (other.folder / "exercises.py").write_text("from course.samples import function\na, b = function(), function()\n")
    with pytest.raises(InputError, match="two exercises are called"):
        _ = Lesson(other.folder).exercises


def test_the_builder_writes_the_same_bytes_and_fails_on_a_bad_lesson(tmp_path, monkeypatch, capsys):
    lesson = write(tmp_path)
    monkeypatch.setattr(build, "lesson", lambda name: lesson)
    assert main(["07", "--out", str(tmp_path / "one")]) == 0
    assert main(["07", "--out", str(tmp_path / "two")]) == 0
    names = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*.*"))
    assert names == ["learner/07_sample.ipynb", "pages/07_sample.md", "solved/07_sample.ipynb"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(build, "lint", lambda which: ["it is wrong"])
    assert main(["07", "--out", str(tmp_path / "three")]) == 1
    assert "it is wrong" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
