"""Path patching is what plain hooks make of it, one pass, one sender and one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import HEADS, LAYERS, VOCABULARY, Naive, build, put
from transformers import BertConfig, BertForMaskedLM

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import path_patch, path_sweep, paths

torch.set_num_threads(1)
METRIC = iw.logit_diff(3, 5)


def naive_path(naive: Naive, clean: Any, corrupted: Any, sender: Any, receivers: Any, freeze: Sequence[str]) -> float:
    site, layer, head, pos = (*sender, None, None)[:4]
    _, source = naive.run(clean, read=[(site, layer)])
    every = [(name, at) for name in freeze for at in range(LAYERS)]
    _, base = naive.run(corrupted, read=every)
    held = [(name, at, put(base[name, at])) for name, at in every]
    held.append((site, layer, put(source[site, layer], head, pos)))
    _, heard = naive.run(corrupted, held, read=[(name, at) for name, at, *_ in receivers])
    told = [(r[0], r[1], put(heard[r[0], r[1]], *(*r[2:], None, None)[:2])) for r in receivers]
    logits, _ = naive.run(corrupted, told)
    return float(logits[-1, 3] - logits[-1, 5])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


@pytest.fixture(scope="module")
def pairs() -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(5)
    clean = [rng.integers(1, VOCABULARY, size).tolist() for size in (7, 5, 9)]
    corrupted = [[*ids[:2], *rng.integers(1, VOCABULARY, len(ids) - 2).tolist()] for ids in clean]
    return clean, corrupted


BOTH = ("z", "mlp_out")
CASES = [
    (("z", 0, 1), [("q", 2, 2)], BOTH),
    (("z", 0, 1), [("k", 1, 0), ("v", 2, 1)], BOTH),
    (("z", 0, 3, -1), [("q", 1, 2), ("mlp_pre", 2)], BOTH),
    (("z", 1, 0), [("resid_post", 2, None, -1)], BOTH),
    (("mlp_out", 0), [("q", 2, 0, -1), ("k", 2, 1, 3)], BOTH),
    (("attn_out", 1), [("mlp_pre", 1), ("resid_post", 2)], BOTH),
    (("z", 0, 2), [("q", 2, 1), ("k", 2, 0)], ("z",)),
    (("resid_pre", 1), [("v", 2, 0)], ("mlp_out",)),
    (("z", 0, [0, 1]), [("q", 2, 1)], ()),
    (("z", 1, 1), [("q", 0, 1), ("q", 2, 1)], BOTH),  # the first receiver is before the sender
]


@pytest.mark.parametrize(("sender", "receivers", "freeze"), CASES)
def test_a_path_is_what_hooks_make_of_it(naive: Naive, pairs: Any, sender: Any, receivers: Any, freeze: Any) -> None:
    clean, corrupted = pairs
    effect = iw.path_patch(
        naive.module, clean, corrupted, sender=sender, receivers=receivers, metric=METRIC, freeze=freeze
    )
    wanted = [naive_path(naive, a, b, sender, receivers, freeze) for a, b in zip(clean, corrupted, strict=True)]
    np.testing.assert_allclose(effect.values, wanted, atol=1e-9)
    assert np.abs(effect.per_prompt).max() > 1e-4
    ends = [naive.run(ids)[0][-1] for ids in corrupted]
    np.testing.assert_allclose(effect.corrupted, [float(end[3] - end[5]) for end in ends], atol=1e-9)


@pytest.mark.parametrize("rows", [1, 40, 1024])
def test_a_sweep_is_its_paths_whatever_fits_into_a_batch(
    naive: Naive, pairs: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_ROWS", rows)
    receivers = [("q", 2, 2), ("mlp_pre", 1)]
    effects = path_sweep(naive.module, *pairs, METRIC, receivers=receivers, progress=False)
    assert [(axis.name, axis.labels) for axis in effects.axes] == [("layer", (0, 1)), ("head", (0, 1, 2, 3))]
    for layer in range(2):
        for head in range(HEADS):
            one = path_patch(naive.module, *pairs, METRIC, sender=("z", layer, head), receivers=receivers)
            np.testing.assert_allclose(effects[layer, head].values, one.values, atol=1e-9)
    assert effects.clean is not None


def test_a_sweep_goes_over_mlps_and_positions_too(naive: Naive, pairs: Any) -> None:
    clean, corrupted = ([ids[:5] for ids in side] for side in pairs)
    receivers = [("resid_post", 2, None, -1)]
    mlps = path_sweep(naive.module, clean, corrupted, METRIC, receivers=receivers, over="mlp_out", progress=False)
    assert [axis.name for axis in mlps.axes] == ["layer"]
    assert mlps.shape == (3,)
    cells = path_sweep(
        naive.module, clean, corrupted, METRIC, receivers=receivers, over="mlp_out", by=("layer", "pos"), progress=False
    )
    np.testing.assert_allclose(cells.effect[:, :4], 0, atol=1e-12)  # what is said elsewhere does not arrive at the end
    np.testing.assert_allclose(cells.effect[:, 4], mlps.effect, atol=1e-9)


def test_the_same_where_every_pass_is_whole(naive: Naive, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    short = path_sweep(naive.module, *pairs, METRIC, receivers=[("k", 2, 1)], progress=False)
    monkeypatch.setattr(paths, "way_of", lambda _: "whole")
    whole = path_sweep(naive.module, *pairs, METRIC, receivers=[("k", 2, 1)], progress=False)
    np.testing.assert_allclose(short.values, whole.values, atol=1e-9)


def test_a_model_that_sees_both_ways() -> None:
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    module = BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, **size)).double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(8.0 if weight.ndim == 2 else 1.0)
    effect = path_patch(
        module, [[4, 5, 6, 7]], [[4, 5, 6, 8]], iw.logit(3, pos=1), sender=("z", 0, 0), receivers=[("v", 1, 1)]
    )
    assert abs(float(effect)) > 1e-6  # what differs only at the end is heard at position 1


def test_controls_are_other_heads_before_the_receivers(naive: Naive, pairs: Any) -> None:
    receivers = [("q", 1, 2)]
    effect = path_patch(
        naive.module, *pairs, METRIC, sender=("z", 0, 1), receivers=receivers, control="random_heads", draws=20
    )
    others = [
        path_patch(naive.module, *pairs, METRIC, sender=("z", 0, head), receivers=receivers).value for head in (0, 2, 3)
    ]
    assert effect.control is not None
    np.testing.assert_allclose(sorted(effect.control), sorted(others), atol=1e-9)


def test_induction_is_told_by_the_previous_token_head() -> None:
    model = iw.load("induction-2l")
    rng = np.random.default_rng(0)
    clean, corrupted, answer, other = [], [], [], []
    for _ in range(8):
        words = rng.choice(np.arange(20, 400), 12, replace=False).tolist()
        new = int(rng.integers(400, 500))
        clean.append([0, *words, words[4]])
        corrupted.append([0, *words[:4], new, *words[5:], words[4]])  # the token before the answer was another one
        answer.append(words[5])
        other.append(words[8])
    metric = iw.logit_diff(answer, other)
    receivers = [("k", 1, head) for head in range(4)]
    effects = path_sweep(model, clean, corrupted, metric, receivers=receivers, progress=False)
    assert effects.clean is not None
    assert effects.clean.mean() - effects.corrupted.mean() > 2
    strongest = max(range(4), key=lambda head: effects.effect[0, head])
    assert strongest in (2, 3), repr(effects)  # the card's previous-token heads
    queries = path_sweep(
        model, clean, corrupted, metric, receivers=[("q", 1, head) for head in range(4)], progress=False
    )
    assert queries.effect.max() < effects.effect.max() / 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sender": ("q", 0, 1)}, "writes to the residual stream"),
        ({"sender": ("z", 7, 1)}, "no layer 7"),
        ({"sender": ("z", 0, 9)}, "has 4 heads"),
        ({"sender": "z"}, "A sender is"),
        ({"sender": ("z", 2, 1)}, "no path"),
        ({"receivers": [("z", 2, 1)]}, "is held"),
        ({"receivers": ("q", 2, 1)}, "list of places"),
        ({"receivers": []}, "list of places"),
        ({"receivers": [("q", 2, 9)]}, "has 4 heads"),
        ({"freeze": ("nothing",)}, "There is no site"),
        ({"control": "others"}, "'random_heads'"),
        ({"sender": ("mlp_out", 0), "control": "random_heads"}, "one head"),
        ({"clean": [[1, 2, 3]]}, "pairs"),
        ({"clean": [[1, 2, 3]], "corrupted": [[1, 2]]}, "does not align"),
    ],
)
def test_what_cannot_be_asked_is_said(naive: Naive, pairs: Any, change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {
        "clean": pairs[0], "corrupted": pairs[1], "sender": ("z", 0, 1), "receivers": [("q", 2, 1)]
    }  # fmt: skip
    with pytest.raises(InputError, match=said):
        path_patch(naive.module, metric=METRIC, **{**given, **change})
