"""The toy models of superposition: what they compute, what figures they hold, and what their card says.

Every computation is done again in NumPy and float64, from the file alone; figures are compared with closed forms; and
intervals of the card with inputs drawn anew in every session.
"""

from __future__ import annotations

import json
import math
import secrets
from itertools import combinations, product
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.models.toy_kinds import Autoencoder, Binding
from interpwidgets.models.toys import ToySuperposition
from interpwidgets.models.train.cards.superposition import MEASURES, by_hand, card_text, measure
from interpwidgets.models.train.superposition import RATIOS, SPARSITIES, Recipe, Superposition
from interpwidgets.models.training.loop import train

FOLDER = Path(iw.__file__).parent / "models" / "systems" / "toy-superposition"
CARD = json.loads((FOLDER / "card.json").read_text("utf-8"))
CONFIG = json.loads((FOLDER / "config.json").read_text("utf-8"))
SEED = secrets.randbits(30)  # a failure prints it


@pytest.fixture(scope="module")
def toys() -> ToySuperposition:
    return iw.load("toy-superposition")


@pytest.fixture(scope="module")
def measured(toys) -> dict[str, float]:
    """The middle one of three: among forty measures, a single draw leaves some interval now and then."""
    draws = [measure(toys, SEED + i) for i in range(3)]
    return {name: median(draw[name] for draw in draws) for name in draws[0]}


def stored(kind: str, **setting) -> dict[str, np.ndarray]:
    """The weights of one toy, straight from the file."""
    file = load_file(FOLDER / "model.safetensors")
    for number, family in enumerate(CONFIG["families"]):
        for place, own in enumerate(family["settings"]):
            told = {**family, **own}
            if family["kind"] == kind and all(told[key] == value for key, value in setting.items()):
                start = f"families.{number}."
                return {n[len(start) :]: w[place].double().numpy() for n, w in file.items() if n.startswith(start)}
    raise AssertionError((kind, setting))


def close(actual, wanted, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(wanted), atol=atol, rtol=1e-4, err_msg=f"seed {SEED}")


# --- the card against the weights


@pytest.mark.parametrize("name", MEASURES)
def test_a_fresh_measure_lies_in_the_cards_interval(measured, name: str) -> None:
    low, high = CARD["measured"][name]["interval"]
    assert low <= measured[name] <= high, (name, SEED)


@pytest.mark.parametrize("name", MEASURES)
def test_an_interval_holds_its_value_and_says_something(name: str) -> None:
    entry = CARD["measured"][name]
    low, high = entry["interval"]
    assert low <= entry["value"] <= high
    assert high - low < (0.3 if name in ("superposition_gain", "phase_loss") else 0.15)
    assert entry["seeds_range"][0] <= entry["seeds_mean"] <= entry["seeds_range"][1]
    assert len(entry["seeds"]) >= 3


def test_the_text_of_the_card_is_made_from_its_numbers() -> None:
    assert (FOLDER / "README.md").read_text("utf-8") == card_text(CARD)


def test_the_recipe_of_the_card_is_the_one_in_the_code() -> None:
    recipe = Recipe(seed=CARD["recipe"]["seed"])
    assert Superposition(recipe).about()["run"] == CARD["run"]
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert file.metadata()["run"] == CARD["run"]
        assert file.metadata()["step"] == str(recipe.steps)


def test_the_claims_in_words_hold_for_every_seed() -> None:
    for seed in CARD["cpu_seconds"]:
        of = {name: entry["seeds"][seed] for name, entry in CARD["measured"].items()}
        assert of["pentagon_angles"] < 3
        assert of["pentagon_dimensionality"] == pytest.approx(2 / 5, abs=0.01)
        assert of["square_features"] == 4
        assert of["octahedron_angles"] < 3
        assert of["octahedron_dimensionality"] == pytest.approx(1 / 2, abs=0.01)
        assert of["tetrahedron_angles"] < 6
        assert of["tetrahedra"] >= 3
        assert of["tetrahedron_dimensionality"] == pytest.approx(3 / 4, abs=0.02)
        assert of["triangle_dimensionality"] == pytest.approx(2 / 3, abs=0.03)
        assert of["pair_and_two"] < 0.05
        assert of["important_0"] == 2
        assert of["important_95"] == 5
        assert of["plateau_half"] > 0.9
        assert of["phase"] > 0.9
        assert of["superposition_gain"] < 0.5
        assert of["erased_own"] > 0.9
        assert of["erased_other"] > 0.3
        for levels in (3, 4, 5):
            assert of[f"levels_{levels}_layer"] > 0.95
            assert of[f"levels_{levels}_direct"] < 2 / levels + 0.02
        assert of["levels_moved"] > 0.95
        assert of["levels_line"] < 0.8
        assert of["bound_bag_16"] == pytest.approx(0.5, abs=0.03)
        for by in ("hadamard_16", "tensor_16", "matrix_8"):
            assert of[f"bound_{by}"] > 0.98
            assert of[f"swapped_{by}"] > 0.98
        assert min(of["asked_hadamard_16"], of["both_hadamard_16"], of["absent_hadamard_16"]) > 0.98


# --- the files and how they are asked for


def test_it_loads_offline_as_a_family_of_toys(toys) -> None:
    assert isinstance(toys, ToySuperposition)
    assert sum(weight.numel() for weight in toys.parameters()) == CARD["parameters"]
    assert len(toys.settings()) == CARD["toys"]
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", "card.json", "config.json", "model.safetensors"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 0.2e6


def test_every_toy_of_the_list_can_be_selected(toys) -> None:
    for setting in toys.settings():
        kind = setting.pop("kind")
        if kind == "autoencoder":
            assert toys.select(**setting).setting == setting
        elif kind == "magnitude":
            assert toys.magnitude(levels=setting["levels"], readout=setting["readout"]).setting == setting
        else:
            assert toys.binding(by=setting["by"], width=setting["width"]).setting == setting


def test_a_toy_that_is_not_there_is_refused_with_what_there_is(toys) -> None:
    with pytest.raises(InputError, match=r"no autoencoder toy with features=5.*sparsity=0\.91") as told:
        toys.W(features=5, hidden=2, sparsity=0.91)
    assert "sparsity 0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97" in str(told.value)
    with pytest.raises(InputError, match="hadamard"):
        toys.binding(by="circular", width=16)
    with pytest.raises(AttributeError, match=r"no 'colour'.*W, b"):
        toys.select(features=5, hidden=2, sparsity=0.9).colour  # noqa: B018


def test_a_sparsity_may_come_out_of_a_sum(toys) -> None:
    assert torch.equal(toys.W(features=5, hidden=2, sparsity=1 - 0.1), toys.W(features=5, hidden=2, sparsity=0.9))
    assert toys.W(features=5, hidden=2, sparsity=0.9).shape == (2, 5)


# --- what they compute, by other means


@pytest.mark.parametrize(
    "setting", [(5, 2, 0.9, 1.0, "uniform"), (4, 3, 0.8, 1.0, "binary"), (2, 1, 0.5, 10.0, "uniform")]
)
def test_an_autoencoder_is_its_formula(toys, setting) -> None:
    features, hidden, sparsity, importance, values = setting
    told = {"features": features, "hidden": hidden, "sparsity": sparsity, "importance": importance, "values": values}
    toy, w = toys.select(**told), stored("autoencoder", **told)
    x = toy.sample(50, SEED)
    by_loop = np.array([
        [max(0.0, sum(w["W"][:, i] @ w["W"][:, j] * float(row[j]) for j in range(features)) + w["b"][i])
         for i in range(features)] for row in x
    ])  # fmt: skip
    close(toy(x), by_loop)
    close(toys(x, **told), by_loop)
    weighed = sum(importance**i * (by_loop[:, i] - x[:, i].double().numpy()) ** 2 for i in range(features))
    assert toy.loss(x) == pytest.approx(weighed.mean(), rel=1e-4)


def test_inputs_are_as_sparse_and_as_large_as_said(toys) -> None:
    toy = toys.select(features=40, hidden=10, sparsity=0.9)
    x = toy.sample(20_000, SEED)
    assert (x == 0).float().mean().item() == pytest.approx(0.9, abs=0.002)
    assert x[x > 0].mean().item() == pytest.approx(0.5, abs=0.01)
    binary = toys.select(features=4, hidden=3, sparsity=0.5, values="binary").sample(100, SEED)
    assert set(binary.flatten().tolist()) == {0.0, 1.0}


def test_dimensionality_is_its_formula_whatever_the_norms() -> None:
    rng = np.random.default_rng(SEED)
    weights = rng.normal(size=(3, 7)) * rng.uniform(0.1, 3, size=7)
    weights[:, 4] = 0
    toy = Autoencoder({"W": torch.tensor(weights), "b": torch.zeros(7)}, {"features": 7, "hidden": 3})
    for i in range(7):
        w = weights[:, i]
        unit = w / max(np.linalg.norm(w), 1e-12)
        wanted = w @ w / max(sum((unit @ weights[:, j]) ** 2 for j in range(7)), 1e-12)
        close(toy.dimensionality()[i], wanted)
    for i, j in combinations([0, 1, 2, 3, 5, 6], 2):
        a, b = weights[:, i], weights[:, j]
        close(toy.angles()[i, j], math.degrees(math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))), 1e-3)


@pytest.mark.parametrize("readout", ["direct", "layer"])
def test_a_magnitude_toy_is_its_formula(toys, readout: str) -> None:
    toy, w = toys.magnitude(levels=4, readout=readout), stored("magnitude", levels=4, readout=readout)
    hidden = torch.linspace(-3, 3, 41)[:, None]
    for value, output in zip(hidden[:, 0].tolist(), toy.decode(hidden), strict=True):
        read = np.array([value])
        if readout == "layer":
            read = np.maximum(0, w["U"][:, 0] * value + w["c"])
        close(output, np.maximum(0, w["V"] @ read + w["b"]), 1e-4)
    close(toy.encode(torch.eye(4))[:, 0], w["W"][0])


@pytest.mark.parametrize(("by", "width"), [("bag", 16), ("hadamard", 16), ("tensor", 8), ("matrix", 8)])
def test_a_binding_toy_is_its_formula(toys, by: str, width: int) -> None:
    toy, w = toys.binding(by=by, width=width), stored("binding", by=by, width=width)
    scenes = toy.sample(20, SEED)
    for number, logits in enumerate(toy(scenes)):
        memory = np.zeros(width)
        for role, filler in zip(scenes.roles[number].tolist(), scenes.fillers[number].tolist(), strict=True):
            a, c = w["A"][role], w["C"][filler]
            memory += {
                "bag": lambda a, c: a + c,
                "hadamard": lambda a, c: a * c,
                "tensor": lambda a, c: np.outer(a, c).ravel(),
                "matrix": lambda a, c: a @ c,
            }[by](a, c)
        b = w["B"][int(scenes.query[number])]
        found = {
            "bag": lambda b, m: np.maximum(0, w["U"] @ np.concatenate([m, b]) + w["c"]),
            "hadamard": lambda b, m: b * m,
            "tensor": lambda b, m: b @ m.reshape(len(b), -1),
            "matrix": lambda b, m: b @ m,
        }[by](b, memory)
        close(logits, w["D"] @ found, 1e-3)


def test_scenes_differ_in_role_and_filler(toys) -> None:
    toy = toys.binding(by="hadamard", width=16)
    scenes = toy.sample(2000, SEED)
    assert (scenes.roles[:, 0] != scenes.roles[:, 1]).all()
    assert (scenes.fillers[:, 0] != scenes.fillers[:, 1]).all()
    assert torch.equal(scenes.query, scenes.roles[:, 0])
    assert torch.equal(scenes.answer, scenes.fillers[:, 0])
    assert len({*map(tuple, scenes.roles.tolist())}) == 8 * 7


# --- figures


def gram(**setting) -> np.ndarray:
    w = stored("autoencoder", **setting)["W"]
    unit = w / np.linalg.norm(w, axis=0)
    return unit.T @ unit


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.97])
def test_a_pentagon_is_a_pentagon(sparsity: float) -> None:
    w = stored("autoencoder", features=5, hidden=2, importance=1.0, sparsity=sparsity, values="uniform")["W"]
    round_ = np.sort(np.degrees(np.arctan2(w[1], w[0])) % 360)
    gaps = np.diff([*round_, round_[0] + 360])
    np.testing.assert_allclose(gaps, 72, atol=3)
    assert np.ptp(np.linalg.norm(w, axis=0)) < 0.05


def test_six_features_are_an_octahedron() -> None:
    found = np.sort(gram(features=6, hidden=3, sparsity=0.9)[np.triu_indices(6, 1)])
    np.testing.assert_allclose(found, [-1] * 3 + [0] * 12, atol=0.03)


@pytest.mark.parametrize(("features", "hidden"), [(4, 3), (3, 2)])
def test_features_on_or_off_are_a_simplex_and_others_are_not(features: int, hidden: int) -> None:
    above = np.triu_indices(features, 1)
    simplex = gram(features=features, hidden=hidden, sparsity=0.9, values="binary")[above]
    np.testing.assert_allclose(simplex, -1 / hidden, atol=0.1)
    pair = np.sort(gram(features=features, hidden=hidden, sparsity=0.9, values="uniform")[above])
    np.testing.assert_allclose(pair, [-1] + [0] * (len(pair) - 1), atol=0.05)


def test_why_a_simplex_needs_features_that_are_on_or_off() -> None:
    """Where two of four features are on: the loss of a tetrahedron, and of a pair beside two of their own."""
    corner = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).T / np.sqrt(3)
    pair = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, 1]]).T.astype(float)
    grid = (np.arange(40) + 0.5) / 40
    losses = {}
    for values, sizes in (("uniform", list(product(grid, grid))), ("binary", [(1.0, 1.0)])):
        for name, w in (("tetrahedron", corner), ("pair", pair)):
            total = 0.0
            for i, j in combinations(range(4), 2):
                for first, second in sizes:
                    x = np.zeros(4)
                    x[i], x[j] = first, second
                    total += ((np.maximum(0, w.T @ w @ x) - x) ** 2).sum() / len(sizes)
            losses[values, name] = total
    assert losses["uniform", "pair"] < losses["uniform", "tetrahedron"]
    assert losses["binary", "tetrahedron"] < losses["binary", "pair"]


def test_where_the_tetrahedron_is_missed_one_made_by_hand_is_better(toys) -> None:
    corner = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).T / 3**0.5
    missed = 0
    for sparsity in (0.7, 0.8, 0.9, 0.95, 0.97):
        toy = toys.select(features=4, hidden=3, sparsity=sparsity, values="binary")
        off = (toy.angles()[torch.ones(4, 4).triu(1) > 0] - 109.4712).abs().max()
        if off >= 6:
            missed += 1
            x = toy.sample(100_000, SEED)
            tries = product((0.95, 1.0, 1.04, 1.06), (0.0, 0.02, 0.035, 0.05, 0.1, 0.14))
            hand = [Autoencoder({"W": size * corner, "b": torch.full((4,), b)}, toy.setting) for size, b in tries]
            assert min(each.loss(x) for each in hand) < toy.loss(x), (sparsity, SEED)
    assert missed == 5 - CARD["measured"]["tetrahedra"]["value"]


def test_solutions_by_hand_have_the_loss_that_is_said() -> None:
    """Integrated on a grid: neither, one or both of the features are on, each anywhere from 0 to 1."""
    line = (np.arange(200) + 0.5) / 200
    first, second = (grid.ravel() for grid in np.meshgrid(line, line, indexing="ij"))
    off = np.zeros_like(first)
    for sparsity, ratio in product((0.0, 0.5, 0.9), (0.2, 1.0, 5.0)):
        on, mean, found = 1 - sparsity, (1 - sparsity) / 2, dict.fromkeys(("first", "second", "both"), 0.0)
        for a, a_on in ((first, on), (off, sparsity)):
            for b, b_on in ((second, on), (off, sparsity)):
                guesses = {
                    "first": (a, mean),
                    "second": (mean, b),
                    "both": (np.maximum(0, a - b), np.maximum(0, b - a)),
                }
                for name, (one, other) in guesses.items():
                    found[name] += a_on * b_on * ((one - a) ** 2 + ratio * (other - b) ** 2).mean()
        assert by_hand(sparsity, ratio) == pytest.approx(found, rel=1e-3)


def test_the_phases_are_all_there(toys) -> None:
    """First only, second only and both, as importance and sparsity have it."""
    found = {
        (sparsity, ratio): tuple(
            toys.select(features=2, hidden=1, sparsity=sparsity, importance=ratio).represented().tolist()
        )
        for sparsity in SPARSITIES
        for ratio in RATIOS
    }
    assert found[0.3, 0.1] == (True, False)
    assert found[0.3, 10.0] == (False, True)
    assert found[0.95, 1.0] == (True, True)
    both = {ratio: sum(found[sparsity, ratio] == (True, True) for sparsity in SPARSITIES) for ratio in RATIOS}
    assert both[1.0] >= both[0.1]
    assert both[1.0] >= both[10.0]


# --- what changing a hidden state does


def test_no_direct_reader_reads_more_than_the_outermost_levels(toys) -> None:
    """A ReLU of a line is monotone: an inner level above its threshold has all levels on one side above it too."""
    for levels in (3, 4, 5):
        toy = toys.magnitude(levels=levels, readout="direct")
        order = toy.hidden_of_level().argsort().tolist()
        alone = toy(torch.eye(levels)) > 0.5
        for level in order[1:-1]:
            assert not torch.equal(alone[level], torch.eye(levels)[level] > 0.5)


def test_magnitude_alone_decides_what_is_read(toys) -> None:
    toy = toys.magnitude(levels=4)
    at = toy.hidden_of_level()
    for start, goal in product(range(4), range(4)):
        read = toy.decode((at[start] * (at[goal] / at[start]))[None, None])[0]
        assert read.argmax() == goal
        assert (read > 0.5).sum() == 1


def test_a_bag_of_vectors_is_the_same_for_both_scenes(toys) -> None:
    toy = toys.binding(by="bag", width=16)
    scenes = toy.sample(500, SEED)
    torch.testing.assert_close(
        toy.write(scenes.roles, scenes.fillers), toy.write(scenes.roles, scenes.fillers.flip(-1)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("by", "width"), [("hadamard", 16), ("tensor", 16), ("matrix", 8)])
def test_exchanging_the_vectors_of_two_roles_exchanges_the_answers(toys, by: str, width: int) -> None:
    """Surgery on the weights: two rows of the writing table change places."""
    toy = toys.binding(by=by, width=width)
    scenes = toy.sample(500, SEED)
    first, second = (int(role) for role in scenes.roles[0])
    order = torch.arange(toy.roles)
    order[[first, second]] = order[[second, first]]
    cut = Binding({**toy.weights, "A": toy.A[order]}, toy.setting)
    having = ((scenes.roles == first) | (scenes.roles == second)).all(-1)
    free = ((scenes.roles != first) & (scenes.roles != second)).all(-1)
    answered = cut(scenes).argmax(-1)
    assert having.sum() > 0
    assert (answered[having] == scenes.fillers[having, 1]).float().mean() > 0.95
    assert (answered[free] == scenes.answer[free]).float().mean() > 0.95


# --- the recipe


def small(**changed) -> Recipe:
    return Recipe(**{
        "seed": 3, "steps": 4, "batch": 8, "restarts": 3, "restarts_of_large": 2, "restarts_of_magnitude": 2,
        "judged_on": 64, **changed,
    })  # fmt: skip


def test_the_best_restart_is_the_one_of_least_loss() -> None:
    task = Superposition(small())
    best, kept = task.best(), task.weights()
    family, weights = task.model.config.families[0], task.model.families[0]
    x = torch.stack([
        Autoencoder({}, {**family, **setting}).sample(20_000, SEED) for setting in family["settings"]
    ])  # fmt: skip
    losses = ((Autoencoder(dict(weights.items()), family)(x) - x) ** 2).sum(-1).mean(-1)  # [restart, setting]
    for setting, restart in enumerate(best[0].tolist()):
        assert torch.equal(kept["families.0.W"][setting], weights["W"][restart, setting])
        assert losses[restart, setting] <= losses[:, setting].min() * 1.3  # best on few inputs is near best on many


def test_a_run_is_the_same_again_and_after_a_stop(tmp_path) -> None:
    once = train(Superposition(small()), tmp_path / "once", progress=False)
    train(Superposition(small()), tmp_path / "cut", until=2, progress=False)
    cut = train(Superposition(small()), tmp_path / "cut", progress=False)
    assert once.name == cut.name
    first, second = (load_file(folder / "step-00004" / "model.safetensors") for folder in (once, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train(Superposition(small(seed=4)), tmp_path / "other", progress=False)
    assert not torch.equal(load_file(other / "step-00004" / "model.safetensors")["families.0.W"], first["families.0.W"])


def test_what_a_run_writes_loads_as_toys(tmp_path) -> None:
    folder = train(Superposition(small(steps=1)), tmp_path, progress=False)
    found = ToySuperposition.from_pretrained(folder / "step-00001")
    assert len(found.settings()) == CARD["toys"]
