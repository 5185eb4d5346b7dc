"""Sparse dictionaries: what a model holds at one site, written as few of many features; transcoders from site to site.

On disk they are as SAELens keeps them: `cfg.json` and `sae_weights.safetensors` in a folder, one folder a dictionary.
A folder of such folders is a bundle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interpwidgets.errors import InputError, UnknownModelError
from interpwidgets.models.sites import parse_site, transformer_lens_name

__all__ = ["Dictionary", "Kind", "dictionary_names", "load_dictionary"]

Kind = Literal["relu", "topk", "jumprelu"]

SYSTEMS = Path(__file__).parent / "systems"
CONFIG, WEIGHTS, BUNDLE = "cfg.json", "sae_weights.safetensors", "config.json"
_LAYOUT = "6.0.0"  # of SAELens; without it, the config would be taken for an older one
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
_KINDS: dict[str, tuple[Kind, bool]] = {
    "standard": ("relu", False),
    "topk": ("topk", False),
    "jumprelu": ("jumprelu", False),
    "transcoder": ("relu", True),
    "jumprelu_transcoder": ("jumprelu", True),
}  # SAELens' architecture: which kind, and whether it is a transcoder


class Dictionary(nn.Module):
    """Features of a site of a model: `encode` finds the few that are active, `decode` adds up their directions.

    - `W_enc` [d_in, d_dict], `b_enc` [d_dict], `W_dec` [d_dict, d_out], `b_dec` [d_out]; of JumpReLU, `threshold`
    - kind "relu", "topk" (the `k` largest) or "jumprelu" (those above their threshold)
    - `site`, `layer`: what is read; `site_out`, `layer_out`: what is written, another place if it is a transcoder
    - `centred`: whether `b_dec` is subtracted from what is read

    It takes what the model has at the site as it is: a dictionary trained on normalised activations has the factor
    folded into its weights, and says which in `metadata["activation_scale"]`.
    """

    def __init__(
        self,
        d_in: int,
        d_dict: int,
        *,
        kind: Kind,
        site: str,
        layer: int | None,
        k: int | None = None,
        site_out: str | None = None,
        layer_out: int | None = None,
        d_out: int | None = None,
        centred: bool | None = None,
        model: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if kind == "topk" and not (k and 0 < k <= d_dict):
            raise InputError(f"A TopK dictionary of {d_dict} features needs k between 1 and {d_dict}; got {k!r}.")
        self.kind, self.k = kind, k if kind == "topk" else None
        self.site, self.layer = site, layer
        self.site_out, self.layer_out = site_out or site, layer if layer_out is None else layer_out
        self.centred = not self.transcoder if centred is None else centred
        self.model, self.metadata = model, dict(metadata or {})
        d_out = d_out or d_in
        if self.centred and d_out != d_in:
            raise InputError(f"b_dec has {d_out} numbers and cannot be subtracted from {d_in}: centred=False.")
        self.W_enc = nn.Parameter(torch.zeros(d_in, d_dict))
        self.W_dec = nn.Parameter(torch.zeros(d_dict, d_out))
        self.b_enc = nn.Parameter(torch.zeros(d_dict))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        if kind == "jumprelu":
            self.threshold = nn.Parameter(torch.zeros(d_dict))

    @property
    def d_in(self) -> int:
        """How wide what is read is."""
        return self.W_enc.shape[0]

    @property
    def d_dict(self) -> int:
        """How many features there are."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """How wide what is written is."""
        return self.W_dec.shape[1]

    @property
    def transcoder(self) -> bool:
        """Whether it writes to another place than it reads."""
        return (self.site_out, self.layer_out) != (self.site, self.layer)

    def before(self, x: Tensor) -> Tensor:
        """Give the features [..., d_dict] of x [..., d_in] before it is decided which are active."""
        if x.shape[-1] != self.d_in:
            raise InputError(
                f"{self!r} reads {self.d_in} numbers a position; got {list(x.shape)}. Is it of this model and site?"
            )
        return (x - self.b_dec if self.centred else x) @ self.W_enc + self.b_enc

    def active(self, before: Tensor) -> Tensor:
        """Keep the features [..., d_dict] that are active, and zero for the others."""
        if self.kind == "jumprelu":
            return before.relu() * (before > self.threshold)
        if self.kind == "topk":
            assert self.k is not None
            values, which = before.topk(self.k, dim=-1, sorted=False)
            return torch.zeros_like(before).scatter(-1, which, values.relu())
        return before.relu()

    def encode(self, x: Tensor) -> Tensor:
        """Find how active each feature is: [..., d_in] to [..., d_dict], most of it zero."""
        return self.active(self.before(x))

    def decode(self, features: Tensor) -> Tensor:
        """Add up the directions of active features: [..., d_dict] to [..., d_out]."""
        return features @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct x, or of a transcoder: what is written where x is read."""
        return self.decode(self.encode(x))

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `cfg.json` and `sae_weights.safetensors`, as SAELens reads them."""
        if self.kind == "topk" and self.transcoder:
            raise InputError("SAELens has no TopK transcoder, so there is no layout to save this one in.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {"hook_name": transformer_lens_name(self.site, self.layer)}
        if self.transcoder:
            names["hook_name_out"] = transformer_lens_name(self.site_out, self.layer_out)
        about = {"sae_lens_version": _LAYOUT, **self.metadata, "model_name": self.model, **names}
        config: dict[str, Any] = {
            "architecture": next(name for name, what in _KINDS.items() if what == (self.kind, self.transcoder)),
            "d_in": self.d_in,
            "d_sae": self.d_dict,
            **({"d_out": self.d_out} if self.transcoder else {}),
            **({"k": self.k, "rescale_acts_by_decoder_norm": False} if self.kind == "topk" else {}),
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.centred,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {name: value for name, value in about.items() if value is not None},
        }
        weights = {name: weight.detach().cpu().to(dtype).contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    def __repr__(self) -> str:
        sparsity = f"TopK (k = {self.k})" if self.kind == "topk" else {"relu": "ReLU"}.get(self.kind, "JumpReLU")
        place = _place(self.site, self.layer)
        way = f"from {place} to {_place(self.site_out, self.layer_out)}" if self.transcoder else f"on {place}"
        of = f" of {self.model}" if self.model else ""
        what = "transcoder" if self.transcoder else "dictionary"
        return f"<{what} of {self.d_dict} features {way}{of}: {sparsity}, {self.d_in} → {self.d_dict} → {self.d_out}>"


def load_dictionary(name: str | Path, which: str | None = None) -> Dictionary:
    """Get a dictionary: a shipped one by the name of its bundle, or from a folder in SAELens' layout.

    >>> load_dictionary("storyteller-4l-sae")
    >>> load_dictionary("storyteller-4l-sae", which="transcoder.1")
    >>> load_dictionary("./my-sae")

    `which` picks one of a bundle; the main one if None. Weights are read from safetensors only.
    """
    folder = SYSTEMS / str(name) if _is_bundle(SYSTEMS / str(name)) else Path(name).expanduser()
    if folder.suffix in _PICKLES:
        raise _pickled(folder)
    if not folder.is_dir():
        shipped = sorted(path.parent.parent.name for path in SYSTEMS.glob(f"*/*/{CONFIG}"))
        raise UnknownModelError(
            f"There is no dictionary {str(name)!r}: it is no folder. Shipped with the package: "
            f"{', '.join(dict.fromkeys(shipped)) or 'none'}."
        )
    if (folder / CONFIG).is_file():
        if which is not None:
            raise InputError(f"{folder} holds one dictionary; leave `which` out.")
        return _read(folder)
    names = dictionary_names(folder)
    if not names:
        if any(path.suffix in _PICKLES for path in folder.iterdir()):
            raise _pickled(folder)
        raise InputError(f"{folder} holds no dictionary: there is no {CONFIG}, neither here nor one folder down.")
    if which is None and len(names) > 1 and not (folder / BUNDLE).is_file():
        raise InputError(f"{folder} holds several dictionaries; say which: {', '.join(names)}.")
    if which is not None and which not in names:
        raise UnknownModelError(f"{name} has no dictionary {which!r}; it has {', '.join(names)}.")
    return _read(folder / (which or names[0]))


def dictionary_names(bundle: str | Path) -> list[str]:
    """List the dictionaries of a bundle, the main one first."""
    folder = SYSTEMS / str(bundle) if _is_bundle(SYSTEMS / str(bundle)) else Path(bundle).expanduser()
    found = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if (folder / BUNDLE).is_file():
        order = _json(folder / BUNDLE).get("dictionaries", [])
        found.sort(key=lambda name: order.index(name) if name in order else len(order))
    return found


def _is_bundle(folder: Path) -> bool:
    return any(folder.glob(f"*/{CONFIG}"))


def _read(folder: Path) -> Dictionary:
    config = _json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        if any(path.suffix in _PICKLES for path in folder.iterdir()):
            raise _pickled(folder)
        raise InputError(f"{folder} has no {WEIGHTS}.")
    dictionary = _described(config, folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise InputError(f"{folder / WEIGHTS} is damaged ({error}).") from None
    wanted = dictionary.state_dict()
    if missing := sorted(set(wanted) - set(weights)):
        raise InputError(f"{folder / WEIGHTS} lacks {', '.join(missing)}; it has {', '.join(sorted(weights))}.")
    if unknown := sorted(set(weights) - set(wanted)):
        raise InputError(f"{folder / WEIGHTS} has {', '.join(unknown)}, which no {dictionary.kind} dictionary uses.")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise InputError(
                f"{name} in {folder / WEIGHTS} is {list(weight.shape)}; {CONFIG} says {list(wanted[name].shape)}."
            )
        if not bool(weight.isfinite().all()):
            raise InputError(f"{name} in {folder / WEIGHTS} holds NaN or infinite numbers.")
    dictionary.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return dictionary.requires_grad_(False).eval()


def _described(config: dict[str, Any], folder: Path) -> Dictionary:
    """An empty dictionary of the kind that a `cfg.json` describes."""
    where = folder / CONFIG
    config = config if "metadata" in config else _modern(config)
    if config.get("architecture") not in _KINDS:
        raise InputError(f"{where}: architecture {config.get('architecture')!r} is not read; {', '.join(_KINDS)} are.")
    for setting in ("normalize_activations", "reshape_activations"):
        if config.get(setting, "none") != "none":
            raise InputError(
                f"{where}: {setting} is {config[setting]!r}; only dictionaries that take activations as they are can "
                "be read. Fold the normalisation into the weights in SAELens, and save again."
            )
    if config.get("rescale_acts_by_decoder_norm"):
        raise InputError(f"{where}: rescale_acts_by_decoder_norm is set; call fold_W_dec_norm() in SAELens, and save.")
    kind, transcoder = _KINDS[config["architecture"]]
    metadata = dict(config.get("metadata", {}))
    hook, hook_out = metadata.pop("hook_name", None), metadata.pop("hook_name_out", None)
    if hook is None or (transcoder and hook_out is None):
        raise InputError(f"{where} does not say which site is read, or written: hook_name, and hook_name_out.")
    (site, layer), (site_out, layer_out) = _site(hook), _site(hook_out if transcoder else hook)
    try:
        return Dictionary(
            int(config["d_in"]),
            int(config["d_sae"]),
            kind=kind,
            k=config.get("k"),
            site=site,
            layer=layer,
            site_out=site_out,
            layer_out=layer_out,
            d_out=int(config["d_out"]) if transcoder else None,
            centred=not transcoder and bool(config.get("apply_b_dec_to_input", True)),
            model=metadata.pop("model_name", None),
            metadata=metadata,
        )
    except KeyError as error:
        raise InputError(f"{where} does not say {error}.") from None


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """A config of SAELens before version 6, which was flat, in today's form."""
    names = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
    config = {names.get(name, name): value for name, value in config.items()}
    if config.get("activation_fn") == "topk":
        config |= {"architecture": "topk", "k": config.get("activation_fn_kwargs", {}).get("k")}
    about = {name: config[name] for name in ("hook_name", "model_name") if name in config}
    return {"architecture": "standard", **config, "metadata": about}


def _site(hook: str) -> tuple[str, int | None]:
    """Our name of a site, or the hook's own if it is none of ours."""
    try:
        return parse_site(hook)[0]
    except InputError:
        return hook, None


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged ({error}).") from None
    return found


def _place(site: str, layer: int | None) -> str:
    return site if layer is None else f"{site} of layer {layer}"


def _pickled(path: Path) -> InputError:
    return InputError(
        f"{path} holds pickled weights, which can run code and are not read. Load them in the library that wrote them, "
        f"in a place where that is safe, and save them as safetensors: {CONFIG} and {WEIGHTS}."
    )
