"""Measure everything that the card of `toy-superposition` says, and put it into words.

Geometry is compared with closed forms; what a hidden state means is tried by changing it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.toys import ToySuperposition
from interpwidgets.models.train.card import blanks, measured_table, rounded
from interpwidgets.models.train.superposition import NAME, RATIOS, SMALL, SPARSITIES, Recipe, Superposition
from interpwidgets.models.train.system import System

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.toy_kinds import Autoencoder, Binding, Magnitude
    from interpwidgets.models.training.runs import Run

__all__ = ["MEASURES", "SYSTEM", "by_hand", "card_text", "measure"]

INPUTS = 4096
TETRAHEDRON = 109.4712  # arccos(-1/3), in degrees
BY = (("bag", 16), ("hadamard", 8), ("hadamard", 16), ("tensor", 8), ("tensor", 16), ("matrix", 8))
_BOUND = [f"{by}_{width}" for by, width in BY]


def _told(name: str) -> str:
    return name.replace("_", ", width ")


MEASURES = {
    "pentagon_angles": "5 features in 2 dimensions, sparsity .9, .95, .97: farthest that neighbours are from 72°",
    "pentagon_dimensionality": "the same: dimensionality of a feature, mean (a pentagon: 2/5)",
    "square_features": "the same at sparsity .5: features represented",
    "square_dimensionality": "the same at sparsity .5: their dimensionality, mean (two antipodal pairs: 1/2)",
    "octahedron_angles": "6 features in 3 dimensions, sparsity .7 to .97: farthest from 90° and 180°",
    "octahedron_dimensionality": "the same: dimensionality, mean (three antipodal pairs: 1/2)",
    "tetrahedron_angles": "4 on/off features in 3 dimensions, sparsity .9: farthest from 109.47°",
    "tetrahedron_dimensionality": "the same: dimensionality, mean (a tetrahedron: 3/4)",
    "tetrahedra": "the same, of the five sparsities from .7 to .97: with all angles within 6° of 109.47°",
    "triangle_angles": "3 on/off features in 2 dimensions, sparsity .9: farthest from 120°",
    "triangle_dimensionality": "the same: dimensionality, mean (a triangle: 2/3)",
    "pair_and_two": "4 features, 0 to 1, in 3 dimensions, sparsity .7 to .97: dimensionality farthest from 1, 1, ½, ½",
    "important_0": "5 features in 2 dimensions, each .9 as important as the one before, sparsity 0: represented",
    "important_7": "the same, sparsity .7",
    "important_95": "the same, sparsity .95",
    "important_order": "the same: share of sparsities at which those represented are the most important ones",
    "plateau_dense": "40 features in 10 dimensions, none sparse: dimensions per feature, 10/‖W‖²",
    "plateau_half": "the same, features on with probability .46 and .32: share with a dimensionality of .45 to .55",
    "plateau_sparse": "the same, on with probability .01: dimensions per feature, 10/‖W‖²",
    "phase": "2 features in 1 dimension: share of clear cases that represent what the best solution by hand does",
    "phase_loss": "the same: share of all with no more loss than the best by hand, on the same fresh inputs",
    "superposition_gain": "pentagon, sparsity .9: its loss over that of keeping two features, the others at their mean",
    "steered_own": "pentagon, sparsity .95: mean change of an output when its direction is added where it is off",
    "steered_other": "the same: mean absolute change of another output",
    "erased_own": "pentagon, sparsity .95, one feature on: share of its output lost, its direction projected out",
    "erased_other": "the same: share lost when another's direction is projected out",
    "levels_3_layer": "3 features in 1 dimension, read by a layer of ReLUs: inputs with the right output alone above ½",
    "levels_4_layer": "the same, 4 features",
    "levels_5_layer": "the same, 5 features",
    "levels_3_direct": "3 features in 1 dimension, each read by one ReLU: inputs with the right output alone above ½",
    "levels_4_direct": "the same, 4 features",
    "levels_5_direct": "the same, 5 features",
    "levels_moved": "4 features, a layer: hidden value scaled to be as far out as another level's: read as that other",
    "levels_line": "the same: a threshold on the hidden value tells an inner level from the rest (AUC; chance .5)",
    **{f"bound_{name}": f"{_told(name)}: questions answered right" for name in _BOUND},
    **{
        f"swapped_{name}": f"{_told(name)}: other object's filler answered, roles exchanged in memory"
        for name in _BOUND
    },
    "asked_hadamard_16": "hadamard, width 16: other object's filler answered, roles exchanged where they are read",
    "both_hadamard_16": "hadamard, width 16: questions answered right, roles exchanged in both places",
    "absent_hadamard_16": "hadamard, width 16: answered right, two roles exchanged in memory that the scene has not",
}
"""What `measure` gives, by name, and what each number is."""


def measure(toys: ToySuperposition, seed: int) -> dict[str, float]:
    """Measure what `load` gave, on inputs drawn from `seed`."""
    bound = {(by, width): toys.binding(by=by, width=width) for by, width in BY}
    found = {**_geometry(toys), **_phase(toys, seed), **_effects(toys, seed), **_levels(toys, seed)}
    for (by, width), toy in bound.items():
        found |= _binding(toy, seed, f"{by}_{width}")
    return {name: found[name] for name in MEASURES}


def _geometry(toys: ToySuperposition) -> dict[str, float]:
    def some(features: int, hidden: int, *sparsities: float, **more: Any) -> list[Autoencoder]:
        return [toys.select(features=features, hidden=hidden, sparsity=sparsity, **more) for sparsity in sparsities]

    pentagons, square = some(5, 2, 0.9, 0.95, 0.97), some(5, 2, 0.5)[0]
    octahedra = some(6, 3, 0.7, 0.8, 0.9, 0.95, 0.97)
    tetrahedra = some(4, 3, 0.7, 0.8, 0.9, 0.95, 0.97, values="binary")
    uniform = some(4, 3, 0.7, 0.8, 0.9, 0.95, 0.97)
    triangles = some(3, 2, 0.9, values="binary")
    graded = {sparsity: toys.select(features=5, hidden=2, sparsity=sparsity, importance=0.9) for sparsity in SPARSITIES}
    few = torch.tensor([0.5, 0.5, 1.0, 1.0])
    many = [each for each in toys.settings("autoencoder") if each["features"] == 40]
    by_sparsity = some(40, 10, *sorted(each["sparsity"] for each in many))
    half = torch.cat([toy.dimensionality()[toy.represented()] for toy in by_sparsity[2:4]])
    return {
        "pentagon_angles": max(_from_angles(toy, 72.0, 144.0) for toy in pentagons),
        "pentagon_dimensionality": _mean_dimensionality(pentagons),
        "square_features": float(square.represented().sum()),
        "square_dimensionality": _mean_dimensionality([square]),
        "octahedron_angles": max(_from_angles(toy, 90.0, 180.0) for toy in octahedra),
        "octahedron_dimensionality": _mean_dimensionality(octahedra),
        "tetrahedron_angles": _from_angles(tetrahedra[2], TETRAHEDRON),
        "tetrahedron_dimensionality": _mean_dimensionality(tetrahedra[2:3]),
        "tetrahedra": float(sum(_from_angles(toy, TETRAHEDRON) < 6 for toy in tetrahedra)),
        "triangle_angles": max(_from_angles(toy, 120.0) for toy in triangles),
        "triangle_dimensionality": _mean_dimensionality(triangles),
        "pair_and_two": max(float((toy.dimensionality().sort().values - few).abs().max()) for toy in uniform),
        "important_0": float(graded[0.0].represented().sum()),
        "important_7": float(graded[0.7].represented().sum()),
        "important_95": float(graded[0.95].represented().sum()),
        "important_order": sum(_in_order(toy) for toy in graded.values()) / len(graded),
        "plateau_dense": _dimensions_per_feature(by_sparsity[0]),
        "plateau_half": float(((half > 0.45) & (half < 0.55)).float().mean()),
        "plateau_sparse": _dimensions_per_feature(by_sparsity[-1]),
    }


def _from_angles(toy: Autoencoder, *angles: float) -> float:
    """Say how far, in degrees, any two directions are from the nearest of these angles."""
    found = toy.angles()[torch.ones(toy.features, toy.features).triu(1) > 0]
    return float((found[:, None] - torch.tensor(angles)).abs().amin(1).max())


def _mean_dimensionality(toys: list[Autoencoder]) -> float:
    return float(torch.cat([toy.dimensionality()[toy.represented()] for toy in toys]).mean())


def _dimensions_per_feature(toy: Autoencoder) -> float:
    return toy.hidden / float((toy.W**2).sum())


def _in_order(toy: Autoencoder) -> bool:
    count = int(toy.represented().sum())
    return bool(toy.represented()[:count].all())


def by_hand(sparsity: float, ratio: float) -> dict[str, float]:
    """Give the expected loss of three solutions of 2 features in 1 dimension, the second `ratio` as important.

    One kept and the other put at its mean; or both in opposite directions, W = (1, -1), b = 0, which fails by the
    smaller of the two where both are on.
    """
    on = 1 - sparsity
    variance = on / 3 - on**2 / 4
    return {"first": ratio * variance, "second": variance, "both": (1 + ratio) * on**2 / 6}


def _phase(toys: ToySuperposition, seed: int) -> dict[str, float]:
    agree, clear, no_worse, cells = 0, 0, 0, 0
    for sparsity in SPARSITIES:
        for ratio in RATIOS:
            toy = toys.select(features=2, hidden=1, sparsity=sparsity, importance=ratio)
            first, second = toy.represented().tolist()
            phase = "both" if first and second else "first" if first else "second"
            best, next_best, _ = sorted(by_hand(sparsity, ratio).items(), key=lambda item: item[1])
            x = toy.sample(INPUTS, seed)
            mean = (1 - sparsity) / 2
            kept = {"first": torch.tensor([1.0, 0.0]), "second": torch.tensor([0.0, 1.0])}.get(best[0])
            guess = torch.relu(x - x.flip(-1)) if kept is None else torch.where(kept > 0, x, mean)
            hand = float((toy.importances() * (guess - x) ** 2).sum(-1).mean())
            cells += 1
            no_worse += toy.loss(x) <= 1.02 * hand + 1e-5
            if next_best[1] > 1.5 * best[1]:
                clear += 1
                agree += phase == best[0]
    return {"phase": agree / clear, "phase_loss": no_worse / cells}


def _effects(toys: ToySuperposition, seed: int) -> dict[str, float]:
    """Try what directions do: write one, project one out."""
    toy = toys.select(features=5, hidden=2, sparsity=0.9)
    x = toy.sample(4 * INPUTS, seed)
    kept = x.clone()
    kept[:, 2:] = 0.05  # their mean
    alone = float(((kept - x) ** 2).sum(-1).mean())
    gain = toy.loss(x) / alone
    toy = toys.select(features=5, hidden=2, sparsity=0.95)
    hidden, plain = toy.encode(x := toy.sample(INPUTS, seed)), toy(x)
    own, other, erased_own, erased_other = [], [], [], []
    for i in range(toy.features):
        off, rest = x[:, i] == 0, torch.arange(toy.features) != i
        change = toy.decode(hidden + toy.W[:, i])[off] - plain[off]
        own.append(change[:, i].mean())
        other.append(change[:, rest].abs().mean())
        unit = toy.W[:, i] / toy.W[:, i].norm()
        one_on = toy.encode(torch.eye(toy.features))
        lost = 1 - toy.decode(one_on - (one_on @ unit)[:, None] * unit).diagonal() / toy.decode(one_on).diagonal()
        erased_own.append(lost[i])
        erased_other.append(lost[rest].mean())
    return {
        "superposition_gain": gain,
        "steered_own": _mean(own),
        "steered_other": _mean(other),
        "erased_own": _mean(erased_own),
        "erased_other": _mean(erased_other),
    }


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack(values).mean())


def _levels(toys: ToySuperposition, seed: int) -> dict[str, float]:
    found = {}
    for levels in (3, 4, 5):
        for readout in ("direct", "layer"):
            toy = toys.magnitude(levels=levels, readout=readout)
            x, noise = toy.sample(INPUTS, seed)
            found[f"levels_{levels}_{readout}"] = _read_right(toy, toy.encode(x) + noise, x)
    toy = toys.magnitude(levels=4)
    x, noise = toy.sample(INPUTS, seed)
    at, hidden = toy.hidden_of_level(), toy.encode(x)
    moved = []
    for step in range(1, toy.levels):  # every level to every other
        goal = x.roll(step, dims=1)
        moved.append(_read_right(toy, hidden * (goal @ at / hidden[:, 0])[:, None] + noise, goal))
    inner = at.argsort()[1:-1]
    found["levels_moved"] = sum(moved) / len(moved)
    found["levels_line"] = _mean([_auc((hidden + noise)[:, 0], x[:, level] > 0) for level in inner])
    return found


def _read_right(toy: Magnitude, hidden: Tensor, x: Tensor) -> float:
    return float(((toy.decode(hidden) > 0.5) == (x > 0.5)).all(-1).float().mean())


def _auc(values: Tensor, positive: Tensor) -> Tensor:
    """Give the area under the ROC of a threshold, whichever side of it counts."""
    rank = values.argsort().argsort().double() + 1
    count, rest = positive.sum(), (~positive).sum()
    area = (rank[positive].sum() - count * (count + 1) / 2) / (count * rest)
    return torch.maximum(area, 1 - area)


def _binding(toy: Binding, seed: int, name: str) -> dict[str, float]:
    scenes = toy.sample(INPUTS, seed)
    memory, other = toy.write(scenes.roles, scenes.fillers), scenes.fillers[:, 1]

    def share(memory: Tensor, query: Tensor, answer: Tensor) -> float:
        return float((toy.read(memory, query).argmax(-1) == answer).float().mean())

    # In the memory itself: take out what the objects bind, put in the same with the roles exchanged.
    exchanged = memory - toy.bind(scenes.roles, scenes.fillers).sum(-2)
    exchanged = exchanged + toy.bind(scenes.roles.flip(-1), scenes.fillers).sum(-2)
    present = torch.nn.functional.one_hot(scenes.roles, toy.roles).sum(1)  # [scene, role]
    absent = present.argsort(dim=-1)[:, :2]
    table = torch.arange(toy.roles).expand(len(memory), -1).scatter(1, absent, absent.flip(-1))
    written = toy.write(table.gather(1, scenes.roles), scenes.fillers)
    asked = scenes.roles[:, 1]
    return {
        f"bound_{name}": share(memory, scenes.query, scenes.answer),
        f"swapped_{name}": share(exchanged, scenes.query, other),
        f"asked_{name}": share(memory, asked, other),
        f"both_{name}": share(exchanged, asked, scenes.answer),
        f"absent_{name}": share(written, scenes.query, scenes.answer),
    }


def _load(folder: Path) -> ToySuperposition:
    toys: ToySuperposition = ToySuperposition.from_pretrained(folder, use_safetensors=True)
    return toys


def _more(folders: dict[str, Path], _runs: dict[str, Run], shipped: str) -> dict[str, Any]:
    """Give the dimensionalities of the shipped family, by sparsity, for the tables of the card."""
    toys = _load(folders[shipped])
    tables = []
    for features, hidden, values, importance in SMALL:
        rows = []
        for sparsity in SPARSITIES:
            toy = toys.select(features=features, hidden=hidden, sparsity=sparsity, importance=importance, values=values)
            shares = [rounded(float(share)) for share in toy.dimensionality()]
            rows.append({"sparsity": sparsity, "represented": int(toy.represented().sum()), "dimensionality": shares})
        tables.append(
            {"features": features, "hidden": hidden, "values": values, "importance": importance, "rows": rows}
        )
    levels = {str(n): [rounded(float(h)) for h in toys.magnitude(levels=n).hidden_of_level()] for n in (3, 4, 5)}
    return {"geometry": tables, "levels": levels, "toys": len(toys.settings())}


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    tables = {
        "geometry": ("pentagon", "square", "octahedron", "tetrahed", "triangle", "pair_"),
        "importance": ("important",),
        "plateaus": ("plateau", "phase"),
        "effects": ("superposition", "steered", "erased"),
        "level_table": ("levels",),
        "binding": ("bound", "swapped", "asked", "both", "absent"),
    }
    given = blanks(card) | {
        **{name: measured_table(card["measured"], *starts) for name, starts in tables.items()},
        "toys": card["toys"],
        "count": f"{card['measured']['tetrahedra']['value']:.0f}",
        "level_values": "; ".join(f"{n}: {', '.join(f'{h:.2f}' for h in at)}" for n, at in card["levels"].items()),
        "tables": "\n\n".join(_geometry_table(each) for each in card["geometry"]),
    }
    return (Path(__file__).parent / f"{NAME}.md").read_text("utf-8").format(**given)


def _geometry_table(table: dict[str, Any]) -> str:
    drawn = "from 0 to 1" if table["values"] == "uniform" else "on or off"
    importance = "" if table["importance"] == 1 else f", each {table['importance']:g} as important as the one before"
    lines = [
        f"{table['features']} features, {drawn}, in {table['hidden']} dimensions{importance}:",
        "",
        "| sparsity | represented | dimensionality of each |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['sparsity']:g} | {row['represented']} | {' '.join(f'{d:.2f}' for d in row['dimensionality'])} |"
        for row in table["rows"]
    ]
    return "\n".join(lines)


SYSTEM = System(
    name=NAME,
    recipe=Recipe,
    task=Superposition,
    measures=MEASURES,
    measure=measure,
    text=card_text,
    load=_load,
    more=_more,
)
