"""Keep a training run in a folder of its own, so that it can be taken up again and never be taken for another.

    OUT/induction-2l-seed-1-3f9c02ab/       the last part names everything the weights depend on
        run.json                            recipe, run id, versions
        log.jsonl                           one line a checkpoint
        state.safetensors                   weights and optimiser in float32, replaced at each checkpoint
        step-00025/                         model.safetensors · config.json · run.json

A weight file does not tell how many heads read it: so config and run id lie beside every one of them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save_file

from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """One training run on disk: its folder, and what the run is."""

    folder: Path
    about: dict[str, Any]

    def open(self) -> int:
        """Make the folder, or find it begun; give the step to go on from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        card = self.folder / "run.json"
        if card.exists() and (found := json.loads(card.read_text())) != self.about:
            different = sorted(key for key in self.about if found.get(key) != self.about[key])
            raise InputError(f"{self.folder} holds another run ({', '.join(different)} differ): choose another --out")
        card.write_text(json.dumps(self.about, indent=2) + "\n")
        step = self._state_step()
        # A run cut off between two writes may have logged or kept a step that its state has not reached.
        self._rewrite_log([line for line in self.log() if line["step"] <= step])
        for later in self.checkpoints():
            if later > step:
                shutil.rmtree(self.checkpoint(later))
        return step

    def log(self) -> list[dict[str, Any]]:
        """Read the log: one entry a checkpoint, in order."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def checkpoint(self, step: int) -> Path:
        """Name the folder of the checkpoint after `step` steps."""
        return self.folder / f"step-{step:05d}"

    def checkpoints(self) -> list[int]:
        """List the steps of which there is a checkpoint."""
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*"))

    def load_state(self) -> dict[str, Tensor]:
        """Read weights and optimiser as they were at the last checkpoint."""
        with safe_open(self.folder / "state.safetensors", "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict

    def save(self, step: int, weights: dict[str, Tensor], config: str, state: dict[str, Tensor], line: Any) -> None:
        """Keep a checkpoint, then the state that makes it count; a cut between the two loses only the checkpoint."""
        folder = self.checkpoint(step)
        folder.mkdir(exist_ok=True)
        metadata = {"format": "pt", "run": self.about["run"], "step": str(step)}
        save_file(weights, folder / "model.safetensors", metadata)
        (folder / "config.json").write_text(config)
        (folder / "run.json").write_text(json.dumps({**self.about, "step": step}, indent=2) + "\n")
        self._rewrite_log([*self.log(), {"step": step, **line}])
        unfinished = self.folder / "state.unfinished"
        save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, unfinished, metadata)
        unfinished.replace(self.folder / "state.safetensors")

    def _state_step(self) -> int:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return -1
        with safe_open(path, "pt") as file:
            return int(file.metadata()["step"])

    def _rewrite_log(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / "log.jsonl").write_text(text)
