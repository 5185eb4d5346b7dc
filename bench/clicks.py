"""From a click to its pixels in a store of features: the next one, a row of the table, any number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.browser import Tabs, tabs
from bench.report import Table, number
from bench.server import Wire, catch_comms

LIMIT = 300.0  # CPU seconds
REST = 400  # ms between a picture and the next click
READY = "document.querySelector('.iw-feature article .iw-kwic') && !document.querySelector('.iw-busy')"
SCROLL = "share => { const box = document.querySelector('.iw-rows-body'); box.scrollTop = share * box.scrollHeight; }"
# Click, and wait until a frame with the number of the feature and its examples is painted.
CLICK = """async ([what, given]) => {
    const view = document.querySelector('.iw-feature');
    const button = [...view.querySelectorAll('button')].find((each) => each.textContent === 'next');
    const field = view.querySelector('input[type=number]');
    const body = view.querySelector('.iw-rows-body').getBoundingClientRect();
    const inside = ({ top, bottom }) => top >= body.top && bottom <= body.bottom;
    const rows = [...view.querySelectorAll('.iw-rows-row')].filter((row) => inside(row.getBoundingClientRect()));
    const row = rows[given % rows.length];
    const to = { next: Number(field.value) + 1, row: parseInt(row.innerText), jump: given }[what];
    const title = `Feature ${to.toLocaleString('en')}`;
    const there = () =>
        view.querySelector('article h3').textContent === title &&
        view.querySelector('.iw-examples').ariaLabel.startsWith(`Examples of feature ${to}.`) &&
        view.querySelector('.iw-kwic .iw-peak');
    if (what === 'jump') {
        field.value = to;
        field.dispatchEvent(new Event('input', { bubbles: true }));
        await new Promise((done) => setTimeout(done, 100));
    }
    const started = performance.now();
    if (what === 'next') button.click();
    if (what === 'row') row.click();
    if (what === 'jump') field.dispatchEvent(new Event('change', { bubbles: true }));
    do await new Promise(requestAnimationFrame);
    while (!there());
    const { port1, port2 } = new MessageChannel(); // its turn comes when the frame is painted
    const painted = new Promise((done) => (port1.onmessage = done));
    port2.postMessage(0);
    await painted;
    return performance.now() - started;
}"""


def run(folder: Path, clicks: int) -> tuple[Table, float, str]:
    """Milliseconds of so many clicks of each kind; the largest 95th percentile, and the browser."""
    import interpwidgets as iw

    catch_comms()
    store = iw.FeatureStore.open(folder)
    view = iw.FeatureView(store, feature=len(store) // 2)
    table = Table("From a click to its pixels, live", ["features", "click", "median", "95 %", "longest", "clicks"])
    worst = 0.0
    with tabs({}) as browser:
        for what, taken in measured(browser, len(store), clicks):
            middle, high, longest = np.percentile(taken, [50, 95, 100]).tolist()
            worst = max(worst, high)
            cells = [f"{number(value)} ms" for value in (middle, high, longest)]
            table.rows.append([f"{len(store):,}", what, *cells, str(len(taken))])
        version = browser.version
    view.close()
    table.notes = [
        "Wall time from the click until a frame is painted with the number of the feature and its first examples: "
        "Python's answer, its way to the page, and drawing. *next*: the button. *row*: one in view, of a table "
        "that was scrolled to a place drawn at random. *jump*: a number drawn at random, written, and entered a tenth "
        f"of a second later. {REST} ms between a picture and the next click. A screen of 60 Hz: up to 17 ms of it are "
        "waiting for the frame."
    ]
    return table, worst, version


def measured(browser: Tabs, features: int, clicks: int) -> Iterator[tuple[str, list[float]]]:
    """Milliseconds of each click."""
    rng = np.random.default_rng()
    browser.server.wire = Wire.latest
    with browser.open(LIMIT) as tab:
        tab.host("/live", "window.start")
        tab.stages(lambda: tab.page.evaluate("() => start()"), READY)
        for what in ("next", "row", "jump"):
            taken: list[float] = []
            for given in rng.integers(0, features, clicks + 2).tolist():
                if what == "row":
                    tab.page.evaluate(SCROLL, float(rng.random()))
                    tab.page.wait_for_timeout(REST)
                taken.append(tab.page.evaluate(CLICK, [what, given]))
                tab.page.wait_for_timeout(REST)
            yield what, taken[2:]  # the first ones compile scripts
        assert not tab.wrong, f"the page threw {tab.wrong}"
