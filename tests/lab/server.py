"""A private Jupyter server: its own configuration, data, trust and port, ended with the block that started it.

One server carries JupyterLab 4 and Notebook 7, as an ordinary installation does.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Settings = Mapping[str, Mapping[str, Any]]
QUIET: Settings = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
GRADER = {"disabledExtensions": {"@jupyter/nbgrader": True}}  # it comes with [dev]; readers have none
SAVE_WIDGETS: Settings = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}


@dataclass(frozen=True)
class Server:
    """Where a running server answers, and the folder it serves."""

    url: str
    token: str
    root: Path

    def address(self, kind: str, name: str) -> str:
        """The page of one notebook, in `lab`, in `doc` (JupyterLab, nothing around it) or in `notebook` (7)."""
        path = {"lab": "lab/tree", "doc": "doc/tree", "notebook": "notebooks"}[kind]
        return f"{self.url}/{path}/{name}?token={self.token}&reset"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_settings(folder: Path, settings: Settings) -> None:
    """User settings, as a reader would make them in the settings editor."""
    for plugin, values in settings.items():
        package, _, name = plugin.partition(":")
        path = folder / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), "utf-8")


@contextmanager
def jupyter(root: Path, settings: Settings | None = None, timeout: float = 120) -> Iterator[Server]:
    """Serve `root` until the block ends; whatever the server writes elsewhere lies in `root/.private`."""
    root.mkdir(parents=True, exist_ok=True)
    private = root / ".private"
    write_settings(private / "settings", {**QUIET, **(settings or {})})
    page = private / "config/labconfig/page_config.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(GRADER), "utf-8")
    environment = os.environ | {
        "IPYTHONDIR": str(private / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
    }
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.root_dir={root}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--ServerApp.log_level=WARN"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    command += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = root / ".private/server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            server = Server(f"http://127.0.0.1:{port}", token, root)
            wait_until_up(server, process, log, timeout)
            yield server
        finally:
            stop(process)


def wait_until_up(server: Server, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
    """Return when the server answers; if it ended or says nothing, raise with its own words."""
    end = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError):
            urllib.request.urlopen(f"{server.url}/api/status?token={server.token}", timeout=2).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"The Jupyter server did not come up. It said:\n{log.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server that we started; it ends its own kernels. It is killed only if it will not go."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
