"""Direct logit attribution: it adds up, and each term is what the formula says in float64."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import torch
from models import zoo

import interpwidgets as iw
from interpwidgets.intervene.direct import direct_logit_attribution
from interpwidgets.models.corpora.corpus import BOS, ORDINARY
from interpwidgets.models.record import record
from interpwidgets.models.scores import repeated_tokens

torch.set_num_threads(1)
SEED = secrets.randbits(32)  # a failure prints it
OPTIONS = {"granite": {"logits_scaling": 4.0}, "gemma2": {"final_logit_softcapping": 5.0}}
METRIC = iw.logit_diff(3, 7)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def model_of(family: str) -> iw.Model:
    return iw.Model(zoo.build(family, **OPTIONS.get(family, {})), name=family)


@pytest.mark.parametrize(
    "family",
    [
        "gpt2",
        "llama",
        "gemma2",
        "cohere",
        "granite",
        "gpt_neox",
        "opt",
        "falcon",
        "mixtral",
        "olmo2",
        "gptj",
        "mamba",
        "lfm2_moe",
    ],
)
def test_contributions_add_up_to_the_models_logits(family, rng) -> None:
    model = model_of(family)
    ids = rng.integers(8, zoo.VOCABULARY, (3, 7))
    found = direct_logit_attribution(model, ids, iw.logit_diff([3, 4, 5], [6, 7, 3], pos=4))
    with torch.no_grad():
        logits = model.module(torch.tensor(ids)).logits[:, 4].double().numpy()
    if family == "gemma2":
        logits = 5 * np.arctanh(logits / 5)
        assert found.softcap == 5
        assert "before the soft-cap at 5" in repr(found)
    truth = [logits[0, 3] - logits[0, 6], logits[1, 4] - logits[1, 7], logits[2, 5] - logits[2, 3]]
    np.testing.assert_allclose(found.total, truth, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.contributions.sum(-1), found.total, rtol=1e-4, atol=1e-4)
    assert found.contributions.shape == (3, len(found.labels))
    parts = found.embed + np.nansum(found.attn, 1) + np.nansum(found.mlp, 1) + found.rest + found.constant
    np.testing.assert_allclose(parts, found.total, rtol=1e-4, atol=1e-4)
    if family not in ("mamba", "lfm2_moe"):
        assert not np.isnan(found.heads).any()
        np.testing.assert_allclose(found.rest, 0, atol=1e-4)
        assert len(found.labels) == 3 * (4 + 1 + 1) + 3
    if family not in ("mamba", "lfm2_moe", "gpt2", "gpt_neox", "opt"):  # the others have no bias
        np.testing.assert_allclose(found.heads.sum(-1), found.attn, atol=1e-4)


def test_each_term_by_hand_through_a_layer_norm(rng) -> None:
    module = zoo.build("gpt2").double()
    model = iw.Model(module)
    ids = rng.integers(8, zoo.VOCABULARY, (2, 6))
    found = direct_logit_attribution(model, ids, METRIC)
    rec = record(model, ids, sites=["resid_pre", "z", "mlp_out", "resid_post"])
    w = {name: weight.detach().numpy() for name, weight in module.state_dict().items()}
    x = rec["resid_post", 2][:, -1].numpy()
    unembed = w["lm_head.weight"][3] - w["lm_head.weight"][7]
    read = unembed * w["transformer.ln_f.weight"] / np.sqrt(x.var(-1) + 1e-5)[:, None]
    direction = read - read.mean(-1, keepdims=True)  # the norm subtracts the mean
    np.testing.assert_allclose(found.embed, (rec["resid_pre", 0][:, -1].numpy() * direction).sum(-1), rtol=1e-9)
    for layer in range(3):
        w_o = w[f"transformer.h.{layer}.attn.c_proj.weight"].reshape(4, 8, 32)
        heads = np.einsum("phd,hdm,pm->ph", rec["z", layer][:, -1].numpy(), w_o, direction)
        np.testing.assert_allclose(found.heads[:, layer], heads, rtol=1e-8, atol=1e-10)
        bias = (w[f"transformer.h.{layer}.attn.c_proj.bias"] * direction).sum(-1)
        np.testing.assert_allclose(found.attn[:, layer], heads.sum(-1) + bias, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            found.mlp[:, layer], (rec["mlp_out", layer][:, -1].numpy() * direction).sum(-1), rtol=1e-8, atol=1e-10
        )
    np.testing.assert_allclose(found.constant, unembed @ w["transformer.ln_f.bias"], rtol=1e-8)


def test_heads_by_hand_through_a_norm_after_attention(rng) -> None:
    model = model_of("gemma2")
    ids = rng.integers(8, zoo.VOCABULARY, (2, 6))
    found = direct_logit_attribution(model, ids, METRIC)
    rec = record(model, ids, sites=["z", "resid_post"])
    w = {name: weight.detach().double().numpy() for name, weight in model.module.state_dict().items()}

    def rms(x):
        return np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)

    x = rec["resid_post", 2][:, -1].double().numpy()
    direction = (w["lm_head.weight"][3] - w["lm_head.weight"][7]) * (1 + w["model.norm.weight"]) / rms(x)
    for layer in range(3):
        w_o = w[f"model.layers.{layer}.self_attn.o_proj.weight"].T.reshape(4, 8, 32)
        written = np.einsum("phd,hdm->phm", rec["z", layer][:, -1].double().numpy(), w_o)
        norm = 1 + w[f"model.layers.{layer}.post_attention_layernorm.weight"]
        heads = (written * (norm / rms(written.sum(1)))[:, None] * direction[:, None]).sum(-1)
        np.testing.assert_allclose(found.heads[:, layer], heads, rtol=1e-3, atol=1e-4)


def test_induction_heads_write_the_repeated_token() -> None:
    """In a repeated random sequence, layer 1 says what comes next; layer 0 cannot know."""
    model = iw.load("induction-2l")
    ids = repeated_tokens(ORDINARY, 16, 12, SEED, BOS)
    answers = ids[:, 6].tolist()  # after the second occurrence of the token at 5
    found = direct_logit_attribution(model, ids, iw.logit_diff(answers, ids[:, 9].tolist(), pos=5 + 12))
    mean = found.heads.mean(0)  # [layer, head]
    assert mean[1].sum() > 0.5 * found.total.mean() > 0
    assert mean[1].sum() > 3 * abs(mean[0].sum())
    assert "L1H" in dict(found.top(1)).popitem()[0]
    np.testing.assert_array_equal(found.mlp, 0)


def test_prompts_of_different_lengths_are_those_alone(rng) -> None:
    model = model_of("llama")
    prompts = [rng.integers(8, zoo.VOCABULARY, length).tolist() for length in (4, 7)]
    together = direct_logit_attribution(model, prompts, METRIC)
    for i, prompt in enumerate(prompts):
        alone = direct_logit_attribution(model, prompt, METRIC)
        np.testing.assert_allclose(together.contributions[i], alone.contributions[0], atol=1e-4)


def test_any_weighted_sum_of_logits_will_do(rng) -> None:
    model, ids = model_of("gpt2"), rng.integers(8, zoo.VOCABULARY, (2, 5))
    weights = torch.randn(zoo.VOCABULARY, dtype=torch.float64)
    found = direct_logit_attribution(model, ids, lambda logits: logits.double() @ weights)
    with torch.no_grad():
        truth = model.module(torch.tensor(ids)).logits[:, -1].double() @ weights
    np.testing.assert_allclose(found.contributions.sum(-1), truth.numpy(), rtol=1e-4, atol=1e-4)


def test_its_text_names_the_largest(rng) -> None:
    found = direct_logit_attribution(model_of("gpt2"), rng.integers(8, zoo.VOCABULARY, (2, 5)), METRIC)
    said = repr(found).splitlines()
    assert said[0] == "LogitAttribution(gpt2) of logit(#3) − logit(#7), 2 prompts"
    label, value = found.top(1)[0]
    assert f"{label} {value:+.2f}".replace("-", "−") in said[2]
    assert abs(value) == np.abs(found.contributions.mean(0)).max()


def test_a_table_has_a_row_for_each_contribution(rng) -> None:
    pytest.importorskip("pandas")
    found = direct_logit_attribution(model_of("gpt2"), rng.integers(8, zoo.VOCABULARY, (2, 5)), METRIC)
    table = found.to_pandas()
    assert list(table["component"]) == list(found.labels)
    np.testing.assert_allclose(table["contribution"].sum(), found.total.mean(), rtol=1e-5)
    row = table[(table["layer"] == 1) & (table["head"] == 2)].iloc[0]
    assert row["contribution"] == pytest.approx(found.heads[:, 1, 2].mean())


def test_the_model_keeps_no_gradient(rng) -> None:
    model = model_of("gpt2")
    with torch.no_grad():
        found = direct_logit_attribution(model, rng.integers(8, zoo.VOCABULARY, (1, 5)), METRIC)
    assert np.isfinite(found.total).all()
    assert all(weight.grad is None for weight in model.module.parameters())


@pytest.mark.parametrize("metric", [iw.log_prob(3), iw.rank(3), iw.kl(), iw.loss(), iw.prob(3)], ids=repr)
def test_a_metric_that_is_no_sum_of_logits_is_refused(metric) -> None:
    with pytest.raises(iw.InputError, match="weighted sum"):
        direct_logit_attribution(model_of("gpt2"), [5, 6, 7], metric)


def test_a_model_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(iw.InputError, match="a norm is applied to the stream"):
        direct_logit_attribution(model_of("bert"), [5, 6, 7], METRIC)
    with pytest.raises(iw.InputError, match=r"multiplies what it returns by 0\.9"):
        direct_logit_attribution(model_of("gemma4_text"), [5, 6, 7], METRIC)
    module = zoo.build("gpt2")
    module.lm_head.register_forward_pre_hook(lambda _, args: (args[0].tanh(),) if args[0].ndim > 2 else None)
    with pytest.raises(iw.InputError, match="more in its head"):
        direct_logit_attribution(iw.Model(module), [5, 6, 7], METRIC)


@pytest.mark.parametrize("name", ["induction-2l", "ioi-known"])
def test_a_heads_contribution_splits_by_source_token_as_the_formula_says(name, rng) -> None:
    """Against a loop in float64: softmax of the scores, times v, times W_O, along the direction that is read."""
    model = iw.load(name)
    size = model.config.vocab_size
    prompts = [rng.integers(0, size, length).tolist() for length in (9, 14)]
    answers = rng.permutation(size)[:4].tolist()
    found = direct_logit_attribution(model, prompts, iw.logit_diff(answers[:2], answers[2:]))
    assert found.positions == (8, 13)
    w = {key: weight.detach().double().numpy() for key, weight in model.module.state_dict().items()}
    layers, heads, width = model.n_layers, model.n_heads, model.d_model
    d_head = width // heads
    for i, prompt in enumerate(prompts):
        rec = record(model, prompt, sites=["resid_pre", "resid_post"])
        x = rec["resid_post", layers - 1][0, -1].double().numpy()
        unembed = model.module.lm_head.weight.detach().double().numpy()
        read = (unembed[answers[i]] - unembed[answers[2 + i]]) * w["transformer.ln_f.weight"] / np.sqrt(x.var() + 1e-5)
        direction = read - read.mean()
        for layer in range(layers):
            block = f"transformer.h.{layer}"
            stream = rec["resid_pre", layer][0].double().numpy()
            normed = (stream - stream.mean(-1, keepdims=True)) / np.sqrt(stream.var(-1, keepdims=True) + 1e-5)
            normed = normed * w[f"{block}.ln_1.weight"] + w[f"{block}.ln_1.bias"]
            qkv = normed @ w[f"{block}.attn.c_attn.weight"] + w[f"{block}.attn.c_attn.bias"]
            q, k, v = (part.reshape(len(prompt), heads, d_head) for part in np.split(qkv, 3, axis=-1))
            w_o = w[f"{block}.attn.c_proj.weight"].reshape(heads, d_head, width)
            for head in range(heads):
                scores = np.array([q[-1, head] @ k[key, head] for key in range(len(prompt))]) / np.sqrt(d_head)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                truth = [weights[key] * (v[key, head] @ w_o[head] @ direction) for key in range(len(prompt))]
                sources = found.sources(layer, head)[i]
                np.testing.assert_allclose(sources[: len(prompt)], truth, atol=1e-5)
                assert np.isnan(sources[len(prompt) :]).all()
                np.testing.assert_allclose(np.nansum(sources), found.heads[i, layer, head], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral", "gpt_neox"])
def test_sources_add_up_to_the_head_whatever_the_family(family, rng) -> None:
    """Values shared by several heads, rotary queries, a norm after attention; and a position in the middle."""
    found = direct_logit_attribution(
        model_of(family), rng.integers(8, zoo.VOCABULARY, (2, 7)), iw.logit_diff(3, 7, pos=4)
    )
    for layer in range(3):
        for head in range(4):
            sources = found.sources(layer, head)
            assert np.isnan(sources[:, 5:]).all()
            np.testing.assert_allclose(sources[:, :5].sum(-1), found.heads[:, layer, head], rtol=2e-3, atol=1e-4)


def test_a_head_that_is_not_there_has_no_sources(rng) -> None:
    found = direct_logit_attribution(model_of("gpt2"), rng.integers(8, zoo.VOCABULARY, (1, 5)), METRIC)
    with pytest.raises(iw.InputError, match="no layer 3, head 0: 3 layers × 4 heads"):
        found.sources(3, 0)
    with pytest.raises(iw.InputError, match="no layer 0, head -1"):
        found.sources(0, -1)
