"""Numbers in, whatever holds them; and what is wrong with them, in words."""

import numpy as np
import pytest
import torch

from interpwidgets.errors import InputError
from interpwidgets.views.numbers import numbers

AXES = ("layer", "pos")
VALUES = np.random.default_rng().normal(size=(2, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "given",
    [
        VALUES,
        VALUES.tolist(),
        VALUES.astype(np.float64),
        torch.tensor(VALUES),
        torch.tensor(VALUES, requires_grad=True),
        torch.tensor(VALUES).double(),
    ],
    ids=["numpy", "lists", "float64", "torch", "grad", "double"],
)
def test_the_same_numbers_from_everything(given):
    found = numbers(given, "losses", AXES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)


def test_half_precision_and_integers():
    half = torch.tensor(VALUES).bfloat16()
    np.testing.assert_array_equal(numbers(half, "losses", AXES), half.float().numpy())
    assert numbers(torch.arange(3), "ids", ("pos",)).tolist() == [0, 1, 2]
    assert numbers([True, False], "flags", ("pos",)).tolist() == [1, 0]


def test_pandas_in():
    pd = pytest.importorskip("pandas")
    np.testing.assert_array_equal(numbers(pd.DataFrame(VALUES), "losses", AXES), VALUES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[1, 2], [3]], "losses must be a regular array"),
        ("text", "losses must be numbers; got str"),
        ([["a", "b"]], "losses must be numbers; got list"),
        ([[None, "a"]], "losses must be numbers; got list of"),
        ([1.0, 2.0], r"losses must be \[layer, pos\]; got an array of shape \[2\]"),
        (np.zeros((2, 0)), r"must not be empty; got an array of shape \[2, 0\]"),
        (np.zeros((2, 4)), r"must be \[layer, pos\] with pos = 3; got shape \[2, 4\]"),
        ([[1, 2, 3], [4, np.nan, 6]], "must be finite numbers; at layer 1, pos 1 it is nan"),
        ([[1, 2, 3], [4, 5, np.inf]], "at layer 1, pos 2 it is inf"),
        (object(), "losses must be numbers; got object"),
    ],
)
def test_what_is_wrong_is_said(given, said):
    with pytest.raises(InputError, match=said):
        numbers(given, "losses", AXES, (None, 3))


def test_missing_numbers_where_they_may_be():
    assert np.isnan(numbers([[1, np.nan]], "effects", AXES, missing=True)[0, 1])
    with pytest.raises(InputError, match="it is inf"):
        numbers([[1, np.inf]], "effects", AXES, missing=True)
