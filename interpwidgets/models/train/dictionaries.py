"""Train the dictionaries of `storyteller-4l`, side by side on the same activations, and one of an untrained model.

TopK, JumpReLU and L1, as `models/training/sparse.py` teaches them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.load import load
from interpwidgets.models.model import Model
from interpwidgets.models.splice import read
from interpwidgets.models.train import storyteller
from interpwidgets.models.training import sparse
from interpwidgets.models.training.loop import Task
from interpwidgets.models.training.optimiser import Optimiser

if TYPE_CHECKING:
    from pathlib import Path

    from interpwidgets.models.corpora.corpus import Side
    from interpwidgets.models.dictionary import Kind
    from interpwidgets.models.sites import Site
    from interpwidgets.models.training.runs import Run

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
        return sparse.KINDS[self.trainer]


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

    def begin(self, examples: Activations) -> None:
        """Draw the first weights, and set scales and biases by some activations."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        for index, (part, one) in enumerate(self._each()):
            x, y = (examples[part.trained][site] for site in (part.reads, part.writes))
            self.scales[index] = sparse.begin(one, self._how(part), x, y, generator)

    def loss(self, found: Activations, number: int) -> Tensor:
        """Add up the losses of all dictionaries at step `number`; they share no weight, so each learns as if alone."""
        losses = []
        for index, (part, one) in enumerate(self._each()):
            x, y = (
                found[part.trained][site] / scale
                for site, scale in zip((part.reads, part.writes), self.scales[index], strict=True)
            )
            losses.append(sparse.learn(one, self._how(part), number, x, y, self.idle[index]))
        return torch.stack(losses).sum()

    def finished(self, index: int) -> Dictionary:
        """Give a dictionary as it is shipped: for activations as the model has them, with directions of length one."""
        given, (_, one) = self._new(self.parts[index]), self._each()[index]
        given.metadata = {"activation_scale": 1.0, "context_size": self.recipe.length, "prepend_bos": True}
        return sparse.ship(one, given, self.scales[index])

    def _each(self) -> list[tuple[Part, Dictionary]]:
        return list(zip(self.parts, cast("list[Dictionary]", list(self.dictionaries)), strict=True))

    def _how(self, part: Part) -> sparse.Learning:
        r = self.recipe
        penalty = r.l1 if part.trainer == "l1" else r.l0 if part.reads == part.writes else r.l0_transcoder
        same = {name: getattr(r, name) for name in ("bandwidth", "threshold", "patience", "revived", "revival")}
        return sparse.Learning(part.trainer, r.steps, r.k, penalty, **same)


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
        tokens = torch.tensor(batch(10_000 + r.seed, number, r.rows, r.length, r.repeats, side))
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
