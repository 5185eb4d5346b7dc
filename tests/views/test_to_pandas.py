"""Every view as a DataFrame: its numbers beside those of a loop in float64, and what DataFrames a view takes."""

import sys
from itertools import product

import numpy as np
import pytest
import torch
from views import oracles
from views.test_patching import HEAD, LAYER, POS, effects_of
from views.test_residual import numbers_of

import interpwidgets as iw
from interpwidgets.circuit import Circuit
from interpwidgets.errors import InputError
from interpwidgets.intervene import Axis
from interpwidgets.stats import interval
from interpwidgets.tokens import Tokens, show
from interpwidgets.views import (
    AttentionView,
    CircuitView,
    GeometryView,
    LogitLensView,
    NeuronsView,
    PatchingView,
    PromptView,
    ResidualView,
    TokensView,
    TopTokensView,
    TrainingView,
    View,
    attention_tiles,
)

pd = pytest.importorskip("pandas")
torch.set_num_threads(1)
RNG = np.random.default_rng()
TEXT = "when anna and ben went to the park , ben gave a book to"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return iw.load("ioi-known")


@pytest.fixture(scope="module")
def rec(model):
    sites = ["resid_pre", "resid_post", "q", "k", "v", "mlp_post", "logits"]
    return iw.record(model, [TEXT, "when carl and david went home"], sites=sites)


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


# The base -------------------------------------------------------------------------------------------------------------


class Told(View):
    """A view that says no more than its table."""

    _esm = "export default {}"

    def table(self):
        """Cells are text."""
        return ["token", "loss"], [["␣cat", "1.5"], ["3", "-2"]]


def test_a_view_that_does_not_say_better_gives_its_table():
    found = Told().to_pandas()
    assert found["token"].tolist() == ["␣cat", "3"]
    assert found["loss"].tolist() == [1.5, -2.0]


def test_without_pandas_a_view_says_what_to_install(monkeypatch):
    view = AttentionView(oracles.pattern(RNG, 1, 1, 3, 3))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        view.to_pandas()


# Attention ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
def test_attention_has_a_row_for_each_weight(causal):
    weights = oracles.pattern(RNG, 2, 3, 6, 6, causal=causal)
    tokens = oracles.words(RNG, 6)
    found = AttentionView(weights, tokens=tokens, layer=1, head=2).to_pandas()
    cells = [(q, k) for q, k in product(range(6), range(6)) if k <= q or not causal]
    assert list(zip(found["query"], found["key"], strict=True)) == cells
    assert found["weight"].tolist() == [weights[1, 2, q, k] for q, k in cells]
    assert found["query_token"].tolist() == [show(tokens[q]) for q, _ in cells]
    assert found["key_token"].tolist() == [show(tokens[k]) for _, k in cells]
    assert {*found["layer"]} == {1}
    assert {*found["head"]} == {2}


def test_attention_of_a_recording_is_the_models_own(model, rec):
    ids = torch.from_numpy(rec.tokens[0].ids)[None]
    own = type(model.module)(model.module.config)
    own.load_state_dict(model.module.state_dict())
    own.set_attn_implementation("eager")
    with torch.no_grad():
        out = own.double().eval()(ids, output_attentions=True)
    layer, head = (int(RNG.integers(size)) for size in (model.n_layers, model.n_heads))
    view = AttentionView(rec, layer=layer, head=head)
    found = view.to_pandas().pivot(index="query", columns="key", values="weight").to_numpy()
    truth = out.attentions[layer][0, head].numpy()
    np.testing.assert_allclose(np.nan_to_num(found), truth, **CLOSE)

    view.weigh = "value"
    weighed = view.to_pandas().pivot(index="query", columns="key", values="weight").to_numpy()
    block = own.transformer.h[layer].attn
    d = model.d_model // model.n_heads
    with torch.no_grad():
        v = block.c_attn(own.transformer.h[layer].ln_1(out_stream(own, ids, layer)))[0, :, 2 * model.d_model :]
    written = v[:, head * d : (head + 1) * d] @ block.c_proj.weight[head * d : (head + 1) * d]
    np.testing.assert_allclose(np.nan_to_num(weighed), truth * written.norm(dim=-1).detach().numpy(), **CLOSE)


def out_stream(module, ids, layer):
    return module(ids, output_hidden_states=True).hidden_states[layer]


def test_attention_keeps_to_the_region_else_the_viewport():
    weights = oracles.pattern(RNG, 1, 1, 9, 9)
    view = AttentionView(weights, viewport=[2.4, 6.1, -1.0, 3.5])
    found = view.to_pandas()
    assert ({*found["query"]}, {*found["key"]}) == ({2, 3, 4, 5, 6}, {0, 1, 2, 3})
    view.region = [7, 9, 4, 5]
    found = view.to_pandas()
    assert found[["query", "key"]].to_numpy().tolist() == [[7, 4], [8, 4]]
    assert found["weight"].tolist() == weights[0, 0, 7:, 4].tolist()
    view.region = [20, 30, 0, 2]
    assert len(view.to_pandas()) == 0


def test_attention_of_two_prompts_and_their_difference():
    first, second = oracles.pattern(RNG, 1, 2, 4, 4), oracles.pattern(RNG, 1, 2, 3, 3)
    view = AttentionView(first, second, tokens=[list("abcd"), list("abd")], compare=1, head=1)
    found = view.to_pandas()
    for prompt, weights in enumerate((first, second)):
        part = found[found["prompt"] == prompt]
        assert part["weight"].tolist() == weights[0, 1].ravel().tolist()
    view.difference = True
    found = view.to_pandas().pivot(index="query_token", columns="key_token", values="weight")
    assert "prompt" not in found
    assert found.loc["c"].isna().all()
    assert found.loc["d", "b"] == pytest.approx(float(first[0, 1, 3, 1]) - float(second[0, 1, 2, 1]), abs=1e-6)
    view.difference, view.aggregate = False, "mean"
    found = view.to_pandas()
    assert {*found["head"]} == {"mean"}
    np.testing.assert_allclose(found["weight"][:16], first[0].astype(float).mean(0).ravel(), rtol=1e-5)


def test_a_head_too_large_for_a_table_is_refused(monkeypatch):
    monkeypatch.setattr(attention_tiles, "IN_TABLE", 24)
    view = AttentionView(oracles.pattern(RNG, 1, 1, 5, 5))
    with pytest.raises(InputError, match=r"A table holds 24 weights; here are 5 × 5. Zoom in, or set view.viewport"):
        view.to_pandas()
    view.viewport = [0.0, 4.0, 0.0, 5.0]
    assert len(view.to_pandas()) == 20


def test_a_head_that_the_other_prompt_does_not_have_is_refused():
    view = AttentionView(oracles.pattern(RNG, 1, 3, 4, 4), oracles.pattern(RNG, 1, 2, 4, 4), head=2)
    view.compare = 1
    with pytest.raises(InputError, match="no layer 0, head 2: 1 layers × 2 heads"):
        view.to_pandas()


# Predictions ----------------------------------------------------------------------------------------------------------


def test_next_tokens_have_a_row_for_each_position():
    size, vocab = 40, 23
    logits, ids = RNG.normal(size=(size, vocab)) * 3, RNG.integers(vocab, size=size)
    found = TopTokensView(logits.astype(np.float32), tokens=ids).to_pandas()
    p = softmax(logits.astype(np.float32).astype(np.float64))
    after = p[np.arange(size - 1), ids[1:]]
    assert found["token"].tolist() == [f"#{token}" for token in ids]
    assert found["next_token"].tolist()[:-1] == [f"#{token}" for token in ids[1:]]
    assert found.iloc[-1][["next_token", "probability", "rank", "surprise"]].isna().all()
    np.testing.assert_allclose(found["probability"][:-1], after, **CLOSE)
    np.testing.assert_allclose(found["surprise"][:-1], -np.log2(after), **CLOSE)
    assert found["rank"][:-1].tolist() == [(row > row[token]).sum() for row, token in zip(p, ids[1:], strict=False)]
    np.testing.assert_allclose(found["entropy"], -(p * np.log2(p)).sum(1), **CLOSE)
    assert found["top_token"].tolist() == [f"#{token}" for token in p.argmax(1)]
    np.testing.assert_allclose(found["top_probability"], p.max(1), **CLOSE)
    assert "run" not in found


def test_of_two_runs_each_has_its_rows():
    size, vocab = 300, 17  # more than a block
    logits, other = RNG.normal(size=(2, size, vocab)).astype(np.float32) * 2
    ids = RNG.integers(vocab, size=size)
    found = TopTokensView(logits, compare=other, tokens=ids, names=["clean", "patched"]).to_pandas()
    p, q = (softmax(each.astype(np.float64)) for each in (logits, other))
    first, second = (found[found["run"] == name].reset_index() for name in ("clean", "patched"))
    assert first["position"].tolist() == second["position"].tolist() == list(range(size))
    np.testing.assert_allclose(second["kl"], (p * np.log2(p / q)).sum(1), **CLOSE)
    assert (first["kl"] == 0).all()
    change = [np.log2(p[i, token] / q[i, token]) for i, token in enumerate(ids[1:])]
    np.testing.assert_allclose(second["change"][:-1], change, **CLOSE)
    assert (first["change"][:-1] == 0).all()
    np.testing.assert_allclose(second["top_probability"], q.max(1), **CLOSE)
    assert second["top_token"].tolist() == [f"#{token}" for token in q.argmax(1)]


def lens_truth(model, rec, prompt):
    """Probabilities after each layer, [layer, pos, vocab]: the module's own norm and unembedding, in float64."""
    norm, head = model.module.transformer.ln_f, model.module.lm_head
    size = len(rec.tokens[prompt])
    streams = torch.stack([rec["resid_post", layer][prompt, :size].double() for layer in range(model.n_layers)])
    with torch.no_grad():
        x = torch.nn.functional.layer_norm(
            streams, streams.shape[-1:], norm.weight.double(), norm.bias.double(), norm.eps
        )
        return (x @ head.weight.double().T).softmax(-1).numpy()


@pytest.mark.parametrize("measure", ["probability", "token_probability", "token_rank"])
def test_a_lens_has_a_row_for_each_layer_and_position(model, rec, measure):
    view = LogitLensView(rec, token="anna", measure=measure)
    found = view.to_pandas().set_index(["layer", "position"])
    p = lens_truth(model, rec, 0)
    anna = model.tokenizer("anna", add_special_tokens=False)["input_ids"][0]
    assert len(found) == p.shape[0] * p.shape[1]
    for layer, position in product(range(p.shape[0]), range(p.shape[1])):
        row, truth = found.loc[layer, position], p[layer, position]
        assert row["token"] == rec.tokens[0][position]
        assert row["top_token"] == model.tokens([int(truth.argmax())])[0]
        assert row["probability"] == pytest.approx(truth.max(), abs=1e-5)
        assert row["entropy"] == pytest.approx(-(truth * np.log(truth)).sum(), abs=1e-4)
        final = p[-1, position]
        assert row["kl"] == pytest.approx((final * np.log(final / truth)).sum(), abs=1e-4)
        if measure == "token_probability":
            assert row[measure] == pytest.approx(truth[anna], abs=1e-5)
        if measure == "token_rank":
            assert row[measure] == (truth > truth[anna]).sum()
    assert ("token_rank" in found) == (measure == "token_rank")


def test_a_lens_beside_another(model, rec):
    found = LogitLensView(rec, compare=1).to_pandas()
    for prompt in (0, 1):
        part, p = found[found["prompt"] == prompt], lens_truth(model, rec, prompt)
        np.testing.assert_allclose(part["probability"], p.max(-1).ravel(), **CLOSE)
        assert part["token"].tolist() == [*rec.tokens[prompt]] * model.n_layers


def test_a_prompt_gives_its_next_tokens_before_and_after(model):
    view = PromptView(model, TEXT)
    change = iw.Ablate("z", layer=2, head=0)
    view.add(change)
    view.position = 5
    found = view.to_pandas().set_index("token")
    for side, changes in (("before", ()), ("after", [change])):
        p = iw.run(model, TEXT, changes, sites=["logits"])["logits"][0, 5].double().softmax(-1).numpy()
        for token in found.index:
            (number,) = [i for i in range(len(p)) if model.tokens([i])[0] == token]
            assert found.loc[token, side] == pytest.approx(p[number], abs=1e-6)
        assert found[side].max() == pytest.approx(p.max(), abs=1e-6)
    assert {*found["position"]} == {5}


# Neurons, effects, parts ----------------------------------------------------------------------------------------------


def test_neurons_come_as_they_are_sorted_and_filtered(rec):
    view = NeuronsView(rec, layer=1, sort_by="mean", filter="share > 0.1")
    found = view.to_pandas()
    values = rec["mlp_post", 1][0, : len(rec.tokens[0])].double().numpy()
    kept = [neuron for neuron in range(values.shape[1]) if (values[:, neuron] > 0).mean() > 0.1]
    assert sorted(found["neuron"]) == kept
    assert found["mean"].is_monotonic_decreasing
    for row in found.itertuples():
        own = values[:, row.neuron]
        assert (row.layer, row.position, row.token) == (1, own.argmax(), rec.tokens[0][own.argmax()])
        assert (row.max, row.share) == (pytest.approx(own.max()), pytest.approx((own > 0).mean()))
        assert row.mean == pytest.approx(own.mean(), abs=1e-6)


def test_layers_that_have_names_keep_them():
    names = NeuronsView({"early": RNG.normal(size=(3, 2)), 9: RNG.normal(size=(3, 2))})
    assert {*names.to_pandas()["layer"]} == {"early"}
    names.layer = 1
    assert {*names.to_pandas()["layer"]} == {9}


def test_patching_gives_the_effects_of_the_table_selected():
    first, second = effects_of(LAYER, POS, missing=True), effects_of(LAYER, HEAD)
    clean, corrupted = list("abcde"), ["a", "x", " c", "\n", "e"]
    view = PatchingView([first, second], clean=[clean] * 4, corrupted=[["z"] * 5, corrupted] * 2, prompt=1)
    found = view.to_pandas().set_index(["layer", "pos"])
    low, high = first.interval()
    for layer, pos in np.ndindex(3, 5):
        row, own = found.loc[layer, pos], first.values[layer, pos] - first.corrupted
        np.testing.assert_equal(row["effect"], own.mean())
        np.testing.assert_equal([row["low"], row["high"]], [low[layer, pos], high[layer, pos]])
        assert (row["clean_token"], row["corrupted_token"]) == (clean[pos], show(corrupted[pos]))
    view.panel = 1
    other = view.to_pandas()
    assert other.columns.tolist() == ["layer", "head", "effect", "low", "high", "recovered", "metric", "n"]
    assert other["effect"].tolist() == (second.values - second.corrupted).mean(-1).ravel().tolist()


def test_patching_knows_no_tokens_of_positions_by_name_and_nothing_before_it_is_filled():
    named = PatchingView(effects_of(Axis("pos", ("the", "␣cat")), n=1), clean=["the", " cat"])
    assert "clean_token" not in named.to_pandas()
    assert len(PatchingView().to_pandas()) == 0


@pytest.mark.parametrize("prompt", [None, 2])
def test_parts_add_up_to_the_total(prompt):
    data = numbers_of()
    data.heads[:, 1] = np.nan  # a layer that does not split
    view = ResidualView(data, prompt=prompt)
    found = view.to_pandas().set_index("component")

    def pick(values):
        return values.mean() if prompt is None else values[prompt]

    assert found["contribution"].sum() == pytest.approx(pick(data.total))
    assert found.loc["L0H3", "contribution"] == pytest.approx(pick(data.heads[:, 0, 3]))
    assert found.loc["L0 attn bias", "contribution"] == pytest.approx(pick(data.attn[:, 0] - data.heads[:, 0].sum(-1)))
    assert found.loc["L1 attn", "contribution"] == pytest.approx(pick(data.attn[:, 1]))
    assert not any(name.startswith("L1H") for name in found.index)
    assert found.loc["L2 mlp", ["layer", "head"]].isna().tolist() == [False, True]
    assert found["layer"].dtype == found["head"].dtype == "Int64"
    low, high = (float(side) for side in interval(data.heads[:, 2, 1]))
    if prompt is None:
        assert found.loc["L2H1", ["low", "high"]].tolist() == pytest.approx([low, high])
    else:
        assert found[["low", "high"]].isna().all(axis=None)
    assert {*found["metric"]} == {data.metric}


def test_parts_are_those_of_the_attribution(model):
    found = iw.direct_logit_attribution(model, [TEXT, TEXT.replace("anna", "leo")], iw.logit_diff("anna", "ben"))
    ours, theirs = ResidualView(found).to_pandas(), found.to_pandas()
    pd.testing.assert_frame_equal(ours, theirs[ours.columns])


def test_a_circuit_gives_the_edges_shown_and_is_made_of_them_again():
    effects = RNG.normal(size=4).tolist()
    edges = [("embed", "L0H1", effects[0], "q"), ("L0H1", "L1H2", effects[1], "v"), ("L1H2", "logits", effects[2])]
    view = CircuitView(Circuit(edges=[*edges, ("embed", "L2 mlp", effects[3])]))
    view.threshold = sorted(map(abs, effects))[1]
    view.node_labels = {"L0H1": "previous token"}
    found = view.to_pandas()
    assert found["effect"].tolist() == sorted(effects, key=abs, reverse=True)[:3]
    labels = {"L0H1": "previous token"}
    for row in found.itertuples():
        assert (row.source_label, row.target_label) == (
            labels.get(row.source, row.source),
            labels.get(row.target, row.target),
        )
    again = Circuit(edges=found[["source", "target", "effect", "via"]].itertuples(index=False))
    assert {*again.edges} == {*view.circuit.edges}


def test_geometry_has_a_row_for_each_item():
    vectors = RNG.normal(size=(2, 7, 5))
    groups, values = list("aabbacc"), RNG.normal(size=7)
    view = GeometryView(vectors, labels=list("abcdefg"), groups=groups, values={"count": values}, step=1)
    found = view.to_pandas()
    w = vectors[1].astype(np.float32).astype(np.float64)
    length = np.array([np.sqrt((row**2).sum()) for row in w])
    room = [length[i] ** 2 / sum((w[i] / length[i] @ other) ** 2 for other in w) for i in range(7)]
    np.testing.assert_allclose(found["length"], length, **CLOSE)
    np.testing.assert_allclose(found["dimensionality"], room, **CLOSE)
    every = vectors.astype(np.float32).reshape(-1, 5).astype(np.float64)
    axes = np.linalg.svd(every - every.mean(0))[2]
    for name, axis in zip("xy", axes, strict=False):
        own = w @ axis
        np.testing.assert_allclose(np.abs(found[name]), np.abs(own), **CLOSE)
    assert (found["label"].tolist(), found["group"].tolist()) == (list("abcdefg"), groups)
    np.testing.assert_allclose(found["value"], values, **CLOSE)
    assert {"z", "cosine"}.isdisjoint(found)
    view.reading, view.feature = "3d", 3
    found = view.to_pandas()
    np.testing.assert_allclose(np.abs(found["z"]), np.abs(w @ axes[2]), **CLOSE)
    np.testing.assert_allclose(found["cosine"], (w @ w[3]) / (length * length[3]), **CLOSE)


def test_a_run_has_a_row_for_each_metric_and_checkpoint():
    steps, loss, accuracy = [1, 10, 100], RNG.random((3, 3)), RNG.random(3)
    accuracy[1] = np.nan
    found = TrainingView({"loss": loss, "accuracy": accuracy}, steps).to_pandas().set_index(["metric", "step"])
    assert [*found.index] == [(metric, step) for metric in ("loss", "accuracy") for step in steps]
    np.testing.assert_allclose(found.loc["loss", "value"], loss.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.loc["loss", ["low", "high"]], np.stack([loss.min(0), loss.max(0)], 1), rtol=1e-6)
    np.testing.assert_allclose(found.loc["accuracy", "value"], accuracy, rtol=1e-6)
    assert found.loc["accuracy", ["low", "high"]].isna().all(axis=None)
    plain = TrainingView({"loss": loss[0], "accuracy": accuracy}, steps, panels=[["accuracy"]]).to_pandas()
    assert (plain.columns.tolist(), {*plain["metric"]}) == (["metric", "step", "value"], {"accuracy"})


# DataFrames in --------------------------------------------------------------------------------------------------------


def test_a_text_that_was_given_as_a_table_is_the_same_text():
    tokens = (" the", "\n", "␣", b"\xe2\x80", "<b>", "")
    values = RNG.normal(size=(2, 6)).astype(np.float32)
    values[1, 0] = np.nan
    view = TokensView(Tokens(tokens), values, names=["loss", "entropy"])
    again = TokensView(view.to_pandas())
    again.span = [0, 6]
    assert again.selected == list(tokens)
    pd.testing.assert_frame_equal(again.to_pandas(), view.to_pandas())
    table = view.to_pandas()[["token", "loss"]]
    assert TokensView(list(tokens), table).series_names == ["loss"]
    np.testing.assert_array_equal(TokensView(table["token"], table["loss"]).to_pandas()["value"], values[0])
    again.show(table[2:])
    assert again.to_pandas()["token"].tolist() == [show(token) for token in tokens[2:]]
    with pytest.raises(InputError, match="has a column 'token'; there are: loss, entropy"):
        TokensView(view.to_pandas().drop(columns="token"))


def test_a_run_that_was_given_as_a_table_is_the_same_run():
    steps = [0, 5, 9]
    view = TrainingView({"loss": RNG.random(3), "accuracy": RNG.random(3)}, steps)
    again = TrainingView(view.to_pandas())
    assert (again.names, again.steps.tolist()) == (["loss", "accuracy"], steps)
    pd.testing.assert_frame_equal(again.to_pandas(), view.to_pandas())
    twice = pd.concat([view.to_pandas()] * 2)
    with pytest.raises(InputError, match="one row for each metric and step"):
        TrainingView(twice)
    seeds = pd.concat([view.to_pandas().assign(seed=0), view.to_pandas().eval("value = value + 2").assign(seed=1)])
    values = view.to_pandas()["value"]
    found = TrainingView(seeds).to_pandas()
    np.testing.assert_allclose(found["value"], values + 1, rtol=1e-6)
    np.testing.assert_allclose(found["high"], values + 2, rtol=1e-6)
    one = view.to_pandas().query("metric == 'loss'").set_index("step")["value"].rename("loss")
    assert (TrainingView(one).names, TrainingView(one).steps.tolist()) == (["loss"], steps)


def test_columns_of_a_table_are_neurons():
    values = RNG.normal(size=(4, 3)).astype(np.float32)
    table = pd.DataFrame(values, columns=["a", "b", "c"]).assign(token=["x", " y", "\n", "z"])
    view = NeuronsView(table, sort_by="index")
    assert view.to_pandas()["max"].tolist() == values.max(0).tolist()
    assert view.to_pandas()["token"].tolist() == [["x", "␣y", "↵", "z"][at] for at in values.argmax(0)]
    other = NeuronsView(table, ["p", "q", "r", "s"], sort_by="index")
    assert other.to_pandas()["token"].tolist() == [["p", "q", "r", "s"][at] for at in values.argmax(0)]
    with pytest.raises(InputError, match="activations must be numbers"):
        NeuronsView(table[["token"]])


def test_rows_of_a_table_are_items_and_its_index_their_labels():
    table = pd.DataFrame(RNG.normal(size=(3, 2)), index=["cat", " dog", "owl"])
    view = GeometryView(table)
    assert view.to_pandas()["label"].tolist() == ["cat", " dog", "owl"]
    np.testing.assert_allclose(view.to_pandas()[["x", "y"]], table, rtol=1e-6)
    assert GeometryView(table, labels=["a", "b", "c"]).labels == ["a", "b", "c"]
    assert GeometryView(table.reset_index(drop=True)).labels == ["0", "1", "2"]
