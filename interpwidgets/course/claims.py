"""Claims about a model, asked as functions: which heads, which neurons?

A function that has learned the answer by heart fails, since it is run on copies of the model that compute the same
with other names, and on a model of the same size that has learned nothing, where the right answer is “none”.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from interpwidgets.course.exercises import Arguments, Function, Mutant
from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from interpwidgets.models import Model

__all__ = ["Claim", "relabelled", "scrambled"]

Remake = Callable[["Model", np.random.Generator], "Model"]


@dataclass(frozen=True, eq=False, repr=False)
class Claim(Function):
    """A question about a shipped model, answered by a function of a model.

    Args:
        model: the shipped model that the lesson looks at.
        draw: the arguments for a model: `draw(rng, model)`, the model first.
        null: makes the model in which nothing is to be found; None where there is no such model.
        trials: how many relabelled copies.
    """

    _: KW_ONLY
    draw: Callable[..., Arguments] = lambda _, model: (model,)
    model: str
    null: Remake | None = None
    trials: int = 3
    seconds: float = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.null is None:
            object.__setattr__(self, "null", scrambled)

    def inputs(self, seed: int) -> list[Arguments]:
        """The relabelled copies, then the null model."""
        original = shipped(self.model)
        found = []
        for i in range(self.trials):
            rng = np.random.default_rng([seed, i])
            found.append(self.draw(rng, relabelled(original, rng)))
        assert self.null is not None
        rng = np.random.default_rng([seed, self.trials])
        return [*found, self.draw(rng, self.null(original, rng))]

    def wrong_answers(self) -> list[Mutant]:
        """The mutants, and the answer that is right of one model only, by heart."""
        original = shipped(self.model)

        def by_heart(*_: Any) -> Any:
            return self.oracle(*self.draw(np.random.default_rng(0), original))

        return [
            *self.mutants,
            Mutant(
                "names what it saw in one model",
                by_heart,
                f"You give the answer for {self.model} as it is shipped, whichever model you are given.",
                "Compute the answer from the model in the argument: here its heads have other places.",
            ),
        ]


@cache
def shipped(name: str) -> Model:
    """A shipped model, loaded once."""
    from interpwidgets.models import load

    model: Model = load(name)
    return model


def relabelled(model: Model, rng: np.random.Generator) -> Model:
    """A copy that computes the same with other names: heads and neurons permuted, Q/K and V/O rotated in each head.

    Raises:
        InputError: the model is no GPT-2.
    """
    import torch

    module, heads = _copy_of(model)
    with torch.no_grad():
        for block in module.transformer.h:
            attention = block.attn
            d_model = attention.c_proj.weight.shape[0]
            d_head = d_model // heads
            order = _other_order(rng, heads)
            query_key = _rotations(rng, heads, d_head)
            value_out = _rotations(rng, heads, d_head)
            turns = torch.stack([query_key, query_key, value_out])  # [3, head, d_head, d_head]
            for weights in (attention.c_attn.weight, attention.c_attn.bias):
                split = weights.reshape(-1, 3, heads, d_head)[:, :, order]
                weights.copy_(torch.einsum("mphd,phde->mphe", split, turns).reshape(weights.shape))
            out = attention.c_proj.weight.reshape(heads, d_head, d_model)[order]
            attention.c_proj.weight.copy_(torch.einsum("hdm,hde->hem", out, value_out).reshape(d_model, d_model))
            mlp = block.mlp
            neurons = torch.as_tensor(rng.permutation(mlp.c_proj.weight.shape[0]))
            mlp.c_fc.weight.copy_(mlp.c_fc.weight[:, neurons])
            mlp.c_fc.bias.copy_(mlp.c_fc.bias[neurons])
            mlp.c_proj.weight.copy_(mlp.c_proj.weight[neurons])
    return _model(module, model, "relabelled")


def scrambled(model: Model, rng: np.random.Generator) -> Model:
    """A copy whose weights are those of the model in random order, matrix by matrix: it has learned nothing.

    Raises:
        InputError: the model is no GPT-2.
    """
    import torch

    module, _ = _copy_of(model)
    with torch.no_grad():
        for weights in {id(each): each for each in module.parameters()}.values():
            if weights.ndim > 1:
                order = torch.as_tensor(rng.permutation(weights.numel()))
                weights.copy_(weights.flatten()[order].reshape(weights.shape))
    return _model(module, model, "scrambled")


def _copy_of(model: Model) -> tuple[Any, int]:
    if getattr(model.config, "model_type", "") != "gpt2" or model.n_heads is None:
        raise InputError(f"Only models of the GPT-2 family can be relabelled; {model!r} is none.")
    return copy.deepcopy(model.module), model.n_heads


def _model(module: Any, model: Model, how: str) -> Model:
    from interpwidgets.models import Model

    return Model(module, model.tokenizer, name=f"{model.name}, {how}")


def _other_order(rng: np.random.Generator, count: int) -> list[int]:
    """A permutation that leaves nothing in its place, so that no answer by heart is right by luck."""
    while True:
        order = rng.permutation(count)
        if count < 2 or not (order == np.arange(count)).any():
            return [int(i) for i in order]


def _rotations(rng: np.random.Generator, count: int, size: int) -> Any:
    """Random orthogonal matrices: [count, size, size]."""
    import torch

    return torch.as_tensor(np.linalg.qr(rng.normal(size=(count, size, size)))[0], dtype=torch.float32)
