"""The `interpwidgets` command: what one types before there is a notebook.

interpwidgets demo --out build/demo     a page and a picture of the shipped model, to look at at once
interpwidgets publish article.ipynb     a notebook as one page, its views alive without a kernel
interpwidgets learn                     the course; check, grade, progress and doctor go with it
interpwidgets workshop serve            a class's progress on one live board
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interpwidgets import __version__
from interpwidgets.course.commands import add_commands
from interpwidgets.course.workshop.commands import add_workshop
from interpwidgets.errors import InputError, InterpError

if TYPE_CHECKING:
    from interpwidgets.models import Recording
    from interpwidgets.views import AttentionView

__all__ = ["main", "tour"]

MODEL = "induction-2l"
PROMPT = "lion bread clock river flute lion bread clock river"  # no order but that of the first time
SENTENCE = "the cat sat on the mat . the cat sat"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 if it did what it says."""
    parser = argparse.ArgumentParser(prog="interpwidgets", description="See inside a transformer.")
    parser.add_argument("--version", action="version", version=f"interpwidgets {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo = commands.add_parser("demo", help="record a model on a prompt; write an interactive page and a picture")
    demo.add_argument("--out", type=Path, default=Path("interpwidgets-demo"), help="folder to write into (%(default)s)")
    demo.add_argument("--model", default=MODEL, help="a shipped model, a local folder or a hub id (%(default)s)")
    demo.add_argument("--prompt", default=PROMPT, help="what the model reads (%(default)r)")
    publish = commands.add_parser("publish", help="run a notebook; write its text and its living views as one page")
    publish.add_argument("notebook", type=Path)
    publish.add_argument("--out", type=Path, help="the page to write (the notebook's name, .html)")
    publish.add_argument("--code", action="store_true", help="keep the code, folded")
    publish.add_argument("--max-mb", type=float, default=1, help="megabytes of data a view (%(default)s)")
    add_commands(commands)
    add_workshop(commands)
    given = parser.parse_args(arguments)
    try:
        if given.command == "publish":
            return write_article(given.notebook, given.out, given.code, given.max_mb)
        if given.command == "demo":
            return write_demo(given.out, given.model, given.prompt)
        status: int = given.run(given)
        return status
    except (InterpError, ImportError) as error:
        print(f"interpwidgets: {error}", file=sys.stderr)
        return 1


def write_article(notebook: Path, out: Path | None, code: bool, max_mb: float) -> int:
    """Publish a notebook, and say where the page is."""
    from interpwidgets.publish import publish

    print(f"Running {notebook} …", flush=True)
    page = publish(notebook, out, code=code, max_mb=max_mb)
    print(f"  The article, interactive, in any browser:  {page.resolve()}  ({page.stat().st_size / 1e6:.2f} MB)")
    return 0


def write_demo(out: Path, model: str, prompt: str) -> int:
    """Record, write both files, and say where they are and what to do with them."""
    import interpwidgets as iw

    print(f"Loading {model} and recording {prompt!r} …", flush=True)
    recording = iw.record(iw.load(model), [prompt, SENTENCE] if prompt == PROMPT else prompt)
    out.mkdir(parents=True, exist_ok=True)
    parts = tour(recording)
    page = iw.save_page(out / "tour.html", "Where does it look?", parts)
    views = [part for part in parts if not isinstance(part, str)]
    picture = views[min(1, len(views) - 1)].save_png(out / "attention.png")
    print(f"\n  The tour, interactive, in any browser:  {page.resolve()}")
    print(f"  A picture of one of its views:          {picture.resolve()}")
    return 0


def tour(recording: Recording) -> list[str | AttentionView]:
    """Paragraphs and views that lead from a first look to a question: what a newcomer sees in two minutes.

    The first prompt is the one to look at. A second one, if there is one, is where the story is put to the test.
    """
    from interpwidgets.views import AttentionView
    from interpwidgets.views.finder import template_scores

    source = recording.attention(0)
    layers, heads, queries, _ = source.shape
    if queries < 3:
        raise InputError(f"The tour needs a prompt of at least 3 tokens to have something to show; got {queries}.")
    scores = template_scores(source)
    previous, induction = (divmod(int(scores[name].argmax()), heads) for name in ("previous token", "induction"))
    asker = last_repeat(source.key_tokens.keys)
    parts: list[str | AttentionView] = [
        "# Where does it look?",
        (
            f"A transformer reads {queries} tokens here, with {layers} layers of {heads} attention heads. In each "
            "head, every token looks back at the tokens before it, and at itself, and shares a weight of 1 among "
            "them. Every small square is one head; the large one shows the head that is selected. Rows are the tokens "
            "that look, columns those they look at."
        ),
        "Point at a cell to read its exact weight; click to keep it. A click on a small square selects that head.",
        "# A head that looks one step back",
        (
            f"Layer {previous[0]}, head {previous[1]} spends {percent(scores['previous token'][previous])} of its "
            "attention on the token just before: the line right below the diagonal. That sounds dull. It is how a "
            "token comes to carry a note of what preceded it."
        ),
        AttentionView(recording.attention(0), title="One step back", layer=previous[0], head=previous[1]),
    ]
    if asker is not None:
        parts += [
            "# A head that has seen this before",
            (
                f"The prompt repeats itself: “{source.key_tokens[asker]}”, at position {asker}, has stood there "
                f"before. Layer {induction[0]}, head {induction[1]} spends {percent(scores['induction'][induction])} "
                "of the attention of such tokens on the token that came right after the earlier copy: a good guess at "
                "what comes next. Such a head is called an induction head. One that looks a step back, in an earlier "
                "layer, makes it possible: it leaves on each token a note of the one before. The line leaves the last "
                "token, and arrives one step after where that token was seen first."
            ),
            AttentionView(
                recording.attention(0),
                title="After the earlier copy",
                layer=induction[0],
                head=induction[1],
                query=asker,
                reading="arcs",
                sort_by="induction",
            ),
        ]
    parts += [
        "# A picture is a hypothesis",
        (
            "Attention says where a head looks. It does not say that what it finds there matters for the prediction, "
            "and a head that looks at the first token may be looking at nothing. What you see here is a reason to "
            "experiment: take the head away, or give it the attention of another prompt, and measure what changes. A "
            "picture that would look the same if the story were wrong is no evidence for the story."
        ),
    ]
    if len(recording) > 1:
        again = template_scores(recording.attention(1))["induction"][induction]
        parts += [
            (
                "The cheapest experiment is another prompt. Here is the same head on a sentence, which also repeats "
                f"itself: it spends {percent(again)} on the tokens that the story names. Predict what it does "
                "instead before you look, then choose other heads. Is “induction head” the name of a head, or of "
                "something that a head does on some prompts?"
            ),
            AttentionView(
                recording.attention(1), title="The same head on a sentence", layer=induction[0], head=induction[1]
            ),
        ]
    return parts


def last_repeat(keys: Sequence[object]) -> int | None:
    """The last position whose token has stood earlier with another token after it; None where none has."""
    repeats = [i for i, key in enumerate(keys) if key in keys[: max(0, i - 1)]]
    return repeats[-1] if repeats else None


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
