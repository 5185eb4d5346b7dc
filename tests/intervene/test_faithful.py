"""What a circuit is worth, against hooks that replace one component after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import HEADS, LAYERS, VOCABULARY, Naive, build, put

import interpwidgets as iw
from interpwidgets.circuit import Circuit, CircuitEdge
from interpwidgets.errors import InputError
from interpwidgets.intervene import CircuitTest, faithfulness
from interpwidgets.intervene.residual import Residual
from interpwidgets.models.model import as_model

torch.set_num_threads(1)
METRIC = iw.logit_diff(3, 5)
RNG = np.random.default_rng()
CIRCUIT = Circuit(edges=[("embed", "L0H1"), ("L0H1", "L1 mlp"), ("L1 mlp", "L2H3"), ("L2H3", "logits")])
KEPT = {("z", 0, 1), ("mlp_out", 1, None), ("z", 2, 3)}
PARTS = {("z", layer, head) for layer in range(LAYERS) for head in range(HEADS)}
PARTS |= {("mlp_out", layer, None) for layer in range(LAYERS)}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


@pytest.fixture(scope="module")
def pairs() -> Any:
    clean, corrupted = RNG.integers(1, VOCABULARY, (2, 4, 6)).tolist()
    return clean, corrupted


def measured(logits: torch.Tensor) -> float:
    return float(logits[-1, 3] - logits[-1, 5])


def instead(naive: Naive, ablate: str, prompt: int, corrupted: Any) -> dict[tuple[str, int], torch.Tensor]:
    sites = [(site, layer) for site in ("z", "mlp_out") for layer in range(LAYERS)]
    runs = [naive.run(ids, read=sites)[1] for ids in corrupted]
    if ablate == "patch":
        return runs[prompt]
    if ablate == "zero":
        return {site: torch.zeros_like(runs[0][site]) for site in sites}
    return {site: torch.stack([run[site] for run in runs]).mean(0) for site in sites}  # by position


@pytest.mark.parametrize("ablate", ["patch", "zero", "mean"])
def test_everything_outside_and_everything_inside(naive: Naive, pairs: Any, ablate: Any) -> None:
    clean, corrupted = pairs
    found = faithfulness(naive.module, clean, CIRCUIT, METRIC, reference=corrupted, ablate=ablate, draws=3)

    def without(parts: Any) -> list[float]:
        return [
            measured(naive.run(ids, [(site, layer, put(values[site, layer], head)) for site, layer, head in parts])[0])
            for prompt, ids in enumerate(clean)
            for values in [instead(naive, ablate, prompt, corrupted)]
        ]

    np.testing.assert_allclose(found.kept.values, without(PARTS - KEPT), atol=1e-9)
    np.testing.assert_allclose(found.removed.values, without(KEPT), atol=1e-9)
    np.testing.assert_allclose(found.kept.corrupted, without(PARTS), atol=1e-9)
    np.testing.assert_allclose(found.kept.clean, without(()), atol=1e-9)
    np.testing.assert_array_equal(found.removed.corrupted, found.kept.clean)
    np.testing.assert_array_equal(found.removed.clean, found.kept.corrupted)
    assert (found.size, found.of) == (3, 15)
    assert found.kept.control.shape == found.removed.control.shape == (3,)


def test_the_whole_model_is_faithful_and_nothing_is_not(naive: Naive, pairs: Any) -> None:
    clean, corrupted = pairs
    names = [f"L{layer}H{head}" for layer in range(LAYERS) for head in range(HEADS)]
    names += [f"L{layer} mlp" for layer in range(LAYERS)]
    whole = faithfulness(naive.module, clean, Circuit(names), METRIC, reference=corrupted)
    assert whole.kept.recovered == pytest.approx(1)
    assert whole.removed.recovered == pytest.approx(1)
    assert whole.kept.control is None  # there is but one circuit of this size
    none = faithfulness(naive.module, clean, Circuit(["embed", "logits"]), METRIC, reference=corrupted)
    assert none.kept.recovered == pytest.approx(0, abs=1e-9)


def test_positions(naive: Naive, pairs: Any) -> None:
    clean, corrupted = pairs
    circuit = Circuit(["L0H1@2", "L0H1@5", "L1 mlp", "L2H3@5"])
    found = faithfulness(naive.module, clean, circuit, METRIC, reference=corrupted, ablate="patch", draws=2)
    for prompt, ids in enumerate(clean):
        values = instead(naive, "patch", prompt, corrupted)
        changes = [(s, layer, put(values[s, layer], head)) for s, layer, head in PARTS - KEPT]
        changes += [("z", 0, put(values["z", 0], 1, [0, 1, 3, 4])), ("z", 2, put(values["z", 2], 3, [0, 1, 2, 3, 4]))]
        assert found.kept.values[prompt] == pytest.approx(measured(naive.run(ids, changes)[0]), abs=1e-9)
        changes = [("z", 0, put(values["z", 0], 1, [2, 5])), ("mlp_out", 1, put(values["mlp_out", 1])),
                   ("z", 2, put(values["z", 2], 3, [5]))]  # fmt: skip
        assert found.removed.values[prompt] == pytest.approx(measured(naive.run(ids, changes)[0]), abs=1e-9)


def edges_of(links: Any) -> Circuit:
    return Circuit(edges=[CircuitEdge(a, b, 1.0, via) for a, b, via in links])


def test_by_edges_and_by_nodes_are_the_same_where_all_edges_of_the_nodes_are_there(naive: Naive, pairs: Any) -> None:
    clean, corrupted = pairs
    names = {"embed", "logits", "L0H1", "L1 mlp", "L2H3"}
    links = [link for link in Residual(as_model(naive.module)).links if {link[0], link[1]} <= names]
    # Also all of what others hear: nobody else says anything new, so that this changes nothing.
    more: dict[str, Any] = {"reference": corrupted, "ablate": "patch", "draws": 1}
    nodes = faithfulness(naive.module, clean, CIRCUIT, METRIC, **more)
    edges = faithfulness(naive.module, clean, edges_of(links), METRIC, over="edges", **more)
    np.testing.assert_allclose(edges.kept.values, nodes.kept.values, atol=1e-9)
    np.testing.assert_allclose(edges.kept.clean, nodes.kept.clean, atol=1e-9)
    inverse = [measured(naive.run(ids)[0]) for ids in corrupted]
    np.testing.assert_allclose(edges.kept.corrupted, inverse, atol=1e-9)  # with no edge, the other prompt is run
    assert (edges.size, edges.what) == (len(links), "edges")


def test_all_edges_but_one_are_a_path_patched(pairs: Any) -> None:
    module, (clean, corrupted) = build("gpt2"), pairs
    graph = Residual(as_model(module))
    for _ in range(6):
        link = graph.links[int(RNG.integers(len(graph.links)))]
        rest = edges_of(each for each in graph.links if each != link)
        found = faithfulness(module, clean, rest, METRIC, reference=corrupted, ablate="patch", over="edges", draws=0)
        source, target = graph.senders[link[0]], iw.CircuitNode.of(link[1])
        sender = {
            "embed": ("resid_pre", 0),
            "mlp": ("mlp_out", source.layer),
            "head": ("z", source.layer, source.number),
        }
        receiver = {"logits": ("resid_post", 2), "mlp": ("mlp_pre", target.layer),
                    "head": (link[2], target.layer, target.number)}[target.kind]  # fmt: skip
        path = iw.path_patch(module, corrupted, clean, METRIC, sender=sender[source.kind], receivers=[receiver])
        np.testing.assert_allclose(found.kept.values, path.values, atol=1e-9)


def test_random_circuits_are_of_the_same_size(naive: Naive, pairs: Any) -> None:
    one, other = (
        faithfulness(naive.module, pairs[0], CIRCUIT, METRIC, reference=pairs[1], draws=6, seed=seed) for seed in (1, 1)
    )
    np.testing.assert_array_equal(one.kept.control, other.kept.control)
    small = faithfulness(naive.module, pairs[0], Circuit(["L1 mlp"]), METRIC, reference=pairs[1], draws=30)
    alone = [
        faithfulness(naive.module, pairs[0], Circuit([name]), METRIC, reference=pairs[1], draws=0).kept.value
        for name in ("L0 mlp", "L2 mlp")
    ]
    assert {round(value, 9) for value in small.kept.control} == {round(value, 9) for value in alone}


def test_a_circuit_that_remembers_its_test(pairs: Any) -> None:
    module = build("gpt2")
    test = CircuitTest(module, pairs[0], METRIC, reference=pairs[1], ablate="patch", draws=2)
    one = CIRCUIT.with_test(test).faithfulness()
    other = faithfulness(module, pairs[0], CIRCUIT, METRIC, reference=pairs[1], ablate="patch", draws=2)
    np.testing.assert_array_equal(one.kept.values, other.kept.values)
    told = one.to_json()
    assert told["kept"]["value"] == one.kept.value
    assert told["kept"]["recovered"] == one.kept.recovered
    assert told["removed"]["control"] == one.removed.control.tolist()
    assert "the circuit alone" in repr(one)
    assert "2 random ones of this size" in repr(one)
    swept = iw.edge_attribution(module, *pairs, METRIC).top(3)
    assert swept.faithfulness().kept.how.endswith("become their values on the paired prompts")


def test_one_prompt_has_no_interval_and_no_gap_no_share() -> None:
    found = faithfulness(build("gpt2"), [[1, 2, 3]], CIRCUIT, METRIC, reference=[[1, 2, 3]], ablate="patch", draws=0)
    told = found.to_json()
    assert told["kept"]["low"] is None
    assert told["kept"]["recovered"] is None
    assert told["kept"]["control"] == []
    assert "no gap to recover" in repr(found)


@pytest.mark.parametrize(
    ("circuit", "more", "says"),
    [
        (CIRCUIT, {"ablate": "cut"}, "got 'cut', 'nodes'"),
        (CIRCUIT, {"over": "all"}, "got 'mean', 'all'"),
        (CIRCUIT, {"over": "edges"}, "Edges are ablated to paired prompts"),
        (CIRCUIT, {"ablate": "patch", "reference": None}, "give them as reference"),
        (CIRCUIT, {"ablate": "patch", "reference": [[1, 2]] * 4}, "does not align"),
        (
            Circuit(["L0 neuron 3"]),
            {},
            "Heads and MLPs can be ablated; this circuit has 'L0 neuron 3', of kind 'neuron'",
        ),
        (Circuit(["L9H0"]), {}, "The circuit has 'L9H0', and the model has no such part"),
        (Circuit(["L0H9"]), {}, "'L0H9', and the model has no such part"),
        (Circuit(["L0H0@7"]), {}, "'L0H0@7' is at position 7; the prompts have 6 tokens"),
        (
            Circuit(edges=[("L0H0", "L9H0")]),
            {"over": "edges", "ablate": "patch"},
            "L0H0 → L9H0 is no edge of this model",
        ),
    ],
)
def test_what_cannot_be_tested(pairs: Any, circuit: Circuit, more: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        faithfulness(build("gpt2"), pairs[0], circuit, METRIC, **{"reference": pairs[1], **more})


def test_positions_need_prompts_of_one_length(pairs: Any) -> None:
    with pytest.raises(InputError, match="'L0H0@1' has a position: the prompts need one length"):
        faithfulness(build("gpt2"), [pairs[0][0], pairs[0][1][:4]], Circuit(["L0H0@1"]), METRIC)
