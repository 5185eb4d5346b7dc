"""Recordings in batches, in a folder, and under others' names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM

import interpwidgets as iw

Prompts = Callable[..., list[list[int]]]
several = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SITES = ["resid_pre", "resid_mid", "z", "pattern", "v", "logits"]


@pytest.fixture
def model(gpt2: iw.Model) -> iw.Model:
    return gpt2


def same(rec: iw.Recording, whole: iw.Recording) -> None:
    assert rec.sites == whole.sites
    assert rec.layers == whole.layers
    assert [list(tokens) for tokens in rec.tokens] == [list(tokens) for tokens in whole.tokens]
    for site in whole.sites:
        for layer in whole.layers if site != "logits" else [None]:
            key = site if layer is None else (site, layer)
            torch.testing.assert_close(rec[key], whole[key], atol=2e-5, rtol=1e-4, equal_nan=True)


@several
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), size=st.integers(1, 4))
def test_batches_are_the_whole(
    model: iw.Model, prompts: Prompts, tmp_path_factory: pytest.TempPathFactory, lengths: list[int], size: int
) -> None:
    batch = prompts(*lengths, seed=size)
    whole = iw.record(model, batch, sites=SITES)
    same(iw.record(model, batch, sites=SITES, batch_size=size), whole)
    folder = tmp_path_factory.mktemp("rec")
    same(iw.record(model, batch, sites=SITES, batch_size=size, folder=folder), whole)
    same(iw.Recording.open(folder), whole)


def test_windows_of_different_batches(prompts: Prompts) -> None:
    torch.manual_seed(0)
    module = MistralForCausalLM(
        MistralConfig(
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, intermediate_size=32,
            vocab_size=61, sliding_window=4,
        )
    ).eval()  # fmt: skip
    batch = prompts(3, 9, 12)  # the first is shorter than the window, so that no mask is needed for it
    same(iw.record(module, batch, batch_size=1), iw.record(module, batch))


def test_a_recording_of_fewer_batches_replaces_one_of_more(model: iw.Model, prompts: Prompts, tmp_path: Path) -> None:
    iw.record(model, prompts(3, 4, 5, 6), batch_size=1, folder=tmp_path)
    shorter = prompts(7, 2)
    same(iw.record(model, shorter, batch_size=1, folder=tmp_path), iw.record(model, shorter))


def test_a_patch_may_come_from_a_folder(model: iw.Model, prompts: Prompts, tmp_path: Path) -> None:
    clean, corrupted = prompts(6, seed=1), prompts(6, seed=2)
    stored = iw.record(model, clean, sites=["resid_pre"], folder=tmp_path)
    patched = iw.run(model, corrupted, iw.Patch("resid_pre", 0, value=stored), sites=["logits"])
    torch.testing.assert_close(patched["logits"], iw.record(model, clean, sites=["logits"])["logits"])


def test_what_is_wrong_with_a_folder(model: iw.Model, prompts: Prompts, tmp_path: Path) -> None:
    with pytest.raises(iw.InputError, match="holds no recording"):
        iw.Recording.open(tmp_path / "nowhere")
    iw.record(model, prompts(4), folder=tmp_path)
    (tmp_path / "batch-00000.safetensors").write_bytes(b"nonsense")
    with pytest.raises(iw.InputError, match="missing or damaged"):
        iw.Recording.open(tmp_path)["resid_pre", 0]
    (tmp_path / "recording.json").write_text("{")
    with pytest.raises(iw.InputError, match="is damaged"):
        iw.Recording.open(tmp_path)
    (tmp_path / "recording.json").write_text('{"format": "other"}')
    with pytest.raises(iw.InputError, match="has the format 'other'"):
        iw.Recording.open(tmp_path)
    with pytest.raises(iw.InputError, match="batch_size is 1 or more"):
        iw.record(model, prompts(4, 5), batch_size=0)
    with pytest.raises(iw.InputError, match="With `grad`"):
        iw.record(model, prompts(4), grad=True, folder=tmp_path)


def test_under_the_names_of_transformer_lens(model: iw.Model, prompts: Prompts) -> None:
    rec = iw.record(model, prompts(7), sites=["resid_pre", "z", "pattern", "ln_scale"])
    cache = rec.to_cache()
    torch.testing.assert_close(cache["blocks.1.hook_resid_pre"], rec["resid_pre", 1])
    torch.testing.assert_close(cache["blocks.0.attn.hook_pattern"], rec["pattern", 0])
    torch.testing.assert_close(cache["z", 1], rec["z", 1])
    assert "blocks.0.ln1.hook_scale" in cache
    with pytest.raises(KeyError, match="hook_resid_pre"):
        cache["blocks.0.hook_nothing"]
    back = iw.Recording.of(cache, rec.tokens)
    for site, layer in (("resid_pre", 1), ("z", 0), ("pattern", 1), ("ln2_scale", 0)):
        torch.testing.assert_close(back[site, layer], rec[site, layer])
    torch.testing.assert_close(back.pattern(layer=1, head=2), rec.pattern(layer=1, head=2))
    assert back.attention().shape == (2, 4, 7, 7)


def test_of_tensors_by_site_and_layer() -> None:
    rng = np.random.default_rng(0)
    stream = rng.normal(size=(2, 5, 8))
    rec = iw.Recording.of({("resid_post", 3): stream, "something else": stream}, [list("abcde"), list("fghij")])
    assert rec.layers == (3,)
    np.testing.assert_array_equal(rec["resid_post", 3].numpy(), stream)
    with pytest.raises(iw.InputError, match=r"resid_post of layer 3 is \[batch, pos, d_model\] with 1 prompts"):
        iw.Recording.of({("resid_post", 3): stream}, list("abcde"))
    with pytest.raises(iw.InputError, match="names a site"):
        iw.Recording.of({"other": stream}, list("abcde"))
