"""Generating with interventions and a cache is what whole passes without one come to, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import VOCABULARY, Naive, build
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.intervene import Ablate, Freeze, Patch, Scale, Steer, generate

torch.set_num_threads(1)
FAMILIES = ["gpt2", "llama", "mistral", "gemma3"]
PROMPTS = [[4, 9, 11, 2, 17, 8, 3], [5, 12, 9], [20, 6, 1, 13, 2]]
NEW = 8
Where = Callable[[int, int], list[int]]  # (length of the prompt, length now) -> positions


@pytest.fixture(scope="module", params=FAMILIES)
def naive(request: pytest.FixtureRequest) -> Naive:
    return Naive(build(request.param), request.param)


def change(where: Where, length: int, act: Callable[[torch.Tensor], torch.Tensor], head: Any = None) -> Any:
    """A change to some positions and heads of however many there are."""

    def made(x: torch.Tensor) -> torch.Tensor:
        for pos in where(length, len(x)):
            if 0 <= pos < len(x):
                heads = range(x.shape[1]) if head is None else [head]
                for each in heads:
                    x[pos, each] = act(x[pos, each])
        return x

    return made


def whole_passes(naive: Naive, ids: Sequence[int], changes: Any) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens, and the logits they were taken from: every pass over all tokens."""
    now, logits = list(ids), []
    for _ in range(NEW):
        out, _ = naive.run(now, [(site, layer, change(where, len(ids), act, head))
                                 for site, layer, where, act, head in changes])  # fmt: skip
        logits.append(out[-1])
        now.append(int(out[-1].argmax()))
    return now[len(ids) :], torch.stack(logits)


VECTOR = torch.linspace(-2, 2, 16, dtype=torch.float64)
everywhere: Where = lambda length, now: list(range(now))  # noqa: E731
prompt_end: Where = lambda length, now: [length - 1]  # noqa: E731
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "nothing": ([], []),
    "stream, all positions": (
        [Steer("resid_pre", 1, vector=VECTOR, coefficient=2)],
        [("resid_pre", 1, everywhere, lambda x: x + 2 * VECTOR, None)],
    ),
    "a head, all positions": ([Ablate("z", 1, head=2)], [("z", 1, everywhere, lambda x: x * 0, 2)]),
    "the prompt's end stays where it is": (
        [Steer("resid_pre", 1, vector=VECTOR, pos=-1)],
        [("resid_pre", 1, prompt_end, lambda x: x + VECTOR, None)],
    ),
    "from the last two on": (
        [Scale("z", 0, head=1, factor=-2, pos=slice(-2, None))],
        [("z", 0, lambda length, now: list(range(length - 2, now)), lambda x: -2 * x, 1)],
    ),
    "up to the last, and a new position": (
        [Scale("z", 0, factor=3, pos=slice(None, -1)), Steer("resid_pre", 2, vector=VECTOR, pos=[1, 8])],
        [
            ("z", 0, lambda length, now: list(range(length - 1)), lambda x: 3 * x, None),
            ("resid_pre", 2, lambda length, now: [1, 8], lambda x: x + VECTOR, None),
        ],
    ),
    "keys and values of the past": (
        [Ablate("k", 1, head=1, pos=[1, 2]), Scale("v", 2, head=0, factor=4)],
        [("k", 1, lambda length, now: [1, 2], lambda x: x * 0, 1), ("v", 2, everywhere, lambda x: 4 * x, 0)],
    ),
    "the embedding": (
        [Patch("embed", pos=slice(1, None), value=VECTOR)],
        [("embed", 0, lambda length, now: list(range(1, now)), lambda x: VECTOR, None)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_generating_is_what_whole_passes_come_to(naive: Naive, case: str) -> None:
    interventions, changes = CASES[case]
    made = generate(naive.module, PROMPTS, interventions=interventions, max_new_tokens=NEW, output_logits=True)
    assert made.logits is not None
    for row, ids in enumerate(PROMPTS):
        tokens, logits = whole_passes(naive, ids, changes)
        assert made.ids[row] == tokens
        np.testing.assert_allclose(made.logits[row], logits, atol=1e-5)


def test_the_cache_makes_no_difference(naive: Naive) -> None:
    what = [Ablate("k", 1, pos=2), Steer("resid_post", 0, vector=VECTOR, pos=slice(-1, None)), Scale("pattern", 2)]
    options: dict[str, Any] = {"interventions": what, "max_new_tokens": NEW, "output_logits": True}
    with_cache = generate(naive.module, PROMPTS, **options)
    without = generate(naive.module, PROMPTS, use_cache=False, **options)
    assert with_cache.logits is not None
    assert without.logits is not None
    assert with_cache.ids == without.ids
    np.testing.assert_allclose(with_cache.logits, without.logits, atol=1e-5)


def test_the_pattern_can_be_cut(naive: Naive) -> None:
    """A pattern of zeros is a head that says nothing, in every pass."""
    cut = generate(naive.module, PROMPTS, interventions=Patch("pattern", 1, head=2, value=0.0), output_logits=True)
    off = generate(naive.module, PROMPTS, interventions=Ablate("z", 1, head=2), output_logits=True)
    assert cut.logits is not None
    np.testing.assert_allclose(cut.logits, off.logits, atol=1e-9)


@pytest.fixture(scope="module")
def gpt2() -> Naive:
    return Naive(build("gpt2"), "gpt2")


def logits_of(naive: Naive, what: Any, prompts: Any = PROMPTS, **options: Any) -> np.ndarray[Any, Any]:
    made = generate(naive.module, prompts, interventions=what, max_new_tokens=NEW, output_logits=True, **options)
    assert made.logits is not None
    return np.asarray(made.logits)


def test_values_by_position_hold_where_there_are_any(gpt2: Naive) -> None:
    other = [[7, 8, 9, 10]]
    rec = iw.record(gpt2.module, other, sites=["resid_pre"])
    rows = rec["resid_pre", 1][0]  # [4, d_model]
    alone = [PROMPTS[0]]
    single = [Patch("resid_pre", 1, pos=pos, value=rows[pos]) for pos in range(4)]
    wanted = logits_of(gpt2, single, alone)
    for value in (rec, rows, rows[None]):
        np.testing.assert_allclose(logits_of(gpt2, Patch("resid_pre", 1, value=value), alone), wanted, atol=1e-9)
        later = logits_of(gpt2, Patch("resid_pre", 1, value=value, pos=slice(1, None)), alone)
        np.testing.assert_allclose(later, logits_of(gpt2, single[1:], alone), atol=1e-9)
    ends = logits_of(gpt2, Patch("resid_pre", 1, value=rows[:2], pos=slice(-2, None)), alone)
    by_hand = [Patch("resid_pre", 1, pos=5, value=rows[0]), Patch("resid_pre", 1, pos=6, value=rows[1])]
    np.testing.assert_allclose(ends, logits_of(gpt2, by_hand, alone), atol=1e-9)


def test_values_longer_than_the_prompt_hold_for_new_positions(gpt2: Naive) -> None:
    rec = iw.record(gpt2.module, [[*range(1, 13)]], sites=["resid_pre"])
    alone = [PROMPTS[1]]
    by_hand = [Patch("resid_pre", 1, pos=pos, value=rec["resid_pre", 1][0, pos]) for pos in range(11)]
    np.testing.assert_allclose(
        logits_of(gpt2, Patch("resid_pre", 1, value=rec), alone), logits_of(gpt2, by_hand, alone), atol=1e-9
    )


def test_means_are_of_the_prompts_and_hold_on(gpt2: Naive) -> None:
    z = torch.cat([iw.record(gpt2.module, [ids], sites=["z"])["z", 1][0] for ids in PROMPTS]).mean(0)  # [head, d_head]
    for heads in (None, 2, [0, -1]):
        picked = z if heads is None else z[heads]
        wanted = logits_of(gpt2, Patch("z", 1, head=heads, value=picked))
        np.testing.assert_allclose(logits_of(gpt2, Ablate("z", 1, head=heads, kind="mean")), wanted, atol=1e-9)


def test_freezing_holds_the_prompt(gpt2: Naive) -> None:
    steer = Steer("resid_pre", 0, vector=VECTOR)
    frozen = logits_of(gpt2, [steer, Freeze("z", 1), Freeze("resid_post", 2)], [PROMPTS[0]])
    np.testing.assert_allclose(frozen[0, 0], np.asarray(gpt2.run(PROMPTS[0])[0][-1]), atol=1e-9)
    assert np.abs(frozen[0, 1] - logits_of(gpt2, [], [PROMPTS[0]])[0, 1]).max() > 1e-3


def test_a_direction(gpt2: Naive) -> None:
    what = Ablate("resid_post", 1, direction=VECTOR)
    unit = VECTOR / VECTOR.norm()
    cut = [("resid_post", 1, everywhere, lambda x: x - (x @ unit) * unit, None)]
    _, logits = whole_passes(gpt2, PROMPTS[0], cut)
    np.testing.assert_allclose(logits_of(gpt2, what, [PROMPTS[0]])[0], logits, atol=1e-9)


def test_samples_and_beams(gpt2: Naive) -> None:
    what = Steer("resid_pre", 1, vector=VECTOR, pos=slice(-1, None))
    torch.manual_seed(0)
    several = generate(
        gpt2.module, PROMPTS[:2], interventions=what, max_new_tokens=4, do_sample=True, num_return_sequences=3
    )
    assert len(several) == 6
    assert [len(prompt) for prompt in several.prompts] == [7] * 3 + [3] * 3
    options: dict[str, Any] = {"interventions": what, "max_new_tokens": 6, "num_beams": 3}
    assert (
        generate(gpt2.module, PROMPTS, **options).ids == generate(gpt2.module, PROMPTS, use_cache=False, **options).ids
    )


def test_a_text_ends_at_its_end(gpt2: Naive) -> None:
    free = generate(gpt2.module, PROMPTS, max_new_tokens=NEW)
    end = free.ids[0][2]
    made = generate(gpt2.module, PROMPTS, max_new_tokens=NEW, eos_token_id=end)
    for ids, stopped in zip(free.ids, made.ids, strict=True):
        assert stopped == (ids[: ids.index(end) + 1] if end in ids else ids)


def test_induction_stops_without_its_previous_token_heads() -> None:
    model = iw.load("induction-2l")
    words = np.random.default_rng(1).choice(np.arange(20, 500), 12, replace=False).tolist()
    prompt = [1, *words, *words[:4]]
    as_it_is = generate(model, prompt, max_new_tokens=4)
    cut = generate(model, prompt, interventions=Ablate("z", 0, head=[2, 3], kind="mean"), max_new_tokens=4)
    assert as_it_is.ids == [words[4:8]]
    assert cut.ids != as_it_is.ids
    assert repr(generate(model, "the cat", max_new_tokens=1)).startswith("Generated(1 text)\n  … <bos> the cat → ")


def test_the_model_is_left_as_it_was(gpt2: Naive) -> None:
    before = gpt2.run(PROMPTS[0])[0]
    with pytest.raises(InputError):
        generate(gpt2.module, PROMPTS, interventions=Patch("resid_pre", 1, value=torch.zeros(3, 5)))
    assert not gpt2.module.transformer._forward_pre_hooks
    torch.testing.assert_close(gpt2.run(PROMPTS[0])[0], before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"interventions": Steer("resid_pre", 1, vector=VECTOR, pos=30)}, "have no position 30"),
        ({"interventions": Steer("resid_pre", 1, vector=VECTOR, pos=-4)}, "no position -4"),
        ({"interventions": Steer("resid_pre", 9, vector=VECTOR)}, "no layer 9"),
        ({"interventions": Steer("pattern", 1, vector=VECTOR)}, "can be scaled"),
        ({"interventions": [VECTOR]}, "Interventions are"),
        ({"max_new_tokens": 0}, "from 1 on"),
        ({"max_new_tokens": 40}, "positions for 32"),
        ({"cache_implementation": "static"}, "dynamic cache"),
        ({"prompt_lookup_num_tokens": 3}, "leave it out"),
    ],
)
def test_what_cannot_be_generated_is_said(gpt2: Naive, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate(gpt2.module, **{"prompt": PROMPTS, "max_new_tokens": NEW, **change})


def test_an_encoder_cannot_generate() -> None:
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, **size)
    with pytest.raises(InputError, match="cannot generate"):
        generate(BertForMaskedLM(config), PROMPTS)
    both_ways = BertLMHeadModel(config)
    with torch.no_grad():
        for weight in both_ways.parameters():
            weight.mul_(8.0 if weight.ndim == 2 else 1.0)
    with pytest.raises(InputError, match="see those after them"):
        generate(both_ways, PROMPTS)
