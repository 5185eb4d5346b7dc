"""The residual graph of a model: what writes to the stream, what reads from it, and who comes before whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from interpwidgets.circuit import CircuitNode
from interpwidgets.errors import InputError
from interpwidgets.intervene.direct import _check_blocks as check_blocks
from interpwidgets.intervene.direct import _close as close
from interpwidgets.intervene.paths import held_sites
from interpwidgets.models.model import Model
from interpwidgets.models.sites import Site
from interpwidgets.models.tape import lacks

__all__ = ["Link", "Reader", "Residual"]

Link = tuple[str, str, str]  # sender, receiver, by which input


@dataclass(frozen=True)
class Reader:
    """One input of one component: a head's q, k or v, an MLP's, or what the logits are read from."""

    node: str
    via: str
    layer: int  # as many as there are for the logits
    head: int | None = None


class Residual:
    """Senders and readers of one model.

    Raises InputError for a model whose stream is no sum of embedding, heads and MLPs.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.parts = model, model.anatomy.parts
        check_blocks(model)
        for layer, part in enumerate(self.parts):
            held_sites(model, layer, ("z", "mlp_out"))
            if part.attention is not None and (why := lacks(part, "z") or lacks(part, "q")):
                raise InputError(f"The heads of layer {layer} of {model.name} cannot be told apart: {why}")
        self.end: Site = ("resid_post", model.n_layers - 1)
        self.readers = list(self._readers())
        names = [reader.node for reader in self.readers if reader.node != "logits"]
        self.senders = {name: CircuitNode.of(name) for name in dict.fromkeys(["embed", *names])}

    def _readers(self) -> Iterator[Reader]:
        for layer, part in enumerate(self.parts):
            for head in range(part.heads or 0) if part.attention is not None else ():
                yield from (Reader(f"L{layer}H{head}", via, layer, head) for via in ("q", "k", "v"))
            if lacks(part, "mlp_out") is None:
                yield Reader(f"L{layer} mlp", "", layer)
        yield Reader("logits", "", self.model.n_layers)

    def before(self, reader: Reader) -> list[str]:
        """Whom a reader hears: what earlier layers write, and an MLP that comes after them its own layer's heads."""
        sequential = reader.node.endswith("mlp") and self.parts[reader.layer].kind == "sequential"
        return [
            name
            for name, node in self.senders.items()
            if node.layer is None or node.layer < reader.layer + (sequential and node.kind == "head")
        ]

    def place(self, reader: Reader) -> tuple[str, int] | tuple[str, int, int]:
        """A reader as a receiver of `path_patch`."""
        if reader.node == "logits":
            return "resid_post", reader.layer - 1
        return ("mlp_pre", reader.layer) if reader.head is None else (reader.via, reader.layer, reader.head)

    @property
    def links(self) -> list[Link]:
        """Every edge there can be."""
        return [(name, reader.node, reader.via) for reader in self.readers for name in self.before(reader)]

    @property
    def sites(self) -> list[Site]:
        """What to record: streams where they are read, and what is written to them."""
        found: list[Site] = [("resid_pre", layer) for layer in range(len(self.parts))]
        for layer, part in enumerate(self.parts):
            if part.attention is not None:
                found += [(site, layer) for site in ("q", "k", "v", "z", "attn_out")]
            found += [("mlp_out", layer)] if lacks(part, "mlp_out") is None else []
            found += [self.read(layer)] if self.read(layer)[0] == "resid_mid" else []
        return [*found, self.end]

    def read(self, layer: int) -> Site:
        """Where an MLP reads the stream: after its layer's attention, or beside it."""
        part = self.parts[layer]
        mid = part.kind == "sequential" and lacks(part, "resid_mid") is None
        return ("resid_mid" if mid else "resid_pre"), layer

    def written(self, values: Mapping[Site, Tensor], name: str) -> Tensor:
        """What a sender adds to the stream, but for constants: [batch, pos, d_model]."""
        node = self.senders[name]
        if node.layer is None:
            return values["resid_pre", 0].detach()
        if node.kind == "mlp":
            return values["mlp_out", node.layer].detach()
        write, number = self.parts[node.layer].attn_out, node.number
        assert write is not None
        assert number is not None
        z = values["z", node.layer].detach()[:, :, number]
        out: Tensor = write.scale * (z @ self.model.anatomy.w_o(node.layer)[number].detach().to(z))
        return out

    def check(self, values: Mapping[Site, Tensor]) -> None:
        """Refuse a model with a norm between its heads and the stream."""
        for layer, part in enumerate(self.parts):
            if part.attn_out is None or part.z is None:
                continue
            z, attn = values["z", layer].detach(), values["attn_out", layer].detach()
            if not close(part.z(z.flatten(-2)) * part.attn_out.scale, attn, self.model):
                raise InputError(
                    f"Between the heads and the stream of layer {layer} of {self.model.name} stands a norm: what one "
                    "head adds cannot be told apart. `path_patch` can send from each."
                )
