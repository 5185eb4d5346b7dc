"""GPT-2 written out in forty lines: the oracle of exercises about patching, which shares nothing with what they teach.

there, here = forward(model, clean), forward(model, corrupted)
seen = forward(model, corrupted, replaced(("z", 1), there["z", 1], head=2))
difference(model, seen, right, wrong)                        # [prompt]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from interpwidgets.models import Model

__all__ = ["Change", "Seen", "difference", "forward", "ids_of", "knows", "replaced"]

Seen: TypeAlias = dict[Any, Any]  # tensors by (site, layer), and the logits
Change: TypeAlias = Callable[[str, int, Any], Any]  # (site, layer, value) to what goes on in its place


def forward(model: Model, prompts: Sequence[str], change: Change | None = None) -> Seen:
    """Run prompts of one length: resid_pre, q, k, v, pattern, z, mlp_out, resid_post by (site, layer), and logits.

    Heads have an axis of their own, as in a recording; q, k, v and z are [prompt, pos, head, d_head].
    """
    import torch

    module: Any = model.module
    core, heads = module.transformer, model.n_heads
    tokens = torch.tensor([model.tokenizer(prompt)["input_ids"] for prompt in prompts])  # [prompt, pos]
    seen: Seen = {}

    def at(site: str, layer: int, value: Any) -> Any:
        seen[site, layer] = value = change(site, layer, value) if change else value
        return value

    with torch.no_grad():
        size = tokens.shape[1]
        later = torch.ones(size, size, dtype=torch.bool).triu(1)
        stream = core.wte(tokens) + core.wpe(torch.arange(size))  # [prompt, pos, d_model]
        for i, block in enumerate(core.h):
            stream = at("resid_pre", i, stream)
            projected = block.attn.c_attn(block.ln_1(stream)).unflatten(-1, (3, heads, -1))
            q, k, v = (at(site, i, value) for site, value in zip("qkv", projected.unbind(2), strict=True))
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
            pattern = at("pattern", i, scores.masked_fill(later, -torch.inf).softmax(-1))
            z = at("z", i, torch.einsum("bhqk,bkhd->bqhd", pattern, v))
            stream = stream + block.attn.c_proj(z.flatten(2))
            stream = stream + at("mlp_out", i, block.mlp(block.ln_2(stream)))
            stream = at("resid_post", i, stream)
        seen["logits"] = module.lm_head(core.ln_f(stream))  # [prompt, pos, vocab]
    return seen


def replaced(place: tuple[str, int], values: Any, head: Any = slice(None), pos: Any = slice(None)) -> Change:
    """A change that puts `values` at one (site, layer), all of it or some heads and positions."""

    def change(site: str, layer: int, value: Any) -> Any:
        if (site, layer) != place:
            return value
        where = (slice(None), pos, head) if value.ndim == 4 else (slice(None), pos)
        value = value.clone()
        value[where] = values[where]
        return value

    return change


def ids_of(model: Model, words: Sequence[str]) -> list[int]:
    """The token id of each word."""
    found: list[int] = model.tokenizer.convert_tokens_to_ids(list(words))
    return found


def difference(model: Model, seen: Seen, right: Sequence[str], wrong: Sequence[str]) -> np.ndarray[Any, Any]:
    """logit(right) − logit(wrong) at the end of each prompt: [prompt]."""
    places = zip(seen["logits"][:, -1], ids_of(model, right), ids_of(model, wrong), strict=True)
    return np.array([float(row[a] - row[b]) for row, a, b in places])


def knows(model: Model, prompts: Sequence[str], right: Sequence[str]) -> bool:
    """Whether the model does the task at all: right more often than not."""
    best = forward(model, prompts)["logits"][:, -1].argmax(-1).numpy()
    return bool(np.mean(best == ids_of(model, right)) > 0.5)
