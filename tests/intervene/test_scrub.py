"""Causal scrubbing is what the paper's recursion says, a prompt, a node and a pass at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import HEADS, LAYERS, VOCABULARY, Naive, build, put

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import Hypothesis, Node, Scrubbed, causal_scrub, scrub

torch.set_num_threads(1)
SIZE, COUNT = 6, 7
METRIC = iw.logit_diff([3, 4, 5, 6, 7, 8, 9], 1)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


@pytest.fixture(scope="module")
def dataset() -> list[list[int]]:
    rng = np.random.default_rng(2)
    return [[int(rng.integers(1, 3)), *rng.integers(1, VOCABULARY, SIZE - 1).tolist()] for _ in range(COUNT)]


def first(tokens: iw.Tokens) -> object:
    return tokens[0]


def nothing(_: iw.Tokens) -> object:
    return None


TOKENS = Node("tokens", [("embed", None)])
EARLY = Node("early", [("z", 0, 1), ("mlp_out", 0)], first)
CASES = {
    "one head": Hypothesis([Node("head", [("z", 2, 3)])]),
    "what depends on the first token": Hypothesis([EARLY, Node("late", [("z", 2, 0, -1)], first)]),
    "a chain": Hypothesis(
        [Node("late", [("z", 2, 0), ("z", 2, 1, [0, 5])], first, [Node("middle", [("mlp_out", 1)], None, [EARLY])])]
    ),
    "one node twice": Hypothesis([EARLY, Node("late", [("mlp_out", 2)], nothing, [TOKENS, EARLY])]),
    "components of one node": Hypothesis([Node("all", [("z", 1), ("z", 2, 2), ("mlp_out", 1)], first, [TOKENS])]),
    "nothing": Hypothesis([]),
}


def parts(place: Any) -> tuple[str, int, list[int], list[int]]:
    """Site, layer, heads, positions."""
    site, layer, head, pos = (*place, None, None, None)[:4]
    heads = list(range(HEADS if site == "z" else 1)) if head is None else [head]
    positions = list(range(SIZE)) if pos is None else [p % SIZE for p in (pos if isinstance(pos, list) else [pos])]
    return site, layer or 0, heads, positions


def hold(value: torch.Tensor, own: set[tuple[int, int]]) -> Any:
    """Put everything to a value but for some positions and heads."""

    def change(x: torch.Tensor) -> torch.Tensor:
        for p in range(SIZE):
            for h in range(x.shape[1]):
                if (p, h) not in own:
                    x[p, h] = value[p, h]
        return x

    return change


def by_hand(naive: Naive, dataset: Any, hypothesis: Hypothesis, row: int, draws: Sequence[Any]) -> float:
    """The scrubbed metric of a row; `draws` are the prompts drawn, in the order of the recursion."""
    drawn = iter(draws)

    def passed(other: int, told: Any, free: Any, read: Any) -> Any:
        every = [(site, layer) for layer in range(LAYERS) for site in ("z", "mlp_out")]
        base = naive.run(dataset[other], read=every)[1]
        changes = []
        for site, layer in every:
            here = [(heads, positions) for s, at, heads, positions in map(parts, free) if (s, at) == (site, layer)]
            own = {(p, h) for heads, positions in here for p in positions for h in heads}
            changes.append((site, layer, hold(base[site, layer], own)))
        for (site, layer, heads, positions), value in told:
            changes += [(site, layer, put(value, h, p)) for h in heads for p in positions]
        return naive.run(dataset[other], changes, read=read)

    def told_by(nodes: Any) -> list[Any]:
        return [item for node in nodes for item in value_of(node, int(next(drawn)[row]))]

    def value_of(node: Node, ref: int) -> list[Any]:
        places = [parts(place) for place in node.sites]
        read = [(site, layer) for site, layer, *_ in places]
        if not node.inputs:
            seen = naive.run(dataset[ref], read=read)[1]
        else:
            told = told_by(node.inputs)
            seen = passed(int(next(drawn)[row]), told, node.sites, read)[1]
        return [(place, seen[place[0], place[1]]) for place in places]

    told = told_by(hypothesis.inputs)
    logits = passed(int(next(drawn)[row]), told, [], [])[0]
    return float(logits[-1, 3 + row % COUNT] - logits[-1, 1])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", [12, 2048])
def test_scrubbing_is_the_recursion(
    naive: Naive, dataset: Any, case: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "_ROWS", rows)
    log: list[Any] = []
    drawn = scrub._Scrub.draw

    def draw(self: Any, groups: Any, refs: Any) -> Any:
        log.append(drawn(self, groups, refs))
        return log[-1]

    monkeypatch.setattr(scrub._Scrub, "draw", draw)
    found = causal_scrub(naive.module, CASES[case], dataset, METRIC, samples=2)
    rows_ = [by_hand(naive, dataset, CASES[case], row, log) for row in range(2 * COUNT)]
    np.testing.assert_allclose(found.scrubbed, np.reshape(rows_, (2, COUNT)).mean(0), atol=1e-9)
    ends = [naive.run(ids)[0][-1] for ids in dataset]
    np.testing.assert_allclose(found.model, [float(end[3 + i] - end[1]) for i, end in enumerate(ends)], atol=1e-9)
    random = [float(ends[other][3 + i % COUNT] - ends[other][1]) for i, other in enumerate(log[-1])]
    np.testing.assert_allclose(found.random, np.reshape(random, (2, COUNT)).mean(0), atol=1e-9)


def test_draws_agree_on_the_feature(naive: Naive, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    drawn = scrub._Scrub.draw

    def draw(self: Any, groups: Any, refs: Any) -> Any:
        found = drawn(self, groups, refs)
        log.append((groups is None, refs, found))
        return found

    monkeypatch.setattr(scrub._Scrub, "draw", draw)
    causal_scrub(naive.module, Hypothesis([EARLY]), dataset, METRIC, samples=30)
    (_, refs, agreeing), (anything, *_), _ = log
    assert anything
    assert all(dataset[a][0] == dataset[b][0] for a, b in zip(refs, agreeing, strict=True))
    same = {i for i, ids in enumerate(dataset) if ids[0] == dataset[0][0]}
    assert set(agreeing[refs == 0].tolist()) == same  # every prompt that agrees is drawn


def test_a_hypothesis_that_leaves_nothing_open_recovers_all(naive: Naive, dataset: Any) -> None:
    everything = [("embed", None), *((site, layer) for layer in range(LAYERS) for site in ("z", "mlp_out"))]
    found = causal_scrub(naive.module, Hypothesis([Node("all", everything)]), dataset, METRIC)
    np.testing.assert_allclose(found.scrubbed, found.model, atol=1e-9)
    assert found.recovered == pytest.approx(1)
    computed = Node("all", everything[1:], None, [TOKENS])  # from the tokens, by the model itself
    again = causal_scrub(naive.module, Hypothesis([computed, TOKENS]), dataset, METRIC)
    np.testing.assert_allclose(again.scrubbed, found.model, atol=1e-9)


def test_the_share_recovered_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    random, gap = rng.normal(size=400), 2 + rng.normal(size=400)
    scrubbed = random + 0.6 * gap + 0.5 * rng.normal(size=400)
    found = Scrubbed("m", random + gap, scrubbed, random, 1)
    low, high = found.interval()
    assert low < found.recovered < high
    shares = []
    for _ in range(2000):  # the ratio's own bootstrap
        at = rng.integers(400, size=400)
        shares.append((scrubbed - random)[at].mean() / gap[at].mean())
    np.testing.assert_allclose([low, high], np.quantile(shares, [0.025, 0.975]), atol=0.006)
    assert repr(found).startswith("m: 1.9")
    assert "the hypothesis recovers 59 % (95 % 57…61 over 400 prompts" in repr(found)
    assert np.isnan(Scrubbed("m", random, random, random, 1).recovered)


def test_induction_is_told_from_a_worse_hypothesis() -> None:
    model = iw.load("induction-2l")
    rng = np.random.default_rng(0)
    prompts, answer, other = [], [], []
    for _ in range(24):
        words = rng.choice(np.arange(20, 500), 12, replace=False).tolist()
        prompts.append([1, *words, words[4]])
        answer.append(words[5])
        other.append(words[8])
    metric = iw.logit_diff(answer, other)

    def share(*inputs: Node) -> float:
        heads = Node("induction", [("z", 1)], inputs=[TOKENS, *inputs])
        return causal_scrub(model, Hypothesis([heads, TOKENS]), prompts, metric).recovered

    previous, current = Node("previous token", [("z", 0, [2, 3])]), Node("current token", [("z", 0, [0, 1])])
    assert share(previous, current) > 0.9
    assert share(current) < 0.3


@pytest.mark.parametrize(
    ("hypothesis", "said"),
    [
        (Hypothesis([Node("a", [("q", 0, 1)])]), "'q' is none of them"),
        (Hypothesis([Node("a", [("z", 5, 1)])]), "no layer 5"),
        (Hypothesis([Node("a", [])]), "no sites"),
        (Hypothesis([Node("a", ["z"])]), "are \\(site, layer\\)"),
        (Hypothesis([Node("a", [("z", 0, 9)], None, [TOKENS])]), "head"),
        (Hypothesis([Node("a", [("embed", None)], None, [EARLY])]), "reads no other node"),
        (Hypothesis([Node("a", [("z", 1, 1)], None, [Node("b", [("z", 2, 1)])])]), "does not come before"),
        (Hypothesis([Node("a", [("z", 1, 1)]), Node("b", [("z", 1)])]), "'a' and 'b'"),
        ([EARLY], "A hypothesis is"),
    ],
)
def test_what_is_no_hypothesis_is_said(naive: Naive, dataset: Any, hypothesis: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        causal_scrub(naive.module, hypothesis, dataset, METRIC)


def test_what_is_no_dataset_is_said(naive: Naive) -> None:
    for prompts in ([[1, 2, 3]], [[1, 2, 3], [1, 2]]):
        with pytest.raises(InputError, match="one number of tokens"):
            causal_scrub(naive.module, Hypothesis([EARLY]), prompts, iw.logit(3))
    with pytest.raises(InputError, match="samples"):
        causal_scrub(naive.module, Hypothesis([EARLY]), [[1, 2], [1, 3]], iw.logit(3), samples=0)
