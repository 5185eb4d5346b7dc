"""Measure the finished runs of a recipe, ship one of them, and write the card from what was measured.

Every number of the card has an interval in which the same measure on other random prompts must fall: five standard
deviations to both sides, over samples of the same size. So a test can draw its own prompts and hold the card to it.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from typing import TYPE_CHECKING, Any

import torch

from interpwidgets.errors import InputError
from interpwidgets.models.scores import copy_accuracy, head_scores, in_context_score, repeated_tokens, token_losses
from interpwidgets.models.train.corpus import BOS, ORDINARY
from interpwidgets.models.train.induction import NAME
from interpwidgets.models.train.measure import LENGTH, MEASURES, ROWS, measure, roles
from interpwidgets.models.train.prose import card_text
from interpwidgets.models.train.runs import Run
from interpwidgets.models.train.tokenizer import word_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["chosen_steps", "finished_runs", "write_card"]

SAMPLES = 24  # samples of ROWS prompts, each measured on its own, for the spread
DEVIATIONS = 5.0
SMALLEST = 0.003  # a measure that happened not to vary still may
AROUND_BUMP = (-475, -175, -125, -75, -50, -25, 0, 25, 75, 150, 525)


def finished_runs(out: Path) -> list[Run]:
    """Find the runs in a folder that reached their last step, by seed; they must differ in nothing else."""
    runs = []
    for path in sorted(out.glob(f"{NAME}-seed-*/run.json")):
        run = Run(path.parent, json.loads(path.read_text()))
        log = run.log()
        if log and log[-1]["step"] == run.about["recipe"]["steps"]:
            runs.append(run)
    recipes = {json.dumps({**run.about["recipe"], "seed": None}) for run in runs}
    if len(runs) < 3 or len(recipes) > 1:
        raise InputError(
            f"{out} holds {len(runs)} finished runs of {len(recipes)} recipes; a card needs three seeds or more of "
            f"one recipe: python -m interpwidgets.models.train {NAME} --seed 0 (1, 2) --out {out}"
        )
    return sorted(runs, key=lambda run: int(run.about["recipe"]["seed"]))


def chosen_steps(log: list[dict[str, Any]]) -> list[int]:
    """Choose the checkpoints to ship: the untrained model, and those around the step where copying is half learnt."""
    kept = [line["step"] for line in log]
    half = log[-1]["copy_accuracy"] / 2
    bump = next(line["step"] for line in log if line["copy_accuracy"] >= half)
    wanted = {0, *(bump + offset for offset in AROUND_BUMP)}
    return sorted(step for step in wanted if step in kept and step < kept[-1])


def load(folder: Path) -> Any:
    """Load a checkpoint's folder with transformers, as anyone would."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    return model.eval()


def write_card(out: Path, ship: int, into: Path) -> None:
    """Write a system's folder: weights, checkpoints, tokenizer, card."""
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    runs = {run.about["recipe"]["seed"]: run for run in finished_runs(out)}
    if ship not in runs:
        raise InputError(f"seed {ship} has no finished run in {out}; there are {sorted(runs)}")
    samples: dict[int, list[dict[str, float]]] = {}
    for seed, run in runs.items():
        model = load(run.checkpoint(run.log()[-1]["step"]))
        samples[seed] = [measure(model, number) for number in tqdm(range(SAMPLES), desc=f"seed {seed}")]
    card = _card(runs, ship, samples)
    _ship(runs[ship], [line["step"] for line in card["checkpoints"]], into)
    card["bytes"] = sum(path.stat().st_size for path in into.rglob("*.safetensors"))
    (into / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    (into / "README.md").write_text(card_text(card))


def _card(runs: dict[int, Run], ship: int, samples: dict[int, list[dict[str, float]]]) -> dict[str, Any]:
    shipped = runs[ship]
    last = shipped.checkpoint(shipped.log()[-1]["step"])
    model = load(last)
    measured = {}
    for name, what in MEASURES.items():
        values = [sample[name] for sample in samples[ship]]
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        reach = max(DEVIATIONS * spread, SMALLEST)
        of_seeds = [statistics.fmean(sample[name] for sample in each) for each in samples.values()]
        measured[name] = {
            "what": what,
            "value": _round(mean),
            "interval": [_round(mean - reach, math.floor), _round(mean + reach, math.ceil)],
            "seeds_mean": _round(statistics.fmean(of_seeds)),
            "seeds_range": [_round(min(of_seeds)), _round(max(of_seeds))],
            "seeds": {str(seed): _round(value) for seed, value in zip(samples, of_seeds, strict=True)},
        }
    heads = {str(seed): _heads(run) for seed, run in runs.items()}
    return {
        "system": NAME,
        "run": shipped.about["run"],
        "recipe": shipped.about["recipe"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "trained_parameters": sum(
            w.numel() for n, w in model.named_parameters() if ".mlp." not in n and "ln_2" not in n
        ),
        "vocabulary": model.config.vocab_size,
        "tokens": _tokens(shipped.about["recipe"]),
        "cpu_seconds": {str(seed): run.log()[-1]["cpu_seconds"] for seed, run in runs.items()},
        "sample": {"rows": ROWS, "length": LENGTH, "samples": SAMPLES},
        "heads": heads,
        "measured": measured,
        "checkpoints": [
            _checkpoint(shipped, step) for step in [*chosen_steps(shipped.log()), shipped.log()[-1]["step"]]
        ],
        "curves": {
            str(seed): [[line["step"], _round(line["copy_accuracy"])] for line in run.log()]
            for seed, run in runs.items()
        },
    }


def _heads(run: Run) -> dict[str, Any]:
    """Score every head of a trained model, and say which are which."""
    model = load(run.checkpoint(run.log()[-1]["step"]))
    scores = head_scores(model, repeated_tokens(ORDINARY, 4 * ROWS, LENGTH, seed=0, bos=BOS))
    rounded = {name: [[_round(float(x)) for x in row] for row in score] for name, score in scores.items()}
    return {"roles": roles(scores)._asdict(), "scores": rounded}


def _checkpoint(run: Run, step: int) -> dict[str, Any]:
    """Measure what a checkpoint shows of the bump."""
    model = load(run.checkpoint(step))
    prompts = repeated_tokens(ORDINARY, 2 * ROWS, LENGTH, seed=1, bos=BOS)
    scores = head_scores(model, prompts)
    with torch.no_grad():
        logits = model(prompts).logits
        accuracy = copy_accuracy(logits, prompts, LENGTH).mean()
        gain = in_context_score(token_losses(logits, prompts), slice(0, 10), slice(-10, None)).mean()
    line = next(line for line in run.log() if line["step"] == step)
    return {
        "step": step,
        "copy_accuracy": _round(float(accuracy)),
        "in_context_score": _round(float(gain)),
        "previous_token": _round(float(scores["previous_token"][0].max())),
        "prefix_matching": _round(float(scores["prefix_matching"][1].max())),
        "text_loss": _round(line["text_loss"]),
    }


def _ship(run: Run, steps: list[int], into: Path) -> None:
    """Copy the weights: the last ones as the model, those before as its checkpoints, and nothing that was there."""
    if into.exists() and any(into.iterdir()):
        if not (into / "config.json").exists():
            raise InputError(f"{into} holds something that is no model system: name a new or empty folder with --into.")
        shutil.rmtree(into)
    for step in steps:
        folder = into if step == steps[-1] else into / "checkpoints" / f"step-{step:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "config.json"):  # weights do not tell how many heads read them
            (folder / name).write_bytes((run.checkpoint(step) / name).read_bytes())
    word_tokenizer(run.about["recipe"]["context"]).save_pretrained(into)
    path = into / "tokenizer_config.json"  # the class by the name that every release of transformers knows
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n"
    )


def _tokens(recipe: dict[str, Any]) -> int:
    turn = [rows * length for rows, length in recipe["shapes"]]
    return sum(turn[step % len(turn)] for step in range(recipe["steps"]))


def _round(value: float, to: Any = round) -> float:
    return float(to(value * 10_000)) / 10_000
