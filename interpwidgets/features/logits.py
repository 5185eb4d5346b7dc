"""What a feature's direction adds to the logits, and what taking it away does to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interpwidgets.features.corpus import Corpus
from interpwidgets.features.state import BEFORE, WINDOW
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model
from interpwidgets.models.record import forward
from interpwidgets.models.tape import Tape
from interpwidgets.models.tokenize import Batch

__all__ = ["ablated", "to_logits"]

_STREAMS = ("embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@torch.no_grad()
def to_logits(model: Model, dictionary: Dictionary) -> Tensor | None:
    """The map [d_out, vocabulary] from what the dictionary writes to the logits; None where there is none.

    Of the final norm, the weight and the centring are in it, and its division by the scale is not: a direction's
    logits are those of one unit of activation at a scale of 1. Layers in between are passed by.
    """
    unembed, layer = model.anatomy.unembed, dictionary.layer_out
    if not isinstance(unembed, nn.Linear):
        return None
    through: Tensor | None = None
    if dictionary.site_out == "mlp_post" and layer is not None:
        through = model.anatomy.w_out(layer)
    elif dictionary.site_out == "z" and layer is not None:
        through = model.anatomy.w_o(layer).flatten(0, 1)
    elif dictionary.site_out not in _STREAMS:
        return None
    found = unembed.weight.float().T  # [d_model, vocabulary]
    if model.anatomy.ln_final is not None:
        weight, centres = _norm(model.anatomy.ln_final, found)
        found = found * weight[:, None]
        found = found - found.mean(0) if centres else found
    if through is not None:
        found = through.to(found) @ found
    return found if len(found) == dictionary.d_out else None


def _norm(norm: nn.Module, like: Tensor) -> tuple[Tensor, bool]:
    """A norm's weight, and whether it subtracts the mean, told from what it does to a vector of ±1."""
    signs = torch.ones(len(like), dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    kind = next(norm.parameters(), like).dtype
    one, other = (norm((sign * signs).to(kind)[None, None])[0, 0].to(like) for sign in (1, -1))
    ones = torch.ones_like(signs)
    flat = (norm(ones.to(kind)[None, None]) - norm(-ones.to(kind)[None, None]))[0, 0]
    return (one - other) / 2 * signs, bool(flat.abs().max() < 1e-2 * (one - other).abs().max())


class _Without(Tape):
    """Takes a feature's part from what is written."""

    def __init__(self, dictionary: Dictionary, feature: int) -> None:
        self.dictionary, self.feature = dictionary, feature
        self.reads = (dictionary.site, dictionary.layer)
        self.writes = (dictionary.site_out, dictionary.layer_out)

    def hears(self, site: str, layer: int | None) -> bool:
        return (site, layer) in (self.reads, self.writes)

    def emit(self, site: str, layer: int | None, value: Tensor) -> Tensor:
        if (site, layer) == self.reads:
            rows = value.flatten(2) if value.ndim == 4 else value
            self.strength = self.dictionary.encode(rows.to(self.dictionary.W_enc.dtype))[..., self.feature, None]
        if (site, layer) != self.writes:
            return value
        part = (self.strength * self.dictionary.W_dec[self.feature]).to(value.dtype)
        return value - part.view(value.shape)


@torch.no_grad()
def ablated(model: Model, dictionary: Dictionary, corpus: Corpus, feature: int, tokens: Sequence[int]) -> Tensor:
    """How the log-probability of each token around the given ones changes without a feature: [token, WINDOW], nats.

    0 at the first token of a context and beyond its ends. The feature is taken away at every position.
    """
    found = torch.zeros(len(tokens), WINDOW)
    for row, token in enumerate(tokens):
        context = int(corpus.starts.searchsorted(token, side="right")) - 1
        ids = torch.from_numpy(corpus[context].astype("int64"))[None].to(model.device)
        if ids.shape[1] < 2:
            continue
        clean, without = (_log_probs(model, ids, tape) for tape in (Tape(), _Without(dictionary, feature)))
        change = (without - clean).float().cpu()  # [pos − 1], of the tokens from 1 on
        at = token - int(corpus.starts[context]) - BEFORE - 1  # in `change`, of the window's first token
        first, last = max(at, 0), min(at + WINDOW, len(change))
        found[row, first - at : last - at] = change[first:last]
    return found


def _log_probs(model: Model, ids: Tensor, tape: Tape) -> Tensor:
    logits = forward(model, Batch([], {"input_ids": ids}), tape, logits=True)
    assert logits is not None
    return logits[0, :-1].float().log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
