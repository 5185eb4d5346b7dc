"""Read and write what every layout is made of: tensors in safetensors, and a config in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from interpwidgets.errors import InputError
from interpwidgets.models.sites import parse_site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from interpwidgets.models.dictionary import Dictionary
    from interpwidgets.models.sites import Site

__all__ = ["PICKLES", "fill", "folds", "hook_site", "number", "pickled", "pickles", "read_json", "tensors", "write"]

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


def tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}).") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a config: one object in JSON."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no config: it is a {type(found).__name__}, not an object.")
    return found


def number(config: Mapping[str, Any], name: str, where: Path) -> int:
    """Give a whole number above zero that a config has to have."""
    value = config.get(name)
    if value is None:
        raise InputError(f"{where} does not say {name!r}.")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
        raise InputError(f"{where}: {name} is {value!r}; it has to be a whole number above zero.")
    return int(value)


def write(folder: Path, name: str, weights: Mapping[str, Tensor], config: tuple[str, Any], dtype: torch.dtype) -> None:
    """Write tensors, the fractions among them as `dtype`, and the config beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        key: (weight.to(dtype) if weight.is_floating_point() else weight).detach().cpu().contiguous().clone()
        for key, weight in weights.items()
    }
    save_file(given, folder / name, {"format": "pt"})
    (folder / config[0]).write_text(json.dumps(config[1], indent=2) + "\n")


def fill(dictionary: Dictionary, weights: Mapping[str, Tensor], where: Path, config: str) -> Dictionary:
    """Put weights into a dictionary that a config describes; each of them has to be there, to fit and to be finite."""
    wanted = dictionary.state_dict()
    if missing := sorted(set(wanted) - set(weights)):
        raise InputError(f"{where} lacks {', '.join(missing)}; it has {', '.join(sorted(weights))}.")
    if unknown := sorted(set(weights) - set(wanted)):
        raise InputError(f"{where} has {', '.join(unknown)}, which no {dictionary.kind} dictionary uses.")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise InputError(f"{name} in {where} is {list(weight.shape)}; {config} says {list(wanted[name].shape)}.")
        if not bool(weight.isfinite().all()):
            raise InputError(f"{name} in {where} holds NaN or infinite numbers.")
    dictionary.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return dictionary.requires_grad_(False).eval()


def folds(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the length of each direction into its encoder, where activations count along directions of length one."""
    lengths = weights["W_dec"].float().norm(dim=1).clamp(min=1e-8)
    names = {"W_enc", "b_enc", "b_gate", "b_mag"} & set(weights)
    scaled = {name: weights[name].float() * lengths for name in names}
    return weights | scaled | {"W_dec": weights["W_dec"].float() / lengths[:, None]}


def hook_site(hook: str) -> Site:
    """Our name of a site, or the hook's own if it is none of ours."""
    try:
        return parse_site(hook)[0]
    except InputError:
        return hook, None


def pickles(folder: Path) -> list[Path]:
    """List the pickles that lie in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix in PICKLES)


def pickled(path: Path) -> InputError:
    """Say why a pickle is not read, and how to make safetensors of it."""
    to = path.with_name("ae.safetensors" if path.stem == "ae" else "sae_weights.safetensors")
    return InputError(
        f"{path} holds pickled weights, which can run code and are not read. Where you trust it, convert it once:\n"
        "    import torch, safetensors.torch\n"
        f"    weights = torch.load({str(path)!r}, weights_only=True, map_location='cpu')\n"
        "    safetensors.torch.save_file({name: each.contiguous() for name, each in weights.items()}, "
        f"{str(to)!r})"
    )
