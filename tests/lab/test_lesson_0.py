"""Module 0 played in JupyterLab from its first cell to its last, by clicks and typing, with one answer wrong."""

from __future__ import annotations

import re

import nbformat

from interpwidgets.course.build import learner
from interpwidgets.course.library import lesson
from lab.notebook import TIMEOUT

FIRST = lesson("first_look")


def test_the_first_lesson_is_played_from_start_to_end(notebook, tmp_path):
    made = nbformat.reads(learner(FIRST), as_version=4)
    home = f"import os\nos.environ['INTERPWIDGETS_HOME'] = {str(tmp_path)!r}"
    made.cells.insert(0, nbformat.v4.new_code_cell(home))
    book = notebook(made)
    keys, last = book.page.keyboard, len(made.cells) - 1
    checks = {
        name: i for i, cell in enumerate(made.cells) for name in re.findall(r'first_look\.(\w+)"\)\.check', cell.source)
    }
    views = {cell.source.splitlines()[-1]: i for i, cell in enumerate(made.cells) if cell.source.startswith("view = ")}
    views |= {"prompt": next(i for i, cell in enumerate(made.cells) if cell.source.startswith("prompt = "))}

    def run(name: str):
        """Run an exercise's cell; the verdict below it."""
        book.run(checks[name], wait_for=".iw-verdict")
        return book.cell(checks[name]).locator(".iw-verdict")

    def found(verdict, status: str) -> None:
        verdict.locator(".iw-found", has_text=status).wait_for(timeout=TIMEOUT)

    def settled(name: str, status: str, answer: str, sure: str) -> None:
        """Answer a question in its verdict."""
        verdict = book.cell(checks[name]).locator(".iw-verdict")
        number = verdict.locator("input[type=number]")
        if number.count():
            number.fill(answer)
        else:
            verdict.get_by_role("radio", name=re.compile(f"^{answer} ")).check()
        verdict.get_by_role("radio", name=sure).check()
        verdict.get_by_role("button", name=re.compile("^(check|write it down)$")).click()
        found(verdict, status)

    book.run_all()  # with Shift+Enter to the end, as many do: nothing is attempted, and nothing fails
    for place in checks.values():
        found(book.cell(place).locator(".iw-verdict"), "not attempted")
    assert "No prediction was given" in book.output(last - 1).inner_text()

    settled("guess", "error", "60", "50 %")  # a probability is no percentage
    settled("guess", "recorded", "0.1", "50 %")

    def write(function: str):
        """Write a function's body over the placeholder, by the keyboard."""
        book.cell(checks["surprise"]).locator(".cm-line", has_text="raise NotImplementedError").click()
        keys.press("End")
        keys.press("Shift+Home")
        keys.type(function)
        return run("surprise")

    wrong = write("return -logits.log_softmax(-1)[range(len(ids)), ids] / math.log(2)")
    found(wrong, "wrong")
    assert wrong.locator(".iw-misconception").inner_text() == "no shift at all"
    wrong.get_by_role("button", name="hint (1 of 3)").click()
    wrong.locator(".iw-hint", has_text="Which row of the logits").wait_for(timeout=TIMEOUT)
    wrong.get_by_role("button", name="solution").click()
    wrong.locator(".iw-hint pre", has_text="expected = logits[:-1]").wait_for(timeout=TIMEOUT)
    book.cell(checks["surprise"]).locator(".cm-line", has_text="return -logits").click()
    keys.press("End")
    keys.press("Shift+Home")
    keys.type("bits = -logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]] / math.log(2)")
    keys.press("Enter")
    keys.type("return torch.cat([torch.full([1], torch.nan), bits])")
    found(run("surprise"), "passed")

    text = book.cell(views["prompt"]).locator("textarea")
    text.fill("the dog saw the tiger")
    book.wait_for("prompt.text", lambda value: value.endswith("tiger"))
    found(run("write"), "wrong")
    text.fill("river flute clock tiger lemon river flute clock")
    book.wait_for("prompt.text", lambda value: value.endswith("clock"))
    found(run("write"), "passed")

    for head, status in ((1, "wrong"), (2, "passed")):
        square = book.cell(views["view"]).get_by_role("button", name=re.compile(f"^layer 1 head {head}\\b"))
        square.click()
        book.wait_for("view.head", lambda value, head=head: value == head)
        found(run("copier"), status)

    settled("evidence", "wrong", "b", "80 %")
    settled("evidence", "passed", "c", "90 %")

    done = book.cell(checks["evidence"]).locator(".iw-verdict")
    assert done.locator("li.iw-is-passed").count() == len(FIRST.exercises) == len(checks)
    assert "5 of 5 done" in done.inner_text()
    book.run(last - 1)
    told = book.output(last - 1).inner_text()
    assert "You said 0.1, 50 % sure." in told
    assert re.search(r"It is 0\.\d+\. You expected next to nothing", told)
    assert "thrown" not in "\n".join(book.log)

    book.run(checks["evidence"])  # run again, it is not asked again
    found(book.cell(checks["evidence"]).locator(".iw-verdict"), "passed")
