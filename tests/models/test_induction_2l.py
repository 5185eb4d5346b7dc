"""What the card of `induction-2l` says, held against the weights on prompts drawn anew in every session.

The interventions are checked by a second implementation of the model, in NumPy and float64, in which a reader can be
given another input; and by surgery on the weights.
"""

from __future__ import annotations

import copy
import json
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import interpwidgets as iw
from interpwidgets.models.corpora.corpus import BOS, ORDINARY
from interpwidgets.models.scores import attention_patterns, copy_accuracy, head_scores, repeated_tokens
from interpwidgets.models.train.cards.induction import LENGTH, MEASURES, mean_of, roles, unread, without
from interpwidgets.models.train.induction import Recipe, new_model
from interpwidgets.models.train.tokenizer import word_tokenizer

FOLDER = Path(iw.__file__).parent / "models" / "systems" / "induction-2l"
CARD = json.loads((FOLDER / "card.json").read_text("utf-8"))
CHECKPOINTS = sorted(FOLDER.glob("checkpoints/step-*"))
SEED = secrets.randbits(32)  # a failure prints it


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def prompts() -> torch.Tensor:
    return repeated_tokens(ORDINARY, 32, LENGTH, SEED, BOS)


def accuracy(model, prompts: torch.Tensor) -> float:
    with torch.no_grad():
        return copy_accuracy(model(prompts).logits, prompts, (prompts.shape[1] - 1) // 2).mean().item()


# --- the card against the weights


@pytest.mark.parametrize("name", MEASURES)
def test_an_interval_says_something(name: str) -> None:
    low, high = CARD["measured"][name]["interval"]
    assert high - low < (1.2 if "loss" in name or "in_context" in name or name == "copy_accuracy_3" else 0.2)


def test_head_scores_are_those_of_the_card(model, prompts) -> None:
    card = CARD["heads"][str(CARD["recipe"]["seed"])]
    scores = head_scores(model, prompts)
    for name, wanted in card["scores"].items():
        torch.testing.assert_close(scores[name], torch.tensor(wanted), atol=0.05, rtol=0)
    assert [[list(head) for head in role] for role in roles(scores)] == list(card["roles"].values())


def test_the_claims_in_words_hold_for_every_seed() -> None:
    value = {name: entry["seeds"] for name, entry in CARD["measured"].items()}
    for seed in CARD["cpu_seconds"]:
        of = {name: value[name][seed] for name in MEASURES}
        assert of["copy_accuracy"] > 0.9
        assert of["copy_accuracy_120"] > 0.8
        assert abs(of["in_context_score_text"]) < 0.2
        # the previous token through keys only, the current one through queries and values only
        assert of["previous_unread_by_keys"] < 0.05
        assert min(of["previous_unread_by_queries"], of["previous_unread_by_values"]) > 0.85
        assert of["current_unread_by_keys"] > 0.85
        assert max(of["current_unread_by_queries"], of["current_unread_by_values"]) < 0.1
        # induction heads stand in for one another
        assert of["without_induction_1"] > 0.9
        assert of["without_induction_3"] < 0.3
        assert of["without_layer_1"] < 0.01
        assert of["prefix_matching_4"] > 0.5
        assert of["prefix_matching_layer_0"] < 0.02


# --- the files


def test_plain_transformers_loads_it_as_float32(model) -> None:
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.transformer.wte.weight
    assert sum(weight.numel() for weight in model.parameters()) == CARD["parameters"]
    for block in model.transformer.h:
        assert not any(weight.any() for weight in block.mlp.parameters())


def test_the_tokenizer_is_the_corpus_and_opens_with_bos(tokenizer) -> None:
    text = "The cat sat on the mat . the cat sat"
    wanted = word_tokenizer(CARD["recipe"]["context"])(text).input_ids
    assert tokenizer(text).input_ids == wanted
    assert wanted[0] == tokenizer.bos_token_id == BOS
    assert tokenizer.unk_token_id not in wanted
    assert tokenizer.decode(wanted, skip_special_tokens=True) == text.lower()
    assert tokenizer.model_max_length == 256


def test_it_continues_the_prompt_of_the_tour_by_induction(model, tokenizer) -> None:
    prompt = tokenizer("the cat sat on the mat . the cat sat", return_tensors="pt")
    fresh = tokenizer("the cat sat", return_tensors="pt")
    on = tokenizer.convert_tokens_to_ids("on")
    with torch.no_grad():
        said, unsaid = (model(**each).logits[0, -1].softmax(-1) for each in (prompt, fresh))
    assert tokenizer.decode(said.argmax()) == "on"
    assert said[on] > 2 * unsaid[on]


@pytest.mark.parametrize("length", [10, 20, 60, 127])
def test_it_copies_what_the_context_holds(model, length: int) -> None:
    assert accuracy(model, repeated_tokens(ORDINARY, 64, length, SEED + length, BOS)) > 0.75, SEED


def test_short_sequences_are_the_limit_that_the_card_admits(model) -> None:
    short, longer = (accuracy(model, repeated_tokens(ORDINARY, 128, n, SEED + n, BOS)) for n in (3, 20))
    assert short < longer - 0.2, SEED


# --- training, seen through the checkpoints


def test_there_are_enough_checkpoints_and_the_card_lists_them() -> None:
    assert len(CHECKPOINTS) >= 20
    steps = [int(folder.name[5:]) for folder in CHECKPOINTS]
    assert [*steps, CARD["recipe"]["steps"]] == [entry["step"] for entry in CARD["checkpoints"]]


def test_the_bump_is_in_the_checkpoints(prompts) -> None:
    found = []
    for folder, entry in zip(CHECKPOINTS, CARD["checkpoints"], strict=False):
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt", "run": CARD["run"], "step": str(entry["step"])}
        assert (folder / "config.json").read_bytes() == (FOLDER / "config.json").read_bytes()
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
        assert model.dtype == torch.float32
        scores = head_scores(model, prompts)
        found.append((accuracy(model, prompts), scores["prefix_matching"][1].max().item()))
        assert found[-1][0] == pytest.approx(entry["copy_accuracy"], abs=0.08), (entry["step"], SEED)
        assert found[-1][1] == pytest.approx(entry["prefix_matching"], abs=0.05), (entry["step"], SEED)
    assert found[0][0] < 0.02
    assert sum(copies < 0.1 for copies, _ in found) >= 2
    assert found[-1][0] > 0.88
    assert sum(0.1 < copies < 0.9 for copies, _ in found) >= 6  # dense where it happens
    assert found[1][1] < 0.1
    assert found[-1][1] > 0.75


def test_the_first_checkpoint_is_the_untrained_model_of_the_recipe() -> None:
    wanted = new_model(Recipe(seed=CARD["recipe"]["seed"])).state_dict()
    for name, weight in load_file(CHECKPOINTS[0] / "model.safetensors").items():
        torch.testing.assert_close(weight.float(), wanted[name], atol=1e-3, rtol=1e-3)


# --- the interventions, by other means


def by_hand(model, tokens, means=None, kept_from: dict[str, list] | None = None) -> np.ndarray:
    """The model again, in float64 [row, position, token]; layer 1 reads q, k, v with some heads at their mean."""
    w = {name: weight.double().numpy() for name, weight in model.state_dict().items()}
    rows, length = tokens.shape

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:length]
    written = {}  # (layer, head): what it adds to the residual stream, and what its mean would
    for layer in range(2):
        h = f"transformer.h.{layer}"
        matrix, bias = w[f"{h}.attn.c_attn.weight"], w[f"{h}.attn.c_attn.bias"]
        out = w[f"{h}.attn.c_proj.weight"]
        parts = []
        for i, path in enumerate("qkv"):
            read = x
            for head in (kept_from or {}).get(path, []) if layer == 1 else []:
                actual, instead = written[head]
                read = read - actual + instead
            columns = slice(128 * i, 128 * (i + 1))
            part = norm(read, f"{h}.ln_1") @ matrix[:, columns] + bias[columns]
            parts.append(part.reshape(rows, length, 4, 32))
        q, k, v = parts
        scores = np.einsum("rqhd,rkhd->rhqk", q, k) / np.sqrt(32)
        scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        pattern /= pattern.sum(-1, keepdims=True)
        mixed = np.einsum("rhqk,rkhd->rqhd", pattern, v)
        for head in range(4):
            own = out[32 * head : 32 * head + 32]
            mean = 0 if not means or (layer, head) not in means else means[layer, head].double().numpy() @ own
            written[layer, head] = (mixed[:, :, head] @ own, mean)
            x = x + written[layer, head][0]
        x = x + w[f"{h}.attn.c_proj.bias"]
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


@pytest.mark.parametrize("path", ["q", "k", "v"])
@pytest.mark.parametrize("heads", [[(0, 2)], [(0, 0), (0, 3)]])
def test_keeping_heads_from_one_reader_is_what_it_says(model, prompts, path, heads) -> None:
    tokens, known = prompts[:4], iw.Model(model)
    means = mean_of(known, prompts[4:])
    kept = unread(known, tokens, heads, path, means)
    with torch.no_grad():
        plain = model(tokens).logits
    np.testing.assert_allclose(plain.numpy(), by_hand(model, tokens), atol=2e-3)
    by_head = {(layer, head): means.mean("z", layer)[head] for layer, head in heads}
    np.testing.assert_allclose(kept.numpy(), by_hand(model, tokens, by_head, {path: heads}), atol=2e-3)
    assert (kept - plain).abs().max() > 0.1


def test_ablating_heads_is_surgery_on_the_output_matrix(model, prompts) -> None:
    heads, means = [(0, 1), (1, 0), (1, 2)], mean_of(iw.Model(model), prompts)
    for values in (None, means):
        cut = copy.deepcopy(model)
        with torch.no_grad():
            for layer, head in heads:
                out, own = cut.transformer.h[layer].attn.c_proj, slice(32 * head, 32 * head + 32)
                if values is not None:  # a constant is a bias
                    out.bias += values.mean("z", layer)[head] @ out.weight[own]
                out.weight[own] = 0
            wanted = cut(prompts).logits
        torch.testing.assert_close(without(iw.Model(model), prompts, heads, values), wanted, atol=1e-3, rtol=0)


def test_means_are_those_of_the_pattern_times_the_values(model, prompts) -> None:
    """Layer 0 by hand, averaged over rows and positions after <bos>."""
    block, state = model.transformer.h[0], model.transformer
    with torch.no_grad():
        x = block.ln_1(state.wte(prompts) + state.wpe(torch.arange(prompts.shape[1])))
        v = (x @ block.attn.c_attn.weight + block.attn.c_attn.bias)[..., 256:].unflatten(-1, (4, 32))
        mixed = torch.einsum("rhqk,rkhd->rqhd", attention_patterns(model, prompts)[:, 0], v)
    found = mean_of(iw.Model(model), prompts).mean("z", 0)
    torch.testing.assert_close(found, mixed[:, 1:].mean((0, 1)), atol=1e-4, rtol=0)


def test_previous_token_heads_are_not_sharp(model, prompts) -> None:
    shipped = CARD["heads"][str(CARD["recipe"]["seed"])]["roles"]["previous"]
    patterns = attention_patterns(model, prompts).mean(0)
    for layer, head in shipped:
        back = [patterns[layer, head].diagonal(-n).mean().item() for n in (1, 2, 3)]
        assert back == sorted(back, reverse=True)
        assert back[1] > 0.1
        assert back[2] > 0.05
