"""A lesson closed and opened again in the JupyterLab that `interpwidgets learn` starts: what is there, what is next."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from interpwidgets.cli import main
from interpwidgets.course.learning import lab_environment
from lab.notebook import TIMEOUT, Notebook
from lab.server import jupyter

FIRST = "00_first_look.ipynb"


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A learner's machine: her progress, her folder, and a server with the settings that it has by default."""
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(tmp_path / "home"))
    for name, value in lab_environment().items():
        monkeypatch.setenv(name, value)
    with jupyter(tmp_path / "lab") as server:
        monkeypatch.chdir(server.root)
        yield server


def test_a_lesson_goes_on_where_it_was_left(at_home, open_page, capsys):
    assert main(["learn", "--no-lab", "--folder", "."]) == 0
    assert f"next: {FIRST}" in capsys.readouterr().out
    page, _ = open_page()
    book = Notebook(page, at_home, FIRST)
    cells = nbformat.read(Path(FIRST), as_version=4).cells
    guess = next(i for i, cell in enumerate(cells) if 'exercise("first_look.guess")' in cell.source)
    view = next(i for i, cell in enumerate(cells) if cell.source.startswith("view = "))
    book.open()
    book.run_all()
    asked = book.cell(guess).locator(".iw-verdict")
    asked.locator("input[type=number]").fill("0.1")
    asked.get_by_role("radio", name="50 %").check()
    asked.get_by_role("button", name="write it down").click()
    asked.locator(".iw-found", has_text="recorded").wait_for(timeout=TIMEOUT)
    book.save()
    book.shut_down()

    book.open()  # with another kernel, in which nothing has run
    said = book.cell(guess).locator(".iw-verdict")
    said.locator(".iw-found", has_text="recorded").wait_for(timeout=TIMEOUT)
    assert "You said 0.1, 50 % sure." in said.inner_text()
    book.cell(view).scroll_into_view_if_needed()
    book.cell(view).locator(".iw-attention .iw-large canvas").first.wait_for(timeout=TIMEOUT)
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()

    book.run_all()  # what was answered is not asked again
    said = book.cell(guess).locator(".iw-verdict", has=page.locator(".iw-found", has_text="recorded"))
    said.filter(has_text="1 of 5 done").wait_for(timeout=TIMEOUT)
    book.shut_down()
    saved = Path(FIRST).read_text("utf-8")
    main(["learn", "--list"])
    told = capsys.readouterr().out
    assert "1 of 5" in told
    assert told.rstrip().endswith("“Surprise, by hand”.")
    main(["learn", "--no-lab", "--folder", "."])
    assert f"next: {FIRST}" in capsys.readouterr().out
    assert Path(FIRST).read_text("utf-8") == saved
