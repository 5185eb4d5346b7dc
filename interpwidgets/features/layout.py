"""The files that a store is made of: their names, how they are put together, and whether they are all there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from interpwidgets.errors import InputError
from interpwidgets.features import finish
from interpwidgets.features.corpus import CONTEXTS, TOKENS
from interpwidgets.features.files import checksum, need, read_json, whole, write_json

__all__ = [
    "ABOUT", "FORMAT", "INDEX", "OFFSETS", "RECORDS", "VERSION", "VOCABULARY", "assemble", "check_files", "read_about",
    "vocabulary",
]  # fmt: skip

FORMAT, VERSION = "interpwidgets.FeatureStore", 1
ABOUT, RECORDS, OFFSETS, INDEX, VOCABULARY = (
    "store.json", "records.bin", "offsets.bin", "index.parquet", "vocabulary.json",
)  # fmt: skip
_CHECKED = 1 << 26  # bytes up to which a file is checked whenever a store is opened


def vocabulary(texts: Iterable[str | bytes], special: list[int]) -> dict[str, Any]:
    """The texts of all tokens, as JSON has them: bytes that are no text as a list of numbers."""
    return {"texts": [list(text) if isinstance(text, bytes) else text for text in texts], "special": special}


def assemble(folder: Path, work: Path, parts: int, about: dict[str, Any], words: dict[str, Any]) -> None:
    """Put finished ranges together; `store.json` is written when everything else is there."""
    (parquet,) = need("pyarrow.parquet")
    lengths = [finish.read_part(work, number).column("bytes").to_numpy() for number in range(parts)]
    offsets = np.concatenate([[0], *lengths]).cumsum().astype("<u8")
    whole(folder / OFFSETS, lambda file: file.write(offsets.tobytes()))

    def records(file: Any) -> None:
        for number in range(parts):
            with (work / f"part-{number:05d}.bin").open("rb") as part:
                shutil.copyfileobj(part, file)

    def index(file: Any) -> None:
        with parquet.ParquetWriter(file, finish.schema(), compression="zstd") as writer:
            for number in range(parts):
                writer.write_table(finish.read_part(work, number).drop_columns(["bytes"]))

    whole(folder / RECORDS, records)
    whole(folder / INDEX, index)
    write_json(folder / VOCABULARY, words)
    for name in (TOKENS, CONTEXTS):
        (work / name).replace(folder / name)
    names = (TOKENS, CONTEXTS, RECORDS, OFFSETS, INDEX, VOCABULARY)
    about["files"] = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)} for name in names
    }
    write_json(folder / ABOUT, about)
    shutil.rmtree(work)


def read_about(folder: Path) -> dict[str, Any]:
    """What a store says of itself, if it is there, of this version, and sound: else InputError."""
    if not (folder / ABOUT).is_file():
        unfinished = " It was not finished: FeatureStore.build(…) goes on." * (folder / "work").is_dir()
        raise InputError(f"{folder} holds no feature store.{unfinished}")
    about = read_json(folder / ABOUT)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{folder / ABOUT} is not of a feature store.")
    if about.get("version") != VERSION:
        raise InputError(
            f"{folder} is of version {about.get('version')}, and this interpwidgets reads version "
            f"{VERSION}. Upgrade, or build the store again."
        )
    check_files(folder, about, _CHECKED)
    return about


def check_files(folder: Path, about: dict[str, Any], most: int | None) -> None:
    """Raise InputError for a file that is missing, cut off or changed; of larger ones than `most` only see the size."""
    for name, said in about["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise InputError(f"{path} is missing. Build the store again.")
        if size != said["bytes"]:
            raise InputError(f"{path} has {size:,} bytes instead of {said['bytes']:,}. Build the store again.")
        if (most is None or size <= most) and checksum(path) != said["sha256"]:
            raise InputError(f"{path} is damaged: its checksum is another. Build the store again.")
