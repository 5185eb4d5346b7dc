"""What single tokens say: exact text where a token is text, bytes where it is part of a character.

`tokenizer.decode` of one token is not that: it drops the space in front of a word, and shows a part of a character as
`�`. The pieces of the vocabulary hold everything, spelt in a code that the tokenizer's decoder knows; its steps are
undone here, one piece at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.tokens import Tokens

__all__ = ["token_texts"]

Text = str | bytes
_SPACE = "▁"  # SentencePiece's, U+2581


def token_texts(tokenizer: Any, ids: Sequence[int] | NDArray[np.int64]) -> Tokens:
    """The tokens with these ids. Without a tokenizer they are called by their numbers."""
    ids = [int(token) for token in ids]
    array = np.array(ids, dtype=np.int64)  # [position]
    if tokenizer is None:
        return Tokens(tuple(f"#{token}" for token in ids), ids=array)
    special = {int(token) for token in getattr(tokenizer, "all_special_ids", ())}
    read = _reader(tokenizer)
    text = {token: read(token) for token in set(ids)}
    return Tokens(
        text=tuple(text[token] for token in ids),
        ids=array,
        special=np.array([token in special for token in ids], dtype=bool),
    )


def _reader(tokenizer: Any) -> Callable[[int], Text]:
    """The function from an id to its text, for this kind of tokenizer."""
    if hasattr(tokenizer, "backend_tokenizer"):
        decoder = tokenizer.backend_tokenizer.decoder
        steps = [] if decoder is None else _flatten(json.loads(decoder.__getstate__()))
    elif hasattr(tokenizer, "sp_model"):
        steps = [{"type": "Metaspace", "replacement": _SPACE}, {"type": "ByteFallback"}]
    else:
        return lambda token: str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    added = {int(token): str(text) for token, text in getattr(tokenizer, "added_tokens_decoder", {}).items()}

    def read(token: int) -> Text:
        if token in added:  # kept as they are, outside the vocabulary's code
            return added[token]
        piece = tokenizer.convert_ids_to_tokens(token)
        return f"#{token}" if piece is None else _undo(steps, piece)

    return read


def _flatten(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    if decoder["type"] == "Sequence":
        return [step for part in decoder["decoders"] for step in _flatten(part)]
    return [decoder]


def _undo(steps: list[dict[str, Any]], piece: str) -> Text:
    """A piece as text. Steps that join pieces (Fuse, Strip, WordPiece) say nothing about a single one."""
    text: Text = piece
    for step in steps:
        if isinstance(text, bytes):
            break
        match step:
            case {"type": "Metaspace", "replacement": str(mark)}:
                text = text.replace(mark, " ")
            case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
                text = text.replace(pattern, content)
            case {"type": "BPEDecoder", "suffix": str(suffix)} if suffix and text.endswith(suffix):
                text = text.removesuffix(suffix) + " "
            case {"type": "ByteFallback"} if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                text = _characters(bytes.fromhex(text[3:5]))
            case {"type": "ByteLevel"} if all(character in _byte_of() for character in text):
                text = _characters(bytes(_byte_of()[character] for character in text))
    return text


def _characters(data: bytes) -> Text:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """Byte-level BPE's code: printable bytes of Latin-1 stand for themselves, the others for U+0100, U+0101, …"""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
