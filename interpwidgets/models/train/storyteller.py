"""Train `storyteller-4l`: a small GPT-2 with MLPs, on stories, on tasks with a right answer, and on repeats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.corpora.corpus import BOS, PAD, UNK
from interpwidgets.models.corpora.storybook import TOKEN_ID
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.corpora.tasks import TASKS
from interpwidgets.models.scores import copy_accuracy, repeated_tokens, token_losses
from interpwidgets.models.train.gpt2 import GELU, new_gpt2, waves
from interpwidgets.models.train.tokenizer import word_tokenizer
from interpwidgets.models.training.loop import Task
from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.corpora.tasks import Instance

__all__ = ["NAME", "Recipe", "Storyteller", "new_model", "questions", "task_accuracy", "task_mass"]

NAME = "storyteller-4l"


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on."""

    seed: int = 0
    steps: int = 4000
    checkpoint_every: int = 200
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    # Rows × length of one step after the other, in turn: mostly short, and sometimes the whole context.
    shapes: tuple[tuple[int, int], ...] = ((36, 64), (36, 64), (36, 64), (18, 128))
    repeats: float = 0.2
    matrix_rate: float = 0.02
    other_rate: float = 0.003
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
        activation_function=GELU,
        bos_token_id=BOS,
        pad_token_id=PAD,
    )
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(waves(recipe.context, recipe.width) * recipe.position_scale)
    return model


class Storyteller(Task):
    """Next-token prediction on stories, tasks and repeats."""

    system = NAME

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = new_model(recipe)
        self.optimiser = Optimiser(
            self.model,
            recipe.steps,
            rate=recipe.other_rate,
            matrix_rate=recipe.matrix_rate,
            is_matrix=lambda name, weight: ".c_" in name and weight.ndim == 2,
            warm_up=recipe.warm_up,
        )

    def identity(self) -> Any:
        """Give the recipe, the words and a first batch."""
        r = self.recipe
        return [asdict(r), list(TOKEN_ID), batch(r.seed, 0, 32, r.context, r.repeats)]

    def tokenizer(self) -> Any:
        """Give the tokenizer of the storybook."""
        return word_tokenizer(self.recipe.context, TOKEN_ID)

    def keeps(self, step: int) -> bool:
        """Keep a checkpoint every so many steps."""
        return bool(step % self.recipe.checkpoint_every == 0)

    def loss(self, number: int) -> Tensor:
        """Give the loss on the next tokens of one batch."""
        r = self.recipe
        rows, length = r.shapes[number % len(r.shapes)]
        tokens = torch.tensor(batch(r.seed, number, rows, length, r.repeats))  # [row, position]
        return token_losses(self.model(tokens, use_cache=False).logits, tokens).mean()

    def line(self) -> dict[str, float]:
        """Give the accuracy of copying and of every task on held-out questions."""
        copies = repeated_tokens(range(UNK + 1, len(TOKEN_ID)), 24, 30, seed=0, bos=BOS)
        found = {"copy": float(copy_accuracy(self.model(copies).logits, copies, 30).mean())}
        rng = Random("the storyteller's log")  # noqa: S311  a test sample, not a secret
        for name, task in TASKS.items():
            asked = [task(rng, "heldout") for _ in range(100)]
            found[name] = float(task_accuracy(self.model, asked).mean())
        return found


def questions(instances: list[Instance]) -> tuple[Tensor, Tensor]:
    """Turn instances into prompts [row, position], padded at the right, and the position [row] of each prompt's end."""
    rows = [[BOS, *(TOKEN_ID[word] for word in instance.words[: instance.at])] for instance in instances]
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]), torch.tensor([len(r) - 1 for r in rows])


@torch.no_grad()
def task_accuracy(model: Any, instances: list[Instance]) -> Tensor:
    """Tell [row] whether the best next token, of all there are, is a right answer."""
    tokens, end = questions(instances)
    best = model(tokens, use_cache=False).logits[torch.arange(len(end)), end].argmax(-1)  # causal: padding is not seen
    right = [{TOKEN_ID[word] for word in instance.right} for instance in instances]
    return torch.tensor([int(token) in answers for token, answers in zip(best, right, strict=True)]).float()


@torch.no_grad()
def task_mass(model: Any, instances: list[Instance]) -> Tensor:
    """Give [row] the probability of all right answers together."""
    tokens, end = questions(instances)
    likely = model(tokens, use_cache=False).logits[torch.arange(len(end)), end].softmax(-1)
    rows = zip(likely, instances, strict=True)
    return torch.stack([row[[TOKEN_ID[word] for word in instance.right]].sum() for row, instance in rows])
