"""Put the card of a compiled system into words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, fill
from typing import Any

from interpwidgets.models.train.card import measured_table

__all__ = ["ABOUT", "About", "card_text"]


@dataclass(frozen=True)
class About:
    """What is said of one system alone."""

    what: str
    prompt: str
    limits: str


ABOUT = {
    "compiled-frequency": About(
        """
        After every token it says how often that token has occurred so far: `a b a` → `1 1 2`. One head, one MLP: the
        smallest model here, in which a head **counts** by how little attention is left for `<bos>`.
        """,
        "a b a c a",
        """
        - At most 20 tokens after `<bos>`, of the letters a to j; the numbers 1 to 20 are words too, and are counted.
        - The count is one so far, for a decoder sees nothing later. After the last token of a prompt it is the count
          in the prompt.
        """,
    ),
    "compiled-induction": About(
        """
        After every token it says what followed that token when it was last there: `a b c a` → `b`. A **previous-token
        head** and an **induction head**, and nothing else: the circuit of Elhage et al. 2021 and Olsson et al. 2022 as
        it is drawn on the board.
        """,
        "a b c d a b c",
        """
        - At most 40 tokens after `<bos>`, of the letters a to z. Where a token is new it says nothing: all logits are
          0.
        - If a token was there several times, the last time counts, and it alone: the induction head prefers the
          largest index. The induction heads of `induction-2l` were trained, and share their attention out.
        """,
    ),
    "compiled-parentheses": About(
        """
        After every bracket it says how many are open, or `!` once one was closed that was not open: `( ( ) ) )` →
        `1 2 1 0 !`. A sequence is **balanced** if the last word is `0`. One head takes a mean, an MLP turns the mean
        and the index into a depth, a second head looks for a place where the mean was negative.
        """,
        "( ( ) ( ) )",
        """
        - At most 20 brackets, of one kind.
        - Depth passes through a *number*, one coordinate whose size matters: the mean of +1 and −1 so far. Two neurons
          read each step of it, so the MLP is large for what it does.
        """,
    ),
    "compiled-reverse": About(
        """
        After `=` it says the prompt backwards, a token at a time: `c a b =` → `b a c <eos>`. One head finds the `=`,
        an MLP computes from its index and the present one **which index to read**, a second head reads there.
        """,
        "c a b =",
        """
        - At most 10 letters, a to j, then `=`; `iw.generate(model, prompt, max_new_tokens=11)` lets it answer. Before
          the `=` it says nothing, for a decoder cannot know what comes.
        - It counts positions: what was said wrongly after the `=` changes nothing.
        """,
    ),
    "compiled-sort": About(
        """
        After `=` it says the digits in order, a token at a time: `3 1 2 1 =` → `1 1 2 3 <eos>`. Three heads in three
        layers, each needing the one before: which **part** of the prompt a token is in; whether the digit just said is
        to be **said again**; the **smallest** one above.
        """,
        "3 1 2 1 =",
        """
        - At most 10 digits, then `=`; `iw.generate(model, prompt, max_new_tokens=11)` lets it answer. Before the `=`
          it says nothing.
        - It is a selection sort written for a decoder: the next answer follows from the last one, so a wrong digit
          after the `=` changes what comes next. The textbook RASP sort, which counts smaller tokens at each position,
          needs to see later ones.
        """,
    ),
}


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    name = card["system"]
    about, first = ABOUT[name], card["parts"][0]
    idle = [f"head {layer}.{head}" for layer, head in card["idle_heads"]]
    idle += [f"the MLP of layer {layer}" for layer in card["idle_mlps"]]
    return (
        (Path(__file__).parent / "compiled.md")
        .read_text("utf-8")
        .format(
            name=name,
            what=dedent(about.what).strip(),
            prompt=about.prompt,
            limits=dedent(about.limits).strip(),
            first_head=f"{first['layer']}, {first['head']}",
            first_name=first["name"],
            **{size: card[size] for size in ("layers", "heads", "width", "parameters", "context", "samples")},
            program="\n".join(card["program"]),
            parts="\n".join(
                f"| head {each['layer']}.{each['head']} | {each['name']} | {each['selects']} | {each['moves']} |"
                for each in card["parts"]
            ),
            others=fill(
                " ".join(_mlp(int(layer), each) for layer, each in card["mlps"].items())
                + f" Idle, as controls: {_listed(idle)}. What tells what, by which path:",
                120,
            ).strip(),
            edges="\n".join(f"{sender} → {receiver} ({path})" for sender, receiver, path in card["edges"]),
            table=measured_table(card["measured"]),
        )
    )


def _mlp(layer: int, each: dict[str, Any]) -> str:
    return f"The MLP of layer {layer} computes {_listed(each['computes'])}, with {each['neurons']} neurons."


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"
