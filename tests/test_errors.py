"""Errors: one family, each also of the built-in kind that a caller may already catch."""

import pytest

from interpwidgets import errors


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [("InputError", ValueError), ("UnknownModelError", LookupError), ("NoAttentionError", TypeError)],
)
def test_each_is_also_a_builtin(ours: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, ours)
    assert issubclass(kind, errors.InterpError)
    assert issubclass(kind, builtin)


def test_a_missing_site_reads_as_a_sentence() -> None:
    with pytest.raises(KeyError) as caught:
        raise errors.NotRecordedError("There is no 'z' of layer 0.")
    assert str(caught.value) == "There is no 'z' of layer 0."  # a plain KeyError prints quotes around it
    assert isinstance(caught.value, errors.InterpError)
    assert str(errors.NotRecordedError()) == ""


def test_all_are_listed_and_drawn() -> None:
    ours = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert ours == set(errors.__all__)
    assert all(name in errors.__doc__ for name in ours)
