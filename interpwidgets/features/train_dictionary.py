"""Train a sparse dictionary of one site of a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpwidgets.errors import InputError
from interpwidgets.features.contexts import cut_corpus
from interpwidgets.features.corpus import Corpus
from interpwidgets.features.files import writable
from interpwidgets.features.stream import Stream
from interpwidgets.models.corpora import load_corpus
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.sites import SITES
from interpwidgets.models.training import sparse
from interpwidgets.models.training.loop import Task, train
from interpwidgets.models.training.optimiser import Optimiser

__all__ = ["train_dictionary"]

_BUFFER = 1 << 15  # tokens shuffled together
_HELD_OUT = 64  # contexts at most that are kept for the figures of the log
_CONTEXTS = 8000  # of a shipped model's corpus: a million tokens
_KEPT = 200  # steps between two checkpoints
_PENALTIES = {"l1": 0.015, "jumprelu": 0.01}


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on, but for the model and the corpus."""

    site: str
    layer: int | None
    kind: sparse.Trainer
    width: int
    k: int
    steps: int
    batch: int
    context: int
    penalty: float
    rate: float
    warm_up: int
    seed: int


def train_dictionary(
    model: Model | Any,
    corpus: Any = None,
    *,
    site: tuple[str, int | None] = ("resid_post", 2),
    kind: sparse.Trainer = "topk",
    width: int = 2048,
    k: int = 32,
    steps: int = 1000,
    batch: int = 1024,
    context: int = 128,
    penalty: float | None = None,
    rate: float | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
) -> Dictionary:
    """Train a dictionary of `width` features on what a model has at a site, over `steps` batches of tokens.

    >>> sae = train_dictionary(model, corpus, site=("resid_post", 2), kind="topk", width=2048, k=32)
    >>> sae = train_dictionary(model, corpus, folder="my-sae")       # load_dictionary("my-sae") reads it again

    Kinds are "topk" (Gao et al. 2024) and "batchtopk" (Bussmann et al. 2024), with `k` features a token and a loss
    that revives dead ones; "jumprelu" (Rajamanoharan et al. 2024) and "l1" (Bricken et al. 2023), with a `penalty` for
    each active feature, or each unit of activation, as a share of the variance. The rate rises over a twentieth of the
    steps and falls as a cosine; unless it is given, it is 0.002 √(512 / width).

    The corpus is what `FeatureStore.build` takes; of a shipped model, by default, text as it was trained on
    (`load_corpus`). Contexts of at most `context` tokens are shuffled by the seed, and
    gone through as often as steps ask for; of them, one in twenty, up to 64, is held out. With a `folder`, checkpoints
    are written there, a run that was stopped goes on from the last one to the same weights as without the stop, and
    the dictionary is written in SAELens' layout; resume=False starts anew. Raises InputError for a site that the model
    does not have, settings that cannot be, a corpus of less than one batch, or a folder that cannot be written.
    """
    model = as_model(model)
    name, layer = site
    if name not in SITES:
        raise InputError(f"There is no site {name!r}. There are: {', '.join(SITES)}.")
    if kind not in sparse.KINDS:
        raise InputError(f"There is no kind {kind!r} to train. There are: {', '.join(sparse.KINDS)}.")
    for what, number in {"width": width, "k": k, "steps": steps, "batch": batch, "context": context}.items():
        if not isinstance(number, int) or number < 1:
            raise InputError(f"{what} is a whole number above zero; got {number!r}.")
    if kind in ("topk", "batchtopk") and k > width:
        raise InputError(f"Of {width} features, no {k} can be active: choose a smaller k.")
    recipe = Recipe(
        site=name, layer=layer, kind=kind, width=width, k=k, steps=steps, batch=batch, context=context,
        penalty=_PENALTIES.get(kind, 0.0) if penalty is None else float(penalty),
        rate=0.002 * (512 / width) ** 0.5 if rate is None else float(rate),
        warm_up=max(1, steps // 20), seed=seed,
    )  # fmt: skip
    if corpus is None:
        corpus = load_corpus(model.name, contexts=_CONTEXTS, length=min(context, 128), side="train", seed=seed)
    draft = _new(recipe, model, _width(model, name, layer))
    with _folder(folder) as out, cut_corpus(corpus, model, draft, context) as (cut, found), writable(out):
        task = Training(recipe, model, draft, cut, found.sha256)
        if not resume:
            shutil.rmtree(task.folder(out), ignore_errors=True)
        train(task, out, progress=progress)
        one = task.finished()
        if folder is not None:
            one.save(out)
    return one


@contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    """The folder of a run; one that lasts as long as the training if none is given."""
    if given is not None:
        yield Path(given).expanduser()
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _width(model: Model, site: str, layer: int | None) -> int:
    """How wide what is read is."""
    probe = Dictionary(1, 1, kind="relu", site=site, layer=layer)
    (found,) = probe.found_in(model, probe.reads)
    return found


def _new(recipe: Recipe, model: Model, d_in: int) -> Dictionary:
    bos = getattr(model.tokenizer, "bos_token_id", None)
    metadata = {"context_size": recipe.context, "prepend_bos": bos is not None}
    return Dictionary(
        d_in, recipe.width, kind=sparse.KINDS[recipe.kind], k=recipe.k, site=recipe.site, layer=recipe.layer,
        model=model.name, metadata=metadata,
    )  # fmt: skip


class _Config:
    """What stands beside a checkpoint's weights."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def to_json_string(self) -> str:
        """Write it as JSON."""
        return json.dumps({"model_type": "interpwidgets.Dictionary", **asdict(self.recipe)}, indent=2) + "\n"


class _Learner(nn.Module):
    """A dictionary that learns, on scaled activations, and what is counted meanwhile."""

    def __init__(self, recipe: Recipe, one: Dictionary) -> None:
        super().__init__()
        self.config = _Config(recipe)
        self.one = one
        self.scales = nn.Buffer(torch.ones(2))
        self.idle = nn.Buffer(torch.zeros(recipe.width))


class Training(Task):
    """A recipe at work on a model and a corpus."""

    system = "dictionary"
    recipe: Recipe

    def __init__(self, recipe: Recipe, model: Model, one: Dictionary, corpus: Corpus, sha256: str) -> None:
        self.recipe, self.source, self.corpus, self.sha256 = recipe, model, corpus, sha256
        order = np.random.default_rng(recipe.seed).permutation(len(corpus))
        held_out = min(_HELD_OUT, len(order) // 20)
        sites, rows = [*one.reads], {"seed": recipe.seed, "buffer": _BUFFER}
        self.stream = Stream(model, corpus, sites, batch=recipe.batch, which=np.sort(order[held_out:]), **rows)
        rest = np.sort(order[:held_out])
        size = min(recipe.batch, int(self.stream.counted[rest].sum()))
        self.test = Stream(model, corpus, sites, batch=size, which=rest, **rows) if size else self.stream
        self.how = sparse.Learning(recipe.kind, recipe.steps, recipe.k, recipe.penalty)
        self.model = _Learner(recipe, one).to(model.device)
        x = self.stream(0)[one.reads[0]]
        generator = torch.Generator().manual_seed(recipe.seed)
        self.model.scales.copy_(sparse.begin(one, self.how, x, x, generator))
        self.optimiser = Optimiser(
            self.model, recipe.steps, rate=recipe.rate, warm_up=recipe.warm_up, betas=(0.9, 0.999)
        )

    def folder(self, out: Path) -> Path:
        """Where `train` keeps the run."""
        return out / f"{self.system}-seed-{self.recipe.seed}-{self.about()['run']}"

    def identity(self) -> Any:
        """Give the recipe, the weights of the model, and the tokens."""
        return [asdict(self.recipe), self.source.fingerprint, self.sha256]

    def loss(self, number: int) -> Tensor:
        """Give the loss on one batch."""
        learner = self.model
        x = self.stream(number)[learner.one.reads[0]] / learner.scales[0]
        return sparse.learn(learner.one, self.how, number, x, x, learner.idle)

    def keeps(self, step: int) -> bool:
        """Keep a state now and then, to go on from."""
        return step % _KEPT == 0

    def line(self) -> dict[str, float]:
        """Give, on held-out text, the share of variance left unexplained and active features a token."""
        one = self.finished()
        x = self.test(0)[one.reads[0]]
        features = one.encode(x)
        left = (x - one.decode(features)).square().sum() / (x - x.mean(0)).square().sum()
        dead = (self.model.idle >= self.how.patience).float().mean()
        return {"fvu": float(left), "l0": float((features > 0).sum(-1).float().mean()), "dead": float(dead)}

    def finished(self) -> Dictionary:
        """Give the dictionary as it is now, for activations as the model has them."""
        given = _new(self.recipe, self.source, self.model.one.d_in).to(self.source.device)
        about = {"model_fingerprint": self.source.fingerprint, "run": self.about()["run"]}
        given.metadata |= about | {"steps": self.recipe.steps, "seed": self.recipe.seed}
        return sparse.ship(self.model.one, given, self.model.scales)
