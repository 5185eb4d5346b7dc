"""Who wrote what a lens reads: direct logit attribution at any layer and position."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.intervene.direct import _check_blocks, _Head, _heads, _tolerance
from interpwidgets.intervene.lens import LogitLens, unembed
from interpwidgets.intervene.tokens import read_tokens
from interpwidgets.models.hooks import norm_scale
from interpwidgets.models.record import forward, recorder
from interpwidgets.models.sites import Site
from interpwidgets.models.tape import lacks
from interpwidgets.models.texts import token_texts
from interpwidgets.models.tokenize import read_prompts

__all__ = ["LensAttribution", "lens_logit_attribution"]

Floats = NDArray[np.float64]
Written = dict[Site, Tensor]  # [1, …] at one position

_UP_TO = {"resid_pre": 0, "resid_mid": 1, "resid_post": 2}  # how many writes of the layer itself are in its stream
_BLOCK = 16  # positions that one pass is kept of
_KEPT = 32  # passes
_passes: WeakKeyDictionary[LogitLens, OrderedDict[tuple[int, int], Written]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class LensAttribution:
    """A logit that a lens reads after a layer, as the sum of what was written to it.

    `values` add up to `total`; the heads of a layer and the bias of their output add up to its attn.
    """

    token: str  # as shown
    id: int
    layer: int
    position: int
    labels: tuple[str, ...]  # embed, L0 attn, L0 mlp, …, rest, constant
    values: Floats  # [component]
    heads: Floats  # [layer, head], of the layers up to this one; NaN where heads cannot be told apart
    total: float  # before any soft-cap
    scale: float  # what the final norm divides by at that point; 1 without a norm
    softcap: float | None = None

    def __repr__(self) -> str:
        terms = ", ".join(f"{label} {value:+.2f}" for label, value in zip(self.labels, self.values, strict=True))
        where = f"after layer {self.layer} at position {self.position}"
        return f"LensAttribution of {self.token} {where}: {self.total:.2f} = {terms}".replace("-", "−")


def lens_logit_attribution(
    lens: LogitLens, token: str | int, *, layer: int, position: int = -1, prompt: int = 0
) -> LensAttribution:
    """Split the logit that a lens reads for a token into what each component wrote.

    >>> lens_logit_attribution(logit_lens(rec), " on", layer=1, position=5)

    The stream at a point is the sum of the embedding and of what attention and MLPs have written until there, and the
    final norm is linear once its scale is held at the value that it has there; so each term is a component's output
    times one direction. A translator (a tuned lens) must be affine, as those of Belrose et al. 2023 are.

    nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A mathematical framework for
    transformer circuits".

    Raises InputError for a layer or position that is not there, a lens of single writes, a model whose blocks do not
    add to the stream or whose logits are not linear in it, and a run that was intervened on and is not recorded.
    """
    model = lens.model
    if layer not in lens.layers:
        raise InputError(f"There is no layer {layer} in this lens; there are {list(lens.layers)}.")
    if lens.site not in _UP_TO:
        raise InputError(f"A lens on {lens.site!r} reads one write alone. Read a stream: {', '.join(_UP_TO)}.")
    if lens.partial:
        raise InputError("Only some positions were recorded. Record all of them: leave `positions` out.")
    size = len(lens.tokens[prompt])
    if not -size <= position < size:
        raise InputError(f"There is no position {position}; the prompt has {size}, numbered from 0.")
    position %= size
    _check_blocks(model)
    which = int(read_tokens(model, token, 1)[0])
    written = _written(lens, prompt, layer, position)
    stream = lens.streams[layer][prompt, position][None]  # [1, d_model]
    read = lens.translated(stream, layer)
    logits = unembed(model, read)
    head = _Head(model, logits, read)
    direction, constant, total = head.read(
        torch.nn.functional.one_hot(torch.tensor([which]), logits.shape[-1]).to(logits.device).double()
    )
    if lens.translators is not None:
        direction, more = _before(lens, stream, layer, direction)
        constant = constant + more
    labels, values, heads = _terms(lens, layer, written, direction)
    whole = float((stream.double() * direction).sum())
    if not abs(whole + constant.item() - total.item()) <= _tolerance(model) * max(abs(whole), abs(total.item())):
        raise InputError(f"The logits of {model.name} do not split into contributions after layer {layer}.")
    norm = model.anatomy.ln_final
    return LensAttribution(
        token=token_texts(model.tokenizer, [which])[0],  # type: ignore[arg-type]
        id=which,
        layer=layer,
        position=position,
        labels=(*labels, "rest", "constant"),
        values=np.array([*values, whole - sum(values), constant.item()]),
        heads=heads,
        total=total.item(),
        scale=1.0 if norm is None else float(norm_scale(norm, read)),
        softcap=head.cap,
    )


def _terms(lens: LogitLens, layer: int, written: Written, direction: Tensor) -> tuple[list[str], list[float], Floats]:
    """What each component wrote along a direction [1, d_model], up to a layer."""
    labels, values = ["embed"], [float((written["resid_pre", 0] * direction).sum())]
    parts = lens.model.anatomy.parts
    heads = np.full((layer + 1, max(part.heads or 0 for part in parts)), np.nan)
    for at, site in _sites(lens, layer):
        if site == "z":
            found = _heads(lens.model, at, parts[at], written["z", at], written["attn_out", at], direction)
            if found is not None:
                heads[at, : found.shape[1]] = found[0]
        else:
            labels.append(f"L{at} {site.removesuffix('_out')}")
            values.append(float((written[site, at] * direction).sum()))
    return labels, values, heads


def _sites(lens: LogitLens, layer: int) -> list[tuple[int, str]]:
    """What was written, by layer, until the stream that is read after `layer`."""
    found = []
    for at, part in enumerate(lens.model.anatomy.parts[: layer + 1]):
        until = 2 if at < layer else _UP_TO[lens.site]
        for site in ("attn_out", "mlp_out")[:until]:
            if lacks(part, site) is None:
                found.append((at, site))
                if site == "attn_out" and lacks(part, "z") is None and part.attn_out:
                    found.append((at, "z"))
    return found


def _written(lens: LogitLens, prompt: int, layer: int, position: int) -> Written:
    """Of the recording where it holds all of it, else of a pass."""
    sites: list[Site] = [("resid_pre", 0), *((site, at) for at, site in _sites(lens, layer))]
    if lens.rec is not None and all(site in lens.rec.values for site in sites):
        own = lens.first + prompt
        return {site: lens.rec.values[site][own, position][None].detach() for site in sites}
    start = position - position % _BLOCK
    passes = _passes.setdefault(lens, OrderedDict())
    if (prompt, start) not in passes:
        passes[prompt, start] = _pass(lens, prompt, start)
        while len(passes) > _KEPT:
            passes.popitem(last=False)
    found = {site: value[:, position - start] for site, value in passes[prompt, start].items()}
    seen, stream = found[lens.site, layer], lens.streams[layer][prompt, position][None]
    if not float((seen - stream).abs().max()) <= 10 * _tolerance(lens.model) * float(stream.abs().max()):
        raise InputError(
            "This recording is not of the model as it is (was it intervened on?), so what its components wrote has to "
            "be in it: sites=['resid_pre', 'resid_post', 'attn_out', 'mlp_out', 'z']."
        )
    return found


def _pass(lens: LogitLens, prompt: int, start: int) -> Written:
    """What is written at a block of positions of a prompt: [1, pos, …] each."""
    ids = lens.tokens[prompt].ids
    if ids is None:
        raise InputError("The tokens of this recording have no ids, so the model cannot be run on them again.")
    model, last = lens.model, lens.layers[-1]
    sites: list[Site] = [("resid_pre", 0), *((site, at) for at, site in _sites(lens, last))]
    sites += [(lens.site, layer) for layer in lens.layers]
    batch = read_prompts(model, ids.tolist())
    tape = recorder(model, batch, sites, positions=list(range(start, min(start + _BLOCK, len(ids)))))
    forward(model, batch, tape, logits=False)
    return dict(tape.values)


def _before(lens: LogitLens, stream: Tensor, layer: int, direction: Tensor) -> tuple[Tensor, Floats]:
    """The direction in the stream itself that a translator turns into this one, and what its bias adds."""
    with torch.enable_grad():
        own = stream.detach().requires_grad_()
        read = (lens.translated(own, layer).double() * direction).sum()
        (found,) = torch.autograd.grad(read, own)
    read, along = read.detach(), (stream.double() * found).sum()
    opposite = (lens.translated(-stream, layer).double() * direction).sum()
    bias = read - along
    if not float((opposite - (bias - along)).abs()) <= _tolerance(lens.model) * max(1.0, float(read.abs())):
        raise InputError(
            f"The translator of layer {layer} is not affine, so its logits do not split into contributions."
        )
    return found.double(), bias.cpu().numpy()[None]
