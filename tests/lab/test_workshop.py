"""The workshop's board in a real browser: what it shows, that it stays current, and that names are only names."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from playwright.sync_api import expect
from workshop.conftest import post, serving

from interpwidgets.course.workshop.store import Store

HOSTILE = "<img src=x onerror=thrown()>"
ORDER = ["heads.first", "heads.share", "residual.norm"]


def tell(server, learner, *events, name="quiet heron"):
    made = [
        {"id": f"{learner}{number:08}", "time": 1e9 + number, "what": "check", "version": 1, **event}
        for number, event in enumerate(events)
    ]
    body = {"code": server.store.code, "learner": f"{learner}-is-a-token-for-tests", "name": name, "events": made}
    assert post(server, "events", body)[0] == 200


def check(exercise, status, misconception=""):
    return {"exercise": exercise, "status": status, "misconception": misconception}


@pytest.fixture
def server(tmp_path):
    with serving(Store(f"sqlite:///{tmp_path / 'workshop.db'}", "ABC234"), order=ORDER) as running:
        yield running


def board_url(server):
    return f"http://127.0.0.1:{server.port}/board#{server.store.key}"


def test_the_board_shows_who_is_stuck_where_and_keeps_up(server, open_page):
    page, log = open_page()
    page.goto(board_url(server))
    expect(page.locator("#code")).to_have_text("ABC234")
    expect(page.locator("#exercises")).to_contain_text("Nobody has tried one yet.")
    share = "heads.share"
    tell(server, "first", *[check(share, "wrong", "over the columns")] * 3, name="quiet heron")
    tell(server, "second", check(share, "wrong", "over everything"), check(share, "passed"), name="merry newt")
    tell(server, "third", check(share, "wrong", "over the columns"), name=HOSTILE)
    tell(server, "fourth", check("residual.norm", "passed"), check("heads.first", "error"), name=HOSTILE)
    expect(page.locator("#count")).to_contain_text("4 learners", timeout=10_000)
    assert page.locator("#exercises tbody th").all_inner_texts() == [
        "heads 1 first",
        "heads 2 share",
        "residual 1 norm",
    ]
    row = page.locator("#exercises tbody tr").nth(1)
    assert row.locator("td").all_inner_texts() == ["33 % 1 of 3", "2 tries", "over the columns 2 learners"]
    expect(page.locator("#stuck li")).to_have_count(1)
    expect(page.locator("#stuck")).to_contain_text("quiet heron")
    expect(page.locator("#stuck")).to_contain_text("over the columns")
    cells = page.locator("#everybody tbody tr").filter(has_text="quiet heron").locator("td")
    assert cells.all_inner_texts() == ["", "3", ""]
    assert cells.nth(1).locator(".stuck").count() == 1
    marked = page.locator("#everybody tbody tr").filter(has_text="merry newt").get_by_role("img")
    assert marked.get_attribute("aria-label") == "merry newt, share: passed, 2 tries, 0 hints, over everything"
    names = page.locator("#everybody tbody th").all_inner_texts()
    assert [name for name in names if name.startswith(HOSTILE)]  # as text, and the second of that name is told apart
    assert [name for name in names if name.startswith(f"{HOSTILE} (2)")]
    assert page.locator("img").count() == 0
    tell(server, "first", *[check(share, "wrong")] * 3, check(share, "passed"))
    expect(page.locator("#stuck")).to_contain_text("Nobody.", timeout=10_000)
    assert log.errors == []
    assert all(url.startswith(f"http://127.0.0.1:{server.port}/") for url in log.network)


def test_events_are_saved_as_csv(server, open_page):
    tell(server, "first", check("heads.share", "passed"), name="=cmd|' /C calc'!A0")
    page, _ = open_page()
    page.goto(board_url(server))
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    table = Path(download.value.path()).read_text("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["learner"], row["exercise"], row["status"]) for row in rows] == [
        ("'=cmd|' /C calc'!A0", "heads.share", "passed")
    ]


def test_the_board_needs_its_key_and_says_so(server, open_page):
    tell(server, "first", check("heads.share", "passed"))
    page, _ = open_page()
    page.goto(f"http://127.0.0.1:{server.port}/board")
    expect(page.locator("#state")).to_contain_text("opens with the address")
    expect(page.locator("#everybody tbody tr")).to_have_count(0)


def test_the_board_says_when_the_workshop_is_gone(tmp_path, open_page):
    with serving(Store(f"sqlite:///{tmp_path / 'workshop.db'}")) as server:
        tell(server, "first", check("heads.share", "passed"))
        page, _ = open_page()
        page.goto(board_url(server))
        expect(page.locator("#everybody tbody tr")).to_have_count(1)
    expect(page.locator("#state")).to_contain_text("not reached", timeout=10_000)
    expect(page.locator("#everybody tbody tr")).to_have_count(1)


def test_whoever_opens_the_join_address_reads_how_to_join(server, open_page):
    page, log = open_page()
    page.goto(f"http://127.0.0.1:{server.port}/ABC234")
    expect(page.locator("main")).to_contain_text(f"interpwidgets workshop join http://127.0.0.1:{server.port}/ABC234")
    assert log.errors == []


@pytest.mark.parametrize("width", [400, 1400])
def test_the_board_fits(server, open_page, width):
    tell(server, "first", *[check(f"heads.exercise_{n}", "wrong", "a long misconception") for n in range(40)])
    page, _ = open_page(width=width)
    page.goto(board_url(server))
    expect(page.locator("#exercises tbody tr")).to_have_count(40)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
