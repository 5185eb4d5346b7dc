"""What attention carries: a pattern weighs positions, and what comes from there is their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.direct import _close as close
from interpwidgets.intervene.direct import _Head as Unembedding
from interpwidgets.intervene.tokens import read_tokens
from interpwidgets.models.model import Model
from interpwidgets.models.record import record
from interpwidgets.models.recording import Recording

__all__ = ["Carried", "carried"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Carried:
    """A factor for each weight of a pattern, computed block by block."""

    values: dict[int, Tensor]  # by layer, [key, head, d_head]
    reads: dict[int, Tensor]  # by layer, what a query's logit reads of a head's z: [query, head, d_head]
    norms: dict[int, Tensor]  # by layer, ‖v · W_O‖: [key, head]

    def factor(self, layer: int, head: int, queries: NDArray[np.int64], keys: slice) -> Floats:
        """What the weights of these queries on these keys are multiplied by: [query or 1, key]."""
        if self.norms:
            return _numbers(self.norms[layer][keys, head])[None]
        read = self.reads[layer][torch.from_numpy(np.ascontiguousarray(queries)), head]
        return _numbers(read @ self.values[layer][keys, head].T)


def carried(rec: Recording, how: str, *, prompt: int = 0, token: Any = None, layers: Sequence[int]) -> Carried:
    """What the weights of a recorded prompt are worth.

    `how="value"`: the length of what a key's value writes to the residual stream, ‖v · W_O‖, so that weight × factor
    is the norm of what moves (Kobayashi et al. 2020, "Attention is not only a weight", §3). `how="logit"`: what it
    adds, at the query's own position, to the logit of `token`, or, if that is None, of the token that comes next; at
    the last position, of the model's first guess. It is the direct path, with the final norm's scale held (Elhage et
    al. 2021, "A mathematical framework for transformer circuits"). Summed over the keys, weight × factor is then the
    head's direct logit attribution, but for biases.

    Raises InputError for a recording without its model, or of a run with interventions that did not keep `v`; and,
    for logits, where a norm stands between a head and the stream.
    """
    model = rec.model
    if not isinstance(model, Model):
        raise InputError(f"{rec!r} does not know its model, which says what values are worth. Make it with record(…).")
    tokens = rec.tokens[prompt]
    assert tokens.ids is not None
    last = model.n_layers - 1
    sites = ["v", "resid_pre", "z", "attn_out"] if how == "logit" else ["v", "resid_pre"]
    own = record(model, [tokens.ids.tolist()], sites=[*sites, *(["resid_post", "logits"] if how == "logit" else [])])
    _check_same(rec, own, prompt, len(tokens))
    values = {layer: _per_head(own["v", layer][0], model, layer) for layer in layers}
    w_o = {layer: model.anatomy.w_o(layer).to(values[layer]) for layer in layers}
    if how == "value":
        return Carried(values, {}, {layer: _written(v, w_o[layer]) for layer, v in values.items()})
    logits, final = own["logits"][0], own["resid_post", last][0]
    wanted = _wanted(model, tokens.ids, token, logits)  # [query]
    one_hot = torch.zeros_like(logits, dtype=torch.float64).scatter_(1, wanted[:, None], 1.0)
    direction, _, _ = Unembedding(model, logits, final).read(one_hot)  # [query, d_model]
    reads = {}
    for layer in layers:
        part = model.anatomy.parts[layer]
        assert part.z is not None
        assert part.attn_out is not None
        with torch.no_grad():
            written = part.z(own["z", layer][0].flatten(-2)) * part.attn_out.scale
        if not close(written, own["attn_out", layer][0], model):
            raise InputError(f"Layer {layer} of {model.name} has a norm between its heads and the stream: show values.")
        scaled = direction.to(w_o[layer]) * part.attn_out.scale
        reads[layer] = torch.einsum("qm,hdm->qhd", scaled, w_o[layer])
    return Carried(values, reads, {})


def _written(v: Tensor, w_o: Tensor) -> Tensor:
    """The lengths [key, head] of what values [key, head, d_head] write to the stream."""
    return torch.stack([(v[:, head] @ w_o[head]).norm(dim=-1) for head in range(v.shape[1])], dim=1)


def _wanted(model: Model, ids: NDArray[np.int64], token: Any, logits: Tensor) -> Tensor:
    """The token whose logit is read at each position; nothing comes after the last one: there, the model's guess."""
    if token is not None:
        return read_tokens(model, token, 1).expand(len(ids)).to(logits.device)
    return torch.cat([torch.from_numpy(ids[1:]).to(logits.device), logits[-1:].argmax(dim=-1)])


def _per_head(v: Tensor, model: Model, layer: int) -> Tensor:
    """Values [key, kv_head, d_head], once for each query head that shares them."""
    heads = model.anatomy.parts[layer].heads
    assert heads is not None
    return v.detach().repeat_interleave(heads // v.shape[1], dim=1)


def _check_same(rec: Recording, own: Recording, prompt: int, length: int) -> None:
    """Refuse a recording whose run was another than the model's own on these tokens."""
    for layer in reversed(rec.layers):
        if ("resid_pre", layer) in rec.values and rec.positions is None:
            kept, plain = rec["resid_pre", layer][prompt, :length], own["resid_pre", layer][0]
            if not torch.allclose(kept.float(), plain.float(), rtol=1e-3, atol=1e-3 * float(plain.abs().max())):
                raise InputError(
                    "This recording is of a run with interventions: what its values were is not known. "
                    "Show the recording of a plain run, record(model, prompt)."
                )
            return


def _numbers(values: Tensor) -> Floats:
    numbers: Floats = values.detach().float().cpu().numpy()
    return numbers
