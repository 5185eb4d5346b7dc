"""A small random model and dictionaries for it, and every activation of a corpus in one dense array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import interpwidgets as iw
from interpwidgets.models.dictionary import Dictionary

torch.set_num_threads(1)
VOCABULARY, WIDTH, FEATURES, CONTEXT = 37, 16, 40, 12


def random_model(seed: int = 0, **options: Any) -> iw.Model:
    torch.manual_seed(seed)
    size = {"n_layer": 2, "n_head": 2, "n_embd": WIDTH, "vocab_size": VOCABULARY, "n_positions": 32}
    module = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=None, **size | options))
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                weight.mul_(6.0)
    return iw.Model(module.eval(), name="random")


def random_dictionary(kind: str = "relu", seed: int = 0, n: int = FEATURES, **options: Any) -> Dictionary:
    """Features of all densities: the first is never active, later ones more and more often."""
    one = Dictionary(WIDTH, n, kind=kind, site="resid_post", layer=0, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in one.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
        bias = torch.linspace(-6.0, 2.0, n)
        bias[0] = -1e6
        one.b_enc.copy_(bias)
        if kind == "jumprelu":
            one.threshold.abs_()
    return one.requires_grad_(False)


def random_corpus(rng: np.random.Generator, documents: int) -> list[list[int]]:
    """Documents of many lengths, some with <bos> (0), some twice."""
    found = [rng.integers(1, VOCABULARY, rng.integers(1, 4 * CONTEXT)).tolist() for _ in range(documents)]
    found[::3] = [[0, *ids] for ids in found[::3]]
    return [*found, *found[:3]]


def pieces(corpus: list[list[int]], context: int = CONTEXT) -> list[list[int]]:
    """The contexts of a corpus, written out again."""
    cut: list[list[int]] = []
    for ids in corpus:
        if ids[0] == 0:
            cut += [[0, *ids[i : i + context - 1]] for i in range(1, len(ids), context - 1)]
        else:
            cut += [ids[i : i + context] for i in range(0, len(ids), context)]
    return [list(piece) for piece in dict.fromkeys(map(tuple, cut))]


def dense(model: iw.Model, dictionary: Dictionary, contexts: list[list[int]]) -> list[np.ndarray]:
    """Activations of every context, from transformers' own hidden states: [pos, feature]; NaN where not counted."""
    found = []
    for ids in contexts:
        with torch.no_grad():
            hidden = model.module(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
            active = dictionary.encode(hidden[dictionary.layer + 1][0]).numpy().astype(np.float64)
        if ids[0] == 0:
            active[0] = np.nan
        found.append(active)
    return found


@pytest.fixture(scope="session")
def model() -> iw.Model:
    return random_model()


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    return random_dictionary()


@pytest.fixture
def fresh() -> np.random.Generator:
    return np.random.default_rng()


Build = Callable[..., Any]
