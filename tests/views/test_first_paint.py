"""What a page asks for at first paint has come with the view: nothing waits for a second round trip."""

from __future__ import annotations

import json
from base64 import b64encode

import numpy as np
import pytest
from views import oracles

pytest.importorskip("playwright")

from lab.browser import chromium, new_page

from interpwidgets.views import AttentionView
from interpwidgets.views.view import STATIC

pytestmark = pytest.mark.lab
RNG = np.random.default_rng()

# A host that answers nothing, and remembers what it was asked.
HOST = """
async ({ script, state }) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  for (const entry of state._opening) {
    const bytes = Uint8Array.from(atob(entry.data), (character) => character.charCodeAt(0));
    entry.data = new DataView(bytes.buffer);
  }
  window.asked = [];
  const model = {
    get: (name) => state[name], set() {}, save_changes() {}, on() {}, off() {},
    send: ({ tiles }) => window.asked.push(...tiles),
  };
  await widget.render({ model, el: document.querySelector("main"), signal: new AbortController().signal });
  for (let frame = 0; frame < 10; frame++) await new Promise(requestAnimationFrame);
  return window.asked;
}
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def asked_at_first(browser, view, width=1100):
    """The keys of the tiles that a live page asks for once it has drawn what came along."""
    state = {name: getattr(view, name) for name in view.settings()}
    opening = [{**entry, "data": b64encode(entry["data"]).decode()} for entry in view._opening]
    with new_page(browser, width=width) as (page, log):
        page.set_content(f"<style>{(STATIC / 'style.css').read_text()}</style><main></main>")
        script = view.script()[1]
        asked = page.evaluate(HOST, {"script": script, "state": {**state, "_opening": opening, "_live": True}})
        assert page.locator(".iw-pixels canvas").count()
        assert log.errors == []
        return [json.loads(key) for key in asked]


def causal(size, layers=2, heads=2):
    return oracles.pattern(RNG, layers, heads, size, size, causal=True)


CASES = {
    "short": lambda: AttentionView(causal(20)),
    "selected": lambda: AttentionView(causal(20), layer=1, head=1, query=3, key=2, direction="key"),
    "many heads": lambda: AttentionView(causal(100, 6, 8)),
    "cross": lambda: AttentionView(oracles.pattern(RNG, 2, 2, 7, 30), tokens=list("abcdefg")),
    "beside": lambda: AttentionView(causal(20), causal(30), compare=1),
    "difference": lambda: AttentionView(causal(20), causal(30), compare=1, difference=True),
    "mean": lambda: AttentionView(causal(20), aggregate="mean"),
    "rollout": lambda: AttentionView(causal(20), aggregate="rollout"),
    "second prompt": lambda: AttentionView(causal(20), causal(30), prompt=1),
    "ranked": lambda: AttentionView(causal(20), sort_by="induction"),
    "region": lambda: AttentionView(causal(20), sort_by="region", region=[3, 9, 0, 4]),
    "long": lambda: AttentionView(causal(700, 1, 2)),
    "longer": lambda: AttentionView(causal(1500, 1, 1)),
    "long, zoomed": lambda: AttentionView(causal(1500, 1, 1), viewport=[1000, 1100, 900, 1000]),
    "long, mean": lambda: AttentionView(causal(1500, 1, 1), pooling="mean"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_screen_came_with_the_view(browser, case):
    view = CASES[case]()
    asked = asked_at_first(browser, view)
    if case.startswith("long"):  # the strip's exact weights are a quarter of a megabyte: they may come later
        asked = [key for key in asked if key["what"] != "rows"]
    assert asked == []
    came = [
        key["pooling"] for key in map(json.loads, (entry["key"] for entry in view._opening)) if key["what"] == "atlas"
    ]
    assert set(came) == {"max", view.pooling}  # colours are up to the largest weight, whatever a pixel shows
    assert sum(len(entry["data"]) for entry in view._opening) < 2e6
