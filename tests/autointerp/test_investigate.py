"""Experiments that tell labels apart: the true one is believed, and every number can be checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interpwidgets as iw
from interpwidgets.autointerp import Investigation, investigate
from interpwidgets.autointerp.investigate import NONE
from interpwidgets.errors import InputError
from interpwidgets.models.corpora import storyteller
from interpwidgets.models.corpora.storybook import TOKEN_ID
from interpwidgets.models.dictionary import Dictionary

torch.set_num_threads(1)
TRUTH = ("the", "a")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> iw.FeatureStore:
    """Features of the embedding that are exactly one token, or one of two: what is read tells which token it is."""
    model = iw.load("storyteller-4l")
    weight = model.anatomy.embed.weight.detach()
    sets = [[TOKEN_ID[word] for word in some] for some in (TRUTH[:1], TRUTH, (".",))]

    def encode(x: torch.Tensor) -> torch.Tensor:
        ids = torch.cdist(x.reshape(-1, x.shape[-1]).float(), weight.float()).argmin(-1)
        return torch.stack([torch.isin(ids, torch.tensor(some)) for some in sets], -1).float().view(*x.shape[:-1], -1)

    W_dec = torch.stack([weight[some].mean(0) for some in sets])  # noqa: N806
    one = Dictionary.wrap(encode, lambda features: features @ W_dec, W_dec, site="embed", layer=None)
    seed = int(np.random.default_rng().integers(1 << 30))
    corpus = storyteller.batch(seed=seed, step=1, rows=80, length=64, repeats=0.0, side="heldout")
    return iw.FeatureStore.build(tmp_path_factory.mktemp("planted") / "s", model, one, corpus, progress=False)


@pytest.mark.parametrize(
    ("feature", "labels", "truth"),
    [
        (0, ["one of: the, a", "the token the"], "the token the"),
        (1, ["one of: the, a", "the token the"], "one of: the, a"),
        (0, ["the token the", "a token after in"], "the token the"),
        (2, ["a mark", "the token .", "a token before the"], "the token ."),
    ],
)
def test_the_planted_label_is_believed(planted: iw.FeatureStore, feature: int, labels: list[str], truth: str) -> None:
    found = investigate(planted, feature, labels=labels)
    assert found.verdict == truth, found
    others = [number for number, label in enumerate(found.labels) if label != truth]
    assert all(found.bayes_factor(found.labels.index(truth), other) > 10 for other in others)


def test_where_all_labels_are_wrong_none_is_believed(planted: iw.FeatureStore) -> None:
    found = investigate(planted, 2, labels=["a token after in", "one of: the, a"])
    assert found.verdict == NONE, found


def test_where_labels_agree_it_stays_open(planted: iw.FeatureStore) -> None:
    found = investigate(planted, 0, labels=["one of: the, nothing", "one of: the, nobody"], enough=0.9999, steps=3)
    assert found.verdict is None
    assert "Open." in repr(found)


def test_every_step_can_be_checked(store: iw.FeatureStore) -> None:
    """Activations by transformers' own hidden states, beliefs by Bayes' rule, one step after another."""
    model, dictionary = store.bound
    noise = 0.2
    found = investigate(store, 8, noise=noise)
    belief = np.array(found.prior)
    assert found.steps
    for step in found.steps:
        changed = [i for i, (a, b) in enumerate(zip(step.before.words, step.after.words, strict=True)) if a != b]
        assert changed == [step.edited]
        contexts = (store.context(i).ids for i in range(store.about["corpus"]["contexts"]))
        start, end = step.before.start, step.before.start + len(step.before)
        whole = next(ids for ids in contexts if ids[start:end].tolist() == step.before.tokens.ids.tolist())
        values = []
        for text in (step.before, step.after):
            ids = torch.tensor([*whole[:start].tolist(), *text.tokens.ids.tolist()])[None]
            with torch.no_grad():
                hidden = model.module(ids, output_hidden_states=True, use_cache=False).hidden_states[2][0]
            values.append(float(dictionary.encode(hidden)[start + step.position, 8]))
        assert values == pytest.approx([step.was, step.now], rel=1e-3, abs=1e-3)
        for said, seen, free in (
            (step.said_before, step.was, False),
            (step.said, step.now, step.edited > step.position),
        ):
            says = np.array(said) * (1 - noise) + (1 - np.array(said)) * noise
            none = belief[:-1] @ says / belief[:-1].sum() if free else 0.5
            likely = np.append(says, none)
            belief = belief * (likely if seen > 0 else 1 - likely)
            belief = belief / belief.sum()
        assert step.belief == pytest.approx(belief.tolist())
    assert found.belief == found.steps[-1].belief


def test_the_log_can_be_read(store: iw.FeatureStore) -> None:
    found = investigate(store, 8, steps=2, enough=0.9999)
    lines = repr(found).splitlines()
    assert lines[0] == "Feature 8: which label?"
    assert any(line.startswith("1. ") and "→" in line and "«" in line for line in lines)
    assert "2 experiments were not enough." in lines[-1]
    assert lines[-1].endswith("A label is taken to be wrong 10% of the time.")
    assert found._repr_markdown_().count("\n|") > 6


def test_markup_stays_text_in_the_log() -> None:
    found = Investigation(3, ("<img src=x onerror=alert(1)>", "| b"), 0.1, (0.3, 0.3, 0.4), (), "Nothing.")
    assert "<img" not in found._repr_markdown_()
    assert "\\| b" in found._repr_markdown_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"noise": 0.5}, r"noise is between 0 and 0\.5; got 0\.5"),
        ({"enough": 0.4}, r"enough is between 0\.5 and 1"),
        ({"labels": ["a mark"]}, "two labels or more to tell apart; of feature 8 there is 1"),
        ({"labels": ["a mark", "cities"]}, "'cities' is no rule"),
    ],
)
def test_what_is_wrong_is_said(store: iw.FeatureStore, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        investigate(store, 8, **given)
