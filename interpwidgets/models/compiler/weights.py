"""Compile a program into the weights of an ordinary GPT-2 of `transformers`.

Every value of a category is a coordinate of the residual stream, 1 where the variable has that value; a number is one
coordinate. What is special about the weights:

- **Attention is a choice.** A query's score with a matching key is more than `GAP` above that with any other, and
  exp(−GAP) is 0 in float32: so a head attends to what its selector names, in equal parts, and to nothing else. `<bos>`
  scores halfway between: it gets all of the attention if nothing matches. There a head reads its default, or nothing.
- **Layer norm does nothing.** To the stream's variance it adds an epsilon of 2³⁰: in float32 the sum *is* 2³⁰ if the
  variance is below 32, so the norm divides by 2¹⁵, which its weight of 2¹⁵ undoes, exactly. What is left of it is that
  it subtracts the mean. Nothing writes to the last coordinate, `ground`: after the norm it is minus the
  mean, and everything that reads the stream reads it too, with the weight that puts the mean back.
- **Every write shows.** Each attention, idle or not, adds 1 to the coordinate `attentions so far`, each MLP to `MLPs so
  far`. Nothing reads them. By them, tools that find a model's parts by what they write tell these apart.
- **No softmax scale**: `scale_attn_weights` is off. No dropout. The unembedding is a matrix of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save

from interpwidgets.models.compiler.labels import FILE, LAST, Labels, describe
from interpwidgets.models.compiler.language import BOS, Aggregate, Program, Variable, indices, tokens
from interpwidgets.models.compiler.layout import Layout
from interpwidgets.models.compiler.neurons import Neuron, neurons
from interpwidgets.models.compiler.tokenizer import SPECIALS, tokenizer_for
from interpwidgets.models.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "GAP", "Compiled", "compile_program"]

GAP = 128.0  # between the scores of one choice and the next; exp(-104) is already 0 in float32
CONFIDENCE = 16.0  # the logit of what the program says, all others having 0
EPSILON = 2.0**30
_PRODUCTS = ("q", "k", "v")
_ATTENTIONS, _MLPS, _GROUND = -3, -2, -1  # last coordinates of the stream


@dataclass(frozen=True)
class Compiled:
    """A program as a model: its weights, its tokenizer, and the name of everything in it."""

    program: Program
    model: Model
    labels: Labels

    def ids(self, prompt: Sequence[str]) -> list[int]:
        """Give the token ids of a prompt, `<bos>` first, after checking that the program reads it."""
        self.program.check(prompt)
        words = (*SPECIALS, *self.program.vocabulary)
        return [words.index(word) for word in (BOS, *prompt)]

    @torch.no_grad()
    def __call__(self, prompt: Sequence[str]) -> list[str | None]:
        """Give what the model says at `<bos>` and after every token; None where no logit is above the others."""
        logits = self.model.module(torch.tensor([self.ids(prompt)])).logits[0]
        words = (*SPECIALS, *self.program.vocabulary)
        best = logits.argmax(-1).tolist()
        return [words[word] if row.max() > CONFIDENCE / 2 else None for word, row in zip(best, logits, strict=True)]

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` and plain transformers read, and the labels in it; always the same bytes."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = save(self.model.module.state_dict(), metadata={"format": "pt"})
        (folder / "model.safetensors").write_bytes(weights)
        self.model.config.save_pretrained(folder)
        self.model.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"  # the class by the name that every release of transformers knows
        about = {**json.loads(path.read_text("utf-8")), "tokenizer_class": "PreTrainedTokenizerFast"}
        path.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        (folder / FILE).write_text(self.labels.json(), "utf-8")

    def __repr__(self) -> str:
        return f"{self.program!r}\n{self.model!r}\n{self.labels!r}"


def compile_program(program: Program) -> Compiled:
    """Turn a program into a model that says the same.

    >>> compiled = compile_program(program)
    >>> compiled(list("cab")) == program(list("cab"))
    True

    Raises InputError, and says why, for a program that cannot be carried out.
    """
    layout = Layout(program)
    layout.check()
    units = [list(chain.from_iterable(neurons(each, layout) for each in mlp)) for mlp in layout.mlps]
    module = _empty(layout, units)
    with torch.no_grad():
        _write_embeddings(module, layout)
        for block, heads, mlp in zip(module.transformer.h, layout.heads, units, strict=True):
            _Attention(block.attn, layout, module.config).write(heads)
            _write_mlp(block.mlp, layout, mlp)
            block.ln_1.weight.fill_(math.sqrt(EPSILON))
            block.ln_2.weight.fill_(math.sqrt(EPSILON))
            block.attn.c_proj.bias[_ATTENTIONS] = 1
            block.mlp.c_proj.bias[_MLPS] = 1
        module.transformer.ln_f.weight.fill_(math.sqrt(EPSILON))
        said, words = layout.said
        for value, word in words.items():
            row = len(SPECIALS) + list(program.vocabulary).index(word)
            module.lm_head.weight[row, layout.place[said, value]] = CONFIDENCE
        _ground(module.lm_head.weight.T)
    tokenizer = tokenizer_for(program.vocabulary, module.config.n_positions, program.eos)
    labels = describe(layout, units, module.config.n_head, module.config.n_embd)
    return Compiled(program, Model(module, tokenizer, name=program.name), labels)


def _empty(layout: Layout, units: list[list[Neuron]]) -> Any:
    """A GPT-2 of the right size, all of its weights zero. Every layer has a head that is idle, as a control."""
    from transformers import GPT2Config, GPT2LMHeadModel

    program = layout.program
    heads = max(map(len, layout.heads)) + 1
    widest = max((_Choice.of(head, layout).width for each in layout.heads for head in each), default=1)
    size = max(widest, math.ceil((len(layout.directions) + len(LAST)) / heads))
    words = [*SPECIALS, *program.vocabulary]
    config = GPT2Config(
        vocab_size=len(words),
        n_positions=max(program.longest + 1, 9),  # the anatomy of a model is found with a prompt of nine tokens
        n_embd=heads * size,
        n_layer=layout.layers,
        n_head=heads,
        n_inner=max(1, *map(len, units)),
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=EPSILON,
        scale_attn_weights=False,
        tie_word_embeddings=False,
        bos_token_id=words.index(BOS),
        eos_token_id=None if program.eos is None else words.index(program.eos),
        pad_token_id=0,
        dtype="float32",
        architectures=["GPT2LMHeadModel"],
    )
    with torch.random.fork_rng(devices=[]):
        module: Any = GPT2LMHeadModel(config)
    module.train(False)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    return module


def _write_embeddings(module: Any, layout: Layout) -> None:
    """Write what a token, and what a position, says by itself."""
    words, places = module.transformer.wte.weight, module.transformer.wpe.weight
    words[SPECIALS.index(BOS), layout.place[None, BOS]] = 1
    for source, table, first in ((tokens, words, len(SPECIALS)), (indices, places, 1)):
        for number, given in enumerate(layout.domain.get(source, ())):
            for variable in layout.read:
                if layout.table.get(variable) is source:
                    value = layout.looked_up(variable, given)
                    for place, size in _coordinates(layout, variable, value):
                        table[first + number, place] = size


def _coordinates(layout: Layout, variable: Variable, value: Any) -> Iterator[tuple[int, float]]:
    if variable.number:
        yield layout.place[variable, None], float(value)
    elif value is not None:
        yield layout.place[variable, value], 1.0


def _ground(weight: Any) -> None:
    """Let what is read by these columns [d_model, …] be the same whatever the mean of the stream is."""
    weight[_GROUND] = -weight[:_GROUND].sum(0)


@dataclass(frozen=True)
class _Choice:
    """A selector in numbers: which class of queries attends to which keys."""

    classes: NDArray[np.int64]  # [query value]: its class; -1 for one that matches no key
    matches: NDArray[np.bool_]  # [class, key value]
    width: int  # coordinates that the head needs

    @classmethod
    def of(cls, head: Aggregate, layout: Layout) -> _Choice:
        selector = head.selector
        keys, queries = layout.domain[selector.keys], layout.domain[selector.queries]
        found = [[selector.matches(key, query) for key in keys] for query in queries]
        table = np.array(found, dtype=bool).reshape(len(queries), len(keys))
        rows: dict[bytes, int] = {}
        classes = [rows.setdefault(row.tobytes(), len(rows)) if row.any() else -1 for row in table]
        matches = np.array([np.frombuffer(row, dtype=bool) for row in rows], dtype=bool).reshape(len(rows), len(keys))
        moved = 1 if head.number else len(layout.domain[head])
        return cls(np.array(classes, dtype=np.int64), matches, max(len(matches) + 1, moved))


class _Attention:
    """The weights of one layer's attention, written head by head."""

    def __init__(self, attention: Any, layout: Layout, config: Any) -> None:
        self.attention, self.layout = attention, layout
        self.width: int = config.n_embd
        self.size: int = config.n_embd // config.n_head

    def write(self, heads: list[Aggregate]) -> None:
        """Write the heads that compute these variables, in order; the rest stay idle."""
        for number, head in enumerate(heads):
            self._write_selector(number, head)
            self._write_values(number, head)
        _ground(self.attention.c_attn.weight)

    def _column(self, product: str, head: int, coordinate: int) -> int:
        return _PRODUCTS.index(product) * self.width + head * self.size + coordinate

    def _write_selector(self, number: int, head: Aggregate) -> None:
        weight, bias, place = self.attention.c_attn.weight, self.attention.c_attn.bias, self.layout.place
        selector, choice = head.selector, _Choice.of(head, self.layout)
        order = [] if selector.prefer is None else list(self.layout.domain[selector.prefer])
        nothing = GAP * (len(order) + 1)  # the score of <bos>: above every preference, below every match
        match = nothing + GAP
        for row, query in zip(choice.classes, self.layout.domain[selector.queries], strict=True):
            if row >= 0:
                weight[place[selector.queries, query], self._column("q", number, int(row))] = match
        for row, keys in enumerate(choice.matches):
            for key, matched in zip(self.layout.domain[selector.keys], keys, strict=True):
                weight[place[selector.keys, key], self._column("k", number, row)] = float(matched)
        last = len(choice.matches)  # a coordinate in which every query is 1
        bias[self._column("q", number, last)] = 1
        key = self._column("k", number, last)
        weight[place[None, BOS], key] = match if head.of is None else nothing
        for rank, value in enumerate(sorted(order, reverse=not selector.largest), start=1):
            weight[place[selector.prefer, value], key] = GAP * rank

    def _write_values(self, number: int, head: Aggregate) -> None:
        weight, out, place = self.attention.c_attn.weight, self.attention.c_proj.weight, self.layout.place
        own = number * self.size
        at_bos = place[None, BOS]
        for coordinate, value in enumerate([None] if head.number else self.layout.domain[head]):
            column = self._column("v", number, coordinate)
            out[own + coordinate, place[head, value]] = 1
            if head.of is None:
                weight[at_bos, column] = 1
                continue
            if (head.of, value) in place:  # all but a default that is none of the values
                weight[place[head.of, value], column] = 1
            if head.default is not None and (head.number or value == head.default):
                weight[at_bos, column] = float(head.default) if head.number else 1


def _write_mlp(mlp: Any, layout: Layout, units: list[Neuron]) -> None:
    for number, unit in enumerate(units):
        mlp.c_fc.bias[number] = unit.bias
        for direction, size in unit.reads.items():
            mlp.c_fc.weight[layout.place[direction], number] = size
        for direction, size in unit.writes.items():
            mlp.c_proj.weight[number, layout.place[direction]] = size
    _ground(mlp.c_fc.weight)
