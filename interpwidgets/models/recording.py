"""What a forward pass did, at the sites that were asked for, with the tokens it did it on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpwidgets.errors import InputError, NoAttentionError, NotRecordedError
from interpwidgets.models.folder import (
    FolderAttention,
    FolderValues,
    join_attention,
    join_values,
    read_index,
    tokens_of,
    write_batch,
)
from interpwidgets.models.interop import Cache, values_of
from interpwidgets.models.mask import Mask
from interpwidgets.models.pattern import LayerAttention
from interpwidgets.models.sites import BY_KEY, LAYERLESS, SITES, Site, parse_site
from interpwidgets.models.source import RecordedAttention, StoredAttention
from interpwidgets.tokens import Tokens

__all__ = ["FROM_QK", "Recording"]

_LARGEST = 1 << 33  # bytes of a full pattern that is handed out in one piece
FROM_QK = ("q", "k", "lse", "scores", "pattern")  # sites that are computed from what is kept of attention


class Recording:
    """Activations by site and layer, and attention patterns computed from them when looked at.

    >>> rec["resid_post", 1].shape      # [batch, pos, d_model]
    >>> rec["q", 0].shape               # [batch, pos, head, d_head]
    >>> rec.pattern(layer=1, head=2)    # [query, key]

    A prompt starts at position 0, whatever side it was padded on. Where prompts differ in length, the positions after
    the end of the shorter ones hold NaN, so that no mean takes them in by accident.
    """

    def __init__(
        self,
        name: str,
        tokens: list[Tokens],
        *,
        values: Mapping[Site, Tensor],  # (site, layer) -> [batch, pos, …], patterns as [batch, query, head, key]
        attention: Mapping[int, LayerAttention],  # by layer
        model: Any = None,
        positions: Tensor | None = None,  # [batch, n]
        heads: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.tokens = tokens
        self.model = model
        self.positions = positions
        self.heads = heads
        self.values = values
        self.kept: Mapping[int, LayerAttention] = (
            dict(sorted(attention.items())) if isinstance(attention, dict) else attention
        )
        self._means: dict[tuple[str, int | None, bool], Tensor] = {}

    @classmethod
    def from_qk(
        cls,
        q: Any,
        k: Any,
        *,
        tokens: Tokens | Sequence[str | bytes] | None = None,
        causal: bool = True,
        scaling: float | None = None,
        name: str = "q · k",
    ) -> Recording:
        """A recording of one prompt from anybody's q and k, as they enter the dot product: [layer, pos, head, d_head].

        k may have fewer heads than q, each serving a group of them. `scaling` is 1/√d_head unless given.
        """
        q, k = _four("q", q), _four("k", k)
        if q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3] or q.shape[2] % max(k.shape[2], 1):
            raise InputError(
                f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}; both are [layer, pos, head, d_head], "
                "and the heads of q a multiple of those of k."
            )
        size = int(q.shape[1])
        named = Tokens.numbered(size) if tokens is None else Tokens.of(tokens)
        if len(named) != size:
            raise InputError(f"q and k have {size} positions, and there are {len(named)} tokens.")
        attention = {
            layer: LayerAttention(
                q=q[layer].transpose(0, 1)[None],
                k=k[layer].transpose(0, 1)[None],
                scaling=q.shape[3] ** -0.5 if scaling is None else float(scaling),
                mask=Mask(causal),
            )
            for layer in range(len(q))
        }
        return cls(name, [named], values={}, attention=attention)

    @classmethod
    def of(
        cls, values: Mapping[Any, Any], tokens: Tokens | Sequence[Any], *, name: str = "given", model: Any = None
    ) -> Recording:
        """A recording of tensors that somebody else has made: a TransformerLens cache, what nnsight saved, your own.

        >>> Recording.of(cache, tokens)                                  # blocks.3.hook_resid_post …
        >>> Recording.of({("resid_post", 3): tensor}, tokens)            # [batch, pos, d_model]

        `tokens` are those of one prompt, or of each. Raises InputError if no name is a site's, or a shape does not fit.
        """
        one = isinstance(tokens, Tokens) or all(isinstance(token, (str, bytes)) for token in tokens)
        named = [Tokens.of(each) for each in ([tokens] if one else tokens)]
        return cls(name, named, values=values_of(values, named), attention={}, model=model)

    @classmethod
    def open(cls, folder: str | Path, *, model: Any = None) -> Recording:
        """A recording that `record(…, folder=…)` has written, read from there when it is looked at."""
        folder = Path(folder)
        index = read_index(folder)
        values, attention = FolderValues(folder, index), FolderAttention(folder, index)
        return cls(index["name"], tokens_of(index), values=values, attention=attention, model=model)

    @classmethod
    def join(cls, parts: Sequence[Recording]) -> Recording:
        """Recordings of the same sites on several batches as one."""
        first = parts[0]
        values = {site: join_values([part.values[site] for part in parts], site[0]) for site in first.values}
        attention = {layer: join_attention([part.kept[layer] for part in parts]) for layer in first.kept}
        positions = (
            None if first.positions is None else torch.cat([p.positions for p in parts if p.positions is not None])
        )
        tokens = [tokens for part in parts for tokens in part.tokens]
        return cls(
            first.name, tokens, values=values, attention=attention, model=first.model, positions=positions,
            heads=first.heads,
        )  # fmt: skip

    def write(self, folder: Path, number: int = 0) -> None:
        """Write it to a folder as the batch of this number; `open` reads all of them as one."""
        if self.positions is not None or self.heads is not None:
            raise InputError("A folder holds all positions and heads; leave `positions` and `heads` out.")
        folder.mkdir(parents=True, exist_ok=True)
        write_batch(folder, number, self.name, self.tokens, self.values, self.kept)

    def to_cache(self) -> Cache:
        """The same under TransformerLens' names, read as its `ActivationCache` is."""
        from_qk = [(site, layer) for site in ("q", "k", "scores", "pattern") for layer in self.kept]
        return Cache(self, [*self.values, *from_qk])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of which something was recorded."""
        return tuple(sorted({layer for _, layer in self.values if layer is not None} | set(self.kept)))

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of which something was recorded, or can be computed, in the order of a block."""
        here = {site for site, _ in self.values} | set(FROM_QK if self.kept else ())
        return tuple(site for site in SITES if site in here)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, key: str | tuple[str, int]) -> Tensor:
        if not isinstance(key, str) and not (isinstance(key, tuple) and len(key) == 2):
            raise InputError(f"A recording is read by site and layer, as in rec['resid_post', 0]; got rec[{key!r}].")
        name, layer = (key, None) if isinstance(key, str) else key
        site, layer = parse_site(name, layer)[0]
        if site in BY_KEY and (site, self._from_front(layer)) not in self.values and layer is not None:
            return self._from_qk(site, layer)
        if site == "lse" and layer is not None:
            return self._from_qk(site, layer)
        value = self.emitted(site, layer)
        return value.transpose(1, 2) if site in BY_KEY else value

    def emitted(self, site: str, layer: int | None) -> Tensor:
        """A value as the model emits it, `[batch, pos, …]`, with NaN after the end of each prompt.

        Raises NotRecordedError if it is not here.
        """
        layer = self._from_front(layer)
        found = self.values.get((site, layer))
        if found is None and layer is not None and layer in self.kept and site in FROM_QK:
            if site in ("q", "k"):
                heads: Tensor = getattr(self.kept[layer], site)
                found = heads.transpose(1, 2)  # [batch, pos, head, d_head]
            else:
                return self._from_qk(site, layer).transpose(1, 2)
        if found is None:
            if layer is None and site not in LAYERLESS:
                raise NotRecordedError(f"{site!r} needs a layer, as in rec[{site!r}, 0]. {self._contents()}")
            of = "" if layer is None else f" of layer {layer}"
            raise NotRecordedError(f"There is no {site!r}{of}. {self._contents()}")
        return self._without_padding(found)

    def mean(self, site: str, layer: int | None, *, per_pos: bool = False) -> Tensor:
        """The mean of a value over prompts and positions, `[…]`, or with `per_pos` over prompts, `[pos, …]`.

        Kept, for a sweep asks for it once a run. NaN where no prompt reaches a position.
        """
        key = (site, layer, per_pos)
        if key not in self._means:
            self._means[key] = torch.nanmean(self.emitted(site, layer), dim=(0,) if per_pos else (0, 1))
        return self._means[key]

    def pattern(
        self,
        layer: int,
        head: int,
        batch: int = 0,
        queries: int | slice | Sequence[int] | None = None,
        keys: int | slice | Sequence[int] | None = None,
    ) -> Tensor:
        """One head's attention weights on one prompt, or a part of them: [query, key].

        `batch` is the prompt's number. A number in place of a range of queries or keys drops that dimension.
        """
        source = self.attention(batch)
        layer = source.layers[layer] if -len(source.layers) <= layer < 0 else layer
        if layer not in source.layers:
            raise NotRecordedError(f"There is no attention of layer {layer}. {self._contents()}")
        positions = np.arange(len(source.tokens))
        try:
            rows, columns = (positions[slice(None) if part is None else part] for part in (queries, keys))
        except IndexError as error:
            raise InputError(f"Prompt {batch} has the positions 0 to {len(positions) - 1}: {error}.") from None
        wanted = np.atleast_1d(columns)
        first, last = (int(wanted.min()), int(wanted.max()) + 1) if wanted.size else (0, 0)
        block = source.block(source.layers.index(layer), head, np.atleast_1d(rows), slice(first, last))
        part = block[:, wanted - first]
        return torch.from_numpy(part.reshape(np.shape(rows) + np.shape(columns)))

    def attention(self, prompt: int = 0) -> RecordedAttention:
        """The patterns of one prompt as a source of blocks, which is what views take."""
        layers: dict[Any, LayerAttention | StoredAttention] = dict(self.kept)
        layers |= {layer: StoredAttention(value) for (site, layer), value in self.values.items() if site == "pattern"}
        if not layers or self.positions is not None or self.heads is not None:
            raise NoAttentionError(f"{self!r} holds no attention to show. Record the sites 'q' and 'k'.")
        if not -len(self) <= prompt < len(self):
            raise NotRecordedError(f"There is no prompt {prompt}; there are {len(self)}, numbered from 0.")
        if len(counts := sorted({layer.heads for layer in layers.values()})) > 1:
            raise InputError(f"Layers have {counts} heads; record those with the same number: layers=[…].")
        prompt %= len(self)
        order = sorted(layers)
        return RecordedAttention(
            self.name, self.tokens[prompt], tuple(order), [layers[layer] for layer in order], prompt
        )

    def _from_qk(self, site: str, layer: int) -> Tensor:
        """Patterns and scores [batch, head, query, key], or log-sum-exps [batch, head, query], of one layer."""
        found = self.kept.get(self._from_front(layer) or 0)
        if found is None:
            raise NotRecordedError(f"There is no {site!r} of layer {layer}. {self._contents()}")
        batch, count, size = found.q.shape[:3]
        width = 1 if site == "lse" else size
        if (needed := batch * count * size * width * 4) > _LARGEST:
            raise InputError(
                f"rec[{site!r}, {layer}] would take {needed / 1e9:.1f} GB. Ask for a part: rec.pattern(layer, head, "
                "queries=…, keys=…)."
            )
        full = torch.full((batch, count, size, width), -torch.inf if site == "scores" else 0.0)
        for prompt, tokens in enumerate(self.tokens):
            rows = np.arange(len(tokens))
            for head in range(count):
                if site == "lse":
                    part = found.lse(prompt, head, len(rows), rows)[:, None]
                elif site == "scores":
                    part = found.scores(prompt, head, len(rows), rows)
                else:
                    part = found.block(prompt, head, len(rows), rows, 0, len(rows))
                full[prompt, head, : part.shape[0], : part.shape[1]] = torch.from_numpy(part)
            full[prompt, :, len(rows) :] = torch.nan
        return full[..., 0] if site == "lse" else full

    def _without_padding(self, tensor: Tensor) -> Tensor:
        """The same [batch, pos, …] with NaN after the end of each prompt."""
        lengths = torch.tensor([len(tokens) for tokens in self.tokens])
        if self.positions is not None or bool((lengths == tensor.shape[1]).all()):
            return tensor
        padding = torch.arange(tensor.shape[1]) >= lengths[:, None]  # [batch, pos]
        padding = padding.reshape(padding.shape + (1,) * (tensor.ndim - 2))
        return tensor.masked_fill(padding.to(tensor.device), torch.nan)

    def _from_front(self, layer: int | None) -> int | None:
        """A layer's number, also from one that counts from the end of those recorded."""
        layers = self.layers
        return layers[layer] if layer is not None and -len(layers) <= layer < 0 else layer

    def _contents(self) -> str:
        return f"Recorded: sites {', '.join(self.sites) or 'none'}; layers {_ranges(self.layers)}."

    def __repr__(self) -> str:
        sizes = sorted({len(tokens) for tokens in self.tokens})
        span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        prompts = f"{len(self)} prompt{'s' if len(self) > 1 else ''} of {span} tokens"
        return f"Recording({self.name}: {prompts}; layers {_ranges(self.layers)}; {' '.join(self.sites)})"


def _four(name: str, given: Any) -> Tensor:
    """A 4-D floating-point tensor that shares memory with what was given, where that can be."""
    if isinstance(given, Tensor):
        tensor = given.detach()
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)  # it is only read
            tensor = torch.from_numpy(np.asarray(given))
    if tensor.ndim != 4 or not tensor.is_floating_point() or 0 in tensor.shape:
        shape, kind = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{name} is [layer, pos, head, d_head] of floating-point numbers; got {shape} of {kind}.")
    # A sum is NaN or infinite if any of its terms is, and takes no second array to find out.
    if bad := [layer for layer, part in enumerate(tensor) if not bool(part.sum(dtype=torch.float32).isfinite())]:
        raise InputError(f"{name} holds NaN or infinite numbers in layer {bad[0]}.")
    return tensor


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in short: 0–3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs) or "none"
