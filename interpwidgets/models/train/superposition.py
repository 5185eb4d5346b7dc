"""Train `toy-superposition`: every setting and several restarts of each at once, the best restart kept by its loss.

Which restart is shipped is decided by the loss on inputs common to all of them, and by nothing else: a geometry that
was chosen for its looks would show what was looked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from interpwidgets.models.toy_kinds import KINDS, Autoencoder, Binding, Magnitude, Scenes
from interpwidgets.models.toys import ToySuperpositionConfig
from interpwidgets.models.training.loop import Task
from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NAME", "Recipe", "Superposition", "families"]

NAME = "toy-superposition"

SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97)
# Features × hidden dimensions, how values are drawn, importance of a feature by that of the one before.
SMALL = (
    (5, 2, "uniform", 1.0),
    (5, 2, "uniform", 0.9),
    (3, 2, "uniform", 1.0),
    (3, 2, "binary", 1.0),
    (4, 3, "uniform", 1.0),
    (4, 3, "binary", 1.0),
    (6, 3, "uniform", 1.0),
)
# As sparse as 1/(1-S) = 1 … 100, evenly on a log scale, and importances of the second of two features.
MANY = tuple(round(1 - 10 ** (-step / 6), 4) for step in range(13))
RATIOS = tuple(round(10 ** (step / 3 - 1), 4) for step in range(7))


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on."""

    seed: int = 0
    steps: int = 3000
    rate: float = 0.01
    batch: int = 256
    restarts: int = 8
    restarts_of_large: int = 4  # where there are many settings or a memory of pairs
    restarts_of_magnitude: int = 24  # small, and hard: which level comes next to which is settled by the start
    restarts_of_many: int = 2  # of 40 features in 10 dimensions, which cost most and differ least
    noise: float = 0.05  # added to the hidden value of a magnitude toy, so that levels must keep apart
    spread: float = 0.01  # what a magnitude toy pays for the square of a hidden value, so that they cannot run away
    judged_on: int = 16_384  # inputs by which restarts are compared


def families(recipe: Recipe) -> list[dict[str, Any]]:
    """List the families of the config, in order."""
    small = [
        {
            "kind": "autoencoder",
            "features": features,
            "hidden": hidden,
            "values": values,
            "settings": [{"sparsity": sparsity, "importance": importance} for sparsity in SPARSITIES],
        }
        for features, hidden, values, importance in SMALL
    ]
    shared: dict[str, Any] = {"kind": "autoencoder", "values": "uniform"}
    many = {**shared, "features": 40, "hidden": 10, "settings": [{"sparsity": s, "importance": 1.0} for s in MANY]}
    phases = [{"sparsity": sparsity, "importance": ratio} for sparsity in SPARSITIES for ratio in RATIOS]
    phase = {**shared, "features": 2, "hidden": 1, "settings": phases}
    magnitude: list[dict[str, Any]] = [
        {
            "kind": "magnitude",
            "levels": levels,
            "readout": readout,
            "neurons": 16,
            "noise": recipe.noise,
            "settings": [{}],
        }
        for levels in (3, 4, 5)
        for readout in ("direct", "layer")
    ]
    binding: list[dict[str, Any]] = [
        {"kind": "binding", "by": by, "width": width, "roles": 8, "fillers": 8, "objects": 2, "settings": [{}]}
        | ({"neurons": 64} if by == "bag" else {})
        for by in ("bag", "hadamard", "matrix", "tensor")
        for width in ((8,) if by == "matrix" else (8, 16))
    ]
    return [*small, many, phase, *magnitude, *binding]


class Restarts(nn.Module):
    """Weights of every family, [restart, setting, …]."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.config = ToySuperpositionConfig(
            families=families(recipe), architectures=["ToySuperposition"], dtype="float32"
        )
        self.families = nn.ModuleList()
        draw = torch.Generator().manual_seed(recipe.seed)
        for family in self.config.families or []:
            restarts = recipe.restarts
            if family["kind"] == "binding" or len(family["settings"]) > 20:
                restarts = recipe.restarts_of_large
            elif family["kind"] == "magnitude":
                restarts = recipe.restarts_of_magnitude
            elif family.get("features", 0) > 20:
                restarts = recipe.restarts_of_many
            lead = (restarts, len(family["settings"]))
            shapes = KINDS[family["kind"]].shapes(family)
            drawn = {name: _start(family["kind"], name, (*lead, *shape), draw) for name, shape in shapes.items()}
            self.families.append(nn.ParameterDict({name: nn.Parameter(value) for name, value in drawn.items()}))


def _start(kind: str, name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """Draw weights for the start: about as long as they will be, biases zero."""
    if name == "b" or (name == "c" and kind == "binding"):
        return torch.full(shape, 0.5 if kind == "magnitude" else 0.0)  # an output that starts dead may stay so
    value = torch.randn(shape, generator=draw)
    if kind == "magnitude" and name in ("W", "U", "c"):
        return value  # kinks all over the line
    if kind == "binding" and name in ("A", "B") and len(shape) == 4:
        return value  # one factor of a product
    scale: float = shape[-1] ** 0.5
    return value / scale


class _Optimiser(Optimiser):
    """Adam that keeps all restarts in its state: the run's weights are but the best of them."""

    def __init__(self, model: nn.Module, steps: int, rate: float) -> None:
        super().__init__(model, steps, rate=rate, betas=(0.9, 0.999))
        self.model = model

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"all.{name}": weight for name, weight in self.model.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("all.")})
        super().load(state)


class Superposition(Task):
    """Reconstruction, or an answer, in every setting at once."""

    system = NAME
    dtype = torch.float32  # 60 kB in all, and angles are what it is about

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = Restarts(recipe)
        self.optimiser = _Optimiser(self.model, recipe.steps, recipe.rate)

    def identity(self) -> Any:
        """Give the recipe and the settings."""
        return [asdict(self.recipe), families(self.recipe)]

    def keeps(self, step: int) -> bool:
        """Keep a checkpoint every so often, to go on from."""
        return step % 500 == 0

    def loss(self, number: int) -> Tensor:
        """Give the sum of the losses of all settings and restarts, which share no weight."""
        draw = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number + 1)
        return torch.stack([loss.sum() for loss in self._losses(self.recipe.batch, draw)]).sum()

    @torch.no_grad()
    def best(self) -> list[Tensor]:
        """Choose the restart of least loss for every setting, one tensor [setting] a family."""
        draw = torch.Generator().manual_seed(self.recipe.seed * 1_000_003)
        return [loss.argmin(0) for loss in self._losses(self.recipe.judged_on, draw)]

    def weights(self) -> dict[str, Tensor]:
        """Give the weights of the best restarts [setting, …]."""
        found = {}
        for number, (family, best) in enumerate(zip(self.model.families, self.best(), strict=True)):
            for name, weight in family.items():
                found[f"families.{number}.{name}"] = weight.detach()[best, torch.arange(len(best))]
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take all restarts and the optimiser back."""
        self.optimiser.load(state)

    def line(self) -> dict[str, float]:
        """Give the least loss, in the mean over the settings of each kind."""
        draw = torch.Generator().manual_seed(0)
        least: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
        for family, losses in zip(self.model.config.families or [], self._losses(2048, draw), strict=True):
            least[family["kind"]].append(losses.amin(0).mean())
        return {kind: float(torch.stack(losses).mean()) for kind, losses in least.items()}

    def _losses(self, batch: int, draw: torch.Generator) -> list[Tensor]:
        """Give the loss of every setting and restart [restart, setting], family by family."""
        of = {"autoencoder": self._reconstruction, "magnitude": self._levels, "binding": self._answers}
        return [
            of[family["kind"]](family, dict(weights.items()), batch, draw)
            for family, weights in zip(self.model.config.families or [], self.model.families, strict=True)
        ]

    def _reconstruction(self, family: Any, weights: dict[str, Tensor], batch: int, draw: torch.Generator) -> Tensor:
        settings, features = family["settings"], family["features"]
        sparsity = torch.tensor([setting["sparsity"] for setting in settings])
        importance = torch.tensor([setting["importance"] for setting in settings])[:, None] ** torch.arange(features)
        shape = (len(settings), batch, features)
        x = (torch.rand(shape, generator=draw) >= sparsity[:, None, None]).float()  # restarts see the same inputs
        if family["values"] == "uniform":
            x = x * torch.rand(shape, generator=draw)
        error = (Autoencoder(weights, family)(x) - x) ** 2
        loss: Tensor = (importance[:, None] * error).sum(-1).mean(-1)
        return loss

    def _levels(self, family: Any, weights: dict[str, Tensor], batch: int, draw: torch.Generator) -> Tensor:
        toy = Magnitude(weights, family)
        x = F.one_hot(torch.randint(toy.levels, (batch,), generator=draw), toy.levels).float()
        hidden = toy.encode(x)
        noisy = hidden + toy.noise * torch.randn(batch, 1, generator=draw)
        paid: Tensor = self.recipe.spread * (hidden**2).sum(-1).mean(-1)
        return ((toy.decode(noisy) - x) ** 2).sum(-1).mean(-1) + paid

    def _answers(self, family: Any, weights: dict[str, Tensor], batch: int, draw: torch.Generator) -> Tensor:
        lead = next(iter(weights.values())).shape[:2]
        toy = Binding(weights, family)
        scenes: Scenes = toy.sample(batch, int(torch.randint(2**31, (), generator=draw)))
        logits = toy(scenes)  # [restart, setting, scene, filler]
        answer = scenes.answer.expand(*lead, -1)
        loss = F.cross_entropy(logits.flatten(0, -2), answer.flatten(), reduction="none")
        return loss.view(*lead, -1).mean(-1)
