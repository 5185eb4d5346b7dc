"""Measure on fresh prompts how far a model carries out its causal graph, and whether our methods find it there.

The first part holds the model to the graph by exchanges on prompts that occur in no training. The second part forgets
the graph: every head and every MLP is scored by a method as on any model, and the area under the ROC curve says how
well the score tells the components in the graph from the others, 1 being without a mistake and .5 by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from interpwidgets.intervene import attribution_patch, causal_trace, logit_diff, patch_sweep, path_sweep
from interpwidgets.models.train.known.exchange import Exchange, exchanged, recorded
from interpwidgets.models.train.known.graph import Component
from interpwidgets.models.train.known.siit import components, interchange, spare, token_ids, tokens_of

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.train.known.exchange import Recorded
    from interpwidgets.models.train.known.graph import Known, Prompt

__all__ = [
    "PAIRS",
    "ROWS",
    "exchanges",
    "measure",
    "measures",
    "path_scores",
    "recovery",
    "recovery_measures",
    "roc_auc",
    "scores",
    "trace_auc",
]

ROWS = 128  # held-out prompts in a sample
PAIRS = 12  # pairs of them, for each way to differ

TRACED = 4  # prompts of which a sample traces each

ANSWER: Component = ("resid_post", -1, -1)
Scores = dict[Component, float]


def measures(known: Known) -> dict[str, str]:
    """Say what `measure` gives, by name."""
    said = {"behaviour": "held-out prompts answered right: the best of all tokens"}
    for node in known.graph.nodes:
        said[f"interchange_{node.name}"] = f"`{node.name}` taken from another prompt: answered as the graph does"
        said[f"interchange_changed_{node.name}"] = "of these, where the graph changes its answer"
    said["others_one"] = "one component taken from another prompt where the graph has no node: answer stays; the worst"
    said["others_all"] = "all that is no node of the graph taken from another prompt at once: answered right"
    said["others_write"] = "length of what a component outside writes to the stream, as a share of one inside; the mean"
    return said | recovery_measures(known)


def recovery_measures(known: Known) -> dict[str, str]:
    """Say what `recovery` gives, by name."""
    said = {
        "auc_patch": "ROC AUC of activation patching: `patch_sweep` over z and mlp_out",
        "auc_attribution": "ROC AUC of `attribution_patch` over z and mlp_out",
        "auc_path": "ROC AUC of path patching: `path_sweep`, pairs of sender and receiver",
    }
    if known.trace:
        said["auc_trace"] = "ROC AUC of `causal_trace` over attn_out and mlp_out, layers × positions"
    return said


def measure(known: Known, model: Any, seed: int) -> dict[str, float]:
    """Measure what `load` gave, on prompts drawn from `seed`."""
    found = exchanges(known, model.module, seed) | recovery(known, model, seed)
    return {name: found[name] for name in measures(known)}


@torch.no_grad()
def exchanges(known: Known, module: Any, seed: int, rows: int = ROWS) -> dict[str, float]:
    """Hold a model to its graph: what it does as it is, with a node exchanged, and with all else exchanged."""
    rng = Random(f"{known.name} exchanges {seed}")  # noqa: S311  a test sample, not a secret
    asked = _Asked(known, module, [known.draw(rng, "heldout") for _ in range(rows)])
    found = {"behaviour": float(asked.right().mean())}
    for node in known.graph.nodes:
        exchange = asked.exchange()
        taken = [interchange(known, rng, *pair, node) for pair in asked.pairs]
        for row, each in enumerate(taken):
            each.put(exchange, row)
        answers = [each.answer for each in taken]
        right = asked.right(exchange, answers)
        changed = torch.tensor([new != old for new, old in zip(answers, asked.answers, strict=True)])
        found[f"interchange_{node.name}"] = float(right.mean())
        found[f"interchange_changed_{node.name}"] = float(right[changed].mean())
    parts = components(module.config)
    found["others_one"] = min(asked.without([part]) for part in parts)
    exchange = asked.exchange(parts)
    found["others_all"] = float(asked.right(exchange, asked.answers).mean())
    graph = {node.component for node in known.graph.nodes}
    inside = [asked.written(part) for part in parts if part in graph]
    outside = [asked.written(part) for part in parts if part not in graph]
    found["others_write"] = float(np.mean(outside) / np.mean(inside))
    return found


class _Asked:
    """Prompts, what a model said to them, and what it says with exchanges from one to the next."""

    def __init__(self, known: Known, module: Any, prompts: list[Prompt]) -> None:
        self.known, self.module, self.prompts = known, module, prompts
        self.sources = [*prompts[1:], prompts[0]]
        self.pairs = list(zip(prompts, self.sources, strict=True))
        self.answers = [known.answer(prompt) for prompt in prompts]
        self.ids = token_ids(known)
        self.tokens = tokens_of(known, prompts)
        self.ends = torch.tensor([prompt.end for prompt in prompts])
        with recorded(module) as run:
            self.said = self._best()
        self.run: Recorded = run

    def exchange(self, parts: list[Component] | None = None) -> Exchange:
        """Begin an exchange; `parts` are exchanged wherever the graph has no node."""
        exchange = Exchange(self.prompts, self.sources, self.module.config)
        for row, prompt in enumerate(self.prompts):
            spare(self.known, exchange, row, prompt, parts or [])
        return exchange

    def without(self, parts: list[Component]) -> float:
        """Give the share of answers that stay."""
        return float((self._best(self.exchange(parts)) == self.said).float().mean())

    def written(self, part: Component) -> float:
        """Give the mean length of what a component writes to the residual stream."""
        site, layer, head = part
        wrote = self.run.mlp_out[layer]
        if site == "z":
            heads = self.module.config.n_head
            z = self.run.z[layer].view(*wrote.shape[:2], heads, -1)[:, :, head]
            wrote = z @ self.module.transformer.h[layer].attn.c_proj.weight.view(heads, z.shape[-1], -1)[head]
        there = torch.arange(wrote.shape[1]) <= self.ends[:, None]  # padding is no part of a prompt
        return float(wrote.norm(dim=-1)[there].mean())

    def right(self, exchange: Exchange | None = None, answers: list[str] | None = None) -> Tensor:
        """Tell [row] whether the best token is the answer."""
        best = self.said if exchange is None else self._best(exchange)
        return (best == torch.tensor([self.ids[answer] for answer in answers or self.answers])).float()

    def _best(self, exchange: Exchange | None = None) -> Tensor:
        rows = torch.arange(len(self.prompts))
        if exchange is None:
            logits = self.module(self.tokens, use_cache=False).logits
        else:
            with exchanged(self.module, self.run, rows.roll(-1), exchange):
                logits = self.module(self.tokens, use_cache=False).logits
        best: Tensor = logits[rows, self.ends].argmax(-1)
        return best


def recovery(known: Known, model: Any, seed: int) -> dict[str, float]:
    """Score every component by each method; tell how well the scores know the graph."""
    graph = {node.component for node in known.graph.nodes}
    found = {}
    for name in ("patch", "attribution"):
        scored = scores(known, model, seed, name)
        found[f"auc_{name}"] = roc_auc(scored, graph)
    edges = path_scores(known, model, seed)
    found["auc_path"] = roc_auc(edges, _edges(known))
    if known.trace:
        found["auc_trace"] = trace_auc(known, model, seed)
    return found


def roc_auc(scored: Mapping[Any, float], positive: set[Any]) -> float:
    """Give the probability that one of `positive` scores above one that is not; a tie counts half."""
    inside = np.array([score for key, score in scored.items() if key in positive])
    outside = np.array([score for key, score in scored.items() if key not in positive])
    above = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    return float(above)


def scores(known: Known, model: Any, seed: int, method: str = "patch", pairs: Sequence[str] | None = None) -> Scores:
    """Score heads and MLPs by how much of the answer each brings back, the most of all ways to differ."""
    found: Scores = {}
    for name in pairs or known.pairs:
        clean, corrupted, metric = _contrast(known, seed, name)
        for site, by in (("z", ("layer", "head")), ("mlp_out", ("layer",))):
            sweep: Any = partial(patch_sweep, progress=False) if method == "patch" else attribution_patch
            effects = sweep(model, clean, corrupted, metric, over=site, by=by)
            for place, value in np.ndenumerate(np.asarray(effects.recovered)):
                part = (site, *place, *([-1] if site == "mlp_out" else []))
                found[part] = max(found.get(part, 0.0), abs(float(value)))
    return found


def path_scores(known: Known, model: Any, seed: int) -> dict[tuple[Component, Component], float]:
    """Score each pair of sender and receiver by how much of the answer goes that way; receivers are the graph's."""
    found: dict[tuple[Component, Component], float] = {}
    receivers = dict.fromkeys(receiver for _, receiver in _edges(known))
    for name in known.pairs:
        clean, corrupted, metric = _contrast(known, seed, name)
        for receiver in receivers:
            ends = _inputs(receiver, model.n_layers)
            for site in ("z", "mlp_out"):
                if site == "mlp_out" and receiver[1] == 0:
                    continue  # nothing of the kind comes before
                effects = path_sweep(model, clean, corrupted, metric, receivers=ends, over=site, progress=False)
                layers = effects.axes[0].labels
                for (row, *head), value in np.ndenumerate(np.asarray(effects.recovered)):
                    key = (site, int(layers[row]), *(head or [-1])), receiver
                    found[key] = max(found.get(key, 0.0), abs(float(value)))
    return found


def _edges(known: Known) -> set[tuple[Component, Component]]:
    """Give the edges of the graph as pairs of components; the answer is read where the last block ends."""
    parts = {node.name: node.component for node in known.graph.nodes} | {"answer": ANSWER}
    return {(parts[edge.sender], parts[edge.receiver]) for edge in known.graph.edges}


def _inputs(receiver: Component, layers: int) -> list[tuple[Any, ...]]:
    site, layer, head = receiver
    if receiver == ANSWER:
        return [("resid_post", layers - 1)]
    return [(read, layer, head) for read in ("q", "k", "v")] if site == "z" else [("mlp_pre", layer)]


def trace_auc(known: Known, model: Any, seed: int) -> float:
    """Score each layer and position of attn_out and mlp_out by what it restores under noise on the name.

    The positives are the nodes that the name goes through; those that carry something else are left out.
    """
    rng = Random(f"{known.name} trace {seed}")  # noqa: S311  a test sample, not a secret
    found = []
    for number in range(TRACED):
        prompt = known.draw(rng, "heldout")
        subject = [prompt.roles[role][0] for role in known.trace]
        traced = causal_trace(
            model, prompt.text, subject=subject, noise=3.0, samples=3, window=1, over=["attn_out", "mlp_out"],
            target=token_ids(known)[known.answer(prompt)], seed=seed + number, progress=False,
        )  # fmt: skip
        scored: dict[tuple[str, int, int], float] = {}
        for site, effects in (("z", traced.attn), ("mlp_out", traced.mlp)):
            assert effects is not None
            for (layer, pos), value in np.ndenumerate(np.asarray(effects.effect)):
                scored[site, layer, pos] = abs(float(value))
        cells: dict[tuple[str, int, int], bool] = {
            (n.site, n.layer, at): n.traced for n in known.graph.nodes for at in prompt.roles[n.role]
        }
        kept = {cell: score for cell, score in scored.items() if cells.get(cell, True)}
        found.append(roc_auc(kept, {cell for cell, traced_too in cells.items() if traced_too}))
    return float(np.mean(found))


def _contrast(known: Known, seed: int, name: str) -> tuple[list[str], list[str], Any]:
    """Draw pairs that differ in one way, and the metric that tells their answers apart."""
    rng = Random(f"{known.name} {name} {seed}")  # noqa: S311  a test sample, not a secret
    pairs = [known.pairs[name](rng, "heldout") for _ in range(PAIRS)]
    ids = token_ids(known)
    right, wrong = ([ids[known.answer(prompt)] for prompt in side] for side in zip(*pairs, strict=True))
    clean, corrupted = ([prompt.text for prompt in side] for side in zip(*pairs, strict=True))
    return clean, corrupted, logit_diff(right, wrong)
