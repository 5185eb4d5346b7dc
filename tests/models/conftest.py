"""Small random models of the three families, and the patterns that they compute themselves."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import interpwidgets as iw

torch.set_num_threads(1)
VOCABULARY = 61
FAMILIES = ["gpt2", "llama", "bert"]


def build(family: str) -> PreTrainedModel:
    """A model of two layers with four heads, its weights large enough for patterns that are far from uniform."""
    torch.manual_seed(7)
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": VOCABULARY}
    no_ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    module: PreTrainedModel
    if family == "gpt2":
        module = GPT2LMHeadModel(GPT2Config(n_positions=48, scale_attn_by_inverse_layer_idx=True, **size, **no_ids))
    elif family == "llama":
        module = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, intermediate_size=48, **size, **no_ids))
    else:
        module = BertForMaskedLM(BertConfig(max_position_embeddings=48, intermediate_size=48, **size))
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and "emb" not in name:
                weight.mul_(8.0)
    return module.eval()


@pytest.fixture(scope="session")
def modules() -> dict[str, PreTrainedModel]:
    return {family: build(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def module(request: pytest.FixtureRequest, modules: dict[str, PreTrainedModel]) -> PreTrainedModel:
    return modules[request.param]


@pytest.fixture
def model(module: PreTrainedModel) -> iw.Model:
    return iw.Model(module)


@pytest.fixture(scope="session")
def gpt2(modules: dict[str, PreTrainedModel]) -> iw.Model:
    return iw.Model(modules["gpt2"])


@pytest.fixture
def fresh() -> Callable[[str], PreTrainedModel]:
    """A model that a test may spoil."""
    return build


Eager = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def eager() -> Eager:
    """What transformers says of one prompt: attentions, hidden states and logits, without our code."""

    def run(module: PreTrainedModel, ids: list[int]) -> dict[str, torch.Tensor]:
        plain = copy.deepcopy(module)
        plain.set_attn_implementation("eager")
        # The last hidden state that transformers hands out has been through the final norm: hear it before.
        heard = []
        stack = next(part for part in plain.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == 2)
        stack[-1].register_forward_hook(lambda _, __, output: heard.append(output))
        with torch.no_grad():
            output = plain(torch.tensor([ids]), output_attentions=True, output_hidden_states=True, use_cache=False)
        last = heard[0] if isinstance(heard[0], torch.Tensor) else heard[0][0]
        return {
            "attentions": torch.stack(output.attentions)[:, 0],  # [layer, head, query, key]
            "hidden": torch.stack([*output.hidden_states[:-1], last])[:, 0],  # [layer + 1, pos, d_model]
            "logits": output.logits[0],  # [pos, vocabulary]
        }

    return run


@pytest.fixture
def prompts() -> Callable[..., list[list[int]]]:
    """Random prompts of given lengths."""

    def draw(*lengths: int, seed: int = 0) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.integers(1, VOCABULARY, length).tolist() for length in lengths]

    return draw
