"""What cannot be recorded is refused in a sentence that names the facts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    BertModel,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import interpwidgets as iw


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompt"),
        ((), "no prompt"),
        ([[1, 2], []], "prompt 1 is empty"),
        (torch.zeros(0, dtype=torch.long), "a token or more"),
        (torch.zeros(2, 0, dtype=torch.long), "a token or more"),
        (np.zeros((1, 2, 3), dtype=int), r"\(1, 2, 3\)"),
        (torch.ones(1, 3), "list of token ids"),
        ([1.5, 2.0], "list of token ids"),
        (["a", [1]], "one kind"),
        ([["a"]], "one kind"),
        (None, "NoneType"),
        (3, "int"),
        ("text", "no tokenizer"),
        ([1, 61], "token id 61; .* 0 to 60"),
        ([-1], "token id -1"),
        ({"attention_mask": [[1]]}, "needs 'input_ids'"),
        ({"input_ids": [[1]], "labels": [[1]]}, r"\['labels'\]"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "belong together"),
        ({"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]}, "gap"),
        ({"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [0, 0]]}, "Prompt 1 is empty"),
    ],
)
def test_prompts(gpt2: iw.Model, prompts: Any, message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        iw.record(gpt2, prompts)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_prompt_longer_than_the_position_table(modules: dict[str, PreTrainedModel], family: str) -> None:
    model = iw.Model(modules[family])
    iw.record(model, [1] * 48)
    with pytest.raises(iw.InputError, match=r"Prompt 1 has 49 tokens, .* for 48"):
        iw.record(model, [[1], [1] * 49])


@pytest.mark.parametrize(
    ("kind", "options", "context"),
    [("Roberta", {"max_position_embeddings": 50}, 48), ("OPT", {"word_embed_proj_dim": 16, "ffn_dim": 16}, 2048)],
)
def test_reserved_rows_of_a_position_table_are_no_positions(kind: str, options: dict[str, int], context: int) -> None:
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "vocab_size": 20}
    config = getattr(transformers, f"{kind}Config")(**size, **options)
    head = "ForMaskedLM" if kind == "Roberta" else "ForCausalLM"
    model = iw.Model(getattr(transformers, kind + head)(config).eval())
    assert model.context == context
    iw.record(model, [5] * context)
    with pytest.raises(iw.InputError, match=f"{context + 1} tokens, .* for {context}"):
        iw.record(model, [5] * (context + 1))
    with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
        model.module(torch.tensor([[5] * (context + 1)]))  # what it would have said otherwise


def test_rotary_positions_have_no_edge(modules: dict[str, PreTrainedModel]) -> None:
    model = iw.Model(modules["llama"])
    assert model.context is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["resid_middle"]}, "no site 'resid_middle'. There are: embed, resid_pre"),
        ({"sites": "pattern"}, r"sites=\['pattern'\]"),
        ({"layers": [2]}, "no layer 2; there are 2"),
        ({"layers": ["a"]}, "no layer 'a'"),
    ],
)
def test_sites_and_layers(gpt2: iw.Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        iw.record(gpt2, [1, 2], **options)


def test_logits_of_a_model_without_a_head(modules: dict[str, PreTrainedModel]) -> None:
    body = modules["bert"].bert
    assert isinstance(body, BertModel)
    assert iw.record(body, [1, 2, 3])["pattern", 0].shape == (1, 4, 3, 3)
    with pytest.raises(iw.InputError, match="BertModel has no unembedding"):
        iw.record(body, [1, 2, 3], sites=["logits"])


def test_a_model_without_attention() -> None:
    module = MambaForCausalLM(MambaConfig(num_hidden_layers=2, hidden_size=16, vocab_size=20, state_size=4)).eval()
    model = iw.Model(module)
    assert "heads" not in repr(model)
    with pytest.raises(iw.NoAttentionError, match="MambaForCausalLM has no attention weights"):
        iw.record(model, [1, 2, 3])
    rec = iw.record(model, [1, 2, 3], sites=["resid_pre", "resid_post"])
    assert rec["resid_post", 1].shape == (1, 3, 16)
    with pytest.raises(iw.NoAttentionError, match="holds no attention"):
        rec.attention()


def test_an_encoder_with_a_decoder() -> None:
    config = T5Config(num_layers=1, num_heads=2, d_model=16, d_kv=8, d_ff=16, vocab_size=20)
    with pytest.raises(iw.InputError, match="encoder and a decoder"):
        iw.Model(T5ForConditionalGeneration(config))


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("ragged", [False, True])
def test_nan_in_a_weight_is_named(fresh: Callable[[str], PreTrainedModel], family: str, ragged: bool) -> None:
    module = fresh(family)
    name, weight = [(name, weight) for name, weight in module.named_parameters() if weight.ndim == 2][-4]
    with torch.no_grad():
        weight[1, 2] = torch.nan
    with pytest.raises(iw.InputError, match=f"weight '{name}'"):
        iw.record(module, [[1, 2, 3], [4]] if ragged else [[1, 2, 3]])


def test_nan_that_arises_on_the_way_is_placed(fresh: Callable[[str], PreTrainedModel]) -> None:
    module = fresh("gpt2")
    module.transformer.h[0].mlp.register_forward_hook(lambda _, __, output: output * torch.nan)
    with pytest.raises(iw.InputError, match="first at 'resid_post' of layer 0"):
        iw.record(module, [1, 2, 3])


@pytest.mark.parametrize("given", [torch.nn.Linear(2, 2), "gpt2", None, (1, 2, 3), 5])
def test_what_is_no_model(given: Any) -> None:
    with pytest.raises(iw.InputError, match=r"Expected a Model|takes a transformers model"):
        iw.record(given, [1])


def test_what_is_no_tokenizer(gpt2: iw.Model) -> None:
    with pytest.raises(iw.InputError, match="A tokenizer has a `decode` method; dict has none"):
        iw.Model(gpt2.module, {})
    with pytest.raises(iw.InputError, match="no tokenizer"):
        gpt2.tokens("a")


def test_queries_before_the_rotary_embedding_are_not_those_after(modules: dict[str, PreTrainedModel]) -> None:
    with pytest.raises(iw.InputError, match=r"before the rotary embedding.*'blocks.0.attn.hook_rot_q'"):
        iw.record(modules["llama"], [1, 2, 3], sites=["blocks.0.attn.hook_q"])
    iw.record(modules["llama"], [1, 2, 3], sites=["blocks.0.attn.hook_rot_q"])
    iw.record(modules["gpt2"], [1, 2, 3], sites=["blocks.0.attn.hook_q"])
