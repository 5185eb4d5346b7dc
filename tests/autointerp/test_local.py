"""A local model as labeler: probabilities as the model gives them, whatever they are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import interpwidgets as iw
from interpwidgets.autointerp import Budget, ModelLabeler, OfStore, evidence
from interpwidgets.errors import BudgetError, InputError


@pytest.fixture(scope="module")
def labeler(store: iw.FeatureStore) -> ModelLabeler:
    return ModelLabeler(store.bound[0])


class Words:
    """A tokenizer that knows two answers, spelt by their letters."""

    eos_token_id = None

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) % 37 for letter in text]}

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(f"w{i}" for i in ids)


def test_probabilities_are_those_of_the_next_token(store: iw.FeatureStore) -> None:
    torch.manual_seed(0)
    from transformers import GPT2Config, GPT2LMHeadModel

    module = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=37, n_positions=512)).eval()
    labeler = ModelLabeler((module, Words()), batch=2)
    here = evidence(OfStore(store), 3)
    texts = [snippet.text for snippet in here.test[:5]]
    found = labeler.judge("cities", texts)
    for p, text in zip(found, texts, strict=True):
        prompt = f"Label: cities\nText: {' '.join(text.words)}\nDoes the label fit a token of it? Yes or No:"
        ids = torch.tensor([[ord(letter) % 37 for letter in prompt][-512:]])
        with torch.no_grad():
            logits = module(ids).logits[0, -1].double()
        two = torch.stack([logits[ord("s") % 37], logits[ord("o") % 37]]).softmax(0)
        assert p == pytest.approx(float(two[0]), abs=1e-4)
    rows = labeler.predict("cities", texts[:2])
    assert [len(row) for row in rows] == [len(text) for text in texts[:2]]
    assert all(((row >= 0) & (row <= 1)).all() for row in rows)


def test_a_label_is_what_the_model_writes(labeler: ModelLabeler, store: iw.FeatureStore) -> None:
    here = evidence(OfStore(store), 3)
    said = labeler.label(here.train)
    assert len(said) <= 1
    assert said == labeler.label(here.train)
    assert all("\n" not in label and len(label) <= 200 for label in said)


def test_a_model_that_knows_nothing_is_at_chance(labeler: ModelLabeler, store: iw.FeatureStore) -> None:
    """A model of stories cannot follow a question: its labels are worth nothing, and the table says so."""
    found = store.label(
        labeler, features=range(0, 512, 64), controls=False, kinds=False, simulation=False, progress=False
    )
    value, low, _ = found.mean("detection")
    assert abs(value - 0.5) < 0.15
    assert low < 0.56


def test_answers_are_kept_and_counted(store: iw.FeatureStore, tmp_path: Path) -> None:
    texts = [snippet.text for snippet in evidence(OfStore(store), 5).test[:4]]
    first, second = (ModelLabeler(store.bound[0], cache=tmp_path) for _ in range(2))
    said = first.judge("x", texts)
    assert np.array_equal(second.judge("x", texts), said)
    assert (first.spent.calls, second.spent.calls) == (1, 0)
    twin = first.dry_run()
    twin.judge("x", texts)
    assert twin.estimate.exact
    assert twin.spent.read == first.spent.read
    poor = ModelLabeler(store.bound[0], budget=Budget(calls=1), batch=1)
    with pytest.raises(BudgetError, match="budget of 1 calls"):
        poor.judge("x", texts)


def test_a_model_that_cannot_answer_says_so() -> None:
    module = iw.load("storyteller-4l").module
    with pytest.raises(InputError, match="has no tokenizer"):
        ModelLabeler(iw.Model(module))

    class Dumb(Words):
        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [3]}

    with pytest.raises(InputError, match="no tokens for yes and no"):
        ModelLabeler((module, Dumb()))
