"""Train a small GPT-2 to carry out a known causal graph: interchange intervention training, in its strict form.

Three losses, each a cross-entropy with what the causal model answers:

- *behaviour*: on the prompt as it is;
- *interchange*: with the component that carries a variable taking its value from another prompt, the answer is that
  of the causal model under the same exchange (Geiger et al. 2022);
- *strictness*: with components that carry nothing taking theirs from another prompt, the answer stays (Gupta et al.
  2024). Components that do carry a variable are held to this too, at all positions but those where they carry it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from interpwidgets.models.corpora.corpus import BOS, PAD
from interpwidgets.models.corpora.words import SPECIALS
from interpwidgets.models.train.gpt2 import GELU, new_gpt2, waves
from interpwidgets.models.train.known.exchange import Exchange, exchanged, recorded
from interpwidgets.models.train.known.readout import ReadingOptimiser, ReadOuts
from interpwidgets.models.train.tokenizer import word_tokenizer
from interpwidgets.models.training.loop import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from interpwidgets.models.train.known.graph import Component, Known, Node, Prompt

__all__ = [
    "Interchange",
    "Recipe",
    "Strict",
    "components",
    "interchange",
    "new_model",
    "spare",
    "token_ids",
    "tokens_of",
]


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on."""

    seed: int = 0
    steps: int = 3000
    checkpoint_every: int = 250
    layers: int = 3
    heads: int = 4
    width: int = 64
    context: int = 32
    rows: int = 32
    strict: bool = True
    """Whether nodes and all else are exchanged; if not, the behaviour alone is trained."""
    tries: int = 3
    first: int = 200
    """How many steps the read-outs come first, nothing being exchanged yet."""
    silent: float = 0.6
    """The share of the steps in which what carries nothing writes nothing."""
    apart: bool = False
    """Whether in these steps all that carries nothing is exchanged in every row."""
    matched: tuple[tuple[int, int], ...] = ()
    """Heads, by layer and number, whose queries and keys start out alike, so that they look for the same token."""
    asked: float = 0.5
    """The share of the other steps over which they fade."""
    matrix_rate: float = 0.02
    other_rate: float = 0.003
    warm_up: int = 50
    position_scale: float = 0.1
    word_scale: float = 0.1


def token_ids(known: Known) -> dict[str, int]:
    """Number the words of a system."""
    return {word: number for number, word in enumerate([*SPECIALS, *known.words])}


def tokens_of(known: Known, prompts: Sequence[Prompt]) -> Tensor:
    """Turn prompts into token ids [row, position], padded at the right."""
    ids, longest = token_ids(known), max(prompt.end for prompt in prompts)
    rows = [[BOS, *(ids[w] for w in p.words), *[PAD] * (longest - p.end)] for p in prompts]
    return torch.tensor(rows)


def components(config: Any) -> list[Component]:
    """List every head and MLP of a model."""
    heads = [("z", layer, head) for layer in range(config.n_layer) for head in range(config.n_head)]
    return [*heads, *(("mlp_out", layer, -1) for layer in range(config.n_layer))]


def new_model(recipe: Any, words: int) -> Any:
    """Build the untrained model; nothing but the seed decides its weights."""
    model = new_gpt2(
        recipe.seed,
        vocab_size=words,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        activation_function=GELU,
        bos_token_id=BOS,
        pad_token_id=PAD,
    )
    width, size = recipe.width, recipe.width // recipe.heads
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(recipe.word_scale / model.config.initializer_range)
        model.transformer.wpe.weight.copy_(waves(recipe.context, width) * recipe.position_scale)
        for layer, head in recipe.matched:
            own = slice(head * size, (head + 1) * size)
            alike = torch.linalg.qr(torch.randn(width, size, generator=generator)).Q
            read = model.transformer.h[layer].attn.c_attn.weight.view(width, 3, width)  # [width, q k v, head · d_head]
            read[:, 0, own] = read[:, 1, own] = alike
    return model


class Interchange(NamedTuple):
    """The value of a node taken from a source, at one or more of its positions, and what the graph answers then."""

    component: Component
    places: list[tuple[int, int]]
    """Position in the prompt, and in the source."""
    answer: str

    def put(self, exchange: Exchange, row: int) -> None:
        """Have it done in a row of a batch."""
        for here, there in self.places:
            exchange.put(row, self.component, here, there)


def interchange(known: Known, rng: Random, prompt: Prompt, source: Prompt, node: Node) -> Interchange:
    """Choose the positions at which a node is taken from a source, and ask the graph what follows."""
    here, there = prompt.roles[node.role], source.roles[node.role]
    chosen = rng.sample(range(len(here)), rng.randint(1, len(here)))
    places = [(here[n], there[min(n, len(there) - 1)]) for n in chosen]
    found = known.values(source, {})
    given = {(node.name, at): found[node.name, other] for at, other in places}
    return Interchange(node.component, places, known.answer(prompt, given))


def spare(known: Known, exchange: Exchange, row: int, prompt: Prompt, parts: Sequence[Component]) -> None:
    """Exchange `parts` at every position but those where they carry a node of the graph."""
    for part in parts:
        exchange.put(row, part)
    for node in known.graph.nodes:
        for at in prompt.roles[node.role]:
            exchange.keep(row, node.component, at)


class Strict(Task):
    """Behaviour, interchange and strictness on one batch of prompts."""

    def __init__(self, known: Known, recipe: Recipe) -> None:
        self.known, self.recipe, self.system = known, recipe, known.name
        self.ids = token_ids(known)
        self.model = new_model(recipe, len(self.ids))
        self.read_outs = ReadOuts(known, self.model.config, recipe.seed)
        optimiser = ReadingOptimiser(
            self.model,
            self.read_outs,
            recipe.steps,
            rate=recipe.other_rate,
            matrix_rate=recipe.matrix_rate,
            is_matrix=lambda name, weight: ".c_" in name and weight.ndim == 2,
            warm_up=recipe.warm_up,
        )
        self.silent_until = optimiser.until = round(recipe.silent * recipe.steps)
        optimiser.silent = self._silent()
        self.optimiser = optimiser

    def _silent(self) -> dict[Any, Tensor]:
        """Let what carries nothing write nothing at first; give, for each matrix that writes, which rows these are."""
        carriers, found = {node.component for node in self.known.graph.nodes}, {}
        if not self.recipe.strict:
            return {}
        for layer, block in enumerate(self.model.transformer.h):
            heads = [("z", layer, head) not in carriers for head in range(self.recipe.heads)]
            found[block.attn.c_proj.weight] = torch.tensor(heads).repeat_interleave(self.recipe.width // len(heads))
            silent = ("mlp_out", layer, -1) not in carriers
            found[block.mlp.c_proj.weight] = torch.full((block.mlp.c_proj.weight.shape[0],), silent)
            found[block.mlp.c_proj.bias] = torch.full((self.recipe.width,), silent)
        with torch.no_grad():
            for weight, rows in found.items():
                weight[rows] = 0.0
        return found

    def identity(self) -> Any:
        """Give the recipe, the words, the graph and a first batch."""
        return [asdict(self.recipe), list(self.ids), self.known.graph.as_json(), [p.words for p in self.batch(0)[1]]]

    def tokenizer(self) -> Any:
        """Give the tokenizer of the system's words."""
        return word_tokenizer(self.recipe.context, self.ids)

    def keeps(self, step: int) -> bool:
        """Keep a checkpoint every so many steps."""
        return bool(step % self.recipe.checkpoint_every == 0)

    def batch(self, number: int, side: Any = "train") -> tuple[Random, list[Prompt]]:
        """Draw the prompts of a step, and what the rest of it is drawn with."""
        rng = Random(f"{self.system} {side} {self.recipe.seed} {number}")  # noqa: S311  prompts, not a secret
        return rng, [self.known.draw(rng, side) for _ in range(self.recipe.rows)]

    def loss(self, number: int) -> Tensor:
        """Give the loss on one batch, whose prompts are one another's sources.

        Half of the rows have a node exchanged, a quarter has something else exchanged, a quarter is as it is.
        """
        rng, prompts = self.batch(number)
        tokens, rows = tokens_of(self.known, prompts), len(prompts)
        if not self.recipe.strict:
            return self._loss(tokens, prompts, [self.known.answer(prompt) for prompt in prompts])
        r = self.recipe
        begun = number - r.first
        asking = 1.0 if begun < 0 else max(0.0, 1 - begun / (r.asked * (r.steps - r.first)))
        with torch.set_grad_enabled(asking > 0), recorded(self.model) as live:
            said = self.model.transformer(tokens, use_cache=False).last_hidden_state
        asked = self.read_outs.loss(live, prompts, [self.known.values(p, {}) for p in prompts]) if asking else 0.0
        if begun < 0:
            return torch.add(asked, said.sum(), alpha=0.0)  # no part is without a gradient
        run = live.detached()
        answers = [self.known.answer(prompt) for prompt in prompts * 2]
        taken = [self.telling(rng, prompts, row) for row in range(rows)]
        # The rest is not from where the node is: else all that is exchanged with it would tell its value too.
        others = {"nodes": [other for other, _ in taken] * 2, "rest": [rng.randrange(rows) for _ in prompts * 2]}
        nodes, rest = (Exchange(prompts * 2, [prompts[o] for o in each], self.model.config) for each in others.values())
        alone = r.apart and number < self.silent_until
        for row in range(2 * rows if alone else rows + rows // 2):
            if alone or row >= rows or rng.random() < 0.8:
                parts = components(self.model.config) if alone else self.some(rng)
                spare(self.known, rest, row, prompts[row % rows], parts)
            if row < rows:
                taken[row][1].put(nodes, row)
                answers[row] = taken[row][1].answer
        with (
            exchanged(self.model, run, torch.tensor(others["rest"]), rest),
            exchanged(self.model, run, torch.tensor(others["nodes"]), nodes),
        ):
            loss = self._loss(tokens.repeat(2, 1), prompts * 2, answers)
        return torch.add(loss, asked, alpha=asking)

    def telling(self, rng: Random, prompts: list[Prompt], row: int) -> tuple[int, Interchange]:
        """Choose a source and a node for a prompt; of a few draws the first one that changes the answer."""
        for _ in range(self.recipe.tries):
            other = rng.randrange(len(prompts))
            taken = interchange(self.known, rng, prompts[row], prompts[other], rng.choice(self.known.graph.nodes))
            if taken.answer != self.known.answer(prompts[row]):
                break
        return other, taken

    def some(self, rng: Random) -> list[Component]:
        """Choose what to exchange where it carries nothing: often everything, else half of it, or one component."""
        every = components(self.model.config)
        share = rng.choice([0.0, 0.5, 1.0, 1.0, 1.0])
        return [part for part in every if rng.random() < share] or [rng.choice(every)]

    def _loss(self, tokens: Tensor, prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        ends = torch.tensor([prompt.end for prompt in prompts])
        states = self.model.transformer(tokens, use_cache=False).last_hidden_state
        logits = self.model.lm_head(states[torch.arange(len(ends)), ends])  # [row, token]
        return F.cross_entropy(logits, torch.tensor([self.ids[answer] for answer in answers]))

    def line(self) -> dict[str, float]:
        """Give the accuracy on held-out prompts, as they are, with a node exchanged, and with all else exchanged."""
        from interpwidgets.models.train.known.measure import exchanges

        found = exchanges(self.known, self.model, 0, rows=128)
        carried = [share for name, share in found.items() if name.startswith("interchange_changed_")]
        return {"behaviour": found["behaviour"], "nodes": min(carried), "others": found["others_all"]}
