"""A feature store: what building costs a feature, how large it is, how fast one of a million is looked up and drawn.

Each build works in a process of its own, whose peak memory is its own: `python -m bench.features build|ray …`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench import clicks, dashboard
from bench.attention import say
from bench.report import ROOT, Budget, Claim, Table, number, size

SHIPPED, SHAPED = "storyteller-4l-sae", "GPT-2-small-shaped, random weights"
LOOKUPS = 2000


def run(
    tokens: dict[str, int],
    features: int,
    lookups: Sequence[int],
    workers: Sequence[int] = (),
    layers: int = 12,
    paired: int = 65_536,
    clicked: int = 40,
) -> tuple[Claim, str]:
    """Build on so many tokens of each kind, and beside SAEDashboard; look up and click in made-up ones of each size."""
    built = Table(
        "Building a feature store, one thread",
        [
            "of",
            "features",
            "tokens",
            "CPU",
            "a feature",
            "of it: model and dictionary",
            "peak memory",
            "bytes a feature",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, count in tokens.items():
            say(f"{kind}: {count:,} tokens")
            found = child("build", kind, str(count), str(features), str(layers), folder)
            built.rows.append(
                [
                    kind,
                    f"{found['features']:,}",
                    f"{found['tokens']:,}",
                    f"{number(found['cpu'])} s",
                    f"{number(1e3 * found['cpu'] / found['features'])} ms",
                    f"{found['model'] / found['cpu']:.0%}",
                    f"{size(found['peak'])} ({size(found['before'])} before)",
                    f"{number(found['bytes'] / found['features'])} B",
                ]
            )
        scaled = [(count, child("ray", SHIPPED, str(tokens[SHIPPED]), "0", str(count), folder)) for count in workers]
        looked, worst = look_up(lookups, Path(folder))
        say(f"{clicked} clicks of each kind, among {lookups[-1]:,} features")
        drawn, slowest, browser = clicks.run(Path(folder) / str(lookups[-1]), clicked)
    built.notes = [
        "20 top examples and 5 from each of 10 groups, activations around each, logits, neighbours and a histogram, of "
        "every feature. The part of model and dictionary is the CPU time of running the same tokens through both, "
        "alone. Bytes are of records, offsets and index; the tokens are there once, at 4 bytes each.",
    ]
    say(f"beside SAEDashboard: {paired:,} tokens")
    beside, ratio = dashboard.compare(dashboard.cases(paired))
    tables = [built, beside, looked, drawn]
    if scaled:
        tables.append(
            Table(
                "Shards under Ray, wall time with the start of Ray",
                ["workers", "wall"],
                [[str(count), f"{number(found['wall'])} s"] for count, found in scaled],
            )
        )
    budgets: list[tuple[Budget, float | None]] = [
        (
            Budget(
                "a feature store's CPU a feature: SAEDashboard's against ours, the least of the sizes measured",
                "≥",
                20,
                "×",
            ),
            ratio,
        ),
        (Budget("feature by id, of 1,000,000, 95th percentile in Python", "<", 5, " ms"), worst.get(1_000_000)),
        (
            Budget(
                "click to pixels among 1,000,000 features, 95th percentile, worst of next, row, jump", "<", 50, " ms"
            ),
            slowest if lookups[-1] == 1_000_000 else None,
        ),
    ]
    return Claim("Feature stores", tables, budgets), browser


def look_up(sizes: Sequence[int], folder: Path) -> tuple[Table, dict[int, float]]:
    """Open made-up stores, and look features up at random: a feature and its top examples with their tokens."""
    from interpwidgets.features.synthetic import synthetic_store

    table = Table(
        "Looking features up at random",
        ["features", "open", "a feature, median", "95 %", "a page in a new order", "a page in a known one"],
    )
    worst = {}
    for count in sizes:
        say(f"{count:,} made-up features")
        made = synthetic_store(folder / str(count), count, n_tokens=min(1_280_000, 64 * count), progress=False)
        started = time.perf_counter()
        store = type(made).open(made.folder)
        opened = time.perf_counter() - started
        rng, taken = np.random.default_rng(0), []
        for index in rng.integers(0, count, LOOKUPS + 20).tolist():
            started = time.perf_counter()
            store[index].examples()
            taken.append(time.perf_counter() - started)
        middle, high = 1e3 * np.percentile(taken[20:], [50, 95])  # the first ones read the vocabulary
        worst[count] = float(high)
        pages = []
        store.table(count=1)  # columns are read
        for first in (count // 2, count // 3):
            started = time.perf_counter()
            store.table(first=first, count=50, order="max_activation desc", where="density < 0.01")
            pages.append(1e3 * (time.perf_counter() - started))
        table.rows.append(
            [f"{count:,}", f"{number(opened)} s", *(f"{number(value)} ms" for value in (middle, high, *pages))]
        )
    table.notes = [
        f"Wall time; {LOOKUPS:,} features, each with the tokens and activations of its top 20 examples. The stores are "
        "made up, and written by the code that writes real ones. A page is 50 rows of all columns from the middle."
    ]
    return table, worst


def child(*arguments: str) -> dict[str, Any]:
    """What a process of its own has measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.features", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def given(kind: str, features: int, layers: int) -> tuple[Any, Any]:
    """A model and a dictionary."""
    import torch

    import interpwidgets as iw

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if kind == SHIPPED:
        return iw.load("storyteller-4l"), iw.load_dictionary(SHIPPED)
    from transformers import GPT2Config, GPT2LMHeadModel

    module = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    one = iw.Dictionary(768, features, kind="topk", k=32, site="resid_post", layer=layers // 2 - 1)
    with torch.no_grad():
        one.W_enc.normal_(std=768**-0.5)
        one.W_dec.copy_(one.W_enc.T)
    return iw.Model(module), one.requires_grad_(False)


def corpus(kind: str, count: int) -> Iterator[list[int]]:
    """So many tokens in rows of 128, some at a time."""
    import interpwidgets as iw

    rng = np.random.default_rng(7)
    for seed, first in enumerate(range(0, count // 128, 256)):
        some = min(256, count // 128 - first)
        if kind == SHIPPED:
            yield from iw.load_corpus("storyteller-4l", contexts=some, seed=seed)
        else:
            yield from rng.integers(0, 50256, (some, 128)).tolist()


def build(kind: str, count: int, features: int, layers: int, folder: str) -> dict[str, float]:
    """Measure a build, and a pass of the same tokens through model and dictionary alone."""
    import torch

    from interpwidgets.features import FeatureStore
    from interpwidgets.models.splice import read

    model, one = given(kind, features, layers)
    assert model.anatomy.parts
    rows, alone = corpus(kind, count), 0.0
    with torch.no_grad():
        while some := list(islice(rows, 32)):
            started = time.process_time()
            for part in read(model, torch.tensor(some), one.reads)[one.reads[0]].flatten(0, 1).split(2048):
                one.encode(part)
            alone += time.process_time() - started
    before = peak()
    started = time.process_time()
    store = FeatureStore.build(Path(folder) / kind, model, one, corpus(kind, count), progress=False)
    spent = time.process_time() - started
    files = ("records.bin", "offsets.bin", "index.parquet")
    return {
        "cpu": spent,
        "model": alone,
        "before": before,
        "peak": peak(),
        "features": len(store),
        "tokens": store.n_tokens,
        "bytes": sum((store.folder / name).stat().st_size for name in files),
    }


def ray(kind: str, count: int, _: int, workers: int, folder: str) -> dict[str, float]:
    """Measure a build under Ray."""
    from interpwidgets.features import FeatureStore

    model, one = given(kind, 0, 0)
    rows = corpus(kind, count)
    started = time.perf_counter()
    FeatureStore.build(Path(folder) / f"ray-{workers}", model, one, rows, engine="ray", workers=workers, progress=False)
    return {"wall": time.perf_counter() - started}


def peak() -> int:
    """The most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    what, kind, *numbers, folder = sys.argv[1:]
    print(json.dumps({"build": build, "ray": ray}[what](kind, *map(int, numbers), folder)))
