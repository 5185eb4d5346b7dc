"""Contexts that no peer opens: made, opened, zoomed to single weights; and what Python's memory was meanwhile.

Each size runs in a process of its own, whose peak of resident memory is then that of the view.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.attention import milliseconds, say, seconds
from bench.report import ROOT, Budget, Claim, Table, number, size

LIMIT = 120.0  # CPU seconds of the browser
SHARE = 0.5  # of one T × T pattern: more memory than this would be suspicious
Size = tuple[int, int, int]  # layers, heads, T


def run(sizes: Sequence[Size], rounds: int) -> tuple[Claim, str]:
    """Measure each size, in turn."""
    seen: dict[Size, list[dict[str, Any]]] = defaultdict(list)
    failures: dict[Size, list[str]] = defaultdict(list)
    for turn in range(rounds):
        for layers, heads, length in sizes:
            say(f"round {turn + 1}, {layers} × {heads} heads, T = {length:,}")
            command = [sys.executable, "-m", "bench.long", str(layers), str(heads), str(length)]
            quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
            if done.returncode:
                say(f"failed:\n{done.stderr}")
                failures[layers, heads, length].append(done.stderr.strip().splitlines()[-1])
            else:
                seen[layers, heads, length].append(json.loads(done.stdout.splitlines()[-1]))
    versions = [one["version"] for each in seen.values() for one in each]
    return claim(sizes, seen, failures, rounds), versions[0] if versions else ""


def claim(
    sizes: Sequence[Size], seen: dict[Size, list[dict[str, Any]]], failures: dict[Size, list[str]], rounds: int
) -> Claim:
    """The tables, and whether memory stayed far below a pattern's."""
    opening = Table(
        "interpwidgets alone: opening a long context, recorded as q and k",
        ["heads", "T", "Python: make the view", "wall", "on the wire", "usable", "wall", "Python's tiles", "requests"],
    )
    moving = Table(
        "… zooming in three steps to 64 × 64 weights, and reading one",
        ["heads", "T", "step 1", "step 2", "step 3", "Python's tiles", "hover median", "hover worst", "bytes for all"],
    )
    memory = Table(
        "… and the memory that it takes",
        [
            "heads",
            "T",
            "q and k",
            "one T × T pattern",
            "all patterns",
            "Python: peak above q and k",
            "share",
            "JS heap",
            "page's process",
        ],
    )
    budgets = []
    for layers, heads, length in sizes:
        each, failed = seen[layers, heads, length], failures[layers, heads, length]
        heads_named = "one head" if layers * heads == 1 else f"{layers * heads} heads"
        works = Budget(f"T = {length:,}, {heads_named}: rounds that opened, zoomed and read exact weights", "=", rounds)
        budgets.append((works, float(len(each))))
        opening.notes += [f"T = {length:,} failed: {why}" for why in failed]
        if not each:
            continue
        name = [f"{layers} × {heads}", f"{length:,}"]
        opened = [one["opened"] for one in each]
        hovers = [hover for one in opened for hover in one["hovers"]]
        opening.rows.append(
            [
                *name,
                seconds(one["python"] for one in opened),
                seconds(one["python_wall"] for one in opened),
                size(opened[0]["wire"]),
                seconds(one["renderer"] for one in opened),
                seconds(one["wall"] for one in opened),
                seconds(one["tiles"] for one in opened),
                str(max(one["network"] for one in opened)),
            ]
        )
        moving.rows.append(
            [
                *name,
                *(milliseconds([one["zooms"][step] for one in opened]) for step in range(3)),
                seconds(sum(one["zoom_tiles"]) for one in opened),
                milliseconds(hovers),
                milliseconds([max(hovers)]),
                size(opened[0]["later"]),
            ]
        )
        pattern = 4 * length**2
        peak = max(one["peak"] - one["base"] for one in each)
        memory.rows.append(
            [
                *name,
                size(each[0]["qk"]),
                size(pattern),
                size(pattern * layers * heads),
                size(peak),
                f"{number(100 * peak / pattern)} %",
                size(max(one["heap"] for one in opened)),
                size(max(one["resident"] for one in opened)),
            ]
        )
        if length >= 16384:
            what = f"T = {length:,}, {heads_named}: peak memory of Python above q and k, in T × T patterns"
            budgets.append((Budget(what, "<", SHARE), peak / pattern))
    opening.notes += [f"Medians of {rounds} rounds; each in a fresh process. CPU seconds unless the column says wall."]
    moving.notes = ["Each step is CPU time of the page's process until the new picture is complete and it rests."]
    memory.notes = [
        "*Peak above q and k*: the highest resident memory of the Python process while the view was made, opened, "
        "hovered and zoomed, less what it was when q and k were there. Far below one T × T pattern: none was ever "
        "held. At small T the fixed costs (a cache of 32 MB, the browser's driver) are most of it."
    ]
    return Claim("Long contexts", [opening, moving, memory], budgets)


def steps(length: int) -> list[tuple[int, int, int, int]]:
    """Three viewports on the diagonal, each as many times narrower than the last."""
    found = []
    for step in (1, 2, 3):
        width = round(length * (64 / length) ** (step / 3))
        start = min(round(0.7 * length - width / 2), length - width)
        found.append((start, start + width, start, start + width))
    return found


def peak() -> int:
    """The highest resident memory of this process so far, in bytes."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def main() -> None:
    """In a process of its own: one size."""
    layers, heads, length = map(int, sys.argv[1:])
    import torch

    torch.set_num_threads(1)
    from bench.browser import tabs
    from bench.data import queries_and_keys, tokens
    from bench.live import open_live
    from interpwidgets import AttentionView
    from interpwidgets.models.recording import Recording

    q, k = queries_and_keys(layers, heads, length)
    recording = Recording.from_qk(q, k, tokens=tokens(length))
    with tabs() as browser:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making q and k
        base = peak()
        opened = open_live(browser, lambda: AttentionView(recording), LIMIT, zooms=steps(length))
        version = browser.version
    found = {
        "opened": asdict(opened),
        "base": base,
        "peak": peak(),
        "qk": 4 * (q.numel() + k.numel()),
        "version": version,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
