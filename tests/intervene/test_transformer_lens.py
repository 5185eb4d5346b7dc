"""The same weights in TransformerLens give the same activations, patterns and patching results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import interpwidgets as iw

bridges = pytest.importorskip("transformer_lens.model_bridge", reason="pip install 'interpwidgets[peers]'")
pytestmark = pytest.mark.filterwarnings("ignore")

SHIPPED = Path(iw.__file__).parent / "models" / "systems" / "induction-2l"
KINDS = ["gpt2", "llama", "neox", "induction-2l"]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def build(kind: str, folder: Path, tokenizer: Any) -> PreTrainedModel:
    """A model with random weights, large enough for patterns that are far from uniform, written to a folder."""
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": len(tokenizer)}
    module: PreTrainedModel
    if kind == "gpt2":
        module = GPT2LMHeadModel(GPT2Config(n_positions=64, **size))
    elif kind == "llama":
        module = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, intermediate_size=48, **size))
    else:
        module = GPTNeoXForCausalLM(GPTNeoXConfig(intermediate_size=48, max_position_embeddings=64, **size))
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn_like(weight) * 0.2
            weight.copy_(weight + noise if weight.ndim == 1 else noise)
    module.save_pretrained(folder)
    return module.eval()


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[iw.Model, Any]:
    """Our model and theirs."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(SHIPPED)
    if request.param == "induction-2l":
        folder, module = SHIPPED, AutoModelForCausalLM.from_pretrained(SHIPPED).eval()
    else:
        folder = tmp_path_factory.mktemp(request.param)
        module = build(request.param, folder, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs.set_attn_implementation("eager")  # theirs reads patterns from it
    bridge = bridges.TransformerBridge.boot_transformers(str(folder), hf_model=theirs, tokenizer=tokenizer)
    return iw.Model(module, tokenizer), bridge


def draw(model: iw.Model, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(5, model.anatomy.embed.num_embeddings, (2, 10)))


SAME = {
    "resid_pre": "blocks.{}.hook_resid_pre", "resid_post": "blocks.{}.hook_resid_post",
    "attn_out": "blocks.{}.hook_attn_out", "mlp_out": "blocks.{}.hook_mlp_out", "z": "blocks.{}.attn.hook_z",
    "pattern": "blocks.{}.attn.hook_pattern", "v": "blocks.{}.attn.hook_v",
}  # fmt: skip


@pytest.mark.parametrize("site", SAME)
def test_activations(pair: tuple[iw.Model, Any], site: str) -> None:
    model, bridge = pair
    ids = draw(model, 1)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(ids)
    rec = iw.record(model, ids, sites=[site, "logits"])
    torch.testing.assert_close(rec["logits"], logits, **TOLERANCE)
    for layer in range(model.n_layers):
        theirs = cache[SAME[site].format(layer)]
        torch.testing.assert_close(rec[site, layer], theirs.reshape(rec[site, layer].shape), **TOLERANCE)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "z"])
def test_patching(pair: tuple[iw.Model, Any], site: str) -> None:
    model, bridge = pair
    clean, corrupted = draw(model, 2), draw(model, 3)
    axes = ("layer", "head") if site == "z" else ("layer", "pos")
    ours = iw.patch_sweep(model, clean, corrupted, iw.logit_diff(5, 7), over=site, by=axes, progress=False)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(clean)

    def put(cell: int, source: torch.Tensor) -> Callable[..., torch.Tensor]:
        def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value = value.clone()
            if site == "z":
                split = (*value.shape[:2], model.n_heads, -1)  # it comes with its heads apart, or flattened
                value.view(split)[:, :, cell] = source.reshape(split)[:, :, cell]
            else:
                value[:, cell] = source[:, cell]
            return value

        return hook

    for layer in range(model.n_layers):
        name = SAME[site].format(layer)
        for cell in range(ours.shape[1]):
            with torch.no_grad():
                logits = bridge.run_with_hooks(corrupted, fwd_hooks=[(name, put(cell, cache[name]))])
            truth = logits[:, -1, 5] - logits[:, -1, 7]
            np.testing.assert_allclose(ours.values[layer, cell], truth, rtol=1e-4, atol=1e-3)
