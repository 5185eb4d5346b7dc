"""Recordings from and for TransformerLens, nnsight and anybody who has tensors with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.sites import SITE_SHAPES, Site, parse_site, transformer_lens_name
from interpwidgets.tokens import Tokens

if TYPE_CHECKING:
    from interpwidgets.models.recording import Recording

__all__ = ["Cache", "values_of"]

_BY_KEY = ("scores", "pattern")


class Cache(Mapping[str, Tensor]):
    """A recording under TransformerLens' names, as its `ActivationCache` is read.

    >>> cache["blocks.0.hook_resid_pre"], cache["resid_pre", 0], cache["pattern", 3]

    Values are made when they are looked at. q and k are those after the rotary embedding, `hook_rot_q` and
    `hook_rot_k`; where a model has none, the same as `hook_q` and `hook_k`.
    """

    def __init__(self, recording: Recording, sites: Sequence[Site]) -> None:
        self._recording = recording
        names = {site: transformer_lens_name(*site) for site in sites}
        self._sites = {name: site for site, name in names.items() if name is not None}

    def __getitem__(self, key: str | tuple[str, int] | tuple[str, int, str]) -> Tensor:
        if isinstance(key, tuple):
            site, layer = parse_site(key[0], key[1])[0]
        elif key in self._sites:
            site, layer = self._sites[key]
        else:
            raise KeyError(f"{key!r} is not here; there are: {', '.join(self._sites)}.")
        return self._recording[site] if layer is None else self._recording[site, layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return f"Cache({len(self)} activations of {self._recording!r})"


def values_of(given: Mapping[Any, Any], tokens: Sequence[Tokens]) -> dict[Site, Tensor]:
    """Values as they are emitted, [batch, pos, …], of tensors by name or by (site, layer).

    Entries that are no sites of ours are left out. Raises InputError if none is, or shapes do not fit the tokens.
    """
    entries = getattr(given, "cache_dict", given)
    rotary = any(str(name).endswith("hook_rot_q") for name in entries)
    found: dict[Site, Tensor] = {}
    for name, value in entries.items():
        if rotary and str(name).endswith(("attn.hook_q", "attn.hook_k")):
            continue  # ours are those after the rotary embedding
        try:
            site = parse_site(*name)[0] if isinstance(name, tuple) else parse_site(name)[0]
        except InputError:
            continue
        found[site] = _emitted(site, torch.as_tensor(getattr(value, "value", value)).detach(), tokens)
    if not found:
        raise InputError(
            f"None of {[str(name) for name in entries][:5]} … names a site. Name tensors like "
            "('resid_post', 3) or 'blocks.3.hook_resid_post'."
        )
    return found


def _emitted(site: Site, value: Tensor, tokens: Sequence[Tokens]) -> Tensor:
    wanted = SITE_SHAPES[site[0]]
    dims = wanted.count(",") + 1
    value = value[None] if value.ndim == dims - 1 else value  # without its batch
    by_key = site[0] in _BY_KEY
    size = max(map(len, tokens))
    if value.ndim != dims or value.shape[0] != len(tokens) or value.shape[2 if by_key else 1] != size:
        of = site[0] if site[1] is None else f"{site[0]} of layer {site[1]}"
        raise InputError(
            f"{of} is {wanted} with {len(tokens)} prompts of up to {size} tokens; got {list(value.shape)}."
        )
    return value.transpose(1, 2) if by_key else value
