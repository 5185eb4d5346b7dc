"""Virtual weights against loops in float64 over the weights, written out by layout, and against what the model does."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from models.zoo import build
from numpy.typing import NDArray

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.features import Connections, VirtualWeights
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.splice import read

Array = NDArray[np.float64]
ALL = 10**6
RNG = np.random.default_rng()


def known(connections: Connections, side: str) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Weight and cosine by (kind, layer, number, via)."""
    ranked = getattr(connections, side)
    for each in ranked:
        assert [abs(one.cosine) for one in each.top] == sorted((abs(one.cosine) for one in each.top), reverse=True)
    return {(one.kind, one.layer, one.number, one.via): (one.weight, one.cosine) for each in ranked for one in each.top}


def random_dictionary(model: iw.Model, site: str, layer: int, n: int = 40, **more: Any) -> Dictionary:
    one = Dictionary(model.d_model, n, kind="relu", site=site, layer=layer, **more)
    with torch.no_grad():
        for weight in one.parameters():
            weight.normal_()
    return one.requires_grad_(False)


def wide(weight: Any) -> Array:
    found: Array = weight.detach().double().numpy()
    return found


def cosine(a: Array, b: Array) -> float:
    lengths = sqrt((a @ a) * (b @ b))
    return float(a @ b) / lengths if lengths else np.nan


def gain(norm: Any) -> Array:
    """What a layer norm multiplies a stream of mean square 1 by: compiled models have a large epsilon there."""
    return wide(norm.weight) / sqrt(1 + norm.eps)


def seen_through(gain: Array, matrix: Array, centres: bool) -> Array:
    """A matrix [in, out] behind a norm: weighted and centred, a column at a time."""
    found = matrix.copy()
    for j in range(matrix.shape[1]):
        column = gain * matrix[:, j]
        found[:, j] = column - column.mean() if centres else column
    return found


class GPT2:
    """The weights of a GPT-2 by their names in transformers; all matrices are [in, out]."""

    def __init__(self, model: iw.Model) -> None:
        self.module, self.heads, self.width = model.module, model.n_heads or 0, model.d_model
        self.size = self.width // self.heads
        self.blocks = list(self.module.transformer.h)  # type: ignore[union-attr,arg-type]

    def w_o(self, layer: int, head: int) -> Array:
        return wide(self.blocks[layer].attn.c_proj.weight)[head * self.size : (head + 1) * self.size]

    def w_out(self, layer: int) -> Array:
        return wide(self.blocks[layer].mlp.c_proj.weight)

    def read_by(self, layer: int, head: int, via: str) -> Array:
        first = "qkv".index(via) * self.width + head * self.size
        block = self.blocks[layer]
        matrix = wide(block.attn.c_attn.weight)[:, first : first + self.size]
        return seen_through(gain(block.ln_1), matrix, centres=True)

    def w_in(self, layer: int) -> Array:
        block = self.blocks[layer]
        return seen_through(gain(block.ln_2), wide(block.mlp.c_fc.weight), centres=True)

    def unembed(self) -> Array:
        norm = gain(self.module.transformer.ln_f)  # type: ignore[union-attr]
        return seen_through(norm, wide(self.module.lm_head.weight).T, centres=True)  # type: ignore[union-attr]

    def embed(self) -> Array:
        return wide(self.module.transformer.wte.weight)  # type: ignore[union-attr]


CASES = [
    ("storyteller-4l", "resid_post", 1),
    ("storyteller-4l", "resid_mid", 2),
    ("storyteller-4l", "resid_pre", 1),
    ("storyteller-4l", "attn_out", 1),
    ("storyteller-4l", "mlp_out", 2),
    ("induction-2l", "resid_post", 0),
    ("facts-known", "resid_mid", 1),
    ("compiled-induction", "resid_post", 0),
]


def before(kind: str, at: int, site: str, layer: int) -> bool:
    """Whether heads or neurons of a layer have written to what stands at a site."""
    order = {("head", n): 2 * n for n in range(9)} | {("neuron", n): 2 * n + 1 for n in range(9)}
    time = order[kind, at]
    if site in ("attn_out", "mlp_out"):
        return time == 2 * layer + (site == "mlp_out")
    return time < 2 * layer + {"resid_pre": 0, "resid_mid": 1, "resid_post": 2}[site]


def after(kind: str, at: int, site: str, layer: int) -> bool:
    """Whether they read what was written there."""
    time = 2 * at + (kind == "neuron")
    return time >= 2 * layer + {"resid_pre": 0, "resid_mid": 1, "attn_out": 1, "mlp_out": 2, "resid_post": 2}[site]


Expected = Iterator[tuple[tuple[Any, ...], tuple[float, float]]]


def vectors(kind: str, layer: int | None, rows: Array, direction: Array) -> Expected:
    """A part for each row."""
    for number, row in enumerate(rows):
        yield (kind, layer, number, ""), (float(row @ direction), cosine(row, direction))


def head(at: int, number: int, rows: Array, direction: Array, via: str = "") -> Expected:
    """A head, by the rows [d_head, d_model] of its matrix."""
    length = sqrt(sum(float(row @ direction) ** 2 for row in rows))
    whole = np.linalg.norm(rows) * np.linalg.norm(direction)
    yield ("head", at, number, via), (length, length / whole if whole else np.nan)


def reads_of(gpt: GPT2, one: Dictionary, feature: int) -> Expected:
    e, (site, layer) = wide(one.W_enc)[:, feature], one.reads[0]
    assert layer is not None
    for at in range(len(gpt.blocks)):
        for number in range(gpt.heads) if before("head", at, site, layer) else ():
            yield from head(at, number, gpt.w_o(at, number), e)
        if before("neuron", at, site, layer):
            yield from vectors("neuron", at, gpt.w_out(at), e)
    if site.startswith("resid"):
        yield from vectors("token", None, gpt.embed(), e)
    yield from (each for each in vectors("feature", None, wide(one.W_dec), e) if each[0][2] != feature)


def writes_of(gpt: GPT2, one: Dictionary, feature: int) -> Expected:
    d, (site, layer) = wide(one.W_dec)[feature], one.writes[0]
    assert layer is not None
    for at in range(len(gpt.blocks)):
        for number in range(gpt.heads) if after("head", at, site, layer) else ():
            for via in "qkv":
                yield from head(at, number, gpt.read_by(at, number, via).T, d, via)
        if after("neuron", at, site, layer):
            yield from vectors("neuron", at, gpt.w_in(at).T, d)
    yield from vectors("logit", None, gpt.unembed().T, d)
    yield from (each for each in vectors("feature", None, wide(one.W_enc).T, d) if each[0][2] != feature)


@pytest.mark.parametrize(("name", "site", "layer"), CASES)
def test_weights_of_shipped_models_are_products_of_their_matrices(name: str, site: str, layer: int) -> None:
    model = iw.load(name)
    one, gpt = random_dictionary(model, site, layer), GPT2(model)
    feature = int(RNG.integers(one.d_dict))
    found = VirtualWeights(model, one).of(feature, top=ALL)
    assert not found.untold
    oracles = {"reads": reads_of(gpt, one, feature), "writes": writes_of(gpt, one, feature)}
    for side, expected in ((side, dict(some)) for side, some in oracles.items()):
        agree(known(found, side), expected)
        for ranked in getattr(found, side):
            assert ranked.count == sum(kind == ranked.kind for kind, *_ in expected)


def agree(
    found: dict[tuple[Any, ...], tuple[float, float]], expected: dict[tuple[Any, ...], tuple[float, float]]
) -> None:
    """The same parts with the same numbers; those that are all zeros have none."""
    largest: dict[str, float] = {}
    for (kind, *_), (weight, _) in expected.items():
        largest[kind] = max(largest.get(kind, 0.0), abs(weight))
    expected = {key: pair for key, pair in expected.items() if not np.isnan(pair[1])}
    some = {key for key, (weight, _) in expected.items() if abs(weight) > 1e-5 * largest[key[0]]}
    assert some <= set(found) <= set(expected)
    for key in some:
        assert found[key] == pytest.approx(expected[key], rel=2e-3, abs=2e-5 * largest[key[0]]), key


@pytest.mark.parametrize("which", ["resid_post.1.topk", "resid_post.1.jumprelu", "mlp_out.1.topk"])
def test_one_more_unit_of_a_neuron_is_its_weight_more(which: str) -> None:
    """In the model itself: what stands before a feature's threshold when a unit is added to a neuron of its layer."""
    model, one = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae", which=which)
    feature = int(RNG.integers(one.d_dict))
    tokens = torch.tensor(RNG.integers(3, 500, (1, 9)))
    connections = VirtualWeights(model, one).of(feature, top=ALL)
    neurons = [one for each in connections.reads if each.kind == "neuron" for one in each.top if one.layer == 1]
    without = one.before(read(model, tokens, one.reads)[one.reads[0]])[..., feature]
    for connection in neurons[:3]:

        def add(_: Any, args: Any, neuron: int = connection.number) -> Any:
            return (args[0] + torch.eye(args[0].shape[-1])[neuron],)

        handle = GPT2(model).blocks[1].mlp.c_proj.register_forward_pre_hook(add)
        with_it = one.before(read(model, tokens, one.reads)[one.reads[0]])[..., feature]
        handle.remove()
        np.testing.assert_allclose((with_it - without).detach(), connection.weight, rtol=1e-3, atol=1e-4)


def test_rotary_heads_that_share_keys_behind_a_norm_that_does_not_centre() -> None:
    """A Llama, whose matrices lie apart and are [out, in]."""
    module = build("llama")
    model = iw.Model(module)
    one = random_dictionary(model, "resid_post", 0)
    d, e = wide(one.W_dec)[3], wide(one.W_enc)[:, 3]
    found = VirtualWeights(model, one).of(3, top=ALL)
    writes, reads = known(found, "writes"), known(found, "reads")
    for at in (1, 2):
        block = module.model.layers[at]
        size = block.self_attn.head_dim
        for via, heads, step in (("q", 4, 1), ("k", 2, 2), ("v", 2, 2)):
            matrix = wide(getattr(block.self_attn, f"{via}_proj").weight).T
            matrix = seen_through(wide(block.input_layernorm.weight), matrix, centres=False)
            for head in range(heads):
                own = matrix[:, head * size : (head + 1) * size]
                length = np.linalg.norm(d @ own)
                expected = length, length / (np.linalg.norm(own) * np.linalg.norm(d))
                assert writes["head", at, head * step, via] == pytest.approx(expected, rel=1e-3)
        gate = seen_through(
            wide(block.post_attention_layernorm.weight), wide(block.mlp.gate_proj.weight).T, centres=False
        )
        for neuron, column in enumerate(gate.T):
            assert writes["neuron", at, neuron, ""] == pytest.approx(
                (column @ d, cosine(column, d)), rel=1e-3, abs=1e-4
            )
    for head in range(4):
        w_o = wide(module.model.layers[0].self_attn.o_proj.weight).T[head * 8 : head * 8 + 8]
        assert reads["head", 0, head, ""][0] == pytest.approx(np.linalg.norm(w_o @ e), rel=1e-4)
    assert not found.untold


def test_a_parallel_block_is_read_after_its_layer() -> None:
    module = build("gpt_neox")
    model = iw.Model(module)
    assert {part.kind for part in model.anatomy.parts} == {"parallel"}
    one = random_dictionary(model, "attn_out", 1)
    writes = known(VirtualWeights(model, one).of(0, top=ALL), "writes")
    assert {layer for kind, layer, *_ in writes if kind in ("head", "neuron")} == {2}
    fused = module.gpt_neox.layers[2].attention.query_key_value.weight  # [head × (q, k, v) × d_head, d_model]
    norm = wide(module.gpt_neox.layers[2].input_layernorm.weight)
    size = fused.shape[0] // 12
    for head in range(4):
        for place, via in enumerate("qkv"):
            rows = wide(fused)[(3 * head + place) * size :][:size]
            matrix = seen_through(norm, rows.T, centres=True)
            assert writes["head", 2, head, via][0] == pytest.approx(
                np.linalg.norm(wide(one.W_dec)[0] @ matrix), rel=1e-3
            )


@pytest.mark.parametrize("family", ["gemma2", "qwen3", "bloom", "mixtral", "gpt2"])
def test_what_cannot_be_told_is_said(family: str) -> None:
    """Norms behind heads, norms of queries and keys, a norm of the embeddings, experts."""
    model = iw.Model(build(family))
    found = VirtualWeights(model, random_dictionary(model, "resid_post", 0)).of(1)
    said = " ".join(found.untold)
    kinds = [each.kind for each in found.reads]
    expected = {
        "gemma2": ("the heads of layer 0 write; a norm stands between", "head"),
        "qwen3": ("the q of layer 1; it is not linear", None),
        "bloom": ("the tokens write; their embeddings do not enter", "token"),
        "mixtral": ("the neurons of layer 0 write", "neuron"),
        "gpt2": ("", None),
    }
    words, missing = expected[family]
    assert words in said
    assert (said == "") == (family == "gpt2")
    assert missing not in kinds


def test_chance_is_what_random_directions_have() -> None:
    """The largest of as many random directions is above it half of the time; heads have it on average."""
    model = iw.load("storyteller-4l")
    ranked = {each.kind: each for each in VirtualWeights(model, random_dictionary(model, "resid_post", 1)).of(0).reads}
    count = ranked["neuron"].count
    rows = RNG.normal(size=(300, count, model.d_model))
    directions = RNG.normal(size=(300, model.d_model))
    dots = np.einsum("rnd,rd->rn", rows, directions)
    cosines = np.abs(dots) / (np.linalg.norm(rows, axis=2) * np.linalg.norm(directions, axis=1)[:, None])
    assert np.median(cosines.max(1)) == pytest.approx(ranked["neuron"].chance, rel=0.05)
    w_o = GPT2(model).w_o(0, 2)
    shares = np.linalg.norm(directions @ w_o.T, axis=1) / (np.linalg.norm(w_o) * np.linalg.norm(directions, axis=1))
    assert np.sqrt(np.mean(shares**2)) == pytest.approx(ranked["head"].chance, rel=0.15)


def test_dictionaries_of_heads_and_of_functions() -> None:
    model = iw.load("storyteller-4l")
    one, gpt = random_dictionary(model, "z", 1), GPT2(model)
    found = VirtualWeights(model, one).of(2, top=ALL)
    assert found.reads == ()
    assert found.untold == ("Not told: what it reads; z is not a sum of what parts of the model write.",)
    d = wide(one.W_dec)[2] @ wide(gpt.blocks[1].attn.c_proj.weight)
    writes = known(found, "writes")
    assert {layer for kind, layer, *_ in writes if kind == "head"} == {2, 3}
    for neuron, column in enumerate(gpt.w_in(1).T):
        assert writes["neuron", 1, neuron, ""][0] == pytest.approx(column @ d, rel=1e-2, abs=1e-3)
    functions = Dictionary.wrap(one.encode, one.decode, one.W_dec, site="resid_post", layer=1)
    found = VirtualWeights(model, functions).of(2)
    assert (found.reads, "functions" in found.untold[0]) == ((), True)
    assert {each.kind for each in found.writes} == {"head", "neuron", "logit"}


def test_in_words() -> None:
    model, one = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
    weights = VirtualWeights(model, one)
    said = repr(weights.of(344, top=2))
    assert said.startswith("feature 344, by weights: a hypothesis\nreads from")
    assert " neuron " in said
    assert " by " in said
    assert "of 1,024; the largest of as many at random: 0.30" in said
    with pytest.raises(InputError, match="There is no feature 512; there are 512, numbered from 0"):
        weights.of(512)
    with pytest.raises(InputError, match="There is no feature -1"):
        weights.of(-1)
    several = Dictionary(2 * model.d_model, 8, kind="relu", site="resid_post", layer=1, layers=[1, 2])
    with pytest.raises(InputError, match="reads or writes several layers"):
        VirtualWeights(model, several)
    with pytest.raises(InputError, match="has 64"):
        VirtualWeights(iw.load("ioi-known"), random_dictionary(model, "resid_post", 1))
