"""A corpus as one file of token ids, cut into contexts, none of them twice.

A context is at most so many tokens of one document. Where a document starts with `<bos>`, because the tokenizer or the
dictionary's metadata say so, every one of its contexts does. The position of that `<bos>` is run and not counted: the
residual stream there is like nowhere else, and no dictionary is trained on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.features.files import need, whole
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model

__all__ = ["CONTEXTS", "TOKENS", "Corpus", "cut", "documents"]

TOKENS, CONTEXTS = "tokens.bin", "contexts.bin"
_READ = (".txt", ".jsonl", ".parquet")
_COLUMNS = ("input_ids", "tokens", "text")  # of a row that has several
_AT_ONCE = 256  # documents given to the tokenizer together
_MOST = 2**32 - 1  # tokens: pointers have 32 bits

Document = str | list[int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Token ids on disk, and where each context starts."""

    tokens: NDArray[np.uint32]  # [token], all contexts one after another
    starts: NDArray[np.int64]  # [context + 1]
    bos: int | None  # the id that is not counted where a context starts with it

    @classmethod
    def open(cls, folder: Path, bos: int | None) -> Corpus:
        """Read what `cut` has written; the tokens stay on the disk."""
        return cls(np.memmap(folder / TOKENS, dtype="<u4", mode="r"), np.fromfile(folder / CONTEXTS, dtype="<i8"), bos)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, context: int) -> NDArray[np.uint32]:
        """Token ids of a context: [pos]."""
        return self.tokens[self.starts[context] : self.starts[context + 1]]

    @cached_property
    def counted(self) -> int:
        """How many tokens there are, without `<bos>` at the start of contexts."""
        first = self.tokens[self.starts[:-1]]
        return len(self.tokens) - (0 if self.bos is None else int((first == self.bos).sum()))


class Cut(NamedTuple):
    """What became of a corpus."""

    documents: int
    repeated: int  # contexts that were there before, and are left out
    sha256: str  # of the token ids and where contexts start
    bos: int | None


def cut(corpus: Any, model: Model, dictionary: Dictionary, context: int, folder: Path) -> Cut:
    """Write a corpus to `tokens.bin` and `contexts.bin`, reading it once; memory holds 16 bytes a context."""
    bos = getattr(model.tokenizer, "bos_token_id", None)
    if bos is None:
        bos = getattr(model.config, "bos_token_id", None)
    bos = bos if isinstance(bos, int) else None
    longest = min(context, model.context or context)
    vocabulary = model.anatomy.embed.num_embeddings
    seen: set[bytes] = set()
    starts, known, digest = [0], 0, hashlib.sha256()

    def write(file: Any) -> None:
        nonlocal known
        for ids in _tokenised(documents(corpus), model, bos if dictionary.metadata.get("prepend_bos") else None):
            known += 1
            if len(ids) and (ids.min() < 0 or ids.max() >= vocabulary):
                wrong = ids[(ids < 0) | (ids >= vocabulary)][0]
                raise InputError(f"Document {known - 1} has the token id {wrong}; {model!r} has {vocabulary} of them.")
            for piece in _pieces(ids, longest, bos):
                data = piece.astype("<u4").tobytes()
                key = hashlib.blake2b(data, digest_size=16).digest()
                if key in seen:
                    repeated.append(1)
                    continue
                seen.add(key)
                starts.append(starts[-1] + len(piece))
                if starts[-1] > _MOST:
                    raise InputError(f"A store holds up to {_MOST:,} tokens; give less text, or build two stores.")
                digest.update(data)
                file.write(data)

    repeated: list[int] = []
    whole(folder / TOKENS, write)
    if len(starts) == 1:
        raise InputError(f"The corpus holds no text: {known} documents, none with a token beside <bos>.")
    offsets = np.array(starts, dtype="<i8")
    digest.update(offsets.tobytes())
    whole(folder / CONTEXTS, lambda file: file.write(offsets.tobytes()))
    return Cut(known, len(repeated), digest.hexdigest(), bos)


def _pieces(ids: NDArray[np.int64], longest: int, bos: int | None) -> Iterator[NDArray[np.int64]]:
    """Contexts of a document."""
    if len(ids) and ids[0] == bos:
        for first in range(1, len(ids), max(longest - 1, 1)):
            yield np.concatenate([ids[:1], ids[first : first + longest - 1]])
        return
    for first in range(0, len(ids), longest):
        yield ids[first : first + longest]


def _tokenised(given: Iterator[Document], model: Model, bos: int | None) -> Iterator[NDArray[np.int64]]:
    """Token ids of each document; texts start with `bos`, if one is given."""
    while batch := list(islice(given, _AT_ONCE)):
        texts = [document for document in batch if isinstance(document, str)]
        if texts and model.tokenizer is None:
            raise InputError(f"{model!r} has no tokenizer, so it cannot read text. Give lists of token ids.")
        read = iter(model.tokenizer(texts, verbose=False)["input_ids"] if texts else ())
        for document in batch:
            if not isinstance(document, str):
                yield np.asarray(document, dtype=np.int64)
                continue
            ids = np.asarray(next(read), dtype=np.int64)
            yield ids if bos is None or (len(ids) and ids[0] == bos) else np.concatenate([[bos], ids])


def documents(corpus: Any) -> Iterator[Document]:
    """Texts or lists of token ids, from whatever a corpus is given as; read as it is gone through."""
    if isinstance(corpus, (str, Path)):
        folder = Path(corpus).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"A corpus is many texts, or a folder of {', '.join(_READ)}; {str(corpus)!r:.80} is no folder."
                " One text goes in a list."
            )
        return _of_folder(folder)
    if isinstance(corpus, Mapping):
        raise InputError(f"A corpus is one split of a dataset; this has several: {', '.join(map(str, corpus))}.")
    if not isinstance(corpus, Iterable):
        raise InputError(f"A corpus is an iterable of texts or of lists of token ids; got {type(corpus).__name__}.")
    return (_document(each, number) for number, each in enumerate(corpus))


def _document(given: Any, number: int) -> Document:
    """One document, of a row its text or its ids."""
    if isinstance(given, Mapping):
        name = next((name for name in _COLUMNS if name in given), None)
        if name is None:
            raise InputError(
                f"Row {number} of the corpus has the columns {', '.join(map(str, given))}; one of "
                f"{', '.join(_COLUMNS)} is needed."
            )
        given = given[name]
    if isinstance(given, str):
        return given
    ids = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise InputError(f"Document {number} of the corpus is neither text nor a list of token ids: {given!r:.80}.")
    return [int(token) for token in ids]


def _of_folder(folder: Path) -> Iterator[Document]:
    """Documents of the files in a folder and below, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _READ and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no {', '.join(_READ)}.")
    for path in paths:
        yield from _of_file(path)


def _of_file(path: Path) -> Iterator[Document]:
    """Documents of a file; InputError names it if it cannot be read."""
    try:
        yield from _documents_in(path)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def _documents_in(path: Path) -> Iterator[Document]:
    if path.suffix == ".txt":
        yield path.read_text("utf-8")
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if line.strip():
                    yield _document(json.loads(line), number)
    else:
        (parquet,) = need("pyarrow.parquet")
        file = parquet.ParquetFile(path)
        names = [name for name in _COLUMNS if name in file.schema_arrow.names][:1]
        if not names:
            raise InputError(
                f"{path} has the columns {', '.join(file.schema_arrow.names)}; one of {', '.join(_COLUMNS)} is needed."
            )
        for batch in file.iter_batches(_AT_ONCE, columns=names):
            for number, row in enumerate(batch.column(0).to_pylist()):
                yield _document(row, number)
