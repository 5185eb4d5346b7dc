"""What CircuitsVis and BertViz put into a notebook, made in a process of its own with limits on time and memory.

BertViz's HTML asks a CDN for require.js, d3 and jQuery; we answer for the CDN from npm's copies of those versions,
so that it is measured at its best. CircuitsVis is given its own copy of its script, as it does without a network.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.data import patterns, tokens
from bench.report import ROOT

# BertViz asks for jQuery 2.0.0, which was never published to npm.
CDN = {"requirejs@2.3.6": "require.js", "d3@5.7.0": "dist/d3.min.js", "jquery@2.1.0": "dist/jquery.min.js"}
ASKED = {"requirejs@2.3.6": "require.min.js", "d3@5.7.0": "d3.min.js", "jquery@2.1.0": "jquery.min.js"}
ADDRESS_SPACE = 14 << 30  # bytes


@dataclass(frozen=True)
class Peer:
    """A view of somebody else: how to call it, when it is ready, where to point."""

    name: str
    package: str
    heads: int  # per layer
    layers: int
    make: Callable[[Any, list[str]], str]  # torch [layer, head, query, key] and tokens -> HTML
    ready: str  # JavaScript: whether something is drawn
    points: str  # JavaScript: places to hover (or click), [[x, y], …]
    click: bool = False
    weigh: bool = False  # whether its bytes are of interest also where the browser has given up

    @property
    def title(self) -> str:
        """As in a table."""
        return f"{self.name}, {self.layers * self.heads} heads"


def _circuitsvis_heads(attention: Any, words: list[str]) -> str:
    from circuitsvis.attention import attention_heads

    return str(attention_heads(attention.flatten(0, 1), words).local_src)


def _circuitsvis_patterns(attention: Any, words: list[str]) -> str:
    from circuitsvis.attention import attention_patterns

    return str(attention_patterns(words, attention.flatten(0, 1)).local_src)


def _bertviz_head_view(attention: Any, words: list[str]) -> str:
    from bertviz import head_view

    return str(head_view(tuple(layer[None] for layer in attention), words, html_action="return").data)


def _bertviz_model_view(attention: Any, words: list[str]) -> str:
    from bertviz import model_view

    return str(model_view(tuple(layer[None] for layer in attention), words, html_action="return").data)


def _centres(elements: str) -> str:
    """The middles of the elements of a selector that are on screen, five of them."""
    return f"""[...document.querySelectorAll({elements!r})]
        .map(e => e.getBoundingClientRect())
        .filter(r => r.width > 3 && r.top >= 0 && r.bottom < innerHeight && r.right < innerWidth)
        .slice(0, 5).map(r => [r.x + r.width / 2, r.y + r.height / 2])"""


PEERS = (
    *(
        Peer(
            "CircuitsVis attention_heads",
            "circuitsvis",
            12,
            layers,
            _circuitsvis_heads,
            f"document.querySelectorAll('canvas').length > {12 * layers}",
            _centres("canvas"),
            weigh=True,
        )
        for layers in (12, 1)
    ),
    *(
        Peer(
            "CircuitsVis attention_patterns",
            "circuitsvis",
            12,
            layers,
            _circuitsvis_patterns,
            f"document.querySelectorAll('figure').length >= {12 * layers}",
            _centres("figure"),
        )
        for layers in (12, 1)
    ),
    Peer(
        "BertViz head_view",
        "bertviz",
        12,
        12,
        _bertviz_head_view,
        "document.querySelectorAll('svg line').length",
        _centres("rect.background"),
        weigh=True,
    ),
    Peer(
        "BertViz model_view",
        "bertviz",
        12,
        12,
        _bertviz_model_view,
        "document.querySelectorAll('svg line').length",
        _centres("svg rect[style*='pointer'], svg rect:not(.attn_background)"),
        click=True,
    ),
)


@dataclass
class Made:
    """HTML that a peer made, or why there is none."""

    cpu: float | None = None
    bytes: int | None = None
    network: int = 0
    why_not: str = ""


def missing(package: str) -> bool:
    """Whether a peer is not installed."""
    return find_spec(package) is None


def make(index: int, length: int, limit: float, path: Path) -> Made:
    """Let a peer write its HTML for `length` tokens to `path`."""
    command = [sys.executable, "-m", "bench.peers", str(index), str(length), str(limit), str(path)]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "no_proxy": "*"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return Made(**json.loads(lines[-1]))
    if done.returncode < 0:
        return Made(why_not=f"Python did not finish in {limit:.0f} CPU-s")
    if "MemoryError" in done.stderr or "alloc" in done.stderr:
        return Made(why_not=f"Python ran out of {ADDRESS_SPACE >> 30} GiB")
    reason = done.stderr.strip().splitlines()
    return Made(why_not=f"Python failed: {reason[-1] if reason else done.returncode}")


def scripts_of_cdn(folder: Path) -> dict[str, Path]:
    """The scripts that BertViz asks a CDN for, by the last part of their address; empty where npm cannot get them."""
    with suppress(OSError, subprocess.SubprocessError):
        folder.mkdir(parents=True, exist_ok=True)
        found = {name: folder / "node_modules" / pinned.split("@")[0] / CDN[pinned] for pinned, name in ASKED.items()}
        if not all(path.exists() for path in found.values()):
            (folder / "package.json").write_text('{"private": true}')
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", *CDN]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        return found
    return {}


def main() -> None:
    """In the process of its own: make the data, then the HTML, and print what it cost."""
    index, length, limit, path = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
    import torch

    torch.set_num_threads(1)
    peer = PEERS[index]
    attention = torch.from_numpy(patterns(peer.layers, peer.heads, length, seed=length))
    words = tokens(length, seed=length)
    peer.make(attention[:1, :, :2, :2], words[:2])  # imports are not counted
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    started = time.process_time()
    most = int(started + limit) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
    html = peer.make(attention, words)
    cpu = time.process_time() - started
    encoded = html.encode()
    path.write_bytes(encoded)
    sys.stdout.write(json.dumps({"cpu": cpu, "bytes": len(encoded)}) + "\n")


if __name__ == "__main__":
    main()
