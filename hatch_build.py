"""Put the JavaScript bundles and the lessons into the package, always those of the sources beside them.

Lessons are two files each, `lesson.py` and `exercises.py`; notebooks are made of them where they are wanted. About the
bundles there are three situations, told apart by what lies in the folder:

- an unpacked sdist (it has a PKG-INFO): the bundles came along, Node is not needed and not looked for;
- a checkout with Node: the bundles are built anew, so that none can be older than its source;
- a checkout without Node: bundles newer than every source are good; anything else is an error that says what to do.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildBundles(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """Hatchling calls `initialize` before it collects the files of a wheel, an sdist or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if self.target_name == "wheel" and version == "standard":
            lessons = sorted((root / "curriculum").glob("*/*.py"))
            build_data["force_include"].update(
                {str(path): f"interpwidgets/curriculum/{path.parent.name}/{path.name}" for path in lessons}
            )
        bundles = sorted((root / "interpwidgets/static").glob("*.js"))
        if (root / "PKG-INFO").exists():
            if not bundles:
                raise SystemExit("This source archive holds no JavaScript bundles: it is damaged. Download it again.")
        elif shutil.which("node") and shutil.which("npm"):
            build(root)
        elif not bundles:
            raise SystemExit(
                "Building interpwidgets from a checkout needs Node 20.19 or newer, and neither Node nor built bundles "
                "were found. Install Node from https://nodejs.org, or install a released wheel, which needs none."
            )
        elif newest(root) > min(bundle.stat().st_mtime for bundle in bundles):
            raise SystemExit(
                "The JavaScript bundles in interpwidgets/static are older than their sources in js/, and Node is not "
                "there to build them. Install Node 20.19 or newer from https://nodejs.org and try again."
            )


def build(root: Path) -> None:
    """Install what package-lock.json names, if that has not been done since it changed, and bundle."""
    installed, lock = root / "node_modules/.package-lock.json", root / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run(root, "npm", "ci", "--no-audit", "--no-fund")
    run(root, "node", "js/build.mjs")


def run(root: Path, *command: str) -> None:
    done = subprocess.run([shutil.which(command[0]) or command[0], *command[1:]], cwd=root, check=False)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with status {done.returncode}; what it printed stands above.")


def newest(root: Path) -> float:
    """When the youngest source of the bundles was written."""
    sources = [*(root / "js").rglob("*.ts*"), *(root / "js").glob("*.mjs"), root / "package-lock.json"]
    sources += (root / "interpwidgets/static").glob("*.json")
    return max(path.stat().st_mtime for path in sources if "tests" not in path.parts)
