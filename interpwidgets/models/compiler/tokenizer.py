"""Build the tokenizer of a program: its words, with or without spaces around signs; `<bos>` opens every prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpwidgets.models.compiler.language import BOS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SPECIALS", "tokenizer_for"]

PAD, UNK = "<pad>", "<unk>"
SPECIALS = (PAD, BOS, UNK)


def tokenizer_for(vocabulary: Sequence[str], positions: int, eos: str | None) -> Any:
    """Build a Hugging Face tokenizer over these words; any other is `<unk>`, which no program gives a value."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate((*SPECIALS, *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    special = [*SPECIALS, *([] if eos is None else [eos])]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        unk_token=UNK,
        eos_token=eos,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
