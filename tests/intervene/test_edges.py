"""Edge attribution is the derivative of what one input hears; path patching finds the graphs that are known."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import VOCABULARY, Naive, build

import interpwidgets as iw
from interpwidgets.circuit import Circuit
from interpwidgets.errors import InputError
from interpwidgets.intervene.residual import Residual
from interpwidgets.models.compiler import labels
from interpwidgets.models.model import as_model
from interpwidgets.models.train.compiled import PROGRAMS, task_prompt
from interpwidgets.models.train.known.ioi import IOI
from interpwidgets.models.train.known.measure import roc_auc

torch.set_num_threads(1)
METRIC = iw.logit_diff(3, 5)
SEED = int(np.random.default_rng().integers(2**31))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


@pytest.fixture(scope="module")
def pairs() -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(SEED)
    clean = [rng.integers(1, VOCABULARY, size).tolist() for size in (6, 4)]
    return clean, [[*ids[:1], *rng.integers(1, VOCABULARY, len(ids) - 1).tolist()] for ids in clean]


def wrote(naive: Naive, ids: Any, name: str) -> torch.Tensor:
    """What a component adds to the stream, [pos, d]."""
    node = iw.CircuitNode.of(name)
    site, layer = {"embed": ("resid_pre", 0), "mlp": ("mlp_out", node.layer), "head": ("z", node.layer)}[node.kind]
    value = naive.run(ids, read=[(site, layer)])[1][site, layer]  # [pos, head, d]
    if node.kind != "head":
        return value[:, 0]
    block = naive.blocks[layer]
    weight = block.attn.c_proj.weight if naive.gpt2 else block.self_attn.o_proj.weight.T
    size = value.shape[-1]
    return value[:, node.number] @ weight[node.number * size : (node.number + 1) * size].detach()


def told(naive: Naive, ids: Any, edge: Any, step: torch.Tensor) -> float:
    """The metric where one input of one component hears `step` more than it does."""
    target, more = iw.CircuitNode.of(edge.target), lambda x: x + step[:, None]
    last = len(naive.blocks) - 1
    if target.kind == "logits":
        logits, _ = naive.run(ids, [("resid_post", last, more)])
    elif target.kind == "mlp":
        _, heard = naive.run(ids, [("attn_out", target.layer, more)], read=[("mlp_out", target.layer)])
        logits, _ = naive.run(ids, [("mlp_out", target.layer, lambda _: heard["mlp_out", target.layer])])
    else:
        place = edge.via, target.layer
        _, heard = naive.run(ids, [("resid_pre", target.layer, more)], read=[place])
        _, heard = naive.run(ids, [(*place, lambda _: heard[place])], read=[("z", target.layer)])

        def one(z: torch.Tensor) -> torch.Tensor:
            z[:, target.number] = heard["z", target.layer][:, target.number]
            return z

        logits, _ = naive.run(ids, [("z", target.layer, one)])
    return float(logits[-1, 3] - logits[-1, 5])


def test_an_edge_is_a_derivative(naive: Naive, pairs: Any) -> None:
    circuit = iw.edge_attribution(naive.module, *pairs, METRIC)
    rng, (size, error) = np.random.default_rng(SEED), (1e-5, 1e-6) if naive.gpt2 else (1e-2, 1e-3)  # norms in float32
    for number in rng.permutation(len(circuit.edges))[:30]:
        edge, slopes = circuit.edges[number], []
        for clean, corrupted in zip(*pairs, strict=True):
            step = wrote(naive, clean, edge.source) - wrote(naive, corrupted, edge.source)
            ends = [told(naive, corrupted, edge, sign * size * step) for sign in (1, -1)]
            slopes.append((ends[0] - ends[1]) / (2 * size))
        assert edge.effect == pytest.approx(np.mean(slopes), rel=10 * error, abs=error / 10), edge


def test_every_edge_there_can_be(naive: Naive, pairs: Any) -> None:
    circuit = iw.edge_attribution(naive.module, *pairs, METRIC)
    nodes = {node.id: node for node in circuit.nodes}
    wanted = {
        (a.id, b.id, via)
        for a in nodes.values()
        for b in nodes.values()
        if a.depth < b.depth
        for via in (("q", "k", "v") if b.kind == "head" else ("",))
    }
    found = [(edge.source, edge.target, edge.via) for edge in circuit.edges]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert len(nodes) == 1 + 3 * (4 + 1) + 1


def test_a_node_is_its_attribution_patch(naive: Naive, pairs: Any) -> None:
    circuit = iw.edge_attribution(naive.module, *pairs, METRIC)
    heads = iw.attribution_patch(naive.module, *pairs, METRIC, over="z")
    mlps = iw.attribution_patch(naive.module, *pairs, METRIC, over="mlp_out", by=("layer",))
    for node in circuit.nodes:
        if node.kind in ("head", "mlp"):
            effects = heads[node.layer, node.number] if node.kind == "head" else mlps[node.layer]
            assert node.effect == pytest.approx(effects.effect, abs=1e-6)
            assert (node.low, node.high) == pytest.approx(effects.interval(), abs=1e-6)
    assert circuit.node("logits").effect is None


def test_with_many_steps_all_comes_from_the_embedding(naive: Naive, pairs: Any) -> None:
    circuit = iw.edge_attribution(naive.module, *pairs, METRIC, steps=200)
    clean, corrupted = (iw.run(naive.module, side, metric=METRIC).values.mean() for side in pairs)
    assert circuit.node("embed").effect == pytest.approx(clean - corrupted, rel=0.02, abs=0.02)


def test_intervals_are_of_the_strongest(naive: Naive, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpwidgets.intervene.edges._INTERVALS", 7)
    circuit = iw.edge_attribution(naive.module, *pairs, METRIC)
    known = {edge for edge in circuit.edges if edge.low is not None}
    assert known == set(circuit.top(7).edges)
    assert all(edge.low <= edge.effect <= edge.high for edge in known)


def test_kl_and_loss_are_metrics_too(naive: Naive, pairs: Any) -> None:
    for metric in (iw.kl(), iw.loss()):
        circuit = iw.edge_attribution(naive.module, *pairs, metric)
        heads = iw.attribution_patch(naive.module, *pairs, metric, over="z")
        for node in circuit.nodes:
            if node.kind == "head":
                assert node.effect == pytest.approx(heads[node.layer, node.number].effect, abs=1e-6)


def test_what_has_no_edges(naive: Naive, pairs: Any) -> None:
    with pytest.raises(InputError, match="steps is 0"):
        iw.edge_attribution(naive.module, *pairs, METRIC, steps=-1)
    with pytest.raises(InputError, match="has no gradient"):
        iw.edge_attribution(naive.module, *pairs, iw.rank(3))
    with pytest.raises(InputError, match="does not align"):
        iw.edge_attribution(naive.module, pairs[0], [ids[:-1] for ids in pairs[1]], METRIC)
    with pytest.raises(InputError, match="stands a norm"):
        iw.edge_attribution(build("gemma"), *pairs, METRIC)
    if not naive.gpt2:
        with pytest.raises(InputError, match="share keys and values"):
            iw.edge_sweep(naive.module, *pairs, METRIC)


def test_a_sweep_of_edges_is_paths_patched(pairs: Any) -> None:
    module = build("gpt2")
    circuit = iw.edge_sweep(module, *pairs, METRIC, progress=False)
    graph, rng = Residual(as_model(module)), np.random.default_rng(SEED)
    assert sorted((edge.source, edge.target, edge.via) for edge in circuit.edges) == sorted(graph.links)
    for number in rng.permutation(len(circuit.edges))[:12]:
        edge = circuit.edges[number]
        source, target = graph.senders[edge.source], iw.CircuitNode.of(edge.target)
        sender = {
            "embed": ("resid_pre", 0),
            "mlp": ("mlp_out", source.layer),
            "head": ("z", source.layer, source.number),
        }
        receiver = {"logits": ("resid_post", 2), "mlp": ("mlp_pre", target.layer),
                    "head": (edge.via, target.layer, target.number)}[target.kind]  # fmt: skip
        one = iw.path_patch(module, *pairs, METRIC, sender=sender[source.kind], receivers=[receiver])
        assert edge.effect == pytest.approx(one.effect, abs=1e-9)
        assert (edge.low, edge.high) == pytest.approx(one.interval(), abs=1e-9)


def test_effects_of_paths_make_a_circuit(pairs: Any) -> None:
    module = build("gpt2")
    receivers = {"logits": [("resid_post", 2)], ("L2H1", "q"): [("q", 2, 1)]}
    effects: Any = {
        name: [
            iw.path_sweep(module, *pairs, METRIC, receivers=ends, over=site, progress=False)
            for site in ("z", "mlp_out")
        ]
        for name, ends in receivers.items()
    }
    circuit = Circuit.from_effects(effects)
    exact = {(e.source, e.target, e.via): e for e in iw.edge_sweep(module, *pairs, METRIC, progress=False).edges}
    assert len(circuit.edges) == (12 + 3) + (8 + 2)
    for edge in circuit.edges:
        same = exact[edge.source, edge.target, edge.via]
        assert (edge.effect, edge.low, edge.high) == pytest.approx((same.effect, same.low, same.high), abs=1e-9)
    assert len(Circuit.from_effects(effects, least=np.inf).edges) == 0
    short = [ids[:4] for ids in pairs[0]], [ids[:4] for ids in pairs[1]]
    by_pos = iw.path_sweep(module, *short, METRIC, receivers=[("resid_post", 2, None, -1)], by=("layer", "pos"),
                           over="mlp_out", progress=False)  # fmt: skip
    assert {edge.source for edge in Circuit.from_effects({"logits@3": by_pos}).edges} == {
        f"L{layer} mlp@{pos}" for layer in range(3) for pos in range(4)
    }
    embed = iw.patch_sweep(module, *short, METRIC, over="embed", by=("pos",), progress=False)
    with pytest.raises(InputError, match=r"these effects have the axes \['pos'\]"):
        Circuit.from_effects({"logits": embed})
    with pytest.raises(InputError, match="names no node"):
        Circuit.from_effects({"answer": by_pos})


def ioi_pairs(n: int) -> Any:
    rng = Random(SEED)
    drawn = [IOI.pairs["giver"](rng, "heldout") for _ in range(n)]
    right, wrong = ([IOI.answer(pair[side]) for pair in drawn] for side in (0, 1))
    return [pair[0].text for pair in drawn], [pair[1].text for pair in drawn], iw.logit_diff(right, wrong)


IOI_EDGES = {("embed", "L0H1", "q"), ("L0H1", "L1H2", "v"), ("L1H2", "L2H0", "q"), ("L2H0", "logits", "")}


def test_the_graph_that_was_trained_in_is_found() -> None:
    model = iw.load("ioi-known")
    clean, corrupted, metric = ioi_pairs(6)
    swept = iw.edge_sweep(model, clean, corrupted, metric, progress=False)
    gap = iw.run(model, corrupted, metric=metric, clean=clean)
    found = swept.above(0.3 * float(gap.clean.mean() - gap.corrupted.mean()))
    assert {(edge.source, edge.target, edge.via) for edge in found.edges} == IOI_EDGES
    assert found.pruned().edges == found.edges
    guess = iw.edge_attribution(model, clean, corrupted, metric, steps=20)
    scores = {(edge.source, edge.target, edge.via): abs(edge.effect) for edge in guess.edges}
    assert roc_auc(scores, IOI_EDGES) > 0.9


@pytest.mark.parametrize("name", ["compiled-induction", "compiled-reverse"])
def test_no_edge_is_found_that_was_not_compiled(name: str) -> None:
    model, rng = iw.load(name), Random(SEED)
    program = PROGRAMS[name]()
    clean, corrupted = ([task_prompt(program, 8, rng) for _ in range(6)] for _ in range(2))
    size = min(map(len, clean + corrupted))
    ids: Any = [
        [[model.tokenizer.convert_tokens_to_ids(word) for word in words[:size]] for words in side]
        for side in (clean, corrupted)
    ]
    logits = [iw.record(model, side, sites=["logits"])["logits"][:, -1] for side in ids]
    right, wrong = (each.argmax(-1).tolist() for each in logits)
    other = [w if w != r else (r + 1) % logits[0].shape[-1] for r, w in zip(right, wrong, strict=True)]
    swept = iw.edge_sweep(model, *ids, iw.logit_diff(right, other), progress=False)
    truth = {
        (iw.CircuitNode.of(a).id, iw.CircuitNode.of(b).id, "" if via == "in" else via)
        for a, b, via in labels(model).edges
    }
    most = max(abs(edge.effect) for edge in swept.edges)
    found = {(edge.source, edge.target, edge.via) for edge in swept.edges if abs(edge.effect) > 0.01 * most}
    assert found
    bos = {edge for edge in found if edge[0] == "embed" and edge[2] == "k"}  # the keys of every head tell <bos>
    assert found - bos <= truth
