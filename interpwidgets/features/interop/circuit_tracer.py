"""circuit-tracer's feature files: one .bin a layer, in which a feature is a length and zlib-compressed JSON.

    features/index.json.gz    {"3": {"filename": "layer_3.bin", "offsets": [0, 812, …]}}   one more than features
    features/layer_3.bin      for each feature: length (u32, little-endian), zlib(JSON); nothing of one left out

A record has quantile groups of examples (`tokens`, `tokens_acts_list`), `top_logits` and `bottom_logits` as text only,
`activation_frequency`, `act_min` and `act_max`. In attribution graphs a feature is one number: `cantor(layer, index)`.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.features.files import whole, writable
from interpwidgets.features.interop.reading import inside, loads, number, numbers, take, texts, unzipped
from interpwidgets.features.interop.records import FeatureRecord, Snippet
from interpwidgets.graph_json import cantor

__all__ = ["read_circuit_tracer", "write_circuit_tracer"]

INDEX = "index.json.gz"
_LENGTH = struct.Struct("<I")


def write_circuit_tracer(
    folder: str | Path, records: Iterable[FeatureRecord], *, layer: int, transcoder_id: str = ""
) -> None:
    """Write the features of a layer; those of other layers in the folder stay. Features left out are empty."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = _index(folder) if (folder / INDEX).is_file() else {}
    offsets = [0]

    def write(file: Any) -> None:
        for record in records:
            if record.index < len(offsets) - 1:
                raise InputError(f"Feature {record.index} comes after feature {len(offsets) - 2}: sort them by index.")
            offsets.extend([offsets[-1]] * (record.index - len(offsets) + 1))
            data = zlib.compress(json.dumps(_written(record, layer, transcoder_id), ensure_ascii=False).encode())
            offsets.append(offsets[-1] + file.write(_LENGTH.pack(len(data)) + data))

    with writable(folder):
        whole(folder / f"layer_{layer}.bin", write)
        index[str(layer)] = {"filename": f"layer_{layer}.bin", "offsets": offsets}
        whole(folder / INDEX, lambda file: file.write(gzip.compress(json.dumps(index).encode(), mtime=0)))


def _written(record: FeatureRecord, layer: int, transcoder_id: str) -> dict[str, Any]:
    groups: dict[str, list[Snippet]] = {}
    for snippet in record.snippets:
        groups.setdefault(snippet.group, []).append(snippet)
    activations = [value for snippet in record.snippets for value in snippet.activations]
    return {
        "transcoder_id": transcoder_id,
        "index": cantor(layer, record.index),
        "examples_quantiles": [
            {
                "quantile_name": "Top" if name == "top" else name,
                "examples": [
                    {
                        "tokens_acts_list": list(each.activations),
                        "train_token_ind": each.position,
                        "is_repeated_datapoint": False,
                        "tokens": list(each.tokens),
                    }
                    for each in group
                ],
            }
            for name, group in groups.items()
        ],
        "top_logits": [text for text, _ in record.top_logits],
        "bottom_logits": [text for text, _ in record.bottom_logits],
        "act_min": min(activations, default=0.0),
        "act_max": record.max,
        "quantile_values": [],
        "histogram": [count for _, count in record.bars],
        "activation_frequency": record.density,
    }


def read_circuit_tracer(
    folder: str | Path, *, layer: int, features: Iterable[int] | None = None
) -> Iterator[FeatureRecord]:
    """Read features of a layer: all that are there, or those named. Logits have no values there: 0.

    Raises InputError for a layer or a feature that is not there, and for damaged files.
    """
    folder = Path(folder)
    index = _index(folder)
    if str(layer) not in index:
        raise InputError(f"{folder} has no layer {layer}; it has {', '.join(index) or 'none'}.")
    where = f"{folder / INDEX}, layer {layer},"
    entry = index[str(layer)]
    path = inside(folder, take(entry, "filename", str, where))
    offsets = [int(value) for value in numbers(entry, "offsets", where)]
    if any(low > high for low, high in pairwise(offsets)) or min(offsets, default=0) < 0:
        raise InputError(f"{where} is not as expected: offsets do not rise.")
    wanted = range(len(offsets) - 1) if features is None else features
    if not path.is_file():
        raise InputError(f"There is no {path}, which {folder / INDEX} names.")
    with path.open("rb") as file:
        for feature in wanted:
            if not 0 <= feature < len(offsets) - 1:
                raise InputError(f"There is no feature {feature} in layer {layer} of {folder}: {len(offsets) - 1}.")
            size = offsets[feature + 1] - offsets[feature]
            if not size:
                continue
            file.seek(offsets[feature])
            yield _read(file.read(size), size, feature, f"{path}, feature {feature},")


def _index(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{folder} holds no features of circuit-tracer: there is no {INDEX}.")
    found = loads(unzipped(path.read_bytes(), path), path)
    return {name: take(found, name, dict, path) for name in found}


def _read(data: bytes, size: int, feature: int, where: str) -> FeatureRecord:
    if len(data) != size or size < _LENGTH.size or _LENGTH.unpack_from(data)[0] != size - _LENGTH.size:
        raise InputError(f"{where} is damaged: it is not as long as the index and its own length say.")
    row = loads(unzipped(data[_LENGTH.size :], where), where)
    snippets = []
    for group in take(row, "examples_quantiles", list, where):
        name = str(group.get("quantile_name", "")) if isinstance(group, dict) else ""
        for each in take(group if isinstance(group, dict) else {}, "examples", list, where):
            example = each if isinstance(each, dict) else {}
            tokens, values = texts(example, "tokens", where), numbers(example, "tokens_acts_list", where)
            if len(tokens) != len(values):
                raise InputError(f"{where} is not as expected: {len(tokens)} tokens and {len(values)} activations.")
            position = example.get("train_token_ind")
            if not isinstance(position, int) or not 0 <= position < len(tokens):
                position = max(range(len(values)), key=values.__getitem__, default=0)
            snippets.append(Snippet(tokens, values, position, "top" if name.lower().startswith("top") else name))
    largest = max((value for each in snippets for value in each.activations), default=0.0)
    return FeatureRecord(
        index=feature,
        snippets=tuple(snippets),
        top_logits=tuple((text, 0.0) for text in texts(row, "top_logits", where)),
        bottom_logits=tuple((text, 0.0) for text in texts(row, "bottom_logits", where)),
        density=number(row, "activation_frequency", where, 0.0),
        max=number(row, "act_max", where, largest),
    )
