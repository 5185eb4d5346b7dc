"""Train `grok-add`: one layer that first memorises sums modulo a prime, then finds out how to add.

The model is an ordinary GPT-2 of `transformers` whose layer norms only centre: their epsilon is so large, and their
frozen gain so matched to it, that they divide by one. So weight decay means what it says, and what a frequency adds to
a logit can be followed through the weights, as in the models of Nanda et al. 2023.

Pairs are split without regard to order: 17 + 5 is never a test of a model that was taught 5 + 17.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from interpwidgets.models.train.gpt2 import new_gpt2
from interpwidgets.models.training.loop import Task
from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NAME", "Grokking", "Pairs", "Recipe", "answers", "new_model", "number_tokenizer", "pairs", "prompts"]

NAME = "grok-add"
_LARGE = 1e6  # the epsilon of a layer norm that only centres; its gain is the square root


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on."""

    seed: int = 0
    steps: int = 4000
    checkpoint_every: int = 50
    modulus: int = 53
    train_share: float = 0.75
    width: int = 64
    heads: int = 4
    neurons: int = 256
    context: int = 16  # four are used; tools that look at a model try it on more
    rate: float = 0.001
    decay: float = 2.0
    start: float = 0.12  # the standard deviation of the first weights: large ones memorise before they generalise
    warm_up: int = 10


class Pairs(NamedTuple):
    """Sums to be done: a + b modulo the prime, [sum] each."""

    a: Tensor
    b: Tensor
    answer: Tensor


def pairs(modulus: int, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Split all sums into those to train on and those to test on; a + b and b + a are always on the same side."""
    unordered = torch.combinations(torch.arange(modulus), with_replacement=True)
    unordered = unordered[torch.randperm(len(unordered), generator=torch.Generator().manual_seed(seed))]
    number = int(len(unordered) * share)

    def both_orders(side: Tensor) -> Pairs:
        a, b = torch.cat([side, side[side[:, 0] != side[:, 1]].flip(1)]).T
        return Pairs(a, b, (a + b) % modulus)

    return both_orders(unordered[:number]), both_orders(unordered[number:])


def prompts(a: Tensor, b: Tensor, modulus: int) -> Tensor:
    """Give the token ids of "a + b =" [sum, 4]: numbers are their own ids, the signs follow them."""
    return torch.stack([a, torch.full_like(a, modulus), b, torch.full_like(a, modulus + 1)], dim=1)


def number_tokenizer(modulus: int) -> Any:
    """Build a Hugging Face tokenizer of the numbers below the modulus, + and =; all else is `<unk>`."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*map(str, range(modulus)), "+", "=", unknown := "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(unknown, special=True, normalized=False)])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, unk_token=unknown, model_max_length=16, clean_up_tokenization_spaces=False)


def new_model(recipe: Recipe) -> Any:
    """Build the untrained model; nothing but the seed decides its weights."""
    model = new_gpt2(
        recipe.seed,
        vocab_size=recipe.modulus + 3,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=1,
        n_head=recipe.heads,
        n_inner=recipe.neurons,
        activation_function="relu",
        layer_norm_epsilon=_LARGE,
        initializer_range=recipe.start,
        tie_word_embeddings=False,
        bos_token_id=None,
        # What tells the sums it was trained on: pairs(modulus, train_share, split_seed).
        modulus=recipe.modulus,
        train_share=recipe.train_share,
        split_seed=recipe.seed,
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".ln_" in name:
                weight.requires_grad_(False)
                weight.fill_(math.sqrt(_LARGE) if name.endswith("weight") else 0.0)
    return model


def answers(model: Any, a: Tensor, b: Tensor) -> Tensor:
    """Give the logits at "=" [sum, token], as the model does, for a tenth of the work.

    What a number is as key and value depends on nothing but the number and its place, so it is computed once for each;
    and only the last position is read.
    """
    body, config = model.transformer, model.config
    block, p, heads = body.h[0], config.modulus, config.n_head
    number, place = body.wte.weight, body.wpe.weight
    first, second = number[:p] + place[0], number[:p] + place[2]
    signs = number[p : p + 2] + place[1:4:2]
    x = torch.cat([first, second, signs])  # [2p + 2, width]
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1))
    scores = (k * q[-1]).sum(-1) / math.sqrt(q.shape[-1])  # [2p + 2, head]
    rows = torch.stack([a, torch.full_like(a, 2 * p), p + b, torch.full_like(a, 2 * p + 1)])  # [position, sum]
    pattern = scores[rows].softmax(0)
    mixed = sum(pattern[i, :, :, None] * v[rows[i]] for i in range(4))
    x = x[-1] + block.attn.c_proj(mixed.flatten(-2))
    x = x + block.mlp(block.ln_2(x))
    logits: Tensor = model.lm_head(body.ln_f(x))
    return logits


class Grokking(Task):
    """All sums of the training side at every step."""

    system = NAME

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = new_model(recipe)
        self.sums, self.unseen = pairs(recipe.modulus, recipe.train_share, recipe.seed)
        self.optimiser = Optimiser(
            self.model,
            recipe.steps,
            rate=recipe.rate,
            warm_up=recipe.warm_up,
            floor=1.0,
            betas=(0.9, 0.98),
            weight_decay=recipe.decay,
        )

    def identity(self) -> Any:
        """Give the recipe and the sums that are trained on."""
        return [asdict(self.recipe), self.sums.a.tolist(), self.sums.b.tolist()]

    def tokenizer(self) -> Any:
        """Give the tokenizer of numbers."""
        return number_tokenizer(self.recipe.modulus)

    def keeps(self, step: int) -> bool:
        """Keep a checkpoint every so many steps."""
        return bool(step % self.recipe.checkpoint_every == 0)

    def weights(self) -> dict[str, Tensor]:
        """Give all weights: embedding and unembedding are two."""
        return dict(self.model.state_dict())

    def loss(self, number: int) -> Tensor:
        """Give the loss on the sums, in double precision: single rounds to zero long before the end."""
        return F.cross_entropy(answers(self.model, self.sums.a, self.sums.b).double(), self.sums.answer)

    def line(self) -> dict[str, float]:
        """Give loss and accuracy on both sides, and the weight norm."""
        found = {}
        for name, side in (("train", self.sums), ("test", self.unseen)):
            logits = answers(self.model, side.a, side.b).double()
            found[f"{name}_loss"] = float(F.cross_entropy(logits, side.answer))
            found[f"{name}_accuracy"] = float((logits.argmax(-1) == side.answer).double().mean())
        trained = (weight for weight in self.model.parameters() if weight.requires_grad)
        return {**found, "weight_norm": math.sqrt(sum(float((weight**2).sum()) for weight in trained))}
