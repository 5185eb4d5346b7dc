"""Run a model on prompts, and keep what it did."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interpwidgets.errors import InputError, NoAttentionError
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.recorder import Recorder
from interpwidgets.models.recording import FROM_QK, Recording
from interpwidgets.models.sites import LAYERLESS, Site, parse_site
from interpwidgets.models.tape import Tape, lacks, listening
from interpwidgets.models.tokenize import Batch, Prompts, read_prompts

__all__ = [
    "DEFAULT_SITES",
    "check_numbers",
    "check_rows",
    "check_site",
    "forward",
    "layer_number",
    "record",
    "recorder",
    "recording_of",
]

DEFAULT_SITES = ("resid_pre", "resid_post", "q", "k")
_EVERYWHERE = frozenset({"embed", "resid_pre", "resid_post", "logits"})  # sites that need no anatomy
_OF_ATTENTION = frozenset({"q", "k", "v", "lse", "pattern", "scores"})


def record(
    model: Model | Any,
    prompts: Prompts,
    *,
    sites: Sequence[str] = DEFAULT_SITES,
    layers: Sequence[int] | None = None,
    positions: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    grad: bool = False,
    batch_size: int | None = None,
    folder: str | Path | None = None,
) -> Recording:
    """Run the model on one or several prompts and keep the residual stream, q and k, from which patterns follow.

    >>> rec = record(model, "the cat sat on the mat . the cat sat", sites=["resid_post", "z", "pattern"])
    >>> rec["resid_post", 1]                  # [batch, pos, d_model]
    >>> rec.pattern(layer=1, head=2)          # [query, key]

    Prompts are text, token ids, or what a tokenizer returns. `sites` are names of the field (see `SITE_SHAPES`) or
    TransformerLens' names, of all `layers` unless some are given. Of the positions, those that are given are kept
    (−1 is each prompt's last), and of the sites that have query heads, the `heads` given; either rules out patterns.
    The unembedding, about a third of the work of a small model, is left out unless `sites` has "logits". The tensors
    are the model's own: on its device, in its dtype; with `grad` they are part of autograd's graph, and gradients of
    anything computed from `rec["logits"]` reach them.

    `batch_size` prompts are run at a time, all of them if None. With a `folder` they are written there and read when
    they are looked at, so that a recording may be larger than memory; `Recording.open(folder)` opens it again.

    Raises InputError for prompts, sites, layers, positions or heads that the model does not have, NoAttentionError
    for a model whose attention cannot be read.
    """
    model = as_model(model)
    whole = read_prompts(model, prompts)
    if grad and (folder is not None or batch_size is not None):
        raise InputError("With `grad`, all prompts are one batch in memory: leave `batch_size` and `folder` out.")
    parts = []
    for number, batch in enumerate(whole.split(batch_size)):
        tape = recorder(model, batch, sites, layers=layers, positions=positions, heads=heads, grad=grad)
        logits = forward(model, batch, tape, logits=("logits", None) in tape.sites, grad=grad)
        check_numbers(model, batch, tape, logits)
        part = recording_of(model, batch, tape, logits)
        if folder is not None:
            part.write(Path(folder), number)
        else:
            parts.append(part)
    if folder is not None:
        return Recording.open(folder, model=model)
    return parts[0] if len(parts) == 1 else Recording.join(parts)


def recording_of(model: Model, batch: Batch, tape: Recorder, logits: Tensor | None) -> Recording:
    """What a recorder kept."""
    if not (tape.attention or any(site in ("q", "k", "v", "scores", "pattern") for site, _ in tape.values)) and (
        tape.patterns or any(site in _OF_ATTENTION for site, _ in tape.sites)
    ):
        kind = type(model.module).__name__
        raise NoAttentionError(
            f"{kind} has no attention weights that can be read: either it has none (state-space models), or code of "
            "its own for them, of which only sites=['pattern', 'scores'] may be heard. Its residual stream can be "
            "recorded: sites=['resid_pre', 'resid_post']."
        )
    values = dict(tape.values)
    if logits is not None and ("logits", None) in tape.sites:
        values["logits", None] = tape.part("logits", logits)
    return Recording(
        model.name, batch.tokens, values=values, attention=tape.attention, model=model,
        positions=tape.positions, heads=None if tape.heads is None else tape.heads.tolist(),
    )  # fmt: skip


def recorder(
    model: Model,
    batch: Batch,
    sites: Iterable[str | Site],
    *,
    layers: Sequence[int] | None = None,
    positions: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    grad: bool = False,
    changed: Collection[int] = (),
) -> Recorder:
    """The tape for a request, after checking that the model has what is asked for.

    In the layers `changed`, scores or patterns are not what follows from q and k.
    """
    if isinstance(sites, str):
        raise InputError(f"sites is a list of names: sites=[{sites!r}].")
    wanted = _wanted(model, sites, layers)
    if ("logits", None) in wanted and not model.anatomy.has_head:
        kind = type(model.module).__name__
        raise InputError(f"{kind} has no unembedding, so no logits. Load the model with its language-model head.")
    wanted |= {("pattern", layer) for layer in changed if {("q", layer), ("k", layer)} <= wanted}
    if bad := [layer for site, layer in wanted if site == "lse" and layer in changed]:
        raise InputError(f"'lse' of layer {bad[0]} follows from q and k, and its scores or pattern are changed.")
    from_qk = {(site, at) for site, at in wanted if at not in changed and not grad and _from_qk(model, site, at)}
    partial = positions is not None or heads is not None
    if partial and (whole := sorted(site for site, _ in from_qk if site not in ("q", "k"))):
        raise InputError(f"{whole[0]!r} needs all positions and heads; leave `positions` and `heads` out.")
    return Recorder(
        wanted if partial else wanted - from_qk,
        frozenset(layer for _, layer in from_qk if layer is not None and not partial),
        batch.lengths,
        positions=None if positions is None else _positions(batch, positions),
        heads=None if heads is None else _heads(model, heads),
        grad=grad,
    )


def _wanted(model: Model, sites: Iterable[str | Site], layers: Sequence[int] | None) -> frozenset[Site]:
    """Names as sites with layers, after checking that the model has them."""
    depth = range(model.n_layers)
    chosen = list(depth) if layers is None else [layer_number(model, layer) for layer in layers]
    wanted: set[Site] = set()
    for name in sites:
        if str(name).endswith(("attn.hook_q", "attn.hook_k")) and getattr(model.config, "rope_parameters", None):
            raise InputError(
                f"{name!r} is before the rotary embedding of {model.name}; here q and k are what enters the product,"
                f" after it: 'q', or {str(name).replace('hook_', 'hook_rot_')!r}."
            )
        for site, layer in [name] if isinstance(name, tuple) else parse_site(name):
            if layer is not None:
                number = layer_number(model, layer)
                wanted.update((site, each) for each in _with_site(model, site, [number], explicit=True))
            elif site in LAYERLESS:
                wanted.update((site, None) for _ in _with_site(model, site, [0], explicit=True))
            else:
                wanted.update((site, each) for each in _with_site(model, site, chosen, explicit=layers is not None))
    return frozenset(wanted)


def _with_site(model: Model, site: str, layers: Sequence[int], explicit: bool) -> list[int]:
    """Those of the layers that have a site; an error if none has, or if one was named that has not."""
    if site in _EVERYWHERE or site in _OF_ATTENTION:
        return list(layers)  # whether there is attention is seen in the pass
    if site == "ln_final_scale":
        if model.anatomy.ln_final is None:
            raise InputError(f"{model.name} has no norm before its unembedding, so no {site!r}.")
        return list(layers)
    reasons = {layer: lacks(model.anatomy.parts[layer], site) for layer in layers}
    have = [layer for layer, reason in reasons.items() if reason is None]
    if not have or (explicit and len(have) < len(layers)):
        layer, reason = next((layer, reason) for layer, reason in reasons.items() if reason)
        raise InputError(f"Layer {layer} of {model.name} has no {site!r}: {reason}")
    return have


def check_site(model: Model, site: str, layer: int | None) -> None:
    """Raise InputError if the model has no such site or layer."""
    if layer is not None:
        layer_number(model, layer)
        if site in ("resid_pre", "resid_post"):
            return
        if (reason := lacks(model.anatomy.parts[layer], site)) is not None:
            raise InputError(f"Layer {layer} of {model.name} has no {site!r}: {reason}")


def _from_qk(model: Model, site: str, layer: int | None) -> bool:
    """Whether a site is computed from q and k later. Patterns are heard where the model has attention of its own."""
    if site not in FROM_QK or layer is None:
        return False
    return site in ("q", "k", "lse") or model.anatomy.parts[layer].interface


def layer_number(model: Model, layer: int) -> int:
    """A layer's number from 0, also from one that counts from the end."""
    depth = range(model.n_layers)
    try:
        return depth[layer]
    except (IndexError, TypeError):
        raise InputError(f"There is no layer {layer!r}; there are {len(depth)}, numbered from 0.") from None


def _positions(batch: Batch, positions: int | Sequence[int]) -> Tensor:
    wanted = [positions] if isinstance(positions, int) else list(positions)
    for prompt, length in enumerate(batch.lengths):
        if wrong := [pos for pos in wanted if not -length <= pos < length]:
            raise InputError(f"Prompt {prompt} has {length} positions, numbered from 0; there is no {wrong[0]}.")
    return torch.tensor([[pos % length for pos in wanted] for length in batch.lengths])


def _heads(model: Model, heads: int | Sequence[int]) -> Tensor:
    wanted = [heads] if isinstance(heads, int) else list(heads)
    count = model.n_heads or 0
    if wrong := [head for head in wanted if not -count <= head < count]:
        raise InputError(f"There is no head {wrong[0]}; {model.name} has {count} per layer, numbered from 0.")
    return torch.tensor([head % count for head in wanted])


def forward(
    model: Model, batch: Batch, tape: Tape, *, logits: bool, grad: bool = False, keep: Tensor | None = None
) -> Tensor | None:
    """One forward pass onto the tape. The logits are returned if they are wanted, else not computed.

    `keep` are the positions whose logits are wanted, of all of them if None: [batch, position, vocabulary].
    """
    entry = model.module if logits else model.anatomy.base
    known = inspect.signature(entry.forward).parameters
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in known else {}
    if keep is not None and (kept := "logits_to_keep" in known):
        options["logits_to_keep"] = keep
    with listening(model.module, model.anatomy, tape), nullcontext() if grad else torch.no_grad():
        output = entry(**batch.inputs, **options)
    if not logits:
        return None
    found: Tensor = output.logits
    return found[:, keep] if keep is not None and not kept else found


def check_numbers(model: Model, batch: Batch, tape: Recorder, logits: Tensor | None) -> None:
    """Refuse NaN and infinity. The fast attention kernels swallow NaN in q and k, so the ends alone do not show it."""
    if tape.last is not None:
        check_rows(model, batch, tape.last)
    real = batch.inputs.get("attention_mask")
    ends = [end if real is None else end[real.bool().to(end.device)] for end in (tape.last, logits) if end is not None]
    heads = [part for layer in tape.attention.values() for part in (layer.q, layer.k)]
    # A sum is not finite if one of its terms is not, and takes no second array to find out.
    if all(bool(part.detach().sum(dtype=torch.float32).isfinite()) for part in (*ends, *heads)):
        return
    if bad := [name for name, weight in model.module.named_parameters() if not bool(torch.isfinite(weight).all())]:
        raise InputError(f"{model.name} has NaN or infinite numbers in its weight {bad[0]!r}.")
    raise InputError(f"{model.name} computes NaN or infinite numbers{_first_bad(model, batch)}.")


def check_rows(model: Model, batch: Batch, stream: Tensor) -> None:
    """Refuse a model whose blocks do not work on one row for each token."""
    shape = batch.inputs["input_ids"].shape
    if stream.shape[:2] != shape:
        raise InputError(
            f"The blocks of {model.name} work on {list(stream.shape[:2])} rows where the prompts have {list(shape)} "
            "tokens: what is at which position cannot be told."
        )


def _first_bad(model: Model, batch: Batch) -> str:
    """The first site that is not finite, as part of a sentence; found by a second pass that keeps them all."""
    depth = range(model.n_layers)
    order = ("resid_pre", "q", "k", "resid_post")
    tape = Recorder(frozenset((site, layer) for layer in depth for site in order), lengths=batch.lengths)
    forward(model, batch, tape, logits=False)
    for layer in depth:
        for site in order:
            value = tape.values.get((site, layer))
            if value is not None and not bool(torch.isfinite(value).all()):
                return f", first at {site!r} of layer {layer}"
    return ""
