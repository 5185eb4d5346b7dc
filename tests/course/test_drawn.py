"""Counter-examples as pictures: every exercise that draws one draws every wrong answer that it knows."""

from __future__ import annotations

import numpy as np
import pytest

import interpwidgets as iw
from interpwidgets.course import CounterExample
from interpwidgets.course.drawn import beside, marked
from interpwidgets.course.gpt2 import forward, replaced
from interpwidgets.course.library import lesson

LESSONS = ("residual_stream", "evidence", "ioi")
DRAWN = [each for name in LESSONS for each in lesson(name).exercises if getattr(each, "drawn", None)]


@pytest.mark.parametrize("exercise", DRAWN, ids=lambda exercise: exercise.name)
def test_wrong_answers_are_drawn(exercise):
    for mutant in exercise.mutants[:2]:
        verdict = exercise.judged(mutant.answer, None, 0)
        assert exercise.drawn(verdict.example).picture().png()


def test_numbers_stand_beside_each_other():
    example = CounterExample((["a", "b"],), np.array([1.0, np.nan]), [3.0, 4.0], "")
    view = beside(lambda names: names)(example)
    assert view.series_names == ["yours", "expected"]
    np.testing.assert_array_equal(view.tile(what="values", prompt=0, block=0).array, [[1, np.nan], [3, 4]])


def test_numbers_of_more_axes_are_shown_where_they_differ_most():
    expected = np.random.default_rng().normal(size=(3, 4, 2))
    got = expected.copy()
    got[0, 3, 1] += 0.1
    got[2, 1, 0] -= 5
    view = beside(lambda names: names, along=1)(CounterExample((list("abcd"),), got, expected, ""))
    assert view.title.endswith("at [2, :, 0]")
    shown = view.tile(what="values", prompt=0, block=0).array
    np.testing.assert_allclose(shown, [got[2, :, 0], expected[2, :, 0]], rtol=1e-6)
    got[1, 2, 1] = np.nan
    assert beside(along=-1)(CounterExample((), got, expected, "")).title.endswith("at [1, 2, :]")


def test_heads_say_who_named_them():
    model = iw.load("induction-2l")
    example = CounterExample((model, "lion bread"), [(0, 1), (1, 2)], [(1, 2), (1, 3)], "")
    view = marked(lambda _, prompt: prompt)(example)
    assert (view.layer, view.head) == (0, 1)
    labels = {(layer, head): who for layer, head, who in view.labels}
    assert labels == {(0, 1): "yours", (1, 2): "both", (1, 3): "expected"}


@pytest.mark.parametrize("name", ["induction-2l", "ioi-known"])
def test_the_written_out_model_is_the_model(name):
    """Against the module's own forward pass, and against patches made by hooks."""
    model = iw.load(name)
    words = [model.tokenizer.decode([i]).strip() for i in (5, 9, 17, 20, 31)]
    texts = [" ".join(words), " ".join(reversed(words))]
    rec = iw.record(model, texts, sites=["q", "pattern", "z", "mlp_out", "resid_pre", "resid_post", "logits"])
    seen = forward(model, texts)
    np.testing.assert_allclose(seen["logits"], rec["logits"], atol=1e-3)
    for layer in range(model.n_layers):
        for site in ("q", "z", "mlp_out", "resid_pre", "resid_post"):
            np.testing.assert_allclose(seen[site, layer], rec[site, layer], atol=1e-3)
    given = iw.record(model, texts[::-1], sites=["z"])
    changed = forward(model, texts, replaced(("z", 0), given["z", 0], head=1, pos=3))
    patch = iw.Patch("z", 0, head=1, pos=3, value=given)
    np.testing.assert_allclose(changed["logits"], iw.run(model, texts, [patch], sites=["logits"])["logits"], atol=1e-3)
