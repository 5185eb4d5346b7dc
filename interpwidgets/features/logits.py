"""What a feature's direction adds to the logits, and what taking it away does to them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interpwidgets.features.corpus import Corpus
from interpwidgets.features.state import BEFORE, WINDOW
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.models.splice import replaced

__all__ = ["ablated", "folding", "to_logits"]

_STATES = ("embed", "resid_pre", "resid_mid", "resid_post")


@torch.no_grad()
def to_logits(model: Model, dictionary: Dictionary) -> Tensor | None:
    """The map [d_out, vocabulary] from what the dictionary writes to the logits; None where there is none.

    Of the final norm, the weight and the centring are in it, and its division by the scale is not: a direction's
    logits are those of one unit of activation at a scale of 1. Layers in between are passed by.
    """
    unembed = model.anatomy.unembed
    if not isinstance(unembed, nn.Linear):
        return None
    found = unembed.weight.float().T  # [d_model, vocabulary]
    if model.anatomy.ln_final is not None:
        weight, centres = folding(model.anatomy.ln_final, found)
        found = found * weight[:, None]
        found = found - found.mean(0) if centres else found
    parts = [_from(model, site, layer, found) for site, layer in dictionary.writes]
    if any(part is None for part in parts):
        return None
    if dictionary.site_out in _STATES:  # what it says of a later layer holds what it says of an earlier one
        parts[:-1] = [torch.zeros_like(found) for _ in parts[:-1]]
    return torch.cat([part for part in parts if part is not None])


def _from(model: Model, site: str, layer: int | None, found: Tensor) -> Tensor | None:
    """The map from a site's numbers to the logits."""
    if site == "mlp_post" and layer is not None:
        return model.anatomy.w_out(layer).to(found) @ found
    if site == "z" and layer is not None:
        return model.anatomy.w_o(layer).flatten(0, 1).to(found) @ found
    return found if site in (*_STATES, "attn_out", "mlp_out") else None


def folding(norm: nn.Module, like: Tensor) -> tuple[Tensor, bool]:
    """A norm's weight, and whether it subtracts the mean, told from what it does to a vector of ±1."""
    signs = torch.ones(len(like), dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    kind = next(norm.parameters(), like).dtype
    one, other = (norm((sign * signs).to(kind)[None, None])[0, 0].to(like) for sign in (1, -1))
    ones = torch.ones_like(signs)
    flat = (norm(ones.to(kind)[None, None]) - norm(-ones.to(kind)[None, None]))[0, 0]
    return (one - other) / 2 * signs, bool(flat.abs().max() < 1e-2 * (one - other).abs().max())


@torch.no_grad()
def ablated(
    model: Model, dictionary: Dictionary, corpus: Corpus, feature: int, tokens: NDArray[np.int64]
) -> NDArray[np.float16]:
    """How the log-probability of each token around the given ones changes without a feature: [token, WINDOW], nats.

    0 at the first token of a context and beyond its ends. The feature is taken away at every position.
    """
    (reads,), (writes,) = dictionary.reads, dictionary.writes

    def without(here: Tensor, there: Tensor) -> Tensor:
        features = dictionary.encode(here)
        others = features.clone()
        others[..., feature] = 0
        part = dictionary.decode(features, here) - dictionary.decode(others, here)
        return there - part.view(there.shape)

    found = np.zeros((len(tokens), WINDOW), dtype="<f2")
    for row, token in enumerate(tokens.tolist()):
        context = int(np.searchsorted(corpus.starts, token, side="right")) - 1
        ids = torch.from_numpy(corpus[context].astype(np.int64))[None].to(model.device)
        clean, changed = (
            replaced(model, ids, reads, writes, change)[0, :-1].float().log_softmax(-1)
            for change in (lambda _, there: there, without)
        )
        change = (changed - clean).gather(-1, ids[0, 1:, None])[:, 0].cpu().numpy()  # [pos − 1], of tokens from 1 on
        at = token - int(corpus.starts[context]) - BEFORE - 1  # in `change`, of the window's first token
        first, last = max(at, 0), min(at + WINDOW, len(change))
        found[row, first - at : last - at] = change[first:last]
    return found
