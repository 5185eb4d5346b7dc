"""What people install: built from a copy of this checkout, it holds the views' JavaScript and nothing of ours alone.

The copy's bundles come from the copy's sources. Node is taken away by a PATH without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = [
    "interpwidgets",
    "js",
    "curriculum",
    "hatch_build.py",
    "pyproject.toml",
    "package.json",
    "package-lock.json",
    ".gitignore",
]
PARTS += ["README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "tests/lab/__init__.py"]
pytestmark = pytest.mark.skipif(not (ROOT / "node_modules").exists(), reason="needs node_modules: npm ci")


def views(root: Path) -> set[str]:
    """The bundles that the sources in `root` make."""
    return {path.with_suffix(".js").name for path in (root / "js/views").glob("*.tsx")} | {"host.js"}


def build(root: Path, out: Path, target: str, *, node: bool = True) -> subprocess.CompletedProcess[str]:
    """Run hatchling in `root`, with or without Node within reach."""
    environment = dict(os.environ)
    if not node:
        environment["PATH"] = str(out.parent / "nothing")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t", target]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def copy(into: Path) -> Path:
    """A checkout of its own: the sources, with the packages of the real one."""
    for part in PARTS:
        source, target = ROOT / part, into / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.js.map"))
        else:
            shutil.copy2(source, target)
    (into / "node_modules").symlink_to(ROOT / "node_modules")
    return into


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a stale bundle, and one of a view that no longer exists."""
    root = copy(tmp_path_factory.mktemp("checkout"))
    (root / "interpwidgets/static/host.js").write_text("stale")
    (root / "interpwidgets/static/ghost.js").write_text("of no source")
    (root / "interpwidgets/static/host.js.map").write_text("{}")
    return root


@pytest.fixture(scope="module")
def dist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist and the wheel of the checkout."""
    out = tmp_path_factory.mktemp("built") / "dist"
    for target in ("sdist", "wheel"):
        done = build(checkout, out, target)
        assert done.returncode == 0, done.stderr + done.stdout
    return out


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path):
    names = files(only(dist, "*.whl"))
    scripts = {name for name in names if name.startswith("interpwidgets/static/") and name.endswith(".js")}
    assert scripts == {f"interpwidgets/static/{view}" for view in views(ROOT)}
    kept = {".py", ".typed", ".js", ".css", ".html", ".json", ".jsonl", ".safetensors", ".md", ".txt"}
    assert {name for name in names if Path(name).suffix not in kept} == set()
    assert {name for name in names if not name.startswith("interpwidgets/") or "test" in Path(name).name} == set()
    assert "interpwidgets/py.typed" in names
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "interpwidgets").rglob("*.py")}
    assert sources <= names


def test_the_shipped_models_are_in_the_wheel(dist: Path):
    systems = ROOT / "interpwidgets/models/systems"
    weights = {str(path.relative_to(ROOT)) for path in systems.rglob("*.safetensors")}
    assert weights
    assert weights <= files(only(dist, "*.whl"))


def test_the_lessons_are_in_the_wheel_and_nothing_else_of_the_curriculum(dist: Path):
    lessons = {f"interpwidgets/{path.relative_to(ROOT)}" for path in (ROOT / "curriculum").glob("*/*.py")}
    assert any(name.endswith("_example/lesson.py") for name in lessons)
    assert {name for name in files(only(dist, "*.whl")) if name.startswith("interpwidgets/curriculum/")} == lessons


def test_an_installed_course_can_be_started(dist: Path, tmp_path: Path):
    zipfile.ZipFile(only(dist, "*.whl")).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "INTERPWIDGETS_HOME": str(tmp_path / "home")}
    environment["PYTHONSAFEPATH"] = "1"
    run = [sys.executable, "-m", "interpwidgets", "learn", "example", "--no-lab"]
    subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, check=True)
    made = (tmp_path / "interp-course/_example.ipynb").read_text()
    assert "exercise(" in made
    assert ">>> solution" not in made


def test_no_stale_bundle_and_no_source_map_is_shipped(dist: Path):
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        for name in wheel.namelist():
            if name.endswith(".js"):
                text = wheel.read(name).decode()
                assert text != "stale"
                assert "sourceMappingURL" not in text


def test_every_bundle_is_small_enough_to_travel_with_every_instance(dist: Path):
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        sizes = {entry.filename: entry.file_size for entry in wheel.infolist() if entry.filename.endswith(".js")}
    assert {name: size for name, size in sizes.items() if size > 40_000} == {}


def test_the_sdist_makes_the_same_wheel_without_node(dist: Path, tmp_path: Path):
    with tarfile.open(only(dist, "*.tar.gz")) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    root = only(tmp_path, "interpwidgets-*")
    assert not any(path.suffix == ".map" for path in root.rglob("*"))
    done = build(root, tmp_path / "dist", "wheel", node=False)
    assert done.returncode == 0, done.stderr
    assert files(only(tmp_path / "dist", "*.whl")) == files(only(dist, "*.whl"))


def test_the_installed_package_is_the_wheel(dist: Path, tmp_path: Path):
    zipfile.ZipFile(only(dist, "*.whl")).extractall(tmp_path)
    show = "import interpwidgets, sys; print(interpwidgets.__file__, interpwidgets.__version__, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert shown[0] == str(tmp_path / "interpwidgets/__init__.py")
    assert only(dist, "*.whl").name == f"interpwidgets-{shown[1]}-py3-none-any.whl"
    assert shown[2] == "False"


def test_without_node_a_checkout_says_what_to_do(tmp_path: Path):
    root = copy(tmp_path / "checkout")
    static = root / "interpwidgets/static"
    for bundle in static.glob("*.js"):
        bundle.unlink()
    done = build(root, tmp_path / "dist", "wheel", node=False)
    assert done.returncode != 0
    assert "Install Node from https://nodejs.org" in done.stderr

    for name in views(root):  # bundles, but older than what they are made of
        (static / name).write_text("old")
        os.utime(static / name, (1, 1))
    done = build(root, tmp_path / "dist", "wheel", node=False)
    assert done.returncode != 0
    assert "older than their sources" in done.stderr

    for name in views(root):
        os.utime(static / name)
    done = build(root, tmp_path / "dist", "wheel", node=False)
    assert done.returncode == 0, done.stderr
