"""The model systems that ship with the package: where their files lie, and which checkpoints they have.

A system is a folder that plain `transformers` loads, with its tokenizer, a card (`README.md`, and `card.json` for
machines) and `checkpoints/step-00000/` and on, each of them a weight file that the folder's config reads.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["checkpoint_file", "checkpoints", "folder", "names"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    """List the systems that are here."""
    return sorted(path.parent.name for path in _HERE.glob("*/config.json"))


def folder(name: str) -> Path:
    """Give the folder of a system; whether it exists is for `names` to say."""
    return _HERE / name


def checkpoints(name: str) -> list[int]:
    """List the training steps after which the weights were kept, the trained model not among them."""
    return sorted(int(path.parent.name[5:]) for path in folder(name).glob("checkpoints/step-*/model.safetensors"))


def checkpoint_file(name: str, step: int) -> Path:
    """Give the weight file of the checkpoint after `step` steps."""
    return folder(name) / "checkpoints" / f"step-{step:05d}" / "model.safetensors"
