"""Our own view, live: made in Python, opened in the browser over its own messages, hovered, zoomed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.browser import QUIET, Tab, Tabs
from bench.server import Wire, catch_comms

READY = """window.model && document.querySelector('.iw-pixels canvas') && document.querySelector('.iw-thumbs canvas')
    && !document.querySelector('.iw-busy')"""
DRAWN = """canvas => new Set(new Uint32Array(canvas.getContext('2d')
    .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
EXACT = (
    "document.querySelector('.iw-status > b') || document.querySelector('.iw-status').textContent.includes('masked')"
)


@dataclass
class Opened:
    """One opening of one view, as it was measured."""

    python: float = 0.0  # CPU seconds of making the view
    python_wall: float = 0.0
    output: int = 0  # bytes of the cell's output
    output_python: float = 0.0
    saved: int = 0  # bytes, with the state of the widget saved in the notebook
    opening: int = 0  # bytes of the opening state, scripts and styles included
    wire: int = 0  # bytes until usable
    later: int = 0  # bytes after that, in all
    paint: float = 0.0  # CPU seconds of the page's process until thumbnails and large head are painted
    renderer: float = 0.0  # … until it rests
    browser: float = 0.0
    wall: float = 0.0  # seconds from the address to rest
    tiles: float = 0.0  # CPU seconds of Python's answers
    shown: list[float] = field(default_factory=list)  # CPU seconds of each hover until the exact number is painted
    hovers: list[float] = field(default_factory=list)  # … until rest
    zooms: list[float] = field(default_factory=list)
    zoom_tiles: list[float] = field(default_factory=list)
    heap: float = 0.0
    resident: float = 0.0
    network: int = 0


def open_live(
    tabs: Tabs,
    make: Callable[[], Any],
    limit: float,
    cells: Sequence[tuple[float, float]] = ((0.9, 0.4), (0.5, 0.45), (0.75, 0.1), (0.3, 0.05), (0.99, 0.6)),
    zooms: Sequence[tuple[int, int, int, int]] = (),
) -> Opened:
    """Make the view, show it in a page, look at weights, zoom in and look again."""
    catch_comms()
    seen = Opened()
    started, wall = time.process_time(), time.monotonic()
    view = make()
    seen.python, seen.python_wall = time.process_time() - started, time.monotonic() - wall
    wire = Wire.latest
    assert wire is not None
    started = time.process_time()
    bundle = view._repr_mimebundle_()[0]
    seen.output_python = time.process_time() - started
    seen.output = len(json.dumps(bundle))
    seen.opening = wire.opening
    seen.saved = seen.output + len(json.dumps(view.get_manager_state(widgets=[view])))
    tabs.server.wire = wire
    with tabs.open(limit) as tab:
        tab.host("/live", "window.start")
        wall = time.monotonic()
        seen.paint, seen.renderer = tab.stages(lambda: tab.page.evaluate("() => start()"), READY)
        seen.wall = time.monotonic() - wall - 2 * QUIET
        seen.browser = tab.spent[1]
        seen.wire, seen.tiles = wire.bytes, wire.cpu
        seen.shown, seen.hovers = map(list, zip(*(hover(tab, view, *cell) for cell in cells), strict=True))
        for name in (".iw-pixels canvas", ".iw-thumbs canvas"):
            colours = tab.page.locator(name).first.evaluate(DRAWN)
            assert colours > 3, f"{name} shows {colours} colours: nothing is drawn"
        for viewport in zooms:
            answered = wire.cpu
            seen.zooms.append(tab.cost(lambda to=viewport: zoom(tab, to), READY))
            seen.zoom_tiles.append(wire.cpu - answered)
        if zooms:
            seen.hovers.append(hover(tab, view, 0.6, 0.4)[1])
        seen.later = wire.bytes - seen.wire
        seen.heap, seen.resident = tab.heap(), tab.resident()
        seen.network = len(tab.network)
        assert not tab.wrong, f"the page threw {tab.wrong}"
    view.close()
    return seen


def zoom(tab: Tab, viewport: Sequence[int]) -> None:
    """What a wheel does, in one step."""
    tab.page.evaluate("to => { model.set('viewport', to); model.save_changes(); }", list(viewport))


def hover(tab: Tab, view: Any, down: float, across: float) -> tuple[float, float]:
    """Point at a weight of the large picture; CPU seconds until its exact number is painted, and until rest.

    The number shown must be the number that the source holds.
    """
    box = tab.page.locator(".iw-pixels canvas").first.bounding_box()
    assert box is not None
    tab.page.mouse.move(box["x"] + 2, box["y"] - 40)
    tab.settle()
    x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
    spent = tab.stages(lambda: tab.page.mouse.move(x, y), EXACT)
    _, _, queries, keys = view.shown_source().shape
    top, bottom, left, right = tab.page.evaluate("() => model.get('viewport')") or (0, queries, 0, keys)
    query, key = int(top + down * (bottom - top)), int(left + across * (right - left))
    exact = float(view.shown_source().block(view.layer, view.head, np.array([query]), slice(key, key + 1))[0, 0])
    text = tab.page.locator(".iw-status").inner_text()
    if key > query and view.shown_source().causal:
        assert "masked" in text, text
        return spent
    shown = tab.page.locator(".iw-status > b").inner_text()
    last = 1e-4 if exact >= 1e-3 else 10.0 ** (np.floor(np.log10(exact)) - 2) if exact else 0.0
    difference = abs(float(shown.replace("\N{MINUS SIGN}", "-")) - exact)
    assert difference <= 0.51 * last, f"({query}, {key}) shows {shown}, and is {exact}"
    return spent
