"""A recording holds what the model did: compared with what transformers itself says."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import zoo
from transformers import PreTrainedModel

import interpwidgets as iw

ALL = ["resid_pre", "resid_post", "pattern", "logits"]
Prompts = Callable[..., list[list[int]]]
several = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@several
@given(lengths=st.lists(st.integers(1, 48), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_equals_the_models_own_outputs(
    model: iw.Model, eager: Any, prompts: Prompts, lengths: list[int], seed: int
) -> None:
    batch = prompts(*lengths, seed=seed)
    rec = iw.record(model, batch, sites=ALL)
    assert len(rec) == len(batch)
    for number, ids in enumerate(batch):
        truth = eager(model.module, ids)
        size = len(ids)
        for layer in range(2):
            pattern = rec["pattern", layer][number, :, :size, :size]
            torch.testing.assert_close(pattern, truth["attentions"][layer], atol=1e-5, rtol=0)
            torch.testing.assert_close(
                rec["resid_pre", layer][number, :size], truth["hidden"][layer], atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(
                rec["resid_post", layer][number, :size], truth["hidden"][layer + 1], atol=1e-4, rtol=1e-4
            )
        torch.testing.assert_close(rec["logits"][number, :size], truth["logits"], atol=1e-3, rtol=1e-4)
        assert rec.tokens[number].ids is not None
        assert rec.tokens[number].ids.tolist() == ids


def test_shapes(model: iw.Model, prompts: Prompts) -> None:
    rec = iw.record(model, prompts(5, 9), sites=["resid_pre", "resid_post", "q", "k", "lse", "pattern", "logits"])
    kv_heads = getattr(model.config, "num_key_value_heads", 4)
    assert rec["resid_pre", 0].shape == rec["resid_post", 1].shape == (2, 9, 32)  # [batch, pos, d_model]
    assert rec["q", 0].shape == (2, 9, 4, 8)  # [batch, pos, head, d_head]
    assert rec["k", 0].shape == (2, 9, kv_heads, 8)
    assert rec["lse", 0].shape == (2, 4, 9)  # [batch, head, query]
    assert rec["pattern", 0].shape == (2, 4, 9, 9)  # [batch, head, query, key]
    assert rec["logits"].shape == (2, 9, 61)


def test_positions_after_the_end_of_a_prompt_are_nan(model: iw.Model, prompts: Prompts) -> None:
    rec = iw.record(model, prompts(3, 6), sites=["resid_pre", "resid_post", "q", "k", "lse", "pattern", "logits"])
    for site in ("resid_pre", "resid_post", "q", "k"):
        assert rec[site, 1][0, 3:].isnan().all()
        assert not rec[site, 1][0, :3].isnan().any()
        assert not rec[site, 1][1].isnan().any()
    assert rec["lse", 0][0, :, 3:].isnan().all()
    assert rec["pattern", 0][0, :, 3:].isnan().all()
    assert (rec["pattern", 0][0, :, :3, 3:] == 0).all()
    assert rec["logits"][0, 3:].isnan().all()


def test_rows_sum_to_one_and_lse_is_that_of_the_scores(model: iw.Model, prompts: Prompts) -> None:
    rec = iw.record(model, prompts(17))
    scaling = [8**-0.5 / (layer + 1 if model.module.config.model_type == "gpt2" else 1) for layer in range(2)]
    for layer in range(2):
        q, k = rec["q", layer][0].double(), rec["k", layer][0].double()  # [pos, head, d_head]
        k = k.repeat_interleave(4 // k.shape[1], dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * scaling[layer]
        if model.module.config.model_type != "bert":
            scores = scores.masked_fill(torch.ones(17, 17).triu(1).bool(), -torch.inf)
        expected = scores.logsumexp(-1).float()
        torch.testing.assert_close(rec["lse", layer][0], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rec["pattern", layer][0].sum(-1), torch.ones(4, 17), atol=1e-5, rtol=0)


def test_padding_side_and_padding_id_do_not_matter(model: iw.Model, prompts: Prompts) -> None:
    batch = prompts(4, 9, 7)

    def padded(side: str, fill: int) -> dict[str, torch.Tensor]:
        ids, mask = torch.full((3, 12), fill), torch.zeros(3, 12, dtype=torch.long)
        for row, prompt in enumerate(batch):
            place = slice(12 - len(prompt), 12) if side == "left" else slice(0, len(prompt))
            ids[row, place], mask[row, place] = torch.tensor(prompt), 1
        return {"input_ids": ids, "attention_mask": mask}

    plain = iw.record(model, batch, sites=ALL)
    for side in ("left", "right"):
        for fill in (0, 60):
            other = iw.record(model, padded(side, fill), sites=ALL)
            assert [tokens.ids.tolist() for tokens in other.tokens] == batch  # type: ignore[union-attr]
            for layer in range(2):
                for site in ("resid_pre", "resid_post", "pattern"):
                    torch.testing.assert_close(other[site, layer], plain[site, layer], rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(other["logits"], plain["logits"], rtol=0, atol=0, equal_nan=True)


def test_a_batch_is_its_prompts_one_by_one(model: iw.Model, prompts: Prompts) -> None:
    batch = prompts(3, 11, 6)
    together = iw.record(model, batch)
    for number, ids in enumerate(batch):
        alone = iw.record(model, ids)
        for layer in range(2):
            for head in range(4):
                torch.testing.assert_close(
                    together.pattern(layer, head, batch=number), alone.pattern(layer, head), atol=1e-5, rtol=0
                )


@pytest.mark.parametrize(
    "form", ["list", "nested", "tuple", "array", "tensor", "matrix", "int32", "mapping", "encoding"]
)
def test_prompts_in_every_form(gpt2: iw.Model, form: str) -> None:
    from transformers import BatchEncoding

    ids = [3, 1, 4, 1, 5]
    given_as: dict[str, Any] = {
        "list": ids,
        "nested": [ids],
        "tuple": tuple(ids),
        "array": np.array(ids),
        "tensor": torch.tensor(ids),
        "matrix": torch.tensor([ids]),
        "int32": np.array([ids], dtype=np.int32),
        "mapping": {"input_ids": [ids], "attention_mask": [[1] * 5]},
        "encoding": BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * 5]}, tensor_type="pt"),
    }
    rec = iw.record(gpt2, given_as[form])
    assert len(rec) == 1
    torch.testing.assert_close(rec["resid_post", 1], iw.record(gpt2, ids)["resid_post", 1], rtol=0, atol=0)


def test_token_types_reach_the_model(modules: dict[str, PreTrainedModel]) -> None:
    bert = iw.Model(modules["bert"])
    ids, types = torch.tensor([[0, 5, 6, 7, 8, 9]]), torch.tensor([[1, 0, 0, 0, 1, 1]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1]])
    rec = iw.record(bert, {"input_ids": ids, "token_type_ids": types, "attention_mask": mask})
    with torch.no_grad():
        hidden = modules["bert"](ids[:, 1:], token_type_ids=types[:, 1:], output_hidden_states=True).hidden_states
    torch.testing.assert_close(rec["resid_post", 1], hidden[-1], atol=1e-4, rtol=1e-4)
    assert (rec["resid_post", 1] - iw.record(bert, ids[:, 1:])["resid_post", 1]).abs().max() > 1e-2


def state(module: PreTrainedModel) -> list[object]:
    """Everything of a module that a recording touches."""
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()]
    return [module.config._attn_implementation, hooks, [part.training for part in module.modules()]]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_before(
    fresh: Callable[[str], PreTrainedModel], prompts: Prompts, implementation: str, training: bool
) -> None:
    module = fresh("llama")
    module.set_attn_implementation(implementation)
    module.eval()
    ids = torch.tensor(prompts(7))
    with torch.no_grad():
        before = module(ids).logits
    module.train(training)
    module.model.layers[1].eval()  # not all parts need be in the same mode
    was = state(module)
    iw.record(module, ids, sites=ALL)
    assert state(module) == was
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(ids).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_is_as_before_also_after_an_error(
    fresh: Callable[[str], PreTrainedModel], prompts: Prompts, error: type[BaseException]
) -> None:
    module = fresh("gpt2").train()
    was = state(module)

    def fail(*_: object) -> None:
        raise error("in the middle")

    handle = module.transformer.h[1].register_forward_pre_hook(fail)
    with pytest.raises(error):
        iw.record(module, prompts(5))
    handle.remove()
    assert state(module) == was
    assert iw.record(module, prompts(5))["pattern", 1].isfinite().all()


def test_dropout_is_off_while_recording(fresh: Callable[[str], PreTrainedModel], prompts: Prompts) -> None:
    module = fresh("bert")
    quiet = iw.record(module, prompts(8))["resid_post", 1]
    torch.testing.assert_close(iw.record(module.train(), prompts(8))["resid_post", 1], quiet, rtol=0, atol=0)


def test_recorded_tensors_are_ordinary(gpt2: iw.Model, prompts: Prompts) -> None:
    resid = iw.record(gpt2, prompts(6))["resid_post", 0]
    assert not resid.requires_grad
    probe = torch.nn.Linear(32, 1)
    probe(resid).sum().backward()  # tensors made in inference mode would refuse
    assert probe.weight.grad is not None


def test_q_and_k_keep_no_larger_array_alive(model: iw.Model, prompts: Prompts) -> None:
    rec = iw.record(model, prompts(6))
    for site in ("q", "k"):
        assert rec[site, 0].untyped_storage().nbytes() == rec[site, 0].nbytes


def test_other_threads_are_not_recorded(gpt2: iw.Model, prompts: Prompts) -> None:
    """A forward pass of another thread, in the middle of ours, leaves no trace on the tape."""
    ids = prompts(6)
    foreign = torch.tensor(prompts(6, seed=1))
    once = threading.Event()

    def intrude(*_: object) -> None:
        if not once.is_set():
            once.set()
            other = threading.Thread(target=lambda: gpt2.module(foreign, use_cache=False))
            other.start()
            other.join()

    handle = gpt2.anatomy.blocks[1].register_forward_pre_hook(intrude)
    try:
        rec = iw.record(gpt2, ids)
    finally:
        handle.remove()
    assert once.is_set()
    plain = iw.record(gpt2, ids)
    for layer in range(2):
        for site in ("resid_pre", "resid_post", "q", "k"):
            torch.testing.assert_close(rec[site, layer], plain[site, layer], rtol=0, atol=0)


def test_two_threads_record_one_model(gpt2: iw.Model, prompts: Prompts) -> None:
    batches = [prompts(9, 4, seed=seed) for seed in range(6)]
    found: dict[int, iw.Recording] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: iw.record(gpt2, batches[seed])}))
        for seed in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, batch in enumerate(batches):
        torch.testing.assert_close(
            found[seed]["resid_post", 1], iw.record(gpt2, batch)["resid_post", 1], rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(
    fresh: Callable[[str], PreTrainedModel], eager: Any, prompts: Prompts, dtype: torch.dtype
) -> None:
    """q and k are the model's, to the bit; the pattern is theirs in float32, so only its rounding differs."""
    module = fresh("llama").to(dtype)
    ids = prompts(21)[0]
    rec = iw.record(module, ids)
    assert rec["q", 0].dtype == rec["resid_post", 0].dtype == dtype
    block = rec.attention().block(1, 2, np.arange(21), slice(0, 21))
    assert block.dtype == np.float32
    np.testing.assert_allclose(block.sum(-1), 1, atol=1e-5)
    q, k = rec["q", 0][0].double(), rec["k", 0][0].double().repeat_interleave(2, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * 8**-0.5
    scores = scores.masked_fill(torch.ones(21, 21).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(rec["pattern", 0][0], scores.softmax(-1).float(), atol=1e-5, rtol=0)
    coarse = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        rec["pattern", 0][0], eager(module, ids)["attentions"][0].float(), atol=coarse, rtol=8 * coarse
    )


@pytest.mark.parametrize("kind", ["Mistral", "ModernBert"])
def test_a_sliding_window(eager: Any, prompts: Prompts, kind: str) -> None:
    """A mask that is neither everything nor the past, different from layer to layer."""
    window = {"Mistral": {"sliding_window": 5, "num_key_value_heads": 2}, "ModernBert": {"local_attention": 6}}[kind]
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    config = getattr(transformers, f"{kind}Config")(vocab_size=61, pad_token_id=0, **size, **window)
    head = "ForCausalLM" if kind == "Mistral" else "ForMaskedLM"
    module = getattr(transformers, kind + head)(config).eval()
    batch = prompts(19, 8)
    rec = iw.record(module, batch)
    for number, ids in enumerate(batch):
        truth = eager(module, ids)["attentions"]
        for layer in range(2):
            for head_number in range(4):
                pattern = rec.pattern(layer, head_number, batch=number)
                torch.testing.assert_close(pattern, truth[layer, head_number], atol=1e-5, rtol=0)
    assert (rec.pattern(1, 0)[-1, :5] == 0).all()


def small(kind: str, **options: Any) -> PreTrainedModel:
    """A random model of another family, its weights large enough for patterns far from uniform."""
    torch.manual_seed(5)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 61} | options
    module: PreTrainedModel = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**sizes)
    )
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and "emb" not in name:
                weight.mul_(8.0)
            elif "sinks" in name:
                weight.normal_()
    return module.eval()


GQA = {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Gemma2", {**GQA, "attn_logit_softcapping": 2.0, "sliding_window": 5}),
        ("GptOss", {**GQA, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 5}),
        ("Bloom", {"n_head": 4, "n_layer": 2}),
        ("GPTJ", {"n_head": 4, "n_layer": 2, "n_embd": 32, "rotary_dim": 4, "n_positions": 64}),
        ("Falcon", {"alibi": True}),
    ],
)
def test_softcap_sinks_and_attention_of_their_own(
    prompts: Prompts, eager: Any, kind: str, options: dict[str, Any]
) -> None:
    module = small(kind, **options)
    ids = prompts(13)[0]
    rec = iw.record(module, ids, sites=["pattern", "scores", "resid_post"])
    truth = eager(module, ids)
    for layer in range(2):
        torch.testing.assert_close(rec["resid_post", layer][0], truth["hidden"][layer + 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(rec["pattern", layer][0], truth["attentions"][layer], atol=1e-5, rtol=0)
        source = rec.attention()
        part = source.block(layer, 1, np.array([3, 12]), slice(2, 9))
        torch.testing.assert_close(
            torch.from_numpy(part), truth["attentions"][layer, 1, [3, 12], 2:9], atol=1e-5, rtol=0
        )
    if kind != "GptOss":  # a softmax with sinks is not that of the scores
        torch.testing.assert_close(rec["scores", 1].softmax(-1), rec["pattern", 1], atol=1e-5, rtol=0)


def test_layers_and_sites_can_be_chosen(gpt2: iw.Model, prompts: Prompts) -> None:
    whole = iw.record(gpt2, prompts(8))
    rec = iw.record(gpt2, prompts(8), sites=["pattern"], layers=[-1])
    assert rec.layers == (1,)
    assert rec.sites == ("q", "k", "scores", "pattern", "lse")
    source = rec.attention()
    assert source.shape == (1, 4, 8, 8)
    assert source.layers == (1,)
    torch.testing.assert_close(rec.pattern(layer=1, head=3), whole.pattern(layer=1, head=3), rtol=0, atol=0)
    with pytest.raises(iw.NotRecordedError, match="Recorded: sites q, k, scores, pattern, lse; layers 1"):
        rec["pattern", 0]
    with pytest.raises(iw.NotRecordedError, match="no 'resid_pre'"):
        rec["resid_pre", 1]


def test_logits_cost_nothing_unless_asked_for(gpt2: iw.Model, prompts: Prompts) -> None:
    calls = []
    handle = gpt2.module.lm_head.register_forward_hook(lambda *_: calls.append(1))
    try:
        rec = iw.record(gpt2, prompts(5))
        assert not calls
        with pytest.raises(iw.NotRecordedError, match="logits"):
            rec["logits"]
        iw.record(gpt2, prompts(5), sites=["logits"])
        assert calls
    finally:
        handle.remove()


def test_keys_alone_can_be_part_of_the_graph(gpt2: iw.Model, prompts: Prompts) -> None:
    found = iw.record(gpt2, prompts(6), sites=["k"], grad=True)
    torch.testing.assert_close(found["k", 1], iw.record(gpt2, prompts(6))["k", 1])
    assert found["k", 1].requires_grad


def test_writes_of_modules_that_see_no_batch_are_told_apart_by_prompt() -> None:
    """OPT's MLP works on [batch · pos, d_model]."""
    model = iw.Model(zoo.build("opt"))
    rec = iw.record(model, [[5, 6, 7], [8, 9, 10]], sites=["resid_mid", "mlp_out", "resid_post"])
    torch.testing.assert_close(rec["resid_mid", 1] + rec["mlp_out", 1], rec["resid_post", 1])
    zero = iw.run(model, [[5, 6, 7], [8, 9, 10]], iw.Ablate("mlp_out", 1), sites=["resid_mid", "resid_post"])
    torch.testing.assert_close(zero["resid_mid", 1], zero["resid_post", 1])
