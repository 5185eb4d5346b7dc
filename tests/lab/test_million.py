"""A million features in JupyterLab: the table, the portrait and the map, against the store's index read by pyarrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator

from lab.notebook import TIMEOUT

pytest.importorskip("duckdb")
parquet = pytest.importorskip("pyarrow.parquet")

FEATURES = 1_000_000
CELL = """
import interpwidgets as iw
view = iw.FeatureView(iw.FeatureStore.open({folder!r}), feature=500_000)
view
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that is made up, as the code that writes real ones writes it: about a gigabyte, gone at the end."""
    from interpwidgets.features.synthetic import synthetic_store

    path = tmp_path_factory.mktemp("million") / "store"
    yield synthetic_store(path, FEATURES, progress=False).folder
    (path / "records.bin").unlink()


@pytest.fixture(scope="module")
def index(folder: Path) -> dict[str, Any]:
    """Columns of the index: [feature]."""
    table = parquet.read_table(folder / "index.parquet")
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


@pytest.fixture
def book(notebook: Any, folder: Path) -> Any:
    book = notebook([CELL.format(folder=str(folder))])
    book.run(0, wait_for=".iw-feature article .iw-kwic")
    return book


@pytest.fixture
def view(book: Any) -> Locator:
    return book.page.locator("section.iw-feature")


def rows(view: Locator) -> list[list[str]]:
    """The cells of the table's rows that are there, in order."""
    return view.locator(".iw-rows-row").evaluate_all("rows => rows.map(row => [...row.children].map(c => c.innerText))")


def wait(view: Locator, script: str) -> None:
    """Wait until a condition on the view's element is met."""
    view.page.wait_for_function(f"view => {script}", arg=view.element_handle(), timeout=TIMEOUT)


def shows(view: Locator, feature: int, index: dict[str, Any]) -> None:
    """The portrait is of a feature: its number, count, maximum, and the token that its strongest example is of."""
    heading = view.locator("article h3", has_text=re.compile(f"^Feature {feature:,}$"))
    heading.wait_for(timeout=TIMEOUT)
    facts = view.locator("article .iw-facts").inner_text()
    assert f"active at {index['count'][feature]:,} of " in facts
    assert float(re.search(r"max ([\d.]+)", facts)[1]) == pytest.approx(index["max_activation"][feature], rel=5e-3)  # type: ignore[index]
    strongest = view.locator("article .iw-kwic").first
    assert strongest.locator(".iw-peak").inner_text() == index["peak_token"][feature].replace(" ", "␣")
    assert strongest.locator("b").inner_text() == facts.split("max ")[1].split(",")[0]


def test_the_table_is_scrolled_to_its_far_end(view: Locator, index: dict[str, Any]) -> None:
    shows(view, 500_000, index)
    assert view.locator(".iw-rows-row.iw-active").inner_text().split()[0] == "500000"
    view.locator(".iw-rows-body").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    wait(view, "[...view.querySelectorAll('.iw-rows-row')].at(-1).innerText.startsWith('999999')")
    found = rows(view)
    assert [int(row[0]) for row in found] == list(range(FEATURES - len(found), FEATURES))
    for row in found:
        feature = int(row[0])
        assert float(row[1].removesuffix(" %")) == pytest.approx(100 * index["density"][feature], rel=6e-3)
        assert float(row[2]) == pytest.approx(index["max_activation"][feature], rel=6e-3)
        assert row[3] == index["peak_token"][feature].replace(" ", "␣")
    assert len(found) < 60
    view.locator(".iw-rows-row").last.click()
    shows(view, FEATURES - 1, index)
    assert view.get_by_role("button", name="next", exact=True).is_disabled()


def test_sorted_and_filtered(book: Any, view: Locator, index: dict[str, Any]) -> None:
    view.get_by_role("button", name="sort by max").click()
    most = float(index["max_activation"].max())
    wait(view, f"Math.abs(Number(view.querySelector('.iw-rows-row').children[2]?.innerText) / {most} - 1) < 0.006")
    found = rows(view)
    expected = np.sort(index["max_activation"])[::-1][: len(found)]
    np.testing.assert_allclose([float(row[2]) for row in found], expected, rtol=6e-3)
    np.testing.assert_allclose(index["max_activation"][[int(row[0]) for row in found]], expected, rtol=6e-3)

    passes = (index["density"] < 0.0004) & (index["max_activation"] > 0.7 * most)
    field = view.get_by_role("searchbox", name="filter")
    field.fill(f"density < 0.0004 and max_activation > {0.7 * most}")
    field.press("Enter")
    total = int(passes.sum())
    view.get_by_text(f"{total:,} of {FEATURES:,} features", exact=True).wait_for(timeout=TIMEOUT)
    assert 0 < total < 200_000
    best = int(rows(view)[0][0])
    assert passes[best]
    assert index["max_activation"][best] == index["max_activation"][passes].max()
    view.locator(".iw-rows-row").first.click()
    shows(view, best, index)
    assert book.ask("view.feature") == best

    field.fill(index["peak_token"][77].strip())
    field.press("Enter")
    word = index["peak_token"][77].strip().lower()
    holds = sum(
        word in peak.lower() or word in top.lower()
        for peak, top in zip(index["peak_token"], index["top_token"], strict=True)
    )
    view.get_by_text(f"{holds:,} of {FEATURES:,} features", exact=True).wait_for(timeout=TIMEOUT)


def test_from_one_to_the_next_and_to_any(book: Any, view: Locator, index: dict[str, Any]) -> None:
    for feature in (500_001, 500_002):
        view.get_by_role("button", name="next", exact=True).click()
        shows(view, feature, index)
    number = view.get_by_role("spinbutton", name="feature")
    for feature in np.random.default_rng().integers(0, FEATURES, 5).tolist():
        number.fill(str(feature))
        number.press("Enter")
        shows(view, feature, index)
        row = view.locator(".iw-rows-row.iw-active")
        assert row.inner_text().split()[0] == str(feature)
        box, body = row.bounding_box(), view.locator(".iw-rows-body").bounding_box()
        assert box is not None
        assert body is not None
        assert body["y"] <= box["y"] <= body["y"] + body["height"] - box["height"]
    view.get_by_role("button", name="← back").click()
    book.wait_for("view.feature", lambda now: now != feature)
    near = int(index["nearest"][book.ask("view.feature")])
    shows(view, book.ask("view.feature"), index)
    view.locator("[aria-label^='Cosine'] .iw-go").first.click()
    shows(view, near, index)


def test_the_map_has_all_of_them(book: Any, view: Locator, index: dict[str, Any]) -> None:
    view.get_by_label("map of all features").check()
    plot = view.get_by_role("img", name=f"{FEATURES:,} features by the first two principal components")
    plot.wait_for(timeout=TIMEOUT)
    here = plot.locator("circle:not(.iw-near)")
    box = plot.bounding_box()
    assert box is not None

    def marked() -> tuple[float, float]:
        return float(here.get_attribute("cx")), float(here.get_attribute("cy"))  # type: ignore[arg-type]

    # The scale of the axes, from where two features are that are known.
    (x0, y0), one = marked(), book.ask("view.feature")
    other = int(np.argmax(np.abs(index["x"] - index["x"][one]) + np.abs(index["y"] - index["y"][one])))
    book.tell(f"view.feature = {other}")
    wait(view, f"view.querySelector('article h3').innerText === 'Feature {other:,}'")
    x1, y1 = marked()
    across = (x1 - x0) / (index["x"][other] - index["x"][one])
    up = (y1 - y0) / (index["y"][other] - index["y"][one])
    x, y = x0 + across * (index["x"] - index["x"][one]), y0 + up * (index["y"] - index["y"][one])
    chosen = int(np.random.default_rng().integers(FEATURES))
    plot.click(position={"x": float(x[chosen]), "y": float(y[chosen])})
    found = book.wait_for("view.feature", lambda now: now != other)
    nearest = np.hypot(x - x[chosen], y - y[chosen])
    assert nearest[found] < 1.5  # pixels
    shows(view, found, index)
