"""Train by a recipe: stopped at any moment, it goes on to the same weights as without the stop."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.training.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from interpwidgets.models.training.optimiser import Optimiser

__all__ = ["Task", "one_thread", "train"]


class Task(ABC):
    """A recipe at work: a model, its optimiser, and what one step is.

    A step must depend on the recipe and its number alone, so that a run continued from its middle sees what it would
    have seen.
    """

    system: str
    recipe: Any
    """A frozen dataclass with at least `seed` and `steps`."""
    model: Any
    """A module whose `config` writes itself as JSON: what `transformers` loads again."""
    optimiser: Optimiser
    dtype = torch.float16
    """How checkpoints are stored; the run itself goes on in float32."""

    @abstractmethod
    def identity(self) -> Any:
        """Give everything that the weights depend on, as JSON: the recipe, the words, a first batch."""

    @abstractmethod
    def loss(self, number: int) -> Tensor:
        """Give the loss of step `number`, to go backward from."""

    @abstractmethod
    def line(self) -> dict[str, float]:
        """Give the figures that the log keeps at a checkpoint."""

    @abstractmethod
    def keeps(self, step: int) -> bool:
        """Tell whether the state after `step` steps is a checkpoint; the last one always is."""

    def tokenizer(self) -> Any:
        """Give the tokenizer that is shipped with the weights; None if prompts are not text."""
        return None

    def weights(self) -> dict[str, Tensor]:
        """Give the weights to store: all but those that are another's."""
        return {name: weight for name, weight in self.model.state_dict().items() if name != "lm_head.weight"}

    def about(self) -> dict[str, Any]:
        """Say what the run is: the system, the recipe, and eight letters for everything the weights depend on."""
        identity = hashlib.sha256(json.dumps(self.identity()).encode()).hexdigest()[:8]
        return {"system": self.system, "run": identity, "recipe": json.loads(json.dumps(asdict(self.recipe)))}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take weights and optimiser back from a run's state."""
        self.model.load_state_dict({n[6:]: v for n, v in state.items() if n.startswith("model.")}, strict=False)
        if hasattr(self.model, "tie_weights"):
            self.model.tie_weights()
        self.optimiser.load(state)


def train(task: Task, out: Path, *, until: int | None = None, progress: bool = True) -> Path:
    """Train by the recipe, or go on where a run of it stopped; give the run's folder.

    `until` stops early, at that step: the next call goes on from there to the same weights as without the stop.
    """
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    about = task.about()
    run = Run(out / f"{task.system}-seed-{task.recipe.seed}-{about['run']}", about)
    done = run.open()
    if done >= 0:
        task.restore(run.load_state())
    before = run.log()[-1]["cpu_seconds"] - time.process_time() if run.log() else -time.process_time()
    goal = task.recipe.steps if until is None else min(until, task.recipe.steps)
    with one_thread(), tqdm(total=goal, initial=max(done, 0), disable=not progress, unit="step") as bar:
        if done < 0:
            _keep(run, 0, task, before)
        for number in range(max(done, 0), goal):
            loss = task.loss(number)
            task.model.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            task.optimiser.step(number)
            bar.update()
            if task.keeps(number + 1) or number + 1 == goal:
                line = _keep(run, number + 1, task, before)
                bar.set_postfix(loss=f"{float(loss.detach()):.2f}", **{k: f"{v:.2f}" for k, v in line.items()})
    return run.folder


def _keep(run: Run, step: int, task: Task, before: float) -> dict[str, float]:
    """Write a checkpoint and its figures; `before` plus the clock is the time spent so far."""
    with torch.no_grad():
        line = task.line()
    weights = task.weights()
    state = {f"model.{n}": p for n, p in weights.items()} | task.optimiser.state()
    stored = {name: weight.detach().to(task.dtype).contiguous() for name, weight in weights.items()}
    spent = {"cpu_seconds": round(before + time.process_time(), 1)}
    run.save(step, stored, task.model.config.to_json_string(), state, spent | line)
    return line


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums are taken in one order always, and small models wait for no other thread.

    With more, a seed would give other weights from time to time, and two processes on two cores would take many times
    as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
