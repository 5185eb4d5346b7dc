"""What recording adds to a forward pass: the same module, the same tokens, in pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.attention import say
from bench.report import Budget, Claim, Table, middle, number


def run(sizes: Sequence[tuple[int, int]], layers: int = 12) -> tuple[Claim, str]:
    """Measure at each length T, in as many pairs as are given with it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import interpwidgets as iw

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    model = iw.load((module, None))
    sites = ("resid_pre", "resid_post", "q", "k")
    what = "recorded: residual stream, q, k"
    table = Table(
        f"Recording a GPT-2-small-shaped model ({layers} layers, random weights), one thread",
        ["T", what, "plain forward pass", "recording", "ratio, median of pairs", "lowest", "highest", "pairs"],
    )
    worst = 0.0
    for length, pairs in sizes:
        tokens = torch.randint(0, module.config.vocab_size, (1, length))
        kinds: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "the blocks, without the unembedding": (
                lambda ids=tokens: module.transformer(input_ids=ids, use_cache=False),
                lambda ids=tokens: iw.record(model, ids, sites=sites),
            ),
            "the whole model, with logits": (
                lambda ids=tokens: module(input_ids=ids, use_cache=False),
                lambda ids=tokens: iw.record(model, ids, sites=(*sites, "logits")),
            ),
        }
        for name, (plain, recorded) in kinds.items():
            say(f"T = {length}: {name}")
            found = paired(plain, recorded, pairs)
            ratios = [with_it / without for without, with_it in found]
            ratio = middle(ratios) or 0.0
            worst = max(worst, ratio)
            table.rows.append(
                [
                    str(length),
                    name,
                    f"{number(middle([without for without, _ in found]))} s",
                    f"{number(middle([with_it for _, with_it in found]))} s",
                    f"{ratio:.3f}×",
                    f"{min(ratios):.3f}×",
                    f"{max(ratios):.3f}×",
                    str(pairs),
                ]
            )
    table.notes = [
        "CPU seconds. Each pair runs both, in an order that alternates; the ratio is of the pair. Both sides are under "
        "`no_grad` and compute the same: where recording leaves out the unembedding, so does the plain pass."
    ]
    budget = Budget("recording residual stream, q and k, against the plain forward pass", "≤", 1.10, "×")
    return Claim("Recording", [table], [(budget, worst)]), ""


def paired(plain: Callable[[], Any], recorded: Callable[[], Any], pairs: int) -> list[tuple[float, float]]:
    """CPU seconds of both, pair by pair; a first pair is not counted."""
    import torch

    found = []
    with torch.no_grad():
        for turn in range(pairs + 1):
            spent = [0.0, 0.0]
            for which in (0, 1) if turn % 2 else (1, 0):
                started = time.process_time()
                (plain, recorded)[which]()
                spent[which] = time.process_time() - started
            if turn:
                found.append((spent[0], spent[1]))
    return found
