"""The compiled systems that ship: the files, the cards, and that our own methods find what the programs say is there.

Prompts are drawn anew in every session. The answers come from plain Python; what an intervention must do, from the
program with the same intervention.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import interpwidgets as iw
from interpwidgets.models.compiler import compile_program, labels
from interpwidgets.models.compiler.programs import END, PROGRAMS
from interpwidgets.models.scores import attention_patterns, head_scores
from interpwidgets.models.train.compiled import MEASURES, SYSTEMS, expected, measure, task_prompt
from interpwidgets.models.train.compiled_text import card_text

torch.set_num_threads(1)
SYSTEMS_FOLDER = Path(iw.__file__).parent / "models" / "systems"
SEED = secrets.randbits(32)  # a failure prints it
NAMES = sorted(PROGRAMS)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> iw.Model:
    return iw.load(name)


@pytest.fixture(scope="module")
def card(name: str) -> dict:
    return json.loads((SYSTEMS_FOLDER / name / "card.json").read_text("utf-8"))


def text(prompt: list[str]) -> str:
    return " ".join(prompt)


def pairs(name: str, count: int) -> tuple[list[str], list[str]]:
    """Task prompts in pairs of the same length, cut off anywhere: before an `=`, or in the answer that follows it."""
    program, rng = PROGRAMS[name](), Random(f"pairs {SEED}")
    found = []
    for _ in range(count):
        length = rng.randrange(4, min(program.longest, 16))
        for _ in range(2):
            if program.eos is None:
                prompt = task_prompt(program, length, rng)
            else:
                asked = rng.choices(program.vocabulary[:-2], k=rng.randint(length // 2, min(10, length)))
                answer = asked[::-1] if name == "compiled-reverse" else sorted(asked)
                prompt = [*asked, END, *answer][:length]
            found.append(text(prompt))
    return found[::2], found[1::2]


# --- the files


def test_plain_transformers_says_what_plain_python_says(name: str) -> None:
    module = AutoModelForCausalLM.from_pretrained(SYSTEMS_FOLDER / name, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(SYSTEMS_FOLDER / name)
    assert type(module).__name__ == "GPT2LMHeadModel"
    program, rng = PROGRAMS[name](), Random(SEED)
    for length in range(program.longest + 1):
        prompt = task_prompt(program, length, rng)
        ids = tokenizer(text(prompt), return_tensors="pt").input_ids
        with torch.no_grad():
            logits = module(ids).logits[0]
        sure = logits.max(-1).values
        assert (((sure - 16).abs() < 1e-3) | (sure.abs() < 1e-3)).all()
        words = tokenizer.convert_ids_to_tokens(logits.argmax(-1))
        said = [word if high else None for word, high in zip(words, sure > 8, strict=True)]
        assert said == expected(program, prompt), (prompt, SEED)


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("compiled-sort", "3 1 2 1 =", "1 1 2 3"),
        ("compiled-reverse", "c a b =", "b a c"),
        ("compiled-reverse", "=", ""),
    ],
)
def test_it_answers_until_it_is_done(name: str, prompt: str, answer: str) -> None:
    model = iw.load(name)
    out = iw.generate(model, prompt, max_new_tokens=11)
    assert out.text[0].removesuffix("<eos>").strip() == answer


def test_weights_names_and_tokenizer_are_those_of_a_fresh_compile(name: str, tmp_path) -> None:
    compile_program(PROGRAMS[name]()).save(tmp_path)
    shipped = SYSTEMS_FOLDER / name
    fresh, stored = load_file(tmp_path / "model.safetensors"), load_file(shipped / "model.safetensors")
    assert fresh.keys() == stored.keys()
    assert all(torch.equal(fresh[key], stored[key]) for key in fresh)
    for file in ("model.safetensors", "program.json", "tokenizer.json"):
        assert (tmp_path / file).read_bytes() == (shipped / file).read_bytes(), file
    files = {path.name for path in shipped.iterdir()}
    assert files == {path.name for path in tmp_path.iterdir()} | {"card.json", "README.md"}


def test_every_part_is_found_and_adds_up(model) -> None:
    for block in model.anatomy.parts:
        assert block.kind == "sequential"
        assert not block.why
    assert max(error for _, error in model.anatomy.verified.equations.values()) < 1e-6


def test_weights_stay_small(name: str) -> None:
    assert sum(path.stat().st_size for path in (SYSTEMS_FOLDER / name).iterdir()) < 1.3e6


# --- the cards


def test_every_number_of_the_card_holds_on_fresh_prompts(name: str, model, card) -> None:
    draws = [measure(model, SEED + number) for number in range(3 if name == "compiled-sort" else 1)]
    found = {key: median(draw[key] for draw in draws) for key in MEASURES}
    for key in MEASURES:
        low, high = card["measured"][key]["interval"]
        assert low <= found[key] <= high, (key, SEED)
    for key in ("accuracy", "task_accuracy", "interchange_accuracy", "ablation_accuracy"):
        assert found[key] == 1, (key, SEED)
    for key in ("silence", "attention_error", "stream_error", "norm_error", "idle_effect"):
        assert found[key] < 1e-4, (key, SEED)
    assert found["margin"] > 15.99
    assert found["ablation_changes"] > 0.9, SEED


def test_the_text_of_the_card_is_made_from_its_numbers(name: str, card) -> None:
    assert (SYSTEMS_FOLDER / name / "README.md").read_text("utf-8") == card_text(card)
    assert card["edges"] == labels(iw.load(name)).edges
    assert SYSTEMS[name].samples == card["samples"]


def test_a_wrong_weight_is_noticed(name: str) -> None:
    """The measures can fail: one neuron or head entry more, and the card does not hold."""
    model = iw.load(name)
    truth = labels(model)
    layer, head = max(truth.head)
    size = model.d_model // model.n_heads
    with torch.no_grad():
        model.module.transformer.h[layer].attn.c_proj.weight[head * size : (head + 1) * size] *= 0.4
    found = measure(model, SEED)
    assert found["stream_error"] > 0.1
    assert found["accuracy"] < 1 or found["margin"] < 15


# --- our own methods against the ground truth


def reading(model: iw.Model) -> iw.Metric:
    """A number that changes whenever a logit of the last position does."""
    weights = torch.linspace(1, 2, model.anatomy.embed.num_embeddings) ** 2
    return iw.Metric("a reading of all logits", lambda logits: logits @ weights.to(logits))


def test_sweeps_find_the_heads_and_mlps_of_the_program(name: str, model) -> None:
    clean, corrupted = pairs(name, 60)
    truth = labels(model)
    heads = iw.patch_sweep(model, clean, corrupted, reading(model), over="z", progress=False)
    found = {tuple(map(int, at)) for at in np.argwhere(np.abs(heads.per_prompt).max(-1) > 1e-3)}
    assert found == truth.head.keys(), SEED
    mlps = iw.patch_sweep(model, clean, corrupted, reading(model), over="mlp_out", by=("layer",), progress=False)
    found_mlps = set(np.flatnonzero(np.abs(mlps.per_prompt).max(-1) > 1e-3))
    assert found_mlps == {layer for layer, _ in truth.neuron}, SEED


@pytest.mark.slow
def test_path_patching_finds_the_edges_and_no_others(name: str, model) -> None:
    clean, corrupted = pairs(name, 60)
    truth = labels(model)
    layers, heads = range(model.n_layers), range(model.n_heads)
    receivers = {(f"head {i}.{h}", path): (path, i, h) for i in layers if i for h in heads for path in "qkv"}
    receivers |= {(f"mlp {i}", "in"): ("mlp_pre", i) for i in layers}
    receivers |= {("logits", "in"): ("resid_post", model.n_layers - 1)}
    found = set()
    for (receiver, path), target in receivers.items():
        for site in ("z", "mlp_out"):
            if site == "mlp_out" and target[:2] == ("mlp_pre", 0):
                continue  # no MLP comes before
            effects = iw.path_sweep(
                model, clean, corrupted, reading(model), receivers=[target], over=site, progress=False
            )
            for place, effect in effects.top(99):
                if np.abs(effect.per_prompt).max() > 1e-3:
                    sender = f"head {place[0]}.{place[1]}" if site == "z" else f"mlp {place[0]}"
                    found.add((sender, receiver, path))
    assert found == {tuple(edge) for edge in truth.edges if edge[0] != "embed"}, SEED


def test_gradients_do_not_see_hard_attention() -> None:
    """The limit that the cards name: a head that acts through keys has an effect, and no gradient."""
    model = iw.load("compiled-induction")
    clean, corrupted, metric = "a b e a", "d b e a", iw.logit("b")
    exact = iw.patch_sweep(model, clean, corrupted, metric, over="z", progress=False)
    first_order = iw.attribution_patch(model, clean, corrupted, metric, over="z")
    assert exact[0, 0].effect == pytest.approx(16)
    assert first_order[0, 0].effect == pytest.approx(0, abs=1e-6)


def test_scores_of_the_field_see_the_induction_circuit_as_it_is_named() -> None:
    model = iw.load("compiled-induction")
    rng = Random(SEED)
    said = [rng.sample(PROGRAMS["compiled-induction"]().vocabulary, 20) for _ in range(8)]
    ids = torch.tensor([model.tokenizer(text(words + words)).input_ids for words in said])
    scores = head_scores(model.module, ids)
    truth = labels(model)
    previous, induction = (at for at, head in sorted(truth.head.items()) if head)
    assert truth.head[previous] == "previous token"
    assert scores["previous_token"][previous] > 0.99
    assert scores["prefix_matching"][induction] > 0.99
    assert attention_patterns(model.module, ids)[:, 1, 0, 1:21, 0].min() == 1  # nothing found: all of it to <bos>


def test_the_depth_of_brackets_is_a_mean_that_can_be_read_and_steered() -> None:
    model = iw.load("compiled-parentheses")
    at = labels(model).direction["balance"]
    prompt = "( ( ) ( ("
    stream = iw.record(model, prompt, sites=["resid_mid"])["resid_mid", 0][0, :, at]
    torch.testing.assert_close(stream, torch.tensor([0, 1, 1, 1 / 3, 1 / 2, 3 / 5]))
    vector = torch.zeros(model.d_model)
    vector[at] = -2 / 5
    steered = iw.run(model, prompt, [iw.Steer("resid_mid", 0, vector=vector, pos=-1)], sites=["logits"])["logits"]
    assert model.tokenizer.decode(steered[0, -1].argmax()) == "1"  # of 3 open, 2 are taken away: 5 · 2/5
