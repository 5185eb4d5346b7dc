"""A dictionary's report against slow sums in float64, the shipped card, and absorption that was built in."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from features.conftest import CONTEXT, WIDTH, pieces, random_corpus, random_dictionary, random_model

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.features.absorption import Pairs
from interpwidgets.features.report import ratio
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.train.concepts import labelled

SEED = secrets.randbits(30)  # a failure prints it


@torch.no_grad()
def slowly(model: iw.Model, one: Dictionary, contexts: list[list[int]]) -> dict[str, float]:
    """Context by context, token by token, with plain hooks of torch."""
    block = model.module.transformer.h[one.layer]
    stream: list[np.ndarray] = []

    def loss(change) -> float:
        def hook(_, __, output):
            there = output[0] if isinstance(output, tuple) else output
            new = there.clone()
            first = int(ids[0] == 0)
            new[0, first:] = change(there[0, first:])
            return (new, *output[1:]) if isinstance(output, tuple) else new

        total, count = 0.0, 0
        for ids in contexts:
            handle = block.register_forward_hook(hook)
            logits = model.module(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
            handle.remove()
            for place in range(len(ids) - 1):
                total -= float(logits[place, ids[place + 1]])
                count += 1
        return total / count

    def keep(there):
        stream.append(there.double().numpy())
        return there

    clean = loss(keep)
    x = np.concatenate(stream)
    w = {name: weight.double().numpy() for name, weight in one.state_dict().items()}
    before = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    features = np.maximum(before, 0)
    error = x - features @ w["W_dec"] - w["b_dec"]
    mean = torch.tensor(x.mean(0)).float()
    found = {
        "fvu": (error**2).sum() / ((x - x.mean(0)) ** 2).sum(),
        "l0": (features > 0).sum(1).mean(),
        "loss": clean,
        "loss_reconstructed": loss(one),
        "loss_zero": loss(torch.zeros_like),
        "loss_mean": loss(mean.expand_as),
    }
    found["recovered"] = (found["loss_zero"] - found["loss_reconstructed"]) / (found["loss_zero"] - clean)
    found["recovered_mean"] = (found["loss_mean"] - found["loss_reconstructed"]) / (found["loss_mean"] - clean)
    return found | {"counts": (features > 0).sum(0), "n_tokens": len(x)}


def test_every_number_is_what_slow_sums_give() -> None:
    model, one = random_model(SEED), random_dictionary(seed=SEED)
    corpus = random_corpus(np.random.default_rng(SEED), 12)
    report = iw.dictionary_report(one, model, corpus, context=CONTEXT, batch=5, progress=False)
    wanted = slowly(model, one, pieces(corpus))
    assert report.n_tokens == wanted.pop("n_tokens"), SEED
    assert report.n_contexts == len(pieces(corpus))
    np.testing.assert_allclose(report.counts, wanted.pop("counts"), atol=1)  # one token may be at the edge
    for name, value in wanted.items():
        found = getattr(report, name)
        assert found.value == pytest.approx(value, rel=2e-3), (name, SEED)
        assert found.low <= found.value <= found.high, (name, SEED)
    assert report.dead >= 1 / one.d_dict  # the first is never active
    edges, counts = report.density_histogram()
    assert counts.sum() == (report.counts > 0).sum()
    assert len(edges) == len(counts) + 1


def test_a_perfect_dictionary_recovers_everything() -> None:
    one = Dictionary(WIDTH, 2 * WIDTH, kind="relu", site="resid_post", layer=1)
    eye = torch.eye(WIDTH)
    with torch.no_grad():
        one.W_enc.copy_(torch.cat([eye, -eye], dim=1))
        one.W_dec.copy_(torch.cat([eye, -eye]))
    report = iw.dictionary_report(one, random_model(), random_corpus(np.random.default_rng(SEED), 5), progress=False)
    assert report.fvu.value == pytest.approx(0, abs=1e-9)
    assert report.recovered.value == pytest.approx(1, abs=1e-4)
    assert report.l0.value == pytest.approx(WIDTH)
    assert report.dead == 0


def test_the_shipped_dictionaries_measure_as_their_card_says() -> None:
    folder = Path(iw.__file__).parent / "models" / "systems" / "storyteller-4l-sae"
    card = json.loads((folder / "card.json").read_text("utf-8"))["measured"]
    model = iw.load("storyteller-4l")
    stories = batch(SEED, -3, 48, 128, 0.2, "heldout")  # the card measures losses on these,
    text = labelled(SEED, 64, 128).tokens.tolist()  # and what is left unexplained on these
    for name, which in (("topk", None), ("transcoder", "transcoder.1")):
        one = iw.load_dictionary("storyteller-4l-sae", which)
        fit, losses = (iw.dictionary_report(one, model, rows, progress=False) for rows in (text, stories))
        ours = {"fvu": fit.fvu, "l0": fit.l0}
        ours |= {"loss": losses.loss_reconstructed, "recovered": losses.recovered_mean}
        for measure, found in ours.items():
            low, high = card[f"{name}_{measure}"]["interval"]
            assert low - 0.01 <= found.value <= high + 0.01, (name, measure, SEED)
    assert "loss recovered, from zero" in str(losses)
    assert repr(losses).startswith("<report of 6,096 tokens: FVU 0.")


def test_what_cannot_be_measured_is_refused() -> None:
    model, one = random_model(), random_dictionary()
    with pytest.raises(InputError, match="The corpus holds no text"):
        iw.dictionary_report(one, model, [], progress=False)
    with pytest.raises(InputError, match="has 16 numbers a position on resid_post of layer 0; induction-2l has 128"):
        iw.dictionary_report(one, iw.load("induction-2l"), [[1, 2]], progress=False)
    several = Dictionary(2 * WIDTH, 8, kind="relu", site="resid_post", layer=0, layers=[0, 1])
    with pytest.raises(InputError, match="is of several layers"):
        iw.dictionary_report(several, model, [[1, 2]], progress=False)
    one.W_enc[0, 0] = torch.inf
    with pytest.raises(InputError, match="finds NaN or infinite activations"):
        iw.dictionary_report(one, model, [[1, 2, 3]], progress=False)


def test_intervals_of_a_ratio_cover_it() -> None:
    rng = np.random.default_rng(SEED)
    covered = 0
    for _ in range(100):
        below = rng.gamma(4, 1, 60)
        found = ratio(0.3 * below + rng.normal(0, 0.5, 60), below)
        covered += found.low <= 0.3 <= found.high
    assert covered >= 85, SEED  # of 95; fewer than one time in ten thousand by chance
    assert np.isnan(ratio(np.zeros(3), np.zeros(3)).value)


# --- absorption


def words(absorbed: bool, n: int = 4000) -> tuple[Dictionary, torch.Tensor]:
    """Tokens that start with S, some of which are "short"; and a dictionary in which "short" took that over, or not."""
    rng = torch.Generator().manual_seed(SEED)
    starts, short = torch.zeros(12), torch.zeros(12)
    starts[0], short[1] = 1, 1
    s = torch.rand(n, generator=rng) < 0.3
    special = s & (torch.rand(n, generator=rng) < 0.2)
    x = s[:, None] * starts + special[:, None] * short + 0.01 * torch.randn(n, 12, generator=rng)
    one = Dictionary(12, 4, kind="relu", site="resid_post", layer=0, centred=False)
    with torch.no_grad():
        one.W_enc[:, 0], one.W_dec[0] = starts - (2 * short if absorbed else 0), starts
        one.W_enc[:, 1] = short
        one.W_dec[1] = short + (starts if absorbed else 0)
        one.b_enc[:] = -0.2
        one.W_dec[2:, 5:7] = torch.eye(2)
    return one, x


def test_absorption_that_was_built_in_is_found_and_nothing_where_it_was_not() -> None:
    for absorbed in (True, False):
        one, x = words(absorbed)
        pairs = Pairs(one)
        with torch.no_grad():
            for part in x.split(700):
                pairs.add(one.encode(part), part)
        found = pairs.found(len(x))
        if not absorbed:
            assert found == []
            continue
        (only,) = found
        assert (only.parent, only.child) == (0, 1), SEED
        assert only.silent == 1
        assert only.cosine == pytest.approx(2**-0.5, abs=1e-5)
        assert only.tokens == int((one.encode(x)[:, 1] > 0).sum())
        assert repr(only).startswith("<feature 0 is silent at 100% of the ")


def test_random_directions_look_like_no_absorption() -> None:
    model = random_model(SEED)
    one = random_dictionary(seed=SEED, n=64)
    report = iw.dictionary_report(one, model, random_corpus(np.random.default_rng(SEED), 60), progress=False)
    assert len(report.absorbed) <= 0.02 * 64 * 63 / 2, SEED
