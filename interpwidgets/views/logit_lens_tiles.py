"""The tiles of a logit lens: a block of positions at a time, so that only what is on screen is unembedded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens, unshow
from interpwidgets.views.tile import CHUNK, Tile, tokens_tile
from interpwidgets.views.view import key_of

__all__ = ["LensSource", "LensTiles", "lens_sources"]

Floats = NDArray[np.float32]

SCREEN = 32  # positions of the first screen, about; the page's windows move in steps of as many
_WORK = 2e9  # multiplications for a block: some tenths of a second
_SOFTMAX = 200  # multiplications that take as long as what becomes of one logit
_BLOCKS = (64, 32, 16, 8)  # positions
_CELLS = 400  # of which a page without a kernel holds everything


class LensSource(NamedTuple):
    """One prompt of a lens."""

    lens: Any  # a LogitLens
    prompt: int

    @property
    def tokens(self) -> Tokens:
        """Those of the prompt."""
        tokens: Tokens = self.lens.tokens[self.prompt]
        return tokens

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read, first to last."""
        return tuple(self.lens.layers)

    @property
    def kind(self) -> str:
        """What the lens is called."""
        return "logit lens" if self.lens.translators is None else "tuned lens"


def lens_sources(data: Any) -> list[LensSource]:
    """A source for each prompt of a `Recording` or a `LogitLens`.

    Raises:
        InputError: it is neither, or holds some positions only.
    """
    if hasattr(data, "emitted") and hasattr(data, "tokens"):  # a Recording
        from interpwidgets.intervene import logit_lens

        data = logit_lens(data)
    if not (hasattr(data, "prob_of") and hasattr(data, "overview")):
        kind = type(data).__name__
        raise InputError(f"LogitLensView shows a Recording, or what logit_lens(…) makes of one; got {kind}.")
    if data.partial:
        raise InputError("This recording holds some positions only. Record all of them: leave `positions` out.")
    return [LensSource(data, prompt) for prompt in range(len(data.tokens))]


class LensTiles:
    """Answers for every tile of a lens view. Nothing here changes once asked, but for caches."""

    def __init__(self, sources: Sequence[LensSource], names: Sequence[str]) -> None:
        self.sources, self.names = sources, names
        self._block = lru_cache(maxsize=128)(self._compute)

    def facts(self, prompt: int) -> dict[str, Any]:
        """What the page has to know of a prompt."""
        source = self.sources[prompt]
        return {
            "name": self.names[prompt],
            "model": source.lens.model.name,
            "kind": source.kind,
            "site": source.lens.site,
            "layers": list(source.layers),
            "size": len(source.tokens),
            "block": self.block_size(prompt),
            "vocabulary": self.vocabulary(prompt),
            "kl": source.lens.final is not None,
        }

    def vocabulary(self, prompt: int) -> int:
        """How many tokens there are to predict."""
        return int(self.sources[prompt].lens.model.anatomy.embed.num_embeddings)

    def block_size(self, prompt: int) -> int:
        """Positions in a tile: as many as are read in no time."""
        source = self.sources[prompt]
        one = len(source.layers) * self.vocabulary(prompt) * (source.lens.model.d_model + _SOFTMAX)
        return next((size for size in _BLOCKS if size * one <= _WORK), _BLOCKS[-1])

    def tile(self, what: str, prompt: int, **key: Any) -> Tile:
        """The tile of that name.

        Raises:
            InputError: there is no such tile.
        """
        if not 0 <= prompt < len(self.sources):
            raise InputError(f"There is no prompt {prompt}; there are {len(self.sources)}, numbered from 0.")
        make = getattr(self, f"_tile_{what}", None)
        if make is None:
            raise InputError(f"There is no tile {what!r}.")
        tile: Tile = make(prompt, **key)
        return tile

    def _tile_tokens(self, prompt: int, chunk: int) -> Tile:
        return tokens_tile(self.sources[prompt].tokens, chunk)

    def _tile_lens(self, prompt: int, block: int) -> Tile:
        """Probability of the top token, entropy and KL, [3, layer, pos]."""
        return Tile(self._block(prompt, block)[1])

    def _tile_tops(self, prompt: int, block: int) -> Tile:
        """The top tokens as shown, [layer][pos]."""
        ids = self._block(prompt, block)[0]
        texts = self.texts(prompt, ids.ravel())
        return Tile.of_json([texts[start : start + ids.shape[1]] for start in range(0, ids.size, ids.shape[1])])

    def _tile_token(self, prompt: int, text: str) -> Tile:
        """The token that is spelt so."""
        token = self.find(prompt, text)
        return Tile.of_json({"token": token, "text": self.texts(prompt, [token])[0]})

    def _tile_standing(self, prompt: int, block: int, token: int, of: str) -> Tile:
        """The probability, or the rank, of a token, [layer, pos]."""
        lens = self._part(prompt, block)
        found = lens.prob_of(token) if of == "probability" else lens.rank_of(token)
        return Tile(_numpy(found[:, 0]))

    def _tile_cell(self, prompt: int, layer: int, position: int, token: int, k: int) -> Tile:
        """The likeliest tokens after a layer, and a chosen one (−1: none), each over all layers."""
        ids, lines, ranks = self.cell(prompt, layer, position, token, k)
        return Tile.of_json(
            {
                "tokens": self.texts(prompt, ids),
                "ids": ids,
                "ranks": ranks,
                "lines": [[float(f"{p:.6g}") for p in line] for line in lines.T],  # [token][layer]
            }
        )

    def _tile_writes(self, prompt: int, layer: int, position: int, token: int) -> Tile:
        """What each component wrote to the logit of a token, or (−1) of the top one."""
        from interpwidgets.intervene import lens_logit_attribution

        source = self.sources[prompt]
        if token < 0:
            token = self.cell(prompt, layer, position, -1, 1)[0][0]
        found = lens_logit_attribution(source.lens, token, layer=layer, position=position, prompt=source.prompt)
        return Tile.of_json(
            {
                "token": found.token,
                "labels": found.labels,
                "values": found.values.tolist(),
                "heads": [[] if np.isnan(row).all() else np.nan_to_num(row).tolist() for row in found.heads],
                "total": found.total,
                "scale": found.scale,
                "softcap": found.softcap,
            }
        )

    def cell(self, prompt: int, layer: int, position: int, token: int, k: int) -> tuple[list[int], Floats, list[int]]:
        """Ids of the likeliest tokens after a layer and of a chosen one, their probabilities [layer, token], ranks."""
        source = self.sources[prompt]
        if layer not in source.layers:
            raise InputError(f"There is no layer {layer} in this lens; there are {list(source.layers)}.")
        lens = source.lens.at(source.prompt, position, position + 1)
        probs = np.stack([_numpy(lens.logits(each)[0, 0].double().softmax(-1)) for each in source.layers])
        here = probs[source.layers.index(layer)]
        ids = np.argsort(-here, kind="stable")[:k].tolist()
        if token >= 0 and token not in ids:
            ids.append(token)
        return ids, probs[:, ids], [int((here > here[each]).sum()) for each in ids]

    def numbers(self, prompt: int, first: int, last: int) -> tuple[list[list[str]], Floats]:
        """Top tokens [layer][pos] and the numbers of `_tile_lens` [3, layer, pos], from position to position."""
        size = self.block_size(prompt)
        blocks = [self._block(prompt, block) for block in range(first // size, -(-last // size))]
        part = slice(first % size, first % size + last - first)
        ids = np.concatenate([ids for ids, _ in blocks], axis=1)[:, part]
        return [self.texts(prompt, row) for row in ids], np.concatenate([n for _, n in blocks], axis=2)[:, :, part]

    def columns(self, prompt: int, token: str, measure: str) -> dict[str, Any]:
        """What is in every cell, one a row, from the first layer on."""
        source = self.sources[prompt]
        layers, size = source.layers, len(source.tokens)
        tops, (probability, entropy, kl) = self.numbers(prompt, 0, size)
        found = {
            "layer": np.repeat(layers, size),
            "position": np.tile(np.arange(size), len(layers)),
            "token": list(source.tokens) * len(layers),
            "top_token": [text for row in tops for text in row],
            "probability": probability.ravel(),
            "entropy": entropy.ravel(),
            "kl": kl.ravel(),
        }
        if token and measure.startswith("token_"):
            of = measure.removeprefix("token_")
            found[measure] = self.standing(prompt, 0, size, self.find(prompt, token), of).ravel()
        return found

    def standing(self, prompt: int, first: int, last: int, token: int, of: str) -> Floats:
        """The probability or the rank of a token, [layer, pos], from position to position."""
        source = self.sources[prompt]
        lens = source.lens.at(source.prompt, first, last)
        return _numpy((lens.prob_of(token) if of == "probability" else lens.rank_of(token))[:, 0])

    def find(self, prompt: int, text: str) -> int:
        """The id of a token by its text, with marks (`␣on`) or without (` on`), or by its number (`#17`).

        Raises:
            InputError: it is not one token of this model.
        """
        from interpwidgets.intervene.tokens import read_tokens

        model = self.sources[prompt].lens.model
        token = int(text[1:]) if re.fullmatch(r"#\d+", text) else unshow(text)
        return int(read_tokens(model, text if isinstance(token, bytes) else token, 1)[0])

    def _compute(self, prompt: int, block: int) -> tuple[NDArray[np.int64], Floats]:
        """Top ids [layer, pos], and the numbers of `_tile_lens`."""
        ids, probs, entropy, kl = self._part(prompt, block).overview(1)
        return ids[:, 0, :, 0].cpu().numpy(), np.stack([_numpy(each[:, 0]) for each in (probs[..., 0], entropy, kl)])

    def _part(self, prompt: int, block: int) -> Any:
        source, size = self.sources[prompt], self.block_size(prompt)
        return source.lens.at(source.prompt, block * size, min((block + 1) * size, len(source.tokens)))

    def texts(self, prompt: int, ids: Any) -> list[str]:
        """Tokens as shown."""
        shown: list[str] = self.sources[prompt].lens.texts(ids)
        return shown

    # What travels, and when ------------------------------------------------------------------------------------------

    def first_screen(self, prompt: int, position: int, cell: dict[str, Any], token: str, measure: str) -> Iterator[str]:
        """Keys of what is on screen first: around the selected position, and of the cell selected."""
        size, length = self.block_size(prompt), len(self.sources[prompt].tokens)
        layer, position = self._fitted(prompt, cell["layer"], position)
        first = max(0, position - SCREEN) if length > 2 * SCREEN else 0
        last = min(length, max(position + 1, first + SCREEN) if length > 2 * SCREEN else length)
        yield from self._around(prompt, range(first // size, -(-last // size)), token, measure)
        chosen = -1
        if token:
            chosen = self.find(prompt, token)
            yield key_of(what="token", prompt=prompt, text=token)
        yield from self._details(prompt, layer, position, chosen, cell["k"])

    def _fitted(self, prompt: int, layer: int, position: int) -> tuple[int, int]:
        """The cell that takes the place of one of another prompt: as `fitted` in js/views/logit_lens.tsx."""
        source = self.sources[prompt]
        return layer if layer in source.layers else source.layers[-1], min(position, len(source.tokens) - 1)

    def stored(self, prompt: int, position: int, cell: dict[str, Any], token: str, measure: str) -> Iterator[str]:
        """Keys of what a page without a kernel holds: the screen, then all blocks, then cells near the selection."""
        yield from self.first_screen(prompt, position, cell, token, measure)
        source, size = self.sources[prompt], self.block_size(prompt)
        yield from self._around(prompt, range(-(-len(source.tokens) // size)), token, measure)
        chosen = self.find(prompt, token) if token else -1
        near = sorted(range(len(source.tokens)), key=lambda each: abs(each - position))
        for each in near[: max(1, _CELLS // len(source.layers))]:
            for layer in source.layers:
                yield from self._details(prompt, layer, each, chosen, cell["k"])

    def _around(self, prompt: int, blocks: range, token: str, measure: str) -> Iterator[str]:
        size = self.block_size(prompt)
        for chunk in range(blocks.start * size // CHUNK, -(-blocks.stop * size // CHUNK)):
            if chunk * CHUNK < len(self.sources[prompt].tokens):
                yield key_of(what="tokens", prompt=prompt, chunk=chunk)
        for block in blocks:
            yield key_of(what="lens", prompt=prompt, block=block)
            yield key_of(what="tops", prompt=prompt, block=block)
            if token and measure.startswith("token_"):
                of = measure.removeprefix("token_")
                yield key_of(what="standing", prompt=prompt, block=block, token=self.find(prompt, token), of=of)

    def _details(self, prompt: int, layer: int, position: int, token: int, k: int) -> Iterator[str]:
        yield key_of(what="cell", prompt=prompt, layer=layer, position=position, token=token, k=k)
        yield key_of(what="writes", prompt=prompt, layer=layer, position=position, token=token)


def _numpy(tensor: Any) -> Floats:
    found: Floats = np.asarray(tensor.cpu().numpy(), dtype=np.float32)
    return found
