"""Train the dictionaries of `storyteller-4l`, side by side on the same activations, and one of an untrained model.

- TopK, with a loss that revives dead features (Gao et al. 2024)
- JumpReLU, with a straight-through penalty on the number of active features (Rajamanoharan et al. 2024)
- L1: ReLU, with a penalty on activations along directions of length one (Bricken et al. 2023)

While they are trained, activations are divided by their root mean square; the factor is folded into the weights
afterwards. Losses are shares of the variance that is left unexplained.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.load import load
from interpwidgets.models.model import Model
from interpwidgets.models.splice import read
from interpwidgets.models.train import storyteller
from interpwidgets.models.train.loop import Task
from interpwidgets.models.train.optimiser import Optimiser

if TYPE_CHECKING:
    from pathlib import Path

    from interpwidgets.models.dictionary import Kind
    from interpwidgets.models.sites import Site
    from interpwidgets.models.train.corpus import Side
    from interpwidgets.models.train.runs import Run

__all__ = ["NAME", "Bundle", "Dictionaries", "Part", "Recipe", "assemble", "parts", "untrained"]

NAME = "storyteller-4l-sae"

Activations = dict[bool, dict["Site", Tensor]]  # of the trained model and the untrained one, by site: [token, d]


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on, but for the model that is read."""

    seed: int = 0
    steps: int = 500
    layer: int = 1
    width: int = 128
    features: int = 512
    k: int = 16
    rows: int = 9
    length: int = 128
    repeats: float = 0.2
    rate: float = 0.002
    warm_up: int = 50
    # For each feature active on a token, and for each unit of activation, so much of the variance.
    l0: float = 0.01
    l0_transcoder: float = 0.003
    l1: float = 0.015
    bandwidth: float = 0.3
    threshold: float = 0.5
    # Features that were not active for so many steps are dead; so many of them are asked to explain the error.
    patience: int = 40
    revived: int = 64
    revival: float = 1 / 32


class Part(NamedTuple):
    """One dictionary of the bundle: how it is trained, what it reads and writes, and of which model."""

    name: str
    trainer: Literal["topk", "jumprelu", "l1"]
    reads: Site
    writes: Site
    trained: bool = True

    @property
    def kind(self) -> Kind:
        """The kind of dictionary that comes of it."""
        return "relu" if self.trainer == "l1" else self.trainer


def parts(recipe: Recipe) -> list[Part]:
    """List the dictionaries of the bundle, the main one first."""
    at = recipe.layer
    stream, out, mid = ("resid_post", at), ("mlp_out", at), ("resid_mid", at)
    return [
        Part(f"resid_post.{at}.topk", "topk", stream, stream),
        Part(f"resid_post.{at}.jumprelu", "jumprelu", stream, stream),
        Part(f"resid_post.{at}.l1", "l1", stream, stream),
        Part(f"mlp_out.{at}.topk", "topk", out, out),
        Part(f"transcoder.{at}", "jumprelu", mid, out),
        Part(f"untrained.resid_post.{at}.topk", "topk", stream, stream, trained=False),
    ]


def untrained(seed: int = 0) -> Model:
    """Build a model of the same make as `storyteller-4l`, as it is before training."""
    return Model(storyteller.new_model(storyteller.Recipe(seed=seed)).eval(), name=f"{storyteller.NAME} untrained")


class _Step(torch.autograd.Function):
    """What passes a threshold: the value, or one for each that does. To the threshold goes the gradient of a box."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor, bandwidth: float, value: bool) -> Tensor:
        ctx.save_for_backward(before, threshold)
        ctx.bandwidth, ctx.value = bandwidth, value
        above = (before > threshold).to(before.dtype)
        return before.relu() * above if value else above

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        before, threshold = ctx.saved_tensors
        (gradient,) = gradients
        near = ((before - threshold).abs() < ctx.bandwidth / 2) * gradient / ctx.bandwidth
        to_threshold = -(near * threshold if ctx.value else near).sum(0)
        to_value = gradient * (before > threshold.clamp(min=0)) if ctx.value else None
        return to_value, to_threshold, None, None


class _Config(NamedTuple):
    """What stands in `config.json` of the bundle."""

    names: list[str]

    def to_json_string(self) -> str:
        """Write it as JSON."""
        return json.dumps({"model_type": "interpwidgets.Dictionary", "dictionaries": self.names}, indent=2) + "\n"


class Bundle(nn.Module):
    """Dictionaries that are trained side by side."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.parts = parts(recipe)
        self.config = _Config([part.name for part in self.parts])
        self.dictionaries = nn.ModuleList([self._new(part) for part in self.parts])
        self.scales = nn.Buffer(torch.ones(len(self.parts), 2))  # root mean square of what is read, and written
        self.idle = nn.Buffer(torch.zeros(len(self.parts), recipe.features))  # steps since a feature was active

    def _new(self, part: Part) -> Dictionary:
        return Dictionary(
            self.recipe.width,
            self.recipe.features,
            kind=part.kind,
            k=self.recipe.k,
            site=part.reads[0],
            layer=part.reads[1],
            site_out=part.writes[0],
            layer_out=part.writes[1],
            model=storyteller.NAME if part.trained else f"{storyteller.NAME} untrained",
        )

    @torch.no_grad()
    def begin(self, examples: Activations) -> None:
        """Draw the first weights, and set scales and biases by some activations."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        for index, (part, one) in enumerate(zip(self.parts, self.dictionaries, strict=True)):
            assert isinstance(one, Dictionary)
            x, y = examples[part.trained][part.reads], examples[part.trained][part.writes]
            self.scales[index] = torch.stack([x.square().mean().sqrt(), y.square().mean().sqrt()])
            into, outof = self.scales[index]
            one.W_dec.copy_(F.normalize(torch.randn(one.W_dec.shape, generator=generator), dim=1))
            one.W_enc.copy_(one.W_dec.T)
            one.b_dec.copy_(y.mean(0) / outof)
            if one.transcoder:  # what it reads has nothing to do with what it writes
                one.W_enc.copy_(F.normalize(torch.randn(one.W_enc.shape, generator=generator), dim=0))
                one.b_enc.copy_(-(x.mean(0) / into) @ one.W_enc)
            if part.trainer == "jumprelu":
                one.threshold.fill_(self.recipe.threshold)

    def loss(self, found: Activations, number: int) -> Tensor:
        """Add up the losses of all dictionaries at step `number`; they share no weight, so each learns as if alone."""
        return torch.stack([self._loss(index, found, number) for index in range(len(self.parts))]).sum()

    def _loss(self, index: int, found: Activations, number: int) -> Tensor:
        r, part, one = self.recipe, self.parts[index], self.dictionaries[index]
        assert isinstance(one, Dictionary)
        into, outof = self.scales[index]
        x, y = found[part.trained][part.reads] / into, found[part.trained][part.writes] / outof
        directions = F.normalize(one.W_dec, dim=1)
        variance = (y - y.mean(0)).square().sum(-1).mean()
        before = one.before(x)
        ramp = min(1.0, 4 * (number + 1) / r.steps)
        penalty: Tensor | float = 0.0
        if part.trainer == "jumprelu":
            features: Tensor = _Step.apply(before, one.threshold, r.bandwidth, True)  # type: ignore[no-untyped-call]
            active: Tensor = _Step.apply(before, one.threshold, r.bandwidth, False)  # type: ignore[no-untyped-call]
            penalty = ramp * (r.l0_transcoder if one.transcoder else r.l0) * active.sum(-1).mean()
        else:
            features = one.active(before)
        if part.trainer == "l1":
            penalty = ramp * r.l1 * features.sum(-1).mean()
        error = y - features @ directions - one.b_dec
        if part.trainer == "topk":
            penalty = self._revival(index, before, error.detach(), directions) / variance
        with torch.no_grad():
            self.idle[index] = (self.idle[index] + 1) * ~(features > 0).any(0)
        unexplained: Tensor = error.square().sum(-1).mean() / variance
        return unexplained + penalty

    def _revival(self, index: int, before: Tensor, error: Tensor, directions: Tensor) -> Tensor:
        """What is left of the error when dead features explain as much of it as they can."""
        dead = self.idle[index] >= self.recipe.patience
        if not (count := int(dead.sum())):
            return torch.zeros(())
        values, which = before[:, dead].topk(min(self.recipe.revived, count), dim=-1)
        features = torch.zeros(len(before), count).scatter(-1, which, values.relu())
        left: Tensor = (error - features @ directions[dead]).square().sum(-1).mean()
        return left * self.recipe.revival

    @torch.no_grad()
    def finished(self, index: int) -> Dictionary:
        """Give a dictionary as it is shipped: for activations as the model has them, with directions of length one."""
        part, one = self.parts[index], self.dictionaries[index]
        assert isinstance(one, Dictionary)
        into, outof = self.scales[index]
        given = self._new(part)
        given.metadata = {"activation_scale": float(into), "context_size": self.recipe.length, "prepend_bos": True}
        given.W_enc.copy_(one.W_enc * (outof / into))
        given.W_dec.copy_(F.normalize(one.W_dec, dim=1))
        given.b_enc.copy_(one.b_enc * outof)
        given.b_dec.copy_(one.b_dec * outof)
        if part.trainer == "jumprelu":
            given.threshold.copy_(one.threshold * outof)
        return given.requires_grad_(False).eval()


class Dictionaries(Task):
    """Every dictionary of the bundle, each reconstructing its site from few features."""

    system = NAME

    def __init__(self, recipe: Recipe, model: Model | None = None) -> None:
        self.recipe = recipe
        self.sources = {True: model or load(storyteller.NAME), False: untrained()}
        self.model = Bundle(recipe)
        self.model.begin(self.activations(-1))
        self.optimiser = Optimiser(
            self.model, recipe.steps, rate=recipe.rate, warm_up=recipe.warm_up, betas=(0.9, 0.999)
        )

    def activations(self, number: int, side: Side = "train") -> Activations:
        """Read the activations of one batch in both models, without those of `<bos>`, which are like no other."""
        r = self.recipe
        # Batches of other seeds than those that the model was trained on.
        tokens = torch.tensor(storyteller.batch(10_000 + r.seed, number, r.rows, r.length, r.repeats, side))
        found: Activations = {}
        for trained, model in self.sources.items():
            sites = {site for part in self.model.parts if part.trained == trained for site in (part.reads, part.writes)}
            found[trained] = {site: x[:, 1:].flatten(0, 1) for site, x in read(model, tokens, sites).items()}
        return found

    def identity(self) -> Any:
        """Give the recipe, the dictionaries, and the weights of the model that is read."""
        weights = hashlib.sha256()
        for weight in self.sources[True].module.parameters():
            weights.update(weight.detach().float().numpy().tobytes())
        return [asdict(self.recipe), self.model.parts, weights.hexdigest()]

    def loss(self, number: int) -> Tensor:
        """Give the loss of all dictionaries on one batch."""
        bundle: Bundle = self.model
        return bundle.loss(self.activations(number), number)

    def keeps(self, step: int) -> bool:
        """Keep a state now and then, to go on from."""
        return step % 200 == 0

    def line(self) -> dict[str, float]:
        """Give, of each on held-out text, the share of variance left unexplained and the number of active features."""
        found = self.activations(-2, "heldout")
        line: dict[str, float] = {}
        for index, part in enumerate(self.model.parts):
            one = self.model.finished(index)
            y = found[part.trained][part.writes]
            features = one.encode(found[part.trained][part.reads])
            left = (y - one.decode(features)).square().sum() / (y - y.mean(0)).square().sum()
            line |= {f"{part.name}.fvu": float(left), f"{part.name}.l0": float((features > 0).sum(-1).float().mean())}
        return line


def assemble(run: Run, folder: Path) -> None:
    """Write the dictionaries of a finished run as they are shipped: a folder each, in half precision."""
    bundle = Bundle(Recipe(**run.about["recipe"]))
    weights = {name[6:]: weight for name, weight in run.load_state().items() if name.startswith("model.")}
    bundle.load_state_dict(weights)
    read_from = load(storyteller.NAME).fingerprint
    for index, part in enumerate(bundle.parts):
        one = bundle.finished(index)
        one.metadata |= {"model_fingerprint": read_from} if part.trained else {}
        one.save(folder / part.name, torch.float16)
    (folder / "config.json").write_text(bundle.config.to_json_string())
