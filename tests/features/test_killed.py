"""A build killed at any point goes on, and comes to the same bytes; on Ray's workers as well, also if one is killed."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from features.conftest import random_corpus, random_dictionary, random_model

import interpwidgets as iw
from interpwidgets.features import FeatureStore, build, files, finish, scale_out, shard

TESTS = Path(__file__).parents[1]


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def small(monkeypatch):
    """Many small shards and ranges, and a state that is written after each."""
    monkeypatch.setattr(build, "PAUSE", -1.0)
    monkeypatch.setattr(build, "WARM", 3)
    monkeypatch.setattr(shard, "SHARD", 60)
    monkeypatch.setattr(finish, "RANGE", 7)


def made(folder: Path, seed: int, **options) -> FeatureStore:
    corpus = random_corpus(np.random.default_rng(seed), 60)
    return FeatureStore.build(
        folder, random_model(), random_dictionary(), corpus, context=12, progress=False, **options
    )


class Killed(BaseException):
    pass


def test_stopped_before_any_of_its_writings_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch, small):
    """Every file is written by `whole`: stop at the first, at the second, …, before and after each appears."""
    seed = secrets.randbits(32)
    wanted = content(made(tmp_path / "whole", seed).folder)
    count = 0

    def counting(path, write, stop=None, after=False):
        nonlocal count
        if count == stop and not after:
            path.with_name(f"{path.name}.part").write_bytes(b"half of it")
            raise Killed
        original(path, write)
        if count == stop:
            raise Killed
        count += 1

    original = files.whole
    modules = [
        sys.modules[f"interpwidgets.features.{name}"]
        for name in ("corpus", "files", "finish", "layout", "shard", "state")
    ]
    rng = np.random.default_rng(seed)
    for module in modules:
        monkeypatch.setattr(module, "whole", counting)
    made(tmp_path / "counted", seed)
    writings = count
    assert writings > 20
    for number, stop in enumerate(rng.choice(writings, 12, replace=False).tolist()):
        folder = tmp_path / f"stopped-{number}"
        after = bool(rng.integers(2))
        for module in modules:
            monkeypatch.setattr(module, "whole", lambda path, write, s=stop, a=after: counting(path, write, s, a))
        count = 0
        with pytest.raises(Killed):
            made(folder, seed)
        with pytest.raises(iw.InputError, match="not finished") if not (folder / "store.json").exists() else _nothing():
            FeatureStore.open(folder)
        for module in modules:
            monkeypatch.setattr(module, "whole", original)
        made(folder, seed)
        assert content(folder) == wanted, (seed, stop, after)


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def finished(process: subprocess.Popen, limit: float | None = None) -> float | None:
    """How long a build took after its imports; None if it was killed at the limit."""
    with process:
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        try:
            assert process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return None
        return time.monotonic() - started


@pytest.mark.slow
def test_a_process_killed_again_and_again_comes_to_the_same_bytes(tmp_path):
    seed = secrets.randbits(32)
    rng = np.random.default_rng(seed)
    command = [sys.executable, "-m", "features.killed"]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    options = {"env": environment, "stdout": subprocess.PIPE}
    length = finished(subprocess.Popen([*command, str(tmp_path / "whole"), str(seed)], **options))
    assert length is not None
    folder, killed = tmp_path / "killed", 0
    for _ in range(40):
        process = subprocess.Popen([*command, str(folder), str(seed)], **options)
        if finished(process, rng.uniform(0, 0.8 * length) if killed < 5 else None) is None:
            killed += 1
        elif killed:
            break
        else:  # it was faster than the first one
            shutil.rmtree(folder)
            length /= 2
    assert killed
    assert content(folder) == content(tmp_path / "whole"), seed


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}},
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_comes_to_the_same_bytes(tmp_path, small, cluster):
    seed = secrets.randbits(32)
    wanted = content(made(tmp_path / "here", seed).folder)
    made(tmp_path / "ray", seed, engine="ray", workers=2)
    assert content(tmp_path / "ray") == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_mid_run_loses_nothing(tmp_path, small, cluster, monkeypatch):
    seed = secrets.randbits(32)
    wanted = content(made(tmp_path / "here", seed).folder)
    flag = tmp_path / "killed"

    def suicidal(given, empty, shards, batch):
        if shards[0].number > 4:
            try:
                flag.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return counted(given, empty, shards, batch)

    counted = scale_out.counted
    monkeypatch.setattr(scale_out, "counted", suicidal)
    made(tmp_path / "ray", seed, engine="ray", workers=2)
    assert flag.exists()
    assert content(tmp_path / "ray") == wanted
