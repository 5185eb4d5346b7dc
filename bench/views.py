"""Every view: what it costs to open ten of them, whether scrolling and pointing stay smooth, bytes against the peer."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from types import CodeType
from typing import Any

import numpy as np

from bench.attention import say
from bench.browser import Tab, Tabs, tabs
from bench.data import tokens
from bench.report import ROOT, Budget, Claim, Table, middle, number, size, times
from bench.server import Wire, catch_comms

READY = "document.querySelector('.interpwidgets section') && !document.querySelector('.iw-busy')"
LIMIT = 60.0  # CPU seconds
FRAME = 1000 / 60  # ms
# Scroll (a box, or the page) and move the pointer over the view for so many frames; the time that each took.
FRAMES = """async ([count, selector]) => {
    const root = document.querySelector('.interpwidgets section');
    const boxes = [...root.querySelectorAll(selector)].filter((box) => box.scrollHeight > box.clientHeight + 40);
    const box = boxes[0] ?? document.scrollingElement;
    const area = (boxes[0] ?? root).getBoundingClientRect();
    const frame = () => new Promise(requestAnimationFrame);
    let last = await frame();
    const times = [];
    const way = box.scrollHeight - box.clientHeight;
    for (let i = 0; i < count; i++) {
        box.scrollTop = Math.abs((i * 17) % (2 * way || 1) - way); // down and up again
        const x = area.x + 20 + (i * 23) % (area.width - 40);
        const y = area.y + 10 + (i * 7) % Math.min(area.height - 20, 300);
        const under = document.elementFromPoint(x, y);
        for (const type of ['pointermove', 'mousemove', 'mouseover'])
            under?.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, bubbles: true }));
        const now = await frame();
        times.push(now - last);
        last = now;
    }
    return times;
}"""


def run(rounds: int, length: int = 2048, neurons: int = 100_000, names: tuple[str, ...] = ()) -> tuple[Claim, str]:
    """Open, scroll and weigh."""
    catch_comms()
    opened: dict[str, list[tuple[float, float, int, float]]] = defaultdict(list)
    together: list[tuple[float, float]] = []
    smooth: dict[str, list[float]] = {}
    made = gallery(names)
    with tabs({}) as browser, tempfile.TemporaryDirectory() as scratch:
        for turn in range(rounds):
            for name, make in made.items():
                say(f"round {turn + 1}: {name}")
                opened[name].append(open_alone(browser, make))
            say(f"round {turn + 1}: all on one page")
            together.append(open_together(browser, [make() for make in made.values()], Path(scratch)))
        for name, make in long(length, neurons).items():
            say(f"frames of {name}")
            smooth[name] = frames(browser, make)
        version = browser.version
    return claim(opened, together, smooth, peers(256), length, rounds), version


def gallery(names: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """The views of the gallery, by name: each made anew when called. Their models are loaded beforehand."""
    found: dict[str, Callable[[], Any]] = {}
    for path in sorted((ROOT / "docs/gallery").glob("*.py")):
        if names and path.stem not in names:
            continue
        lines = [line for line in path.read_text("utf-8").split('"""', 2)[2].splitlines() if line.strip()]
        start = max(i for i, line in enumerate(lines) if line.startswith("view = "))
        scope: dict[str, Any] = {}
        exec("\n".join(lines[:start]), scope)
        code = compile("\n".join(lines[start:]), str(path), "exec")
        found[path.stem] = partial(made_by, code, scope)
    return found


def made_by(code: CodeType, scope: dict[str, Any]) -> Any:
    """The view that the last lines of a page make; of a dashboard, the first one."""
    exec(code, scope)
    view = scope["view"]
    return view if not hasattr(view, "views") else view.views[0]


def open_alone(browser: Tabs, make: Callable[[], Any]) -> tuple[float, float, int, float]:
    """CPU seconds of Python, of the page until it is painted, bytes on the wire, wall seconds in the page."""
    started = time.process_time()
    view = make()
    python = time.process_time() - started
    wire = view.comm
    assert isinstance(wire, Wire)
    browser.server.wire = wire
    with browser.open(LIMIT) as tab:
        tab.host("/live", "window.start")
        walls: list[float] = []
        act = partial(tab.page.evaluate, "() => start()")
        painted, _ = tab.stages(lambda: walls.append(drawn(tab, act, READY)), READY)
        assert not tab.wrong, f"the page threw {tab.wrong}"
    return python, painted, wire.bytes, walls[0]


def drawn(tab: Tab, act: Callable[[], Any], ready: str) -> float:
    """Wall seconds from an act until its views are painted."""
    started = time.monotonic()
    act()
    tab.page.wait_for_function(f"() => {ready}", polling="raf")
    tab.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return time.monotonic() - started


def open_together(browser: Tabs, views: list[Any], scratch: Path) -> tuple[float, float]:
    """All on one page: CPU seconds of the page, and wall seconds, until every view is there and the page rests."""
    from interpwidgets import save_page

    browser.server.pages["/all"] = save_page(scratch / "all.html", "all", views, max_mb=1)
    all_there = f"document.querySelectorAll('.interpwidgets .iw-title').length === {len(views)}"
    ready = f"{all_there} && !document.querySelector('.iw-busy')"
    walls: list[float] = []
    with browser.open(LIMIT) as tab:
        tab.host("/empty", "true")
        act = partial(tab.page.goto, f"{browser.server.address}/all", wait_until="commit")
        cpu, _ = tab.stages(lambda: walls.append(drawn(tab, act, ready)), ready)
        assert not tab.wrong, f"the page threw {tab.wrong}"
    return cpu, walls[0]


def long(length: int, neurons: int) -> dict[str, Callable[[], Any]]:
    """Views of long texts and many neurons."""
    import interpwidgets as iw
    from interpwidgets.intervene import Axis

    rng = np.random.default_rng(0)
    words = tokens(length)
    losses = rng.gamma(2.0, 1.5, length)
    acts = rng.gamma(0.3, 1.0, (64, neurons)).astype(np.float32)
    some = rng.gamma(0.3, 1.0, (length, 500)).astype(np.float32)
    rec = iw.record(untrained(length), rng.integers(0, 5000, (1, length)).tolist())
    axes = (Axis("layer", tuple(range(12))), Axis("pos", tuple(range(length))))
    effects = iw.Effects(
        values=rng.normal(size=(12, length, 2)), axes=axes, metric="noise", corrupted=np.zeros(2), how="drawn at random"
    )
    return {
        f"AttentionView, {length:,} tokens": lambda: iw.AttentionView(rec),
        f"TokensView, {length:,} tokens": lambda: iw.TokensView(words, {"loss": losses}),
        f"TopTokensView, {length:,} tokens": lambda: iw.TopTokensView(rec),
        f"LogitLensView, {length:,} tokens": lambda: iw.LogitLensView(rec),
        f"PatchingView, 12 × {length:,} cells": lambda: iw.PatchingView(effects),
        f"NeuronsView, {length:,} tokens": lambda: iw.NeuronsView(some, tokens=words),
        f"NeuronsView, {neurons:,} neurons": lambda: iw.NeuronsView(acts, tokens=tokens(64)),
    }


def untrained(length: int) -> Any:
    """A GPT-2 of four layers with random weights that reads so many tokens of 5,000."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape: dict[str, Any] = {"n_layer": 4, "n_head": 4, "n_embd": 64, "vocab_size": 5000, "n_positions": length}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval()


def frames(browser: Tabs, make: Callable[[], Any], count: int = 150) -> list[float]:
    """Milliseconds of each frame while the view is scrolled and pointed at."""
    view = make()
    browser.server.wire = Wire.latest
    with browser.open(LIMIT) as tab:
        tab.host("/live", "window.start")
        tab.stages(lambda: tab.page.evaluate("() => start()"), READY)
        times_of: list[float] = tab.page.evaluate(FRAMES, [count, "div"])
        assert not tab.wrong, f"the page threw {tab.wrong}"
    view.close()
    return times_of


def peers(length: int) -> list[tuple[str, int, int | None, int | None]]:
    """What a cell holds, in bytes: our view's state and output; the peer's HTML, with and without its script."""
    import interpwidgets as iw

    rng = np.random.default_rng(0)
    words = tokens(length)
    loss = rng.normal(size=length).astype(np.float32)
    many = rng.normal(size=(length, 8)).astype(np.float32)
    acts = np.abs(rng.normal(size=(length, 4, 64))).astype(np.float32)
    logits = rng.normal(size=(length, 5000)).astype(np.float32)
    ids = rng.integers(0, 5000, length)
    names = [f"s{i}" for i in range(8)]
    cases: list[tuple[str, Callable[[], Any], Callable[[Any], Any]]] = [
        ("colored_tokens", lambda: iw.TokensView(words, loss), lambda cv: cv.tokens.colored_tokens(words, loss)),
        (
            "colored_tokens_multi, 8 series",
            lambda: iw.TokensView(words, dict(zip(names, many.T, strict=True))),
            lambda cv: cv.tokens.colored_tokens_multi(words, _tensor(many), labels=names),
        ),
        (
            "text_neuron_activations, 4 × 64",
            lambda: iw.NeuronsView(acts, tokens=words),
            lambda cv: cv.activations.text_neuron_activations(words, _tensor(acts)),
        ),
        (
            "token_log_probs, 5,000 words",
            lambda: iw.TopTokensView(logits, tokens=ids, decode=lambda ids: [str(i) for i in ids]),
            lambda cv: cv.logits.token_log_probs(_tensor(ids), _tensor(logits).log_softmax(-1), lambda i: str(int(i))),
        ),
    ]
    found: list[tuple[str, int, int | None, int | None]] = []
    peer = _circuitsvis()
    for name, ours, theirs in cases:
        view = ours()
        assert Wire.latest is not None
        mine = Wire.latest.opening + len(json.dumps(view._repr_mimebundle_()[0]))
        html = theirs(peer) if peer else None
        found.append((name, mine, html and len(html.local_src), html and len(html.cdn_src)))
        view.close()
    return found


def _circuitsvis() -> Any:
    if find_spec("circuitsvis") is None:
        return None
    import circuitsvis
    import circuitsvis.activations
    import circuitsvis.logits
    import circuitsvis.tokens

    return circuitsvis


def _tensor(values: Any) -> Any:
    import torch

    return torch.from_numpy(np.asarray(values))


def claim(
    opened: dict[str, list[tuple[float, float, int, float]]],
    together: list[tuple[float, float]],
    smooth: dict[str, list[float]],
    weighed: list[tuple[str, int, int | None, int | None]],
    length: int,
    rounds: int,
) -> Claim:
    """The tables and the budgets."""
    each = Table("Each view of the gallery, live", ["view", "Python", "on the wire", "first paint", "wall"])
    for name, seen in opened.items():
        python, paint, wire, wall = (middle([one[i] for one in seen]) for i in range(4))
        each.rows.append([name, f"{number(python)} CPU-s", size(wire), f"{number(paint)} CPU-s", f"{number(wall)} s"])
    each.notes = [
        f"Medians of {rounds} rounds. *Python*: making the view of data that is there, its first screen included. "
        "*On the wire*: script, style, state, tiles. *First paint*: CPU time of the page's process until it is drawn."
    ]
    cpu, wall = (middle([one[i] for one in together]) for i in range(2))
    each.rows.append([f"all {len(opened)} on one page", "–", "–", f"{number(cpu)} CPU-s", f"{number(wall)} s"])
    move = Table("Scrolling and pointing", ["view", "median frame", "95th percentile", "longest", "frames"])
    worst = None
    for name, seen_frames in smooth.items():
        high = quantiles(seen_frames, n=20)[-1]
        worst = max(worst or 0.0, high)
        cells = [middle(seen_frames), high, max(seen_frames)]
        move.rows.append([name, *(f"{number(cell)} ms" for cell in cells), str(len(seen_frames))])
    move.notes = ["The view is scrolled and pointed at anew in every frame. A screen of 60 Hz draws one every 16.7 ms."]
    bytes_ = Table(
        "Bytes in the notebook, against CircuitsVis",
        ["its function", "ours", "CircuitsVis, offline", "× ours", "CircuitsVis, script on a CDN", "× ours"],
    )
    for name, mine, whole, data in weighed:
        bytes_.rows.append([name, size(mine), size(whole), times(mine, whole), size(data), times(mine, data)])
    bytes_.notes = [
        "256 tokens. Ours: state with script, style and first tiles, and the output "
        "with its picture and table for where no script runs: never a network. CircuitsVis: its HTML, which holds its "
        "script where the kernel is offline, and fetches it from a CDN where it is not."
    ]
    return Claim(
        "Every view",
        [each, move, bytes_],
        [
            (Budget(f"{len(opened)} views on one page drawn, wall", "<", 1.0, " s"), wall),
            (Budget(f"95th percentile of frames, {length:,} tokens or 10⁵ neurons", "≤", 1.05 * FRAME, " ms"), worst),
        ],
    )
