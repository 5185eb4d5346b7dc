"""A lesson played in JupyterLab from its first cell to its last, as a learner plays it: with mistakes and clicks."""

from __future__ import annotations

import re

import nbformat

from interpwidgets.course.build import learner
from interpwidgets.course.library import lesson
from lab.notebook import TIMEOUT

WRITE = """([index, source]) => {
    const { widgets } = window.jupyterapp.shell.currentWidget.content;
    widgets[index].model.sharedModel.setSource(source);
}"""
WRONG = """def attention(scores):
    weights = np.exp(scores - scores.max(0))
    return weights / weights.sum(0)
exercise("example.attention").check(attention)"""


def test_a_lesson_is_played_from_start_to_end(notebook, tmp_path):
    made = nbformat.reads(learner(lesson("example")), as_version=4)
    home = f"import os\nos.environ['INTERPWIDGETS_HOME'] = {str(tmp_path)!r}"
    made.cells.insert(0, nbformat.v4.new_code_cell(home))
    book = notebook(made)
    index = {
        name: i for i, cell in enumerate(made.cells) for name in re.findall(r'example\.(\w+)"\)\.check', cell.source)
    }
    view = next(i for i, cell in enumerate(made.cells) if cell.source.startswith("view = "))
    solved = {cell.checks[-1].partition(".")[2]: cell.solved for cell in lesson("example").cells if cell.has_solution}

    def check(name: str, source: str | None = None):
        """Run an exercise's cell, written anew or as it is; the verdict below it."""
        if source is not None:
            book.page.evaluate(WRITE, [index[name], source])
        book.run(index[name], wait_for=".iw-verdict")
        return book.cell(index[name]).locator(".iw-verdict")

    def found(verdict, status: str) -> None:
        verdict.locator(".iw-found", has_text=status).wait_for(timeout=TIMEOUT)

    book.run_all()  # as it came: nothing is attempted
    for place in index.values():
        found(book.cell(place).locator(".iw-verdict"), "not attempted")

    found(check("share", solved["share"]), "recorded")

    wrong = check("attention", WRONG)
    found(wrong, "wrong")
    assert wrong.locator(".iw-misconception").inner_text() == "softmax over the queries"
    assert wrong.locator(".iw-example tr").count() == 3
    wrong.get_by_role("button", name="hint (1 of 3)").click()
    wrong.locator(".iw-hint", has_text="What must each row").wait_for(timeout=TIMEOUT)
    wrong.get_by_role("button", name="solution").click()
    wrong.locator(".iw-hint pre", has_text="keepdims=True").wait_for(timeout=TIMEOUT)
    broken = check("attention", WRONG.replace("np.exp", "np.expo"))
    found(broken, "error")
    assert "np.expo" in broken.locator("pre").inner_text()
    found(check("attention", solved["attention"]), "passed")
    found(check("previous", solved["previous"]), "passed")

    layer, head = book.ask("previous_heads(model)[0]")
    book.cell(view).get_by_role("button", name=re.compile(f"^layer {layer + 1} head {head}\\b")).click()
    book.wait_for("view.layer", lambda value: value == layer + 1)
    found(check("look"), "wrong")
    book.cell(view).get_by_role("button", name=re.compile(f"^layer {layer} head {head}\\b")).click()
    book.wait_for("view.layer", lambda value: value == layer)
    found(check("look"), "passed")

    last = check("meaning", solved["meaning"])
    found(last, "passed")
    assert last.locator("li.iw-is-passed").count() == len(index)
    book.run(len(made.cells) - 1)
    assert "95" in book.output(len(made.cells) - 1).inner_text()
    book.tell("from interpwidgets.course.progress import events")
    assert book.ask("sorted({event['what'] for event in events()})") == ["check", "hint", "solution"]
