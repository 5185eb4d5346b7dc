"""What it costs to import the package, and the bytes of JavaScript that travel with a view."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import zlib
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from bench.attention import say
from bench.report import ROOT, Budget, Claim, Table, middle, number, size, times

IMPORTS = {
    "import interpwidgets": "interpwidgets",
    "from interpwidgets import AttentionView": "interpwidgets",
    "import circuitsvis": "circuitsvis",
    "import bertviz": "bertviz",
}
TIMED = """import sys, time; started, wall = time.process_time(), time.perf_counter()
{statement}
print(time.process_time() - started, time.perf_counter() - wall, int("torch" in sys.modules))"""


def run(rounds: int) -> tuple[Claim, str]:
    """Import in fresh processes, in turn; weigh the bundles."""
    spent: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for turn in range(rounds + 1):
        for statement, package in IMPORTS.items():
            if find_spec(package) is None:
                continue
            say(f"round {turn}, {statement}") if turn == 0 else None
            command = [sys.executable, "-c", TIMED.format(statement=statement)]
            done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
            cpu, wall, torch = done.stdout.split()
            if turn:  # the first brings the files into memory
                spent[statement].append((float(cpu), float(wall), int(torch)))
    ours = middle([cpu for cpu, _, _ in spent["import interpwidgets"]])
    imports = Table("Import", ["statement", "CPU", "wall", "torch imported", "× ours"])
    for statement, each in spent.items():
        cpu, wall = middle([cpu for cpu, _, _ in each]), middle([wall for _, wall, _ in each])
        torch = "yes" if each[0][2] else "no"
        imports.rows.append([f"`{statement}`", f"{number(cpu)} s", f"{number(wall)} s", torch, times(ours, cpu)])
    imports.notes = [f"Medians of {rounds} fresh processes, in turn."]

    bundles = Table("JavaScript of a view", ["script", "as it travels", "minified, before packing", "× ours"])
    largest = 0
    for path in sorted((ROOT / "interpwidgets/static").glob("*.js")):
        travels, minified = path.stat().st_size, unpacked(path)
        largest = max(largest, travels)
        bundles.rows.append([path.name, size(travels), size(minified), "1×"])
    found = find_spec("circuitsvis")
    if found and found.origin:
        script = (Path(found.origin).parent / "dist/cdn/iife.js").stat().st_size
        bundles.rows.append(["CircuitsVis, in every output when offline", size(script), size(script), ""])
        bundles.rows[-1][-1] = times(largest, script)
    bundles.notes = [
        "A view's script is deflated and unpacks itself; it travels with every instance. `host.js` is for stand-alone "
        "pages only."
    ]
    imported_torch = float(any(torch for _, _, torch in spent["import interpwidgets"]))
    wall = middle([wall for _, wall, _ in spent["import interpwidgets"]])
    budgets = [
        (Budget("import interpwidgets, wall", "<", 0.3, " s"), wall),
        (Budget("torch imported by import interpwidgets", "=", 0), imported_torch),
        (Budget("the largest view's JS as it travels", "≤", 40, " kB"), largest / 1e3),
    ]
    return Claim("The package", [imports, bundles], budgets), ""


def unpacked(path: Path) -> int:
    """Bytes of a script before it was packed."""
    text = path.read_text("utf-8")
    packed = re.search(r'atob\("([A-Za-z0-9+/=]{1000,})"\)', text)
    return len(zlib.decompress(base64.b64decode(packed[1]))) if packed else len(text.encode())
