"""What tokens say, with tokenizers of each kind that are trained here on a few lines."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import interpwidgets as iw
from interpwidgets.models.texts import token_texts
from interpwidgets.tokens import show

LINES = ["the cat sat on the mat", "مرحبا بالعالم", "你好，世界", "👍🏽 yes 👩‍👩‍👧", "naïve café\n\tthe end"] * 4


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens([AddedToken("é ü", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def sentence_piece(decoder: str) -> PreTrainedTokenizerFast:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    pieces += [("▁the", -1.0), ("▁c", -2.0), ("at", -2.0), ("▁", -3.0), ("▁▁", -3.0), ("c", -4.0), ("你", -4.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    if decoder == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    else:  # as in Llama's
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerFast:
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "mat", "##cat", "cat", "s", "##at"]
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def joined(tokens: iw.Tokens) -> str:
    return b"".join(text if isinstance(text, bytes) else text.encode() for text in tokens.text).decode()


def texts(tokenizer: Any, text: str) -> iw.Tokens:
    return token_texts(tokenizer, tokenizer(text)["input_ids"])


BYTE_LEVEL = byte_level()


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("theca 👍é你ا\n\t\x00"), st.characters(exclude_categories=["Cs"]))))
def test_byte_level_tokens_join_to_the_text(text: str) -> None:
    assert joined(texts(BYTE_LEVEL, text)) == text


def test_byte_level_parts_of_a_character_are_bytes() -> None:
    tokens = texts(BYTE_LEVEL, " the 🦊")
    assert tokens.text[0] == " the"
    assert any(isinstance(text, bytes) for text in tokens.text)
    assert list(tokens)[-1] == "⟨8A⟩"


def test_special_and_added_tokens_are_not_decoded() -> None:
    tokens = texts(BYTE_LEVEL, "é ü<|end|> <|end|>")
    assert tokens.text == ("é ü", "<|end|>", " ", "<|end|>")
    assert tokens.special.tolist() == [False, True, False, True]


def test_no_two_byte_level_tokens_look_alike() -> None:
    every = token_texts(BYTE_LEVEL, range(len(BYTE_LEVEL)))
    assert len(set(every.text)) == len({show(text) for text in every.text}) == len(BYTE_LEVEL)


@pytest.mark.parametrize("decoder", ["metaspace", "llama"])
def test_sentence_piece_spaces_and_bytes(decoder: str) -> None:
    tokenizer = sentence_piece(decoder)
    tokens = texts(tokenizer, "the cat  你\n🦊")
    assert joined(tokens) == " the cat  你\n🦊"
    assert tokens.text[0] == " the"
    assert "\n" in tokens.text
    assert tokens.text[-4:] == (b"\xf0", b"\x9f", b"\xa6", b"\x8a")
    assert texts(tokenizer, "<s>the").special.tolist()[0] is True
    if decoder == "llama":
        assert token_texts(tokenizer, tokenizer.convert_tokens_to_ids(["<0x0A>", "▁", "<0x41>"])).text == (
            "\n",
            " ",
            "A",
        )


def test_word_pieces_stay_as_they_are() -> None:
    tokenizer = word_piece()
    tokens = texts(tokenizer, "the matcat ☃")
    assert tokens.text == ("the", "mat", "##cat", "[UNK]")
    assert tokens.special.tolist() == [False, False, False, True]
    assert token_texts(tokenizer, tokenizer.convert_tokens_to_ids(["[CLS]", "the"])).special.tolist() == [True, False]


def test_words_without_a_decoder() -> None:
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "Ġcat": 1, "<0x41>": 2, "?": 3}, unk_token="?"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert token_texts(fast, [0, 1, 2]).text == ("the", "Ġcat", "<0x41>")


def test_suffixes_of_words() -> None:
    tokenizer = Tokenizer(models.BPE({"the</w>": 0, "th": 1, "<unk>": 2}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    assert token_texts(PreTrainedTokenizerFast(tokenizer_object=tokenizer), [0, 1]).text == ("the ", "th")


def test_a_tokenizer_of_another_kind_decodes() -> None:
    class Letters:
        all_special_ids = (0,)

        def decode(self, ids: list[int], **_: object) -> str:
            return "".join(chr(96 + token) if token else "<s>" for token in ids)

    tokens = token_texts(Letters(), [0, 1, 2])
    assert tokens.text == ("<s>", "a", "b")
    assert tokens.special.tolist() == [True, False, False]


def test_ids_without_a_text_are_called_by_number() -> None:
    assert token_texts(BYTE_LEVEL, [len(BYTE_LEVEL) + 5]).text == (f"#{len(BYTE_LEVEL) + 5}",)  # a padded embedding
    assert token_texts(None, np.array([3, 4])).text == ("#3", "#4")


def test_text_prompts_become_tokens(gpt2: iw.Model) -> None:
    model = iw.Model(gpt2.module, word_piece())
    rec = iw.record(model, ["the cat sat", "the"])
    assert [list(tokens) for tokens in rec.tokens] == [["the", "cat", "s", "##at"], ["the"]]
    assert rec.attention(0).query_tokens is rec.tokens[0]
    assert model.tokens("the").text[0] == "the"
    with pytest.raises(iw.InputError, match="Prompt 1 is empty"):
        iw.record(model, ["the", ""])
    with pytest.raises(iw.InputError, match="Prompt 0 is empty"):
        iw.record(model, "")
