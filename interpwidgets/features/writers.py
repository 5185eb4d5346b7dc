"""What writes to the residual stream: tokens by their embeddings, heads by W_O, neurons by W_out."""

from __future__ import annotations

import torch
from torch import Tensor

from interpwidgets.models.model import Model
from interpwidgets.models.splice import read
from interpwidgets.models.tape import lacks

__all__ = ["Writers", "some_tokens"]


class Writers:
    """The directions that parts of a model write along, as long as one unit of each makes them.

    Held to a pass over three tokens: what heads and neurons give has to be what is added to the stream. `untold` says
    of which parts that is not so, and why.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.untold = model, dict[str, str]()
        parts = model.anatomy.parts
        heads = [layer for layer, part in enumerate(parts) if part.attention is not None]
        neurons = [layer for layer, part in enumerate(parts) if part.mlp_out is not None]
        self.heads = [layer for layer in heads if self._has("heads", layer, "z", "attn_out")]
        self.neurons = [layer for layer in neurons if self._has("neurons", layer, "mlp_post", "mlp_out")]
        self._hold()

    def _has(self, what: str, layer: int, *sites: str) -> bool:
        why = next((why for site in sites if (why := lacks(self.model.anatomy.parts[layer], site))), None)
        if why:
            self.untold[f"what the {what} of layer {layer} write"] = why
        return why is None

    @torch.no_grad()
    def _hold(self) -> None:
        """Leave out what does not reach the stream as it is."""
        model, parts = self.model, self.model.anatomy.parts
        tokens = some_tokens(model, 3)
        sites = [(site, layer) for layer in self.heads for site in ("z", "attn_out")]
        sites += [(site, layer) for layer in self.neurons for site in ("mlp_post", "mlp_out")]
        found = read(model, tokens, [("resid_pre", 0), *sites])
        off = 1e-3 if model.module.dtype in (torch.float32, torch.float64) else 3e-2

        def same(a: Tensor, b: Tensor) -> bool:
            return float((a - b).norm()) <= off * float(b.norm())

        def reaches(what: str, layer: int) -> bool:
            part = parts[layer]
            last, write, (given, site) = (part.z, part.attn_out, ("z", "attn_out")) if what == "heads" else (
                part.down, part.mlp_out, ("mlp_post", "mlp_out"))  # fmt: skip
            assert last is not None
            assert write is not None
            into = found[given, layer]
            made = last(into.flatten(-2) if what == "heads" else into) * write.scale
            if not same(made, found[site, layer]):
                self.untold[f"what the {what} of layer {layer} write"] = "a norm stands between them and the stream."
                return False
            return True

        self.heads = [layer for layer in self.heads if reaches("heads", layer)]
        self.neurons = [layer for layer in self.neurons if reaches("neurons", layer)]
        rows, start = model.anatomy.embed(tokens)[:, 0], found["resid_pre", 0][:, 0]
        self.tokens = same(start[1:] - start[0], rows[1:] - rows[0])
        if not self.tokens:
            self.untold["what the tokens write"] = "their embeddings do not enter the stream as they are."

    def w_o(self, layer: int) -> Tensor:
        """What heads write a unit: [head, d_head, d_model]."""
        write = self.model.anatomy.parts[layer].attn_out
        return self.model.anatomy.w_o(layer).float() * (write.scale if write else 1)

    def w_out(self, layer: int) -> Tensor:
        """What neurons write a unit: [neuron, d_model]."""
        write = self.model.anatomy.parts[layer].mlp_out
        return self.model.anatomy.w_out(layer).float() * (write.scale if write else 1)


def some_tokens(model: Model, count: int) -> Tensor:
    """Different tokens, none of them for padding: [row, 1]."""
    padding = getattr(model.config, "pad_token_id", None)
    ids = [token for token in range(count + 1) if token != padding][:count]
    return torch.tensor(ids, device=model.device)[:, None]
