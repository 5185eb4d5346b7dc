"""Counter-examples as pictures, for `drawn` of an exercise: what the learner's answer is, beside what is right.

drawn=beside()                                       numbers, on their places
drawn=beside(lambda logits, ids: ids.tolist())       numbers, on what they are numbers of
drawn=beside(along=0)                                numbers of more axes: along one, where the answers differ most
drawn=marked(lambda model, prompts: prompts[0])      heads of a model, named by her, by us, or by both
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from interpwidgets.course.verdict import CounterExample
    from interpwidgets.views import AttentionView, TokensView

__all__ = ["beside", "marked"]

TITLE = "Yours, beside what is expected"


def beside(
    labels: Callable[..., Sequence[Any]] | None = None, *, along: int | None = None
) -> Callable[[CounterExample], TokensView]:
    """The numbers of two answers, one under the other, on labels made of the arguments, or on their places.

    `along` is an axis: only the numbers along it are shown, through the place where the answers differ most.
    """

    def draw(example: CounterExample) -> TokensView:
        from interpwidgets.views import TokensView

        yours, expected, title = np.asarray(example.got, float), np.asarray(example.expected, float), TITLE
        if along is not None:
            place = _worst(yours, expected, along)
            yours, expected = yours[place], expected[place]
            title += f", at [{', '.join(':' if isinstance(each, slice) else str(each) for each in place)}]"
        named = labels(*example.arguments) if labels else range(expected.size)
        series = {"yours": yours.ravel(), "expected": expected.ravel()}
        return TokensView([str(each) for each in named], series, side_by_side=True, title=title)

    return draw


def marked(prompt: Callable[..., str]) -> Callable[[CounterExample], AttentionView]:
    """All heads of the model in the first argument, on a prompt made of the arguments; named ones say by whom.

    A head that only one of the two has named is open.
    """

    def draw(example: CounterExample) -> AttentionView:
        from interpwidgets.models import record
        from interpwidgets.views import AttentionView

        model, yours, expected = example.arguments[0], _heads(example.got), _heads(example.expected)
        labels = dict.fromkeys(expected, "expected") | dict.fromkeys(yours, "yours")
        labels |= dict.fromkeys(yours & expected, "both")
        layer, head = min(yours ^ expected, default=(0, 0))
        rec = record(model, prompt(*example.arguments))
        return AttentionView(rec, layer=layer, head=head, labels=labels, title=TITLE)

    return draw


def _heads(answer: Any) -> set[tuple[int, int]]:
    return {(int(layer), int(head)) for layer, head in answer}


def _worst(yours: np.ndarray, expected: np.ndarray, along: int) -> tuple[int | slice, ...]:
    """The index of the line along an axis on which the two differ most; a number that is none differs most of all."""
    apart = np.nan_to_num(np.abs(yours - expected), nan=np.inf)
    place: list[int | slice] = [int(each) for each in np.unravel_index(apart.argmax(), apart.shape)]
    place[along] = slice(None)
    return tuple(place)
