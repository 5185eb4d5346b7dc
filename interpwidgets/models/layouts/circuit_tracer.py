"""circuit-tracer's layout: transcoders of every layer of a model, with `W_enc` [F, d] the other way round.

    layer_5.safetensors    W_enc [F, d], W_dec [F, d], b_enc, b_dec, activation_function.threshold?, k?, W_skip? [d, d]
    W_enc_5.safetensors    of a cross-layer transcoder: W_enc_5 [F, d], b_enc_5, b_dec_5, threshold_5?
    W_dec_5.safetensors    W_dec_5 [F, layer, d]: what it writes to layer 5 and to each one after it
    config.yaml            which model, and which hooks are read and written

Of a cross-layer transcoder, `b_dec` of a layer belongs to all that write there together: it is left to the features
of that layer, so that what all of them write adds up. TopK keeps no negative values here, as it may there where fewer
than k features are above zero.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.errors import InputError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.layouts import weights as files

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.dictionary import Kind

__all__ = ["names", "read"]

CONFIG = "config.yaml"
_HOOKS = {False: ("mlp.hook_in", "mlp.hook_out"), True: ("hook_resid_mid", "hook_mlp_out")}  # theirs, by whether CLT
_SYNONYMS = {"mlp.hook_out": "hook_mlp_out"}


def names(folder: Path) -> list[str]:
    """List the layers of which there is a transcoder: ["layer_0", "layer_1", …]."""
    found = {
        int(match[1])
        for path in folder.glob("*.safetensors")
        if (match := re.fullmatch(r"(?:layer|W_enc)_(\d+)", path.stem))
    }
    return [f"layer_{layer}" for layer in sorted(found)]


def read(folder: Path, name: str) -> Dictionary:
    """Read the transcoder of one layer."""
    layer = int(name.removeprefix("layer_"))
    crossing = not (folder / f"layer_{layer}.safetensors").is_file()
    config = _config(folder / CONFIG)
    hooks = (config.get(key) or given for key, given in zip(
        ("feature_input_hook", "feature_output_hook"), _HOOKS[crossing], strict=True
    ))  # fmt: skip
    (site, at), (site_out, out) = (files.hook_site(f"blocks.{layer}.{_SYNONYMS.get(hook, hook)}") for hook in hooks)
    where = folder / (f"W_enc_{layer}.safetensors" if crossing else f"layer_{layer}.safetensors")
    weights = files.tensors(where)
    if crossing:
        weights |= files.tensors(_other(folder / f"W_dec_{layer}.safetensors"))
        weights = {key.removesuffix(f"_{layer}"): weight for key, weight in weights.items()}
    weights = {key.removeprefix("activation_function."): weight for key, weight in weights.items()}
    for key, dimensions in (("W_enc", 2), ("W_dec", 3 if crossing else 2)):
        if key not in weights:
            raise InputError(f"{where} lacks {key}; it has {', '.join(sorted(weights))}.")
        if weights[key].ndim != dimensions:
            raise InputError(f"{key} in {where} is {list(weights[key].shape)}; it should have {dimensions} dimensions.")
    d_dict, d_in = weights["W_enc"].shape
    reach = weights["W_dec"].shape[1] if crossing else 1
    kind, k = _kind(weights, config)
    one = Dictionary(
        d_in,
        d_dict,
        kind=kind,
        k=k,
        site=site,
        layer=at,
        site_out=site_out,
        layer_out=out,
        d_out=weights["W_dec"].shape[-1] * reach,
        centred=False,
        skip="W_skip" in weights,
        layers_out=range(layer, layer + reach) if crossing else None,
        model=config.get("model_name"),
        metadata={"scan": config["scan"]} if config.get("scan") else {},
    )
    weights["W_enc"] = weights["W_enc"].T
    if crossing:
        weights["W_dec"] = weights["W_dec"].flatten(1)  # [F, layer, d] → [F, layer · d]
        if "b_dec" in weights:  # those of later layers come with their own features
            rest = torch.zeros(one.d_out - weights["b_dec"].shape[0], dtype=weights["b_dec"].dtype)
            weights["b_dec"] = torch.cat([weights["b_dec"], rest])
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].reshape(-1)
    return files.fill(one, weights, where, "W_enc")


def _kind(weights: dict[str, Tensor], config: dict[str, Any]) -> tuple[Kind, int | None]:
    if "threshold" in weights:
        return "jumprelu", None
    k = weights.pop("k", None)
    if k is not None or config.get("k"):
        return "topk", int(k if k is not None else config["k"])
    return "relu", None


def _other(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"There is no {path}: the decoder of a cross-layer transcoder lies in a file of its own.")
    return path


def _config(path: Path) -> dict[str, Any]:
    """What `config.yaml` says; nothing if there is none."""
    if not path.is_file():
        return {}
    import yaml  # comes with transformers

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no config: it is a {type(found).__name__}.")
    return found
