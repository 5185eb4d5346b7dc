"""Toy models of superposition: a whole family of tiny models, trained over sparsity, importance, features and width.

    >>> toys = iw.load("toy-superposition")
    >>> toys.W(features=5, hidden=2, sparsity=0.9)              # [hidden, feature]: a pentagon
    >>> toy = toys.select(features=5, hidden=2, sparsity=0.9)
    >>> toy.dimensionality(), toy(toy.sample(8, seed=0))
    >>> toys.magnitude(levels=4).hidden_of_level()              # four features on one line, told apart by how far out
    >>> toys.binding(by="hadamard", width=16)                   # who has which colour, in one vector

The family is one `transformers` model: its config lists the settings, its weights are stacked [setting, …]. The maths
of each kind takes any leading dimensions, so many settings and restarts are trained at once by the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from interpwidgets.errors import InputError
from interpwidgets.models.toy_kinds import KINDS, Autoencoder, Binding, Magnitude, Toy

__all__ = ["ToySuperposition", "ToySuperpositionConfig"]

AnyToy = TypeVar("AnyToy", bound=Toy)


class ToySuperpositionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Say which toys there are: a list of families, each with what its members share and a list of `settings`."""

    model_type = "toy-superposition"
    families: list[Any] | None = None


class ToySuperposition(PreTrainedModel):  # type: ignore[no-untyped-call]
    """All toys of a family, by their settings."""

    config_class = ToySuperpositionConfig
    base_model_prefix = "families"
    main_input_name = "x"

    def __init__(self, config: ToySuperpositionConfig) -> None:
        super().__init__(config)
        self.families = nn.ModuleList()
        for family in config.families or []:
            shapes = KINDS[family["kind"]].shapes(family)
            count = len(family["settings"])
            self.families.append(
                nn.ParameterDict({name: nn.Parameter(_empty(count, *shape)) for name, shape in shapes.items()})
            )
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Leave weights alone: they come from a file or from the recipe."""

    def settings(self, kind: str | None = None) -> list[dict[str, Any]]:
        """List every toy there is, as the words that select it."""
        return [
            {"kind": family["kind"], **_shared(family), **setting}
            for family in self.config.families or []
            for setting in family["settings"]
            if kind in (None, family["kind"])
        ]

    def select(
        self, *, features: int, hidden: int, sparsity: float, importance: float = 1.0, values: str = "uniform"
    ) -> Autoencoder:
        """Get the toy that squeezes sparse features through fewer hidden dimensions and reconstructs them.

        A feature is zero with probability `sparsity`, else drawn from 0 to 1 (`values="uniform"`) or one
        (`values="binary"`). Feature i counts `importance ** i` in the loss.
        """
        return self._find(
            Autoencoder, features=features, hidden=hidden, sparsity=sparsity, importance=importance, values=values
        )

    def magnitude(self, *, levels: int, readout: str = "layer") -> Magnitude:
        """Get the toy whose features share one hidden dimension, so that only magnitude tells them apart.

        `readout="layer"` reads it by a layer of ReLUs, `"direct"` by one ReLU a feature, as the other toys do.
        """
        return self._find(Magnitude, levels=levels, readout=readout)

    def binding(self, *, by: str, width: int) -> Binding:
        """Get the toy that keeps in one vector which filler goes with which role.

        `by` names how: `"hadamard"`, `"matrix"`, `"tensor"`; or `"bag"`, which only adds the vectors up.
        """
        return self._find(Binding, by=by, width=width)

    def W(self, **setting: Any) -> Tensor:  # noqa: N802  its name in the literature
        """Get the weights [hidden, feature] of the toy that `select` gives: a column is a feature's direction."""
        return self.select(**setting).W

    def dimensionality(self, **setting: Any) -> Tensor:
        """Get the share of a hidden dimension that each feature has to itself [feature]."""
        return self.select(**setting).dimensionality()

    def forward(self, x: Tensor, **setting: Any) -> Tensor:
        """Reconstruct x [batch, feature] by the toy that `select` gives."""
        return self.select(**setting)(x)

    def _find(self, kind: type[AnyToy], **wanted: Any) -> AnyToy:
        for number, family in enumerate(self.config.families or []):
            for place, setting in enumerate(family["settings"]):
                told = {**_shared(family), **setting}
                if family["kind"] == kind.kind and all(_same(told.get(key), value) for key, value in wanted.items()):
                    stacked: Any = self.families[number]
                    weights = {name: weight[place].detach() for name, weight in stacked.items()}
                    return kind(weights, told)
        raise InputError(
            f"There is no {kind.kind} toy with {_words(wanted)}. There are:\n"
            + "\n".join(f"  {line}" for line in self._offer(kind.kind))
        )

    def _offer(self, kind: str) -> list[str]:
        lines = []
        for family in self.config.families or []:
            if family["kind"] == kind:
                keys = list(family["settings"][0])
                ranges = [f"{key} {_listed(setting[key] for setting in family['settings'])}" for key in keys]
                lines.append("; ".join([_words(_shared(family)), *ranges]))
        return lines

    def __repr__(self) -> str:
        counts = {kind: len(self.settings(kind)) for kind in KINDS}
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        return f"ToySuperposition({told}; see .settings())"


def _empty(*shape: int) -> Tensor:
    import torch

    return torch.zeros(shape)


def _shared(family: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in family.items() if key not in ("kind", "settings")}


def _same(have: Any, want: Any) -> bool:
    if isinstance(have, float) and isinstance(want, (int, float)):
        return math.isclose(have, want, rel_tol=1e-6, abs_tol=1e-9)
    return bool(have == want)


def _words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in setting.items())


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


AutoConfig.register(ToySuperpositionConfig.model_type, ToySuperpositionConfig, exist_ok=True)
AutoModel.register(ToySuperpositionConfig, ToySuperposition, exist_ok=True)
