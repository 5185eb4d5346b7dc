"""SAELens' layout: `cfg.json` and `sae_weights.safetensors`, of version 6 and of the flat configs before it.

    architecture              tensors beside W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_dec [d_out]
    standard, topk            b_enc
    jumprelu                  b_enc, threshold
    gated                     b_gate, b_mag, r_mag
    batchtopk, matryoshka…    b_enc, topk_threshold: a checkpoint of training; SAELens ships them as jumprelu
    transcoder, skip_…        b_enc, with a skip W_skip [d_out, d_in]
    jumprelu_transcoder, …    b_enc, threshold

What a config asks for is done, or refused: nothing is skipped over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.errors import InputError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.layouts import weights as files
from interpwidgets.models.sites import transformer_lens_name

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.dictionary import Kind
    from interpwidgets.models.sites import Site

__all__ = ["CONFIG", "WEIGHTS", "read", "write"]

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
_LAYOUT = "6.0.0"  # of SAELens; without it, the config would be taken for an older one
_KINDS: dict[str, tuple[Kind, bool, bool]] = {
    "standard": ("relu", False, False),
    "topk": ("topk", False, False),
    "jumprelu": ("jumprelu", False, False),
    "gated": ("gated", False, False),
    "batchtopk": ("jumprelu", False, False),
    "matryoshka_batchtopk": ("jumprelu", False, False),
    "transcoder": ("relu", True, False),
    "skip_transcoder": ("relu", True, True),
    "jumprelu_transcoder": ("jumprelu", True, False),
    "jumprelu_skip_transcoder": ("jumprelu", True, True),
}  # SAELens' architecture: which kind, whether it is a transcoder, and whether there is a skip
_IN_TRAINING = ("batchtopk", "matryoshka_batchtopk")
_NORMALISED = ("none", "constant_norm_rescale", "layer_norm")
_ABOUT = (
    "hook_name", "hook_name_out", "hook_head_index", "model_name", "prepend_bos", "context_size", "dataset_path",
    "neuronpedia_id",
)  # fmt: skip


def read(folder: Path, site: Site | None = None) -> Dictionary:
    """Read the dictionary of a folder; `site` is where it reads if the config does not say."""
    config = files.read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        if found := files.pickles(folder):
            raise files.pickled(found[0])
        raise InputError(f"{folder} has no {WEIGHTS}.")
    config = config if "metadata" in config else _modern(config)
    dictionary = _described(config, folder, site)
    weights = files.tensors(folder / WEIGHTS)
    if config.get("architecture") in _IN_TRAINING:
        weights = _trained(weights, dictionary.d_dict, folder / WEIGHTS)
    if bool((weights.get("scaling_factor", torch.ones(1)) == 1).all()):
        weights.pop("scaling_factor", None)  # older SAELens wrote it whether it was used or not
    complete = set(dictionary.state_dict()) <= set(weights)
    if complete and config.get("rescale_acts_by_decoder_norm", config["architecture"] in _IN_TRAINING):
        weights = files.folds(weights)
    if complete and config.get("normalize_activations") == "expected_average_only_in":
        scale = _scale(folder)
        dictionary.metadata["activation_scale"] = 1 / scale
        weights |= {name: weights[name].float() / scale for name in ("W_dec", "b_dec")}
        weights["W_enc"] = weights["W_enc"].float() * scale
    return files.fill(dictionary, weights, folder / WEIGHTS, CONFIG)


def _described(config: dict[str, Any], folder: Path, given: Site | None) -> Dictionary:
    """An empty dictionary of the kind that a `cfg.json` describes."""
    where = folder / CONFIG
    _refused(config, where)
    kind, transcoder, skip = _KINDS[config["architecture"]]
    metadata = dict(config.get("metadata") or {})
    hook, hook_out = metadata.pop("hook_name", None), metadata.pop("hook_name_out", None)
    if (hook is None and given is None) or (transcoder and hook_out is None):
        raise InputError(
            f"{where} does not say which site is read, or written: hook_name, and hook_name_out. "
            "Without hook_name, say it: load_dictionary(…, site=('resid_post', 2))."
        )
    site, layer = files.hook_site(hook) if hook is not None else given or ("", None)
    site_out, layer_out = files.hook_site(hook_out) if transcoder else (site, layer)
    normalise: Any = config.get("normalize_activations") or "none"
    return Dictionary(
        files.number(config, "d_in", where),
        files.number(config, "d_sae", where),
        kind=kind,
        k=config.get("k"),
        site=site,
        layer=layer,
        site_out=site_out,
        layer_out=layer_out,
        d_out=files.number(config, "d_out", where) if transcoder else None,
        centred=not transcoder and bool(config.get("apply_b_dec_to_input", True)),
        normalise=normalise if normalise in _NORMALISED else "none",
        skip=skip,
        model=metadata.pop("model_name", None),
        metadata={name: value for name, value in metadata.items() if value is not None},
    )


def _refused(config: dict[str, Any], where: Path) -> None:
    """Raise InputError for what is asked and cannot be done."""
    if config.get("architecture") not in _KINDS:
        raise InputError(f"{where}: architecture {config.get('architecture')!r} is not read; {', '.join(_KINDS)} are.")
    if (how := config.get("normalize_activations") or "none") not in (*_NORMALISED, "expected_average_only_in"):
        raise InputError(
            f"{where}: normalize_activations is {how!r}; {', '.join(_NORMALISED)} and expected_average_only_in are "
            "read. Fold it into the weights in SAELens, and save again."
        )
    if (how := config.get("reshape_activations") or "none") not in ("none", "hook_z"):
        raise InputError(f"{where}: reshape_activations is {how!r}; none and hook_z are read.")
    if config.get("finetuning_scaling_factor"):
        raise InputError(f"{where}: finetuning_scaling_factor is set; multiply W_dec by it, and save again without.")
    if config.get("activation_fn", "relu") not in ("relu", "topk"):
        raise InputError(f"{where}: activation_fn is {config['activation_fn']!r}; relu and topk are read.")
    if (head := (config.get("metadata") or {}).get("hook_head_index")) is not None:
        raise InputError(f"{where}: hook_head_index is {head}; only dictionaries of all heads together are read.")


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """A config of SAELens before version 6, which was flat, in today's form."""
    names = {
        "hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn",
    }  # fmt: skip
    config = {names.get(name, name): value for name, value in config.items()}
    if config.get("activation_fn") == "topk":
        config |= {"architecture": "topk", "k": (config.get("activation_fn_kwargs") or {}).get("k")}
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if config["normalize_activations"] else "none"
    about = {name: config[name] for name in _ABOUT if config.get(name) is not None}
    return {"architecture": "standard", **config, "metadata": about}


def _trained(weights: dict[str, Tensor], d_dict: int, where: Path) -> dict[str, Tensor]:
    """Weights of BatchTopK as those of JumpReLU: in use, one threshold for all features stands for the batch."""
    if "topk_threshold" not in weights:
        raise InputError(f"{where} lacks topk_threshold; it has {', '.join(sorted(weights))}.")
    threshold = weights.pop("topk_threshold").float()
    return weights | {"threshold": threshold.expand(d_dict)}


def _scale(folder: Path) -> float:
    """What activations are multiplied by before they are encoded."""
    scaler = folder / SCALER
    scale = files.read_json(scaler).get("scaling_factor") if scaler.is_file() else None
    if not isinstance(scale, (int, float)) or not 0 < scale < float("inf"):
        raise InputError(
            f"{folder / CONFIG}: normalize_activations is 'expected_average_only_in', and no {SCALER} beside it says "
            'by what: {"scaling_factor": …}, which is √d_in / mean length of an activation.'
        )
    return float(scale)


def write(one: Dictionary, folder: str | Path, dtype: torch.dtype) -> None:
    """Write a dictionary. Raises InputError where SAELens has no architecture for it."""
    if one.kind == "topk" and one.transcoder:
        raise InputError("SAELens has no TopK transcoder, so there is no layout to save this one in.")
    if one.layers or one.layers_out:
        raise InputError(f"SAELens has no layout for several layers: {one!r}.")
    what = one.kind, one.transcoder, one.skip
    architecture = next((name for name, known in _KINDS.items() if known == what and name not in _IN_TRAINING), None)
    if architecture is None or (one.transcoder and one.centred):
        raise InputError(f"SAELens has no architecture for {one!r}.")
    names = {"hook_name": transformer_lens_name(one.site, one.layer) or one.site}
    if one.transcoder:
        names["hook_name_out"] = transformer_lens_name(one.site_out, one.layer_out) or one.site_out
    about = {"sae_lens_version": _LAYOUT, **one.metadata, "model_name": one.model, **names}
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": one.d_in,
        "d_sae": one.d_dict,
        **({"d_out": one.d_out} if one.transcoder else {}),
        **({"k": one.k, "rescale_acts_by_decoder_norm": False} if one.kind == "topk" else {}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": one.centred,
        "normalize_activations": one.normalise,
        "reshape_activations": "hook_z" if one.site == "z" else "none",
        "metadata": {name: value for name, value in about.items() if value is not None},
    }
    files.write(Path(folder), WEIGHTS, one.state_dict(), (CONFIG, config), dtype)
