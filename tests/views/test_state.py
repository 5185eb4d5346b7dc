"""What is on screen, as a line of text; and steps taken back."""

import numpy as np
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles

from interpwidgets.errors import InputError
from interpwidgets.views import AttentionView
from interpwidgets.views import view as view_module

PATTERN = oracles.pattern(np.random.default_rng(), 3, 4, 6, 6)

STATES = st.fixed_dictionaries(
    {},
    optional={
        "layer": st.integers(0, 2),
        "head": st.integers(0, 3),
        "query": st.none() | st.integers(0, 5),
        "search": st.text(max_size=8),
        "scale": st.sampled_from(["linear", "sqrt", "log"]),
        "colour_range": st.just([]) | st.just([0.25, 0.5]),
        "dim_special": st.booleans(),
        "title": st.text(max_size=8),
    },
)


@given(STATES, STATES)
@settings(deadline=None, max_examples=40)
def test_a_state_opens_the_same_view_again(first, then):
    view = AttentionView(PATTERN, **first)
    for name, value in then.items():
        setattr(view, name, value)
    shown = view._settable()
    line = view.state()
    assert "\n" not in line
    assert AttentionView.from_state(line, PATTERN)._settable() == shown
    other = AttentionView(PATTERN, **first)
    other.restore(line)
    assert other._settable() == shown


def test_a_state_is_short_and_says_what_it_is_of():
    view = AttentionView(PATTERN, layer=1)
    view.head = 3
    assert set(view.state().split("?")[1].split("&")) >= {"layer=1", "head=3"}
    assert view.state().startswith("AttentionView?")


def test_what_was_touched_is_what_is_no_longer_as_it_opened():
    view = AttentionView(PATTERN, layer=1)
    assert view.touched == []
    view.head, view.layer = 2, 0
    assert set(view.touched) == {"layer", "head"}
    view.layer = 1
    assert view.touched == ["head"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("TokensView?layer=1", "no state of a AttentionView"),
        ("", "no state of a AttentionView"),
        (None, "no state of a AttentionView"),
        ("AttentionView?layer", "cannot be read"),
        ("AttentionView?layer={", "cannot be read"),
        ("AttentionView?colour=1", "no setting 'colour'. It has: ablate, aggregate"),
    ],
)
def test_what_is_no_state_is_refused(state, said):
    with pytest.raises(InputError, match=said):
        AttentionView.from_state(state, PATTERN)
    with pytest.raises(InputError, match=said):
        AttentionView(PATTERN).restore(state)


def test_a_state_of_larger_data_is_refused():
    with pytest.raises(traitlets.TraitError, match="layer 7 does not exist"):
        AttentionView.from_state("AttentionView?layer=7", PATTERN)


def test_steps_are_taken_back_and_made_again(monkeypatch):
    monkeypatch.setattr(view_module, "_ONE_STEP", -1.0)
    view = AttentionView(PATTERN)
    assert not view.undo()
    view.layer = 2
    view.head = 1
    view.head = 3
    assert view.undo()
    assert (view.layer, view.head) == (2, 1)
    assert view.undo()
    assert view.undo()
    assert (view.layer, view.head) == (0, 0)
    assert not view.undo()
    assert view.redo()
    assert view.redo()
    assert (view.layer, view.head) == (2, 1)
    view.query = 4  # another way from here
    assert not view.redo()
    assert view.undo()
    assert (view.query, view.head) == (None, 1)


def test_changes_close_together_are_one_step(monkeypatch):
    monkeypatch.setattr(view_module, "_ONE_STEP", 1e9)
    view = AttentionView(PATTERN)
    view.layer, view.head = 1, 1
    view._changed_at = float("-inf")
    view.layer, view.head = 2, 2
    view.undo()
    assert (view.layer, view.head) == (1, 1)
    view.undo()
    assert (view.layer, view.head) == (0, 0)


def test_the_page_asks_for_a_step_back():
    view = AttentionView(PATTERN)
    view.layer = 2
    view._receive(view, {"undo": True}, [])
    assert view.layer == 0
    view._receive(view, {"undo": False}, [])
    assert view.layer == 2
