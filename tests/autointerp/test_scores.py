"""Scores against the definitions, written out; and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from interpwidgets.autointerp import Evidence, Snippet, Text, scores
from interpwidgets.autointerp.scores import SCORES
from interpwidgets.tokens import Tokens


class Says:
    """A labeler that gives predictions made up before, text by text."""

    name = "says"

    def __init__(self, rows: dict[int, np.ndarray]) -> None:
        self.rows = rows

    def label(self, examples: Sequence[Snippet]) -> list[str]:
        return ["anything"]

    def predict(self, label: str, texts: Sequence[Text]) -> list[np.ndarray]:
        return [self.rows[text.start] for text in texts]


def made(rng: np.random.Generator, n: int, length: int = 8, quality: float = 0.5) -> tuple[Evidence, Says]:
    """n active texts and n others, and predictions that know something; `start` tells texts apart."""
    sides, rows = [], {}
    for side in range(2):
        snippets = []
        for number in range(2 * n):
            activations = np.zeros(length, dtype=np.float32)
            if number < n:
                activations[rng.permutation(length)[: rng.integers(1, 4)]] = rng.uniform(1, 3)
            start = side * 10_000 + number
            text = Text(Tokens(tuple("abcdefgh"[:length])), start)
            snippets.append(Snippet(text, activations, start))
            rows[start] = np.clip(quality * (activations > 0) + rng.uniform(0, 0.7, length), 0, 1)
        sides.append(snippets)
    return Evidence(3, *sides), Says(rows)


def test_against_the_definitions(rng: np.random.Generator) -> None:
    here, says = made(rng, 15)
    found = scores(says, "", here)
    best = [says.rows[snippet.text.start].max() for snippet in here.test]
    on, off = best[:15], best[15:]
    assert found["detection"].value == pytest.approx(
        np.mean([np.mean(np.array(on) > 0.5), np.mean(np.array(off) <= 0.5)])
    )
    area = stats.mannwhitneyu(on, off).statistic / (15 * 15)
    assert found["detection_auc"].value == pytest.approx(area)
    x = np.concatenate([says.rows[snippet.text.start] for snippet in here.test])
    y = np.concatenate([snippet.activations for snippet in here.test])
    assert found["correlation"].value == pytest.approx(stats.pearsonr(x, y).statistic)
    train = [*here.train[:8], *here.train[15:23]]
    line = stats.linregress(
        np.concatenate([says.rows[s.text.start] for s in train]), np.concatenate([s.activations for s in train])
    )
    left = y - line.intercept - line.slope * x
    assert found["explained_variance"].value == pytest.approx(
        1 - (left**2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-4
    )
    for name, score in found.items():
        assert score.low <= score.value <= score.high
        assert score.chance == SCORES[name]


def test_fuzzing_asks_for_the_active_tokens(rng: np.random.Generator) -> None:
    here, _ = made(rng, 20)
    exact = Says({s.text.start: (s.activations > 0).astype(float) for s in (*here.train, *here.test)})
    wrong = Says({s.text.start: (s.activations == 0).astype(float) for s in (*here.train, *here.test)})
    assert scores(exact, "", here)["fuzzing"].value == scores(exact, "", here)["fuzzing_auc"].value == 1
    assert scores(wrong, "", here)["fuzzing"].value == 0


def test_a_judge_is_asked_about_texts(rng: np.random.Generator) -> None:
    here, says = made(rng, 10)
    asked: list[Any] = []

    class Judge(Says):
        def judge(self, label: str, texts: Sequence[Text], marks: Any = None) -> np.ndarray:
            asked.append((len(texts), marks))
            return np.full(len(texts), 0.5)

    found = scores(Judge(says.rows), "", here, simulation=False)
    assert [count for count, _ in asked] == [20, 20]
    assert asked[0][1] is None
    true, false = (np.stack(asked[1][1][first::2]) for first in (0, 1))
    active = np.stack([snippet.active for snippet in here.test[:10]])
    assert (true == active).all()
    assert (false.sum(1) == active.sum(1)).all()
    assert not (false & active).any()
    assert found["detection"].value == 0.5
    assert found["correlation"].n == 0
    assert np.isnan(found["correlation"].value)


def test_intervals_cover(rng: np.random.Generator) -> None:
    """Of many samples of texts, about 95 % of the intervals hold the value that endless text would give."""
    truth = np.mean(
        [scores(says, "", here)["detection_auc"].value for here, says in (made(rng, 200) for _ in range(20))]
    )
    inside = []
    for _ in range(150):
        here, says = made(rng, 20)
        score = scores(says, "", here, simulation=False)["detection_auc"]
        inside.append(score.low <= truth <= score.high)
    assert 0.86 < np.mean(inside) <= 1


def test_too_few_examples_give_no_score(rng: np.random.Generator) -> None:
    here, says = made(rng, 3)
    found = scores(says, "", here)
    assert set(found) == set(SCORES)
    assert all(score.n == 0 and np.isnan(score.value) for score in found.values())
    assert "could not be asked" in str(found["detection"])


def test_all_right_is_not_certain(rng: np.random.Generator) -> None:
    here, _ = made(rng, 12)
    exact = Says({s.text.start: (s.activations > 0).astype(float) for s in (*here.train, *here.test)})
    score = scores(exact, "", here)["detection"]
    assert (score.value, score.high) == (1, 1)
    assert score.low == pytest.approx(0.025 ** (1 / 12))
