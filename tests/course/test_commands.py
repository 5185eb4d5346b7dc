"""The course's commands, as a learner types them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from interpwidgets.cli import main
from interpwidgets.course import commands, doctor, grading, learning, watching
from interpwidgets.course.build import learner, solved
from interpwidgets.course.library import lesson
from interpwidgets.course.progress import events
from interpwidgets.course.source import percent
from interpwidgets.course.watching import Watch

EXAMPLE = lesson("example")


@pytest.fixture(autouse=True)
def course(monkeypatch, tmp_path):
    """A course of one lesson, and a folder to be in."""
    monkeypatch.setattr(learning, "lessons", lambda: (EXAMPLE,))
    monkeypatch.setattr(doctor, "lessons", lambda: (EXAMPLE,))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lessons_are_copied_once_and_never_written_over(course, capsys):
    assert main(["learn", "--no-lab"]) == 0
    mine = course / "interp-course/_example.ipynb"
    assert mine.read_text() == learner(EXAMPLE)
    assert f"next: {mine.relative_to(course)}" in capsys.readouterr().out
    changed = json.loads(mine.read_text())
    changed["cells"][1]["source"] = ["my = 'work'"]
    mine.write_text(json.dumps(changed))
    assert main(["learn", "--no-lab"]) == 0
    assert "my = 'work'" in mine.read_text()


def test_a_lesson_of_an_earlier_edition_is_kept_and_the_new_one_put_beside_it(course, capsys):
    main(["learn", "--no-lab"])
    mine = course / "interp-course/_example.ipynb"
    old = json.loads(mine.read_text())
    old["metadata"]["interpwidgets"]["edition"] = "00000000"
    mine.write_text(json.dumps(old))
    capsys.readouterr()
    main(["learn", "--no-lab"])
    assert "earlier edition; yours is kept" in capsys.readouterr().out
    main(["learn", "--no-lab", "--fresh"])
    assert (course / "interp-course/_example.new.ipynb").read_text() == learner(EXAMPLE)
    assert json.loads(mine.read_text()) == old


def test_a_new_edition_is_never_written_over_work_in_the_one_before(course):
    main(["learn", "--no-lab"])
    mine, new = course / "interp-course/_example.ipynb", course / "interp-course/_example.new.ipynb"
    for path in (mine, new):  # she worked in both, and the course has gone on twice
        old = json.loads(learner(EXAMPLE))
        old["metadata"]["interpwidgets"]["edition"] = f"of {path.name}"
        path.write_text(json.dumps(old))
    main(["learn", "--no-lab", "--fresh"])
    newest = course / "interp-course/_example.new-2.ipynb"
    assert newest.read_text() == learner(EXAMPLE)
    assert "of _example.new.ipynb" in new.read_text()
    newest.write_text(learner(EXAMPLE) + "\n")  # hers from now on
    main(["learn", "--no-lab", "--fresh"])
    assert newest.read_text() == learner(EXAMPLE) + "\n"
    assert len(list(newest.parent.iterdir())) == 3


@contextlib.contextmanager
def files_of_at_most(size):
    """A disk that fills up: a file that grows beyond `size` bytes is refused, as the system does it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", [["learn", "--no-lab"], ["check", "example"]])
def test_a_lesson_that_finds_no_room_is_not_there_by_half(course, capsys, command):
    with files_of_at_most(1000):
        status = main(command)
    assert status == 1
    assert "cannot be written into interp-course: File too large" in capsys.readouterr().err
    assert list((course / "interp-course").iterdir()) == []
    assert main(["learn", "--no-lab"]) == 0  # there is room again
    assert (course / "interp-course/_example.ipynb").read_text() == learner(EXAMPLE)


def test_jupyterlab_opens_the_next_lesson(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(commands.subprocess, "run", lambda command, *, env, **_: ran.append((command, env)) or Done())
    assert main(["learn"]) == 0
    ((command, env),) = ran
    assert command == [sys.executable, "-m", "jupyterlab", "interp-course/_example.ipynb"]
    assert env == os.environ | {"JUPYTER_CONFIG_PATH": str(learning.LAB)}
    monkeypatch.setattr(commands, "find_spec", lambda _: None)
    assert main(["learn"]) == 1
    assert 'pip install "interpwidgets[lab]"' in capsys.readouterr().err


@pytest.mark.parametrize(("hers", "expected"), [({}, "false"), ({"fetchNews": "true"}, "true")])
def test_jupyterlab_offers_no_news_unless_she_wants_them(monkeypatch, tmp_path, hers, expected):
    """As JupyterLab's own server reads its settings, with a configuration folder of hers beside ours."""
    lab = pytest.importorskip("jupyterlab.commands")
    settings = pytest.importorskip("jupyterlab_server.settings_utils")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path / "institute"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", learning.lab_environment()["JUPYTER_CONFIG_PATH"])
    plugin = "@jupyterlab/apputils-extension:notification"
    mine = tmp_path / f"{plugin.replace(':', '/')}.jupyterlab-settings"
    mine.parent.mkdir(parents=True)
    mine.write_text(json.dumps(hers))
    app = Path(lab.get_app_dir())
    overrides, _ = settings._get_overrides(str(app / "settings"))
    found, _ = settings.get_settings(str(app / "settings"), str(app / "schemas"), str(tmp_path), plugin, overrides)
    set_by_her = found["settings"].get("fetchNews")
    assert (set_by_her or found["schema"]["properties"]["fetchNews"]["default"]) == expected
    assert str(tmp_path / "institute") in os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)


class Done:
    returncode = 0


def test_a_folder_in_the_way_is_said(course, capsys):
    (course / "interp-course").write_text("a file")
    assert main(["learn", "--no-lab"]) == 1
    assert "Lessons cannot be written into interp-course" in capsys.readouterr().err


READ_ONLY = "/sys"  # where not even root may make a file


@pytest.mark.skipif(not Path(READ_ONLY).is_dir(), reason="needs a folder that nobody may write into")
def test_a_folder_that_is_read_only_is_said(course, capsys, monkeypatch):
    assert main(["learn", "--no-lab", "--folder", f"{READ_ONLY}/course"]) == 1
    assert f"Lessons cannot be written into {READ_ONLY}/course" in capsys.readouterr().err
    (course / "mine.ipynb").write_text(learner(EXAMPLE))
    monkeypatch.setattr(grading, "grade", lambda *_, **__: grading.Report("mine.ipynb", "salt", ()))
    assert main(["grade", "mine.ipynb", "--json", f"{READ_ONLY}/report.json"]) == 1
    assert "The report was not written" in capsys.readouterr().err
    monkeypatch.chdir(READ_ONLY)
    assert main(["check", "example"]) == 1
    assert "The lesson cannot be written into interp-course" in capsys.readouterr().err
    monkeypatch.setenv("INTERPWIDGETS_HOME", f"{READ_ONLY}/home")
    verdict = EXAMPLE.exercises[0].check(0.95, confidence=0.9)
    assert verdict.status == "recorded"
    assert "Your progress is not saved yet" in str(verdict)


def test_the_list_says_how_far_one_is(capsys):
    main(["learn", "--list"])
    said = capsys.readouterr().out
    assert "0 of 5  ← next" in said
    assert "Next: An example lesson, “How much of its attention" in said
    for each in EXAMPLE.exercises:
        learning_passed(each)
    main(["learn", "--list"])
    assert "All done." in capsys.readouterr().out


def test_a_long_title_is_cut_between_words(monkeypatch):
    monkeypatch.setattr(type(EXAMPLE), "title", "Heads: where they look, what they carry, and how they work together")
    assert "  Heads: where they look, what they carry, …   " in learning.overview()


def learning_passed(exercise):
    from interpwidgets.course.progress import append

    append("check", exercise, status="passed")


def test_check_says_what_is_wrong_and_then_that_all_is_done(course, capsys):
    assert main(["check", "example"]) == 1
    said = capsys.readouterr().out
    assert "○ example.share: not attempted" in said
    assert "[-----] 0 of 5" in said
    mine = course / "interp-course/_example.py"
    assert mine.read_text() == percent(EXAMPLE.cells)
    notebook = course / "interp-course/_example.ipynb"
    notebook.write_text(solved(EXAMPLE))
    assert main(["check", "example", "--file", str(notebook)]) == 0
    said = capsys.readouterr().out
    assert "✓ example.attention: passed" in said
    assert "[#####] 5 of 5  all done" in said
    assert {event["exercise"] for event in events()} == {each.name for each in EXAMPLE.exercises}


def test_watching_checks_at_a_save_and_answers_to_keys(tmp_path, monkeypatch):
    said: list[str] = []
    path = tmp_path / "mine.py"
    path.write_text(percent(EXAMPLE.cells))
    seen = []

    def judged(cells, beside, exercises):
        seen.append(cells)
        for each in exercises:
            right = "check(0.5, " in "\n".join(cells) and each.name == "example.share"
            yield each.name, each.judged(0.5 if right else ..., 0.5, 0)

    monkeypatch.setattr(watching, "judged_cells", judged)

    def keys():
        yield from ("", "h", "s", "l")
        assert len(seen) == 1  # nothing was saved
        path.write_text(path.read_text().replace('share").check()', 'share").check(0.5, confidence=0.8)'))
        yield ""
        assert len(seen) == 2
        yield "n"
        yield "q"

    watch = Watch(EXAMPLE, path, said.append)
    assert watch.run(keys()) is False
    text = "\n".join(said)
    assert "Hint 1 of 3: Of a weight of 1, how much?" in text
    assert ".check(0.95, confidence=0.8)" in text  # the solution
    assert "  not attempted  From scores to attention" in text
    assert "✎ example.share: recorded" in text
    assert "now: From scores to attention" in text
    assert "now: Find the heads" in said[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "99"], "There is no lesson '99'"),
        (["grade", "nowhere.ipynb"], "There is no notebook nowhere.ipynb"),
        (["progress", "--merge", "nowhere.jsonl"], "holds no progress"),
        (["check", "example", "--file", "nowhere.py"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(capsys, arguments, said):
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_a_grade_is_a_table_and_a_file(course, capsys):
    (course / "mine.ipynb").write_text(solved(EXAMPLE))
    assert main(["grade", "mine.ipynb", "--json", "report.json", "--salt", "pepper"]) == 0
    assert "5 of 5 exercises (mine.ipynb)" in capsys.readouterr().out
    report = json.loads((course / "report.json").read_text())
    assert (report["passed"], report["salt"]) == (5, "pepper")
    assert {each["exercise"] for each in report["grades"]} == {each.name for each in EXAMPLE.exercises}


def test_the_doctor_finds_nothing_here_and_something_elsewhere(capsys, home, monkeypatch):
    main(["doctor"])
    said = capsys.readouterr().out
    for what in ("Python", "models: torch", "views", "lessons", "a model", "progress", "disk"):
        assert f"✓ {what}: " in said
    home.rmdir()
    home.write_text("in the way")
    monkeypatch.setattr(doctor, "lessons", tuple)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "✗ progress: " in said
    assert "INTERPWIDGETS_HOME" in said
    assert "✗ lessons: FileNotFoundError: no lessons. Reinstall interpwidgets." in said


def test_progress_travels(course, capsys, monkeypatch):
    learning_passed(EXAMPLE.exercises[0])
    assert main(["progress", "--export", "mine.jsonl"]) == 0
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(course / "other"))
    assert main(["progress", "--merge", "mine.jsonl"]) == 0
    assert "1 events are new" in capsys.readouterr().out
    assert main(["progress"]) == 0
    assert "1 of 5" in capsys.readouterr().out
