"""The logit lens and direct logit attribution, against float64 computations written out here."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import torch
from models import zoo
from numpy.typing import NDArray

import interpwidgets as iw
from interpwidgets.intervene import lens as lens_module
from interpwidgets.intervene.lens import logit_lens
from interpwidgets.models.record import record

torch.set_num_threads(1)
SEED = secrets.randbits(32)  # a failure prints it
Floats = NDArray[np.float64]
# What a family does to the last stream, by hand: the norm, and what becomes of x · W_U.
FAMILIES = {
    "gpt2": ("transformer.ln_f", "layer", {}),
    "llama": ("model.norm", "rms", {}),
    "gemma2": ("model.norm", "rms + 1", {"cap": 30.0}),
    "cohere": ("model.norm", "centred", {"scale": 0.0625}),
    "granite": ("model.norm", "rms", {"scale": 1 / 4.0}),
}
OPTIONS = {"granite": {"logits_scaling": 4.0}, "gemma2": {"final_logit_softcapping": 30.0}}


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture(scope="module")
def models() -> dict[str, iw.Model]:
    return {
        name: iw.Model(zoo.build(name, **OPTIONS.get(name, {})).double(), name=name)
        for name in (*FAMILIES, "gpt_neox", "bert")
    }


def by_hand(model: iw.Model, stream: Floats) -> Floats:
    """Logits of streams [..., d_model]."""
    norm, kind, after = FAMILIES[model.name]
    weights = {name: w.detach().double().numpy() for name, w in model.module.state_dict().items()}
    x = stream - (stream.mean(-1, keepdims=True) if kind in ("layer", "centred") else 0)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6 * (10 if kind in ("layer", "centred") else 1))
    x = x * (weights[f"{norm}.weight"] + (1 if kind == "rms + 1" else 0)) + weights.get(f"{norm}.bias", 0)
    logits = x @ weights["lm_head.weight"].T * after.get("scale", 1)
    return after["cap"] * np.tanh(logits / after["cap"]) if "cap" in after else logits


def softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_is_norm_and_unembedding(family, models, rng, monkeypatch) -> None:
    monkeypatch.setattr(lens_module, "_LOGITS", 4 * zoo.VOCABULARY * 5)  # several batches of rows
    model = models[family]
    ids = rng.integers(5, zoo.VOCABULARY, (2, 7))
    rec = record(model, ids, sites=["resid_pre", "resid_post", "logits"])
    lens = logit_lens(rec)
    assert lens.layers == (0, 1, 2)
    tokens = rng.integers(0, zoo.VOCABULARY, 2).tolist()
    top, probs = lens.top(4)
    final = softmax(rec["logits"].numpy())
    for layer in lens.layers:
        logits = by_hand(model, rec["resid_post", layer].numpy())
        np.testing.assert_allclose(lens.logits(layer).numpy(), logits, rtol=1e-4, atol=1e-4)
        p = softmax(logits)
        order = np.argsort(-logits, axis=-1)
        assert (top[layer].numpy() == order[..., :4]).mean() > 0.98  # float32 norms may exchange near ties
        np.testing.assert_allclose(probs[layer].numpy(), np.take_along_axis(p, order[..., :4], -1), rtol=1e-3)
        np.testing.assert_allclose(lens.entropy[layer].numpy(), -(p * np.log(p)).sum(-1), rtol=1e-3, atol=1e-4)
        kl = (final * (np.log(final) - np.log(p))).sum(-1)
        np.testing.assert_allclose(lens.kl[layer].numpy(), kl, rtol=1e-3, atol=1e-4)
        for i, token in enumerate(tokens):
            np.testing.assert_allclose(lens.prob_of(tokens)[layer, i].numpy(), p[i, :, token], rtol=1e-3)
            rank = (logits[i] > logits[i, :, [token]].T).sum(-1)
            assert (lens.rank_of(tokens)[layer, i].numpy() == rank).mean() > 0.7
    np.testing.assert_allclose(lens.logits(2).numpy(), rec["logits"].numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt_neox", "bert", "lfm2_moe", "falcon", "mixtral", "mamba", "bloom", "opt"])
def test_after_the_last_layer_it_is_the_model(family, models, rng) -> None:
    """Also with heads that are more than a matrix, as BERT's."""
    model = models.get(family) or iw.Model(zoo.build(family))
    rec = record(model, rng.integers(5, zoo.VOCABULARY, (2, 6)), sites=["resid_post", "logits"])
    torch.testing.assert_close(logit_lens(rec).logits(2), rec["logits"], rtol=1e-4, atol=1e-4)


def test_sites_layers_and_prompts_can_be_chosen(models, rng) -> None:
    model = models["gpt2"]
    ids = rng.integers(5, zoo.VOCABULARY, (3, 6))
    rec = record(model, ids, sites=["resid_pre", "resid_post", "attn_out"], layers=[1, 2])
    pre, post = logit_lens(rec, site="resid_pre", layers=[2]), logit_lens(rec, layers=[1])
    torch.testing.assert_close(pre.logits(2), post.logits(1))
    one = logit_lens(rec, prompt=-1)
    assert one.entropy.shape == (2, 1, 6)
    torch.testing.assert_close(one.entropy[:, 0], logit_lens(rec).entropy[:, 2])
    np.testing.assert_allclose(
        logit_lens(rec, site="attn_out").logits(1).numpy(), by_hand(model, rec["attn_out", 1].numpy()), atol=1e-9
    )
    some = record(model, ids, sites=["resid_post"], positions=[-1, 2])
    torch.testing.assert_close(logit_lens(some).entropy, logit_lens(record(model, ids)).entropy[:, :, [5, 2]])


def test_padding_is_nobody(models, rng) -> None:
    rec = record(models["llama"], [[5, 6, 7, 8], [9, 10]])
    lens = logit_lens(rec)
    (ids, probs), alone = lens.top(2), logit_lens(record(models["llama"], [9, 10]))
    assert (ids[:, 1, 2:] == -1).all()
    for value in (probs, lens.entropy, lens.kl, lens.rank_of(3), lens.prob_of(3)):
        assert value[:, 1, 2:].isnan().all()
        assert not value[:, 0].isnan().any()
    torch.testing.assert_close(lens.kl[:, 1, :2], alone.kl[:, 0], rtol=1e-4, atol=1e-5)
    assert "first of 2 prompts" in repr(lens)


def test_translators_come_first(models, rng) -> None:
    rec = record(models["gpt2"], rng.integers(5, zoo.VOCABULARY, (2, 6)))
    move = torch.nn.Linear(32, 32).double()
    by_layer = logit_lens(rec, translators={0: move})
    everywhere = logit_lens(rec, translators=lambda stream, layer: move(stream) if layer == 0 else stream)
    expected = by_hand(models["gpt2"], move(rec["resid_post", 0]).detach().numpy())
    np.testing.assert_allclose(by_layer.logits(0).numpy(), expected, atol=1e-9)
    torch.testing.assert_close(by_layer.entropy, everywhere.entropy)
    assert not by_layer.logits(0).requires_grad
    torch.testing.assert_close(by_layer.logits(1), logit_lens(rec).logits(1))
    assert by_layer.kl[2].abs().max() < 1e-9  # the last layer has no translator
    with pytest.raises(iw.InputError, match="The translator of layer 0 makes"):
        logit_lens(rec, translators={0: lambda stream: stream[:, :3]}).entropy  # noqa: B018


def test_blocks_are_not_run(models, rng) -> None:
    rec = record(models["gpt2"], rng.integers(5, zoo.VOCABULARY, 6))
    logit_lens(rec)  # verified from here on
    runs = []
    hooks = [
        part.register_forward_hook(lambda *_: runs.append(1))
        for part in models["gpt2"].module.transformer.h[0].children()
    ]
    logit_lens(rec).top(3)
    for hook in hooks:
        hook.remove()
    assert not runs


def test_the_model_is_left_as_it_was(models, rng) -> None:
    module = models["gpt2"].module
    ids = torch.tensor(rng.integers(5, zoo.VOCABULARY, (1, 6)))
    module.train()
    rec = record(models["gpt2"], ids, sites=["resid_post", "logits"])
    logit_lens(rec).top(3)
    assert module.training
    module.eval()
    assert "forward" not in module.transformer.h[0].__dict__
    torch.testing.assert_close(module(ids).logits, rec["logits"])


def test_its_text_is_a_table() -> None:
    model = iw.load("induction-2l")
    said = repr(logit_lens(record(model, "the cat sat on the mat . the cat sat"))).splitlines()
    assert said[0] == "LogitLens(induction-2l: resid_post), the last position"
    assert said[1].split() == ["layer", "token", "probability"]
    assert said[3].split()[:2] == ["1", "on"]
    assert float(said[3].split()[2]) > 0.3
    assert len({line.find("0.") for line in said[2:]}) == 1


def test_what_has_no_lens_is_refused(models, rng) -> None:
    model = models["gpt2"]
    rec = record(model, [5, 6, 7], sites=["q", "resid_pre", "resid_post"], layers=[0])
    with pytest.raises(iw.InputError, match="width of the residual stream"):
        logit_lens(rec, site="q")
    with pytest.raises(iw.InputError, match="no prompt 1"):
        logit_lens(rec, prompt=1)
    with pytest.raises(iw.NotRecordedError, match="mlp_out"):
        logit_lens(rec, site="mlp_out")
    with pytest.raises(iw.NotRecordedError, match="resid_post of layer 2"):
        logit_lens(rec).kl  # noqa: B018
    with pytest.raises(iw.InputError, match="There is no layer 2"):
        logit_lens(rec).logits(2)
    with pytest.raises(iw.InputError, match="does not know its model"):
        logit_lens(iw.Recording.from_qk(np.ones((1, 4, 1, 3)), np.ones((1, 4, 1, 3))))
    headless = iw.Model(model.module.transformer)
    with pytest.raises(iw.InputError, match="has no unembedding"):
        logit_lens(record(headless, [5, 6]))
    module = zoo.build("gpt2")
    module.lm_head.register_forward_pre_hook(lambda _, args: (args[0].cumsum(1),))  # looks at other positions
    with pytest.raises(iw.InputError, match="have no lens"):
        logit_lens(record(iw.Model(module), [5, 6, 7]))
