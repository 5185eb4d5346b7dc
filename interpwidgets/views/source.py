"""Attention from wherever it comes: one small protocol, and adapters for what people have.

A view never holds a model. It asks a source for blocks of weights, and everything that can answer is a source: one
prompt of a `Recording` (which computes them), an array (which has them), the difference of two, the mean over heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from interpwidgets.errors import InputError
from interpwidgets.tokens import Tokens
from interpwidgets.views.numbers import array_of

__all__ = ["ArraySource", "AttentionSource", "attention_sources"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_WHAT = "Attention (a Recording, [layer, head, query, key] weights, output_attentions, or an ActivationCache)"
_STRIP = 128  # rows checked at a time: a strip of a long pattern stays in the cache


@runtime_checkable
class AttentionSource(Protocol):
    """The attention pattern of one prompt, a block at a time.

    Pure: the same question has the same answer, on any thread.

    A source may also pool weights where it computes them, cheaper than to hand out all: `pooled(layer, head, queries,
    keys, run)` is the maximum and the sum of every `run` of the queries, `[2, run of queries, key]`.
    """

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(layer, head, query, key)`."""

    @property
    def query_tokens(self) -> Tokens:
        """The tokens that look."""

    @property
    def key_tokens(self) -> Tokens:
        """The tokens looked at; the same object where they are the same."""

    @property
    def causal(self) -> bool:
        """Whether every weight from a query to a later key is exactly zero."""

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The weights from those queries to that range of keys, `[query, key]`."""


class ArraySource:
    """Attention that is already there as numbers: one `[head, query, key]` array a layer."""

    def __init__(self, layers: Sequence[NDArray[Any]], queries: Tokens, keys: Tokens, name: str = "attention") -> None:
        self.name, self.query_tokens, self.key_tokens = name, queries, keys
        self._layers = layers
        heads, n_queries, n_keys = layers[0].shape
        self.shape = (len(layers), heads, n_queries, n_keys)
        for axis, tokens, size in (("query", queries, n_queries), ("key", keys, n_keys)):
            if len(tokens) != size:
                raise InputError(
                    f"{len(tokens)} {axis} tokens for {size} {axis} positions (attention is [layer, head, query, key] "
                    f"= {list(self.shape)}). Give one token per position, and key_tokens=… where the keys' differ."
                )
        self.causal = n_queries == n_keys and not any(_looks_ahead(head) for layer in layers for head in layer)

    def block(self, layer: int, head: int, queries: Ints, keys: slice) -> Floats:
        """The weights from those queries to that range of keys, `[query, key]`; a view where one will do."""
        pattern = self._layers[layer][head]
        consecutive = len(queries) > 0 and bool((np.diff(queries) == 1).all())
        rows = pattern[queries[0] : queries[-1] + 1] if consecutive else pattern[queries]
        return np.asarray(rows[:, keys], dtype=np.float32)


def _looks_ahead(pattern: NDArray[Any]) -> bool:
    """Whether any weight goes to a later key. NaN counts as a weight."""
    size = len(pattern)
    for start in range(0, size, _STRIP):
        stop = min(start + _STRIP, size)
        if pattern[start:stop, stop:].any() or np.triu(pattern[start:stop, start:stop], k=1).any():
            return True
    return False


def attention_sources(
    data: Any,
    tokens: Any = None,
    key_tokens: Any = None,
    name: str | None = None,
    check_rows: bool = False,
) -> list[AttentionSource]:
    """A source for each prompt in `data`: a `Recording`, a source, `[layer, head, query, key]` weights as NumPy or
    torch (any device), Hugging Face `output_attentions` (a tuple of `[batch, head, query, key]`), or a TransformerLens
    `ActivationCache`.

    Raises:
        InputError: not four dimensions, tokens of another length, NaN, negative weights or (with `check_rows`) rows
            that do not sum to one.
    """
    if hasattr(data, "attention") and hasattr(data, "__len__") and callable(data.attention):  # a Recording
        _no_tokens(tokens, "A recording")
        return [data.attention(prompt) for prompt in range(len(data))]
    if isinstance(data, AttentionSource):
        _no_tokens(tokens, "A source")
        return [data]
    if hasattr(data, "attentions"):  # the ModelOutput itself
        if data.attentions is None:
            raise InputError("This output holds no attentions. Run the model with output_attentions=True (eager).")
        data = data.attentions
    prompts = _prompts(data)
    names = [name or "attention"] if len(prompts) == 1 else [f"{name or 'prompt'} {i}" for i in range(len(prompts))]
    per_prompt = [tokens] if len(prompts) == 1 else _each(tokens, len(prompts))
    sources: list[AttentionSource] = []
    for label, layers, own in zip(names, prompts, per_prompt, strict=True):
        n_queries, n_keys = layers[0].shape[1:]
        queries = Tokens.numbered(n_queries) if own is None else Tokens.of(own)
        keys = Tokens.of(key_tokens) if key_tokens is not None else _keys_like(queries, n_keys)
        _check(layers, check_rows)
        sources.append(ArraySource(layers, queries, keys, label))
    return sources


def _no_tokens(tokens: Any, what: str) -> None:
    if tokens is not None:
        raise InputError(f"{what} brings its own tokens: leave tokens= out.")


def _each(tokens: Any, prompts: int) -> Sequence[Any]:
    if tokens is None:
        return [None] * prompts
    if len(tokens) != prompts or any(isinstance(entry, str) for entry in tokens):
        raise InputError(f"This attention holds {prompts} prompts: tokens must be a list of {prompts} lists of tokens.")
    return list(tokens)


def _keys_like(queries: Tokens, n_keys: int) -> Tokens:
    return queries if len(queries) == n_keys else Tokens.numbered(n_keys)


def _prompts(data: Any) -> list[list[NDArray[Any]]]:
    """Per prompt, one `[head, query, key]` array a layer."""
    if isinstance(data, (tuple, list)) and data and hasattr(data[0], "shape"):  # output_attentions
        return _of_batch([array_of(layer, _WHAT) for layer in data], "A tuple of attentions")
    if cached := _transformer_lens_patterns(data):
        layers = [array_of(layer, _WHAT) for layer in cached]
        layers = [layer[None] if layer.ndim == 3 else layer for layer in layers]  # remove_batch_dim() leaves three
        return _of_batch(layers, "A cache's hook_pattern entries")
    array = array_of(data, _WHAT)
    if array.ndim != 4:
        few = {3: " Add the missing axis: attention[None].", 2: " Add the missing axes: attention[None, None]."}
        many = {5: " Choose one prompt of the batch first."}
        hint = (few | many).get(array.ndim, "")
        got = list(array.shape)
        raise InputError(f"Attention must be [layer, head, query, key]; got an array of shape {got}.{hint}")
    _not_empty(array)
    return [list(array)]


def _of_batch(layers: list[NDArray[Any]], what: str) -> list[list[NDArray[Any]]]:
    """Per prompt, its layers, from a `[batch, head, query, key]` array a layer."""
    shapes = {layer.shape for layer in layers}
    if len(shapes) != 1 or layers[0].ndim != 4:
        raise InputError(
            f"{what} must hold one [batch, head, query, key] array a layer, all of one shape; got "
            f"{', '.join(str(list(shape)) for shape in sorted(shapes))}."
        )
    _not_empty(layers[0])
    return [[layer[prompt] for layer in layers] for prompt in range(len(layers[0]))]


def _not_empty(array: NDArray[Any]) -> None:
    if 0 in array.shape:
        raise InputError(f"Attention must not be empty; got an array of shape {list(array.shape)}.")


def _transformer_lens_patterns(data: Any) -> list[Any]:
    """The `hook_pattern` of each layer, in order, if `data` is a mapping that has them."""
    if not isinstance(data, Mapping) and not hasattr(data, "cache_dict"):
        return []
    entries: Iterable[tuple[Any, Any]] = getattr(data, "cache_dict", data).items()
    found = {}
    for name, value in entries:
        if match := re.fullmatch(r"blocks\.(\d+)\.attn\.hook_pattern", str(name)):
            found[int(match[1])] = value
    if not found:
        raise InputError(
            "This cache holds no attention pattern. Expected entries named blocks.<layer>.attn.hook_pattern: "
            "run_with_cache(…) keeps them unless names_filter leaves them out."
        )
    return [found[layer] for layer in sorted(found)]


def _check(layers: Sequence[NDArray[Any]], rows: bool) -> None:
    for layer, heads in enumerate(layers):
        for head, pattern in enumerate(heads):
            if not (pattern.min() >= 0 and pattern.max() < np.inf):  # NaN too
                bad = np.argwhere(~((pattern >= 0) & (pattern < np.inf)))[0]
                value = pattern[tuple(bad)]
                raise InputError(
                    f"Attention weights must be finite and at least 0; layer {layer}, head {head}, query {bad[0]}, key "
                    f"{bad[1]} is {value}. Are these scores from before the softmax?"
                )
            if rows:
                sums = pattern.sum(axis=-1, dtype=np.float64)
                worst = int(np.abs(sums - 1).argmax())
                if abs(sums[worst] - 1) > 1e-3:
                    raise InputError(
                        f"Attention rows must sum to 1; layer {layer}, head {head}, query {worst} sums to "
                        f"{sums[worst]:.4f}. Leave check_rows out to show it anyway."
                    )
