"""The functions of CircuitsVis by our views: the data drawn is what CircuitsVis itself puts into its page."""

import inspect
import json
import re

import circuitsvis
import numpy as np
import pytest
import torch
from views.test_tile import unpack

import interpwidgets.circuitsvis as cv
from interpwidgets.errors import InputError
from interpwidgets.tokens import show
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
WORDS = ["<s>", "the", " cat", "\n", "</script>", " sat", " on"]
FUNCTIONS = [
    ("attention", "attention_heads"),
    ("attention", "attention_pattern"),
    ("attention", "attention_patterns"),
    ("tokens", "colored_tokens"),
    ("tokens", "colored_tokens_multi"),
    ("tokens", "visualize_model_performance"),
    ("logits", "token_log_probs"),
    ("activations", "text_neuron_activations"),
    ("topk_tokens", "topk_tokens"),
    ("topk_samples", "topk_samples"),
]


def words(count):
    return [WORDS[i] for i in RNG.integers(len(WORDS), size=count)]


def props(html):
    """What a page of CircuitsVis is given to draw."""
    found = re.search(r'render\(\s*"circuits-vis-[^"]*",\s*\w+,\s*(\{.*\})\s*\)\s*</script>', str(html), re.DOTALL)
    return json.loads(found[1])


def both(module, function, *args, **options):
    """Our view, and the props of theirs."""
    theirs = getattr(getattr(circuitsvis, module), function)(*args, **options)
    return getattr(getattr(cv, module), function)(*args, **options), props(theirs)


def ask(view, **key):
    meta, data = view.packed(key_of(**key))
    array = unpack(meta, data)
    return json.loads(bytes(array)) if meta.get("json") else array


def texts(view, prompt=0):
    size = view.prompts[prompt]["size"]
    chunks = range(-(-size // 1024))
    return [text for chunk in chunks for text in ask(view, what="tokens", prompt=prompt, chunk=chunk)["text"]]


def shown(tokens):
    return [show(token) for token in tokens]


@pytest.mark.parametrize(("module", "function"), FUNCTIONS)
def test_the_arguments_are_the_same(module, function):
    ours, theirs = (inspect.signature(getattr(getattr(m, module), function)) for m in (cv, circuitsvis))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


def test_names_are_imported_as_from_circuitsvis():
    from interpwidgets.circuitsvis.attention import attention_heads
    from interpwidgets.circuitsvis.tokens import colored_tokens

    assert (attention_heads, colored_tokens) == (cv.attention.attention_heads, cv.tokens.colored_tokens)


@pytest.mark.parametrize("as_torch", [False, True])
@pytest.mark.parametrize("mask", [None, True, False])
def test_attention_heads(as_torch, mask):
    size = int(RNG.integers(2, 12))
    attention = RNG.random((3, size, size)).astype(np.float32)
    tokens, given = words(size), torch.tensor(attention) if as_torch else attention
    view, theirs = both("attention", "attention_heads", given, tokens, ["a", "b", "c"], mask_upper_tri=mask)
    hidden = theirs.get("maskUpperTri", True)
    for head, pattern in enumerate(theirs["attention"]):
        drawn = [[0 if hidden and k > q else weight for k, weight in enumerate(row)] for q, row in enumerate(pattern)]
        rows = ask(view, what="rows", prompt=0, minus=-1, layer=0, head=head, band=0)
        np.testing.assert_allclose(rows, drawn, rtol=1e-6)
    axis = ask(view, what="tokens", prompt=0, axis="key", chunk=0)
    assert axis["text"] == shown(theirs["tokens"])
    assert view.labels == [[0, head, name] for head, name in enumerate(theirs["attentionHeadNames"])]


def test_attention_that_is_negative_is_drawn_with_its_sign():
    attention = RNG.normal(size=(2, 5, 5)).astype(np.float32)
    view, theirs = both("attention", "attention_heads", attention, words(5), max_value=0.5, mask_upper_tri=False)
    for head, pattern in enumerate(theirs["attention"]):
        rows = ask(view, what="rows", prompt=0, minus=1, layer=0, head=head, band=0)
        np.testing.assert_allclose(rows, pattern, rtol=1e-6)
    assert view.difference
    assert view.colour_range[1] >= theirs["maxValue"]


def test_one_pattern_and_the_older_function():
    attention = np.tril(RNG.random((2, 6, 6))).astype(np.float32)
    tokens = words(6)
    one, theirs = both("attention", "attention_pattern", tokens, attention[1], max_value=0.9, min_value=0.1)
    where = {"what": "rows", "prompt": 0, "minus": -1, "layer": 0, "band": 0}
    np.testing.assert_allclose(ask(one, **where, head=0), theirs["attention"], rtol=1e-6)
    assert one.colour_range == [theirs["minValue"], theirs["maxValue"]]
    several, theirs = both("attention", "attention_patterns", tokens, attention)
    for head in range(2):
        np.testing.assert_allclose(ask(several, **where, head=head), theirs["attention"][head], rtol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_colored_tokens(signed):
    size = int(RNG.integers(1, 40))
    values = RNG.normal(size=size) if signed else RNG.random(size)
    tokens = words(size)
    view, theirs = both("tokens", "colored_tokens", tokens, torch.tensor(values), -3.0 if signed else 0.0, 2.0)
    np.testing.assert_allclose(ask(view, what="values", prompt=0, block=0)[0], theirs["values"], rtol=1e-6)
    assert texts(view) == shown(theirs["tokens"])
    limit = max(abs(theirs["minValue"]), theirs["maxValue"])
    assert view.colour_range == [0, limit if (values < 0).any() else theirs["maxValue"]]


@pytest.mark.parametrize("labels", [None, ["loss", "entropy", "rank"]])
def test_colored_tokens_multi(labels):
    values, tokens = torch.randn(9, 3), words(9)
    view, theirs = both("tokens", "colored_tokens_multi", tokens, values, labels)
    np.testing.assert_allclose(ask(view, what="values", prompt=0, block=0).T, theirs["values"], rtol=1e-6)
    assert view.series_names == theirs.get("labels", ["0", "1", "2"])
    assert texts(view) == shown(theirs["tokens"])


@pytest.mark.parametrize("batched", [False, True])
def test_visualize_model_performance(batched):
    logits, ids, tokens = torch.randn(8, 20), torch.randint(20, (8,)), words(8)
    given = (ids[None], tokens, logits[None]) if batched else (ids, tokens, logits)
    view, theirs = both("tokens", "visualize_model_performance", *given)
    np.testing.assert_allclose(ask(view, what="values", prompt=0, block=0).T, theirs["values"], rtol=1e-4, atol=1e-5)
    assert view.series_names == theirs["labels"]
    assert texts(view) == shown(theirs["tokens"])


@pytest.mark.parametrize("batched", [False, True])
def test_token_log_probs(batched):
    log_probs, ids = torch.randn(7, 30).log_softmax(-1), torch.randint(30, (7,))
    given = (ids[None], log_probs[None]) if batched else (ids, log_probs)
    view, theirs = both("logits", "token_log_probs", *given, lambda token: f" w{token}", top_k=4)
    (top,) = ask(view, what="top", prompt=0, block=0)
    surprise, rank, probability, _ = ask(view, what="numbers", prompt=0, block=0)
    for i, expected in enumerate(theirs["topKTokens"]):
        assert top["tokens"][i] == shown(expected)
        np.testing.assert_allclose(np.log(top["p"][i]), theirs["topKLogProbs"][i], atol=2e-3)
    np.testing.assert_array_equal(rank[:-1], theirs["correctTokenRank"])
    np.testing.assert_allclose(-np.log(2) * surprise[:-1], theirs["correctTokenLogProb"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.log(probability[:-1]), theirs["correctTokenLogProb"], rtol=1e-4, atol=1e-5)
    assert texts(view) == shown(theirs["prompt"])


def lines(view, prompt=0):
    """All activations of a NeuronsView, [pos, layer, neuron]."""
    found = [
        [
            ask(view, what="line", prompt=prompt, layer=layer, neuron=neuron, block=0)[0]
            for neuron in range(facts["neurons"])
        ]
        for layer, facts in enumerate(view.layers)
    ]
    return np.moveaxis(np.array(found), -1, 0)


def test_text_neuron_activations():
    values, tokens = RNG.normal(size=(6, 2, 5)), words(6)
    names = ["early", "late"]
    view, theirs = both("activations", "text_neuron_activations", tokens, values, first_dimension_labels=names)
    np.testing.assert_allclose(lines(view), theirs["activations"], rtol=1e-6)
    assert texts(view) == shown(theirs["tokens"])
    assert [layer["name"] for layer in view.layers] == theirs["firstDimensionLabels"]
    samples = [torch.randn(4, 2, 3), torch.randn(7, 2, 3)]
    view, theirs = both("activations", "text_neuron_activations", [words(4), words(7)], samples)
    for prompt, expected in enumerate(theirs["activations"]):
        np.testing.assert_allclose(lines(view, prompt), expected, rtol=1e-6)
        assert texts(view, prompt) == shown(theirs["tokens"][prompt])
    with pytest.warns(UserWarning, match="second_dimension_labels are not shown"):
        cv.activations.text_neuron_activations(tokens, values, second_dimension_labels=list("abcde"))


def test_topk_tokens():
    tokens = [words(6), words(9)]
    values = [RNG.normal(size=(2, len(own), 4)).astype(np.float32) for own in tokens]
    view, theirs = both("topk_tokens", "topk_tokens", tokens, values, max_k=3, sample_labels=["x", "y"])
    assert [prompt["name"] for prompt in view.prompts] == theirs["sampleLabels"]
    for prompt in range(2):
        own = lines(view, prompt).transpose(1, 0, 2)  # [layer, pos, neuron], as theirs
        order = np.argsort(own, axis=1)
        np.testing.assert_array_equal(order[:, ::-1][:, :3], theirs["topkIdxs"][prompt])
        np.testing.assert_array_equal(order[:, :3][:, ::-1], theirs["bottomkIdxs"][prompt])
        np.testing.assert_allclose(np.sort(own, axis=1)[:, ::-1][:, :3], theirs["topkVals"][prompt], rtol=1e-6)
        assert texts(view, prompt) == shown(theirs["tokens"][prompt])


def test_topk_samples():
    sizes = [[[int(n) for n in RNG.integers(1, 6, size=3)] for _ in range(2)] for _ in range(2)]
    tokens = [[[words(n) for n in samples] for samples in layer] for layer in sizes]
    values = [[[RNG.normal(size=n).tolist() for n in samples] for samples in layer] for layer in sizes]
    view, theirs = both("topk_samples", "topk_samples", tokens, values, zeroth_dimension_labels=["a", "b"])
    prompt = 0
    for layer, neurons in enumerate(theirs["activations"]):
        for neuron, samples in enumerate(neurons):
            for place, sample in enumerate(sorted(range(3), key=lambda i: -max(samples[i]))):
                drawn = ask(view, what="values", prompt=prompt, block=0)[0]
                np.testing.assert_allclose(drawn, samples[sample], rtol=1e-6)
                assert texts(view, prompt) == shown(theirs["tokens"][layer][neuron][sample])
                name = view.prompts[prompt]["name"]
                assert name.startswith(f"Layer {'ab'[layer]}, Neuron {neuron}: {place + 1}, max")
                prompt += 1
    assert prompt == len(view.prompts)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cv.tokens.colored_tokens(["a"], [1, 2]), r"values must be \[pos\] with pos = 1"),
        (lambda: cv.tokens.colored_tokens_multi(["a"], [[1, 2]], ["x"]), "2 series need 2 labels; got 1"),
        (lambda: cv.attention.attention_heads(np.zeros((3, 3)), ["a"] * 3), r"attention must be \[head, dest, src\]"),
        (lambda: cv.activations.text_neuron_activations(["a"], np.zeros((1, 2))), r"\[pos, layer, neuron\]"),
        (lambda: cv.topk_tokens.topk_tokens([["a"]], []), "1 texts need 1 activations; got 0"),
        (lambda: cv.topk_samples.topk_samples([], []), "There are no samples"),
        (lambda: cv.topk_samples.topk_samples([[[["a"]]]], [[[]]]), "has 1 samples, and activations of 0"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_words(call, says):
    with pytest.raises(InputError, match=says):
        call()
