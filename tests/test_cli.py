"""The command, run as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from interpwidgets import __version__
from interpwidgets.cli import last_repeat, main

pytest.importorskip("torch")


def test_the_demo_writes_a_page_and_a_picture_and_names_both(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "new" / "folder")]) == 0
    said = capsys.readouterr().out
    page, picture = tmp_path / "new/folder/tour.html", tmp_path / "new/folder/attention.png"
    assert str(page) in said
    assert str(picture) in said
    text = page.read_text("utf-8")
    assert text.count('class="iw-mount"') == 3
    assert "A picture is a hypothesis" in text
    with Image.open(picture) as image:
        assert min(image.size) > 200
        assert len(image.getcolors(1 << 24)) > 10


def test_the_demo_takes_any_prompt(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--prompt", "the fox saw the <b>owl</b>"]) == 0
    assert "<b>" not in (tmp_path / "tour.html").read_text("utf-8").partition('id="iw-data"')[0]


@pytest.mark.parametrize("arguments", [["--model", "induction-3l"], ["--prompt", ""]])
def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, capsys, arguments):
    assert main(["demo", "--out", str(tmp_path), *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("interpwidgets: ")
    assert "Traceback" not in said
    assert said.count("\n") < 6


def test_a_command_is_a_module_too():
    done = subprocess.run(
        [sys.executable, "-m", "interpwidgets", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"interpwidgets {__version__}"


def test_the_last_repeat_has_another_token_after_its_earlier_copy():
    assert last_repeat("abcab") == 4
    assert last_repeat("abc") is None
    assert last_repeat("aa") is None  # the token after the first is this one itself
    assert last_repeat("") is None


def test_curriculum_holds_no_outputs():
    root = Path(__file__).resolve().parents[1]
    notebooks = sorted((root / "curriculum").rglob("*.ipynb"))
    assert notebooks
    done = subprocess.run(
        [sys.executable, root / "scripts/notebooks", *notebooks], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
