"""The corpus: no leak, no shortcut, the same rows for the same seed, and a tokenizer that gives back what it read."""

from __future__ import annotations

import secrets
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpwidgets.models.corpora import corpus
from interpwidgets.models.corpora.corpus import BOS, PAD, TOKEN_ID, UNK, batch, document, repeat_row, side_of, text_row
from interpwidgets.models.corpora.words import CAPITALS, SLOTS, SPECIALS, WORDS
from interpwidgets.models.train.tokenizer import word_tokenizer

SEED = secrets.randbits(32)  # fresh in every session; a failure prints it
seeds = st.integers(0, 2**32)


def sentences(side: corpus.Side, number: int) -> list[tuple[str, ...]]:
    rng = Random(f"{SEED} {side}")
    return [tuple(sentence) for _ in range(number) for sentence in document(rng, side)]


def test_words_are_distinct_and_numbered_in_order() -> None:
    assert len(WORDS) == len(set(WORDS))
    assert len(TOKEN_ID) == 512
    assert [TOKEN_ID[special] for special in SPECIALS] == [PAD, BOS, UNK] == [0, 1, 2]
    assert list(TOKEN_ID.values()) == list(range(512))


def test_a_word_plays_one_part_only() -> None:
    counts = Counter(word for words in SLOTS.values() for word in words)
    assert [word for word, number in counts.items() if number > 1] == []


def test_every_word_is_used_and_every_use_is_known() -> None:
    written = {word for side in ("train", "heldout") for s in sentences(side, 4000) for word in s}  # type: ignore[arg-type]
    assert written == set(WORDS), SEED


def test_no_sentence_is_on_both_sides() -> None:
    train, heldout = set(sentences("train", 4000)), set(sentences("heldout", 2000))
    assert len(train) > 10_000
    assert len(heldout) > 2_000
    assert not train & heldout, SEED


def test_every_held_out_template_has_training_sentences() -> None:
    """What is held out are combinations, not words: each of its words occurs in training."""
    train = {word for s in sentences("train", 4000) for word in s}
    assert {word for s in sentences("heldout", 1000) for word in s} <= train, SEED


@given(seeds)
def test_a_document_is_of_its_side(seed: int) -> None:
    for side in ("train", "heldout"):
        for sentence in document(Random(seed), side):  # type: ignore[arg-type]
            assert side_of(sentence) == side
            assert sentence[-1] in {".", "?", '"'}


@given(seeds, st.integers(8, 256))
def test_text_rows_have_their_length_and_open_with_bos(seed: int, length: int) -> None:
    row = text_row(Random(seed), length, "train")
    assert len(row) == length
    assert row[0] == BOS
    assert set(row[1:]) <= set(TOKEN_ID.values()) - {BOS, PAD}


@given(seeds, st.integers(32, 256))
def test_repeat_rows_repeat_and_name_no_special_token(seed: int, length: int) -> None:
    row = repeat_row(Random(seed), length)
    assert len(row) == length
    assert row[0] == BOS
    assert min(row[1:]) >= len(SPECIALS)
    trigrams = Counter(zip(row, row[1:], row[2:], strict=False))
    assert trigrams.most_common(1)[0][1] >= 2  # 509³ trigrams: by chance there is none


def test_no_fixed_distance_predicts_the_copy() -> None:
    """A head that looks a fixed number of tokens back must fail: periods, starts and gaps vary."""
    rng, length = Random(SEED), 96
    rows = [repeat_row(rng, length) for _ in range(400)]
    right = [
        sum(row[i] == row[i - back] for row in rows for i in range(back, length)) / (400 * (length - back))
        for back in range(1, 90)
    ]
    assert max(right) < 0.15, SEED


def test_giving_does_not_always_end_on_the_giver() -> None:
    """The receiver is the first and the second of the two names about equally often."""
    gifts = [s for s in sentences("train", 6000) if s[0] == "when"]
    second = sum(s[-2] == s[3] for s in gifts)
    assert all(s[-2] in {s[1], s[3]} for s in gifts)
    assert 0.4 < second / len(gifts) < 0.6, SEED


def test_capitals_keep_to_their_countries() -> None:
    told = [s for s in sentences("train", 6000) if s[1:3] == ("is", "in")]
    assert told
    for city, _, _, country, *rest in told:
        assert CAPITALS[city] == country
        assert CAPITALS[rest[1]] == rest[4]


def test_a_batch_is_its_seed_and_step() -> None:
    assert batch(SEED, 3, 4, 64, 0.5) == batch(SEED, 3, 4, 64, 0.5)
    assert batch(SEED, 3, 4, 64, 0.5) != batch(SEED, 4, 4, 64, 0.5)
    assert batch(SEED, 3, 4, 64, 0.5) != batch(SEED + 1, 3, 4, 64, 0.5)
    assert batch(SEED, 3, 4, 64, 0.5) != batch(SEED, 3, 4, 64, 0.5, "heldout")


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(256)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60))
def test_the_tokenizer_gives_back_what_it_read(tokenizer, words: list[str]) -> None:
    ids = tokenizer(" ".join(words)).input_ids
    assert ids == [BOS, *(TOKEN_ID[word] for word in words)]
    assert tokenizer.decode(ids, skip_special_tokens=True) == " ".join(words)


def test_the_tokenizer_reads_ordinary_writing(tokenizer) -> None:
    def read(text: str) -> list[str]:
        return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)

    assert read("The cat sat on the mat.") == ["<bos>", "the", "cat", "sat", "on", "the", "mat", "."]
    assert read("Anna's dog") == ["<bos>", "anna", "'s", "dog"]
    assert read('"Hello,\n\tBob!"') == ["<bos>", '"', "hello", ",", "bob", "!", '"']
    assert read("a perceptron") == ["<bos>", "a", "<unk>"]


def test_padding_goes_right_and_is_masked(tokenizer) -> None:
    both = tokenizer(["a cat", "the cat sat on the mat"], padding=True)
    assert both.input_ids[0][3:] == [PAD] * 4
    assert both.attention_mask[0] == [1, 1, 1, 0, 0, 0, 0]
