"""The labeler without a language model: it finds a truth that was planted, and nothing in noise."""

from __future__ import annotations

import numpy as np
import pytest
from autointerp.planted import IN, PARIS, ROME, STOP, Plant, Planted, after, both, is_, noise

from interpwidgets.autointerp import Evidence, Labeler, StatisticsLabeler, evidence, scores
from interpwidgets.errors import InputError

TRUTHS: dict[str, Plant] = {
    "the token ␣Paris": is_(PARIS),
    "a token after ␣in": after(IN),
    "the token ␣Paris after ␣in": both(is_(PARIS), after(IN)),
    "one of: ␣Paris, ␣Rome": is_(PARIS, ROME),
    "the first token of a sentence": lambda ids, rng: np.concatenate([[True], ids[:-1] == STOP]),
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_a_planted_truth_is_found_and_scores_one(truth: str, rng: np.random.Generator) -> None:
    here = evidence(Planted(rng, [TRUTHS[truth], noise(0.02), is_(0)], contexts=1200), 0)
    labeler = StatisticsLabeler()
    label = labeler.label(here.train)[0]
    said, meant = (set(each.replace("one of: ", "").split(", ")) for each in (label, truth))
    assert said == meant or label == truth
    found = scores(labeler, label, here)
    for name in ("fuzzing", "fuzzing_auc"):
        assert found[name].value > 0.9
    # a text may begin just after the token that a rule asks for: there it cannot be told
    assert found["detection"].value > 0.93
    assert found["correlation"].value > 0.8
    if truth.startswith(("the token ␣Paris", "one of")) and "after" not in truth:
        assert found["detection"].value == found["fuzzing"].value == 1
        assert found["detection"].high == 1
        assert found["detection"].low < 0.95  # thirty right answers of a kind are no proof


def test_noise_is_at_chance(rng: np.random.Generator) -> None:
    """Features that are active at random: what is learnt of them is worth nothing on other text."""
    source = Planted(rng, [noise(0.02)] * 40, contexts=600)
    labeler = StatisticsLabeler()
    found = []
    for feature in range(40):
        here = evidence(source, feature)
        if said := labeler.label(here.train):
            found.append(scores(labeler, said[0], here))
    assert len(found) > 20
    for name, chance in (("detection", 0.5), ("detection_auc", 0.5), ("fuzzing", 0.5), ("correlation", 0.0)):
        values = np.array([each[name].value for each in found])
        assert abs(values.mean() - chance) < 5 * values.std() / len(values) ** 0.5 + 0.005, name


def test_scored_on_what_it_learnt_from_noise_would_not_be_at_chance(rng: np.random.Generator) -> None:
    """The reason for two sides: the same labels of noise, on the examples that they were made from and on others.

    Rules are chosen by the tokens that they fit, so it is the correlation over tokens that leaks the most.
    """
    source = Planted(rng, [noise(0.02)] * 20, contexts=600)
    labeler = StatisticsLabeler(price=0)
    pairs = []
    for feature in range(20):
        here = evidence(source, feature)
        said = labeler.label(here.train)[0]
        leaky = Evidence(feature, here.train, here.train)
        pairs.append([scores(labeler, said, each)["correlation"].value for each in (leaky, here)])
    lead = np.subtract(*np.transpose(pairs))
    assert lead.mean() > 5 * lead.std() / len(lead) ** 0.5


def test_several_candidates_differ(rng: np.random.Generator) -> None:
    here = evidence(Planted(rng, [TRUTHS["the token ␣Paris after ␣in"]], contexts=1200), 0)
    said = StatisticsLabeler(candidates=3).label(here.train)
    assert len(said) == len(set(said)) == 3


def test_nothing_to_say_of_nothing() -> None:
    labeler = StatisticsLabeler()
    assert isinstance(labeler, Labeler)
    assert labeler.label([]) == []
    assert labeler.predict("a token after ␣in", []) == []


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="one label or more"):
        StatisticsLabeler(candidates=0)
    with pytest.raises(InputError, match="is no rule"):
        StatisticsLabeler().predict("cities", [])
