"""Labels of a real dictionary beside controls: what is at chance, what is not, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import interpwidgets as iw
from interpwidgets.autointerp import Labelled, OfStore, Report, Snippet, StatisticsLabeler, Text, evidence
from interpwidgets.autointerp import controls as control
from interpwidgets.errors import BudgetError, InputError
from interpwidgets.models.scorecard import Score
from interpwidgets.models.train.dictionaries import untrained


@pytest.fixture(scope="module")
def report(store: iw.FeatureStore) -> Report:
    theirs = untrained(), iw.load_dictionary("storyteller-4l-sae", "untrained.resid_post.1.topk")
    return store.label(features=range(1, 512, 6), controls={"untrained model": theirs}, progress=False)


@pytest.mark.parametrize("name", ["shuffled labels", "other tokens"])
def test_what_means_nothing_is_at_chance(report: Report, name: str) -> None:
    """Were it not, something would leak from what a label is made from to what it is scored on.

    Features share some text: another's label may know a little of where one is silent, in detection only.
    """
    assert len(report.controls[name]) > 30
    for score, chance in (("detection", 0.5), ("detection_auc", 0.5), ("fuzzing", 0.5), ("correlation", 0.0)):
        values = np.array([each.scores[score].value for each in report.controls[name] if each.scores[score].n])
        shared = 0.05 if name == "shuffled labels" and score.startswith("detection") else 0.01
        assert abs(values.mean() - chance) < 4 * values.std() / len(values) ** 0.5 + shared, (score, values.mean())


def test_labels_are_above_chance_and_above_what_means_nothing(report: Report) -> None:
    assert report.mean("detection")[1] > 0.58
    assert report.mean("fuzzing")[1] > 0.58
    assert report.above("shuffled labels") > 0.3


def test_an_untrained_model_scores_as_well(report: Report) -> None:
    """What Heap et al. (2025) found: a good score does not tell a model that has learnt from one that has not."""
    value, low, _ = report.mean("detection", "untrained model")
    assert low > 0.6
    assert value > report.mean("detection")[0]


def test_random_directions_are_between(report: Report) -> None:
    value, low, _ = report.mean("detection", "random directions")
    assert low > 0.52
    assert value < report.mean("detection")[0]


def test_labels_are_kept_with_scores(store: iw.FeatureStore, report: Report) -> None:
    for one in report.features[:20]:
        kept = store.label_of(one.feature)
        score = one.scores["detection"]
        assert kept.text == one.label
        assert kept.by == "statistics"
        if score.n:
            assert (kept.score, kept.low, kept.high) == pytest.approx((score.value, score.low, score.high))
    assert len(store.query("labelled_by = 'statistics'", columns=["index"])) >= len(report.features)


def test_the_report_is_a_table(report: Report) -> None:
    lines = repr(report).splitlines()
    assert lines[0].split()[:2] == ["n", "detection"]
    assert [line.split("  ")[0] for line in lines[1:7]] == [
        "chance", "features", "shuffled labels", "other tokens", "random directions", "untrained model",
    ]  # fmt: skip
    assert repr(report) == repr(report)
    assert report._repr_markdown_().startswith("|  | n | detection |")


def test_labels_stay_text_in_markdown() -> None:
    score = {"detection": Score("detection", 0.5, 0.4, 0.6, 9, 0.5)}
    report = Report("<img src=x onerror=alert(1)> | `x`", [], {}, {3: "</script>"}, "**b**")
    made = report._repr_markdown_()
    assert "<" not in made.replace("| ", "")
    assert "&lt;img" in made
    assert "\\*\\*b\\*\\*" in made
    assert repr(Labelled(3, "a", score)) == "<Feature 3: 'a'; detection: 0.500 [0.400, 0.600] (n = 9; chance 0.5)>"


def test_without_others_the_model_is_given_new_weights(store: iw.FeatureStore) -> None:
    found = store.label(features=range(0, 40, 4), kinds=False, progress=False)
    assert [*found.controls][-1] == "random directions, untrained model"
    assert all(each.kinds is None for each in found.features)
    model = store.bound[0]
    other = control.untrained(model, 0)
    assert other.fingerprint != model.fingerprint
    assert other.fingerprint == control.untrained(model, 0).fingerprint


def test_controls_are_what_they_say(store: iw.FeatureStore) -> None:
    source, features = OfStore(store), [3, 77, 200]
    dense = np.concatenate([source.values(3, [context])[0] for context in source.pool])
    dealt = control.other_tokens(source, features, 0)
    assert sorted(dealt.dense[:, 0]) == pytest.approx(sorted(dense), rel=1e-3, abs=1e-3)
    assert not np.allclose(dealt.dense[:, 0], dense)
    drawn = control.random_directions(source, store.bound[0], features, 0)
    for column, feature in enumerate(features):
        assert (drawn.dense[:, column] > 0).mean() == pytest.approx(store[feature].density, rel=0.1)
    same = control.their_features(source, *store.bound, features, 0)
    assert same.dense[:, 0] == pytest.approx(dense, rel=1e-3, abs=1e-3)
    assert {place[0] for place in drawn.places(0)} <= set(source.pool.tolist())
    assert all(drawn.values(0, [context])[0][position] > 0 for context, position in drawn.places(0))
    assert 0 not in drawn.near(0)


def test_a_predictor_never_sees_activations(store: iw.FeatureStore) -> None:
    seen: list[object] = []

    class Spy(StatisticsLabeler):
        def predict(self, label: str, texts: Sequence[Text]) -> list[np.ndarray]:
            seen.extend(texts)
            return super().predict(label, texts)

    store.label(Spy(), features=[5], controls=False, progress=False)
    assert seen
    assert all(type(each) is Text for each in seen)
    assert not any(hasattr(each, "activations") for each in seen)


def test_features_by_a_condition(store: iw.FeatureStore) -> None:
    wanted = store.query("density > 0.05", columns=["index"]).index.tolist()
    found = store.label(features="density > 0.05", controls=False, kinds=False, simulation=False, progress=False)
    assert sorted([*(each.feature for each in found.features), *found.missing]) == sorted({*wanted, *found.missing})
    assert all(each.scores["correlation"].n == 0 for each in found.features)


def test_a_budget_ends_it_and_keeps_what_there_is(store: iw.FeatureStore) -> None:
    class Poor(StatisticsLabeler):
        left = 3

        def label(self, examples: Sequence[Snippet]) -> list[str]:
            if not self.left:
                raise BudgetError("The budget of 3 calls is used up.")
            self.left -= 1
            return super().label(examples)

    poor = Poor()
    poor.name = "poor"
    found = store.label(poor, features=range(20, 40), kinds=False, progress=False)
    assert len(found.features) + len(found.missing) <= 3
    assert "budget of 3 calls" in repr(found)
    assert len(store.query("labelled_by = 'poor'")) == len(found.features)


def test_what_is_wrong_is_said(store: iw.FeatureStore) -> None:
    unbound = iw.FeatureStore.open(store.folder)
    with pytest.raises(InputError, match=r"store has no model: store\.bind"):
        unbound.label(progress=False)
    with pytest.raises(InputError, match="A labeler has a name"):
        store.label(object(), progress=False)
    with pytest.raises(InputError, match="There is no feature 512"):
        store.label(features=[512], progress=False)
    theirs = iw.load_dictionary("storyteller-4l-sae", "untrained.resid_post.1.topk")
    theirs.metadata["model_fingerprint"] = "0123"
    with pytest.raises(InputError, match="was trained on a model of fingerprint 0123"):
        store.label(features=[1], controls={"x": (store.bound[0], theirs)}, progress=False)
    with pytest.raises(InputError, match=r"A control is a \(model, dictionary\); 'x' is int"):
        store.label(features=[1], controls={"x": 3}, progress=False)


def test_a_store_and_its_source_agree(store: iw.FeatureStore) -> None:
    source = OfStore(store)
    assert all(source.values(9, [context])[0][position] > 0 for context, position in source.places(9))
    assert repr(evidence(source, 9)).startswith("<Evidence for feature 9: active in ")
