"""A transformer written out in NumPy and float64, a head, a query and a key at a time: what the package is held to.

It reads the weights of a GPT-2 or a Llama of transformers, runs one prompt, and shows every site to `edit`, whose
answer it goes on with. Values have the position first: [pos, d], [pos, head, d], scores and patterns
[query, head, key].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Edit = Callable[[str, "int | None", Array], Array]
Values = dict[tuple[str, "int | None"], Array]

NORMS = {
    "gpt2": ("ln_1", "ln_2", "transformer.ln_f"),
    "llama": ("input_layernorm", "post_attention_layernorm", "model.norm"),
}


HIDDEN = {"scores": -np.inf, "pattern": 0.0}  # what a masked key has


def past(value: Array, hidden: float) -> Array:
    """A query sees no later key, whatever an edit says."""
    value = value.copy()
    for query in range(len(value)):
        value[query, :, query + 1 :] = hidden
    return value


def keep(site: str, layer: int | None, value: Array) -> Array:
    """The edit that changes nothing."""
    return value


@dataclass(frozen=True)
class Reference:
    kind: str  # "gpt2" or "llama"
    weights: Mapping[str, Array]  # by transformers' names
    n_layers: int
    n_heads: int
    n_kv_heads: int
    eps: float
    theta: float = 10000.0  # of the rotary embedding

    def run(self, ids: Sequence[int], edit: Edit = keep) -> Values:
        """Every site of one prompt."""
        seen: Values = {}

        def at(site: str, layer: int | None, value: Array) -> Array:
            value = edit(site, layer, value)
            seen[site, layer] = value if site not in HIDDEN else past(value, HIDDEN[site])
            return seen[site, layer]

        table = self._w("transformer.wte.weight" if self.kind == "gpt2" else "model.embed_tokens.weight")
        x = at("embed", None, table[list(ids)].copy())
        if self.kind == "gpt2":
            x = x + self._w("transformer.wpe.weight")[: len(ids)]
        for layer in range(self.n_layers):
            x = at("resid_pre", layer, x)
            normed = self._norm(x, layer, 0, lambda scale, layer=layer: at("ln1_scale", layer, scale))
            x = x + at("attn_out", layer, self._attention(normed, layer, at))
            x = at("resid_mid", layer, x)
            normed = self._norm(x, layer, 1, lambda scale, layer=layer: at("ln2_scale", layer, scale))
            x = x + at("mlp_out", layer, self._mlp(normed, layer, at))
            x = at("resid_post", layer, x)
        normed = self._norm(x, None, 2, lambda scale: at("ln_final_scale", None, scale))
        at("logits", None, normed @ (table if self.kind == "gpt2" else self._w("lm_head.weight")).T)
        return seen

    def _w(self, name: str, layer: int | None = None) -> Array:
        block = {"gpt2": "transformer.h", "llama": "model.layers"}[self.kind]
        return self.weights[name if layer is None else f"{block}.{layer}.{name}"]

    def _norm(self, x: Array, layer: int | None, which: int, see: Callable[[Array], Array]) -> Array:
        name = NORMS[self.kind][which]
        if self.kind == "gpt2":
            x = x - x.mean(-1, keepdims=True)
        scale = see(np.sqrt((x**2).mean(-1, keepdims=True) + self.eps))  # [pos, 1]
        normed = x / scale * self._w(f"{name}.weight", layer)
        return normed + self._w(f"{name}.bias", layer) if self.kind == "gpt2" else normed

    def _attention(self, x: Array, layer: int, at: Any) -> Array:
        size = len(x)
        if self.kind == "gpt2":
            fused = x @ self._w("attn.c_attn.weight", layer) + self._w("attn.c_attn.bias", layer)
            q, k, v = (part.reshape(size, self.n_heads, -1) for part in np.split(fused, 3, axis=-1))
        else:
            q, k, v = (
                (x @ self._w(f"self_attn.{name}_proj.weight", layer).T).reshape(size, heads, -1)
                for name, heads in (("q", self.n_heads), ("k", self.n_kv_heads), ("v", self.n_kv_heads))
            )
            q, k = self._rotate(q), self._rotate(k)
        q, k, v = at("q", layer, q), at("k", layer, k), at("v", layer, v)
        group = self.n_heads // self.n_kv_heads
        scores = np.full((size, self.n_heads, size), -np.inf)
        for head in range(self.n_heads):
            for query in range(size):
                for key in range(query + 1):
                    scores[query, head, key] = q[query, head] @ k[key, head // group] / sqrt(q.shape[-1])
        scores = at("scores", layer, scores)
        pattern = np.zeros_like(scores)
        for head in range(self.n_heads):
            for query in range(size):
                weights = np.exp(scores[query, head] - scores[query, head].max())
                pattern[query, head] = weights / weights.sum()
        pattern = at("pattern", layer, pattern)
        z = at("z", layer, np.stack([pattern[:, head] @ v[:, head // group] for head in range(self.n_heads)], 1))
        z = z.reshape(size, -1)
        if self.kind == "gpt2":
            return z @ self._w("attn.c_proj.weight", layer) + self._w("attn.c_proj.bias", layer)
        return z @ self._w("self_attn.o_proj.weight", layer).T

    def _rotate(self, x: Array) -> Array:
        half = x.shape[-1] // 2
        turned = np.empty_like(x)
        for pos in range(len(x)):
            for i in range(half):
                angle = pos * self.theta ** (-i / half)
                cos, sin = np.cos(angle), np.sin(angle)
                turned[pos, :, i] = x[pos, :, i] * cos - x[pos, :, i + half] * sin
                turned[pos, :, i + half] = x[pos, :, i + half] * cos + x[pos, :, i] * sin
        return turned

    def _mlp(self, x: Array, layer: int, at: Any) -> Array:
        if self.kind == "gpt2":
            pre = at("mlp_pre", layer, x @ self._w("mlp.c_fc.weight", layer) + self._w("mlp.c_fc.bias", layer))
            post = at("mlp_post", layer, 0.5 * pre * (1 + np.tanh(sqrt(2 / pi) * (pre + 0.044715 * pre**3))))
            return post @ self._w("mlp.c_proj.weight", layer) + self._w("mlp.c_proj.bias", layer)
        gate = at("mlp_pre", layer, x @ self._w("mlp.gate_proj.weight", layer).T)
        post = at("mlp_post", layer, gate / (1 + np.exp(-gate)) * (x @ self._w("mlp.up_proj.weight", layer).T))
        return post @ self._w("mlp.down_proj.weight", layer).T
