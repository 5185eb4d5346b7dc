"""A notebook becomes an article: what it says, what it shows, and nothing when it fails."""

import json
import subprocess
import sys

import nbformat
import pytest
from views.test_page import Page

CELLS = [
    ("markdown", "# Where it looks\n\nA *short* story, with <script>alert(1)</script>:\n\n|a|b|\n|-|-|\n|1|2|"),
    ("code", "import numpy as np\nimport interpwidgets as iw\nfrom IPython.display import display"),
    ("code", "weights = np.ones((1, 2, 3, 3)) / 3\na = iw.AttentionView(weights, tokens=['x', '</script>', 'z'])\na"),
    ("code", "b = iw.AttentionView(weights, title='second')\nc = iw.AttentionView(weights)\nprint('printed <b>')"),
    ("code", "display(iw.Dashboard([[b, c]]))"),
    ("code", "'a value'"),
    ("code", "iw.AttentionView(weights, title='kept to myself')"),
    ("code", "%time a.layer"),
]  # fmt: skip


def write(folder, cells, skip=()):
    kinds = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    node = nbformat.v4.new_notebook(cells=[kinds[kind](source) for kind, source in cells])
    for at in skip:
        node.cells[at].metadata.tags = ["skip-publish"]
    path = folder / "article.ipynb"
    nbformat.write(node, path)
    return path


def publish(*arguments):
    command = [sys.executable, "-m", "interpwidgets", "publish", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_text_and_views_in_order_linked_and_alive(tmp_path):
    done = publish(write(tmp_path, CELLS, skip=[6]))
    assert done.returncode == 0, done.stderr
    path = tmp_path / "article.html"
    assert str(path) in done.stdout
    page = Page(path)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("h1"), tags.count("em"), tags.count("td"), tags.count("script")) == (1, 1, 2, 2)
    text = "".join(page.text)
    assert "<script>alert(1)</script>" in text
    assert text.index("short") < text.index("printed <b>") < text.index("'a value'")
    assert "Where it looks" in text
    assert [view["state"]["title"] for view in page.data["views"]] == ["Attention", "second", "Attention"]
    assert {tuple(place for place, _ in group) for group in page.data["links"]} == {(1, 2)}
    assert "kept to myself" not in path.read_text("utf-8")
    assert "np.ones" not in text
    assert all(view["state"]["_live"] is False for view in page.data["views"])


def test_code_is_kept_folded_when_asked_for(tmp_path):
    out = tmp_path / "other.html"
    done = publish(write(tmp_path, CELLS), "--out", out, "--code")
    assert done.returncode == 0, done.stderr
    page = Page(out)
    assert [tag for tag, _ in page.elements].count("details") == len(CELLS) - 1
    assert "weights = np.ones" in "".join(page.text)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([("code", "1 / 0")], "cell 1 fails with ZeroDivisionError: division by zero"),
        ([("markdown", "# x"), ("code", "def f(:")], "cell 2 fails with SyntaxError"),
    ],
)
def test_a_cell_that_fails_is_named_and_nothing_is_written(tmp_path, cells, said):
    done = publish(write(tmp_path, cells))
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "article.html").exists()


def test_what_is_no_notebook_is_refused(tmp_path):
    assert "There is no notebook" in publish(tmp_path / "none.ipynb").stderr
    (tmp_path / "bad.ipynb").write_text("not json")
    assert "is no notebook" in publish(tmp_path / "bad.ipynb").stderr
    (tmp_path / "list.ipynb").write_text(json.dumps([1, 2]))
    assert "is no notebook" in publish(tmp_path / "list.ipynb").stderr
