"""Build the tokenizer of a small corpus: one word, one token; every prompt opens with `<bos>`."""

from __future__ import annotations

from typing import Any

from interpwidgets.models.corpora.corpus import BOS, TOKEN_ID
from interpwidgets.models.corpora.words import SPECIALS

__all__ = ["word_tokenizer"]


def word_tokenizer(max_length: int, token_id: dict[str, int] = TOKEN_ID) -> Any:
    """Build a Hugging Face tokenizer over the words of a corpus; any other word is `<unk>`."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, bos, unk = SPECIALS
    tokenizer = Tokenizer(models.WordLevel(token_id, unk_token=unk))
    tokenizer.normalizer = normalizers.Lowercase()
    # A word, the 's of "anna's", or one mark of punctuation; what lies between is dropped.
    words = Regex(r"'s\b|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, BOS)])
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        unk_token=unk,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
