"""Run a model on prompts, and keep what it did."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interpwidgets.errors import InputError, NoAttentionError
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.recording import Recording
from interpwidgets.models.tape import Tape, recording_on
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = ["DEFAULT_SITES", "SITES", "record"]

SITES = ("resid_pre", "resid_post", "q", "k", "lse", "pattern", "logits")
DEFAULT_SITES = ("resid_pre", "resid_post", "q", "k")
_FROM_QK = {"q", "k", "lse", "pattern"}


def record(
    model: Model | Any,
    prompts: Prompts,
    *,
    sites: Sequence[str] = DEFAULT_SITES,
    layers: Sequence[int] | None = None,
) -> Recording:
    """Run the model on one or several prompts and keep the residual stream, q and k, from which patterns follow.

    >>> rec = record(model, "the cat sat on the mat . the cat sat")
    >>> rec["resid_post", 1]                  # [batch, pos, d_model]
    >>> rec.pattern(layer=1, head=2)          # [query, key]

    Prompts are text, token ids, or what a tokenizer returns. The unembedding, about a third of the work of a small
    model, is left out unless `sites` has "logits". The tensors are the model's own: on its device, in its dtype.
    """
    model = as_model(model)
    wanted = _sites(model, sites)
    depth = range(model.n_layers)
    chosen = frozenset(depth if layers is None else (_layer(layer, depth) for layer in layers))
    batch = read_prompts(model, prompts)
    tape = Tape(wanted, chosen, batch.lengths)
    logits = _run(model, batch, tape)
    _check_numbers(model, batch, tape, logits)
    if "q" in wanted and not tape.attention:
        kind = type(model.module).__name__
        raise NoAttentionError(
            f"{kind} has no attention weights that can be read: either it has none (state-space models), or code of "
            "its own for them, which is not supported yet. Its residual stream can be recorded: sites=['resid_pre', "
            "'resid_post']."
        )
    return Recording(model.name, batch.tokens, residual=tape.residual, attention=tape.attention, logits=logits)


def _run(model: Model, batch: Batch, tape: Tape) -> Tensor | None:
    """One forward pass onto the tape. The logits are returned if they are wanted, else not computed."""
    entry = model.module if "logits" in tape.sites else model.anatomy.base
    options = {"use_cache": False} if "use_cache" in inspect.signature(entry.forward).parameters else {}
    with recording_on(model.module, model.anatomy, tape), torch.no_grad():
        output = entry(**batch.inputs, **options)
    return output.logits if "logits" in tape.sites else None


def _sites(model: Model, sites: Sequence[str]) -> frozenset[str]:
    if isinstance(sites, str):
        raise InputError(f"sites is a list of names: sites=[{sites!r}].")
    if unknown := [site for site in sites if site not in SITES]:
        raise InputError(f"There is no site {unknown[0]!r}. There are: {', '.join(SITES)}.")
    if "logits" in sites and not model.anatomy.has_head:
        kind = type(model.module).__name__
        raise InputError(f"{kind} has no unembedding, so no logits. Load the model with its language-model head.")
    return frozenset(sites) | (frozenset({"q", "k"}) if _FROM_QK & set(sites) else frozenset())


def _layer(layer: int, depth: range) -> int:
    try:
        return depth[layer]
    except (IndexError, TypeError):
        raise InputError(f"There is no layer {layer!r}; there are {len(depth)}, numbered from 0.") from None


def _check_numbers(model: Model, batch: Batch, tape: Tape, logits: Tensor | None) -> None:
    """Refuse NaN and infinity. The fast attention kernels swallow NaN in q and k, so the ends alone do not show it."""
    real = batch.inputs.get("attention_mask")
    ends = [end if real is None else end[real.bool().to(end.device)] for end in (tape.last, logits) if end is not None]
    heads = [part for layer in tape.attention.values() for part in (layer.q, layer.k)]
    # A sum is not finite if one of its terms is not, and takes no second array to find out.
    if all(bool(part.sum(dtype=torch.float32).isfinite()) for part in (*ends, *heads)):
        return
    if bad := [name for name, weight in model.module.named_parameters() if not bool(torch.isfinite(weight).all())]:
        raise InputError(f"{model.name} has NaN or infinite numbers in its weight {bad[0]!r}.")
    raise InputError(f"{model.name} computes NaN or infinite numbers{_first_bad(model, batch)}.")


def _first_bad(model: Model, batch: Batch) -> str:
    """The first site that is not finite, as part of a sentence; found by a second pass that keeps them all."""
    tape = Tape(frozenset(DEFAULT_SITES), frozenset(range(model.n_layers)), batch.lengths)
    _run(model, batch, tape)
    for (site, layer), value in tape.emissions():
        if not bool(torch.isfinite(value).all()):
            return f", first at {site!r} of layer {layer}"
    return ""
