"""Training: it explains more, comes to the same weights whatever happens, and refuses what cannot be."""

from __future__ import annotations

import secrets
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from features.conftest import CONTEXT, WIDTH, pieces, random_corpus, random_model

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.features.contexts import cut_corpus
from interpwidgets.features.stream import Stream
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.training import sparse

module = import_module("interpwidgets.features.train_dictionary")  # not the function of that name
SEED = secrets.randbits(30)  # a failure prints it
MODEL = random_model()
CORPUS = random_corpus(np.random.default_rng(SEED), 60)
SMALL = {"site": ("resid_post", 1), "width": 48, "k": 4, "batch": 128, "context": CONTEXT, "progress": False}


def trained(**options) -> Dictionary:
    return iw.train_dictionary(MODEL, CORPUS, **{**SMALL, "steps": 60, "rate": 0.01, **options})


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu", "l1"])
def test_training_explains_more_along_directions_of_length_one(kind: str) -> None:
    first, last = (trained(kind=kind, steps=steps) for steps in (1, 60))
    before, after = (iw.dictionary_report(one, MODEL, CORPUS, context=CONTEXT, progress=False) for one in (first, last))
    assert after.fvu.value < 0.8 * before.fvu.value, SEED
    torch.testing.assert_close(last.W_dec.norm(dim=1), torch.ones(48), atol=1e-5, rtol=0)
    if kind == "topk":
        assert after.l0.value == pytest.approx(4, abs=0.2)
    if kind == "batchtopk":
        assert 1 < after.l0.value < 8, SEED
        assert len(last.threshold.unique()) == 1
    assert last.kind == {"topk": "topk", "l1": "relu"}.get(kind, "jumprelu")
    last.check(MODEL)
    with pytest.raises(InputError, match="was trained on a model of fingerprint"):
        last.check(random_model(1))


def test_a_seed_is_the_same_weights_and_another_seed_is_not() -> None:
    one, same, other = trained(steps=5), trained(steps=5), trained(steps=5, seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_a_run_that_was_stopped_comes_to_the_same_weights(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 4)
    monkeypatch.setattr(module, "_BUFFER", 256)
    whole = trained(kind=kind, steps=11, folder=tmp_path / "whole")
    learn, calls = sparse.learn, []

    def killed(*args):
        calls.append(args[2])
        if len(calls) == 7:
            raise KeyboardInterrupt
        return learn(*args)

    monkeypatch.setattr(sparse, "learn", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(kind=kind, steps=11, folder=tmp_path / "cut")
    assert not (tmp_path / "cut" / "cfg.json").exists()
    cut = trained(kind=kind, steps=11, folder=tmp_path / "cut")
    assert calls == [*range(7), *range(4, 11)]
    assert cut.fingerprint == whole.fingerprint
    read = iw.load_dictionary(tmp_path / "cut")
    assert read.fingerprint == cut.fingerprint
    assert read.metadata["model_fingerprint"] == MODEL.fingerprint
    trained(kind=kind, steps=11, folder=tmp_path / "cut")
    assert calls[14:] == []  # it is there already
    again = trained(kind=kind, steps=11, folder=tmp_path / "cut", resume=False)
    assert calls[14:] == [*range(11)]
    assert again.fingerprint == whole.fingerprint


def test_dead_features_are_revived() -> None:
    """With patience for a few steps, none of TopK's features stays dead."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(40, 256, WIDTH, generator=generator)
    dead = []
    for revival in (0.0, 1.0):
        one = Dictionary(WIDTH, 64, kind="topk", k=2, site="resid_post", layer=0)
        how = sparse.Learning("topk", 40, 2, 0.0, patience=3, revival=revival)
        sparse.begin(one, how, x[0], x[0], torch.Generator().manual_seed(0))
        with torch.no_grad():
            one.b_enc[:32] = -3.0  # half of them are out of reach
        idle = torch.zeros(64)
        adam = torch.optim.Adam(one.parameters(), lr=0.05)
        for number, rows in enumerate(x):
            adam.zero_grad()
            sparse.learn(one, how, number, rows, rows, idle).backward()
            adam.step()
        dead.append(int((idle >= 3).sum()))
    assert dead[1] < dead[0], SEED


# --- the stream


def stream(buffer: int, batch: int = 16, seed: int = 3, which=None):
    draft = Dictionary(WIDTH, 1, kind="relu", site="resid_post", layer=1)
    with cut_corpus(CORPUS, MODEL, draft, CONTEXT) as (cut, _):
        chosen = np.arange(len(cut)) if which is None else which
        return Stream(MODEL, cut, [("resid_post", 1)], batch=batch, buffer=buffer, seed=seed, which=chosen)


@pytest.mark.parametrize("buffer", [16, 100, 10**6])
def test_an_epoch_is_every_token_but_what_fills_no_batch(buffer: int) -> None:
    found = stream(buffer)
    rows = torch.cat([found(number)["resid_post", 1] for number in range(found.per_epoch)])
    with torch.no_grad():
        every = torch.cat(
            [
                iw.record(MODEL, ids, sites=["resid_post"])["resid_post", 1][0][int(ids[0] == 0) :]
                for ids in pieces(CORPUS)
            ]
        )
    distance = torch.cdist(rows.double(), every.double())
    assert float(distance.min(1).values.max()) < 1e-4, SEED  # each is a token of the corpus
    assert len(rows) <= len(every)
    if buffer > len(every):
        assert len(every) - len(rows) < 16
    assert not torch.equal(
        rows, torch.cat([found(found.per_epoch + n)["resid_post", 1] for n in range(found.per_epoch)])
    )


def test_a_batch_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    one, other = stream(64), stream(64)
    numbers = np.random.default_rng(SEED).permutation(3 * one.per_epoch)[:12]
    found = {int(number): one(int(number))["resid_post", 1] for number in numbers}
    for number in sorted(found):
        torch.testing.assert_close(other(number)["resid_post", 1], found[number], atol=0, rtol=0)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"site": ("stream", 1)}, "There is no site 'stream'. There are: embed, resid_pre"),
        ({"site": ("resid_post", 2)}, "There is no layer 2; there are 2"),
        ({"kind": "gated"}, "There is no kind 'gated' to train. There are: topk, batchtopk, jumprelu, l1"),
        ({"k": 49}, "Of 48 features, no 49 can be active"),
        ({"steps": 0}, "steps is a whole number above zero; got 0"),
        ({"width": 1.5}, "width is a whole number above zero; got 1.5"),
        ({"batch": 10**6}, r"tokens to train on, and a batch takes 1,000,000: give more"),
    ],
)
def test_what_cannot_be_trained_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        trained(**options)


def test_an_empty_corpus_and_a_folder_that_is_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The corpus holds no text"):
        iw.train_dictionary(MODEL, [], **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        trained(steps=2, folder=tmp_path / "file" / "sae")
