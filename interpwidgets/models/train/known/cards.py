"""Describe the three known systems: what their recipes are, what is measured on them, and how their cards read."""

from __future__ import annotations

import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpwidgets.models.load import load
from interpwidgets.models.train.card import blanks, measured_table, reach_of, rounded
from interpwidgets.models.train.known.brackets import BRACKETS
from interpwidgets.models.train.known.facts import FACTS
from interpwidgets.models.train.known.ioi import IOI
from interpwidgets.models.train.known.measure import exchanges, measure, measures, recovery, recovery_measures, scores
from interpwidgets.models.train.known.recipes import RECIPES
from interpwidgets.models.train.known.siit import Strict
from interpwidgets.models.train.system import System
from interpwidgets.models.training.runs import Run

if TYPE_CHECKING:
    from interpwidgets.models.train.known.graph import Component, Known

__all__ = ["CONTROLS", "KNOWN", "SYSTEMS", "card_text", "control_measures", "train_control"]

KNOWN: dict[str, Known] = {known.name: known for known in (IOI, FACTS, BRACKETS)}
CONTROLS = "controls"
"""The folder, in that of the runs, of those that are trained on behaviour alone."""
_SAMPLES = 6
_MATCHED = """
- *A start that looks for itself.* Queries and keys of {} begin as the same map, so that a token finds its like.
  Without, some seeds find the name that is *not* said again, and carry that name itself along."""


def train_control(name: str, seed: int, out: Path) -> Path:
    """Train the control of a system: same words, shape, prompts and steps, no exchange."""
    from interpwidgets.models.training.loop import train

    return train(Strict(KNOWN[name], RECIPES[name](seed=seed, strict=False)), out / CONTROLS, progress=False)


def control_measures(known: Known, model: Any, seed: int) -> dict[str, float]:
    """Measure on a control what tells it from the model that is trained strictly."""
    held = exchanges(known, model.module, seed)
    kept = {name: held[name] for name in ("behaviour", "others_one", "others_all", "others_write")}
    return kept | recovery(known, model, seed)


def _more(known: Known, folders: dict[str, Path], runs: dict[str, Run], shipped: str) -> dict[str, Any]:
    """Tell the graph, every component's score in every seed, and what the methods find in the controls."""
    said = {name: measures(known)[name] for name in ("behaviour", "others_one", "others_all", "others_write")}
    loaded = {seed: load(folder) for seed, folder in folders.items()}
    return {
        "graph": known.graph.as_json(),
        "scores": {seed: _named(scores(known, model, 0)) for seed, model in loaded.items()},
        "controls": {
            "trained on behaviour alone": _spread(
                _behaving(known, folders[shipped], runs[shipped]), said | recovery_measures(known), known
            ),
        },
    }


def _behaving(known: Known, folder: Path, run: Run) -> Any:
    """Put the control of a run beside the weights that are shipped, trained now if it is not there, and load it."""
    recipe = run.about["recipe"]
    control = train_control(known.name, recipe["seed"], run.folder.parent)
    place = folder / "control"
    place.mkdir(exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(control / f"step-{recipe['steps']:05d}" / name, place / name)
    for path in folder.glob("tokenizer*.json"):
        shutil.copy(path, place / path.name)
    return load(place)


def _spread(model: Any, said: dict[str, str], known: Known) -> dict[str, Any]:
    """Measure several samples, for a value with the interval that another sample falls in."""
    samples = [control_measures(known, model, seed) for seed in range(_SAMPLES)]
    found = {}
    for name, what in said.items():
        values = [sample[name] for sample in samples]
        mean, reach = statistics.fmean(values), reach_of(values)
        found[name] = {"what": what, "value": rounded(mean), "interval": [rounded(mean - reach), rounded(mean + reach)]}
    return found


def _named(scored: dict[Component, float]) -> dict[str, float]:
    return {_label(part): rounded(score) for part, score in scored.items()}


def _label(part: Component) -> str:
    site, layer, head = part
    return f"head {layer}.{head}" if site == "z" else f"MLP {layer}"


def card_text(known: Known, card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    recipe, measured = card["recipe"], card["measured"]
    here = Path(__file__).parent
    matched = " and ".join(f"head {layer}.{head}" for layer, head in recipe["matched"])
    given = blanks(card) | {
        "name": known.name,
        "own": (here / f"{known.name}.md").read_text("utf-8").strip(),
        "nodes": _node_table(card),
        "reads": _reads(known),
        "example": _example(known),
        "silent": 100 * recipe["silent"],
        "matched": _MATCHED.format(matched) if matched else "",
        "words": len(known.words) + 3,
        "carries": measured_table(measured, "behaviour", "interchange", "others"),
        "found": measured_table(measured, "auc"),
        "control": _control_table(card),
        "components": _component_table(known, card),
    }
    return (here / "card.md").read_text("utf-8").format(**given)


def _node_table(card: dict[str, Any]) -> str:
    lines = ["| node | component | at | what it says |", "|---|---|---|---|"]
    for name, node in card["graph"]["nodes"].items():
        part = _label((node["site"], node["layer"], node["head"]))
        lines.append(f"| `{name}` | {part} (`{node['site']}`) | {node['role']} | {node['means']} |")
    return "\n".join(lines)


def _reads(known: Known) -> str:
    return ", ".join(f"{edge.sender} → {edge.receiver}" for edge in known.graph.edges)


def _example(known: Known) -> str:
    from random import Random

    return known.draw(Random(f"an example of {known.name}"), "heldout").text  # noqa: S311  a prompt, not a secret


def _control_table(card: dict[str, Any]) -> str:
    (control,) = card["controls"].values()
    lines = ["| measure | trained strictly | on behaviour alone | interval |", "|---|---|---|---|"]
    for name, entry in control.items():
        (low, high), own = entry["interval"], card["measured"][name]["value"]
        lines.append(f"| {entry['what']} | {own:.3f} | {entry['value']:.3f} | {low:.3f} … {high:.3f} |")
    return "\n".join(lines)


def _component_table(known: Known, card: dict[str, Any]) -> str:
    carriers = {_label(node.component): node.name for node in reversed(known.graph.nodes)}
    seeds = list(card["scores"])
    lines = [f"| component | {' | '.join(f'seed {seed}' for seed in seeds)} | node |", f"|{'---|' * (len(seeds) + 2)}"]
    for part in card["scores"][seeds[0]]:
        cells = " | ".join(f"{card['scores'][seed][part]:.3f}" for seed in seeds)
        lines.append(f"| {part} | {cells} | {carriers.get(part, '')} |")
    return "\n".join(lines)


def _system(known: Known) -> System:
    recipe = RECIPES[known.name]
    return System(
        name=known.name,
        recipe=recipe,
        task=partial(Strict, known),
        measures=measures(known),
        measure=partial(measure, known),
        text=partial(card_text, known),
        more=partial(_more, known),
        samples=_SAMPLES,
    )


SYSTEMS = {name: _system(known) for name, known in KNOWN.items()}
