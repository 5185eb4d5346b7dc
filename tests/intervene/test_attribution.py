"""Attribution patching: against finite differences, real patches, and what calculus says that it adds up to."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import torch
from models import zoo

import interpwidgets as iw
from interpwidgets.intervene.attribution import Approximation, attribution_patch, integrated_attribution_patch
from interpwidgets.intervene.cells import labels_of
from interpwidgets.intervene.interventions import Steer
from interpwidgets.intervene.running import run
from interpwidgets.models.record import record
from interpwidgets.models.tape import lacks

torch.set_num_threads(1)
SEED = secrets.randbits(32)  # a failure prints it
SITES = ("embed", "resid_pre", "q", "k", "v", "scores", "pattern", "z", "attn_out", "resid_mid",
         "mlp_pre", "mlp_post", "mlp_out", "resid_post", "ln1_scale")  # fmt: skip
METRIC = iw.logit_diff(3, 7)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture(scope="module")
def models() -> dict[str, iw.Model]:
    return {name: iw.Model(zoo.build(name).double(), name=name) for name in ("gpt2", "llama", "gemma2", "bert")}


def prompts(rng: np.random.Generator, *lengths: int) -> tuple[list[list[int]], list[list[int]]]:
    clean = [rng.integers(5, zoo.VOCABULARY, length).tolist() for length in lengths]
    corrupted = [list(ids) for ids in clean]
    for ids in corrupted:
        for place in rng.choice(len(ids), 2, replace=False):
            ids[place] = int(rng.integers(5, zoo.VOCABULARY))
    return clean, corrupted


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "bert"])
@pytest.mark.parametrize("site", SITES)
def test_a_cell_is_the_slope_towards_the_clean_value(family, site, models, rng) -> None:
    model = models[family]
    clean, corrupted = prompts(rng, 6, 6)
    if (reason := lacks(model.anatomy.parts[0], site)) is not None:
        pytest.skip(reason)
    by = ("layer", "head", "pos") if site in ("q", "k", "v", "z", "scores", "pattern") else None
    found = attribution_patch(model, clean, corrupted, METRIC, over=site, by=by)
    own, other = (record(model, ids, sites=[site], grad=True) for ids in (clean, corrupted))
    h, tolerance = (1e-4, 1e-5) if family in ("gpt2", "bert") else (2e-3, 2e-3)  # RMSNorm computes in float32
    for place in rng.permutation(list(np.ndindex(*found.shape)))[:4]:
        at = {axis.name: axis.labels[i] for axis, i in zip(found.axes, place, strict=True)}
        layer = at.get("layer")
        step = (own.emitted(site, layer) - other.emitted(site, layer)).detach().nan_to_num()
        steer = [Steer(site, layer, step, coefficient=sign * h, head=at.get("head"), pos=at["pos"]) for sign in (1, -1)]
        up, down = (run(model, corrupted, what, metric=METRIC).values for what in steer)
        slope, error = (up - down) / (2 * h), tolerance * np.abs(found.per_prompt).max()
        if h > 1e-3:  # the difference of two numbers that were rounded to float32 a few times
            error += 8 * np.finfo(np.float32).eps * np.abs(up).max() / h
        np.testing.assert_allclose(found.per_prompt[tuple(place)], slope, tolerance, error, err_msg=f"{at} {SEED}")


def test_a_linear_model_is_exact(models, rng) -> None:
    """After the last block of a model without a final norm, and into its MLP if that is the identity, all is linear."""
    module = zoo.build("gpt2").double()
    module.transformer.ln_f = torch.nn.Identity()
    model = iw.Model(module)
    clean, corrupted = prompts(rng, 7, 7)
    for site in ("resid_post", "mlp_out", "mlp_post"):
        options = {"over": site, "layers": [-1]}
        real = iw.patch_sweep(model, clean, corrupted, METRIC, progress=False, **options)
        found = attribution_patch(model, clean, corrupted, METRIC, check=3, **options)
        np.testing.assert_allclose(found.values, real.values, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.corrupted, real.corrupted, rtol=1e-12)
        np.testing.assert_allclose(found.clean, real.clean, rtol=1e-12)
        assert found.checked.error < 1e-9


@pytest.mark.parametrize(
    "options",
    [
        {"over": "resid_pre"},
        {"over": "z"},
        {"over": "v", "by": ("head", "layer"), "heads": [1]},
        {"over": "q", "by": ("pos", "layer", "head"), "positions": [2, -1], "layers": [-1, 0]},
        {"over": "embed"},
        {"over": "pattern", "by": ("layer",)},
        {"over": "mlp_post", "by": ("pos", "layer"), "positions": [4]},
    ],
)
def test_axes_are_those_of_a_sweep(options, models, rng) -> None:
    clean, corrupted = prompts(rng, 6, 6)
    real = iw.patch_sweep(models["llama"], clean, corrupted, METRIC, progress=False, **options)
    found = attribution_patch(models["llama"], clean, corrupted, METRIC, check=4, seed=3, **options)
    assert found.axes == real.axes
    assert isinstance(found, iw.Effects)
    assert found.metric == real.metric
    # what was checked are cells of the sweep, and the estimates their own
    for cell, estimate, effect in zip(found.checked.cells, found.checked.estimates, found.checked.real, strict=True):
        place = tuple(axis.labels.index(label) for axis, label in zip(real.axes, cell, strict=True))
        assert effect == pytest.approx(real.effect[place], rel=1e-5, abs=1e-6)  # a sweep's patterns are float32
        assert estimate == found.effect[place]


def test_cells_add_up_over_axes(models, rng) -> None:
    clean, corrupted = prompts(rng, 6, 6)
    by_all = attribution_patch(models["gpt2"], clean, corrupted, METRIC, over="z", by=("pos", "head", "layer"))
    by_head = attribution_patch(models["gpt2"], clean, corrupted, METRIC, over="z")
    np.testing.assert_allclose(by_all.per_prompt.sum(0).transpose(1, 0, 2), by_head.per_prompt, atol=1e-12)


def test_prompts_of_different_lengths_are_those_alone(models, rng) -> None:
    clean, corrupted = prompts(rng, 5, 9)
    for family, site in (("llama", "resid_mid"), ("bert", "z")):

        def found(own, other, model=models[family], site=site):
            return integrated_attribution_patch(model, own, other, METRIC, steps=2, over=site, by=("layer",))

        together = found(clean, corrupted)
        for i in range(2):
            alone = found(clean[i], corrupted[i])
            np.testing.assert_allclose(together.values[..., [i]], alone.values, rtol=1e-5, atol=1e-5)


def test_masked_scores_have_no_effect(models, rng) -> None:
    clean, corrupted = prompts(rng, 6)
    found = attribution_patch(models["gpt2"], clean, corrupted, METRIC, over="scores")
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    "metric", [METRIC, iw.log_prob(5), iw.prob(4), iw.loss(4), iw.kl(), iw.logit(9, pos=3)], ids=repr
)
def test_integrated_gradients_are_complete(metric, models, rng) -> None:
    """Cells of the first layer's stream add up to the whole difference, the better the more steps."""
    model = models["gpt2"]
    clean, corrupted = prompts(rng, 7, 7)
    gaps = []
    for steps in (1, 16, 64):
        found = integrated_attribution_patch(model, clean, corrupted, metric, steps=steps, layers=[0])
        whole = found.clean - found.corrupted
        gaps.append(float(np.abs(found.per_prompt.sum((0, 1)) - whole).max() / np.abs(whole).max()))
    assert gaps[2] < 0.02
    assert gaps[2] < gaps[0]
    base = iw.patch_sweep(model, clean, corrupted, metric, layers=[0], progress=False)
    np.testing.assert_allclose(found.corrupted, base.corrupted, atol=1e-12)
    np.testing.assert_allclose(found.clean, base.clean, atol=1e-12)


def test_integrated_gradients_reach_the_embedding(models, rng) -> None:
    clean, corrupted = prompts(rng, 6)
    embed = integrated_attribution_patch(models["gpt2"], clean, corrupted, METRIC, over="embed", steps=4)
    first = integrated_attribution_patch(models["gpt2"], clean, corrupted, METRIC, layers=[0], steps=4)
    np.testing.assert_allclose(embed.values, first.values[0], atol=1e-12)


def test_estimates_follow_real_patches_where_runs_are_close(rng) -> None:
    """The runs of weights so small that second-order terms are."""
    module = zoo.build("gpt2").double()
    with torch.no_grad():
        module.transformer.wte.weight.mul_(1e-3)
    model = iw.Model(module)
    clean, corrupted = prompts(rng, 6, 6)
    options = {"over": "resid_pre", "layers": [0]}
    found = attribution_patch(model, clean, corrupted, METRIC, check=100, **options)
    assert found.checked.correlation > 0.999
    assert len(found.checked.cells) == 6
    assert "against 6 real patches: r = 1.00" in found.how
    assert "against 6 real patches" in repr(found)


def test_frozen_weights_do_not_matter(rng) -> None:
    module = zoo.build("llama").double()
    model = iw.Model(module)
    clean, corrupted = prompts(rng, 6)
    free = attribution_patch(model, clean, corrupted, METRIC, over="z")
    module.requires_grad_(False)
    with torch.no_grad():
        frozen = attribution_patch(model, clean, corrupted, METRIC, over="z")
    np.testing.assert_array_equal(free.values, frozen.values)
    assert np.abs(free.effect).max() > 0
    module.requires_grad_(True)
    attribution_patch(model, clean, corrupted, METRIC)
    assert all(weight.grad is None for weight in module.parameters())


def test_one_backward_pass_for_everything(models, rng, monkeypatch) -> None:
    calls = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **options: calls.append(1) or grad(*args, **options))
    passes = []
    hook = models["gpt2"].module.register_forward_hook(lambda *_: passes.append(1))
    clean, corrupted = prompts(rng, 6, 6, 6)
    attribution_patch(models["gpt2"], clean, corrupted, METRIC)
    hook.remove()
    assert len(calls) == 1
    assert len(passes) == 2


def test_comparing_with_a_sweep(models, rng) -> None:
    clean, corrupted = prompts(rng, 6, 6)
    real = iw.patch_sweep(models["gpt2"], clean, corrupted, METRIC, over="z", progress=False)
    found = attribution_patch(models["gpt2"], clean, corrupted, METRIC, over="z", check=2)
    for both in (found - real, -(real - found), found - real[:]):
        assert type(both) is iw.Effects
        np.testing.assert_allclose(both.effect, found.effect - real.effect, atol=1e-12)
    np.testing.assert_allclose((real + found).effect, (found + real).effect, atol=1e-12)
    assert type(found * 2) is type(2 * found) is type(found / 2) is type(-found) is iw.Effects
    assert type(found[0]) is iw.Effects


def test_an_approximation_is_saved_as_effects(models, rng, tmp_path) -> None:
    clean, corrupted = prompts(rng, 6)
    found = attribution_patch(models["gpt2"], clean, corrupted, METRIC, check=2)
    found.save(tmp_path / "found.npz")
    loaded = iw.Effects.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(loaded.values, found.values)
    assert "2 real patches" in loaded.how


def test_one_checked_cell_has_no_correlation(models, rng) -> None:
    clean, corrupted = prompts(rng, 6)
    found = attribution_patch(models["gpt2"], clean, corrupted, METRIC, check=1)
    assert isinstance(found, Approximation)
    assert np.isnan(found.checked.correlation)
    assert attribution_patch(models["gpt2"], clean, corrupted, METRIC).checked is None


def test_bad_input_is_refused_in_words(models) -> None:
    model = models["gpt2"]
    ids, other = [5, 6, 7], [5, 8, 7]
    with pytest.raises(iw.InputError, match="has no gradient"):
        attribution_patch(model, ids, other, iw.rank(3))
    with pytest.raises(iw.InputError, match="can be read, not written"):
        attribution_patch(model, ids, other, METRIC, over="lse")
    with pytest.raises(iw.InputError, match="does not align"):
        attribution_patch(model, ids, other[:2], METRIC)
    with pytest.raises(iw.InputError, match="has no heads"):
        attribution_patch(model, ids, other, METRIC, by=("head",))
    with pytest.raises(iw.InputError, match="one step or more"):
        integrated_attribution_patch(model, ids, other, METRIC, steps=0)
    with pytest.raises(iw.InputError, match="There are 4 heads"):
        attribution_patch(model, ids, other, METRIC, over="z", heads=[4])


def test_layers_of_a_hybrid_that_have_the_site(rng) -> None:
    model = iw.Model(zoo.build("lfm2_moe"))
    clean, corrupted = prompts(rng, 6)
    found = attribution_patch(model, clean, corrupted, METRIC, over="z")
    assert labels_of(found.axes, "layer") == [1]
