"""A causal trace is what plain hooks make of it: noise on the embeddings, then clean values put back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import LAYERS, VOCABULARY, Naive, build, put
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import CausalTrace, causal_trace, engine

torch.set_num_threads(1)
PROMPT = [4, 9, 11, 2, 17, 8]
QUIET: dict[str, Any] = {"progress": False, "samples": 3}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


def noisy(naive: Naive, trace: CausalTrace, sample: int, restored: Any = ()) -> float:
    """The probability of the clean run's first guess, with noise and some clean values put back."""
    sites = [(site, layer) for site, layer, _ in restored]
    clean, values = naive.run(PROMPT, read=sites)

    def disturb(x: torch.Tensor) -> torch.Tensor:
        x[list(trace.subject), 0] += trace.noise[sample]
        return x

    back = [(site, layer, put(values[site, layer], None, pos)) for site, layer, pos in restored]
    logits, _ = naive.run(PROMPT, [("embed", 0, disturb), *back])
    return float(logits[-1].softmax(-1)[clean[-1].argmax()])


@pytest.mark.parametrize("way", ["packed", "resumed", "whole"])
def test_every_cell_is_what_hooks_make_of_it(naive: Naive, way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "way_of", lambda _: way)
    trace = causal_trace(naive.module, PROMPT, subject=[1, 2], window=2, **QUIET)
    assert trace.states is not None
    assert trace.attn is not None
    assert trace.mlp is not None
    for sample in range(3):
        np.testing.assert_allclose(trace.states.corrupted[sample], noisy(naive, trace, sample), atol=1e-9)
        for layer in range(LAYERS):
            for pos in range(len(PROMPT)):
                wanted = noisy(naive, trace, sample, [("resid_post", layer, pos)])
                np.testing.assert_allclose(trace.states.values[layer, pos, sample], wanted, atol=1e-9)
                window = [each for each in (layer - 1, layer) if each >= 0]
                for site, effects in (("attn_out", trace.attn), ("mlp_out", trace.mlp)):
                    wanted = noisy(naive, trace, sample, [(site, each, pos) for each in window])
                    np.testing.assert_allclose(effects.values[layer, pos, sample], wanted, atol=1e-9)
    clean = naive.run(PROMPT)[0][-1].softmax(-1).max()
    np.testing.assert_allclose(trace.states.clean, float(clean), atol=1e-9)
    np.testing.assert_allclose(trace.states.recovered[-1, -1], 1, atol=1e-6)  # the last state is all there is
    assert [axis.name for axis in trace.states.axes] == ["layer", "pos"]


def test_noise_is_as_large_as_was_asked_for(naive: Naive) -> None:
    draw: dict[str, Any] = {"over": ["mlp_out"], "window": 1, "progress": False, "subject": slice(1, 5)}
    trace = causal_trace(naive.module, PROMPT, noise=2.5, samples=60, **draw)
    weight = naive.module.get_input_embeddings().weight.detach()
    assert trace.noise.shape == (60, 4, weight.shape[1])
    np.testing.assert_allclose(float(trace.noise.std()), 2.5 * float(weight.std()), rtol=0.06)
    fewer = causal_trace(naive.module, PROMPT, noise=2.5, samples=2, **draw)
    np.testing.assert_array_equal(fewer.noise, trace.noise[:2])  # each sample has a seed of its own
    other = causal_trace(naive.module, PROMPT, noise=2.5, samples=2, seed=1, **draw)
    assert (other.noise != fewer.noise).all()
    assert trace.states is None
    assert trace.attn is None


def test_windows_reach_as_far_as_in_the_paper(naive: Naive) -> None:
    one = causal_trace(naive.module, PROMPT, subject=[1], window=1, over=["mlp_out"], **QUIET).mlp
    all_ = causal_trace(naive.module, PROMPT, subject=[1], window=10, over=["mlp_out"], **QUIET).mlp
    assert one is not None
    assert all_ is not None
    assert np.abs(one.values - all_.values).max() > 1e-6
    np.testing.assert_array_equal(all_.values[0], all_.values[2])  # each reaches over all three layers


def test_metrics_and_targets(naive: Naive) -> None:
    options: dict[str, Any] = {"subject": [1, 2], "over": ["resid_post"], **QUIET}
    guess = int(naive.run(PROMPT)[0][-1].argmax())
    own, same = (causal_trace(naive.module, PROMPT, **options, **more) for more in ({}, {"target": guess}))
    assert own.states is not None
    assert same.states is not None
    np.testing.assert_array_equal(own.states.values, same.states.values)
    assert own.states.metric == f"P(#{guess})"
    other = causal_trace(naive.module, PROMPT, metric=iw.logit_diff(3, 5), **options).states
    assert other is not None
    assert other.metric == "logit(#3) − logit(#5)"


def test_a_model_that_sees_both_ways() -> None:
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    module = BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, **size)).double().eval()
    trace = causal_trace(module, PROMPT, subject=[3], over=["resid_post"], metric=iw.logit(7, pos=1), **QUIET)
    assert trace.states is not None
    assert trace.states.effect[0, 0] != 0  # positions before the subject matter too


LINES = ["The Space Needle is in Seattle", "Seattle has The Needle in Space"] * 3


@pytest.fixture(scope="module")
def words() -> iw.Model:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = GPT2Config(n_layer=1, n_head=1, n_embd=8, n_positions=64, vocab_size=len(fast), **none)
    return iw.Model(GPT2LMHeadModel(config).eval(), fast, name="toy")


def find(model: iw.Model, prompt: Any, subject: Any) -> tuple[int, ...]:
    return causal_trace(model, prompt, subject=subject, over=["mlp_out"], **QUIET).subject


@pytest.mark.parametrize("subject", ["Space Needle", " Space Needle", "The Space Needle", "The", "Seattle"])
def test_a_subject_is_found_in_the_text(words: iw.Model, subject: str) -> None:
    prompt = "The Space Needle is in Seattle"
    for given in (prompt, [prompt], words.tokenizer(prompt)["input_ids"]):
        at = find(words, given, subject)
        tokens = words.tokens(prompt).text
        assert at == tuple(range(at[0], at[-1] + 1))
        assert "".join(map(str, tokens[at[0] : at[-1] + 1])).strip() == subject.strip()


def test_positions_are_given_as_a_number_a_list_or_a_slice(words: iw.Model) -> None:
    size = len(words.tokens("The Space Needle"))
    assert find(words, "The Space Needle", -1) == (size - 1,)
    assert find(words, "The Space Needle", [2, 0]) == (0, 2)
    assert find(words, "The Space Needle", slice(1, 3)) == (1, 2)


def test_a_trace_says_what_it_found(words: iw.Model) -> None:
    said = repr(causal_trace(words, "The Space Needle is in", subject="The", target=None, **QUIET))
    assert "3 samples of noise on " in said
    assert "with noise" in said
    assert all(f"  {name}: strongest in layer 0 at " in said for name in ("states", "attn", "mlp"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": "Eiffel"}, r"not in the prompt: The\|"),
        ({"subject": ""}, "not in the prompt"),
        ({"subject": "pace Needle"}, r"within a token of the prompt, The\|"),
        ({"subject": "Needle", "prompt": "The Needle is The Needle"}, r"2 times .*slice\(.* and slice\("),
        ({"subject": [99]}, "out of 0 to"),
        ({"subject": slice(5, 5)}, "no position"),
        ({"prompt": ["The", "The"]}, "one prompt; got 2"),
        ({"metric": iw.logit(3), "target": 3}, "none to give"),
        ({"samples": 0}, "samples is a number"),
        ({"window": 0}, "window is a number"),
        ({"over": ["z"]}, "`over` is a list"),
        ({"over": "resid_post"}, "`over` is a list"),
    ],
)
def test_what_cannot_be_traced_is_said(words: iw.Model, change: dict[str, Any], said: str) -> None:
    given = {"prompt": "The Space Needle is in Seattle", "subject": "Space Needle", **QUIET, **change}
    with pytest.raises(InputError, match=said):
        causal_trace(words, **given)
