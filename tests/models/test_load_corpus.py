"""Text of shipped models: theirs, held out, repeatable, and enough to train a dictionary on."""

from __future__ import annotations

import secrets

import pytest
import torch

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.models.corpora import storyteller

SEED = secrets.randbits(30)


@pytest.mark.parametrize("name", ["induction-2l", "storyteller-4l"])
def test_a_model_reads_its_own_corpus_better_than_the_other(name: str) -> None:
    model = iw.load(name)
    rows = iw.load_corpus(name, contexts=40, length=64, seed=SEED)
    assert [len(row) for row in rows] == [64] * 40
    tokens = torch.tensor(rows)
    assert (tokens[:, 0] == model.tokenizer.bos_token_id).all()

    def loss(some: torch.Tensor) -> float:
        with torch.no_grad():
            return float(model.module(input_ids=some, labels=some).loss)

    mixed = tokens.flatten()[torch.randperm(tokens.numel())].reshape(tokens.shape)  # the same words in no order
    assert loss(tokens) < 0.6 * loss(mixed)


def test_the_same_seed_gives_the_same_text() -> None:
    first = iw.load_corpus("storyteller-4l", contexts=30, seed=SEED)
    assert iw.load_corpus("storyteller-4l", contexts=30, seed=SEED) == first
    assert iw.load_corpus("storyteller-4l", contexts=30, seed=SEED + 1) != first


def test_it_is_no_batch_of_the_training() -> None:
    rows = {tuple(row) for row in iw.load_corpus("storyteller-4l", contexts=30, side="train", seed=0)}
    for step in range(20):
        assert rows.isdisjoint(map(tuple, storyteller.batch(0, step, 30, 128, 0.2)))


def test_a_dictionary_is_trained_without_naming_a_corpus() -> None:
    found = iw.train_dictionary(iw.load("storyteller-4l"), width=64, k=4, steps=8, batch=256, progress=False)
    assert found.d_dict == 64
    with pytest.raises(InputError, match="No corpus of 'ioi-known' comes with the package"):
        iw.train_dictionary(iw.load("ioi-known"), site=("resid_post", 1), width=64, k=4, steps=8, progress=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "gpt2"}, "only of induction-2l and storyteller-4l"),
        ({"contexts": 0}, "contexts is how many"),
        ({"length": 129}, "2 tokens to the 128 that storyteller-4l reads; got 129"),
        ({"side": "test"}, "side is 'train' or 'heldout'; got 'test'"),
    ],
)
def test_what_is_not_there_is_said(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        iw.load_corpus(**{"name": "storyteller-4l", **settings})  # type: ignore[arg-type]
