"""Progress: one file that only grows, and what follows from it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from course.samples import function, share

from interpwidgets.course import progress
from interpwidgets.course.progress import append, events, export, merge, standing, write_line
from interpwidgets.errors import InputError


def _write_many(path, who, count):
    for number in range(count):
        write_line(path, json.dumps({"exercise": "sample.share", "who": who, "n": number}).encode() + b"\n")


def test_kernels_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, who, 150)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [(event["who"], event["n"]) for event in events(path)]
    assert sorted(found) == [(who, number) for who in range(3) for number in range(150)]
    for who in range(3):
        assert [number for one, number in found if one == who] == list(range(150))


def test_a_line_that_was_cut_short_costs_that_line_only(home):
    function().check(share)
    with (home / "events.jsonl").open("ab") as file:
        file.write(b'{"exercise": "sample.sh')  # a process died here
    function().check(share)
    assert [event["status"] for event in events()] == ["passed", "passed"]
    with (home / "events.jsonl").open("ab") as file:
        file.write(b"\xff\xfe not JSON\n[1]\n")
    assert len(events()) == 2


def test_an_exercise_that_changed_asks_to_be_checked_again():
    old, new = function(), function(version=2)
    assert standing(old).state == "new"
    old.check(lambda x: x)
    assert standing(old).state == "tried"
    old.check(...)
    assert standing(old).tries == 1
    old.check(share)
    assert standing(old).state == "passed"
    assert standing(new).state == "check again"
    new.check(share)
    assert standing(new).state == "passed"


def test_progress_goes_with_the_learner_not_with_the_folder(tmp_path, monkeypatch):
    function().check(share)
    monkeypatch.chdir(tmp_path)
    assert standing(function()).state == "passed"


def test_hints_are_given_one_by_one(capsys):
    exercise = function()
    for _ in range(4):
        exercise.hint()
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Hint 1 of 3: Which axis?",
        "Hint 2 of 3: The last.",
        *["Hint 3 of 3: `x / x.sum(-1, keepdims=True)`"] * 2,
    ]
    assert standing(exercise).hints == 3
    exercise.show_solution()
    assert "Each row is divided by its sum." in capsys.readouterr().out
    assert standing(exercise).solution


def test_export_and_merge_are_idempotent(tmp_path, monkeypatch):
    function().check(share)
    function("sample.other").check(lambda x: x)
    assert export(tmp_path / "mine.jsonl") == 2
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(tmp_path / "elsewhere"))
    function("sample.third").check(share)
    assert merge(tmp_path / "mine.jsonl") == 2
    assert merge(tmp_path / "mine.jsonl") == 0
    assert {event["exercise"] for event in events()} == {"sample.share", "sample.other", "sample.third"}
    assert standing(function()).state == "passed"
    (tmp_path / "none.jsonl").write_text("no progress\n")
    with pytest.raises(InputError, match="holds no progress"):
        merge(tmp_path / "none.jsonl")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_costs_no_verdict(home):
    home.mkdir()
    home.chmod(0o500)
    verdict = function().check(share)
    assert verdict
    assert "Your progress is not saved yet: Permission denied" in str(verdict)


def test_a_home_that_is_a_file_costs_no_verdict(home):
    home.write_text("in the way")
    verdict = function().check(share)
    assert verdict
    assert "Your progress is not saved yet" in str(verdict)
    assert home.read_text() == "in the way"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_said_and_costs_no_verdict(home):
    home.mkdir()
    (home / "events.jsonl").symlink_to("/dev/full")
    verdict = function().check(share)
    assert verdict
    assert "No space left on device" in str(verdict)
    (home / "events.jsonl").unlink()  # there is room again
    function("sample.other").check(share)
    assert [event["exercise"] for event in events()] == ["sample.share", "sample.other"]


def test_what_was_half_written_is_taken_back(home, monkeypatch):
    append("hint", function(), number=1)
    before = (home / "events.jsonl").read_bytes()

    class Half:
        """A file on a disk that fills up in the middle of a line."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = progress.Path.open
    monkeypatch.setattr(
        progress.Path,
        "open",
        lambda self, mode="r", **more: Half(f) if (f := opened(self, mode, **more)) and "a" in mode else f,
    )
    assert "No space left" in append("hint", function(), number=2)
    monkeypatch.undo()
    assert (home / "events.jsonl").read_bytes() == before


def test_a_long_answer_still_makes_one_line(home):
    append("check", function(), status="recorded", answer="x" * 10_000, confidence=0.5)
    (line,) = (home / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["status"] == "recorded"
