"""A tile: an array the page asked for by name, with what it takes to read it."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interpwidgets.tokens import Tokens

__all__ = ["CHUNK", "Tile", "tokens_tile"]

CHUNK = 1024  # tokens sent at once

_KINDS = {"|u1": "u1", "|i1": "i1", "<f4": "f4", "<i4": "i4"}
_SMALL = 512  # bytes not worth deflating


@dataclass
class Tile:
    """Numbers, or JSON, on their way to the page. `meta` is small and travels beside them."""

    array: NDArray[Any]
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_json(cls, value: Any) -> Tile:
        """Text and lists, where there are too many for a trait."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(np.frombuffer(text, dtype=np.uint8), {"json": True})

    def pack(self) -> tuple[dict[str, Any], bytes]:
        """Meta and bytes for the wire: deflated where that is shorter."""
        array = np.ascontiguousarray(self.array)
        kind = _KINDS[array.dtype.newbyteorder("<").str]
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        meta = {**self.meta, "kind": kind, "shape": list(array.shape)}
        if len(data) > _SMALL and len(packed := zlib.compress(data, 1)) < 0.9 * len(data):
            return {**meta, "zip": True}, packed
        return meta, data


def tokens_tile(tokens: Tokens, chunk: int) -> Tile:
    """The tokens from position `chunk · CHUNK` on, as the page reads them: texts as shown, ids, which are special."""
    part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    ids = None if tokens.ids is None else tokens.ids[part].tolist()
    return Tile.of_json({"text": tokens[part], "ids": ids, "special": np.flatnonzero(tokens.special[part]).tolist()})
