"""A browser that counts: CPU time of the page's process, its heap, its requests; and that ends at a limit."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Error, Playwright, Route, sync_playwright

from bench.report import ROOT
from bench.server import Server

FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
QUIET = 0.2  # seconds between two looks at a page's CPU time
IDLE = 0.008  # CPU seconds between two looks that still count as rest
MEMORY = 6e9  # bytes of resident memory that a page may take
WALL = 6.0  # wall seconds a page may take for each CPU second of its limit: the machine may be busy, the page stuck


class NotFinished(Exception):
    """The page went over a limit, and was ended; says which."""


def executable() -> str | None:
    """The path of Chrome or Chromium; None where Playwright's own is the only one."""
    found = subprocess.run(["sh", ROOT / "scripts/browser"], capture_output=True, text=True, check=True).stdout
    return found.strip() or None


def processes() -> list[psutil.Process]:
    """The browser's processes: our descendants that carry its flags."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = process.cmdline()
            if any(part.startswith(("--type=", "--remote-debugging-pipe")) for part in command):
                found.append(process)
    return found


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process: to the microsecond where the system says them, else in ticks."""
    try:
        tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        if nanoseconds := sum(int(task.read_text().split()[0]) for task in tasks):
            return nanoseconds / 1e9
    except (OSError, ValueError, IndexError):
        pass
    spent = process.cpu_times()
    return float(spent.user + spent.system)


class Tab:
    """One page in a browser of its own, at rest on an empty page of the server: what comes next is what it costs."""

    def __init__(self, playwright: Playwright, server: Server, limit: float, cdn: Mapping[str, Path]) -> None:
        self.limit = limit
        self.ended = ""  # by which limit
        self.network: list[str] = []  # what was asked of anyone but the server
        self.wrong: list[str] = []  # what the page threw
        self._browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        self.version = self._browser.version
        context = self._browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
        context.set_default_timeout(0)
        self.page = context.new_page()
        self._server = server

        def elsewhere(route: Route) -> None:
            self.network.append(route.request.url)
            found = cdn.get(route.request.url.rsplit("/", 1)[1])
            if found:
                route.fulfill(body=found.read_text("utf-8"), content_type="text/javascript")
            else:
                route.abort()

        context.route(lambda url: not url.startswith(server.address), elsewhere)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self._protocol = context.new_cdp_session(self.page)
        self.page.goto(f"{server.address}/empty")
        self._watched = processes()
        self._rest(self.all_cpu)  # a new browser has work of its own
        self._renderer = self._own_process()
        before = self.settle()
        self.page.goto(f"{server.address}/empty")
        self.navigation = self.settle() - before  # what a page costs that has nothing in it
        self._begin()
        self._started = time.monotonic()
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _begin(self) -> None:
        self._before, self._all_before = self.cpu(), self.all_cpu()

    def _own_process(self) -> psutil.Process:
        """The process that runs the page's scripts: the one that worked while a script did."""
        renderers = [process for process in processes() if any("--type=renderer" in part for part in process.cmdline())]
        before = {process: cpu_of(process) for process in renderers}
        self.page.evaluate("() => { const end = performance.now() + 100; while (performance.now() < end); }")
        return max(renderers, key=lambda process: cpu_of(process) - before[process])

    def cpu(self) -> float:
        """CPU seconds of the page's process so far."""
        return cpu_of(self._renderer)

    def all_cpu(self) -> float:
        """CPU seconds of the whole browser so far: drawing on a GPU that is not there costs another process."""
        total = 0.0
        for process in self._watched:
            with suppress(psutil.Error):
                total += cpu_of(process)
        return total

    @property
    def spent(self) -> tuple[float, float]:
        """CPU seconds since the empty page: of the page's process, and of the whole browser."""
        return self.cpu() - self._before, self.all_cpu() - self._all_before

    def restart_limit(self) -> None:
        """Let the limit count from now."""
        self._all_before, self._started = self.all_cpu(), time.monotonic()

    def settle(self) -> float:
        """Wait until the page rests; the CPU seconds it had used when the rest began."""
        while True:
            at = self._rest(self.cpu)
            before = self.cpu()
            # A page that is only kept waiting by a busy machine looks at rest, and has its work before it.
            self.page.evaluate("() => new Promise((done) => requestIdleCallback(() => done(), { timeout: 2000 }))")
            if self.cpu() - before < 2 * IDLE:
                return at

    def _rest(self, clock: Callable[[], float]) -> float:
        rests = 0
        at = last = clock()
        while rests < 2:
            self.page.wait_for_timeout(1000 * QUIET)
            now = clock()
            rests = rests + 1 if now - last < IDLE else 0
            if not rests:
                at = now
            last = now
        return at

    def show(self, address: str, ready: str) -> float:
        """Load an address and wait until it is ready and rests; CPU seconds that it took above an empty page."""
        self.page.goto(f"{self._server.address}{address}", wait_until="commit")
        self.wait(ready)
        return self.settle() - self._before - self.navigation

    def host(self, address: str, ready: str) -> None:
        """Load the page of a host, which is there before the view is, and start counting when it rests."""
        self.page.goto(f"{self._server.address}{address}")
        self.wait(ready)
        self.settle()
        self._begin()

    def wait(self, condition: str) -> None:
        """Wait until an expression is true; asked seldom, since asking costs the page time too."""
        while not self.page.evaluate(f"() => !!({condition})"):
            self.page.wait_for_timeout(50)

    def stages(self, act: Callable[[], Any], ready: str) -> tuple[float, float]:
        """CPU seconds of the page's process that an act takes until what it asked for is painted, and until rest."""
        before = self.cpu()
        act()
        self.page.evaluate(
            "() => new Promise((done) => { const look = () => "
            f"({ready}) ? requestAnimationFrame(() => setTimeout(done)) : requestAnimationFrame(look); look(); }})"
        )
        return self.cpu() - before, self.settle() - before

    def cost(self, act: Callable[[], Any], ready: str = "true") -> float:
        """CPU seconds of the page's process that an act takes, until it rests again."""
        before = self.cpu()
        act()
        self.wait(ready)
        return self.settle() - before

    def heap(self) -> float:
        """Bytes that the page's scripts hold, arrays included, garbage not."""
        self._protocol.send("HeapProfiler.collectGarbage")
        usage = self._protocol.send("Runtime.getHeapUsage")
        return float(usage["usedSize"]) + float(usage.get("backingStorageSize", 0))

    def resident(self) -> float:
        """Bytes of memory that the page's process holds."""
        return float(self._renderer.memory_info().rss)

    def _watch(self) -> None:
        """End the browser when a limit is passed. A busy page answers nobody, so it is watched from outside."""
        while not self._done.wait(0.2):
            with suppress(psutil.Error):
                if self.all_cpu() - self._all_before > self.limit:
                    self.ended = f"did not finish in {self.limit:.0f} CPU-s"
                elif self.resident() > MEMORY:
                    self.ended = f"ended at {MEMORY / 1e9:.0f} GB of memory"
                elif time.monotonic() - self._started > WALL * self.limit:
                    self.ended = f"did not finish in {WALL * self.limit:.0f} s wall"
            if self.ended:
                for process in self._watched:
                    with suppress(psutil.Error):
                        process.kill()
                return

    def close(self) -> None:
        """End the browser."""
        self._done.set()
        with suppress(Error):
            self._browser.close()


class Tabs:
    """Opens one tab after another."""

    def __init__(self, playwright: Playwright, server: Server, cdn: Mapping[str, Path] | None = None) -> None:
        self._playwright, self.server, self._cdn = playwright, server, cdn or {}
        self.version = "no browser"

    @contextmanager
    def open(self, limit: float) -> Iterator[Tab]:
        """A tab, ended with the block; `NotFinished` if it went over a limit."""
        tab = Tab(self._playwright, self.server, limit, self._cdn)
        self.version = f"Chromium {tab.version}, no GPU"
        try:
            yield tab
        except Error:
            if tab.ended:
                raise NotFinished(tab.ended) from None
            raise
        finally:
            tab.close()


@contextmanager
def tabs(cdn: Mapping[str, Path] | None = None) -> Iterator[Tabs]:
    """A server and a browser driver for the block."""
    with Server() as server, sync_playwright() as playwright:
        yield Tabs(playwright, server, cdn)
