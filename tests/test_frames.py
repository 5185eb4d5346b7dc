"""Tables for pandas: what a column becomes, what is read from one, and what is said where pandas is not there."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpwidgets.errors import InputError
from interpwidgets.frames import frame, is_frame, text_of
from interpwidgets.tokens import show

pd = pytest.importorskip("pandas")
texts = st.lists(st.text(max_size=5) | st.binary(max_size=3), min_size=1, max_size=6)


def test_whole_numbers_with_gaps_stay_whole():
    found = frame({"layer": [0, None, 2], "effect": [0.5, None, 1.0], "label": [None, "a", "b"], "n": 3})
    assert found["layer"].dtype == "Int64"
    assert found["layer"].isna().tolist() == [False, True, False]
    assert (found["layer"][2], found["effect"].dtype.kind, found["n"].tolist()) == (2, "f", [3, 3, 3])
    assert found["label"].isna().tolist() == [True, False, False]
    assert frame({"layer": [], "n": 3}).shape == (0, 2)


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        frame({"a": [1]})


@given(tokens=texts)
def test_tokens_are_read_as_they_are_shown(tokens):
    shown = [show(token) for token in tokens]
    table = pd.DataFrame({"token": shown, "position": range(len(tokens)), "loss": 1.0, "note": "x"})
    read, numbers = text_of(table)
    assert (read, list(numbers)) == (tokens, ["loss"])


def test_tokens_spelt_as_they_are_stay():
    read, numbers = text_of(pd.DataFrame({"token": [" cat", "\n", "⟨not a mark⟩"], 7: [1, 2, 3]}))
    assert (read, list(numbers)) == ([" cat", "\n", "⟨not a mark⟩"], ["7"])
    assert text_of(pd.DataFrame({"loss": [1.0]}))[0] is None


@pytest.mark.parametrize("wrong", [None, 0, np.nan])
def test_a_column_of_tokens_holds_text(wrong):
    with pytest.raises(InputError, match="The column 'token' holds text, a token a row; got"):
        text_of(pd.DataFrame({"token": ["a", wrong]}))


def test_what_is_a_table():
    assert is_frame(pd.DataFrame({"a": [1]}))
    assert not any(map(is_frame, ({"a": [1]}, np.zeros((2, 2)), [1], pd.Series([1]), "columns")))
