"""The kinds of toy model: what each computes, from weights with any leading dimensions, and what it is tried on.

Autoencoders are those of Elhage et al. 2022, "Toy models of superposition". Magnitude and binding are what superposed
directions cannot do: a feature that is not a direction, and facts about which goes with which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from interpwidgets.errors import InputError

__all__ = ["KINDS", "Autoencoder", "Binding", "Magnitude", "Scenes", "Toy"]

Shapes = dict[str, tuple[int, ...]]


class Toy(ABC):
    """One toy: its weights by name, and the words of its setting as attributes."""

    kind: ClassVar[str]

    def __init__(self, weights: Mapping[str, Tensor], setting: Mapping[str, Any]) -> None:
        self.weights, self.setting = dict(weights), dict(setting)

    def __getattr__(self, name: str) -> Any:
        for found in (self.__dict__.get("weights", {}), self.__dict__.get("setting", {})):
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(self._names())}")

    def _names(self) -> list[str]:
        return [*self.__dict__.get("weights", {}), *self.__dict__.get("setting", {})]

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self.setting.items())
        return f"{type(self).__name__}({told})"

    @staticmethod
    @abstractmethod
    def shapes(setting: Mapping[str, Any]) -> Shapes:
        """Give the shape of every weight of one toy, by name."""


class Autoencoder(Toy):
    """x → ReLU(Wᵀ W x + b): sparse features squeezed through fewer hidden dimensions, and reconstructed."""

    kind = "autoencoder"
    W: Tensor  # [hidden, feature]
    b: Tensor  # [feature]
    features: int
    hidden: int
    sparsity: float
    importance: float
    values: str

    @staticmethod
    def shapes(setting: Mapping[str, Any]) -> Shapes:
        """Give the shape of W and b."""
        return {"W": (setting["hidden"], setting["features"]), "b": (setting["features"],)}

    def encode(self, x: Tensor) -> Tensor:
        """Squeeze features x [batch, feature] into [batch, hidden]."""
        return x @ self.W.mT

    def decode(self, hidden: Tensor) -> Tensor:
        """Reconstruct features [batch, feature] from [batch, hidden]."""
        return torch.relu(hidden @ self.W + self.b[..., None, :])

    def __call__(self, x: Tensor) -> Tensor:
        """Reconstruct x [batch, feature]."""
        return self.decode(self.encode(x))

    def importances(self) -> Tensor:
        """Say how much each feature counts in the loss [feature]."""
        return float(self.importance) ** torch.arange(self.features)

    def sample(self, count: int, seed: int) -> Tensor:
        """Draw inputs [count, feature] as in training."""
        draw = torch.Generator().manual_seed(seed)
        on = torch.rand(count, self.features, generator=draw) >= self.sparsity
        value = torch.rand(count, self.features, generator=draw) if self.values == "uniform" else torch.ones(1)
        found: Tensor = on * value
        return found

    def loss(self, x: Tensor) -> float:
        """Give the squared error summed over features, each by its importance; the mean over inputs."""
        return float((self.importances() * (self(x) - x) ** 2).sum(-1).mean())

    def gram(self) -> Tensor:
        """Give WᵀW [feature, feature]: off the diagonal, how much one feature is taken for another."""
        return self.W.mT @ self.W

    def norms(self) -> Tensor:
        """Give the length of each feature's direction [feature]: near 1 if represented, near 0 if not."""
        found: Tensor = torch.linalg.vector_norm(self.W, dim=-2)
        return found

    def represented(self, threshold: float = 0.5) -> Tensor:
        """Tell which features are represented at all [feature]."""
        return self.norms() > threshold

    def dimensionality(self) -> Tensor:
        """Give ‖W_i‖² / Σ_j (Ŵ_i·W_j)² [feature]: the share of a hidden dimension that a feature has to itself."""
        gram, squared = self.gram(), self.norms() ** 2
        shared = (gram**2).sum(-1)  # ‖W_i‖² Σ_j (Ŵ_i·W_j)²
        return torch.where(shared > 0, squared**2 / shared.clamp_min(1e-30), torch.zeros(()))

    def angles(self) -> Tensor:
        """Give the angle between every two features' directions in degrees [feature, feature]."""
        unit = self.W / self.norms().clamp_min(1e-12)[..., None, :]
        return torch.rad2deg(torch.acos((unit.mT @ unit).clamp(-1, 1)))


class Magnitude(Toy):
    """Features of which at most one is on, in one hidden dimension: only how far out tells which.

    `readout="layer"` reads the hidden value by a layer of ReLUs; `"direct"` by one ReLU for each feature.
    """

    kind = "magnitude"
    W: Tensor  # [1, level]
    V: Tensor  # [level, neuron], or [level, 1] where there is no layer
    b: Tensor  # [level]
    levels: int
    readout: str
    noise: float

    @staticmethod
    def shapes(setting: Mapping[str, Any]) -> Shapes:
        """Give the shape of every weight."""
        levels, neurons = setting["levels"], setting["neurons"]
        if setting["readout"] == "direct":
            return {"W": (1, levels), "V": (levels, 1), "b": (levels,)}
        return {"W": (1, levels), "U": (neurons, 1), "c": (neurons,), "V": (levels, neurons), "b": (levels,)}

    def encode(self, x: Tensor) -> Tensor:
        """Write features x [batch, level] into the one hidden dimension [batch, 1]."""
        return x @ self.W.mT

    def decode(self, hidden: Tensor) -> Tensor:
        """Reconstruct features [batch, level] from [batch, 1]."""
        if self.readout == "layer":
            hidden = torch.relu(hidden @ self.U.mT + self.c[..., None, :])
        return torch.relu(hidden @ self.V.mT + self.b[..., None, :])

    def __call__(self, x: Tensor) -> Tensor:
        """Reconstruct x [batch, level]."""
        return self.decode(self.encode(x))

    def hidden_of_level(self) -> Tensor:
        """Give the hidden value that each level is written as [level]."""
        return self.W[..., 0, :]

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Draw inputs [count, level] with one level on, and the noise [count, 1] that training adds to the hidden."""
        draw = torch.Generator().manual_seed(seed)
        on = torch.randint(self.levels, (count,), generator=draw)
        noise = self.noise * torch.randn(count, 1, generator=draw)
        return torch.nn.functional.one_hot(on, self.levels).float(), noise


class Scenes(NamedTuple):
    """Scenes of objects, and one question about each: what fills this role?"""

    roles: Tensor  # [scene, object]
    fillers: Tensor  # [scene, object]
    query: Tensor  # [scene], one of the roles
    answer: Tensor  # [scene], its filler


class Binding(Toy):
    """Which filler goes with which role, for all objects of a scene in one vector that sums what each of them binds.

    A role is, say, a shape and a filler a colour: a red square and a blue circle are not a blue square and a red
    circle. `by` says how one object is written and read:

    bag        a_r + c_f; read by a layer of ReLUs. The sum is the same for both scenes, so nothing can tell them apart
    hadamard   a_r ∘ c_f; read by b_r ∘ memory
    matrix     A_r c_f; read by B_r memory
    tensor     a_r ⊗ c_f, flattened; read by b_r · memory
    """

    kind = "binding"
    A: Tensor  # role, for writing: [role, …]
    B: Tensor  # role, for reading: [role, …]
    C: Tensor  # filler, for writing: [filler, …]
    D: Tensor  # filler, for answering: [filler, …]
    by: str
    width: int
    roles: int
    fillers: int
    objects: int

    @staticmethod
    def shapes(setting: Mapping[str, Any]) -> Shapes:
        """Give the shape of every weight."""
        roles, fillers, width, by = (setting[key] for key in ("roles", "fillers", "width", "by"))
        if by == "bag":
            neurons = setting["neurons"]
            reader = {"U": (neurons, 2 * width), "c": (neurons,), "D": (fillers, neurons)}
            return {"A": (roles, width), "B": (roles, width), "C": (fillers, width), **reader}
        if by == "tensor":
            first = next(n for n in range(int(width**0.5), 0, -1) if width % n == 0)
            own = {"A": (roles, first), "B": (roles, first)}
            return {**own, "C": (fillers, width // first), "D": (fillers, width // first)}
        if by not in ("hadamard", "matrix"):
            raise InputError(f"There is no binding by {by!r}: expected bag, hadamard, matrix or tensor.")
        role = (roles, width) if by == "hadamard" else (roles, width, width)
        return {"A": role, "B": role, "C": (fillers, width), "D": (fillers, width)}

    def bind(self, roles: Tensor, fillers: Tensor) -> Tensor:
        """Give what one object adds to the memory [..., width]."""
        if self.by == "matrix":
            return (self.A[..., roles, :, :] @ self.C[..., fillers, :, None])[..., 0]
        a, c = self.A[..., roles, :], self.C[..., fillers, :]
        if self.by == "tensor":
            return (a[..., :, None] * c[..., None, :]).flatten(-2)
        return a * c if self.by == "hadamard" else a + c

    def write(self, roles: Tensor, fillers: Tensor) -> Tensor:
        """Sum what the objects of scenes [scene, object] bind, into memories [scene, width]."""
        return self.bind(roles, fillers).sum(-2)

    def read(self, memory: Tensor, query: Tensor) -> Tensor:
        """Ask each memory what fills a role [scene]: a logit for every filler [scene, filler]."""
        if self.by == "matrix":
            found = (self.B[..., query, :, :] @ memory[..., None])[..., 0]
        elif self.by == "tensor":
            table = memory.view(*memory.shape[:-1], self.A.shape[-1], -1)
            found = (self.B[..., query, None, :] @ table)[..., 0, :]
        elif self.by == "hadamard":
            found = self.B[..., query, :] * memory
        else:
            both = torch.cat([memory, self.B[..., query, :]], dim=-1)
            found = torch.relu(both @ self.U.mT + self.c[..., None, :])
        return found @ self.D.mT

    def __call__(self, scenes: Scenes) -> Tensor:
        """Answer the question about each scene: a logit for every filler [scene, filler]."""
        return self.read(self.write(scenes.roles, scenes.fillers), scenes.query)

    def sample(self, count: int, seed: int) -> Scenes:
        """Draw scenes whose objects differ in role and in filler, and ask about the first object of each."""
        draw = torch.Generator().manual_seed(seed)
        roles = torch.rand(count, self.roles, generator=draw).argsort(-1)[:, : self.objects]
        fillers = torch.rand(count, self.fillers, generator=draw).argsort(-1)[:, : self.objects]
        return Scenes(roles, fillers, roles[:, 0], fillers[:, 0])


KINDS: dict[str, type[Toy]] = {kind.kind: kind for kind in (Autoencoder, Magnitude, Binding)}
"""The kinds of toy, by name."""
