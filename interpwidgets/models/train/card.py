"""Measure the finished runs of a recipe, ship one of them, and write its card; hold a card to its weights.

Every number of a card has an interval in which the same measure on other random prompts must fall: five standard
deviations to both sides, over samples of the same size. So anyone can draw prompts of their own and hold the card to
it: `check`.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interpwidgets.errors import InputError
from interpwidgets.models.training.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from interpwidgets.models.train.system import System

__all__ = ["Checked", "blanks", "check", "finished_runs", "measured_table", "reach_of", "rounded", "write_card"]

DEVIATIONS = 5.0
SMALLEST = 0.003  # a measure that happened not to vary still may
AT_THE_END = 0.02  # and so may a share of some hundred answers of which none, or all, were right in every sample
_SEEDS = 3


def finished_runs(name: str, out: Path) -> dict[str, Run]:
    """Find the runs of a system in a folder that reached their last step, by seed; they differ in nothing else."""
    runs = []
    for path in sorted(out.glob(f"{name}-seed-*/run.json")):
        run = Run(path.parent, json.loads(path.read_text()))
        log = run.log()
        if log and log[-1]["step"] == run.about["recipe"]["steps"]:
            runs.append(run)
    recipes = {json.dumps({**run.about["recipe"], "seed": None}) for run in runs}
    if len(runs) < _SEEDS or len(recipes) > 1:
        raise InputError(
            f"{out} holds {len(runs)} finished runs of {len(recipes)} recipes; a card needs three seeds or more of "
            f"one recipe: python -m interpwidgets.models.train {name} --seed 0 (1, 2) --out {out}"
        )
    return {str(run.about["recipe"]["seed"]): run for run in sorted(runs, key=lambda r: int(r.about["recipe"]["seed"]))}


def write_card(system: System, out: Path, ship: int, into: Path) -> None:
    """Write a system's folder: weights, checkpoints, tokenizer, card."""
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    runs = finished_runs(system.name, out) if system.task else {}
    if runs and str(ship) not in runs:
        raise InputError(f"seed {ship} has no finished run in {out}; there are {', '.join(runs)}")
    if into.exists() and any(into.iterdir()) and not (into / "config.json").exists():
        raise InputError(f"{into} holds something that is no model system: name a new or empty folder with --into.")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {seed: Path(scratch) / seed / system.name for seed in runs or ["built"]}
        for seed, folder in folders.items():
            _assemble(system, runs.get(seed), folder)
        samples = {}
        for seed, folder in folders.items():
            model = system.load(folder)
            numbers = tqdm(range(system.samples), desc=f"{system.name}, seed {seed}")
            samples[seed] = [system.measure(model, number) for number in numbers]
        shipped = str(ship) if runs else "built"
        card = _about(runs.get(shipped)) | {
            "system": system.name,
            "parameters": _parameters(folders[shipped]),
            "samples": system.samples,
            "measured": _measured(system, samples, shipped),
            **({"cpu_seconds": {seed: run.log()[-1]["cpu_seconds"] for seed, run in runs.items()}} if runs else {}),
            **system.more(folders, runs, shipped),
        }
        if into.exists():  # what was shipped before stays until there is something to take its place
            shutil.rmtree(into)
        shutil.copytree(folders[shipped], into)
    card["bytes"] = sum(path.stat().st_size for path in into.rglob("*.safetensors"))
    (into / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    (into / "README.md").write_text(system.text(card))


class Checked(NamedTuple):
    """A number of a card, measured again."""

    system: str
    measure: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the card's interval has the value."""
        return self.low <= self.value <= self.high


def check(system: System, seed: int) -> Iterator[Checked]:
    """Measure a shipped system on fresh prompts and hold every number of its card to it.

    The middle one of three draws counts: among many measures, a single draw leaves some interval now and then.
    """
    card = json.loads((system.folder / "card.json").read_text("utf-8"))
    model = system.load(system.folder)
    draws = [system.measure(model, seed + number) for number in range(3)]
    for name, entry in card["measured"].items():
        value = statistics.median(draw[name] for draw in draws)
        yield Checked(system.name, name, value, *entry["interval"])


def blanks(card: dict[str, Any]) -> dict[str, Any]:
    """Give what the text of any trained system may name: its recipe, its run, and every measure to two places."""
    seeds, spent = list(card["cpu_seconds"]), card["cpu_seconds"].values()
    return {
        **card["recipe"],
        **{name: f"{entry['value']:.2f}" for name, entry in card["measured"].items()},
        **{name: card[name] for name in ("run", "parameters", "samples")},
        "cpu": f"{min(spent):.0f}–{max(spent):.0f}",
        "number": len(seeds),
        "seeds": ", ".join(seeds),
    }


def measured_table(entries: dict[str, Any], *starts: str) -> str:
    """Put the measures whose names begin with one of `starts` into a table."""
    chosen = [entry for name, entry in entries.items() if name.startswith(starts or "")]
    seeds = any(len(entry["seeds"]) > 1 for entry in chosen)
    lines = [
        f"| measure | value | interval |{' seeds: mean (range) |' if seeds else ''}",
        f"|---|---|---|{'---|' * seeds}",
    ]
    for entry in chosen:
        (low, high), (least, most) = entry["interval"], entry["seeds_range"]
        over = f" {entry['seeds_mean']:.3f} ({least:.3f} … {most:.3f}) |" if seeds else ""
        lines.append(f"| {entry['what']} | {entry['value']:.3f} | {low:.3f} … {high:.3f} |{over}")
    return "\n".join(lines)


def reach_of(values: Sequence[float]) -> float:
    """Say how far from the mean of some samples another one may lie."""
    ended = {*values} in ({0.0}, {1.0})
    return max(DEVIATIONS * statistics.stdev(values), AT_THE_END if ended else SMALLEST)


def rounded(value: float, to: Any = round) -> float:
    """Round to four places, up or down if asked."""
    return float(to(value * 10_000)) / 10_000


def _measured(system: System, samples: dict[str, list[dict[str, float]]], shipped: str) -> dict[str, Any]:
    measured = {}
    for name, what in system.measures.items():
        values = [sample[name] for sample in samples[shipped]]
        mean, reach = statistics.fmean(values), reach_of(values)
        of_seeds = {seed: statistics.fmean(sample[name] for sample in each) for seed, each in samples.items()}
        measured[name] = {
            "what": what,
            "value": rounded(mean),
            "interval": [rounded(mean - reach, math.floor), rounded(mean + reach, math.ceil)],
            "seeds_mean": rounded(statistics.fmean(of_seeds.values())),
            "seeds_range": [rounded(min(of_seeds.values())), rounded(max(of_seeds.values()))],
            "seeds": {seed: rounded(value) for seed, value in of_seeds.items()},
        }
    return measured


def _about(run: Run | None) -> dict[str, Any]:
    return {} if run is None else {"run": run.about["run"], "recipe": run.about["recipe"]}


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("model.safetensors")) or sorted(folder.glob("*/*.safetensors")):
        with safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  no dict
    return total


def _assemble(system: System, run: Run | None, folder: Path) -> None:
    """Write a system's folder as it is shipped, but for its card: the last weights, and checkpoints before them."""
    folder.mkdir(parents=True)
    if run is None:
        assert system.build is not None
        system.build(folder)
        return
    if system.assemble is not None:
        system.assemble(run, folder)
        return
    assert system.task is not None
    assert system.recipe is not None
    last = run.log()[-1]["step"]
    for step in [*system.checkpoints(run.log()), last]:
        place = folder if step == last else folder / "checkpoints" / f"step-{step:05d}"
        place.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "config.json"):  # weights do not tell how many heads read them
            (place / name).write_bytes((run.checkpoint(step) / name).read_bytes())
    tokenizer = system.task(system.recipe(seed=run.about["recipe"]["seed"])).tokenizer()
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"  # the class by the name that every release of transformers knows
        written = {**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
        path.write_text(json.dumps(written, indent=2) + "\n")
