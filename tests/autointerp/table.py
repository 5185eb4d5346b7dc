"""Write the table of labels and controls in docs/features.md, from the shipped dictionary: `make labels`."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import interpwidgets as iw
from interpwidgets.models.corpora import storyteller
from interpwidgets.models.train.dictionaries import untrained

BEGIN, END = "<!-- written by `make labels` -->", "<!-- end -->"
PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def main() -> None:
    model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
    theirs = untrained(), iw.load_dictionary("storyteller-4l-sae", "untrained.resid_post.1.topk")
    corpus = storyteller.batch(seed=3, step=0, rows=400, length=128, repeats=0.1, side="heldout")
    with TemporaryDirectory() as folder:
        store = iw.FeatureStore.build(folder, model, sae, corpus)
        report = store.label(controls={"untrained model": theirs})
        said = f"All {len(store)} features of `storyteller-4l-sae`, over {store.n_tokens:,} tokens of held-out text:"
    table = report._repr_markdown_().replace("\\[", "[").replace("\\]", "]")  # intervals, easier to read
    text = re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{said}\n\n{table}\n\n{END}",
        PAGE.read_text("utf-8"),
        flags=re.S,
    )
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
