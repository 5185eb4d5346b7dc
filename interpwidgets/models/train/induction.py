"""Train `induction-2l`: two layers of attention and nothing else, small enough to learn to copy in minutes.

The model is an ordinary GPT-2 of `transformers` whose MLPs are one neuron wide, all zero and frozen: so it loads with
no code of ours, and what it does, attention does.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.models.scores import copy_accuracy, repeated_tokens, token_losses
from interpwidgets.models.train.corpus import BOS, ORDINARY, PAD, TOKEN_ID, UNK, batch
from interpwidgets.models.train.muon import Muon
from interpwidgets.models.train.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

__all__ = ["NAME", "Recipe", "new_model", "train"]

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

    def run_id(self) -> str:
        """Name everything the weights depend on, in eight letters: the recipe and the corpus."""
        first = batch(self.seed, 0, 8, self.context, self.repeats)
        return hashlib.sha256(json.dumps([asdict(self), list(TOKEN_ID), first]).encode()).hexdigest()[:8]


def new_model(recipe: Recipe) -> Any:
    """Build the untrained model; nothing but the seed decides its weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(TOKEN_ID),
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=1,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=None,
        pad_token_id=PAD,
        dtype="float32",  # the files hold float16, which is for storing: transformers computes in this type
        architectures=["GPT2LMHeadModel"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model: Any = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(_waves(recipe.context, recipe.width) * recipe.position_scale)
        for block in model.transformer.h:
            for weight in [*block.mlp.parameters(), *block.ln_2.parameters()]:
                weight.requires_grad_(False)
            for weight in block.mlp.parameters():
                weight.zero_()
    return model


def _waves(positions: int, width: int) -> Tensor:
    """Sines and cosines of many periods [position, width]: neighbours start out alike, so shifts are easy to learn.

    No period is much longer than the context: the usual ones, up to 60,000, leave half of the width nearly constant.
    """
    place = torch.arange(positions)[:, None]
    rate = torch.exp(-math.log(100) * torch.arange(0, width, 2) / width)
    return torch.cat([torch.sin(place * rate), torch.cos(place * rate)], dim=1)


class _Optimiser:
    """Muon for the attention matrices, AdamW for everything else, on one schedule that knows steps and no clock."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        self.recipe = recipe
        self.matrices = {n: p for n, p in model.named_parameters() if ".attn.c_" in n and p.ndim == 2}
        self.others = {n: p for n, p in model.named_parameters() if p.requires_grad and n not in self.matrices}
        self.muon = Muon(self.matrices.values())
        self.adam = torch.optim.AdamW(self.others.values(), betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, number: int) -> None:
        r = self.recipe
        # Copying is learnt while the rates fall: at their height the embeddings move too fast to be matched.
        share = min(1.0, (number + 1) / r.warm_up) * 0.5 * (1 + math.cos(math.pi * number / r.steps))
        self.adam.param_groups[0]["lr"] = r.other_rate * share
        self.muon.step(r.matrix_rate * share)
        self.adam.step()

    def state(self) -> dict[str, Tensor]:
        state = {f"muon.{n}": v for n, v in zip(self.matrices, self.muon.velocity, strict=True)}
        for name, weight in self.others.items():
            state |= {f"adam.{key}.{name}": value for key, value in self.adam.state[weight].items()}
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        for name, velocity in zip(self.matrices, self.muon.velocity, strict=True):
            velocity.copy_(state[f"muon.{name}"])
        for name, weight in self.others.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            kept = {key: state[f"adam.{key}.{name}"] for key in keys if f"adam.{key}.{name}" in state}
            if kept:  # before the first step there is none
                self.adam.state[weight] = kept


def train(recipe: Recipe, out: Path, *, until: int | None = None, progress: bool = True) -> Path:
    """Train by the recipe, or go on where a run of it stopped; give the run's folder.

    `until` stops early, at that step: the next call goes on from there to the same weights as without the stop.
    """
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    about = {"system": NAME, "run": recipe.run_id(), "recipe": json.loads(json.dumps(asdict(recipe)))}
    run = Run(out / f"{NAME}-seed-{recipe.seed}-{about['run']}", about)
    model = new_model(recipe)
    optimiser = _Optimiser(model, recipe)
    done = run.open()
    if done >= 0:
        state = run.load_state()
        model.load_state_dict({n[6:]: v for n, v in state.items() if n.startswith("model.")}, strict=False)
        model.tie_weights()
        optimiser.load(state)
    before = run.log()[-1]["cpu_seconds"] - time.process_time() if run.log() else -time.process_time()
    goal = recipe.steps if until is None else min(until, recipe.steps)
    with _one_thread(), tqdm(total=goal, initial=max(done, 0), disable=not progress, unit="step") as bar:
        if done < 0:
            _keep(run, 0, model, optimiser, recipe, before)
        for number in range(max(done, 0), goal):
            loss = _train_step(model, optimiser, recipe, number)
            bar.update()
            if (number + 1) % recipe.checkpoint_every == 0 or number + 1 == goal:
                accuracy = _keep(run, number + 1, model, optimiser, recipe, before)
                bar.set_postfix(loss=f"{loss:.2f}", copies=f"{accuracy:.2f}")
    return run.folder


def _train_step(model: Any, optimiser: _Optimiser, recipe: Recipe, number: int) -> float:
    rows, length = recipe.shapes[number % len(recipe.shapes)]
    tokens = torch.tensor(batch(recipe.seed, number, rows, length, recipe.repeats))  # [row, position]
    losses = token_losses(model(tokens).logits, tokens)
    loss = losses[tokens[:, 1:] != UNK].mean()  # which word is unknown is not worth predicting
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step(number)
    return float(loss.detach())


def _keep(run: Run, step: int, model: Any, optimiser: _Optimiser, recipe: Recipe, before: float) -> float:
    """Write a checkpoint, with the figures that show the bump; `before` plus the clock is the time spent so far."""
    length = recipe.context // 6
    copies = repeated_tokens(ORDINARY, 24, length, seed=0, bos=BOS)
    text = torch.tensor(batch(0, 0, 24, recipe.context // 2, 0.0, "heldout"))
    with torch.no_grad():
        logits = model(copies).logits
        line = {
            "cpu_seconds": round(before + time.process_time(), 1),
            "copy_accuracy": float(copy_accuracy(logits, copies, length).mean()),
            "copy_loss": float(token_losses(logits, copies)[:, 1 - length :].mean()),
            "text_loss": float(token_losses(model(text).logits, text)[text[:, 1:] != UNK].mean()),
        }
    weights = {n: p for n, p in model.state_dict().items() if n != "lm_head.weight"}  # it is the embedding
    state = {f"model.{n}": p for n, p in weights.items()} | optimiser.state()
    run.save(step, weights, model.config.to_json_string(), state, line)
    return line["copy_accuracy"]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum in one order always: with more threads, the same seed would give other weights from time to time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
