"""Every page of the gallery does what it says, in a real browser, without a kernel and without a network."""

import pytest
from PIL import Image

import interpwidgets as iw
from lab import gallery
from lab.browser import new_page

pytestmark = pytest.mark.lab


def test_every_view_has_its_page():
    views = {name for name in iw.__all__ if name.endswith("View") and name != "View"}
    assert {gallery.type_name(name) for name in gallery.ORDER} == views


def test_the_text_is_made_of_the_pages():
    committed = (gallery.FOLDER / "README.md").read_text("utf-8")
    for entry in gallery.entries():
        assert entry.markdown() in committed, f"docs/gallery/{entry.name}.py was changed: run `make gallery`"
        assert (gallery.IMAGES / f"{entry.name}.png").exists()


@pytest.mark.parametrize("entry", gallery.entries(), ids=lambda entry: entry.name)
def test_a_page_is_short_and_opens(browser, tmp_path, entry):
    assert len([line for line in entry.code.splitlines() if line.strip()]) <= 18
    assert entry.code.splitlines()[-1] == "view"
    made = entry.view()
    views = made.views if isinstance(made, iw.Dashboard) else [made]
    assert gallery.type_name(entry.name) in {type(view).__name__ for view in views}
    address = made.save_html(tmp_path / "view.html").as_uri()
    for dark in (False, True):
        with new_page(browser, width=400, offline=True, dark=dark) as (page, log):
            gallery.open_page(page, address)
            assert page.locator("[role=alert]").count() == 0
            assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
            assert log.errors == log.network == []
    for view in views:
        with Image.open(view.save_png(tmp_path / "view.png")) as still:
            assert still.width > 300
        assert view.save_svg(tmp_path / "view.svg").read_text("utf-8").startswith("<svg")
        assert view.table()[1]
