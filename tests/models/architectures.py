"""Write docs/architectures.md: what is found in each architecture. Run by `make architectures`."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from models import zoo

from interpwidgets.errors import InputError
from interpwidgets.models.anatomy import Anatomy, Block

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
COLUMNS: dict[str, Callable[[Block], bool]] = {
    "resid_post": lambda block: "resid_post" not in block.why,
    "resid_mid": lambda block: "resid_mid" not in block.why,
    "attn_out": lambda block: block.attn_out is not None,
    "mlp_out": lambda block: block.mlp_out is not None,
    "z": lambda block: block.z is not None,
    "mlp_pre": lambda block: "mlp_pre" not in block.why,
    "mlp_post": lambda block: block.down is not None,
    "q k v scores pattern": lambda block: block.interface,
}
INTRODUCTION = (
    "# What is found in which architecture\n\n"
    "The parts of a model are found by one forward pass over nine tokens, without a table of architectures, and each "
    "is held to its equation: what the modules write adds up to the residual stream, z · W_O is what attention "
    "writes, mlp_post · W_out what the MLP writes. A part whose equation does not hold to 10⁻³, or to the rounding "
    "of half precision, is not offered; `model.anatomy` prints what was found, "
    "`model.anatomy.parts[layer].why` says what is missing.\n\n"
    "This page is every architecture in transformers' lists of causal and masked language models, built tiny with "
    "random weights and probed; `make architectures` writes it. *Some* means in some of its layers."
)


def page(anatomy_of: Callable[[str], Anatomy]) -> str:
    """The page, from the anatomies of all families; those that cannot be built or probed raise."""
    rows, counts = [], Counter[str]()
    reasons: dict[str, set[str]] = {}
    apart: dict[str, str] = {}
    for family in zoo.families():
        try:
            parts = anatomy_of(family).parts
        except (zoo.CannotBuild, InputError) as error:
            apart[family] = f"{'not built' if isinstance(error, zoo.CannotBuild) else 'refused'}: {error}"
            continue
        cells = [_cell([has(block) for block in parts]) for has in COLUMNS.values()]
        counts.update(column for column, cell in zip(COLUMNS, cells, strict=True) if cell != "–")
        kinds = dict.fromkeys(block.kind for block in parts)
        rows.append(f"| {family} | {', '.join(kinds)} | {' | '.join(cells)} |")
        for block in parts:
            for site in {*COLUMNS, "pattern"} & set(block.why):
                reason = re.sub(r"^\w+ computes attention", "The module computes attention", block.why[site])
                reasons.setdefault(reason, set()).add(family)
    head = ["family", "block", *COLUMNS]
    lines = [
        INTRODUCTION,
        f"transformers {transformers.__version__}: {len(zoo.families())} families, {len(rows)} probed. "
        "Found, at least in some layers:",
        "\n".join(f"- {column}: {counts[column]}" for column in COLUMNS),
        "\n".join([_row(head), _row(["---"] * len(head)), *rows]),
        "## Why something is missing",
        "\n".join(f"- {reason} {_among(reasons[reason])}" for reason in sorted(reasons)),
        "## Not probed",
        "\n".join(f"- {family}: {reason}" for family, reason in apart.items()),
    ]
    return "\n\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(held: list[bool]) -> str:
    return "yes" if all(held) else "some" if any(held) else "–"


def _among(families: set[str]) -> str:
    return f"({', '.join(sorted(families))})"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    PAGE.write_text(page(lambda family: Anatomy.of(zoo.build(family))), encoding="utf-8")
