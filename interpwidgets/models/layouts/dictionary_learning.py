"""dictionary_learning's layout: `config.json` with a "trainer", and the tensors of `ae.pt` in safetensors.

    dict_class                               tensors, as there: encoder.weight [F, d], decoder.weight [d, F]
    AutoEncoder                              encoder.weight, encoder.bias, decoder.weight, bias
    AutoEncoderNew                           encoder.weight, encoder.bias, decoder.weight, decoder.bias: not centred
    AutoEncoderTopK                          encoder.weight, encoder.bias, decoder.weight, b_dec, k
    BatchTopKSAE                             the same, and one threshold for all features: JumpReLU once it is trained
    MatryoshkaBatchTopKSAE                   W_enc [d, F], b_enc, W_dec [F, d], b_dec, threshold, group_sizes
    GatedAutoEncoder                         encoder.weight, decoder.weight, gate_bias, mag_bias, r_mag, decoder_bias
    JumpReluAutoEncoder                      W_enc [d, F], b_enc, W_dec [F, d], b_dec, threshold: not centred
    CrossCoder                               encoder.weight [layer, d, F], encoder.bias, decoder.weight [layer, F, d],
                                             decoder.bias [layer, d]

Gated and JumpReLU dictionaries count features along directions of length one there; that is folded into the weights.
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
    from interpwidgets.models.sites import Site

__all__ = ["CONFIG", "WEIGHTS", "is_one", "read", "write"]

CONFIG, WEIGHTS = "config.json", "ae.safetensors"
_KINDS: dict[str, tuple[Kind, bool]] = {
    "AutoEncoder": ("relu", True),
    "AutoEncoderNew": ("relu", False),
    "AutoEncoderTopK": ("topk", True),
    "BatchTopKSAE": ("jumprelu", True),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True),
    "GatedAutoEncoder": ("gated", True),
    "JumpReluAutoEncoder": ("jumprelu", False),
    "CrossCoder": ("relu", False),
}  # dict_class: which kind, and whether b_dec is subtracted from what is read
_COUNTS_LENGTHS = ("GatedAutoEncoder", "JumpReluAutoEncoder")
_NAMES = {
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "decoder.bias": "b_dec",
    "bias": "b_dec",
    "decoder_bias": "b_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_mag",
}  # their names of tensors, where they are not ours
_NOT_USED = ("k", "group_sizes")  # k stands in the config as well; groups matter in training only
_SITES = {"attention_out": "attn_out", "resid_out": "resid_post"}
_SUBMODULE = re.compile(r"([a-z_]+?)_layer_?(\d+)")


def is_one(folder: Path) -> bool:
    """Whether a folder holds a dictionary in this layout."""
    return (folder / CONFIG).is_file() and "trainer" in files.read_json(folder / CONFIG)


def read(folder: Path, site: Site | None = None) -> Dictionary:
    """Read the dictionary of a folder; `site` is where it reads if the config does not say."""
    where = folder / CONFIG
    config = files.read_json(where)
    trainer = config["trainer"]
    if not isinstance(trainer, dict) or (name := trainer.get("dict_class")) not in _KINDS:
        found = trainer.get("dict_class") if isinstance(trainer, dict) else trainer
        raise InputError(f"{where}: dict_class {found!r} is not read; {', '.join(_KINDS)} are.")
    if not (folder / WEIGHTS).is_file():
        if found := files.pickles(folder):
            raise files.pickled(found[0])
        raise InputError(f"{folder} has no {WEIGHTS}.")
    d_in, d_dict = (files.number(trainer, key, where) for key in ("activation_dim", "dict_size"))
    kind, centred = _KINDS[name]
    layers = _layers(trainer, where) if name == "CrossCoder" else None
    place, layer = (_site(trainer) or site or ("resid_post", trainer.get("layer"))) if layers is None else (
        _SITES.get(str(trainer.get("submodule_name")), "resid_post"), layers[0]
    )  # fmt: skip
    weights = _ours(files.tensors(folder / WEIGHTS))
    one = Dictionary(
        d_in * len(layers or [1]),
        d_dict,
        kind=kind,
        k=trainer.get("k"),
        site=place,
        layer=layer,
        layers=layers,
        centred=centred,
        model=trainer.get("lm_name"),
        metadata=_about(config),
    )
    if layers is not None:
        weights = _side_by_side(weights, len(layers), folder / WEIGHTS)
    elif name not in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder") and "W_enc" in weights:
        weights |= {key: weights[key].T for key in ("W_enc", "W_dec") if key in weights}
    if name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE") and "threshold" in weights:
        weights["threshold"] = _one_threshold(weights["threshold"], d_dict, folder / WEIGHTS)
    elif kind == "topk":
        weights.pop("threshold", None)  # kept there for another way of use; the k largest need none
    if name in _COUNTS_LENGTHS and set(one.state_dict()) <= set(weights):
        threshold = {"threshold": weights["threshold"] * weights["W_dec"].norm(dim=1)} if kind == "jumprelu" else {}
        weights = files.folds(weights) | threshold
        one.metadata["decoder_norm_folded"] = True
    return files.fill(one, weights, folder / WEIGHTS, CONFIG)


def _ours(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_NAMES.get(name, name): weight for name, weight in weights.items() if name not in _NOT_USED}


def _site(trainer: dict[str, Any]) -> Site | None:
    """Where it reads by the name of the submodule: "resid_post_layer_8"."""
    match = _SUBMODULE.fullmatch(str(trainer.get("submodule_name")))
    if match is None:
        return None
    return files.hook_site(_SITES.get(match[1], match[1]))[0], int(match[2])


def _layers(trainer: dict[str, Any], where: Path) -> list[int]:
    layers = trainer.get("layers")
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, int) for layer in layers):
        raise InputError(
            f"{where}: a CrossCoder reads several layers, and the trainer does not say which: add "
            '"layers": [4, 8], in the order of encoder.weight. One that reads several models cannot be read.'
        )
    return layers


def _side_by_side(weights: dict[str, Tensor], count: int, where: Path) -> dict[str, Tensor]:
    """A crosscoder's tensors as those of a dictionary of all its layers in one row."""
    shapes = {name: list(weights[name].shape) for name in ("W_enc", "W_dec", "b_dec") if name in weights}
    if wrong := [name for name, shape in shapes.items() if len(shape) < 2 or shape[0] != count]:
        raise InputError(f"{wrong[0]} in {where} is {shapes[wrong[0]]}; {CONFIG} names {count} layers.")
    flat = {
        "W_enc": lambda each: each.flatten(0, 1),  # [layer, d, F] → [layer · d, F]
        "W_dec": lambda each: each.transpose(0, 1).flatten(1),  # [layer, F, d] → [F, layer · d]
        "b_dec": lambda each: each.flatten(),
    }
    return weights | {name: flat[name](weights[name]) for name in shapes}


def _one_threshold(threshold: Tensor, d_dict: int, where: Path) -> Tensor:
    if threshold.numel() != 1 or float(threshold) < 0:
        raise InputError(
            f"threshold in {where} is {threshold.tolist() if threshold.numel() < 4 else list(threshold.shape)}: it is "
            "one number above zero once training has set it."
        )
    return threshold.reshape(1).expand(d_dict)


def _about(config: dict[str, Any]) -> dict[str, Any]:
    """What is known of the training and has a name of ours."""
    buffer = config.get("buffer") if isinstance(config.get("buffer"), dict) else {}
    known = {"context_size": (buffer or {}).get("ctx_len"), "norm_factor": config["trainer"].get("norm_factor")}
    return {name: value for name, value in known.items() if value is not None}


def write(one: Dictionary, folder: str | Path, dtype: torch.dtype) -> None:
    """Write a dictionary. Raises InputError where there is no class for it."""
    if one.transcoder or one.skip or one.normalise != "none":
        raise InputError(f"dictionary_learning has no class for {one!r}: no transcoder, skip or normalisation.")
    given = one.folded() if one.kind in ("jumprelu", "gated") else one
    w = dict(given.state_dict())
    classes: dict[str, tuple[str, bool]] = {
        "relu": ("AutoEncoder", True) if given.centred else ("AutoEncoderNew", False),
        "topk": ("AutoEncoderTopK", True),
        "gated": ("GatedAutoEncoder", True),
        "jumprelu": ("JumpReluAutoEncoder", False),
    }
    name, centred = classes[given.kind]
    if given.layers:
        if given.kind != "relu" or given.centred:
            raise InputError(f"dictionary_learning has no class for {one!r}: its crosscoders are ReLU, not centred.")
        name = "CrossCoder"
    if centred != given.centred:  # (x − b_dec) W + b = x W + (b − b_dec W): the other way of writing the same
        shift = w["b_dec"] @ w["W_enc"] * (1 if centred else -1)
        shifts = {"b_gate": shift, "b_mag": shift * w["r_mag"].exp()} if given.kind == "gated" else {"b_enc": shift}
        w |= {key: w[key] + by for key, by in shifts.items()}
    trainer = {
        "dict_class": name,
        "activation_dim": given.d_in // len(given.layers or [1]),
        "dict_size": given.d_dict,
        **({"k": given.k} if given.k else {}),
        "layer": given.layer,
        **({"layers": list(given.layers)} if given.layers else {}),
        "lm_name": given.model,
        "submodule_name": given.site if given.layers else f"{given.site}_layer_{given.layer}",
    }
    context = given.metadata.get("context_size")
    config = {"trainer": trainer, "buffer": {"ctx_len": context} if context else {}}
    files.write(Path(folder), WEIGHTS, _theirs(name, w, given), (CONFIG, config), dtype)


def _theirs(name: str, w: dict[str, Tensor], one: Dictionary) -> dict[str, Tensor]:
    """Tensors by the names of a class."""
    if name == "JumpReluAutoEncoder":
        return w
    if name == "CrossCoder":
        layers = len(one.layers or ())
        return {
            "encoder.weight": w["W_enc"].view(layers, -1, one.d_dict),
            "encoder.bias": w["b_enc"],
            "decoder.weight": w["W_dec"].view(one.d_dict, layers, -1).transpose(0, 1),
            "decoder.bias": w["b_dec"].view(layers, -1),
        }
    both = {"encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T}
    if name == "GatedAutoEncoder":
        return both | {
            "gate_bias": w["b_gate"], "mag_bias": w["b_mag"], "r_mag": w["r_mag"], "decoder_bias": w["b_dec"],
        }  # fmt: skip
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "AutoEncoderTopK": "b_dec"}[name]
    k = {"k": torch.tensor(one.k, dtype=torch.int32)} if one.k else {}
    return both | {"encoder.bias": w["b_enc"], bias: w["b_dec"]} | k
