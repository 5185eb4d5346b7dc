"""The logit lens: what the model would say if it stopped after a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interpwidgets.errors import InputError, NotRecordedError
from interpwidgets.intervene.routes import _Through as Through
from interpwidgets.intervene.tokens import read_tokens
from interpwidgets.models.model import Model
from interpwidgets.models.record import forward, layer_number, record
from interpwidgets.models.recording import Recording
from interpwidgets.models.tape import Tape
from interpwidgets.models.texts import token_texts
from interpwidgets.models.tokenize import Batch
from interpwidgets.tokens import Tokens

__all__ = ["LogitLens", "logit_lens", "unembed"]

Translators = Mapping[int, Callable[[Tensor], Tensor]] | Callable[[Tensor, int], Tensor]

_STREAMS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
_LOGITS = 1 << 28  # bytes of logits at a time
_exact: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()  # relative error of the lens after the last layer


def logit_lens(
    rec: Recording,
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    prompt: int | None = None,
    translators: Translators | None = None,
) -> LogitLens:
    """Read the residual stream after each layer as the model reads the last: final norm, unembedding, soft-cap.

    >>> lens = logit_lens(record(model, "the cat sat on the mat . the cat sat"))
    >>> lens.top(3)                     # ids and probabilities, [layer, batch, pos, 3]
    >>> lens.prob_of(" on")             # [layer, batch, pos]

    The model's own code does it, with its blocks left out, so it holds for every architecture in which nothing else
    lies between the last block and the logits; that is verified once for each model. `site` is where the stream is
    read, of all `layers` recorded unless some are given; `prompt` is one of several. `translators` are applied to the
    stream before: a mapping from layer to function, [n, d_model] → [n, d_model], layers without one staying as they
    are; or one function of the stream and the layer (a tuned lens).

    nostalgebraist 2020, "interpreting GPT: the logit lens". Early layers may write in directions that the
    unembedding does not read, and are then misread: Belrose et al. 2023, "Eliciting latent predictions from
    transformers with the tuned lens" §2.

    Raises InputError for a recording without its model, a site that is no stream, or a model that the lens does not
    hold for; NotRecordedError where the site was not recorded.
    """
    model = rec.model
    if not isinstance(model, Model):
        raise InputError(f"{rec!r} does not know its model, whose unembedding a lens needs. Make it with record(…).")
    if site not in _STREAMS:
        raise InputError(
            f"A lens reads what has the width of the residual stream: {', '.join(_STREAMS)}; got {site!r}."
        )
    if prompt is not None and not -len(rec) <= prompt < len(rec):
        raise InputError(f"There is no prompt {prompt}; there are {len(rec)}, numbered from 0.")
    _hold(model)
    chosen = _recorded(rec, site) if layers is None else [layer_number(model, layer) for layer in layers]
    if not chosen:
        raise NotRecordedError(f"{rec!r} holds no {site!r}. Record it: record(model, prompts, sites=[{site!r}]).")
    which = slice(None) if prompt is None else slice(prompt % len(rec), prompt % len(rec) + 1)
    final = None
    if model.n_layers - 1 in _recorded(rec, "resid_post"):
        final = rec["resid_post", model.n_layers - 1][which].detach()
    return LogitLens(
        model, site, tuple(chosen), {layer: rec[site, layer][which].detach() for layer in chosen}, final,
        rec.tokens[which], translators, rec.positions is not None, rec, which.start or 0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens:
    """Predictions after each layer, computed when asked for: [layer, batch, pos], NaN (ids: −1) after a prompt's end.

    Only streams are kept, [batch, pos, d_model] each; logits live as long as they are being read.
    """

    model: Model
    site: str
    layers: tuple[int, ...]
    streams: Mapping[int, Tensor]  # by layer, [batch, pos, d_model]
    final: Tensor | None  # what the model's own prediction is read from
    tokens: list[Tokens]
    translators: Translators | None = None
    partial: bool = False  # whether only some positions were recorded
    rec: Recording | None = None  # what it was made of
    first: int = 0  # the prompt of `rec` that is the first one here

    def at(self, prompt: int, first: int = 0, last: int | None = None) -> LogitLens:
        """The lens of one prompt, and of it the positions from `first` to before `last`."""
        if not 0 <= prompt < len(self.tokens):
            raise InputError(f"There is no prompt {prompt}; there are {len(self.tokens)}, numbered from 0.")
        tokens = self.tokens[prompt]
        part = slice(first, len(tokens) if last is None else last)
        if not range(len(tokens))[part]:
            raise InputError(f"There are no positions {first}:{last}; the prompt has {len(tokens)}, numbered from 0.")
        return replace(
            self,
            streams={layer: stream[[prompt], part] for layer, stream in self.streams.items()},
            final=None if self.final is None else self.final[[prompt], part],
            tokens=[Tokens(tokens.text[part], None if tokens.ids is None else tokens.ids[part], tokens.special[part])],
            rec=None,
        )

    def logits(self, layer: int) -> Tensor:
        """What the lens reads after a layer: [batch, pos, vocab]."""
        if layer not in self.layers:
            raise InputError(f"There is no layer {layer} in this lens; there are {list(self.layers)}.")
        stream = self.streams[layer]
        return unembed(self.model, self.translated(stream.flatten(0, 1), layer)).reshape(*stream.shape[:2], -1)

    def top(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ids of the `k` likeliest tokens and their probabilities, each [layer, batch, pos, k]."""
        found = self._read(lambda logits, _: _top(logits.log_softmax(-1), k))
        return found[..., :k].long(), found[..., k:]

    def overview(self, k: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`top(k)`, `entropy` and `kl` in one go, for the price of one; `kl` is NaN where it cannot be known."""
        own = self._own()

        def all_of_it(logits: Tensor, rows: slice) -> Tensor:
            log_p = logits.log_softmax(-1)
            kl = log_p[:, 0] * torch.nan if self.final is None else _kl(own(rows), log_p)
            return torch.cat([_top(log_p, k), _entropy(log_p)[:, None], kl[:, None]], dim=-1)

        found = self._read(all_of_it)
        return found[..., :k].long(), found[..., k : 2 * k], found[..., -2], found[..., -1]

    def prob_of(self, token: Any) -> Tensor:
        """The probability of a token, or of one per prompt: [layer, batch, pos]."""
        ids = self._ids(token)
        return self._read(lambda logits, rows: logits.softmax(-1).gather(-1, ids[rows].to(logits.device))[:, 0])

    def rank_of(self, token: Any) -> Tensor:
        """How many tokens are likelier, 0 for the top one: [layer, batch, pos]."""
        ids = self._ids(token)

        def rank(logits: Tensor, rows: slice) -> Tensor:
            above = (logits > logits.gather(-1, ids[rows].to(logits.device))).sum(-1)
            return above.to(logits.dtype).masked_fill(logits[:, 0].isnan(), torch.nan)

        return self._read(rank)

    @cached_property
    def entropy(self) -> Tensor:
        """Of each prediction, in nats: [layer, batch, pos]."""
        return self._read(lambda logits, _: _entropy(logits.log_softmax(-1)))

    @cached_property
    def kl(self) -> Tensor:
        """KL(the model's own prediction ‖ the layer's) in nats: [layer, batch, pos]."""
        if self.final is None:
            raise NotRecordedError(
                f"The model's own prediction is read from resid_post of layer {self.model.n_layers - 1}: record it."
            )
        own = self._own()
        return self._read(lambda logits, rows: _kl(own(rows), logits.log_softmax(-1)))

    def _own(self) -> Callable[[slice], Tensor]:
        """The model's own prediction of some rows, as log-probabilities; kept while the same rows are asked for."""
        kept: dict[int, Tensor] = {}

        def own(rows: slice) -> Tensor:
            assert self.final is not None
            if rows.start not in kept:
                kept.clear()
                kept[rows.start] = _wide(unembed(self.model, self.final.flatten(0, 1)[rows])).log_softmax(-1)
            return kept[rows.start]

        return own

    def _read(self, what: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """Something of the logits of rows [n, vocab] → [n, …], over all layers: [layer, batch, pos, …]."""
        some = self.streams[self.layers[0]]
        parts = [
            torch.stack([
                what(_wide(unembed(self.model, self.translated(self.streams[layer].flatten(0, 1)[rows], layer))), rows)
                for layer in self.layers
            ])
            for rows in _chunks(self.model, some.shape[0] * some.shape[1])
        ]  # fmt: skip
        found = torch.cat(parts, dim=1)
        return found.reshape(found.shape[0], *some.shape[:2], *found.shape[2:])

    def translated(self, stream: Tensor, layer: int) -> Tensor:
        """The stream [n, d_model] in the language of the last layer."""
        if self.translators is None:
            return stream
        with torch.set_grad_enabled(stream.requires_grad):
            if isinstance(self.translators, Mapping):
                translator = self.translators.get(layer)
                found = stream if translator is None else translator(stream)
            else:
                found = self.translators(stream, layer)
        if not isinstance(found, Tensor) or found.shape != stream.shape:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"The translator of layer {layer} makes {shape} of a stream {list(stream.shape)}.")
        return found

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Tokens of the model, as shown."""
        return list(token_texts(self.model.tokenizer, ids))

    def _ids(self, token: Any) -> Tensor:
        """A token's id at each row: [batch · pos, 1]."""
        ids = read_tokens(self.model, token, len(self.tokens))
        return ids.repeat_interleave(self.streams[self.layers[0]].shape[1])[:, None]

    def __repr__(self) -> str:
        size = self.streams[self.layers[0]].shape[1] if self.partial else len(self.tokens[0])
        last = {layer: self.streams[layer][0, size - 1][None] for layer in self.layers}
        top = {
            layer: _wide(unembed(self.model, self.translated(row, layer)))[0].softmax(-1).max(-1)
            for layer, row in last.items()
        }
        shown = list(token_texts(self.model.tokenizer, [int(best.indices) for best in top.values()]))
        width = max(len("token"), *map(len, shown))
        of = "" if len(self.tokens) == 1 else f" of the first of {len(self.tokens)} prompts"
        lines = [
            f"LogitLens({self.model.name}: {self.site}), the last position{of}",
            f"layer  {'token':<{width}}  probability",
        ]
        for (layer, best), token in zip(top.items(), shown, strict=True):
            lines.append(f"{layer:>5}  {token:<{width}}  {float(best.values):.3f}")
        return "\n".join(lines)


def _top(log_p: Tensor, k: int) -> Tensor:
    """Ids of the likeliest (−1 where there is no prediction), then their probabilities: [n, vocab] → [n, 2k]."""
    best, ids = log_p.topk(k)
    return torch.cat([ids.to(log_p).where(~best.isnan(), -1), best.exp()], dim=-1)


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).where(log_p != -torch.inf, 0).sum(-1)


def _kl(own: Tensor, log_p: Tensor) -> Tensor:
    """KL(own ‖ the other) of log-probabilities [n, vocab]: [n]."""
    return (own.exp() * (own - log_p)).where(own != -torch.inf, 0).sum(-1)


class _Skip(Through, Tape):
    """A pass that goes past all blocks, and leaves the last with a stream that is given."""

    maskless = True

    def __init__(self, last: int, stream: Tensor) -> None:
        self.route = self
        self._last, self._stream = last, stream

    def skips(self, layer: int) -> bool:
        """All."""
        return True

    def leave(self, layer: int, before: Tensor, after: Tensor) -> Tensor:
        """The stream that was given."""
        return self._stream.to(after) if layer == self._last else after


@torch.no_grad()
def unembed(model: Model, rows: Tensor) -> Tensor:
    """The logits that a model reads from residual streams after its last block: [n, d_model] → [n, vocab]."""
    if not rows.shape[0]:
        raise InputError("There is no row to unembed.")
    parts = []
    for some in _chunks(model, len(rows)):
        part = rows[some][:, None].to(model.device)  # each row a prompt of one token
        ids = torch.full(part.shape[:2], model.anatomy.embed.num_embeddings // 2, device=model.device)
        logits = forward(model, Batch([], {"input_ids": ids}), _Skip(model.n_layers - 1, part), logits=True)
        assert logits is not None
        parts.append(logits[:, 0])
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _chunks(model: Model, count: int) -> Iterator[slice]:
    size = max(1, _LOGITS // (4 * model.anatomy.embed.num_embeddings))
    return (slice(start, start + size) for start in range(0, count, size))


def _hold(model: Model) -> None:
    """Refuse a model whose logits are not read from what its last block returns alone."""
    if not model.anatomy.has_head:
        raise InputError(f"{model.name} has no unembedding. Load the model with its language-model head.")
    if model.module not in _exact:
        ids = torch.arange(min(7, model.context or 7)) + model.anatomy.embed.num_embeddings // 2
        rec = record(model, ids, sites=["resid_post", "logits"], layers=[-1])
        try:
            found = unembed(model, rec["resid_post", -1][0])
            truth = rec["logits"][0]
            _exact[model.module] = float((found - truth).abs().max() / truth.abs().max())
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError):
            _exact[model.module] = float("inf")
    if not _exact[model.module] <= (1e-4 if model.module.dtype in (torch.float32, torch.float64) else 3e-2):
        raise InputError(
            f"{model.name} does not read its logits from the residual stream after the last block alone (relative "
            f"error {_exact[model.module]:.0e}), so its layers have no lens."
        )


def _recorded(rec: Recording, site: str) -> list[int]:
    """The layers of which a site was recorded."""
    return [layer for layer in rec.layers if (site, layer) in rec.values]


def _wide(logits: Tensor) -> Tensor:
    """In single precision at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
