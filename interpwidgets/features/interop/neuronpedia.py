"""Neuronpedia's bulk export: features, activations and explanations, each in files of many lines.

    {model}/{source}/source.jsonl
    {model}/{source}/features/batch-0.jsonl.gz        {"modelId", "layer", "index", "maxActApprox", "pos_str", …}
    {model}/{source}/activations/batch-0.jsonl.gz     {"index", "tokens", "values", "binMin", "qualifyingTokenIndex", …}
    {model}/{source}/explanations/batch-0.jsonl.gz    {"index", "description", "typeName", …}

A source is a layer and a set of dictionaries: "8-res_mine". "layer" in a line is the whole source.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.features.files import whole, writable
from interpwidgets.features.interop.reading import inside, lines, number, numbered, take
from interpwidgets.features.interop.records import FeatureRecord, Snippet, batches
from interpwidgets.features.interop.sae_dashboard import dashboard, shown, snippet

__all__ = ["read_neuronpedia", "write_neuronpedia"]

_PARTS = ("features", "activations", "explanations")


def write_neuronpedia(
    folder: str | Path,
    records: Iterable[FeatureRecord],
    *,
    model: str,
    source: str,
    creator: str = "",
    per_batch: int = 1024,
) -> Path:
    """Write features into `{model}/{source}` below a folder, and give that path. Labels become explanations."""
    top = inside(Path(folder), f"{model}/{source}")
    for part in _PARTS:
        (top / part).mkdir(parents=True, exist_ok=True)
    with writable(top):
        about = {"modelId": model, "id": source, "setName": source.partition("-")[2], "creatorId": creator}
        whole(top / "source.jsonl", partial(_put, _line(about)))
        for batch, some in enumerate(batches(records, per_batch)):
            for part, rows in zip(_PARTS, _rows(some, model, source, creator), strict=True):
                data = gzip.compress(b"".join(map(_line, rows)), mtime=0)
                whole(top / part / f"batch-{batch}.jsonl.gz", partial(_put, data))
    return top


def _put(data: bytes, file: Any) -> None:
    file.write(data)


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _rows(
    records: Iterable[FeatureRecord], model: str, source: str, creator: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    features: list[dict[str, Any]] = []
    activations: list[dict[str, Any]] = []
    explanations: list[dict[str, Any]] = []
    for record in records:
        same = {"modelId": model, "layer": source, "index": str(record.index)}
        features.append(
            {**same, "creatorId": creator, "maxActApprox": record.max, "hasVector": False, "vector": [],
             "sourceSetName": source.partition("-")[2], **dashboard(record)}
        )  # fmt: skip
        for place, each in enumerate(record.snippets):
            most = max(range(len(each.activations)), key=each.activations.__getitem__, default=0)
            activations.append(
                {"id": f"{model}/{source}/{record.index}/{place}", **same, "creatorId": creator,
                 "tokens": list(each.tokens), "values": list(each.activations),
                 "maxValue": max(each.activations, default=0.0), "maxValueTokenIndex": most,
                 "minValue": min(each.activations, default=0.0), "dataIndex": str(place), "dataSource": "",
                 "dfaValues": [], "lossValues": [], "binMin": each.low, "binMax": each.high,
                 "binContains": each.share, "qualifyingTokenIndex": each.position}
            )  # fmt: skip
        if record.label is not None:
            explanations.append(
                {"id": f"{model}/{source}/{record.index}", **same, "description": record.label, "authorId": creator,
                 "typeName": None, "explanationModelName": None, "scores": []}
            )  # fmt: skip
    return features, activations, explanations


def read_neuronpedia(folder: str | Path) -> Iterator[FeatureRecord]:
    """Read the features of `{model}/{source}`, each with its examples and its first explanation.

    Examples are held in memory batch by batch where files of one number belong together, as they do in an export.
    Raises InputError for a folder without features, and for damaged files.
    """
    folder = Path(folder)
    paths = numbered(folder / "features", "batch-*.jsonl.gz")
    if not paths:
        raise InputError(f"{folder} holds no features/batch-….jsonl.gz of Neuronpedia: give {{model}}/{{source}}.")
    return _read(folder, paths)


def _read(folder: Path, paths: list[Path]) -> Iterator[FeatureRecord]:
    for path in paths:
        snippets: defaultdict[int, list[Snippet]] = defaultdict(list)
        labels: dict[int, str] = {}
        for row, where in _beside(folder, "activations", path):
            bins = ("binMin", "binMax", "binContains")
            snippets[_index(row, where)].append(snippet(row, bins, "qualifyingTokenIndex", where))
        for row, where in _beside(folder, "explanations", path):
            labels.setdefault(_index(row, where), take(row, "description", str, where))
        for row, where in lines(path):
            index = _index(row, where)
            record = shown(row, index, tuple(snippets[index]), where)
            most = number(row, "maxActApprox", where, record.max)
            yield FeatureRecord(**{**vars(record), "max": most, "label": labels.get(index)})


def _beside(folder: Path, part: str, path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    other = inside(folder, f"{part}/{path.name}")
    return lines(other) if other.is_file() else iter(())


def _index(row: dict[str, Any], where: str) -> int:
    """A feature's number, which an export writes as text."""
    index = number(row, "index", where)
    if index < 0 or index != int(index):
        raise InputError(f"{where} is not as expected: 'index' holds {row['index']!r:.40}.")
    return int(index)
