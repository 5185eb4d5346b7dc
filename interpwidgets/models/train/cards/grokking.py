"""Measure everything that the card of `grok-add` says, on all sums there are, and put it into words.

Which frequencies matter is read off the weights and tried on the logits, the embedding and the neurons: none of the
sums that a claim is tried on had a say in it.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from interpwidgets.models.load import load
from interpwidgets.models.train.card import blanks, measured_table, rounded
from interpwidgets.models.train.fourier import (
    embedding_power,
    filtered,
    key_frequencies,
    logits_of,
    neuron_shares,
    neurons_of,
    one_frequency,
    readout_power,
    sum_waves,
    trig_share,
)
from interpwidgets.models.train.grokking import NAME, Grokking, Recipe, pairs
from interpwidgets.models.train.system import System

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from interpwidgets.models.train.grokking import Pairs
    from interpwidgets.models.training.runs import Run

__all__ = ["MEASURES", "SYSTEM", "card_text", "chosen_steps", "doubles", "measure", "progress"]

FOLLOWS = 0.85  # a neuron follows a frequency if so much of its variance does, as in Nanda et al. 2023
# Test accuracies near which a checkpoint is shipped.
ON_THE_WAY = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)

MEASURES = {
    "train_accuracy": "sums trained on: share right",
    "test_accuracy": "sums not trained on in either order: share right (chance 1/53 = 0.019)",
    "test_loss": "loss on them, nats (chance ln 53 = 3.97)",
    "weight_norm": "norm of all trained weights",
    "keys": "number of key frequencies, of 26: those with more than an even share of what neurons write to the logits",
    "keys_readout": "share of what the neurons write to the logits that key frequencies have",
    "keys_embedding": "share of the number embedding that key frequencies have",
    "doubles_embedding": "share of the number embedding that their doubles have, 2k or its mirror image 53 − 2k",
    "keys_trig": "share of the logits' variance that is one cos(2πk(a + b − c)/53) for each key frequency k",
    "neurons_alive": "share of neurons that vary at all",
    "neurons_following": f"of these, share with {FOLLOWS:.0%} of their variance or more in one frequency of a and b",
    "neurons_following_key": "of these, share whose frequency is a key frequency",
    "only_keys_logits": "accuracy with only the key frequencies of a + b (and the mean) kept in the logits",
    "without_keys_logits": "accuracy with these taken from the logits",
    "without_others_logits": "accuracy with as many others, drawn at random, taken from the logits",
    "restricted_loss": "restricted loss: only the key frequencies of a + b kept in the logits; all sums, nats",
    "excluded_loss": "excluded loss: these taken from the logits; sums trained on, nats",
    "only_keys_embedding": "accuracy with only the key frequencies (and the mean) kept in the embedding of numbers",
    "only_doubles_embedding": "accuracy with their doubles 2k kept as well",
    "without_keys_embedding": "accuracy with the key frequencies taken from the embedding",
    "without_doubles_embedding": "accuracy with the key frequencies and their doubles taken from the embedding",
    "without_one_key_embedding": "accuracy with one key frequency taken from the embedding, the worst of them",
    "without_others_embedding": "accuracy with as many others, drawn at random, taken from the embedding",
    "without_mlp": "accuracy with every neuron at its mean over all sums",
    "without_following": "accuracy with every neuron at its mean that follows a key frequency",
    "without_others": "accuracy with every other neuron at its mean",
    "only_one_frequency": "accuracy with every neuron replaced by the part of it at its own best frequency",
}
"""What `measure` gives, by name, and what each number is."""


class _Examined:
    """A model of addition, with what is asked of it again and again."""

    def __init__(self, module: Any) -> None:
        config = module.config
        self.module, self.modulus = module, int(config.modulus)
        self.train, self.test = pairs(self.modulus, config.train_share, config.split_seed)
        self.embedding = module.transformer.wte.weight.detach()[: self.modulus]
        self.every = range((self.modulus + 1) // 2)
        n = torch.arange(self.modulus)
        self.answer = (n[:, None] + n) % self.modulus  # [a, b]

    def accuracy(self, logits: Tensor, of: Pairs | None = None) -> float:
        right = (logits.argmax(-1) == self.answer).double()  # [a, b]
        return float(right.mean() if of is None else right[of.a, of.b].mean())

    def loss(self, logits: Tensor, of: Pairs | None = None) -> float:
        if of is None:
            return float(F.cross_entropy(logits.flatten(0, 1), self.answer.flatten()))
        return float(F.cross_entropy(logits[of.a, of.b], of.answer))

    def only(self, logits: Tensor, frequencies: Sequence[int]) -> Tensor:
        """Keep of logits [a, b, number] their mean and these waves of a + b."""
        return sum_waves(logits, [0, *frequencies])

    def without(self, logits: Tensor, frequencies: Sequence[int]) -> Tensor:
        """Take these waves of a + b from logits [a, b, number]."""
        return logits - sum_waves(logits, frequencies)

    def embedded(self, frequencies: Sequence[int]) -> float:
        """Give the accuracy with these frequencies, and the mean, kept in the embedding of the numbers."""
        return self.accuracy(logits_of(self.module, embedding=filtered(self.embedding, [0, *frequencies])))

    def unembedded(self, frequencies: Sequence[int]) -> float:
        """Give the accuracy with these frequencies taken from the embedding of the numbers."""
        return self.embedded([k for k in self.every[1:] if k not in frequencies])


def measure(model: Any, seed: int) -> dict[str, float]:
    """Measure what `load` gave on all sums; from `seed` come only the frequencies that the keys are compared with."""
    module = model.module
    examined, keys = _Examined(module), key_frequencies(module)
    rest = [k for k in examined.every[1:] if k not in keys]
    others = Random(f"grok-add {seed}").sample(rest, min(len(keys), len(rest)))  # noqa: S311  a control, not a secret
    logits, neurons = logits_of(module), neurons_of(module)  # [a, b, number], [a, b, neuron]
    best, shares = neuron_shares(neurons)
    alive, mean = shares > 0, neurons.mean((0, 1)).expand_as(neurons)
    following = shares >= FOLLOWS
    following_key = following & torch.isin(best, torch.tensor(keys))

    def with_neurons(instead: Tensor) -> float:
        return examined.accuracy(logits_of(module, neurons=instead))

    trained = [weight.detach().double() for name, weight in module.named_parameters() if ".ln_" not in name]
    of_key, double = torch.tensor(keys) - 1, doubles(keys, examined.modulus)
    only, without = examined.only(logits, keys), examined.without(logits, keys)
    found: dict[str, float] = {
        "train_accuracy": examined.accuracy(logits, examined.train),
        "test_accuracy": examined.accuracy(logits, examined.test),
        "test_loss": examined.loss(logits, examined.test),
        "weight_norm": float(torch.stack([(weight**2).sum() for weight in trained]).sum().sqrt()),
        "keys": float(len(keys)),
        "keys_readout": float(readout_power(module)[of_key].sum()),
        "keys_embedding": float(embedding_power(module)[of_key].sum()),
        "doubles_embedding": float(embedding_power(module)[torch.tensor(double) - 1].sum()),
        "keys_trig": trig_share(logits, keys),
        "neurons_alive": float(alive.double().mean()),
        "neurons_following": float(following.sum() / alive.sum()),
        "neurons_following_key": float(following_key.sum() / following.sum().clamp_min(1)),
        "only_keys_logits": examined.accuracy(only),
        "without_keys_logits": examined.accuracy(without),
        "without_others_logits": examined.accuracy(examined.without(logits, others)),
        "restricted_loss": examined.loss(only),
        "excluded_loss": examined.loss(without, examined.train),
        "only_keys_embedding": examined.embedded(keys),
        "only_doubles_embedding": examined.embedded([*keys, *double]),
        "without_keys_embedding": examined.unembedded(keys),
        "without_doubles_embedding": examined.unembedded([*keys, *double]),
        "without_one_key_embedding": min(examined.unembedded([k]) for k in keys),
        "without_others_embedding": examined.unembedded(others),
        "without_mlp": with_neurons(mean),
        "without_following": with_neurons(torch.where(following_key, mean, neurons)),
        "without_others": with_neurons(torch.where(following_key, neurons, mean)),
        "only_one_frequency": with_neurons(one_frequency(neurons, best)),
    }
    return {name: found[name] for name in MEASURES}


def doubles(keys: Sequence[int], modulus: int) -> list[int]:
    """Name the frequencies that are twice a key frequency, and are none themselves."""
    found = [min(2 * k % modulus, -2 * k % modulus) for k in keys]
    return [k for k in found if k not in keys]


def progress(module: Any, keys: Sequence[int]) -> dict[str, float]:
    """Measure a checkpoint by the key frequencies of the trained model."""
    examined = _Examined(module)
    logits = logits_of(module)
    only, without = examined.only(logits, keys), examined.without(logits, keys)
    trained = [weight.detach() for name, weight in module.named_parameters() if ".ln_" not in name]
    found = {
        "train_accuracy": examined.accuracy(logits, examined.train),
        "test_accuracy": examined.accuracy(logits, examined.test),
        "train_loss": examined.loss(logits, examined.train),
        "test_loss": examined.loss(logits, examined.test),
        "restricted_loss": examined.loss(only),
        "excluded_loss": examined.loss(without, examined.train),
        "keys_embedding": float(embedding_power(module)[torch.tensor(keys) - 1].sum()),
        "weight_norm": float(torch.stack([(weight**2).sum() for weight in trained]).sum().sqrt()),
    }
    return {name: rounded(value) for name, value in found.items()}


def chosen_steps(log: list[dict[str, Any]]) -> list[int]:
    """Choose the checkpoints to ship: the start, the wait after memorising, and closely where it generalises."""
    steps = [line["step"] for line in log[:-1]]
    memorised, rising = (_first(log, name, value) for name, value in (("train", 0.99), ("test", ON_THE_WAY[0])))
    wait = [memorised + (rising - memorised) * share for share in (0.0, 1 / 3, 2 / 3)]
    after = _first(log, "test", ON_THE_WAY[-1])
    wanted = [0, steps[1], *wait, *(_first(log, "test", value) for value in ON_THE_WAY), (after + log[-1]["step"]) / 2]
    return sorted({min(steps, key=lambda step: abs(step - each)) for each in wanted})


def _first(log: list[dict[str, Any]], side: str, accuracy: float) -> int:
    """Give the step at which a side is first as good as that; the last one if it never is."""
    return int(next((line["step"] for line in log if line[f"{side}_accuracy"] >= accuracy), log[-1]["step"]))


def _more(folders: dict[str, Path], runs: dict[str, Run], shipped: str) -> dict[str, Any]:
    """Give what the card says beside the measures: frequencies, checkpoints, curves, and what float16 changes."""
    found: dict[str, Any] = {"frequencies": {}, "moments": {}, "progress": {}, "curves": {}, "float16": {}}
    for seed, folder in folders.items():
        model, run = load(folder), runs[seed]
        log, keys = run.log(), key_frequencies(model.module)
        found["frequencies"][seed] = keys
        found["moments"][seed] = {
            "memorised": _first(log, "train", 0.99),
            "generalised": _first(log, "test", 0.95),
            "test_accuracy_when_memorised": rounded(
                next(line["test_accuracy"] for line in log if line["train_accuracy"] >= 0.99)
            ),
        }
        steps = [*chosen_steps(log), log[-1]["step"]]
        found["progress"][seed] = [
            {"step": step, **progress(load(run.checkpoint(step)).module, keys)} for step in steps
        ]
        found["curves"][seed] = [
            [line["step"], rounded(line["train_accuracy"]), rounded(line["test_accuracy"])] for line in log
        ]
        stored = measure(model, 0)
        state = {name[6:]: value for name, value in run.load_state().items() if name.startswith("model.")}
        model.module.load_state_dict(state)
        exact = measure(model, 0)
        found["float16"][seed] = rounded(max(abs(stored[name] - exact[name]) for name in MEASURES))
    return found | {"checkpoints": found["progress"][shipped]}


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    moments = card["moments"].values()
    tables = {
        "does": ("train_accuracy", "test_accuracy", "test_loss", "weight_norm"),
        "structure": [name for name in MEASURES if name.startswith(("keys", "doubles", "neurons"))],
        "from_logits": [*(name for name in MEASURES if name.endswith("_logits")), "restricted_loss", "excluded_loss"],
        "from_embedding": [
            name for name in MEASURES if name.endswith("_embedding") and name.startswith(("only", "without"))
        ],
        "from_neurons": ("without_mlp", "without_following", "without_others", "only_one_frequency"),
    }
    given = blanks(card) | {
        **{name: measured_table({n: card["measured"][n] for n in chosen}) for name, chosen in tables.items()},
        "over": {name: _range(entry["seeds_range"]) for name, entry in card["measured"].items()},
        "share": f"{card['recipe']['train_share']:.0%}",
        "first": card["checkpoints"][1]["step"],
        "frequencies": "; ".join(
            f"seed {seed}: {', '.join(map(str, keys))}" for seed, keys in card["frequencies"].items()
        ),
        "memorised": _span(each["memorised"] for each in moments),
        "generalised": _span(each["generalised"] for each in moments),
        "plateau": f"{max(each['test_accuracy_when_memorised'] for each in moments):.3f}",
        "float16": f"{max(card['float16'].values()):.4f}",
        "progress": _progress_table(card["checkpoints"]),
    }
    return (Path(__file__).parent / f"{NAME}.md").read_text("utf-8").format(**given)


def _range(ends: list[float]) -> str:
    least, most = (f"{end:.2f}" for end in ends)
    return least if least == most else f"{least} to {most}"


def _span(values: Any) -> str:
    found = sorted(values)
    return f"{found[0]:,}–{found[-1]:,}" if found[0] < found[-1] else f"{found[0]:,}"


def _progress_table(lines: list[dict[str, Any]]) -> str:
    names = list(lines[0])
    rows = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    for line in lines:
        cells = [str(line["step"]), *(f"{line[name]:.3f}" for name in names[1:])]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


SYSTEM = System(
    name=NAME,
    recipe=Recipe,
    task=Grokking,
    measures=MEASURES,
    measure=measure,
    text=card_text,
    more=_more,
    checkpoints=chosen_steps,
    samples=6,
)
