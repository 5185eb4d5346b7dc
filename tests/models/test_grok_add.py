"""The model that groks addition: its Fourier structure, its progress, and what its card says of them.

The model and every measure are done again in NumPy and float64: waves are written out as cosines and sines, and what a
frequency explains is a least-squares fit.
"""

from __future__ import annotations

import json
import math
import secrets
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import interpwidgets as iw
from interpwidgets.models.train.cards.grokking import FOLLOWS, MEASURES, card_text, chosen_steps, measure
from interpwidgets.models.train.fourier import (
    embedding_power,
    filtered,
    key_frequencies,
    logits_of,
    neuron_shares,
    neurons_of,
    one_frequency,
    power,
    readout_power,
    sum_waves,
    trig_share,
)
from interpwidgets.models.train.grokking import Grokking, Recipe, answers, new_model, number_tokenizer, pairs, prompts
from interpwidgets.models.training.loop import train

FOLDER = Path(iw.__file__).parent / "models" / "systems" / "grok-add"
CARD = json.loads((FOLDER / "card.json").read_text("utf-8"))
CHECKPOINTS = sorted(FOLDER.glob("checkpoints/step-*"))
P = 53
SEED = secrets.randbits(30)  # a failure prints it
DRAW = np.random.default_rng(SEED)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True).eval()


@pytest.fixture(scope="module")
def logits(model) -> np.ndarray:
    return by_hand(FOLDER)[0]


@pytest.fixture(scope="module")
def neurons() -> np.ndarray:
    return by_hand(FOLDER)[1]


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    loaded = iw.load("grok-add")
    draws = [measure(loaded, SEED + i) for i in range(3)]
    return {name: median(draw[name] for draw in draws) for name in draws[0]}


def by_hand(
    folder: Path, embedding=lambda table: table, neurons=lambda values: values
) -> tuple[np.ndarray, np.ndarray]:
    """The model again: logits of the numbers [a, b, number] and neurons [a, b, neuron] at "=", for all sums."""
    w = {
        name.removeprefix("transformer."): x.double().numpy()
        for name, x in load_file(folder / "model.safetensors").items()
    }
    config = json.loads((folder / "config.json").read_text("utf-8"))

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    numbers = embedding(w["wte.weight"][:P])
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(P), np.arange(P), indexing="ij"))
    signs = [np.broadcast_to(w["wte.weight"][P + i], (P * P, numbers.shape[1])) for i in (0, 1)]
    x = np.stack([numbers[a], signs[0], numbers[b], signs[1]], 1) + w["wpe.weight"][:4]  # [sum, position, width]
    q, k, v = np.split(norm(x, "h.0.ln_1") @ w["h.0.attn.c_attn.weight"] + w["h.0.attn.c_attn.bias"], 3, -1)
    mixed = []
    size = numbers.shape[1] // config["n_head"]
    for head in range(config["n_head"]):
        own = slice(size * head, size * head + size)
        scores = np.einsum("sd,skd->sk", q[:, -1, own], k[..., own]) / math.sqrt(size)
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        mixed.append(np.einsum("sk,skd->sd", pattern / pattern.sum(-1, keepdims=True), v[..., own]))
    end = x[:, -1] + np.concatenate(mixed, -1) @ w["h.0.attn.c_proj.weight"] + w["h.0.attn.c_proj.bias"]
    inner = np.maximum(0, norm(end, "h.0.ln_2") @ w["h.0.mlp.c_fc.weight"] + w["h.0.mlp.c_fc.bias"])
    inner = neurons(inner.reshape(P, P, -1))
    end = end + inner.reshape(P * P, -1) @ w["h.0.mlp.c_proj.weight"] + w["h.0.mlp.c_proj.bias"]
    return (norm(end, "ln_f") @ w["lm_head.weight"].T)[:, :P].reshape(P, P, P), inner


def waves(*frequencies: int) -> np.ndarray:
    """Orthonormal columns [number, column]: cosine and sine of each frequency; for 0, a constant."""
    n, columns = np.arange(P), []
    for k in frequencies:
        turn = 2 * np.pi * k * n / P
        columns += [np.ones(P) / math.sqrt(P)] if k == 0 else [f(turn) * math.sqrt(2 / P) for f in (np.cos, np.sin)]
    return np.stack(columns, 1)


def only(*frequencies: int) -> np.ndarray:
    """The projection [number, number] on these frequencies."""
    w = waves(*frequencies)
    return w @ w.T


def accuracy(logits: np.ndarray) -> float:
    n = np.arange(P)
    return float((logits.argmax(-1) == (n[:, None] + n) % P).mean())


def keys() -> list[int]:
    return CARD["frequencies"][str(CARD["recipe"]["seed"])]


def with_doubles() -> list[int]:
    return sorted({*keys(), *(min(2 * k % P, -2 * k % P) for k in keys())})


# --- the card against the weights


@pytest.mark.parametrize("name", MEASURES)
def test_a_fresh_measure_lies_in_the_cards_interval(measured, name: str) -> None:
    low, high = CARD["measured"][name]["interval"]
    assert low <= measured[name] <= high, (name, SEED)


@pytest.mark.parametrize("name", MEASURES)
def test_an_interval_holds_its_value_and_seeds_are_told(name: str) -> None:
    entry = CARD["measured"][name]
    low, high = entry["interval"]
    assert low <= entry["value"] <= high
    if "others" not in name:
        assert high - low < (0.041 if entry["value"] in (0, 1) else 0.01)  # nothing random is in it
    assert entry["seeds_range"][0] <= entry["seeds_mean"] <= entry["seeds_range"][1]
    assert len(entry["seeds"]) >= 3


def test_the_text_of_the_card_is_made_from_its_numbers() -> None:
    assert (FOLDER / "README.md").read_text("utf-8") == card_text(CARD)


def test_the_recipe_of_the_card_is_the_one_in_the_code() -> None:
    recipe = Recipe(seed=CARD["recipe"]["seed"])
    assert Grokking(recipe).about()["run"] == CARD["run"]
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert file.metadata()["run"] == CARD["run"]
        assert file.metadata()["step"] == str(recipe.steps)


def test_the_claims_in_words_hold_for_every_seed() -> None:
    chance = 1 / P
    for seed, moments in CARD["moments"].items():
        of = {name: entry["seeds"][seed] for name, entry in CARD["measured"].items()}
        assert of["train_accuracy"] == 1
        assert of["test_accuracy"] > 0.97
        assert of["without_keys_logits"] < 3 * chance
        assert of["without_keys_embedding"] < 5 * chance
        assert of["only_keys_logits"] > 0.99
        assert of["without_doubles_embedding"] < 3 * chance
        assert of["only_doubles_embedding"] > 0.98
        assert of["without_others_logits"] > 0.97
        assert of["restricted_loss"] < 0.05
        assert of["excluded_loss"] > math.log(P)
        assert of["keys_trig"] > 0.7
        assert of["neurons_following_key"] > 0.95
        assert of["without_mlp"] < 4 * chance
        assert of["only_one_frequency"] > 0.98
        assert moments["memorised"] < moments["generalised"] / 2
        assert moments["test_accuracy_when_memorised"] < 0.06
    assert max(CARD["float16"].values()) < 0.01


# --- the files


def test_plain_transformers_loads_it_as_float32(model) -> None:
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.dtype == torch.float32
    assert model.lm_head.weight is not model.transformer.wte.weight
    assert sum(weight.numel() for weight in model.parameters()) == CARD["parameters"]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3e6


def test_it_adds_what_is_written() -> None:
    loaded, tokenizer = iw.load("grok-add"), AutoTokenizer.from_pretrained(FOLDER)
    right = 0
    for a, b in DRAW.integers(P, size=(40, 2)):
        ids = tokenizer(f"{a} + {b} =", return_tensors="pt").input_ids
        assert ids.tolist() == prompts(torch.tensor([a]), torch.tensor([b]), P).tolist()
        with torch.no_grad():
            told = tokenizer.decode(loaded.module(ids).logits[0, -1].argmax())
        right += int(told) == (a + b) % P
    assert right >= 37, SEED
    assert tokenizer("17+5=").input_ids == [17, 53, 5, 54]
    assert tokenizer.unk_token_id in tokenizer("53 + x =").input_ids
    assert tokenizer.decode([17, 53, 5, 54]) == "17 + 5 ="


def test_it_records_like_any_transformer() -> None:
    recording = iw.record(iw.load("grok-add"), "17 + 5 =")
    assert "grok-add" in repr(recording)


def test_the_model_is_what_numpy_makes_of_the_file(model, logits, neurons) -> None:
    np.testing.assert_allclose(logits_of(model).numpy(), logits, atol=1e-3 * np.abs(logits).max())
    np.testing.assert_allclose(neurons_of(model).numpy(), neurons, atol=1e-3 * np.abs(neurons).max())
    assert accuracy(logits) > 0.98


def test_layer_norms_only_centre(model) -> None:
    for name, norm in model.named_modules():
        if name.endswith(("ln_1", "ln_2", "ln_f")):
            x = torch.tensor(DRAW.normal(size=(5, model.config.n_embd)) * 10, dtype=torch.float32)
            torch.testing.assert_close(norm(x), x - x.mean(-1, keepdim=True), atol=1e-2, rtol=1e-3)


# --- the split


def test_no_sum_is_tested_that_was_trained_on_the_other_way_round() -> None:
    for seed in (CARD["recipe"]["seed"], SEED):
        train_side, test_side = pairs(P, 0.75, seed)
        sides = [set(zip(side.a.tolist(), side.b.tolist(), strict=True)) for side in (train_side, test_side)]
        assert not sides[0] & sides[1]
        assert not {(b, a) for a, b in sides[0]} & sides[1]
        assert len(sides[0] | sides[1]) == P * P
        assert len(sides[0]) == len(train_side.a)
        for side in (train_side, test_side):
            assert ((side.a + side.b) % P == side.answer).all()


def test_the_config_tells_the_split(model) -> None:
    config, recipe = model.config, CARD["recipe"]
    assert (config.modulus, config.train_share, config.split_seed) == (P, recipe["train_share"], recipe["seed"])


# --- Fourier structure, by other means


def test_power_is_that_of_the_projections() -> None:
    table = DRAW.normal(size=(P, 7))
    wanted = [(only(k) @ table).ravel() @ (only(k) @ table).ravel() for k in range(P // 2 + 1)]
    np.testing.assert_allclose(power(torch.tensor(table)), wanted)
    assert sum(wanted) == pytest.approx((table**2).sum())
    np.testing.assert_allclose(filtered(torch.tensor(table), [0, 3, 26]), only(0, 3, 26) @ table, atol=1e-12)


def test_shares_of_the_weights_are_those_of_the_projections(model) -> None:
    state = {name: weight.double().numpy() for name, weight in model.state_dict().items()}
    out = state["lm_head.weight"][:P] @ state["transformer.h.0.mlp.c_proj.weight"].T
    for found, table in ((embedding_power(model), state["transformer.wte.weight"][:P]), (readout_power(model), out)):
        each = np.array([((only(k) @ table) ** 2).sum() for k in range(1, P // 2 + 1)])
        np.testing.assert_allclose(found, each / each.sum(), atol=1e-5)
    strongest = np.argsort(-each) + 1
    assert key_frequencies(model) == [int(k) for k in strongest if each[k - 1] > each.mean()] == keys()


def test_waves_of_the_sum_are_least_squares_fits() -> None:
    logits = DRAW.normal(size=(P, P, 3))
    a, b = np.indices((P, P))
    columns = waves(0, 2, 9)[(a + b) % P].reshape(P * P, -1)
    fit = columns @ np.linalg.lstsq(columns, logits.reshape(P * P, 3), rcond=None)[0]
    np.testing.assert_allclose(sum_waves(torch.tensor(logits), [0, 2, 9]), fit.reshape(P, P, 3), atol=1e-10)


def test_the_share_of_cosines_is_that_of_a_least_squares_fit(logits) -> None:
    centred = logits - logits.mean((0, 1))
    centred = centred - centred.mean(-1, keepdims=True)
    a, b, c = np.indices((P, P, P))
    columns = np.stack([np.cos(2 * np.pi * k * (a + b - c) / P).ravel() for k in keys()], 1)
    rest = np.linalg.lstsq(columns, centred.ravel(), rcond=None)[1]
    wanted = 1 - float(rest[0]) / (centred**2).sum()
    assert trig_share(torch.tensor(logits), keys()) == pytest.approx(wanted, abs=1e-6)
    assert wanted == pytest.approx(CARD["measured"]["keys_trig"]["value"], abs=0.003)


def test_neurons_follow_a_frequency_as_a_fit_says(neurons) -> None:
    best, shares = neuron_shares(torch.tensor(neurons))
    kept = one_frequency(torch.tensor(neurons), best).numpy()
    alive = np.flatnonzero(shares > 0)
    for neuron in DRAW.choice(alive, 3, replace=False):
        values, fits = neurons[..., neuron], {}
        for k in range(1, P // 2 + 1):
            of_one = waves(0, k)
            fits[k] = of_one @ of_one.T @ values @ of_one @ of_one.T
        left = {k: ((values - fit) ** 2).sum() for k, fit in fits.items()}
        k = min(left, key=left.get)
        assert int(best[neuron]) == k
        assert float(shares[neuron]) == pytest.approx(1 - left[k] / ((values - values.mean()) ** 2).sum(), abs=1e-6)
        np.testing.assert_allclose(kept[..., neuron], fits[k], atol=1e-8)
    share = (shares >= FOLLOWS).sum() / len(alive)
    assert float(share) == pytest.approx(CARD["measured"]["neurons_following"]["value"], abs=0.02)


# --- taken away, or kept alone: surgery in NumPy


def test_without_the_key_frequencies_of_the_embedding_it_guesses() -> None:
    for name, kept in (("keys", keys()), ("doubles", with_doubles())):
        alone = accuracy(by_hand(FOLDER, lambda table, k=kept: only(0, *k) @ table)[0])
        without = accuracy(by_hand(FOLDER, lambda table, k=kept: table - only(*k) @ table)[0])
        assert alone == pytest.approx(CARD["measured"][f"only_{name}_embedding"]["value"], abs=0.005)
        assert without == pytest.approx(CARD["measured"][f"without_{name}_embedding"]["value"], abs=0.005)
    assert alone > 0.98
    assert without < 3 / P


def test_without_the_key_frequencies_of_the_logits_it_guesses(logits) -> None:
    a, b = np.indices((P, P))
    columns = waves(*keys())[(a + b) % P].reshape(P * P, -1) / math.sqrt(P)
    of_keys = (columns @ (columns.T @ logits.reshape(P * P, P))).reshape(P, P, P)
    without, alone = logits - of_keys, of_keys + logits.mean((0, 1))
    assert accuracy(without) < 3 / P
    assert accuracy(alone) > 0.99
    assert accuracy(without) == pytest.approx(CARD["measured"]["without_keys_logits"]["value"], abs=0.005)
    assert cross_entropy(alone) == pytest.approx(CARD["measured"]["restricted_loss"]["value"], abs=0.005)


def cross_entropy(logits: np.ndarray) -> float:
    a, b = np.indices((P, P))
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    return float((log_sum - logits[a, b, (a + b) % P]).mean())


def test_without_its_neurons_it_guesses() -> None:
    flat, _ = by_hand(FOLDER, neurons=lambda values: np.broadcast_to(values.mean((0, 1)), values.shape))
    assert accuracy(flat) < 4 / P


# --- training, seen through the checkpoints


def test_there_are_enough_checkpoints_and_the_card_lists_them() -> None:
    steps = [int(folder.name[5:]) for folder in CHECKPOINTS]
    assert 10 <= len(steps) <= 16
    assert [*steps, CARD["recipe"]["steps"]] == [entry["step"] for entry in CARD["checkpoints"]]
    wait = [entry for entry in CARD["checkpoints"] if entry["train_accuracy"] >= 0.99 and entry["test_accuracy"] < 0.2]
    assert len(wait) >= 2
    assert sum(0.2 < entry["test_accuracy"] < 0.97 for entry in CARD["checkpoints"]) >= 4


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_a_checkpoint_is_what_the_card_says(folder: Path) -> None:
    entry = next(entry for entry in CARD["checkpoints"] if entry["step"] == int(folder.name[5:]))
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "run": CARD["run"], "step": str(entry["step"])}
    assert (folder / "config.json").read_bytes() == (FOLDER / "config.json").read_bytes()
    logits, _ = by_hand(folder)
    n = np.arange(P)
    right = logits.argmax(-1) == (n[:, None] + n) % P
    for name, side in zip(
        ("train", "test"), pairs(P, CARD["recipe"]["train_share"], CARD["recipe"]["seed"]), strict=True
    ):
        assert right[side.a, side.b].mean() == pytest.approx(entry[f"{name}_accuracy"], abs=0.004)
    of_keys = sum_waves(torch.tensor(logits), keys()).numpy()
    assert cross_entropy(of_keys + logits.mean((0, 1))) == pytest.approx(entry["restricted_loss"], rel=0.02, abs=0.01)


def test_the_circuit_grows_before_it_is_seen() -> None:
    """Between memorising and generalising, the restricted loss falls and the excluded loss rises, in every seed."""
    for seed, lines in CARD["progress"].items():
        known = next(line for line in lines if line["train_accuracy"] >= 0.99)
        rising = next(line for line in lines if line["test_accuracy"] >= 0.5)
        assert known["step"] < rising["step"], seed
        assert rising["restricted_loss"] < known["restricted_loss"], seed
        assert rising["excluded_loss"] > known["excluded_loss"], seed


def test_the_first_checkpoint_is_the_untrained_model_of_the_recipe() -> None:
    wanted = new_model(Recipe(seed=CARD["recipe"]["seed"])).state_dict()
    for name, weight in load_file(CHECKPOINTS[0] / "model.safetensors").items():
        torch.testing.assert_close(weight.float(), wanted[name], atol=1e-3, rtol=1e-3)


# --- the recipe


def small(**changed) -> Recipe:
    return Recipe(**{"seed": 7, "steps": 4, "checkpoint_every": 2, "modulus": 11, "width": 16, "neurons": 8, **changed})


def test_the_short_way_to_the_answers_is_the_models_own() -> None:
    task = Grokking(small())
    side = task.unseen
    with torch.no_grad():
        wanted = task.model(prompts(side.a, side.b, 11)).logits[:, -1]
        torch.testing.assert_close(answers(task.model, side.a, side.b), wanted, atol=1e-5, rtol=1e-5)
    task.model.train()
    own = torch.nn.functional.cross_entropy(
        task.model(prompts(task.sums.a, task.sums.b, 11)).logits[:, -1], task.sums.answer
    )
    grads = []
    for loss in (own.double(), task.loss(0)):
        task.model.zero_grad()
        loss.backward()
        grads.append(task.model.transformer.h[0].attn.c_attn.weight.grad.clone())
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-3)


def test_a_run_is_the_same_again_and_after_a_stop(tmp_path) -> None:
    once = train(Grokking(small()), tmp_path / "once", progress=False)
    train(Grokking(small()), tmp_path / "cut", until=2, progress=False)
    cut = train(Grokking(small()), tmp_path / "cut", progress=False)
    for step in (0, 2, 4):
        first, second = (load_file(folder / f"step-0000{step}" / "model.safetensors") for folder in (once, cut))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert "lm_head.weight" in first
    norms = [name for name in first if ".ln_" in name]
    assert norms
    for name in norms:  # frozen, and exact in float16
        assert set(first[name].flatten().tolist()) == ({1000.0} if name.endswith("weight") else {0.0})
    other = train(Grokking(small(seed=8)), tmp_path / "other", progress=False)
    assert other.name != once.name


def test_the_tokenizer_knows_numbers_and_two_signs() -> None:
    tokenizer = number_tokenizer(11)
    assert tokenizer("10 + 3 =").input_ids == [10, 11, 3, 12]
    assert tokenizer("11 + 3 =").input_ids == [13, 11, 3, 12]


def test_checkpoints_are_chosen_where_it_happens() -> None:
    def line(step: int) -> dict[str, float]:
        return {
            "step": step,
            "train_accuracy": min(1, step / 400),
            "test_accuracy": 1 / (1 + math.exp((1500 - step) / 100)),
        }

    log = [line(step) for step in range(0, 3001, 50)]
    steps = chosen_steps(log)
    assert steps == sorted(set(steps))
    assert steps[:2] == [0, 50]
    assert 3000 not in steps
    assert sum(0.05 < line(step)["test_accuracy"] < 0.95 for step in steps) >= 6
    assert any(400 <= step < 1000 for step in steps)
