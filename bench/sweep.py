"""Passes, recordings and sweeps, against TransformerLens and nnsight on the same weights, in turns.

Each library works in a process of its own, see `library.py`. The peers' may be another interpreter's: BENCH_PEERS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.attention import say
from bench.library import Run
from bench.report import ROOT, Budget, Claim, Table, middle, number, size, times

OURS, LENS, NNSIGHT = "interpwidgets", "TransformerLens", "nnsight"
PACKAGES = {LENS: "transformer-lens", NNSIGHT: "nnsight"}
PASSES = {
    "forward": "forward pass, all logits",
    "last": "forward pass, last logits",
    "record": "record resid_pre, resid_post, q, k",
    "record-many": "record resid_pre/mid/post, q, k, v, z, mlp_post",
}
SWEEPS = {
    "positions": "resid_pre, layers × positions",
    "heads": "z at all positions, layers × heads",
    "attribution": "attribution patching of resid_pre",
}
EXACT = ("positions", "heads")
HOW = (
    "Make an environment for them, `python -m venv build/peers`, install `.[peers]` there with its pip, and run again "
    "with BENCH_PEERS=build/peers/bin/python."
)
PYTHON = os.environ.get("BENCH_PEERS", sys.executable)


@dataclass(frozen=True)
class Shape:
    """Of a model with random weights."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    vocabulary: int = 50257


class Library:
    """A process that does one task when told to."""

    def __init__(self, name: str, folder: Path, task: str, length: int, batch: int) -> None:
        self.name, self.task = name, task
        self.runs: list[Run] = []
        self.why_not = ""  # a reason for having no more runs
        self._log = folder / f"{name}-{task}.log"
        python = sys.executable if name == OURS else PYTHON
        command = [python, "-m", "bench.library", name, str(folder), task, str(length), str(batch)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def wait(self) -> None:
        """Until it is warm, or has failed."""
        line = self._process.stdout.readline()
        if line != "ready\n":
            self.why_not = self._failure()

    def run(self, rate: bool = False) -> None:
        """Do the task once more."""
        with suppress(BrokenPipeError):
            self._process.stdin.write("rate\n" if rate else "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if line:
            self.runs.append(json.loads(line))
        else:
            self.why_not = self._failure()

    def end(self) -> None:
        """Let the process go."""
        self._process.communicate()
        if self.name == OURS and self.why_not:
            raise RuntimeError(f"{self.task}: {self.why_not}")

    def middle(self, what: str) -> float:
        """The median over the runs."""
        return middle([run[what] for run in self.runs]) or 0.0

    def cells(self) -> list[str]:
        """CPU, wall, peak memory."""
        peak = size(self.runs[-1]["peak"])
        return [f"{number(self.middle('cpu'))} s", f"{number(self.middle('wall'))} s", peak]

    def _failure(self) -> str:
        self._process.wait()
        return f"failed: {(self._log.read_text().strip().splitlines() or ['without a word'])[-1]:.100}"


def run(
    sizes: Sequence[tuple[int, int]], rounds: int, sweep_rounds: int, shape: Shape | None = None, length: int = 32
) -> tuple[Claim, str]:
    """Passes at each (T, batch), and sweeps of prompts of `length` tokens."""
    shape = shape or Shape()
    peers = {name: installed(PACKAGES[name]) for name in PACKAGES}
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, Path(folder))
        names = [OURS, *(name for name, version in peers.items() if version)]
        passes = measure_passes(Path(folder), names, sizes, rounds)
        sweeps, floors, ratios = measure_sweeps(Path(folder), names, shape, length, sweep_rounds)
    given = f"GPT-2-small-shaped: {shape.layers} layers, {shape.heads} heads, d = {shape.width}, random weights"
    who = ", ".join(f"{name} {version}" for name, version in peers.items() if version)
    absent = " and ".join(name for name, version in peers.items() if not version)
    sweeps.notes = [
        f"{given}. One thread each; {who or 'no peers'}; medians of {plural(sweep_rounds)} in turns, each library in "
        "its own process, whose peak memory in these runs includes the model and the imports.",
        *[f"Not measured, as they are not installed: {absent}. {HOW}"] * bool(absent),
        f"A pair of prompts of {length} tokens that are the same at position 0 and differ at all others, so that a "
        "patch at position 0 alone is known to do nothing. The metric is a logit difference at the last position. "
        "Clean and corrupted passes are counted for everybody. TransformerLens: `get_act_patch_resid_pre`, "
        "`get_act_patch_attn_head_out_all_pos`; nnsight: its tutorial's loop, a trace a cell.",
        "Attribution patching is an approximation: its difference is that from the exact sweep.",
    ]  # fmt: skip
    budgets: list[tuple[Budget, float | None]] = [
        (Budget(f"{SWEEPS[task]}: CPU of TransformerLens over ours", "≥", bound, "×"), ratios.get(task))
        for task, bound in (("positions", 10), ("heads", 5))
    ]
    return Claim("Interventions", [passes, sweeps, floors], budgets), ""


def plural(rounds: int) -> str:
    """In words."""
    return "one round" if rounds == 1 else f"{rounds} rounds"


def installed(package: str) -> str:
    """The version that the peers' interpreter has; empty if none."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_model(shape: Shape, folder: Path) -> None:
    """Weights, and a tokenizer, which the peers do not load a model without."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width, vocab_size=shape.vocabulary,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(shape.vocabulary)}, unk_token="w0"))
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "w0")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)


def together(libraries: list[Library], rounds: int, rate: bool = False) -> None:
    """Let them run in turns, in an order that alternates."""
    for each in libraries:
        each.wait()
    for turn in range(rounds):
        for each in libraries if turn % 2 == 0 else libraries[::-1]:
            if not each.why_not:
                each.run(rate and each.name == OURS)
    for each in libraries:
        each.end()


def measure_passes(folder: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]], rounds: int) -> Table:
    """Forward passes and recordings."""
    columns = ["T", "batch", "what", "library", "CPU", "wall", "peak memory", "CPU ÷ plain forward pass"]
    table = Table("Forward passes and recording", columns)
    for length, batch in sizes:
        say(f"passes, T = {length}, batch {batch}")
        wanted = [(name, task) for task in PASSES for name in names if name == OURS or task.startswith("record")]
        libraries = [Library(name, folder, task, length, batch) for name, task in wanted]
        together(libraries, rounds)
        plain = libraries[0]
        for each in libraries:
            line = [str(length), str(batch), PASSES[each.task]]
            name = each.name if each.task.startswith("record") else "transformers"
            if each.why_not:
                table.rows.append([*line, name, each.why_not, "–", "–", "–"])
            else:
                ratio = times(plain.middle("cpu"), each.middle("cpu"))
                table.rows.append([*line, name, *each.cells(), ratio])
    table.notes = [
        f"Medians of {plural(rounds)} in turns. The plain passes are the module's own, with PyTorch's fused attention. "
        "Ours leaves the unembedding out when it records; the peers compute all logits. The claim Recording compares "
        "passes that compute the same, pair by pair in one process."
    ]
    return table


def measure_sweeps(
    folder: Path, names: Sequence[str], shape: Shape, length: int, rounds: int
) -> tuple[Table, Table, dict[str, float]]:
    """The sweeps; how far ours is from what cannot be avoided; the CPU of TransformerLens over ours."""
    columns = ["over", "library", "CPU", "wall", "peak memory", "CPU ÷ ours", "largest difference", "values span"]
    sweeps = Table("Sweeps", columns)
    floors = Table(
        "… and what an exact sweep cannot avoid", ["over", "FLOP", "matrix product", "floor", "ours", "share reached"]
    )
    ratios: dict[str, float] = {}
    exact: dict[str, list[float]] = {}
    for task, title in SWEEPS.items():
        say(f"sweep: {title}")
        libraries = [Library(name, folder, task, length, 1) for name in (names if task in EXACT else [OURS])]
        together(libraries, rounds, rate=True)
        ours = libraries[0]
        exact[task] = ours.runs[-1]["values"]
        truth = exact[task if task in EXACT else "positions"]
        for each in libraries:
            if each.why_not:
                sweeps.rows.append([title, each.name, each.why_not, *["–"] * 5])
                continue
            found = each.runs[-1]["values"]
            apart = max(abs(a - b) for a, b in zip(truth, found, strict=True))
            ratio = times(ours.middle("cpu"), each.middle("cpu"))
            span = number(max(found) - min(found))
            apart_shown = "–" if each is ours and task in EXACT else f"{apart:.1e}"
            sweeps.rows.append([title, each.name, *each.cells(), ratio, apart_shown, span])
            if each.name == LENS:
                ratios[task] = each.middle("cpu") / ours.middle("cpu")
        if task in EXACT:
            flop, rate, cpu = unavoidable(task, shape, length), ours.middle("rate"), ours.middle("cpu")
            floors.rows.append(
                [
                    title,
                    f"{number(flop / 1e9)} G",
                    f"{number(rate / 1e9)} GFLOP/s",
                    f"{number(flop / rate)} s",
                    f"{number(cpu)} s",
                    f"{100 * flop / rate / cpu:.0f} %",
                ]
            )
    floors.notes = [
        "FLOP, with d the width, n the rows from the patched position on (from 1 on for heads): per cell 24 d² n in "
        "each block after the patch but the last, 4 d² n + 20 d² in the last, whose keys and values are needed of all "
        "n rows and the rest of one; in the patched block 6 d² + 18 d² n for a position (in the last block 22 d², or "
        "24 d² for the last position), 2 d d_head n + 16 d² n for a head (n = 1 in the last block); 4 d for each query "
        "and key it sees in the blocks after. And the blocks but the last, 24 d² a row, of the clean and the corrupted "
        "pass. Norms and the two logits are not counted. The matrix product is float32, 1024 × 768 by 768 × 3072, in "
        "the same process."
    ]
    return sweeps, floors, ratios


def unavoidable(task: str, shape: Shape, length: int) -> float:
    """FLOP of an exact sweep over resid_pre by position, or over z by head; see the table's note."""
    d, last = shape.width, shape.layers - 1
    total = 2.0 * 24 * d * d * length * last
    for first in range(1, length) if task == "positions" else [1] * shape.heads:
        rows = length - first
        seen = sum(range(first + 1, length + 1))  # keys, over all rows
        for layer in range(shape.layers):
            here = rows if layer < last else 1
            if task == "positions":
                total += (6 if layer < last or rows == 1 else 4) * d * d + 18 * d * d * here
            else:
                total += (2 * d * d / shape.heads + 16 * d * d) * here
            if layer < last:
                total += (last - layer - 1) * (24 * d * d * rows + 4 * d * seen)
                total += 4 * d * d * rows + 20 * d * d + 4 * d * length
    return total
