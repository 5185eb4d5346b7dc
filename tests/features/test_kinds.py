"""Dictionaries of every kind: transcoders, crosscoders, anybody's functions, heads' outputs, normalised rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from features.conftest import WIDTH, random_corpus

import interpwidgets as iw
from interpwidgets.features import FeatureStore

KINDS = {
    "gated": {"kind": "gated", "site": "resid_post", "layer": 0},
    "normalised": {"kind": "relu", "site": "resid_pre", "layer": 1, "normalise": "layer_norm"},
    "transcoder": {"kind": "relu", "site": "resid_mid", "layer": 0, "site_out": "mlp_out"},
    "skip": {"kind": "relu", "site": "resid_mid", "layer": 0, "site_out": "mlp_out", "skip": True},
    "heads": {"kind": "relu", "site": "z", "layer": 1},
    "neurons": {"kind": "relu", "site": "mlp_post", "layer": 1},
    "crosscoder": {"kind": "relu", "site": "resid_post", "layer": 0, "layers": (0, 1)},
}


def filled(options) -> iw.Dictionary:
    width = WIDTH * {"mlp_post": 4}.get(options["site"], len(options.get("layers", (0,))))
    one = iw.Dictionary(width, 12, **options)
    generator = torch.Generator().manual_seed(3)
    for weight in one.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=generator))
    return one.requires_grad_(False)


@pytest.mark.parametrize("name", KINDS)
def test_counts_are_those_of_a_recording(name, tmp_path, model, fresh):
    one, corpus = filled(KINDS[name]), random_corpus(fresh, 10)
    store = FeatureStore.build(tmp_path / "s", model, one, corpus, context=12, progress=False)
    store.verify()
    counts, sums = np.zeros(12, int), np.zeros(12)
    for number in range(store.about["corpus"]["contexts"]):
        ids = store.context(number).ids.tolist()
        sites = sorted({site for site, _ in one.reads})
        rec = iw.record(model, [ids], sites=sites)
        x = torch.cat([rec[place][0].flatten(1) for place in one.reads], -1)
        active = one.encode(x).double().numpy()[1 if ids[0] == 0 else 0 :]
        counts += (active > 0).sum(0)
        sums += active.sum(0)
    assert np.abs([f.count for f in store] - counts).max() <= 1  # at zero, by rounding
    np.testing.assert_allclose([f.mean * f.count for f in store], sums, rtol=1e-3, atol=1e-3)
    assert all(len(f.top_logits) == 10 for f in store)


@pytest.mark.parametrize("name", ["heads", "neurons"])
def test_logits_go_through_the_matrices_in_between(name, tmp_path, model, fresh):
    """What one unit of a feature adds to the logits, from the layer's own matrices in float64."""
    one = filled(KINDS[name])
    store = FeatureStore.build(tmp_path / "s", model, one, random_corpus(fresh, 6), context=12, progress=False)
    module, block = model.module, model.module.transformer.h[1]
    matrix = (block.attn.c_proj if name == "heads" else block.mlp.c_proj).weight.double()  # [in, d_model]
    written = one.W_dec.double() @ matrix
    logits = (
        (written - written.mean(-1, keepdim=True)) * module.transformer.ln_f.weight
    ) @ module.lm_head.weight.double().T
    for feature in store:
        wanted = logits[feature.index].detach().sort(descending=True).values
        np.testing.assert_allclose([v for _, v in feature.top_logits], wanted[:10], rtol=2e-3, atol=2e-3)


def test_anybodys_functions_are_a_dictionary(tmp_path, model, fresh):
    w = torch.randn(WIDTH, 9, generator=torch.Generator().manual_seed(0))
    corpus = random_corpus(fresh, 10)
    wrapped = iw.Dictionary.wrap(lambda x: (x @ w).relu(), lambda f: f @ w.T, w.T, site="resid_post", layer=0)
    plain = iw.Dictionary(WIDTH, 9, kind="relu", site="resid_post", layer=0)
    plain.W_enc.data.copy_(w)
    plain.W_dec.data.copy_(w.T)
    stores = [
        FeatureStore.build(tmp_path / str(number), model, one, corpus, context=12, progress=False)
        for number, one in enumerate((wrapped, plain))
    ]
    assert [f.count for f in stores[0]] == [f.count for f in stores[1]]
    assert [f.top_logits for f in stores[0]] == [f.top_logits for f in stores[1]]


def test_no_ablation_at_several_places(tmp_path, model, fresh):
    with pytest.raises(iw.InputError, match="reads one place and writes one"):
        FeatureStore.build(tmp_path, model, filled(KINDS["crosscoder"]), random_corpus(fresh, 3), ablate=True)


def test_a_folded_dictionary_says_so(tmp_path, model, fresh):
    one, corpus = filled({"kind": "relu", "site": "resid_post", "layer": 0}), random_corpus(fresh, 10)
    stores = [
        FeatureStore.build(tmp_path / str(number), model, each, corpus, context=12, progress=False)
        for number, each in enumerate((one, one.folded()))
    ]
    assert [store.about["decoder_norm_folded"] for store in stores] == [False, True]
    plain, folded = (store.table(["max_activation", "decoder_norm"]).columns for store in stores)
    np.testing.assert_allclose(folded["decoder_norm"], 1, rtol=1e-5)
    grown = np.multiply(plain["max_activation"], plain["decoder_norm"])
    np.testing.assert_allclose(folded["max_activation"], grown, rtol=1e-3)
