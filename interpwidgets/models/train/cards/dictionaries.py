"""Measure everything that the card of `storyteller-4l-sae` says, on fresh held-out text.

Which concept a feature stands for is chosen on one half of the text and scored on the other; what happens without the
feature is measured on a third. Controls are explained in the same way: random directions, the axes of the residual
stream, the neurons of the MLP, the features against other rows' labels, and the dictionary of an untrained model.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from interpwidgets.models.corpora.storybook import BRACKETS, TOKEN_ID
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.corpora.tasks import brackets
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.dictionary_files import dictionary_names, load_dictionary
from interpwidgets.models.load import load
from interpwidgets.models.scores import token_losses
from interpwidgets.models.splice import read, replaced
from interpwidgets.models.train import storyteller
from interpwidgets.models.train.card import measured_table, rounded
from interpwidgets.models.train.concepts import CLASSES, labelled
from interpwidgets.models.train.dictionaries import NAME, Dictionaries, Recipe, assemble, untrained
from interpwidgets.models.train.explain import Half, explained
from interpwidgets.models.train.system import System

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.model import Model
    from interpwidgets.models.sites import Site
    from interpwidgets.models.train.concepts import Labelled
    from interpwidgets.models.train.explain import Explained
    from interpwidgets.models.training.runs import Run

__all__ = ["MEASURES", "SYSTEM", "Text", "card_text", "controls", "load_bundle", "measure", "spliced"]

ROWS, LENGTH = 64, 128  # of each half of the labelled text
FIT_ROWS, CAUSAL_ROWS, QUESTIONS = 16, 20, 200
CLEAR = 0.7  # the F1 from which a feature is said to stand for a concept
POOR = 0.3  # below which no feature does

DICTIONARIES = {
    "topk": "TopK, residual stream",
    "jumprelu": "JumpReLU, residual stream",
    "l1": "L1, residual stream",
    "mlp": "TopK, MLP output",
    "transcoder": "JumpReLU transcoder, MLP",
    "untrained": "TopK, residual stream of an untrained model",
}
"""The dictionaries by the names that measures give them, in the order of the bundle."""
CONTROLS = {
    "random": "512 random directions",
    "axes": "axes of the residual stream, both ways",
    "neurons": "neurons of the MLP",
    "shuffled": "TopK, against the labels of other rows",
}

_FIT = {
    "fvu": "share of variance unexplained",
    "l0": "active features a token",
    "dead": f"share of features active nowhere in {2 * ROWS * (LENGTH - 1):,} tokens",
    "loss": "loss with the reconstruction in its place, nats",
    "recovered": "share of the loss recovered between mean ablation (0) and the model as it is (1)",
}
_EXPLAINED = {
    "explained": "share of features that one concept explains with F1 above .5",
    "clear": "with F1 above .7",
    "words": "of these: by a word",
    "classes": "by a class of words",
    "context": "by context",
    "class_f1": "mean F1 of the best feature of each class of words",
    "context_f1": "mean F1 of the best feature of each concept of context",
}
_CAUSAL = {
    "model_loss": "loss of the model as it is, nats",
    "stream_ablated": "loss with the residual stream at its mean, nats",
    "mlp_ablated": "loss with the MLP's output at its mean, nats",
    "next_concepts": f"number of concepts 'a word of this class comes next' whose best feature has F1 above {CLEAR}",
    "next_without": "what the log-probability of the class loses there without that feature, nats",
    "next_control": "when as much is taken along another feature's direction",
    "next_elsewhere": "rise of the loss at all other tokens without that feature, nats",
    "brackets_clean": "log-probability of the bracket that closes, nats",
    "brackets_without": "what it loses without the feature of 'this bracket is to be closed', nats",
    "brackets_control": "when as much is taken along another feature's direction",
    "brackets_other": "what it loses without the feature of another bracket, nats",
}

MEASURES = {
    **{
        f"{name}_{key}": f"{what}: {said}"
        for name, what in DICTIONARIES.items()
        for key, said in _FIT.items()
        if name != "untrained" or key in ("fvu", "l0", "dead")
    },
    **{
        f"{name}_{key}": f"{what}: {said}"
        for name, what in (DICTIONARIES | CONTROLS).items()
        for key, said in _EXPLAINED.items()
    },
    **_CAUSAL,
}
"""What `measure` gives, by name, and what each number is."""


class Bundle(NamedTuple):
    """The dictionaries by the names that measures give them, and the models that they read."""

    dictionaries: dict[str, Dictionary]
    model: Model
    untrained: Model


@lru_cache(1)
def _models() -> tuple[Model, Model]:
    return load(storyteller.NAME), untrained()


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and the models that it belongs to."""
    names = zip(DICTIONARIES, dictionary_names(folder), strict=True)
    return Bundle({short: load_dictionary(folder, name) for short, name in names}, *_models())


@torch.no_grad()
def measure(bundle: Bundle, seed: int) -> dict[str, float]:
    """Measure a bundle on text drawn from `seed`; the names are those of MEASURES, in order."""
    rng = Random(f"dictionaries {seed}")  # noqa: S311  a test sample, not a secret
    rows = batch(rng.getrandbits(32), -3, FIT_ROWS, LENGTH, 0.2, "heldout")
    found = _fits(bundle, torch.tensor(rows))
    halves = [Text.of(bundle, labelled(rng.getrandbits(32), ROWS, LENGTH)) for _ in range(2)]
    for name, one in bundle.dictionaries.items():
        found |= {f"{name}_{key}": value for key, value in _sparsity(name, one, halves).items()}
    meaning = {name: explained(*both, len(CLASSES)) for name, both in controls(bundle, halves, seed).items()}
    for name, each in meaning.items():
        found |= {
            f"{name}_explained": each.share(0.5),
            f"{name}_clear": each.share(CLEAR),
            f"{name}_words": each.share(CLEAR, "word"),
            f"{name}_classes": each.share(CLEAR, "class"),
            f"{name}_context": each.share(CLEAR, "context"),
            f"{name}_class_f1": each.mean_f1("class"),
            f"{name}_context_f1": each.mean_f1("context"),
        }
    names = halves[0].labels.context_names
    found |= _next(bundle, meaning["topk"], names, rng) | _brackets(bundle, meaning["topk"], names, rng)
    return {name: found[name] for name in MEASURES}


class Text(NamedTuple):
    """Labelled rows, and what both models have at every site that is looked at: [token, d], without `<bos>`."""

    labels: Labelled
    trained: dict[Site, Tensor]
    untrained: dict[Site, Tensor]

    @staticmethod
    def of(bundle: Bundle, labels: Labelled) -> Text:
        """Read the models on some rows."""
        sites = {site for one in bundle.dictionaries.values() for site in _sites(one)}
        sites.add(("mlp_post", bundle.dictionaries["topk"].layer))
        both = [read(model, labels.tokens, sites) for model in (bundle.model, bundle.untrained)]
        return Text(labels, *({site: x[:, 1:].flatten(0, 1) for site, x in each.items()} for each in both))

    def at(self, name: str, site: Site) -> Tensor:
        """What the model of a dictionary has at a site."""
        return (self.untrained if name == "untrained" else self.trained)[site]


def _sites(one: Dictionary) -> tuple[Site, Site]:
    """Where a dictionary reads, and where it writes."""
    return (one.site, one.layer), (one.site_out, one.layer_out)


def _fits(bundle: Bundle, tokens: Tensor) -> dict[str, float]:
    """Measure the loss with each reconstruction in its place, and with nothing but the mean there."""
    found: dict[str, float] = {}
    for name, one in bundle.dictionaries.items():
        place = "stream" if one.site_out == "resid_post" else "mlp"
        if name == "untrained":
            continue
        if f"{place}_ablated" not in found:
            mean = read(bundle.model, tokens, [_sites(one)[1]])[_sites(one)[1]][:, 1:].mean((0, 1))
            found[f"{place}_ablated"] = spliced(bundle.model, one, tokens, mean)
            found["model_loss"] = float(
                token_losses(bundle.model.module(tokens, use_cache=False).logits, tokens).mean()
            )
        found[f"{name}_loss"] = spliced(bundle.model, one, tokens)
        ablated = found[f"{place}_ablated"]
        found[f"{name}_recovered"] = (ablated - found[f"{name}_loss"]) / (ablated - found["model_loss"])
    return found


def spliced(model: Model, one: Dictionary, tokens: Tensor, instead: Tensor | None = None) -> float:
    """Give the loss on rows [row, position] with a reconstruction, or one value, in its place; `<bos>` is kept."""

    def change(here: Tensor, there: Tensor) -> Tensor:
        new = one(here) if instead is None else instead.expand_as(there)
        return torch.cat([there[:, :1], new[:, 1:]], dim=1)

    return float(token_losses(replaced(model, tokens, *_sites(one), change), tokens).mean())


def _sparsity(name: str, one: Dictionary, halves: list[Text]) -> dict[str, float]:
    """How much is left unexplained, by how many features, and which are never active."""
    x, y = (torch.cat([text.at(name, site) for text in halves]) for site in _sites(one))
    features = one.encode(x)
    return {
        "fvu": float((y - one.decode(features)).square().sum() / (y - y.mean(0)).square().sum()),
        "l0": float((features > 0).sum(-1).float().mean()),
        "dead": float((features <= 0).all(0).float().mean()),
    }


def controls(bundle: Bundle, halves: list[Text], seed: int) -> dict[str, tuple[Half, Half]]:
    """Put every dictionary's features, and everything that they are compared with, beside the labels of both halves."""
    main = bundle.dictionaries["topk"]
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(main.d_in, main.d_dict, generator=generator), dim=0)

    def features(text: Text) -> dict[str, Half]:
        found = {
            name: Half.of(one.encode(text.at(name, _sites(one)[0])), text.labels)
            for name, one in bundle.dictionaries.items()
        }
        centred = text.trained[_sites(main)[0]] - main.b_dec
        found["random"] = Half.of((centred @ directions).relu(), text.labels)
        found["axes"] = Half.of(torch.cat([centred, -centred], dim=1).relu(), text.labels)
        found["neurons"] = Half.of(text.trained["mlp_post", main.layer], text.labels)
        found["shuffled"] = Half.of(found["topk"].features, text.labels, turn=1)
        return found

    choosing, scoring = (features(text) for text in halves)
    return {name: (choosing[name], scoring[name]) for name in choosing}


def _without(bundle: Bundle, tokens: Tensor, feature: int, along: int | None = None) -> Tensor:
    """Log-probabilities when a feature's part is taken from the stream, or as much of it along another direction."""
    one = bundle.dictionaries["topk"]
    direction = one.W_dec[feature if along is None else along]

    def change(here: Tensor, there: Tensor) -> Tensor:
        return there - one.encode(here)[..., feature, None] * direction

    return replaced(bundle.model, tokens, *_sites(one), change).log_softmax(-1)


def _next(bundle: Bundle, meaning: Explained, names: list[str], rng: Random) -> dict[str, float]:
    """Ablate the feature of each clear concept 'a word of this class comes next', on text of its own."""
    text = labelled(rng.getrandbits(32), CAUSAL_ROWS, LENGTH)
    shape = len(text.tokens), LENGTH - 1
    clean = bundle.model.module(text.tokens, use_cache=False).logits.log_softmax(-1)
    losses = _losses(clean, text.tokens)
    rows = []
    for number, name in enumerate(names):
        at = meaning.classes + number
        where = text.context[:, number].view(shape)[:, :-1].bool()  # the last position predicts nothing that is known
        if not name.startswith("before ") or float(meaning.concept_f1[at]) < CLEAR or int(where.sum()) < 5:
            continue
        words = [TOKEN_ID[word] for word in CLASSES[name.removeprefix("before ")]]
        feature = int(meaning.feature[at])
        without = _without(bundle, text.tokens, feature)
        control = _without(bundle, text.tokens, feature, _another(bundle, feature, rng))
        there = [each[:, 1:-1, words].logsumexp(-1)[where].mean() for each in (clean, without, control)]
        rise = (_losses(without, text.tokens) - losses)[~where].mean()
        rows.append([float(there[0] - there[1]), float(there[0] - there[2]), float(rise)])
    mean = torch.tensor(rows).mean(0) if rows else torch.zeros(3)
    keys = ("next_without", "next_control", "next_elsewhere")
    return {"next_concepts": float(len(rows)), **dict(zip(keys, mean.tolist(), strict=True))}


def _losses(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """The loss at each position but the first and the last: [row, position]."""
    return -log_probs[:, 1:-1].gather(-1, tokens[:, 2:, None])[..., 0]


def _another(bundle: Bundle, feature: int, rng: Random) -> int:
    """Draw another feature."""
    return (feature + rng.randrange(1, bundle.dictionaries["topk"].d_dict)) % bundle.dictionaries["topk"].d_dict


def _brackets(bundle: Bundle, meaning: Explained, names: list[str], rng: Random) -> dict[str, float]:
    """Ablate the feature of each bracket that is to be closed, where it is, and where another is."""
    asked = [brackets(rng, "heldout") for _ in range(QUESTIONS)]
    tokens, end = storyteller.questions(asked)
    right = torch.tensor([TOKEN_ID[instance.answer] for instance in asked])
    kinds = torch.tensor([list(BRACKETS.values()).index(instance.answer) for instance in asked])
    of = [int(meaning.feature[meaning.classes + names.index(f"{bracket} is to be closed")]) for bracket in BRACKETS]

    def answer(log_probs: Tensor) -> Tensor:
        return log_probs[torch.arange(len(end)), end, right]

    clean = answer(bundle.model.module(tokens, use_cache=False).logits.log_softmax(-1))
    lost = torch.stack([clean - answer(_without(bundle, tokens, feature)) for feature in of])  # [feature, question]
    control = torch.stack([clean - answer(_without(bundle, tokens, i, _another(bundle, i, rng))) for i in of])
    own = F.one_hot(kinds, len(of)).T.bool()
    return {
        "brackets_clean": float(clean.mean()),
        "brackets_without": float(lost[own].mean()),
        "brackets_control": float(control[own].mean()),
        "brackets_other": float(lost[~own].mean()),
    }


def _more(folders: dict[str, Path], runs: dict[str, Run], shipped: str) -> dict[str, Any]:
    """Say which features of the main dictionary stand for which concepts, and how large everything is."""
    bundle = load_bundle(folders[shipped])
    halves = [Text.of(bundle, labelled(seed, ROWS, LENGTH)) for seed in (0, 1)]
    meaning = explained(*controls(bundle, halves, 0)["topk"], len(CLASSES))
    names = [*halves[0].labels.class_names, *halves[0].labels.context_names]
    known = (~meaning.concept_f1.isnan()).nonzero().flatten().tolist()
    recipe = runs[shipped].about["recipe"]
    return {
        "concepts": {
            names[i]: [int(meaning.feature[i]), rounded(float(meaning.concept_f1[i]))]
            for i in sorted(known, key=lambda i: -float(meaning.concept_f1[i]))
        },
        "tokens": recipe["steps"] * recipe["rows"] * (recipe["length"] - 1),
        "dictionaries": dict(
            zip(dictionary_names(folders[shipped]), map(repr, bundle.dictionaries.values()), strict=True)
        ),
        "words": len(TOKEN_ID),
        "classes": len(CLASSES),
        "contexts": len(halves[0].labels.context_names),
    }


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    measured, recipe = card["measured"], card["recipe"]
    low, high = min(card["cpu_seconds"].values()), max(card["cpu_seconds"].values())
    return (
        (Path(__file__).parent / "storyteller-4l-sae.md")
        .read_text("utf-8")
        .format(
            **{name: recipe[name] for name in ("seed", "steps", "layer", "features", "k", "width")},
            **{name: f"{entry['value']:.2f}" for name, entry in measured.items()},
            percent={name: f"{100 * entry['value']:.1f} %" for name, entry in measured.items()},
            **{name: card[name] for name in ("run", "samples", "tokens", "words", "classes", "contexts", "parameters")},
            cpu=f"{low:.0f}–{high:.0f}",
            number=len(card["cpu_seconds"]),
            seeds=", ".join(card["cpu_seconds"]),
            list="\n".join(f"- `{name}`: {text[1:-1]}" for name, text in card["dictionaries"].items()),
            fit_table=_table(measured, DICTIONARIES, _FIT),
            explained_table=_table(measured, DICTIONARIES | CONTROLS, _EXPLAINED),
            losses=measured_table(measured, "model_loss", "stream_ablated", "mlp_ablated"),
            causal=measured_table(measured, "next_", "brackets_"),
            concepts=", ".join(
                f"`{name}` ({f1:.2f}, feature {feature})"
                for name, (feature, f1) in card["concepts"].items()
                if f1 > CLEAR
            ),
            poor=", ".join(f"`{name}` ({f1:.2f})" for name, (_, f1) in card["concepts"].items() if f1 < 0.3),
        )
    )


def _table(measured: dict[str, Any], rows: dict[str, str], columns: dict[str, str]) -> str:
    """One row a dictionary, one column a measure: the value, and the range over seeds."""
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, what in rows.items():
        cells = []
        for key in columns:
            entry = measured.get(f"{name}_{key}")
            least, most = entry["seeds_range"] if entry else (0, 0)
            cells.append(f"{entry['value']:.3f} ({least:.3f} … {most:.3f})" if entry else "")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


SYSTEM = System(
    name=NAME,
    recipe=Recipe,
    task=Dictionaries,
    measures=MEASURES,
    measure=measure,
    text=card_text,
    assemble=assemble,
    load=load_bundle,
    more=_more,
)
