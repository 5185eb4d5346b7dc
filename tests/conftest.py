"""What all tests share: the table of hosts that the tests of hosts fill."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

BEGIN, END = "<!-- written by `make hosts` -->", "<!-- end -->"
PACKAGES = {"JupyterLab": "jupyterlab", "Notebook": "notebook", "marimo": "marimo", "nbconvert": "nbconvert"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hosts", type=Path, help="write what works in which host into this file, from the outcomes")


class Hosts:
    """Collects the outcome of every test marked `host(name, what)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[tuple[str, str], list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]):
        report = yield
        if report.when == "call" or report.outcome != "passed":
            for mark in item.iter_markers("host"):
                self.outcomes.setdefault(mark.args, []).append(report.outcome)
        return report

    def pytest_sessionfinish(self) -> None:
        lines = ["| Host | What | Works |", "|---|---|---|"]
        for (host, what), outcomes in sorted(self.outcomes.items()):
            works = "yes" if set(outcomes) == {"passed"} else "no"
            lines.append(f"| {named(host)} | {what} | {works} |")
        text = self.path.read_text("utf-8")
        table = "\n".join([BEGIN, "", *lines, "", END])
        self.path.write_text(
            re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, text, flags=re.S), "utf-8"
        )


def named(host: str) -> str:
    """A host with the version that was driven."""
    package = PACKAGES.get(host.split(maxsplit=1)[0])
    return f"{host} {version(package)}" if package else host


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--hosts"):
        config.pluginmanager.register(Hosts(path))
