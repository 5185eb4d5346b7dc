"""Sparse dictionaries: what a model holds at a site, written as few of many features; transcoders from site to site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.models.fingerprint import fingerprint
from interpwidgets.models.record import check_site
from interpwidgets.models.sites import SITES
from interpwidgets.models.splice import read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from interpwidgets.models.model import Model
    from interpwidgets.models.sites import Site

__all__ = ["Dictionary", "Kind", "Normalise"]

Kind = Literal["relu", "topk", "jumprelu", "gated", "wrapped"]
Normalise = Literal["none", "constant_norm_rescale", "layer_norm"]

_SAID = {"relu": "ReLU", "jumprelu": "JumpReLU", "gated": "gated", "wrapped": "wrapped"}


class Dictionary(nn.Module):
    """Features of a site of a model: `encode` finds the few that are active, `decode` adds up their directions.

    - `W_enc` [d_in, d_dict], `b_enc` [d_dict], `W_dec` [d_dict, d_out], `b_dec` [d_out]
    - kind "relu"; "topk": the `k` largest; "jumprelu": those above their `threshold` [d_dict]; "gated" (Rajamanoharan
      et al. 2024a): those whose gate is open, `b_gate`, `b_mag`, `r_mag` [d_dict] in the place of `b_enc`. BatchTopK
      and Matryoshka dictionaries are "jumprelu" once they are trained
    - `site`, `layer`: what is read; `site_out`, `layer_out`: what is written, another place if it is a transcoder. A
      crosscoder reads and writes several `layers`, side by side in one row; `reads` and `writes` list all places
    - `centred`: whether `b_dec` is subtracted from what is read
    - `normalise`: what is done to each row that is read, and undone in what is written, as SAELens names it
    - `W_skip` [d_out, d_in] if there is a `skip`: what is read goes straight to what is written as well

    It takes what the model has at the site as it is: a dictionary trained on normalised activations has the factor
    folded into its weights, and says which in `metadata["activation_scale"]`. Of site "z" it takes [..., head, d_head]
    or all heads in one row.
    """

    W_enc: Tensor
    W_dec: Tensor
    W_skip: Tensor
    b_enc: Tensor
    b_dec: Tensor
    b_gate: Tensor
    b_mag: Tensor
    r_mag: Tensor
    threshold: Tensor

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
        normalise: Normalise = "none",
        skip: bool = False,
        layers: Sequence[int] | None = None,
        layers_out: Sequence[int] | None = None,
        model: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if kind == "topk" and not (isinstance(k, int) and 0 < k <= d_dict):
            raise InputError(f"A TopK dictionary of {d_dict} features needs k between 1 and {d_dict}; got {k!r}.")
        self.kind, self.k = kind, k if kind == "topk" else None
        self.site, self.layer = site, layer
        self.site_out, self.layer_out = site_out or site, layer if layer_out is None else layer_out
        self.layers = tuple(layers) if layers else None
        self.layers_out = tuple(layers_out) if layers_out else self.layers if self.site_out == site else None
        self.centred = not self.transcoder if centred is None else centred
        self.normalise = normalise
        self.model, self.metadata = model, dict(metadata or {})
        d_out = d_out or d_in
        if self.centred and d_out != d_in:
            raise InputError(f"b_dec has {d_out} numbers and cannot be subtracted from {d_in}: centred=False.")
        self._weights(d_in, d_dict, d_out, skip)

    def _weights(self, d_in: int, d_dict: int, d_out: int, skip: bool) -> None:
        self.W_enc = nn.Parameter(torch.zeros(d_in, d_dict))
        self.W_dec = nn.Parameter(torch.zeros(d_dict, d_out))
        for name in ("b_gate", "b_mag", "r_mag") if self.kind == "gated" else ("b_enc",):
            self.register_parameter(name, nn.Parameter(torch.zeros(d_dict)))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        if self.kind == "jumprelu":
            self.threshold = nn.Parameter(torch.zeros(d_dict))
        if skip:
            self.W_skip = nn.Parameter(torch.zeros(d_out, d_in))

    @staticmethod
    def wrap(
        encode: Any,
        decode: Callable[[Tensor], Tensor] | None = None,
        W_dec: Tensor | None = None,  # noqa: N803  as the field writes it
        *,
        site: str,
        layer: int | None,
        site_out: str | None = None,
        layer_out: int | None = None,
        d_in: int | None = None,
        model: str | None = None,
    ) -> Dictionary:
        """Make a dictionary of two functions and the directions [d_dict, d_out], or of an object that has all three.

        >>> Dictionary.wrap(encode, decode, W_dec, site="resid_post", layer=8)
        >>> Dictionary.wrap(sae, site="resid_post", layer=8)      # sae.encode, sae.decode, sae.W_dec

        `encode` takes [..., d_in] to [..., d_dict]; d_in is d_out unless it is given.
        """
        from interpwidgets.models.wrapped import Wrapped

        return Wrapped(
            encode,
            decode,
            W_dec,
            d_in=d_in,
            site=site,
            layer=layer,
            site_out=site_out,
            layer_out=layer_out,
            model=model,
        )

    @property
    def d_in(self) -> int:
        """How wide what is read is."""
        return self.W_enc.shape[0]

    @property
    def d_dict(self) -> int:
        """How many features there are."""
        return self.W_dec.shape[0]

    @property
    def d_out(self) -> int:
        """How wide what is written is."""
        return self.W_dec.shape[1]

    @property
    def transcoder(self) -> bool:
        """Whether it writes to another place than it reads."""
        return (self.site_out, self.layer_out) != (self.site, self.layer)

    @property
    def skip(self) -> bool:
        """Whether what is read goes straight to what is written as well."""
        return hasattr(self, "W_skip")

    @property
    def reads(self) -> tuple[Site, ...]:
        """Every place that is read; of several, the activations stand side by side in one row."""
        return tuple((self.site, layer) for layer in self.layers or (self.layer,))

    @property
    def writes(self) -> tuple[Site, ...]:
        """Every place that is written, side by side in one row."""
        return tuple((self.site_out, layer) for layer in self.layers_out or (self.layer_out,))

    @property
    def fingerprint(self) -> str:
        """Sixteen letters for everything that is computed: the weights, the kind, what is read and written."""
        how = [self.kind, self.k, self.centred, self.normalise, self.reads, self.writes]
        return fingerprint(self.state_dict(), how)

    def check(self, model: Model) -> None:
        """Raise InputError unless the model has the sites that are read and written, as wide as they are here.

        A dictionary that knows the fingerprint of its model, as those trained here do, is held to it.
        """
        trained_on = self.metadata.get("model_fingerprint")
        if trained_on is not None and trained_on != model.fingerprint:
            raise InputError(
                f"{self!r} was trained on a model of fingerprint {trained_on}; {model.name} has {model.fingerprint}. "
                "Load the weights that it was trained on; or, to use it all the same, delete "
                "metadata['model_fingerprint']."
            )
        for width, places in ((self.d_in, self.reads), (self.d_out, self.writes)):
            if (has := sum(self.found_in(model, places))) != width:
                on = " and ".join(_place(*place) for place in places)
                raise InputError(f"{self!r} has {width} numbers a position on {on}; {model.name} has {has}.")

    def found_in(self, model: Model, places: Sequence[Site]) -> list[int]:
        """How wide what a model has at some places is; InputError if it has not all of them."""
        for site, layer in places:
            if site not in SITES:
                raise InputError(f"{self!r} is on {site!r}, which is no site. There are: {', '.join(SITES)}.")
            check_site(model, site, layer)
        word = int(getattr(model.config, "pad_token_id", None) == 0)  # any token but the one for padding
        found = read(model, torch.full((1, 2), word, device=model.device), places)
        return [found[place].shape[2:].numel() for place in places]

    def before(self, x: Tensor) -> Tensor:
        """Give the features [..., d_dict] of x [..., d_in] before it is decided which are active."""
        x = self._scaled(self._row(x))[0]
        return (x - self.b_dec if self.centred else x) @ self.W_enc + (
            self.b_gate if self.kind == "gated" else self.b_enc
        )

    def active(self, before: Tensor) -> Tensor:
        """Keep the features [..., d_dict] that are active, and zero for the others."""
        if self.kind == "jumprelu":
            return before.relu() * (before > self.threshold)
        if self.kind == "gated":
            magnitude = (before - self.b_gate) * self.r_mag.exp() + self.b_mag
            return magnitude.relu() * (before > 0)
        if self.kind == "topk":
            values, which = self.largest(before)
            return torch.zeros_like(before).scatter(-1, which, values.relu())
        return before.relu()

    def largest(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Of a TopK dictionary the k largest of [..., d_dict], and which features they are: [..., k], in no order."""
        assert self.k is not None
        values, which = before.topk(self.k, dim=-1, sorted=False)
        return values, which

    def encode(self, x: Tensor) -> Tensor:
        """Find how active each feature is: [..., d_in] to [..., d_dict], most of it zero."""
        return self.active(self.before(x))

    def decode(self, features: Tensor, x: Tensor | None = None) -> Tensor:
        """Add up the directions of active features: [..., d_dict] to [..., d_out].

        Where there is a skip, or rows are normalised, it takes what was read, x, as well: else InputError.
        """
        y = features @ self.W_dec + self.b_dec
        undone = self.normalise != "none" and not self.transcoder
        if not (undone or self.skip):
            return y
        if x is None:
            why = "has a skip" if self.skip else f"normalises what it reads ({self.normalise})"
            raise InputError(f"{self!r} {why}, so features alone do not tell what it writes: decode(features, x).")
        x = self._row(x)
        if undone:
            _, mean, scale = self._scaled(x)
            y = y * scale + mean
        return y + x @ self.W_skip.T if self.skip else y

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct x, or of a transcoder: what is written where x is read."""
        y = self.decode(self.encode(x), x)
        return y.reshape(x.shape) if self.site == "z" and not self.transcoder else y

    def _row(self, x: Tensor) -> Tensor:
        """What is read as rows [..., d_in]: of "z", the heads side by side."""
        if self.site == "z" and x.shape[-1] != self.d_in and x.ndim > 1:
            x = x.flatten(-2)
        if x.shape[-1] != self.d_in:
            raise InputError(
                f"{self!r} reads {self.d_in} numbers a position; got {list(x.shape)}. Is it of this model and site?"
            )
        return x

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """Rows as they are encoded, and the mean and scale that were taken from them."""
        if self.normalise == "constant_norm_rescale":
            scale = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
            return x / scale, 0.0, scale
        if self.normalise == "layer_norm":
            mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
            return (x - mean) / (deviation + 1e-5), mean, deviation  # SAELens does not multiply by its epsilon again
        return x, 0.0, 1.0

    @torch.no_grad()
    def folded(self) -> Dictionary:
        """Give the same dictionary with directions of length one: features grow by what their directions lose.

        Features can then be compared by how active they are. Raises InputError for TopK with directions of different
        lengths, where it would change which k are the largest.
        """
        lengths = self.W_dec.norm(dim=1)
        lengths = torch.where(lengths > 0, lengths, 1.0)
        if self.kind == "wrapped":
            raise InputError(f"{self!r} is made of functions, which cannot be folded: scale what they give.")
        if self.kind == "topk" and not torch.allclose(lengths, lengths[:1], rtol=1e-3):
            raise InputError(
                f"The directions of {self!r} have lengths from {float(lengths.min()):.3g} to "
                f"{float(lengths.max()):.3g}: with length one, other features would be the {self.k} largest."
            )
        scaled = ("W_enc", "b_enc", "b_gate", "b_mag", "threshold")
        one = self._like(dict(self.metadata) | {"decoder_norm_folded": True})
        for name, weight in one.state_dict().items():
            given = self.state_dict()[name]
            weight.copy_(given * lengths if name in scaled else given / lengths[:, None] if name == "W_dec" else given)
        return one.requires_grad_(False).eval()

    def _like(self, metadata: dict[str, Any]) -> Dictionary:
        return Dictionary(
            self.d_in, self.d_dict, kind=self.kind, site=self.site, layer=self.layer, k=self.k, site_out=self.site_out,
            layer_out=self.layer_out, d_out=self.d_out, centred=self.centred, normalise=self.normalise, skip=self.skip,
            layers=self.layers, layers_out=self.layers_out, model=self.model, metadata=metadata,
        )  # fmt: skip

    def save(
        self,
        folder: str | Path,
        dtype: torch.dtype = torch.float32,
        layout: Literal["saelens", "dictionary_learning"] = "saelens",
    ) -> None:
        """Write it as SAELens reads it (`cfg.json`, `sae_weights.safetensors`), or in dictionary_learning's layout.

        The latter is `config.json` and `ae.safetensors`, with the names of the tensors that `ae.pt` has there; its
        JumpReLU and gated dictionaries count features along directions of length one, so those are `folded`. Raises
        InputError where the layout has no place for it.
        """
        from interpwidgets.models.layouts import dictionary_learning, saelens

        layouts: dict[str, Any] = {"saelens": saelens, "dictionary_learning": dictionary_learning}
        if layout not in layouts:
            raise InputError(f"There is no layout {layout!r} to save in. There are: {', '.join(layouts)}.")
        if self.kind == "wrapped":
            raise InputError(f"{self!r} is made of functions, which no layout holds: save it where it comes from.")
        layouts[layout].write(self, folder, dtype)

    def __repr__(self) -> str:
        sparsity = f"TopK (k = {self.k})" if self.kind == "topk" else _SAID[self.kind]
        place = _places(self.reads)
        way = f"from {place} to {_places(self.writes)}" if self.transcoder else f"on {place}"
        of = f" of {self.model}" if self.model else ""
        what = "transcoder" if self.transcoder else "crosscoder" if self.layers else "dictionary"
        widths = f"{self.d_in} → {self.d_dict} → {self.d_out}"
        return (
            f"<{what} of {self.d_dict} features {way}{of}: {sparsity}{' with a skip' if self.skip else ''}, {widths}>"
        )


def _places(places: tuple[Site, ...]) -> str:
    if len(places) == 1:
        return _place(*places[0])
    return f"{places[0][0]} of layers {', '.join(str(layer) for _, layer in places)}"


def _place(site: str, layer: int | None) -> str:
    return site if layer is None else f"{site} of layer {layer}"
