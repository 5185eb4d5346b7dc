"""Every way to hand attention to a view, and every way to get it wrong."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model
from views import oracles

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.source import ArraySource, AttentionSource, attention_sources

torch.set_num_threads(1)
WEIGHTS = oracles.pattern(np.random.default_rng(0), 2, 3, 5, 5, causal=True)


def whole(source, layer, head):
    return source.block(layer, head, np.arange(source.shape[2]), slice(0, source.shape[3]))


def assert_holds(source, weights, rtol=0.0):
    assert isinstance(source, AttentionSource)
    assert source.shape == weights.shape
    for layer, head in np.ndindex(weights.shape[:2]):
        block = whole(source, layer, head)
        assert block.dtype == np.float32
        np.testing.assert_allclose(block, np.asarray(weights[layer][head], dtype=np.float32), rtol=rtol)


@pytest.mark.parametrize(
    "given_as",
    [
        lambda w: w,
        lambda w: w.astype(np.float64),
        lambda w: np.asfortranarray(w),
        lambda w: w.tolist(),
        lambda w: torch.tensor(w),
        lambda w: torch.tensor(w, dtype=torch.float64),
        lambda w: torch.tensor(w).requires_grad_(),
        lambda w: torch.tensor(w).transpose(-1, -2).contiguous().transpose(-1, -2),
    ],
)
def test_arrays_of_every_kind(given_as):
    (source,) = attention_sources(given_as(WEIGHTS))
    assert_holds(source, WEIGHTS)
    assert source.causal
    assert list(source.query_tokens) == ["0", "1", "2", "3", "4"]
    assert source.key_tokens is source.query_tokens


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(kind):
    half = torch.tensor(WEIGHTS).to(kind)
    (source,) = attention_sources(half)
    assert_holds(source, half.double().numpy())


def test_a_tensor_on_another_device_is_moved():
    class Elsewhere:
        """As little of a CUDA tensor as the adapter may rely on."""

        dtype = "torch.bfloat16"

        def detach(self):
            return self

        def cpu(self):
            return torch.tensor(WEIGHTS, dtype=torch.bfloat16)

    (source,) = attention_sources(Elsewhere())
    assert source.shape == WEIGHTS.shape


def tiny(family):
    torch.manual_seed(int(np.random.default_rng().integers(2**31)))
    small = {"vocab_size": 11, "attn_implementation": "eager"}
    if family == "gpt2":
        return GPT2Model(GPT2Config(n_layer=3, n_head=2, n_embd=16, n_positions=32, **small)).eval()
    bert = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    return BertModel(BertConfig(**bert, **small)).eval()


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_hugging_face_output_attentions(family):
    model = tiny(family)
    ids = torch.randint(11, (2, 7))
    with torch.no_grad():
        out = model(ids, output_attentions=True)
    for data in (out, out.attentions, list(out.attentions)):
        sources = attention_sources(data, tokens=[list("abcdefg"), list("hijklmn")])
        assert [source.name for source in sources] == ["prompt 0", "prompt 1"]
        assert ["".join(source.query_tokens) for source in sources] == ["abcdefg", "hijklmn"]
        for prompt, source in enumerate(sources):
            assert_holds(source, np.stack([layer[prompt].numpy() for layer in out.attentions]))
            assert source.causal == (family == "gpt2")
    assert len(attention_sources(out, check_rows=True)) == 2


def test_an_output_without_attentions_says_how_to_get_them():
    model = tiny("gpt2")
    with torch.no_grad():
        out = model(torch.zeros((1, 3), dtype=torch.long))
    with pytest.raises(InputError, match="output_attentions=True"):
        attention_sources(out)


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_transformer_lens_caches(as_object, batch):
    weights = oracles.pattern(np.random.default_rng(), 12, 2, 4, 4, causal=True)
    entries = {"hook_embed": torch.zeros(3)}
    for layer in [11, 2, 10, *range(2), *range(3, 10)]:  # numbers sort as numbers, not as text
        value = torch.tensor(weights[layer])
        entries[f"blocks.{layer}.attn.hook_pattern"] = value if batch is None else value[None].repeat(batch, 1, 1, 1)
        entries[f"blocks.{layer}.attn.hook_attn_scores"] = torch.full((1, 2, 4, 4), -9.0)

    class ActivationCache:
        cache_dict = entries

        def __len__(self):
            return len(entries)

    sources = attention_sources(ActivationCache() if as_object else entries)
    assert len(sources) == (batch or 1)
    for source in sources:
        assert_holds(source, weights)


def test_a_cache_without_patterns_says_what_is_missing():
    with pytest.raises(InputError, match=r"blocks\.<layer>\.attn\.hook_pattern"):
        attention_sources({"blocks.0.hook_resid_post": torch.zeros(1, 3, 4)})


def test_sources_and_recordings_pass_through():
    first, second = oracles.Given(WEIGHTS), oracles.Given(WEIGHTS[:, :, :3, :3])
    assert attention_sources(first) == [first]
    assert attention_sources(oracles.Recorded(first, second)) == [first, second]
    for data, what in ((first, "source"), (oracles.Recorded(first), "recording")):
        with pytest.raises(InputError, match=f"{what} brings its own tokens"):
            attention_sources(data, tokens=list("abcde"))


def test_queries_and_keys_may_differ():
    last_two = WEIGHTS[:, :, 3:]
    (source,) = attention_sources(last_two, tokens=["x", "y"], key_tokens=list("abcde"))
    assert (list(source.query_tokens), list(source.key_tokens)) == (["x", "y"], list("abcde"))
    assert not source.causal
    assert_holds(source, last_two)
    (unnamed,) = attention_sources(last_two, tokens=["x", "y"])
    assert list(unnamed.key_tokens) == ["0", "1", "2", "3", "4"]


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 300), data=st.data())
@settings(deadline=None, max_examples=60)
def test_causal_means_that_no_weight_goes_to_a_later_key(seed, size, data):
    weights = oracles.pattern(np.random.default_rng(seed), 1, 2, size, size, causal=True)
    assert attention_sources(weights)[0].causal
    query, key = sorted((data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))))
    if query < key:
        weights[0, 1, query, key] = 1e-30
        assert not attention_sources(weights)[0].causal


@given(queries=st.lists(st.integers(0, 8), min_size=0, max_size=8), seed=st.integers(0, 1000), keys=st.data())
@settings(deadline=None, max_examples=80)
def test_a_block_is_those_queries_in_that_order(queries, seed, keys):
    weights = oracles.pattern(np.random.default_rng(seed), 2, 2, 9, 9)
    first = keys.draw(st.integers(0, 9))
    span = slice(first, keys.draw(st.integers(first, 9)))
    block = attention_sources(weights)[0].block(1, 0, np.array(queries, dtype=np.int64), span)
    assert block.shape == (len(queries), span.stop - span.start)
    for row, query in enumerate(queries):
        assert block[row].tolist() == weights[1, 0, query, span].tolist()


def spoilt(value):
    weights = WEIGHTS.copy()
    weights[1, 2, 3, 0] = value
    return weights


BAD = [
    (WEIGHTS[0], {}, r"\[layer, head, query, key\].*shape \[3, 5, 5\].*attention\[None\]"),
    (WEIGHTS[0, 0], {}, r"shape \[5, 5\].*attention\[None, None\]"),
    (WEIGHTS[None], {}, r"shape \[1, 2, 3, 5, 5\].*Choose one prompt"),
    (np.zeros((0, 1, 2, 2)), {}, r"empty.*\[0, 1, 2, 2\]"),
    (np.zeros((1, 1, 0, 0)), {}, r"empty.*\[1, 1, 0, 0\]"),
    ((np.zeros((0, 2, 3, 3)),), {}, r"empty.*\[0, 2, 3, 3\]"),
    ((np.zeros((1, 2, 0, 0)),), {}, r"empty.*\[1, 2, 0, 0\]"),
    ({"blocks.0.attn.hook_pattern": np.zeros((1, 2, 0, 0))}, {}, "empty"),
    ({"blocks.0.attn.hook_pattern": np.zeros((2, 2))}, {}, r"hook_pattern.*\[2, 2\]"),
    ({f"blocks.{i}.attn.hook_pattern": WEIGHTS[:1, : i + 1] for i in range(2)}, {}, "hook_pattern"),
    ([], {}, r"shape \[0\]"),
    (None, {}, r"Attention \(a Recording, .*must be numbers; got NoneType"),
    ("the cat", {}, r"Attention \(a Recording, .*must be numbers; got str"),
    ([[1.0], [1.0, 2.0]], {}, "regular"),
    (((torch.zeros(1, 2, 1, 1),), (torch.zeros(1, 2, 1, 2),)), {}, "generate|regular|Cannot read"),
    ((WEIGHTS[:1], WEIGHTS[:1, :2]), {}, r"one shape.*\[1, 2, 5, 5\], \[1, 3, 5, 5\]"),
    (list(WEIGHTS), {}, r"\[batch, head, query, key\]"),
    (spoilt(np.nan), {}, "layer 1, head 2, query 3, key 0 is nan"),
    (spoilt(np.inf), {}, "layer 1, head 2, query 3, key 0 is inf"),
    (spoilt(-0.5), {}, r"is -0\.5.*before the softmax"),
    (spoilt(0.9), {"check_rows": True}, r"sum to 1; layer 1, head 2, query 3 sums to"),
    (WEIGHTS, {"tokens": list("abc")}, "3 query tokens for 5 query positions"),
    (WEIGHTS, {"tokens": list("abcdef")}, "6 query tokens for 5 query positions"),
    (WEIGHTS, {"tokens": list("abcde"), "key_tokens": list("ab")}, "2 key tokens for 5 key positions"),
    (WEIGHTS, {"tokens": "abcde"}, r"Did you mean list\("),
    (WEIGHTS, {"tokens": [1, 2, 3, 4, 5]}, "token 0 is 1, of type int"),
    ((np.concatenate([WEIGHTS[:1]] * 2),), {"tokens": list("abcde")}, "2 prompts.*list of 2 lists"),
    ((np.concatenate([WEIGHTS[:1]] * 2),), {"tokens": [list("abcde")]}, "2 prompts.*list of 2 lists"),
]


@pytest.mark.parametrize(("data", "options", "says"), BAD)
def test_bad_input_is_refused_in_words(data, options, says):
    with pytest.raises(InputError, match=says) as caught:
        attention_sources(data, **options)
    assert str(caught.value).rstrip()[-1] in ".?]"


def test_rows_are_checked_only_when_asked():
    assert attention_sources(spoilt(0.9))[0].shape == WEIGHTS.shape
    assert attention_sources(torch.tensor(WEIGHTS).half(), check_rows=True)  # rounding is no error


def test_an_array_source_is_frozen_in_what_it_says():
    source = ArraySource(list(WEIGHTS), Tokens.of(list("abcde")), Tokens.of(list("abcde")), "mine")
    assert source.name == "mine"
    assert isinstance(source, AttentionSource)


def test_views_run_where_torch_does_not_exist():
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import numpy as np
import interpwidgets as iw
view = iw.AttentionView(np.full((2, 2, 3, 3), 1 / 3), tokens=["a", "b", "c"])
view._repr_mimebundle_()
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "transformers") and sys.modules[name]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
