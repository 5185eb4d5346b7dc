"""Recording and patching in every architecture that can be built: equations hold, sweeps are loops of whole passes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from intervene import naive
from models import zoo

import interpwidgets as iw
from interpwidgets.intervene import engine as engine_module
from interpwidgets.models.tape import lacks

pytestmark = pytest.mark.filterwarnings("ignore")  # whatever an architecture has to say about itself

SIZE, POSITIONS = 9, [1, 4, 7]
METRIC = iw.logit_diff(5, 7)


# What does not work, and why. A family that leaves one of these lists is good news that the list has to be told.
ROWS = {"cpmant", "gemma3n_text", "longformer", "prophetnet", "xlnet"}  # a row of the stream is not a token: refused
UNREAD = {
    "inkling2_text": "attention is called with a bias of another shape",
    "reformer": "blocks take two streams",
    "squeezebert": "blocks return a dict",
}
UNSWEPT = {
    "granitemoehybrid": "the tiny model has no attention, and its head asks for the length of a cache",
    "mra": "the table of token types is not read by position",
}
# What W_O is given is not pattern · v: a gate or a norm lies in between.
BETWEEN = {"afmoe", "axk2", "bitnet", "laguna", "lfm3", "neomme"}
SLOW = {"kimi_linear"}  # linear attention in a loop of Python


class Missing(Exception):  # noqa: N818  it says what is the case
    """Why a family is not here."""


@cache
def model_of(family: str) -> iw.Model:
    try:
        return iw.Model(zoo.build(family))
    except (zoo.CannotBuild, iw.InputError) as error:
        raise Missing(str(error)) from error


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in zoo.families()])
def family(request: pytest.FixtureRequest) -> str:
    if request.param in ROWS | set(UNREAD):
        pytest.skip(UNREAD.get(request.param, "a row of the stream is not a token"))
    return request.param


@pytest.fixture
def model(family: str) -> iw.Model:
    try:
        return model_of(family)
    except Missing as error:
        pytest.skip(str(error))  # test_anatomy.py holds the list of these


def prompts(model: iw.Model, seed: int) -> list[list[int]]:
    top = min(zoo.VOCABULARY, model.anatomy.embed.num_embeddings)
    return np.random.default_rng(seed).integers(5, top, (2, SIZE)).tolist()


def layers_of(model: iw.Model, site: str) -> list[int]:
    """The layers that have a site."""
    return [layer for layer, block in enumerate(model.anatomy.parts) if lacks(block, site) is None]


def close(found: Any, truth: Any, tolerance: float = 1e-4) -> None:
    found, truth = np.asarray(found), np.asarray(truth)
    np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance * max(1e-6, np.abs(truth).max()))


def test_what_is_recorded_adds_up(model: iw.Model) -> None:
    sites = ["attn_out", "mlp_out", "resid_mid", "z", "mlp_post"]
    here = [site for site in sites if layers_of(model, site)]
    rec = iw.record(model, prompts(model, 1), sites=["resid_pre", "resid_post", *here])
    for layer, block in enumerate(model.anatomy.parts):
        pre, post = rec["resid_pre", layer], rec["resid_post", layer]
        assert pre.shape == post.shape
        if layer + 1 < model.n_layers and block.kind != "unknown":
            close(rec["resid_pre", layer + 1], post)
        has = {site for site in sites if lacks(block, site) is None}
        if block.mixers or not has >= {"attn_out", "mlp_out"}:
            continue
        attn, mlp = rec["attn_out", layer], rec["mlp_out", layer]
        if block.kind == "sequential":
            close(rec["resid_mid", layer], pre + attn, 1e-3)
        if block.kind in ("sequential", "parallel"):
            close(post, pre + attn + mlp, 1e-3)
        if block.kind == "post-norm":
            assert block.mid is not None
            with torch.no_grad():
                close(rec["resid_mid", layer], block.mid(pre + attn), 1e-3)


def test_pattern_times_v_is_z_and_z_times_w_o_is_what_attention_writes(family: str, model: iw.Model) -> None:
    layers = [layer for layer in layers_of(model, "z") if model.anatomy.parts[layer].interface]
    if not layers:
        pytest.skip("z or the attention function is out of reach")
    ids = prompts(model, 2)
    rec = iw.record(model, ids, sites=["pattern", "v", "z"], layers=layers)
    for layer in layers:
        block = model.anatomy.parts[layer]
        assert block.z is not None
        assert block.heads is not None
        v = rec["v", layer]
        v = v.repeat_interleave(block.heads // v.shape[2], dim=2)  # [batch, pos, head, d_head]
        mixed = torch.einsum("bhqk,bkhd->bqhd", rec["pattern", layer], v)
        assert bool((mixed - rec["z", layer]).abs().max() > 1e-3 * mixed.abs().max()) == (family in BETWEEN)
        w_o, bias = model.anatomy.w_o(layer), getattr(block.z, "bias", None)
        written = torch.einsum("bqhd,hdm->bqm", rec["z", layer], w_o) + (0 if bias is None else bias)
        for number, tokens in enumerate(ids):
            out = naive.heard(model.module, block.z, "out", tokens)[0]
            close(written[number].detach(), out.reshape(written[number].shape), 1e-3)


def test_patching_is_a_loop_of_whole_passes(family: str, model: iw.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    if family in UNSWEPT:
        pytest.skip(UNSWEPT[family])
    clean, corrupted = prompts(model, 3), prompts(model, 4)
    layers = sorted({0, model.n_layers - 1})
    effects = iw.patch_sweep(model, clean, corrupted, METRIC, layers=layers, positions=POSITIONS, progress=False)
    monkeypatch.setitem(engine_module._ways, model.module, "whole")
    whole = iw.patch_sweep(model, clean, corrupted, METRIC, layers=layers, positions=POSITIONS, progress=False)
    truth = np.empty(effects.values.shape)
    for prompt, (a, b) in enumerate(zip(clean, corrupted, strict=True)):
        for i, layer in enumerate(layers):
            block = model.anatomy.blocks[layer]
            value = naive.heard(model.module, block, "in", a)
            for j, pos in enumerate(POSITIONS):
                found = naive.patched(model.module, block, "in", b, value, pos)
                truth[i, j, prompt] = found[-1, 5] - found[-1, 7]
    spread = np.abs(truth).max()
    np.testing.assert_allclose(whole.values, truth, rtol=0, atol=1e-4 * spread)
    np.testing.assert_allclose(effects.values, truth, rtol=0, atol=1e-4 * spread)


def test_patching_heads_is_a_loop_of_whole_passes(
    family: str, model: iw.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family in UNSWEPT:
        pytest.skip(UNSWEPT[family])
    layers = layers_of(model, "z")[-2:]
    if not layers:
        pytest.skip("no z")
    clean, corrupted = prompts(model, 5)[:1], prompts(model, 6)[:1]
    heads = [0, 3]
    by = ("layer", "head", "pos")
    options: dict[str, Any] = {"over": "z", "by": by, "layers": layers, "heads": heads, "positions": [2, SIZE - 1]}
    effects = iw.patch_sweep(model, clean, corrupted, METRIC, progress=False, **options)
    monkeypatch.setitem(engine_module._ways, model.module, "whole")
    whole = iw.patch_sweep(model, clean, corrupted, METRIC, progress=False, **options)
    truth = np.empty(effects.values.shape)
    for i, layer in enumerate(layers):
        block = model.anatomy.parts[layer]
        assert block.z is not None
        assert block.heads is not None
        value = naive.heard(model.module, block.z, "in", clean[0])
        for j, head in enumerate(heads):
            for k, pos in enumerate(options["positions"]):
                found = naive.patched(model.module, block.z, "in", corrupted[0], value, pos, (head, block.heads))
                truth[i, j, k, 0] = found[-1, 5] - found[-1, 7]
    spread = np.abs(truth).max()
    np.testing.assert_allclose(whole.values, truth, rtol=0, atol=1e-4 * spread)
    np.testing.assert_allclose(effects.values, truth, rtol=0, atol=1e-4 * spread)


@pytest.mark.parametrize("family", sorted(ROWS))
def test_rows_that_are_no_tokens_are_refused(family: str) -> None:
    given = model_of(family)
    with pytest.raises(iw.InputError, match="rows where the prompts have"):
        iw.record(given, prompts(given, 7), sites=["resid_pre"])
    with pytest.raises(iw.InputError, match="rows where the prompts have"):
        iw.run(given, prompts(given, 7), iw.Scale("resid_pre", 0), metric=METRIC)


def ways() -> dict[str, list[str]]:
    """Which families take which way."""
    found: dict[str, list[str]] = {}
    for family in zoo.families():
        if family not in ROWS | SLOW | set(UNREAD) | set(UNSWEPT):
            try:
                found.setdefault(engine_module.way_of(model_of(family)), []).append(family)
            except Missing:
                continue
    return found


@pytest.mark.slow
def test_most_families_take_a_shorter_way() -> None:
    found = ways()
    assert {"gpt2", "llama", "qwen3", "gemma3_text", "mixtral", "gpt_neox"} <= set(found["packed"])
    assert len(found["packed"]) > 100
    assert len(found.get("whole", [])) < 25
