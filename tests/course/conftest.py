"""Progress is kept where nobody else's is."""

from __future__ import annotations

import pytest

from interpwidgets.course import progress

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_unsaved", [])
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
