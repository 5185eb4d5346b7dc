"""One feature tried in JupyterLab: a text of one's own, ablated, steered, set beside another, starred and named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, expect

import interpwidgets as iw
from lab.notebook import TIMEOUT

pytest.importorskip("duckdb")

TEXT = "the red box holds the map . the blue box holds the kite . the red box"
CELL = """
import interpwidgets as iw
model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
store = iw.FeatureStore.build({folder!r}, model, sae, iw.load_corpus("storyteller-4l", contexts=64), progress=False)
view = iw.FeatureView(store, feature={feature})
view
"""


@pytest.fixture(scope="module")
def fires() -> np.ndarray[Any, Any]:
    """The dictionary on TEXT, by its own equations in float64: [pos, feature]."""
    model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
    rec = iw.record(model, TEXT, sites=["resid_post"], layers=[sae.layer])
    x = rec["resid_post", sae.layer][0].double().numpy() - sae.b_dec.double().numpy()
    before = x @ sae.W_enc.double().numpy() + sae.b_enc.double().numpy()
    kept = np.sort(before, axis=1)[:, -sae.k :][:, :1]  # the smallest that TopK keeps
    return np.where(before >= kept, np.maximum(before, 0), 0)


@pytest.fixture(scope="module")
def feature(fires: np.ndarray[Any, Any]) -> int:
    return int(fires[1:].max(0).argmax())


@pytest.fixture
def book(notebook: Any, tmp_path: Path, feature: int) -> Any:
    book = notebook([CELL.format(folder=str(tmp_path / "features"), feature=feature)])
    book.run(0, wait_for=".iw-feature article .iw-kwic")
    return book


@pytest.fixture
def view(book: Any) -> Locator:
    return book.page.locator("section.iw-feature")


def test_a_text_of_ones_own_fires_where_it_should(
    book: Any, view: Locator, feature: int, fires: np.ndarray[Any, Any]
) -> None:
    view.get_by_label("a text of your own", exact=True).fill(TEXT)
    book.wait_for("view.text", lambda text: text == TEXT)
    own = view.locator(".iw-own [data-token]")
    expect(own).to_have_count(len(fires), timeout=TIMEOUT)
    at = int(fires[:, feature].argmax())
    own.nth(at).click()
    expect(view.locator(".iw-where b")).to_have_text(re.compile(r"^[\d.]+$"), timeout=TIMEOUT)
    assert float(view.locator(".iw-where b").inner_text()) == pytest.approx(fires[at, feature], rel=1e-3)
    assert book.ask("view.position") == at


def test_ablating_and_steering_change_what_comes_next(book: Any, view: Locator, feature: int) -> None:
    book.tell(f"view.text = {TEXT!r}")
    model = view.get_by_role("group", name="the model").or_(view.locator(".iw-changed"))
    model.get_by_text("ablated").first.click()
    book.wait_for("view.intervention", lambda how: how == "ablate")
    expect(view.locator(".iw-changed table")).to_be_visible(timeout=TIMEOUT)
    ablated = view.locator(".iw-changed table").inner_text()
    model.get_by_text("steered").first.click()
    slider = view.locator(".iw-changed input[type=range]")
    slider.focus()
    for _ in range(8):
        slider.press("ArrowRight")
    strength = book.wait_for("view.strength", lambda strength: strength >= 2)
    expect(view.locator(".iw-changed table")).not_to_have_text(ablated, timeout=TIMEOUT)
    assert f"{strength:g} × max" in view.locator(".iw-changed").inner_text()


def test_a_second_one_beside_it_a_star_and_a_label_that_stay(book: Any, view: Locator, feature: int) -> None:
    other = int(view.locator("button[aria-label^='compare with']").first.get_attribute("aria-label").split()[-1])  # type: ignore[union-attr]
    view.locator("button[aria-label^='compare with']").first.click()
    expect(view.locator("article")).to_have_count(2, timeout=TIMEOUT)
    assert book.wait_for("view.compare", lambda second: second is not None) == other
    first = view.locator("article").first
    star = first.get_by_role("button", name="starred", exact=True)
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true", timeout=TIMEOUT)
    first.get_by_title("Write a label").click()
    field = first.get_by_label("label", exact=True)
    field.fill("<b>container</b> words")
    field.press("Enter")
    expect(first.get_by_title("Write a label")).to_have_text("<b>container</b> words", timeout=TIMEOUT)
    again = "iw.FeatureStore.open(store.folder)"
    assert book.wait_for(f"{again}.label_of({feature}).text", bool) == "<b>container</b> words"
    assert book.ask(f"{again}.lists") == {"starred": [feature]}
    search = view.get_by_label("filter: a number, a word, or a condition")
    search.fill("container")
    search.press("Enter")
    expect(view.locator(".iw-rows-row")).to_have_count(1, timeout=TIMEOUT)
    assert str(feature) in view.locator(".iw-rows-row").inner_text().split()
