"""What a learner installs: the wheel in an environment of its own, with no network, as far as a lesson's first verdict.

Dependencies are those of the environment that runs the tests. Every Python process in there refuses to leave the
machine, and notes who wanted to.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_wheel import ROOT, build, copy, only

from interpwidgets.course.library import lesson
from lab.notebook import TIMEOUT, Notebook
from lab.server import Server, free_port, stop, wait_until_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "node_modules").exists(), reason="needs node_modules: npm ci"),
]
OFFLINE = """
import os, sys

def _offline(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in ("localhost", "::1", "0.0.0.0") and not host.startswith("127."):
        with open({attempts!r}, "a") as file:
            file.write(f"{{host}}: {{' '.join(sys.argv)}}\\n")
        raise OSError(101, "Network is unreachable")

sys.addaudithook(_offline)
"""
WRITE = """([index, source]) => {
    const { widgets } = window.jupyterapp.shell.currentWidget.content;
    widgets[index].model.sharedModel.setSource(source);
}"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`folder/bin/interpwidgets`, from the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    built = build(copy(folder / "checkout"), folder / "dist", "wheel")
    assert built.returncode == 0, built.stderr
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, only(folder / "dist", "*.whl")], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(venv), "platbase": str(venv)}))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    (site / "sitecustomize.py").write_text(OFFLINE.format(attempts=str(folder / "attempts")))
    return folder


@pytest.fixture
def learner(installed, tmp_path):
    """A home and a folder to be in; what Jupyter finds beside itself in a real environment is named."""
    config = tmp_path / "config"
    config.mkdir()
    data = Path(sysconfig.get_path("data")) / "share/jupyter"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "HF_"))},
        "HOME": str(tmp_path / "home"),
        "INTERPWIDGETS_HOME": str(tmp_path / "progress"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_PATH": str(data),
        "JUPYTERLAB_DIR": str(data / "lab"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command(installed: Path) -> str:
    return str(installed / "venv/bin/interpwidgets")


def attempts(installed: Path) -> str:
    path = installed / "attempts"
    return path.read_text() if path.exists() else ""


def test_the_fence_of_these_tests_stands(installed):
    python = str(installed / "venv/bin/python")
    code = "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr
    assert "example.org" in attempts(installed)
    (installed / "attempts").unlink()


def test_the_list_and_the_doctor_work_offline(installed, learner, tmp_path):
    where = {"cwd": tmp_path, "env": learner, "capture_output": True, "text": True}
    shown = subprocess.run([command(installed), "learn", "--list"], check=False, **where)
    assert shown.returncode == 0, shown.stderr
    assert lesson("00").title in shown.stdout
    assert "← next" in shown.stdout
    found = subprocess.run([command(installed), "doctor"], check=False, **where)
    wrong = [line for line in found.stdout.splitlines() if line.startswith("✗")]
    assert [line for line in wrong if "widgets in JupyterLab" not in line] == []  # those lie in the other environment
    assert attempts(installed) == ""


@contextmanager
def learning(installed: Path, environment: dict[str, str], folder: Path) -> Iterator[Server]:
    """`interpwidgets learn 00`, with the settings that a test needs, until the block ends."""
    port, token = free_port(), secrets.token_hex(16)
    settings = {
        "ServerApp": {"port": port, "port_retries": 0, "open_browser": False, "allow_root": True},
        "IdentityProvider": {"token": token},
        "LabApp": {"expose_app_in_browser": True},
    }
    (Path(environment["JUPYTER_CONFIG_DIR"]) / "jupyter_server_config.json").write_text(json.dumps(settings))
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [command(installed), "learn", "00"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", token, folder / "interp-course")
            wait_until_up(server, process, log, 120)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl+C twice, as one leaves JupyterLab
            stop(process)


def test_a_lesson_is_opened_and_checked_offline(installed, learner, tmp_path, open_page):
    with learning(installed, learner, tmp_path) as server:
        page, _ = open_page()
        book = Notebook(page, server, "00_first_look.ipynb", "lab")
        book.open()
        cells = lesson("00").cells
        at = next(i for i, cell in enumerate(cells) if "first_look.surprise" in cell.checks)
        for index in range(at):
            if cells[index].kind == "code":
                book.run(index)
                assert book.errors(index) == []
        assert book.ask("str(__import__('interpwidgets').__file__)").startswith(str(installed / "venv"))

        def verdict(status: str) -> None:
            book.run(at, wait_for=".iw-verdict")
            book.cell(at).locator(".iw-verdict .iw-found", has_text=status).wait_for(timeout=TIMEOUT)

        verdict("not attempted")
        page.evaluate(WRITE, [at, cells[at].solved])
        verdict("passed")
        book.shut_down()
    events = (tmp_path / "progress/events.jsonl").read_text().splitlines()
    assert [json.loads(each)["status"] for each in events if "first_look.surprise" in each] == [
        "not attempted",
        "passed",
    ]
    assert attempts(installed) == ""
