"""The places inside a transformer that can be read and written, by their names in the field.

A site is a name and, for most, a layer: `("resid_pre", 3)`. TransformerLens' names are understood as well:
`"blocks.3.hook_resid_pre"`. Its hooks inside the norms that give the normalised stream are no sites of ours.
"""

from __future__ import annotations

import re

from interpwidgets.errors import InputError

__all__ = ["BY_KEY", "LAYERLESS", "PER_HEAD", "SITES", "SITE_SHAPES", "parse_site", "transformer_lens_name"]

Site = tuple[str, int | None]

SITE_SHAPES = {
    "embed": "[batch, pos, d_model]",
    "resid_pre": "[batch, pos, d_model]",
    "ln1_scale": "[batch, pos, 1]",
    "q": "[batch, pos, head, d_head]",
    "k": "[batch, pos, kv_head, d_head]",
    "v": "[batch, pos, kv_head, d_head]",
    "scores": "[batch, head, query, key]",
    "pattern": "[batch, head, query, key]",
    "lse": "[batch, head, query]",
    "z": "[batch, pos, head, d_head]",
    "attn_out": "[batch, pos, d_model]",
    "resid_mid": "[batch, pos, d_model]",
    "ln2_scale": "[batch, pos, 1]",
    "mlp_pre": "[batch, pos, d_mlp]",
    "mlp_post": "[batch, pos, d_mlp]",
    "mlp_out": "[batch, pos, d_model]",
    "resid_post": "[batch, pos, d_model]",
    "ln_final_scale": "[batch, pos, 1]",
    "logits": "[batch, pos, vocabulary]",
}
"""Every site and the shape of what is read there, in the order in which a block computes them."""

SITES = tuple(SITE_SHAPES)
LAYERLESS = frozenset({"embed", "ln_final_scale", "logits"})
PER_HEAD = frozenset({"q", "k", "v", "scores", "pattern", "lse", "z"})
BY_KEY = ("scores", "pattern")  # emitted as [batch, query, head, key], shown as [batch, head, query, key]
_TOGETHER = {"ln_scale": ("ln1_scale", "ln2_scale")}

_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "ln1.hook_scale": "ln1_scale",
    "ln2.hook_scale": "ln2_scale",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.hook_rot_q": "q",
    "attn.hook_rot_k": "k",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    "attn.hook_z": "z",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_post",
}
_TRANSFORMER_LENS_LAYERLESS = {"hook_embed": "embed", "ln_final.hook_scale": "ln_final_scale"}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def parse_site(given: str, layer: int | None = None) -> list[Site]:
    """The site, or the sites, that a name stands for; a layer in a TransformerLens name wins over `layer`."""
    if given in SITE_SHAPES:
        return [(given, None if given in LAYERLESS else layer)]
    if given in _TOGETHER:
        return [(name, layer) for name in _TOGETHER[given]]
    if given in _TRANSFORMER_LENS_LAYERLESS:
        return [(_TRANSFORMER_LENS_LAYERLESS[given], None)]
    if (match := _BLOCK.fullmatch(str(given))) and match[2] in _TRANSFORMER_LENS:
        return [(_TRANSFORMER_LENS[match[2]], int(match[1]))]
    if given in _TRANSFORMER_LENS:
        return [(_TRANSFORMER_LENS[given], layer)]
    raise InputError(f"There is no site {given!r}. There are: {', '.join(SITES)}.")


def transformer_lens_name(site: str, layer: int | None) -> str | None:
    """What TransformerLens calls a site; None where it has no such hook."""
    for theirs, ours in _TRANSFORMER_LENS_LAYERLESS.items():
        if ours == site:
            return theirs
    for theirs, ours in _TRANSFORMER_LENS.items():
        if ours == site:
            return f"blocks.{layer}.{theirs}"
    return None
