"""Read every variable of a graph off its component, linearly, in the first part of a training.

A variable that nothing reads yet gets no gradient, and a reader of a variable that is not there yet gets none either.
So a read-out asks each component for its variable while the rest learns to use it; then it fades, and is thrown away.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from interpwidgets.models.train.known.exchange import Recorded
    from interpwidgets.models.train.known.graph import Known, Node, Prompt, Values

__all__ = ["ReadOuts", "ReadingOptimiser", "labels"]

_REACH = range(-3, 4)


def labels(value: Any) -> set[str]:
    """Put a value as a set of statements that are true of it."""
    if isinstance(value, dict):
        return set(value.values())
    if isinstance(value, (str, bool)):
        return {str(value)}
    return {f"{value.__class__.__name__} ≥ {least}" for least in _REACH if value >= least}


class ReadOuts(nn.Module):
    """A linear map from each node's component to every statement that can be true of its variable."""

    def __init__(self, known: Known, config: Any, seed: int) -> None:
        super().__init__()
        self.known, self.heads = known, config.n_head
        rng = Random("the values of the nodes")  # noqa: S311  prompts, not a secret
        seen: dict[str, Counter[str]] = {node.name: Counter() for node in known.graph.nodes}
        number: Counter[str] = Counter()
        for _ in range(1000):
            for (name, _), value in known.values(known.draw(rng, "train"), {}).items():
                if name in seen:
                    seen[name].update(labels(value))
                    number[name] += 1
        self.statements = {  # what is always true tells nothing
            name: {each: n for n, each in enumerate(sorted(e for e in found if found[e] < number[name]))}
            for name, found in seen.items()
        }
        self.maps = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for node in known.graph.nodes:
                width = config.n_embd // (config.n_head if node.site == "z" else 1)
                self.maps[node.name] = nn.Linear(width, len(self.statements[node.name]))

    def loss(self, run: Recorded, prompts: Sequence[Prompt], values: Sequence[Values]) -> Tensor:
        """Give the binary cross-entropy of the statements, the mean of all nodes."""
        return torch.stack([self.loss1(run, prompts, values, node) for node in self.known.graph.nodes]).mean()

    def loss1(self, run: Recorded, prompts: Sequence[Prompt], values: Sequence[Values], node: Node) -> Tensor:
        """Give that of one node."""
        kept = run.z[node.layer] if node.site == "z" else run.mlp_out[node.layer]
        part = kept.view(*kept.shape[:2], self.heads, -1)[:, :, node.head] if node.site == "z" else kept
        places = [(row, at) for row, prompt in enumerate(prompts) for at in prompt.roles[node.role]]
        own = self.statements[node.name]
        wanted = torch.zeros(len(places), len(own))
        for number, (row, at) in enumerate(places):
            for statement in labels(values[row][node.name, at]):
                wanted[number, own.get(statement, slice(0))] = 1.0
        rows, positions = torch.tensor(places).unbind(-1)
        return F.binary_cross_entropy_with_logits(self.maps[node.name](part[rows, positions]), wanted)


class ReadingOptimiser(Optimiser):
    """Moves a model's weights and those of its read-outs, and keeps the latter with its state."""

    def __init__(self, model: Any, read_outs: ReadOuts, steps: int, **settings: Any) -> None:
        super().__init__(nn.ModuleDict({"model": model, "read_outs": read_outs}), steps, **settings)
        self.read_outs = read_outs
        self.silent: dict[Tensor, Tensor] = {}  # which rows of a weight stay as they are …
        self.until = 0  # … up to this step

    def step(self, number: int) -> None:
        """Move every weight by its gradient, what is silent at first excepted."""
        if number < self.until:
            for weight, rows in self.silent.items():
                if weight.grad is not None:
                    weight.grad[rows] = 0.0
        super().step(number)
        self.read_outs.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Give everything that the next step depends on besides the model's weights and gradients."""
        return super().state() | {f"read_outs.{n}": w.detach() for n, w in self.read_outs.named_parameters()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        super().load(state)
        self.read_outs.load_state_dict({n[10:]: w for n, w in state.items() if n.startswith("read_outs.")})
