"""Recordings of many batches: joined in memory, or kept in a folder and read from there when looked at.

A folder holds `recording.json`, which names the prompts, and a safetensors file per batch with tensors called
`site/layer`. Nothing in it is executed.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.models.mask import Mask
from interpwidgets.models.pattern import LayerAttention
from interpwidgets.models.sites import Site
from interpwidgets.tokens import Tokens

__all__ = ["FolderAttention", "FolderValues", "join_attention", "join_values", "read_index", "tokens_of", "write_batch"]

_INDEX = "recording.json"
_FORMAT = "interpwidgets.Recording/1"


def join_values(parts: Sequence[Tensor], site: str) -> Tensor:
    """Values [batch, pos, …] of several batches as one, the shorter padded with zeros."""
    size = max(part.shape[1] for part in parts)

    def longer(part: Tensor) -> Tensor:
        by = [0] * (2 * part.ndim - 4)
        if site in ("scores", "pattern"):  # [batch, query, head, key]
            by[1] = size - part.shape[3]
        return torch.nn.functional.pad(part, [*by, 0, size - part.shape[1]])

    return torch.cat([longer(part) for part in parts])


def join_attention(parts: Sequence[LayerAttention]) -> LayerAttention:
    """What the patterns of one layer come from, of several batches as one."""
    first, size = parts[0], max(part.q.shape[2] for part in parts)
    q, k = (
        torch.cat([torch.nn.functional.pad(heads, [0, 0, 0, size - heads.shape[2]]) for heads in each])
        for each in ([part.q for part in parts], [part.k for part in parts])
    )
    mask = Mask(all(part.mask.causal for part in parts), _join_allowed(parts, size))
    biases = [part.bias for part in parts]
    bias = max((bias for bias in biases if bias is not None), key=lambda bias: bias.shape[-1], default=None)
    return LayerAttention(q, k, first.scaling, mask, softcap=first.softcap, sinks=first.sinks, bias=bias)


def _join_allowed(parts: Sequence[LayerAttention], size: int) -> Tensor | None:
    if all(part.mask.allowed is None for part in parts) and len({part.mask.causal for part in parts}) == 1:
        return None
    sheets = []
    for part in parts:
        count, own = part.q.shape[0], part.q.shape[2]
        sheet = part.mask.allowed
        if sheet is None:
            sheet = torch.ones(1, 1, own, own, dtype=torch.bool)
            sheet = sheet.tril() if part.mask.causal else sheet
        sheets.append(torch.nn.functional.pad(sheet.expand(count, -1, -1, -1), [0, size - own, 0, size - own]))
    heads = max(sheet.shape[1] for sheet in sheets)
    return torch.cat([sheet.expand(-1, heads, -1, -1) for sheet in sheets])


def write_batch(
    folder: Path,
    number: int,
    name: str,
    tokens: Sequence[Tokens],
    values: Mapping[Site, Tensor],
    attention: Mapping[int, LayerAttention],
) -> None:
    """Add a batch to a folder; what is there of it is replaced."""
    tensors = {f"{site}/{'' if layer is None else layer}": value for (site, layer), value in values.items()}
    facts: dict[str, Any] = {}
    for layer, kept in attention.items():
        facts[str(layer)] = {"scaling": kept.scaling, "softcap": kept.softcap, "causal": kept.mask.causal}
        extra = {"q": kept.q, "k": kept.k, "allowed": kept.mask.allowed, "sinks": kept.sinks, "bias": kept.bias}
        tensors |= {f"attention.{what}/{layer}": value for what, value in extra.items() if value is not None}
    own, names = _once(tensors)
    save_file(own, _batch(folder, number))
    before = read_index(folder)["batches"][:number] if number else []
    batch = {"attention": facts, "tensors": names, "tokens": [_told(each) for each in tokens]}
    index = {"format": _FORMAT, "name": name, "batches": [*before, batch]}
    unfinished = folder / f"{_INDEX}.part"
    unfinished.write_text(json.dumps(index), encoding="utf-8")
    unfinished.replace(folder / _INDEX)


def _once(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and under which name: what leaves one block enters the next."""
    stored: dict[tuple[Any, ...], str] = {}
    names = {
        name: stored.setdefault((value.data_ptr(), value.shape, value.stride()), name)
        for name, value in tensors.items()
    }
    return {name: tensors[name].detach().cpu().contiguous() for name in stored.values()}, names


def read_index(folder: Path) -> dict[str, Any]:
    """What a folder says that it holds."""
    try:
        index: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} holds no recording: {error}. `record(…, folder=…)` makes one.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{folder / _INDEX} is damaged ({error}). Record again.") from None
    if index.get("format") != _FORMAT:
        raise InputError(f"{folder / _INDEX} has the format {index.get('format')!r}; expected {_FORMAT!r}.")
    return index


def _batch(folder: Path, number: int) -> Path:
    return folder / f"batch-{number:05d}.safetensors"


def _told(tokens: Tokens) -> dict[str, Any]:
    text = [{"bytes": b64encode(token).decode()} if isinstance(token, bytes) else token for token in tokens.text]
    ids = None if tokens.ids is None else tokens.ids.tolist()
    return {"text": text, "ids": ids, "special": np.flatnonzero(tokens.special).tolist()}


def tokens_of(index: Mapping[str, Any]) -> list[Tokens]:
    """The prompts of a folder."""
    found = []
    for batch in index["batches"]:
        for told in batch["tokens"]:
            text = tuple(b64decode(token["bytes"]) if isinstance(token, dict) else str(token) for token in told["text"])
            special = np.zeros(len(text), dtype=bool)
            special[told["special"]] = True
            ids = None if told["ids"] is None else np.asarray(told["ids"], dtype=np.int64)
            found.append(Tokens(text, ids, special))
    return found


class _Files:
    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder, self.batches = folder, index["batches"]
        self.names: Mapping[str, str] = self.batches[0]["tensors"] if self.batches else {}

    def read(self, name: str) -> list[Tensor]:
        """A tensor of every batch."""
        found = []
        for number, batch in enumerate(self.batches):
            path = _batch(self.folder, number)
            try:
                with safe_open(path, framework="pt") as file:
                    found.append(file.get_tensor(batch["tensors"][name]))
            except (KeyError, OSError, SafetensorError) as error:
                raise InputError(f"{path} is missing or damaged ({error}). Record again.") from None
        return found


class FolderValues(Mapping[Site, Tensor]):
    """Values by site and layer, read when they are looked at."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self._files = _Files(folder, index)
        self._sites: dict[Site, str] = {}
        for name in self._files.names:
            site, _, layer = name.partition("/")
            if not site.startswith("attention."):
                self._sites[site, int(layer) if layer else None] = name

    def __getitem__(self, key: Site) -> Tensor:
        return join_values(self._files.read(self._sites[key]), key[0])

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


class FolderAttention(Mapping[int, LayerAttention]):
    """What patterns come from, by layer, read when they are looked at."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self._files = _Files(folder, index)
        facts = self._files.batches[0]["attention"] if self._files.batches else {}
        self._layers = sorted(map(int, facts))
        self._read: dict[int, LayerAttention] = {}

    def __getitem__(self, layer: int) -> LayerAttention:
        if layer not in self._layers:
            raise KeyError(layer)
        if layer not in self._read:
            self._read = {layer: join_attention(self._parts(layer))}  # one at a time: all may not fit
        return self._read[layer]

    def _parts(self, layer: int) -> list[LayerAttention]:
        parts: dict[str, list[Tensor] | None] = {
            what: self._files.read(name) if (name := f"attention.{what}/{layer}") in self._files.names else None
            for what in ("q", "k", "allowed", "sinks", "bias")
        }
        found = []
        for number, batch in enumerate(self._files.batches):
            own = {what: None if each is None else each[number] for what, each in parts.items()}
            facts = batch["attention"][str(layer)]
            assert own["q"] is not None
            assert own["k"] is not None
            found.append(LayerAttention(
                own["q"], own["k"], facts["scaling"], Mask(facts["causal"], own["allowed"]), softcap=facts["softcap"],
                sinks=own["sinks"], bias=own["bias"],
            ))  # fmt: skip
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
