"""The attention view against CircuitsVis and BertViz: the same tensors, the same run, the same browser."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.browser import NotFinished, Tabs, tabs
from bench.data import patterns, queries_and_keys, tokens
from bench.live import Opened, open_live
from bench.peers import PEERS, Peer, make, missing, scripts_of_cdn
from bench.report import ROOT, Budget, Claim, Table, middle, number, size, times

LAYERS = HEADS = 12
CHEAP = 4.0  # CPU seconds: what took less is measured again in the next round
DEAR = 1.0  # CPU seconds: what takes more to point at is pointed at twice only
PYTHON = 90.0  # CPU seconds that a peer may take to make its HTML
LARGEST_HTML = 300e6  # bytes; a browser takes minutes to refuse more


@dataclass
class Shown:
    """What one peer cost at one length."""

    python: list[float] = field(default_factory=list)
    bytes: int | None = None
    renderer: list[float] = field(default_factory=list)
    browser: list[float] = field(default_factory=list)
    hovers: list[float] = field(default_factory=list)
    heap: float | None = None
    network: int = 0
    why_not: str = ""


def run(lengths: Sequence[int], rounds: int, limit: float, peer_lengths: Sequence[int]) -> tuple[Claim, str]:
    """Measure, round by round; peers and ourselves in turn."""
    ours: dict[int, list[Opened]] = defaultdict(list)
    atlas: dict[int, list[tuple[float, float]]] = defaultdict(list)
    theirs: dict[tuple[int, int], Shown] = defaultdict(Shown)
    with tempfile.TemporaryDirectory() as scratch:
        cdn = scripts_of_cdn(ROOT / "build/bench") if peer_lengths and not missing("bertviz") else {}
        with tabs(cdn) as browser, suppress(KeyboardInterrupt):  # Ctrl-C: a report of what there is
            for turn in range(rounds):
                for length in lengths:
                    say(f"round {turn + 1}, T = {length}: interpwidgets")
                    opened = open_ours(browser, length, limit)
                    atlas[length].append(atlas_alone(length))
                    ours[length].append(opened)
                for i, peer in enumerate(PEERS):
                    for length in peer_lengths if not missing(peer.package) else ():
                        try_peer(browser, peer, theirs, i, lengths, length, limit, Path(scratch), bool(cdn))
        version = browser.version
    lengths = [length for length in lengths if length in ours]
    rounds = max(map(len, ours.values()), default=0)
    return claim(lengths, ours, atlas, theirs, limit, rounds, peer_lengths), version


def say(what: str) -> None:
    """Tell who waits what is being done."""
    print(f"  {what}", file=sys.stderr, flush=True)


def open_ours(browser: Tabs, length: int, limit: float) -> Opened:
    """Our view of an array."""
    from interpwidgets import AttentionView

    attention = patterns(LAYERS, HEADS, length, seed=length)
    words = tokens(length, seed=length)
    return open_live(browser, lambda: AttentionView(attention, tokens=words), limit)


def atlas_alone(length: int) -> tuple[float, float]:
    """CPU seconds of all thumbnails: from an array, and from q and k."""
    import time

    from interpwidgets.models.recording import Recording
    from interpwidgets.views.pyramid import atlas
    from interpwidgets.views.source import attention_sources

    spent = []
    recording = Recording.from_qk(*queries_and_keys(LAYERS, HEADS, length))
    for data in (patterns(LAYERS, HEADS, length, seed=length), recording):
        source = attention_sources(data, None, None, None, False)[0]
        started = time.process_time()
        atlas(source)
        spent.append(time.process_time() - started)
    return spent[0], spent[1]


def try_peer(
    browser: Tabs,
    peer: Peer,
    theirs: dict[tuple[int, int], Shown],
    index: int,
    lengths: Sequence[int],
    length: int,
    limit: float,
    scratch: Path,
    cdn: bool,
) -> None:
    """Let a peer make its HTML and open it; not if a shorter text was too much, nor again if it took long."""
    seen = theirs[index, length]
    if seen.why_not or (seen.renderer and seen.renderer[0] > CHEAP):
        return
    smaller = [t for t in lengths if t < length and (index, t) in theirs]
    failed = next((t for t in smaller if theirs[index, t].why_not), None)
    if failed is not None and not peer.weigh:
        seen.why_not = f"not tried: see T = {failed}"
        return
    if (dear := too_dear([(t, theirs[index, t].python) for t in smaller], length)) is not None:
        seen.why_not = f"not tried: by T = {dear}, Python would take over {PYTHON:.0f} CPU-s"
        return
    say(f"T = {length}: {peer.title}")
    html = scratch / "peer.html"
    made = make(index, length, PYTHON, html)
    if made.cpu is None:
        seen.why_not = made.why_not
        return
    seen.python.append(made.cpu)
    seen.bytes = made.bytes
    if failed is not None:
        seen.why_not = f"not opened: see T = {failed}"
    elif made.bytes and made.bytes > LARGEST_HTML:
        seen.why_not = f"not opened: more than {size(LARGEST_HTML)} of HTML"
    elif peer.package == "bertviz" and not cdn:
        seen.why_not = "not opened: needs scripts from a CDN, and there is no network"
    else:
        browser.server.pages["/peer"] = html
        try:
            open_peer(browser, peer, seen, limit)
        except NotFinished as stopped:
            seen.why_not = f"drawn; pointing {stopped}" if seen.renderer else str(stopped)
    html.unlink()


def too_dear(spent: Sequence[tuple[int, list[float]]], length: int) -> int | None:
    """The length by which Python's time, which follows the number of weights, would be over the limit; else None."""
    for smaller, python in spent:
        # A short text is mostly fixed costs, so only what took a while tells.
        if not python or (python[0] > 1 and python[0] * (length / smaller) ** 2 > PYTHON):
            return smaller
    return None


def open_peer(browser: Tabs, peer: Peer, seen: Shown, limit: float) -> None:
    """Open a peer's HTML, wait until all is drawn, point at five places."""
    with browser.open(limit) as tab:
        seen.renderer.append(tab.show("/peer", peer.ready))
        seen.browser.append(tab.spent[1])
        seen.network = len(tab.network)
        tab.restart_limit()
        for i, (x, y) in enumerate(tab.page.evaluate(f"() => {peer.points}")):
            if i > 1 and seen.hovers[-1] > DEAR:
                break
            act = tab.page.mouse.click if peer.click else tab.page.mouse.move
            seen.hovers.append(tab.cost(lambda act=act, x=x, y=y: act(x, y)))
        seen.heap = tab.heap()


def claim(
    lengths: Sequence[int],
    ours: dict[int, list[Opened]],
    atlas: dict[int, list[tuple[float, float]]],
    theirs: dict[tuple[int, int], Shown],
    limit: float,
    rounds: int,
    peer_lengths: Sequence[int],
) -> Claim:
    """The figures as tables, and the promises about them."""
    peers = [(i, peer) for i, peer in enumerate(PEERS) if not missing(peer.package)]
    tables = [
        own_table(lengths, ours, atlas, rounds),
        *(peer_table(lengths, ours, theirs, i, peer, limit) for i, peer in peers if peer_lengths),
    ]
    tables.append(summary(lengths, ours, theirs, peers))
    short = [t for t in lengths if t <= 1024]
    every = [opened for t in short for opened in ours[t]]
    long = atlas.get(1024, [])
    circuitsvis = theirs.get((0, 512), Shown()).bytes
    wire = ours[512][0].wire if ours.get(512) else None
    budgets = [
        (
            Budget("bytes until usable, 144 heads, T = 512, against CircuitsVis' HTML", "≥", 100, "×"),
            circuitsvis / wire if circuitsvis and wire else None,
        ),
        (
            Budget("first usable paint, worst T ≤ 1,024, renderer", "<", 0.2, " CPU-s"),
            max(middle([o.paint for o in ours[t]]) or 0 for t in short),
        ),
        (
            Budget("hover until the exact number is shown, worst T ≤ 1,024 (median of its hovers)", "<", 50, " ms"),
            1000 * max(middle([h for o in ours[t] for h in o.shown]) or 0 for t in short),
        ),
        (
            Budget("bytes into the notebook, worst T ≤ 1,024", "<", 1, " MB"),
            max(o.output for o in every) / 1e6,
        ),
        (Budget("JS heap, arrays included, worst T ≤ 1,024", "<", 50, " MB"), max(o.heap for o in every) / 1e6),
        (
            Budget("atlas of 144 heads at T = 1,024, from an array, Python", "≤", 0.5, " CPU-s"),
            middle([array for array, _ in long]),
        ),
        (
            Budget("atlas of 144 heads at T = 1,024, from q and k, Python", "≤", 0.5, " CPU-s"),
            middle([qk for _, qk in long]),
        ),
        (Budget("network requests", "=", 0), max(o.network for o in every)),
    ]
    return Claim("The attention view, and the peers on the same tensors", tables, budgets)


def own_table(
    lengths: Sequence[int], ours: dict[int, list[Opened]], atlas: dict[int, list[tuple[float, float]]], rounds: int
) -> Table:
    """Ourselves, with everything that was measured."""
    columns = ["T", "Python: make the view", "its output", "atlas: array", "atlas: q, k"]
    columns += ["output", "with saved state", "on the wire"]
    columns += ["first paint", "usable", "all of browser", "number shown", "hover median", "hover worst"]
    columns += ["JS heap", "requests"]
    table = Table("interpwidgets AttentionView, 12 × 12 heads", columns)
    for length in lengths:
        opened = ours[length]
        hovers = [hover for each in opened for hover in each.hovers]
        table.rows.append(
            [
                f"{length:,}",
                seconds(each.python for each in opened),
                seconds(each.output_python for each in opened),
                seconds(array for array, _ in atlas[length]),
                seconds(qk for _, qk in atlas[length]),
                size(opened[0].output),
                size(opened[0].saved),
                size(opened[0].wire),
                seconds(each.paint for each in opened),
                seconds(each.renderer for each in opened),
                seconds(each.browser for each in opened),
                milliseconds([shown for each in opened for shown in each.shown]),
                milliseconds(hovers),
                milliseconds([max(hovers)]),
                size(max(each.heap for each in opened)),
                str(max(each.network for each in opened)),
            ]
        )
    table.notes = [
        f"CPU time, medians of {rounds} rounds. The tensors are causal attention made from a seed: noise on every "
        "head, with first-token, previous-token and induction stripes.",
        "The host's page is loaded and at rest, as a notebook is; then the view opens in it over the widget's own comm "
        "messages, carried by HTTP on the loopback instead of a websocket. (Of a peer's page, the cost of loading an "
        "empty page is taken off.) *Usable*: thumbnails and the "
        "large head are drawn and the page's process rests; its CPU time until then, all threads, unpacking "
        "included. *First paint*: until both are on the screen; what follows is mostly the browser compiling what it "
        "has just run. *On the wire*: opening state and tiles until then, with script and styles. *Output*: the cell's "
        "MIME bundle, in which most bytes are the picture for places where no script runs.",
        "*Hover*: the pointer goes to a weight; CPU time until its exact number is painted (*number shown*; checked "
        "against the tensor), and until the page rests (median, worst).",
    ]
    return table


def peer_table(
    lengths: Sequence[int],
    ours: dict[int, list[Opened]],
    theirs: dict[tuple[int, int], Shown],
    index: int,
    peer: Peer,
    limit: float,
) -> Table:
    """One peer, its costs and how many times ours they are."""
    columns = ["T", "Python", "HTML", "usable", "all of browser", "click" if peer.click else "hover", "JS heap", "CDN"]
    columns += ["outcome", "× our Python", "× our bytes", "× our CPU until usable", "× our hover"]
    table = Table(peer.title, columns)
    for length in lengths:
        seen = theirs.get((index, length))
        if seen is None:
            continue
        opened = ours[length]
        table.rows.append(
            [
                f"{length:,}",
                seconds(seen.python),
                size(seen.bytes),
                seconds(seen.renderer),
                seconds(seen.browser),
                milliseconds(seen.hovers),
                size(seen.heap),
                str(seen.network) if seen.renderer else "–",
                seen.why_not or ("drawn" if seen.renderer else "stopped"),
                times(middle([o.python + o.output_python + o.tiles for o in opened]), middle(seen.python)),
                times(opened[0].wire, seen.bytes),
                times(middle([o.renderer for o in opened]), middle(seen.renderer)),
                times(middle([h for o in opened for h in o.hovers]), middle(seen.hovers)),
            ]
        )
    if peer.layers == 1:
        table.notes.append("12 heads, where ours has 144 in the same comparison.")
    if "patterns" in peer.name:
        table.notes.append(
            "It computes on WebGL; without a GPU that is another process of the browser, so `all of browser` is the "
            "column to read."
        )
    table.notes.append(
        f"Limits: {limit:.0f} CPU-s of the whole browser to draw, and again to point; {PYTHON:.0f} CPU-s of Python. "
        "After a failure no larger T is opened. Ours, in the ratios: Python makes the view, its output and its tiles; "
        "bytes are those on the wire."
    )
    return table


def summary(
    lengths: Sequence[int],
    ours: dict[int, list[Opened]],
    theirs: dict[tuple[int, int], Shown],
    peers: Sequence[tuple[int, Peer]],
) -> Table:
    """How far each view gets, in one look."""
    table = Table(
        "In short: CPU seconds until usable (and per hover)",
        ["view", *(f"T = {length:,}" for length in lengths), "largest T drawn"],
    )
    own = [
        f"{number(middle([o.renderer for o in ours[t]]))} ({number(middle([h for o in ours[t] for h in o.hovers]))})"
        for t in lengths
    ]
    table.rows.append(["**interpwidgets, 144 heads**", *own, f"{max(lengths):,}, and see below"])
    for i, peer in peers:
        cells, largest = [], "–"
        for length in lengths:
            seen = theirs.get((i, length), Shown())
            hovered = number(middle(seen.hovers)) if seen.hovers else "–"
            cells.append(f"{number(middle(seen.renderer))} ({hovered})" if seen.renderer else "–")
            if seen.renderer:
                largest = f"{length:,}"
        table.rows.append([peer.title, *cells, largest])
    return table


def seconds(values: Iterable[float]) -> str:
    """The median of CPU seconds."""
    found = list(values)
    return f"{number(middle(found))} s" if found else "–"


def milliseconds(values: Sequence[float]) -> str:
    """The median of some CPU times, in milliseconds."""
    found = middle(values)
    return f"{number(1000 * found)} ms" if found is not None else "–"
