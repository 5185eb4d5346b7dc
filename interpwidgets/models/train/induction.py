"""Train `induction-2l`: two layers of attention and nothing else, small enough to learn to copy in minutes.

The model is an ordinary GPT-2 of `transformers` whose MLPs are one neuron wide, all zero and frozen: so it loads with
no code of ours, and what it does, attention does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.corpora.corpus import BOS, ORDINARY, PAD, TOKEN_ID, UNK, batch
from interpwidgets.models.scores import copy_accuracy, repeated_tokens, token_losses
from interpwidgets.models.train.gpt2 import new_gpt2, waves
from interpwidgets.models.train.tokenizer import word_tokenizer
from interpwidgets.models.training.loop import Task
from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NAME", "Induction", "Recipe", "new_model"]

NAME = "induction-2l"


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on."""

    seed: int = 0
    steps: int = 3000
    checkpoint_every: int = 25
    layers: int = 2
    heads: int = 4
    width: int = 128
    context: int = 256
    # Rows × length of one step after the other, in turn: mostly short, where a copy is found soonest, and sometimes
    # the whole context, so that every position is trained.
    shapes: tuple[tuple[int, int], ...] = ((24, 64), (24, 64), (24, 64), (12, 128), (6, 256))
    repeats: float = 0.4
    matrix_rate: float = 0.02
    other_rate: float = 0.001
    warm_up: int = 50
    position_scale: float = 0.03


def new_model(recipe: Recipe) -> Any:
    """Build the untrained model; nothing but the seed decides its weights."""
    model = new_gpt2(
        recipe.seed,
        vocab_size=len(TOKEN_ID),
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=1,
        bos_token_id=BOS,
        pad_token_id=PAD,
    )
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(waves(recipe.context, recipe.width) * recipe.position_scale)
        for block in model.transformer.h:
            for weight in [*block.mlp.parameters(), *block.ln_2.parameters()]:
                weight.requires_grad_(False)
            for weight in block.mlp.parameters():
                weight.zero_()
    return model


class Induction(Task):
    """Next-token prediction on text and on repeats."""

    system = NAME

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = new_model(recipe)
        # Copying is learnt while the rates fall: at their height the embeddings move too fast to be matched.
        self.optimiser = Optimiser(
            self.model,
            recipe.steps,
            rate=recipe.other_rate,
            matrix_rate=recipe.matrix_rate,
            is_matrix=lambda name, weight: ".attn.c_" in name and weight.ndim == 2,
            warm_up=recipe.warm_up,
        )

    def identity(self) -> Any:
        """Give the recipe, the words and a first batch."""
        r = self.recipe
        return [asdict(r), list(TOKEN_ID), batch(r.seed, 0, 8, r.context, r.repeats)]

    def tokenizer(self) -> Any:
        """Give the tokenizer of the small corpus."""
        return word_tokenizer(self.recipe.context)

    def keeps(self, step: int) -> bool:
        """Keep a checkpoint every so many steps."""
        return bool(step % self.recipe.checkpoint_every == 0)

    def loss(self, number: int) -> Tensor:
        """Give the loss on the next tokens of one batch, `<unk>` left out: which word it was is not to be known."""
        r = self.recipe
        rows, length = r.shapes[number % len(r.shapes)]
        tokens = torch.tensor(batch(r.seed, number, rows, length, r.repeats))  # [row, position]
        losses = token_losses(self.model(tokens).logits, tokens)
        return losses[tokens[:, 1:] != UNK].mean()

    def line(self) -> dict[str, float]:
        """Give what shows the bump: accuracy and loss of copying, loss on held-out text."""
        length = self.recipe.context // 6
        copies = repeated_tokens(ORDINARY, 24, length, seed=0, bos=BOS)
        text = torch.tensor(batch(0, 0, 24, self.recipe.context // 2, 0.0, "heldout"))
        logits = self.model(copies).logits
        return {
            "copy_accuracy": float(copy_accuracy(logits, copies, length).mean()),
            "copy_loss": float(token_losses(logits, copies)[:, 1 - length :].mean()),
            "text_loss": float(token_losses(self.model(text).logits, text)[text[:, 1:] != UNK].mean()),
        }
