"""Rules read back as what they say, whatever the tokens are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpwidgets.autointerp import Rule, Text
from interpwidgets.autointerp.rules import ENDING, SHAPES
from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens, show

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script>",
    "\u202eabc",
    "\n",
    ", ",
    ",",
    " after ",
    " before x",
    "one of: a",
    "the token",
    "after",
    "before",
    "of:",
    "token",
    "a,",
    ",,",
]
words = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=6)), min_size=1, max_size=4, unique=True
)
shown = words.map(lambda some: tuple(dict.fromkeys(map(show, some))))
maybe = st.one_of(st.just(()), shown)


@settings(max_examples=300, deadline=None)
@given(token=maybe, after=maybe, before=maybe, shape=st.sampled_from(["", *SHAPES, f"{ENDING}ing"]))
def test_a_rule_is_what_its_label_says(token: tuple, after: tuple, before: tuple, shape: str) -> None:
    rule = Rule(() if shape else token, after, before, shape)
    if rule == Rule():
        return
    assert Rule.parse(str(rule)) == rule


def slow(rule: Rule, tokens: list[str]) -> list[bool]:
    """A rule without a kind of token, place by place."""
    found = []
    for i, word in enumerate(tokens):
        ok = not rule.token or word in rule.token
        ok &= not rule.after or (i > 0 and tokens[i - 1] in rule.after)
        ok &= not rule.before or (i + 1 < len(tokens) and tokens[i + 1] in rule.before)
        found.append(bool(ok))
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=0, max_size=8),
    *[st.lists(st.sampled_from("abc"), unique=True, max_size=2)] * 3,
)
def test_where_a_rule_holds(tokens: list[str], one: list[str], two: list[str], three: list[str]) -> None:
    rule = Rule(tuple(one), tuple(two), tuple(three))
    assert rule.holds(Text(Tokens(tuple(tokens)))).tolist() == slow(rule, tokens)


def test_kinds_of_tokens() -> None:
    text = Text(Tokens(("Anna", " ran", ".", " Then", " 12", " running", ".", "Anna")))
    where = {name: np.flatnonzero(Rule(shape=name).holds(text)).tolist() for name in (*SHAPES, f"{ENDING}ing")}
    assert where == {
        "the first token of a text": [0],
        "the first token of a sentence": [0, 3, 7],
        "a repeated token": [6, 7],
        "a number": [4],
        "a capitalised word": [0, 3, 7],
        "a mark": [2, 6],
        f"{ENDING}ing": [5],
    }
    later = Text(text.tokens, start=5)
    assert not Rule(shape="the first token of a text").holds(later).any()
    special = Text(Tokens(("<bos>", "a", "b"), special=np.array([True, False, False])))
    assert Rule(shape="the first token of a text").holds(special).tolist() == [False, True, False]


@pytest.mark.parametrize("label", ["", "names of cities", "a token", "the token", "one of", "after ␣in"])
def test_what_is_no_rule_says_so(label: str) -> None:
    with pytest.raises(InputError, match="is no rule that can be applied to text"):
        Rule.parse(label)
