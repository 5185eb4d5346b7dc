"""What a feature reads from and writes to, by weights alone: which parts of the model its directions meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.features.logits import folding
from interpwidgets.features.readers import Readers
from interpwidgets.features.writers import Writers
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model

__all__ = ["Connection", "Connections", "Ranked", "VirtualWeights"]

Kind = Literal["token", "head", "neuron", "feature", "logit"]

_STREAM = ("embed", "resid_pre", "resid_mid", "resid_post")


@dataclass(frozen=True)
class Connection:
    """A virtual weight between a feature and a part of the model.

    `number` is the head's, the neuron's or the feature's, or the id of a token; of heads that share keys and values,
    the first. `via` is the q, k or v by which a head reads. `weight` is per unit: of a head the length of a vector,
    which has no sign. `cosine` is the same for directions of length one.
    """

    kind: Kind
    layer: int | None
    number: int
    weight: float
    cosine: float
    via: str = ""

    @property
    def name(self) -> str:
        """Which part it is: L2H1 by v, L0 neuron 45, feature 31, token 7."""
        if self.kind == "head":
            return f"L{self.layer}H{self.number}{f' by {self.via}' if self.via else ''}"
        return f"L{self.layer} neuron {self.number}" if self.kind == "neuron" else f"{self.kind} {self.number}"


@dataclass(frozen=True)
class Ranked:
    """The strongest connections of one kind, of `count`.

    `chance` is what to hold them against: the |cosine| that the largest of as many random directions has, half of the
    time. Of a head, whose cosine is a mean over directions already, it is the root mean square.
    """

    kind: Kind
    count: int
    chance: float
    top: tuple[Connection, ...]


@dataclass(frozen=True, repr=False)
class Connections:
    """What a feature reads from and writes to, kind by kind. `untold` says which parts are not in it, and why."""

    feature: int
    reads: tuple[Ranked, ...]
    writes: tuple[Ranked, ...]
    untold: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [f"feature {self.feature}, by weights: a hypothesis"]
        for title, some in (("reads from", self.reads), ("writes to", self.writes)):
            lines.append(f"{title:<22}{'weight':>10}{'cosine':>9}")
            for each in some:
                lines += [f"  {one.name:<20}{one.weight:>10.3g}{one.cosine:>9.2f}" for one in each.top]
                lines.append(f"  of {each.count:,}; the largest of as many at random: {each.chance:.2f}")
        return "\n".join([*lines, *self.untold])


@dataclass(frozen=True)
class _Weights:
    """All of one kind in a layer: weights [n] and cosines [n]; the i-th is number `step` × i, but for one skipped."""

    kind: Kind
    layer: int | None
    weight: Tensor
    cosine: Tensor
    via: str = ""
    step: int = 1
    skipped: int | None = None

    def top(self, count: int) -> list[Connection]:
        """Those with the largest |cosine|; none of a part that is all zeros."""
        cosine = self.cosine.nan_to_num(0)
        largest = cosine.abs().topk(min(count, len(cosine))).indices.tolist()
        return [
            Connection(self.kind, self.layer, self._number(i), float(self.weight[i]), float(cosine[i]), self.via)
            for i in largest
            if cosine[i] != 0
        ]

    def _number(self, i: int) -> int:
        return self.step * i + (self.skipped is not None and i >= self.skipped)


class VirtualWeights:
    """How much the features of a dictionary read what each part of a model writes, and each part what they write.

    >>> VirtualWeights(model, sae).of(344)

    The stream is a sum, so that what an encoder direction e [d_model] gets from a part is linear in what the part
    wrote: a neuron's activation × (row of W_out) · e, a head's z · (W_O e), a token's embedding · e, and of another
    feature at the same place its activation × (decoder direction) · e. A decoder direction d [d_model] in turn moves
    the input of a later neuron by d · (column of W_in) a unit, a head's q, k and v by d W_Q, d W_K and d W_V, a logit
    by d · (column of W_U), and another feature at the same place by d · (encoder direction): Elhage et al. 2021, "A
    Mathematical Framework for Transformer Circuits" (virtual weights, composition), and for features Dunefsky et al.
    2024, "Transcoders Find Interpretable LLM Feature Circuits" (input-independent connections).

    **Norms.** Of a norm between two ends, its weight and its centring are in the numbers. Its division by the scale,
    another one at every token, is not: numbers are those of a stream whose mean square is 1. A dictionary that
    normalises counts in the same way.

    **Cosines** make parts comparable: the weight over the lengths of both directions; of a head ‖W e‖ / (‖W‖ ‖e‖) with
    the Frobenius norm, which has no sign. They do not know how active a part is, where a head looks, or what layers in
    between do: a connection is a hypothesis, and ablation is evidence.

    Raises InputError for a dictionary that is not of this model, or that reads or writes several layers.
    """

    def __init__(self, model: Model, dictionary: Dictionary) -> None:
        self.model, self.dictionary = as_model(model), dictionary
        dictionary.check(self.model)
        if len(dictionary.reads) > 1 or len(dictionary.writes) > 1:
            raise InputError(
                f"{dictionary!r} reads or writes several layers: a feature of it has a direction in each. Connections "
                "are told of dictionaries that read one place and write one."
            )
        self.untold: dict[str, str] = {}
        self._readers, self._writers = Readers(self.model), Writers(self.model)
        self._unembed = self._to_logits()

    @torch.no_grad()
    def of(self, feature: int, top: int = 4) -> Connections:
        """The `top` strongest connections of each kind; InputError for a feature that there is not."""
        if not 0 <= feature < self.dictionary.d_dict:
            raise InputError(f"There is no feature {feature}; there are {self.dictionary.d_dict}, numbered from 0.")
        reads, writes = (self._ranked(some, top) for some in (self._reads(feature), self._writes(feature)))
        untold = {**self._writers.untold, **self._readers.untold, **self.untold}
        said = tuple(f"Not told: {what}; {why}" for what, why in untold.items())
        return Connections(feature, reads, writes, said)

    def _ranked(self, some: Iterable[_Weights], top: int) -> tuple[Ranked, ...]:
        """Of each kind, the connections with the largest |cosine|."""
        kinds: dict[Kind, list[_Weights]] = {}
        for each in some:
            kinds.setdefault(each.kind, []).append(each)
        found = []
        for kind, parts in kinds.items():
            count = sum(len(each.weight) for each in parts)
            ones = sorted((one for each in parts for one in each.top(top)), key=lambda one: -abs(one.cosine))
            largest = 1.0 if kind == "head" else NormalDist().inv_cdf((1 + 0.5 ** (1 / count)) / 2)
            found.append(Ranked(kind, count, largest * self.model.d_model**-0.5, tuple(ones[:top])))
        return tuple(found)

    def _reads(self, feature: int) -> Iterator[_Weights]:
        """What is written before the dictionary reads, along its encoder direction."""
        (site, layer), e = self.dictionary.reads[0], self._encoder(feature)
        if e is None:
            return
        if site in _STREAM and self._writers.tokens:
            yield _dots("token", None, self.model.anatomy.embed.weight, e)
        for at in self._writers.heads:
            if _written_before("head", at, site, layer):
                w_o = self._writers.w_o(at)  # [head, d_head, d_model]
                weight = (w_o @ e).norm(dim=-1)
                yield _Weights("head", at, weight, weight / (w_o.flatten(1).norm(dim=-1) * e.norm()))
        for at in self._writers.neurons:
            if _written_before("neuron", at, site, layer):
                yield _dots("neuron", at, self._writers.w_out(at), e)
        if self._same_place:
            yield self._but(feature, _dots("feature", None, self.dictionary.W_dec, e))

    def _writes(self, feature: int) -> Iterator[_Weights]:
        """What reads after the dictionary writes, along its decoder direction."""
        (site, layer), d = self.dictionary.writes[0], self._decoder(feature)
        if d is None:
            return
        for (what, at), value in self._readers(d[None]).items():
            assert at is not None
            part = self.model.anatomy.parts[at]
            if not _read_after(part.kind, what, at, site, layer):
                continue
            lengths = self._readers.lengths[what, at] * d.norm()
            if what == "mlp_pre":
                yield _Weights("neuron", at, value[0], value[0] / lengths)
            else:
                weight = value[0].norm(dim=-1)
                yield _Weights("head", at, weight, weight / lengths, what, step=(part.heads or 1) // len(weight))
        if self._unembed is not None:
            yield _dots("logit", None, self._unembed, d)
        if self._same_place and self.dictionary.kind != "wrapped":
            yield self._but(feature, _dots("feature", None, self._centred(self.dictionary.W_enc.float().T), d))

    def _encoder(self, feature: int) -> Tensor | None:
        """A feature's encoder direction [d_model], the norm of the dictionary folded in; None if it has none."""
        site = self.dictionary.site
        if self.dictionary.kind == "wrapped":
            self.untold["what it reads"] = "the dictionary is made of functions."
        elif site not in (*_STREAM, "attn_out", "mlp_out"):
            self.untold["what it reads"] = f"{site} is not a sum of what parts of the model write."
        else:
            return self._centred(self.dictionary.W_enc[:, feature].float().to(self.model.device))
        return None

    def _centred(self, e: Tensor) -> Tensor:
        return e - e.mean(-1, keepdim=True) if self.dictionary.normalise == "layer_norm" else e

    def _decoder(self, feature: int) -> Tensor | None:
        """What a feature writes to the stream a unit: [d_model]."""
        site, layer = self.dictionary.writes[0]
        d: Tensor = self.dictionary.W_dec[feature].float().to(self.model.device)
        if layer is not None and site == "z" and layer in self._writers.heads:
            return d @ self._writers.w_o(layer).flatten(0, 1)
        if layer is not None and site == "mlp_post" and layer in self._writers.neurons:
            return d @ self._writers.w_out(layer)
        if site in (*_STREAM, "attn_out", "mlp_out"):
            return d
        self.untold["what it writes"] = f"{site} does not go to the stream by weights alone."
        return None

    @property
    def _same_place(self) -> bool:
        """Whether its features meet each other: those of a transcoder read before they write."""
        return not self.dictionary.transcoder and self.dictionary.site in (*_STREAM, "attn_out", "mlp_out")

    def _but(self, feature: int, all_of: _Weights) -> _Weights:
        """Without the feature itself."""
        others = torch.arange(self.dictionary.d_dict, device=all_of.weight.device) != feature
        return _Weights("feature", None, all_of.weight[others], all_of.cosine[others], skipped=feature)

    @torch.no_grad()
    def _to_logits(self) -> Tensor | None:
        """What each token's logit reads of the last stream: [vocabulary, d_model]."""
        unembed, norm = self.model.anatomy.unembed, self.model.anatomy.ln_final
        if not isinstance(unembed, nn.Linear):
            self.untold["what the logits read"] = "they are no matrix times the stream."
            return None
        found = unembed.weight.float()
        if norm is None:
            return found
        weight, centres = folding(norm, found[0])
        found = found * weight
        return found - found.mean(-1, keepdim=True) if centres else found


def _dots(kind: Kind, layer: int | None, rows: Tensor, direction: Tensor) -> _Weights:
    """Inner products of rows [n, d_model] with a direction."""
    rows = rows.to(direction)
    weight = rows @ direction
    return _Weights(kind, layer, weight, weight / (rows.norm(dim=-1) * direction.norm()))


def _written_before(kind: Kind, at: int, site: str, layer: int | None) -> bool:
    """Whether what heads or neurons of layer `at` write is part of what stands at a site."""
    if layer is None:
        return False
    if site in ("attn_out", "mlp_out"):
        return at == layer and (kind == "head") == (site == "attn_out")
    return at < layer or (at == layer and (site == "resid_post" or (site == "resid_mid" and kind == "head")))


def _read_after(block: str, what: str, at: int, site: str, layer: int | None) -> bool:
    """Whether heads (by q, k, v) or neurons of layer `at` read what was written at a site."""
    if layer is None or site == "resid_pre":
        return at >= (layer or 0)
    early = site in ("resid_mid", "attn_out", "z") and block == "sequential"
    return at > layer or (at == layer and early and what == "mlp_pre")
