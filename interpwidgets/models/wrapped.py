"""Dictionaries that are somebody else's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Wrapped"]

_PROBES = 8  # rows that a fingerprint knows an encoder by


class Wrapped(Dictionary):
    """A dictionary that asks `encode` and `decode`, and has their directions `W_dec`. See `Dictionary.wrap`."""

    def __init__(
        self,
        encode: Any,
        decode: Callable[[Tensor], Tensor] | None,
        directions: Any,
        *,
        d_in: int | None,
        site: str,
        layer: int | None,
        site_out: str | None,
        layer_out: int | None,
        model: str | None,
    ) -> None:
        nn.Module.__init__(self)
        if decode is None and directions is None:
            if missing := [name for name in ("encode", "decode", "W_dec") if not hasattr(encode, name)]:
                raise InputError(f"A {type(encode).__name__} has no {' and no '.join(missing)}: give what is missing.")
            encode, decode, directions = encode.encode, encode.decode, encode.W_dec
        if not callable(encode) or not callable(decode) or directions is None:
            raise InputError("Wrapping takes two functions, encode and decode, and W_dec [d_dict, d_out].")
        given = torch.as_tensor(directions).detach()
        if given.ndim != 2 or not bool(given.isfinite().all()):
            raise InputError(f"W_dec is [d_dict, d_out], all of it finite; got {list(given.shape)}.")
        self._encode, self._decode = encode, decode
        self.register_buffer("W_dec", given)
        self.kind, self.k, self.centred, self.normalise = "wrapped", None, False, "none"
        self.site, self.layer, self.layers, self.layers_out = site, layer, None, None
        self.site_out, self.layer_out = site_out or site, layer if layer_out is None else layer_out
        self.model, self.metadata = model, {}
        self._d_in = d_in or self.d_out
        features = self.encode(torch.zeros(1, self.d_in, dtype=given.dtype, device=given.device))
        if features.shape != (1, self.d_dict):
            raise InputError(
                f"encode takes [1, {self.d_in}] to {list(features.shape)}; W_dec has {self.d_dict} features."
            )

    @property
    def d_in(self) -> int:
        """How wide what is read is."""
        return self._d_in

    @property
    def fingerprint(self) -> str:
        """Sixteen letters for the directions, and for what the encoder makes of a few random rows."""
        rows = torch.randn(_PROBES, self.d_in, generator=torch.Generator().manual_seed(0)).to(self.W_dec)
        with torch.no_grad():
            features = self.encode(rows)
        return fingerprint({"W_dec": self.W_dec, "features": features}, [self.reads, self.writes])

    def before(self, x: Tensor) -> Tensor:
        """Raise InputError: functions do not tell what they decide by."""
        raise InputError(f"{self!r} is made of functions, which do not tell what is there before features are active.")

    def encode(self, x: Tensor) -> Tensor:
        """Find how active each feature is: [..., d_in] to [..., d_dict]."""
        features: Tensor = self._encode(self._row(x))
        return features

    def decode(self, features: Tensor, x: Tensor | None = None) -> Tensor:
        """Add up the directions of active features: [..., d_dict] to [..., d_out]."""
        return self._decode(features)
