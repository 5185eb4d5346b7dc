"""A browser for tests: the one that `scripts/browser` finds, quiet, with a record of what the page said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


def executable() -> str | None:
    """The path of Chrome or Chromium; None where Playwright's own is the only one."""
    found = os.environ.get("IW_CHROMIUM")
    if found is None:
        found = subprocess.run(["sh", ROOT / "scripts/browser"], capture_output=True, text=True, check=True).stdout
    return found.strip() or None


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser process, ended with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Log(list[str]):
    """What a page said on its console and what it threw, and every address it asked for."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.requests: list[str] = []
        page.on("console", lambda message: self.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.append(f"thrown: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    @property
    def errors(self) -> list[str]:
        """What went wrong, by the page's own account."""
        return [line for line in self if line.startswith(("error:", "thrown:"))]

    @property
    def network(self) -> list[str]:
        """Requests that left the page: neither a file nor data."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]


@contextmanager
def new_page(
    browser: Browser, *, width: int = 1100, height: int = 900, offline: bool = False, dark: bool = False
) -> Iterator[tuple[Page, Log]]:
    """A page with a context of its own (no shared cookies, storage or cache), and its log."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        offline=offline,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        yield page, Log(page)
    finally:
        context.close()
