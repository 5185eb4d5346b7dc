"""Tokens as shown: visible, true, and never two alike."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.tokens import MARKS, Tokens, show

AWKWARD = "␣↵⇥␍⟨⟩∅ \n\t\r\x00\u200b\u200d\u202e\u0301\ufe0f\u3164\u2800a0FU+é👍ا"
strings = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=8)


def read_back(shown: str) -> str | bytes:
    """What `show` was given, told from its answer alone: if this can be done, no two tokens are shown alike."""
    if shown == "∅":
        return ""
    if re.fullmatch(r"⟨([0-9A-F]{2}( [0-9A-F]{2})*)?⟩", shown):
        return bytes.fromhex(shown[1:-1])
    characters = {mark: character for character, mark in MARKS.items()}
    parts = re.findall(r"⟨U\+([0-9A-F]{4,6})⟩|(.)", shown, flags=re.DOTALL)
    return "".join(chr(int(code, 16)) if code else characters.get(raw, raw) for code, raw in parts)


@given(strings)
def test_a_string_can_be_read_back_from_how_it_is_shown(token: str) -> None:
    assert read_back(show(token)) == token


@given(st.binary(max_size=6))
def test_bytes_can_be_read_back_from_how_they_are_shown(token: bytes) -> None:
    assert read_back(show(token)) == token


@given(strings)
def test_everything_shown_leaves_a_mark(token: str) -> None:
    shown = show(token)
    assert shown
    assert not any(unicodedata.category(character)[0] in "CZ" for character in shown)
    assert unicodedata.category(shown[0])[0] != "M"  # it would be drawn onto the token before


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" cat", "␣cat"),
        ("\n", "↵"),
        ("\r\n\t", "␍↵⇥"),
        ("", "∅"),
        ("∅", "⟨U+2205⟩"),
        ("␣", "⟨U+2423⟩"),
        ("⟨U+200B⟩", "⟨U+27E8⟩U+200B⟨U+27E9⟩"),
        ("\u200b", "⟨U+200B⟩"),
        ("\u202e", "⟨U+202E⟩"),
        ("\u0301", "⟨U+0301⟩"),
        (" \u0301", "␣⟨U+0301⟩"),
        ("e\u0301", "e\u0301"),
        ("e\u0301\u0302", "e\u0301\u0302"),
        ("❤\ufe0f", "❤⟨U+FE0F⟩"),
        ("\u3164", "⟨U+3164⟩"),
        ("<img src=x onerror=alert(1)>", "<img␣src=x␣onerror=alert(1)>"),
        ("&lt;", "&lt;"),
        ("مرحبا", "مرحبا"),
        ("👍🏽", "👍🏽"),
        ("\ud83d", "⟨U+D83D⟩"),
        (b"\xe2\x96", "⟨E2 96⟩"),
        (b"", "⟨⟩"),
    ],
)
def test_known_cases(token: str | bytes, shown: str) -> None:
    assert show(token) == shown


def test_a_sequence_of_what_is_shown() -> None:
    tokens = Tokens(("<s>", " a", b"\xe2"), ids=np.array([1, 5, 7]), special=np.array([True, False, False]))
    assert list(tokens) == ["<s>", "␣a", "⟨E2⟩"]
    assert tokens[1] == "␣a"
    assert tokens[1:] == ["␣a", "⟨E2⟩"]
    assert tokens.keys == (1, 5, 7)
    assert repr(tokens) == "Tokens(3: <s> ␣a ⟨E2⟩)"
    assert repr(Tokens.numbered(20)) == "Tokens(20: 0 1 2 3 4 5 6 7 …)"


def test_tokens_from_a_list_and_from_tokens() -> None:
    tokens = iw.Tokens.of(["a", "b"])
    assert tokens.text == tokens.keys == ("a", "b")
    assert not tokens.special.any()
    assert Tokens.of(tokens) is tokens


@pytest.mark.parametrize("given", ["abc", b"abc", ["a", 3], [None]])
def test_tokens_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(InputError, match="tokens are"):
        Tokens.of(given)  # type: ignore[arg-type]


def test_ids_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="2 tokens need 2 ids; got an array of shape"):
        Tokens(("a", "b"), ids=np.arange(3))
