"""Causal scrubbing: exchange all that a hypothesis says is exchangeable, and see whether the model still does it.

A hypothesis is a graph of nodes. A node is some components of the model (heads' z, MLPs' mlp_out, the embedding), what
they read (its inputs, nodes again), and a feature: what of the prompt their values depend on. Scrubbed, the logits of
a prompt x are computed as the hypothesis allows, at random (Chan et al. 2022 "Causal scrubbing", §3, algorithm 1):

- an input of a node is computed for a prompt drawn from those with the same feature as the node's own prompt;
- all else that the node could read comes from a random prompt, as it was there;
- a node without inputs is what it is on its prompt.

Every node that reads another one has its own draw of it (the graph is made a tree). What can be said this way: which
components matter, what they read from one another through the residual stream, and at which positions they write. A
head is one thing: that its queries read one node and its keys another cannot be said, nor which of a node's own
components reads which of its inputs; components of one node see each other as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.editor import Chain, Editor, Plain, positions_of
from interpwidgets.intervene.engine import Engine, run_tape
from interpwidgets.intervene.interventions import Freeze, Intervention, Patch
from interpwidgets.intervene.metrics import Metric, as_metric
from interpwidgets.intervene.paths import Place, held_sites
from interpwidgets.intervene.running import placed
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.record import forward, recorder, recording_of
from interpwidgets.models.sites import SITES, Site
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts
from interpwidgets.stats import interval
from interpwidgets.tokens import Tokens

__all__ = ["Hypothesis", "Node", "Scrubbed", "causal_scrub"]

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

_ROWS = 2048  # positions computed at a time


@dataclass(frozen=True, eq=False)
class Node:
    """Components, what of a prompt they depend on, and what they read.

    - sites: places (site, layer), (site, layer, head) or (site, layer, head, pos) of z, mlp_out and embed
    - feature: from a prompt's Tokens to anything hashable; the whole prompt if None
    - inputs: the nodes that are read; without any, the prompt is
    """

    name: str
    sites: Sequence[Place]
    feature: Callable[[Tokens], Hashable] | None = None
    inputs: Sequence[Node] = ()


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What the logits are computed from: nodes, with what they read in turn."""

    inputs: Sequence[Node]


@dataclass(frozen=True, eq=False, repr=False)
class Scrubbed:
    """How much of a behaviour a hypothesis explains; each a number for every prompt of the dataset, [prompt]."""

    metric: str
    model: Floats  # the model as it is
    scrubbed: Floats  # with everything exchanged that the hypothesis says is exchangeable, averaged over samples
    random: Floats  # with everything exchanged
    samples: int
    seed: int = 0

    @property
    def recovered(self) -> float:
        """(scrubbed − random) / (model − random), of means: 1 if the hypothesis explains all; NaN for 0 / 0."""
        gap = self._gap
        return float((self.scrubbed - self.random).mean() / gap) if gap else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high) of `recovered`: a bootstrap over prompts of the ratio, linearised."""
        gap, share = self._gap, self.recovered
        if not gap:
            return float("nan"), float("nan")
        rest = (self.scrubbed - self.random) - share * (self.model - self.random)  # of mean zero
        low, high = interval(rest / gap, level, self.seed)
        return share + float(low), share + float(high)

    @property
    def _gap(self) -> float:
        return float((self.model - self.random).mean())

    def __repr__(self) -> str:
        low, high = self.interval()
        return (
            f"{self.metric}: {self.model.mean():.3g} as it is, {self.scrubbed.mean():.3g} scrubbed, "
            f"{self.random.mean():.3g} at random: the hypothesis recovers {100 * self.recovered:.0f} % "
            f"(95 % {100 * low:.0f}…{100 * high:.0f} over {len(self.model)} prompts, {self.samples} samples each)"
        )


def causal_scrub(
    model: Model | Any,
    hypothesis: Hypothesis,
    dataset: Prompts,
    metric: Metric | Any,
    *,
    samples: int = 4,
    seed: int = 0,
) -> Scrubbed:
    """Test a hypothesis by resampling everything it leaves open, `samples` times for each prompt of the dataset.

    >>> previous = Node("previous", [("z", 0, 2)])
    >>> induction = Node("induction", [("z", 1, 1)], inputs=[Node("tokens", [("embed", None)]), previous])
    >>> causal_scrub(model, Hypothesis([induction]), dataset, loss())

    The module's text says what a hypothesis can say, and what not. The metric's targets stay those of each prompt.
    Chan et al. 2022 "Causal scrubbing: a method for rigorously testing interpretability hypotheses", §3.

    Raises InputError for a dataset of one prompt or of different lengths, components that are not there, nodes that
    read what comes after them, and blocks whose components cannot be told apart.
    """
    model = as_model(model)
    batch = read_prompts(model, dataset)
    if len(batch.tokens) < 2 or len(set(batch.lengths)) > 1:
        raise InputError(
            "A dataset is two prompts or more of one number of tokens, so that their values can be exchanged; got "
            f"{len(batch.tokens)} of {sorted(set(batch.lengths))} tokens."
        )
    if not isinstance(hypothesis, Hypothesis):
        raise InputError(f"A hypothesis is Hypothesis([Node(…), …]); got {hypothesis!r:.80}.")
    if samples < 1:
        raise InputError(f"samples is a number from 1 on; got {samples}.")
    count = len(batch.tokens)
    scrub = _Scrub(model, batch, as_metric(metric), np.random.default_rng(seed))
    inputs = [scrub.read(node, None) for node in hypothesis.inputs]
    scrub.check_apart(inputs, "the logits")
    refs = np.tile(np.arange(count), samples)
    scrubbed = scrub.metric(inputs, refs)
    others = scrub.draw(None, refs)
    bound, logits = scrub.engine.metric, scrub.engine.logits
    random = bound(logits[torch.from_numpy(others)], torch.from_numpy(refs)).double().cpu().numpy()
    return Scrubbed(
        bound.name, scrub.engine.base_values, scrubbed.reshape(samples, count).mean(0),
        random.reshape(samples, count).mean(0), samples, seed,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Node:
    """A node as places of a model, with its prompts by feature."""

    name: str
    places: list[Patch]
    groups: list[Numbers]  # for each prompt, those with the same feature
    inputs: list[_Node] = field(default_factory=list)


Values = list[tuple[Patch, Tensor]]  # of each place, its site's values [row, pos, …]


class _Scrub:
    """A model, a dataset, what the model does on it, and draws from it."""

    def __init__(self, model: Model, batch: Batch, metric: Metric, rng: np.random.Generator) -> None:
        self._model, self._batch, self._rng = model, batch, rng
        self.engine = Engine(model, batch, metric)
        self._held = [(site, at) for at in range(model.n_layers) for site in held_sites(model, at, ("z", "mlp_out"))]
        tape = recorder(model, batch, [("embed", None), *self._held])
        forward(model, batch, tape, logits=False)
        self._rec = recording_of(model, batch, tape, None)

    def read(self, node: Node, reader: list[Patch] | None) -> _Node:
        """A node, after checking that it can be and comes before its reader."""
        places = [_place(self._model, given, node.name) for given in node.sites]
        if not places:
            raise InputError(f"Node {node.name!r} has no sites.")
        if node.inputs and any(place.site == "embed" for place in places):
            raise InputError(f"Node {node.name!r} holds the embedding, which reads no other node.")
        late = None if reader is None else max(map(_order, reader))
        if late is not None and (wrong := [place for place in places if _order(place) >= late]):
            raise InputError(f"{wrong[0].where}, in node {node.name!r}, does not come before what reads it.")
        feature = node.feature or (lambda tokens: tokens.keys)
        members: dict[Hashable, list[int]] = defaultdict(list)
        features = [feature(tokens) for tokens in self._batch.tokens]
        for prompt, value in enumerate(features):
            members[value].append(prompt)
        inputs = [self.read(each, places) for each in node.inputs]
        self.check_apart(inputs, f"node {node.name!r}")
        return _Node(node.name, places, [np.array(members[value]) for value in features], inputs)

    def draw(self, groups: list[Numbers] | None, refs: Numbers) -> Numbers:
        """For each row a prompt, of those that agree with the row's."""
        if groups is None:
            return self._rng.integers(len(self._batch.tokens), size=len(refs))
        return np.array([self._rng.choice(groups[ref]) for ref in refs])

    def metric(self, inputs: list[_Node], refs: Numbers) -> Floats:
        """The metric of prompts by scrubbed logits, [row]."""
        told = [value for node in inputs for value in self._value(node, self.draw(node.groups, refs))]
        others = self.draw(None, refs)
        found = []
        for rows, batch, editor in self._passes(others, told, []):
            prompts = torch.from_numpy(refs[rows])
            logits = run_tape(self._model, batch, editor, self.engine.metric.positions[prompts])
            found.append(self.engine.metric(logits, prompts).double().cpu())
        return np.asarray(torch.cat(found))

    def _value(self, node: _Node, refs: Numbers) -> Values:
        """What a node's places are for these prompts."""
        sites: set[Site] = {(place.site, place.layer) for place in node.places}
        if not node.inputs:
            index = torch.from_numpy(refs)
            return [(place, self._rec.emitted(place.site, place.layer)[index]) for place in node.places]
        told = [value for each in node.inputs for value in self._value(each, self.draw(each.groups, refs))]
        parts: dict[Site, list[Tensor]] = defaultdict(list)
        for _, batch, editor in self._passes(self.draw(None, refs), told, node.places):
            tape = recorder(self._model, batch, sites)
            forward(self._model, batch, Chain(editor, tape), logits=False)
            for site in sites:
                parts[site].append(tape.values[site])
        return [(place, torch.cat(parts[place.site, place.layer])) for place in node.places]

    def _passes(self, others: Numbers, told: Values, free: list[Patch]) -> Iterator[tuple[slice, Batch, Editor]]:
        """Runs of random prompts, held at what they are but for some places; others of them are told values."""
        size = self._batch.lengths[0]
        holds = self._holds(free)
        step = max(1, _ROWS // size)
        for first in range(0, len(others), step):
            rows = slice(first, first + step)
            index = torch.from_numpy(others[rows])
            inputs = {name: given[index.to(given.device)] for name, given in self._batch.inputs.items()}
            batch = Batch([self._batch.tokens[prompt] for prompt in others[rows]], inputs)
            runs = [
                (int(prompt), [*holds, *(replace(place, value=value[first + row][None]) for place, value in told)])
                for row, prompt in enumerate(others[rows])
            ]
            yield rows, batch, Editor(runs, self._batch.lengths, Plain(size), model=self._model)

    def _holds(self, free: list[Patch]) -> list[Intervention]:
        """What holds everything but those places."""
        size, holds = self._batch.lengths[0], list[Intervention]()
        for site, layer in self._held:
            held = torch.ones(self._heads(site, layer), size, dtype=torch.bool)
            for place in free:
                if (place.site, place.layer) == (site, layer):
                    held &= ~self._mask(place)
            if bool(held.all()):
                holds.append(Freeze(site, layer, value=self._rec))
                continue
            for head in range(len(held)):
                if bool(held[head].any()):
                    pos = held[head].nonzero()[:, 0].tolist()
                    holds.append(Freeze(site, layer, head=head if site == "z" else None, pos=pos, value=self._rec))
        return holds

    def _heads(self, site: str, layer: int | None) -> int:
        return self._model.anatomy.parts[layer or 0].heads or 1 if site == "z" else 1

    def _mask(self, place: Patch) -> Tensor:
        """Which heads and positions a place is: [head, pos]."""
        count = self._heads(place.site, place.layer)
        mask = torch.zeros(count, self._batch.lengths[0], dtype=torch.bool)
        heads = torch.arange(count) if place.head is None else torch.as_tensor(place.head).reshape(-1)
        if bool(((heads < -count) | (heads >= count)).any()):
            raise InputError(f"{place.where}: there are {count} heads, numbered from 0.")
        mask[heads[:, None], positions_of(place, mask.shape[1])] = True
        return mask

    def check_apart(self, inputs: list[_Node], reader: str) -> None:
        """Two inputs of one node cannot both say what a component is."""
        seen: list[tuple[str, Site, Tensor]] = []
        for node in inputs:
            own = [(node.name, (place.site, place.layer), self._mask(place)) for place in node.places]
            for _, site, mask in own:
                if twice := [name for name, other, taken in seen if other == site and bool((mask & taken).any())]:
                    raise InputError(f"{site[0]} is in two inputs of {reader}: {twice[0]!r} and {node.name!r}.")
            seen += own


def _place(model: Model, given: Any, name: str) -> Patch:
    if not isinstance(given, (tuple, list)) or not 1 <= len(given) <= 4 or not isinstance(given[0], str):
        raise InputError(
            f"The sites of node {name!r} are (site, layer), (site, layer, head) or (site, layer, head, pos); got "
            f"{given!r}."
        )
    site, layer, head, pos = (*given, None, None, None)[:4]
    found = placed(model, [Patch(site, layer, head=head, pos=pos)])[0]
    assert isinstance(found, Patch)
    if found.site not in ("embed", "z", "mlp_out"):
        raise InputError(f"Node {name!r}: components are z, mlp_out and embed; {found.site!r} is none of them.")
    return found


def _order(place: Patch) -> tuple[int, int]:
    return (-1 if place.layer is None else place.layer), SITES.index(place.site)
