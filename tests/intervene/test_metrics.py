"""Metrics say what plain loops in float64 say, of the prompts and positions that were meant."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import Metric, accuracy, as_metric, kl, log_prob, logit, logit_diff, loss, prob, rank

LINES = ["When Mary and John went to the store, John gave a drink to Mary"] * 4


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def word_level() -> PreTrainedTokenizerFast:
    words = {word: place for place, word in enumerate(["[UNK]", "[CLS]", "Mary", "John"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]")


def model_of(tokenizer: Any, vocabulary: int) -> iw.Model:
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    size = GPT2Config(n_layer=1, n_head=1, n_embd=8, n_positions=32, vocab_size=vocabulary, **none)
    return iw.Model(GPT2LMHeadModel(size).eval(), tokenizer, name="toy")


@pytest.fixture(scope="module")
def model() -> iw.Model:
    tokenizer = byte_level()
    return model_of(tokenizer, len(tokenizer))


@pytest.fixture(scope="module")
def bare() -> iw.Model:
    return model_of(None, 13)


def plain(kind: str, row: list[float], token: int, other: int, clean: list[float]) -> float:
    """Each metric of one row of logits, as its formula reads."""
    log_total = math.log(sum(math.exp(value) for value in row))
    log_clean = math.log(sum(math.exp(value) for value in clean))
    return {
        "logit": row[token],
        "logit_diff": row[token] - row[other],
        "prob": math.exp(row[token] - log_total),
        "log_prob": row[token] - log_total,
        "loss": log_total - row[token],
        "rank": float(sum(value > row[token] for value in row)),
        "accuracy": float(all(value < row[token] for place, value in enumerate(row) if place != token)),
        "kl": sum(
            math.exp(before - log_clean) * ((before - log_clean) - (after - log_total))
            for before, after in zip(clean, row, strict=True)
        ),
    }[kind]


MAKE = {"logit": logit, "prob": prob, "log_prob": log_prob, "rank": rank, "accuracy": accuracy, "loss": loss}


def make(kind: str, tokens: Any, others: Any, pos: int) -> Metric:
    if kind == "kl":
        return kl(pos=pos)
    return logit_diff(tokens, others, pos=pos) if kind == "logit_diff" else MAKE[kind](tokens, pos=pos)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([*MAKE, "logit_diff", "kl"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 1 << 30),
    one=st.booleans(),
    pos=st.integers(-3, 2),
)
def test_equals_plain_loops(bare: iw.Model, kind: str, dtype: torch.dtype, seed: int, one: bool, pos: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, 13, size).tolist() for size in rng.integers(3, 8, 4)]
    tokens, others = rng.integers(0, 13, (2, 4)).tolist()
    if one:
        tokens, others = [tokens[0]] * 4, [others[0]] * 4
    bound = make(kind, tokens[0] if one else tokens, others[0] if one else others, pos).bind(bare, prompts)
    assert bound.positions.tolist() == [[pos if pos >= 0 else len(prompt) + pos] for prompt in prompts]
    assert bound.needs_reference == (kind == "kl")

    prompt = torch.from_numpy(rng.integers(0, 4, 9))
    logits = torch.from_numpy(rng.normal(0, 3, (9, 1, 13))).to(dtype)
    reference = torch.from_numpy(rng.normal(0, 3, (4, 1, 13))).to(dtype)
    if bound.needs_reference:
        bound.reference = reference
    found = bound(logits, prompt)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    truth = [
        plain(kind, row[0].tolist(), tokens[at], others[at], reference[at, 0].tolist())
        for row, at in zip(logits, prompt.tolist(), strict=True)
    ]
    if kind != "accuracy" or dtype != torch.bfloat16:  # bfloat16 ties at the top: a test of its own
        close = 1e-12 if dtype == torch.float64 else 2e-5
        np.testing.assert_allclose(found.numpy(), truth, rtol=close, atol=close)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4), seed=st.integers(0, 1 << 30))
def test_next_token_loss_is_the_mean_over_each_prompt(bare: iw.Model, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, 13, length).tolist() for length in lengths]
    bound = loss().bind(bare, prompts)
    size = max(lengths) - 1
    assert bound.counts.tolist() == [length - 1 for length in lengths]
    assert bound.positions.tolist() == [[min(place, length - 2) for place in range(size)] for length in lengths]
    every = torch.from_numpy(rng.normal(0, 3, (len(prompts), 9, 13)))  # as of a forward pass, [prompt, pos, vocab]
    rows = torch.arange(len(prompts))
    found = bound(every[rows[:, None], bound.positions], rows)
    for number, ids in enumerate(prompts):
        terms = [
            plain("loss", every[number, place].tolist(), token, 0, every[number, place].tolist())
            for place, token in enumerate(ids[1:])
        ]
        assert float(found[number]) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_padding_of_the_loss_counts_for_nothing(bare: iw.Model) -> None:
    bound = loss().bind(bare, [[1, 2], [1, 2, 3, 4]])
    logits = torch.randn(2, 3, 13, requires_grad=True)
    spoilt = logits.detach().clone()
    spoilt[0, 1:] = torch.nan
    torch.testing.assert_close(bound(spoilt, torch.arange(2)), bound(logits, torch.arange(2)).detach())
    (gradient,) = torch.autograd.grad(bound(logits, torch.arange(2)).sum(), logits)
    assert (gradient[0, 1:] == 0).all()
    assert (gradient[0, 0] != 0).all()


@pytest.mark.parametrize("kind", ["logit_diff", "logit", "prob", "log_prob", "loss", "kl"])
def test_gradients(bare: iw.Model, kind: str) -> None:
    bound = make(kind, [1, 5, 2], 7, -1).bind(bare, [[1, 2], [3], [4]])
    if bound.needs_reference:
        bound.reference = torch.randn(3, 1, 13, dtype=torch.float64, requires_grad=True)
        assert bound.reference is not None
        assert not bound.reference.requires_grad
    logits = torch.randn(4, 1, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: bound(given, torch.tensor([0, 2, 2, 1])), logits)


def test_gradient_of_the_whole_loss(bare: iw.Model) -> None:
    bound = loss().bind(bare, [[1, 2], [3, 4, 5]])
    logits = torch.randn(2, 2, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: bound(given, torch.tensor([0, 1])), logits)


def test_kl_to_itself_is_zero_also_where_tokens_are_impossible(bare: iw.Model) -> None:
    bound = kl().bind(bare, [[1], [2]])
    logits = torch.randn(2, 1, 13)
    logits[:, :, 3] = -torch.inf
    bound.reference = logits
    assert bound(logits, torch.arange(2)).abs().max() < 1e-6
    moved = logits.clone().requires_grad_()
    value = bound(moved + torch.linspace(0, 1, 13), torch.arange(2))
    assert (value > 0).all()
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    assert gradient.isfinite().all()


def test_ties_share_a_rank_and_greedy_decoding_takes_one(bare: iw.Model) -> None:
    logits = torch.tensor([[[2.0, 5, 5, 1]]])
    now = torch.tensor([0])
    assert [float(rank(token).bind(bare, [[1]])(logits, now)) for token in range(4)] == [2, 0, 0, 3]
    assert [float(accuracy(token).bind(bare, [[1]])(logits, now)) for token in range(4)] == [0, 1, 0, 0]


@pytest.mark.parametrize("make", [rank, accuracy])
def test_no_rank_among_nan(bare: iw.Model, make: Any) -> None:
    assert make(1).bind(bare, [[1]])(torch.full((1, 1, 4), torch.nan), torch.tensor([0])).isnan().all()


# Names and tokens


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (logit_diff(" Mary", " John"), "logit(␣Mary) − logit(␣John)"),
        (logit_diff([" Mary", " John"], [5, 5]), "logit(␣Mary/␣John) − logit(#5)"),
        (logit(["a", "b", "c", "d", "a"]), "logit(a/b/c/…)"),
        (prob("\n", pos=3), "P(↵) at position 3"),
        (log_prob("{}"), "log P({})"),
        (rank(np.int64(4)), "rank(#4)"),
        (accuracy(torch.tensor([1, 2])), "accuracy(#1/#2)"),
        (loss(), "next-token loss"),
        (loss(" Mary"), "loss(␣Mary)"),
        (kl(), "KL(clean ‖ this)"),
    ],
)
def test_names_read_like_the_formula(metric: Metric, name: str) -> None:
    assert metric.name == name
    assert repr(metric) == f"Metric({name})"


def test_strings_are_read_by_the_models_tokenizer(model: iw.Model) -> None:
    prompts = [model.tokens(text).ids.tolist() for text in ("When Mary", "When John and")]
    bound = logit_diff([" Mary", " John"], " to").bind(model, prompts)
    vocabulary = model.anatomy.embed.num_embeddings
    logits = torch.arange(float(vocabulary)).repeat(2, 1, 1)
    ids = [model.tokens(text).ids.item() for text in (" Mary", " John", " to")]
    assert bound(logits, torch.arange(2)).tolist() == [ids[0] - ids[2], ids[1] - ids[2]]
    assert bound.name == "logit(␣Mary/␣John) − logit(␣to)"
    assert repr(bound) == "BoundMetric(logit(␣Mary/␣John) − logit(␣to), on 2 prompts)"


def test_no_special_tokens_are_added() -> None:
    tokenizer = word_level()
    template = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.backend_tokenizer.post_processor = template
    assert tokenizer("Mary")["input_ids"] == [1, 2]
    bound = logit("Mary").bind(model_of(tokenizer, 4), [[1, 2]])
    assert bound(torch.arange(4.0)[None, None], torch.tensor([0])).item() == 2


def test_several_tokens_are_shown_with_what_would_be_one(model: iw.Model) -> None:
    with pytest.raises(InputError, match=r"'Mary' is 2 tokens to toy: Ma ry\..* One token would be ' Mary'\."):
        logit("Mary").bind(model, [[1]])
    with pytest.raises(InputError, match=r"'  Mary' is 2 tokens to toy: ␣ ␣Mary\..* would be ' Mary'"):
        logit("  Mary").bind(model, [[1]])
    with pytest.raises(InputError, match="Take another word"):
        logit(" Zanzibar").bind(model, [[1]])
    with pytest.raises(InputError, match="'' is 0 tokens to toy: none"):
        logit("").bind(model, [[1]])


def test_a_word_that_the_tokenizer_does_not_know_is_no_token() -> None:
    model = model_of(word_level(), 4)
    with pytest.raises(InputError, match="'Bob' is unknown to the tokenizer of toy"):
        logit("Bob").bind(model, [[2]])
    logit("[UNK]").bind(model, [[2]])


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (logit([1, 2, 3]), "3 tokens for 2 prompts"),
        (logit([1]), "1 tokens for 2 prompts"),
        (logit_diff(1, [1, 2, 3]), "3 tokens for 2 prompts"),
        (logit(13), "no token 13; toy knows the ids 0 to 12"),
        (logit(-1), "no token -1"),
        (logit(" Mary"), "no tokenizer"),
        (logit(1, pos=3), "no position 3 in prompt 1, which has 3 tokens"),
        (logit(1, pos=-4), "no position -4 in prompt 1"),
        (kl(pos=9), "no position 9 in prompt 0"),
    ],
)
def test_what_does_not_fit_the_prompts_is_said(bare: iw.Model, metric: Metric, says: str) -> None:
    with pytest.raises(InputError, match=says):
        metric.bind(bare, [[1, 2, 3, 4], [1, 2, 3]])


def test_other_wrong_input_is_said(bare: iw.Model) -> None:
    for wrong in (None, 1.5, [], [1.5], {"a": 1}, True):
        with pytest.raises(InputError, match="A token is a string or an id"):
            logit(wrong)
    with pytest.raises(InputError, match="there is none"):
        logit(1).bind(bare, [])
    with pytest.raises(InputError, match="no next one"):
        loss().bind(bare, [[1, 2], [1]])
    with pytest.raises(InputError, match="needs targets"):
        loss(pos=2)
    bound = kl().bind(bare, [[1], [2]])
    with pytest.raises(InputError, match="set `reference`"):
        bound(torch.zeros(1, 1, 13), torch.tensor([0]))
    with pytest.raises(InputError, match=r"\[2, 1, vocab\]; got \[2, 13\]"):
        bound.reference = torch.zeros(2, 13)
    with pytest.raises(InputError, match=r"\[1, 1, vocab\]; got \[1, 13\]"):
        bound(torch.zeros(1, 13), torch.tensor([0]))


# Functions as metrics


def test_a_function_of_logits_is_a_metric(bare: iw.Model) -> None:
    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Categorical(logits=logits).entropy()

    metric = as_metric(entropy)
    assert metric.name == "entropy"
    assert as_metric(metric) is metric
    assert as_metric(lambda logits: logits.amax(-1)).name == "a function of the logits"
    bound = metric.bind(bare, [[1, 2, 3], [1]])
    assert bound.positions.tolist() == [[2], [0]]
    logits = torch.randn(5, 1, 13, dtype=torch.float64)
    truth = [-sum(p * math.log(p) for p in row.softmax(-1).tolist()) for row in logits[:, 0]]
    np.testing.assert_allclose(bound(logits, torch.tensor([0, 1, 1, 0, 0])), truth)
    assert Metric("entropy", entropy, pos=0).bind(bare, [[1, 2, 3]]).positions.tolist() == [[0]]


def test_a_function_that_makes_something_else_is_said(bare: iw.Model) -> None:
    for wrong in (lambda logits: logits, lambda logits: logits.sum(), lambda logits: 1.0):
        with pytest.raises(InputError, match=r"\[batch\] of logits"):
            as_metric(wrong).bind(bare, [[1]])(torch.zeros(3, 1, 13), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("wrong", ["logit_diff", None, 3, int])
def test_anything_else_is_no_metric(wrong: Any) -> None:
    with pytest.raises(InputError, match="function of logits"):
        as_metric(wrong)
