"""A Hugging Face model and its tokenizer, as one thing that can be recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from interpwidgets.errors import InputError
from interpwidgets.models.anatomy import Anatomy
from interpwidgets.models.fingerprint import fingerprint
from interpwidgets.models.texts import token_texts
from interpwidgets.tokens import Tokens

__all__ = ["Model", "as_model"]


class Model:
    """Your own `transformers` module, untouched, with its tokenizer and the parts that were found in it.

    >>> model = Model(module, tokenizer)
    >>> model.module is module
    True

    Without a tokenizer, prompts are given as token ids.
    """

    def __init__(self, module: nn.Module, tokenizer: Any = None, *, name: str | None = None) -> None:
        if not isinstance(module, PreTrainedModel):
            kind = type(module).__name__
            raise InputError(f"Model takes a transformers model (a PreTrainedModel); got {kind}. Names go to load(…).")
        if tokenizer is not None and not hasattr(tokenizer, "decode"):
            kind = type(tokenizer).__name__
            raise InputError(f"A tokenizer has a `decode` method; {kind} has none. Pass the one of the model, or None.")
        self.module = module
        self.tokenizer = tokenizer
        self.anatomy = Anatomy.of(module)
        self.name = name or module.name_or_path or type(module).__name__

    @property
    def config(self) -> Any:
        """The part of the module's config that describes its blocks."""
        return self.module.config.get_text_config(decoder=True)

    @property
    def device(self) -> torch.device:
        """Where token ids have to be."""
        return self.anatomy.embed.weight.device

    @property
    def n_layers(self) -> int:
        """How many blocks there are."""
        return len(self.anatomy.blocks)

    @property
    def n_heads(self) -> int | None:
        """Query heads per layer; None for a model without attention."""
        return getattr(self.config, "num_attention_heads", None)

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def context(self) -> int | None:
        """The longest prompt that the model has position embeddings for; None where positions are computed."""
        return self.anatomy.context

    @property
    def fingerprint(self) -> str:
        """Sixteen letters for the weights: dictionaries and stores tell by it which model they are of."""
        return fingerprint(self.module.state_dict())

    def tokens(self, text: str | Sequence[int]) -> Tokens:
        """How the model reads a text; or what the tokens with these ids are.

        >>> model.tokens("the cat sat")
        Tokens(3: the ␣cat ␣sat)
        """
        if not isinstance(text, str):
            return token_texts(self.tokenizer, text)
        if self.tokenizer is None:
            raise InputError(f"{self!r} has no tokenizer; pass one: Model(module, tokenizer).")
        return token_texts(self.tokenizer, self.tokenizer(text)["input_ids"])

    def __repr__(self) -> str:
        kind = type(self.module).__name__
        heads = "" if self.n_heads is None else f" × {self.n_heads} heads"
        context = "" if self.context is None else f", context {self.context}"
        size = f"d_model {self.d_model}, vocabulary {self.anatomy.embed.num_embeddings}{context}"
        return f"Model({self.name}: {kind}, {self.n_layers} layers{heads}, {size})"


def as_model(given: Any) -> Model:
    """A `Model` from one, from a module, or from a (module, tokenizer) pair."""
    if isinstance(given, Model):
        return given
    if isinstance(given, nn.Module):
        return Model(given)
    if isinstance(given, tuple) and len(given) == 2:
        return Model(*given)
    raise InputError(
        f"Expected a Model, a transformers module or a (module, tokenizer) pair; got {given!r}. Names go to load(…)."
    )
