"""The benchmarks run, and say what they measured; what the figures are is not a test's business."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from random import SystemRandom

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="a source distribution carries no bench")


@pytest.fixture(autouse=True)
def _bench_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def bare(tmp_path):
    """A Python without packages."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of a Markdown document, by the heading above: a dictionary a row."""
    found = {}
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        title, *lines = part.splitlines()
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
        if rows:
            found.setdefault(title, []).extend(dict(zip(rows[0], row, strict=True)) for row in rows[2:])
    return found


def bench(tmp_path: Path, *arguments: str) -> dict[str, list[dict[str, str]]]:
    out = tmp_path / "benchmarks.md"
    command = [sys.executable, "-m", "bench", *arguments, "--tiny", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = out.read_text("utf-8")
    sections = text.split("\n## ")[1:]
    assert len(sections) == len(arguments)
    assert all(section.rstrip("\n") in done.stdout for section in sections)
    return tables(text)


def test_claims_that_are_not_measured_anew_stay_as_they_were():
    from bench.report import Budget, Claim, Table, document, section

    def measured(title, figure):
        table = Table("What was found", ["figure"], [[str(figure)]], ["A note."])
        return section(Claim(title, [table], [(Budget(title, "<", 5), figure)]), datetime.now(timezone.utc), 0, "", "")

    first, second, other = measured("One", 3), measured("Two", 7), measured("One", 4)
    whole = document([first, second])
    assert document([other], whole) == document([other, second])
    assert document([], whole) == whole
    assert document([second], document([first])) == whole


@pytest.mark.lab
@pytest.mark.slow
def test_views_are_measured_in_a_browser(tmp_path):
    found = bench(tmp_path, "attention", "long")
    (own,) = found["interpwidgets AttentionView, 12 × 12 heads"]
    assert own["requests"] == "0"
    assert re.fullmatch(r"[\d.]+ s", own["usable"])
    assert re.fullmatch(r"[\d.]+ ms", own["hover median"])
    (memory,) = found["… and the memory that it takes"]
    assert (memory["heads"], memory["T"]) == ("1 × 2", "512")
    verdicts = {row["what"]: row["verdict"] for row in found["Budgets"]}
    assert verdicts["network requests"] == "PASS"
    assert "not measured in this run" in verdicts.values()  # a tiny run has no T = 1,024, and does not pretend


@pytest.mark.slow
def test_import_bundles_and_recording_are_measured(tmp_path):
    found = bench(tmp_path, "package", "record")
    imports = {row["statement"]: row for row in found["Import"]}
    assert imports["`import interpwidgets`"]["torch imported"] == "no"
    shipped = {row["script"]: row["as it travels"] for row in found["JavaScript of a view"]}
    size = (ROOT / "interpwidgets/static/attention.js").stat().st_size / 1e3
    assert shipped["attention.js"] == f"{size:.1f} kB"
    recording = next(rows for title, rows in found.items() if title.startswith("Recording a"))
    assert [row["T"] for row in recording] == ["8", "8"]
    assert all(re.fullmatch(r"\d+\.\d{3}×", row["ratio, median of pairs"]) for row in recording)


@pytest.mark.slow
def test_sweeps_are_measured_and_absent_peers_are_told_of(tmp_path, bare, monkeypatch):
    monkeypatch.setenv("BENCH_PEERS", bare)
    found = bench(tmp_path, "sweep")
    passes = found["Forward passes and recording"]
    assert [row["library"] for row in passes] == ["transformers"] * 2 + ["interpwidgets"] * 2
    assert passes[0]["CPU ÷ plain forward pass"] == "1×"
    assert all(re.fullmatch(r"[\d.]+ [GM]B", row["peak memory"]) for row in passes)
    sweeps = {row["over"]: row for row in found["Sweeps"]}
    assert {row["library"] for row in sweeps.values()} == {"interpwidgets"}
    assert all(float(row["values span"]) > 0 for row in sweeps.values())
    assert len(found["… and what an exact sweep cannot avoid"]) == 2
    assert {row["verdict"] for row in found["Budgets"]} == {"not measured in this run"}
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert "not installed: TransformerLens and nnsight" in text


@pytest.mark.slow
def test_feature_stores_are_measured(tmp_path, bare, monkeypatch):
    monkeypatch.setenv("BENCH_SAEDASHBOARD", bare)
    found = bench(tmp_path, "features")
    built = found["Building a feature store, one thread"]
    assert [row["features"] for row in built] == ["512", "64"]
    assert all(re.fullmatch(r"[\d.]+ ms", row["a feature"]) for row in built)
    assert all(re.fullmatch(r"[\d,]+ B", row["bytes a feature"]) for row in built)
    (looked,) = found["Looking features up at random"]
    assert looked["features"] == "100"
    drawn = found["From a click to its pixels, live"]
    assert [(row["click"], row["clicks"]) for row in drawn] == [("next", "3"), ("row", "3"), ("jump", "3")]
    for row in drawn:
        middle, high, longest = (float(row[name].removesuffix(" ms")) for name in ("median", "95 %", "longest"))
        assert 0 < middle <= high <= longest
    assert {row["verdict"] for row in found["Budgets"]} == {"not measured in this run"}  # no peer, and no million
    ours, theirs = next(rows for title, rows in found.items() if title.endswith("by SAEDashboard"))
    assert (ours["by"], ours["÷ ours"]) == ("interpwidgets", "1×")
    assert (theirs["by"], theirs["CPU"]) == ("SAEDashboard", "not measured")
    assert "SAEDashboard is not measured: ModuleNotFoundError" in (tmp_path / "benchmarks.md").read_text("utf-8")


@pytest.mark.slow
def test_the_course_is_measured(tmp_path):
    from interpwidgets.course.library import lesson

    found = bench(tmp_path, "course")
    exercises = {each.name: each for each in lesson("example").exercises}
    slowest = {row["exercise"]: row for row in found["The slowest verdicts"]}
    assert set(slowest) == set(exercises)
    for name, row in slowest.items():
        assert re.fullmatch(r"[\d.]+ s", row["right answer"])
        assert (row["wrong answer"] == "–") == (not hasattr(exercises[name], "draw"))
    assert [name for name, row in slowest.items() if row["graded, wall"] == "–"] == ["example.share"]  # the first
    assert [row["notebooks"] for row in found["All notebooks"]] == ["1", "1", "1"]
    assert {row["what"] for row in found["Budgets"] if row["verdict"] == "not measured in this run"} == {
        "nbval of all notebooks, wall"
    }


@pytest.mark.slow
@pytest.mark.skipif("BENCH_SAEDASHBOARD" not in os.environ, reason="BENCH_SAEDASHBOARD names no Python that has it")
def test_saedashboard_finds_the_same_largest_activations(tmp_path):
    from bench import dashboard

    dashboard.give(tmp_path, 1024)
    ours, _ = dashboard.build("ours", sys.executable, str(tmp_path))
    theirs, why_not = dashboard.build("theirs", dashboard.PYTHON, str(tmp_path))
    assert theirs, why_not
    np.testing.assert_allclose(theirs["largest"], ours["largest"], rtol=1e-4, atol=1e-3)  # rounded to a thousandth
    assert max(ours["largest"]) > 0


@pytest.mark.slow
@pytest.mark.skipif("BENCH_PEERS" not in os.environ, reason="BENCH_PEERS names no Python that has the peers")
def test_peers_find_the_same_numbers(tmp_path):
    sweeps = bench(tmp_path, "sweep")["Sweeps"]
    theirs = [row for row in sweeps if row["library"] != "interpwidgets"]
    assert [row["library"] for row in theirs] == ["TransformerLens", "nnsight"] * 2
    assert all(float(row["largest difference"]) < 1e-4 * float(row["values span"]) for row in theirs)


@pytest.mark.slow
def test_a_library_that_fails_is_told_of_in_its_words(tmp_path, monkeypatch):
    from bench import sweep

    monkeypatch.setattr(sweep, "PYTHON", sys.executable)
    peer = sweep.Library("TransformerLens", tmp_path, "heads", 4, 1)  # no weights there, and maybe no TransformerLens
    sweep.together([peer], rounds=2)
    assert peer.why_not.startswith("failed: ")
    assert "Error" in peer.why_not
    assert not peer.runs
    with pytest.raises(RuntimeError, match="failed"):
        sweep.together([sweep.Library("interpwidgets", tmp_path, "heads", 4, 1)], rounds=1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot begin anew")
def test_the_highest_memory_is_that_of_the_runs():
    from bench.library import forget_peak, peak_memory

    most = 1 << 28
    forget_peak()
    before = peak_memory()
    np.ones(most, dtype=np.uint8)
    assert most / 2 < peak_memory() - before < 2 * most
    forget_peak()
    assert peak_memory() - before < most / 2


def test_prompts_of_a_sweep_share_their_first_token_only():
    from bench.library import RIGHT, WRONG, prompts

    for length, batch, vocabulary in ((32, 1, 50257), (9, 3, 6)):
        clean, corrupted = prompts(vocabulary, length, batch)
        assert clean.shape == corrupted.shape == (batch, length)
        same = (clean == corrupted).numpy()
        assert same[:, 0].all()
        assert not same[:, 1:].any()
        assert min(clean.min(), corrupted.min()) >= 3
        assert max(clean.max(), corrupted.max()) < vocabulary
    assert RIGHT != WRONG


@pytest.mark.parametrize(("layers", "heads", "width", "length"), [(1, 1, 4, 3), (2, 2, 6, 4), (4, 3, 12, 7)])
def test_what_cannot_be_avoided_is_what_a_row_by_row_count_finds(layers, heads, width, length):
    from bench.sweep import Shape, unavoidable

    def count(layer, at, head):
        """Of one patch, at a position or of a head: follow which rows change, and which anybody asks for."""
        flop, changed = 0, {at} if head is None else set()
        for block in range(layer, layers):
            asked = {length - 1} if block == layers - 1 else set(range(length))
            first = block == layer
            out = set(range(1 if head is not None else at, length)) & asked
            if not (first and head is not None):
                flop += len(changed) * 2 * 2 * width**2  # k, v
                flop += len(changed & asked) * 2 * width**2  # q
            flop += len(out) * 2 * (width * width // heads if first and head is not None else width**2)  # W_O
            flop += len(out) * 2 * 8 * width**2  # the MLP
            flop += 0 if first else sum(4 * width * (row + 1) for row in out)  # q·k and its values
            changed = set(range(1 if head is not None else at, length))
        return flop

    passes = 2 * (layers - 1) * length * 24 * width**2
    shape = Shape(layers, heads, width, 10)
    by_pos = sum(count(layer, at, None) for layer in range(layers) for at in range(1, length))
    by_head = sum(count(layer, None, head) for layer in range(layers) for head in range(heads))
    assert unavoidable("positions", shape, length) == passes + by_pos
    assert unavoidable("heads", shape, length) == passes + by_head


def test_a_claim_that_does_not_exist_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'speed'" in done.stderr
    assert "attention" in done.stderr


@given(st.floats(-1e9, 1e9, allow_nan=False))
def test_a_figure_is_as_long_as_it_deserves(value):
    from bench.report import number

    shown = number(value)
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.06, abs=1e-4)
    assert len(shown.strip("-").replace(",", "").replace(".", "").lstrip("0")) <= max(3, len(f"{abs(value):.0f}"))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from("<≤≥="))
def test_a_budget_over_is_said_to_be_over(bound, measured, kind):
    from bench.report import Budget

    said = Budget("it", kind, bound).row(measured)[-1]
    expected = {"<": measured < bound, "≤": not measured > bound, "≥": not measured < bound, "=": measured - bound == 0}
    assert (said == "PASS") == expected[kind]
    assert said in ("PASS", "**over**")
    assert Budget("it", kind, bound).row(None)[-1] == "not measured in this run"


def test_the_tensors_are_causal_attention():
    from bench.data import patterns, tokens

    seed = SystemRandom().randrange(2**32)
    attention = patterns(2, 4, 33, seed=seed)
    assert attention.dtype == np.float32
    assert np.allclose(attention.sum(axis=-1), 1, atol=1e-5), seed
    assert (attention >= 0).all(), seed
    assert all(attention[:, :, query, query + 1 :].max(initial=0) == 0 for query in range(33)), seed
    assert (attention[0, 1, 1:, 0] > attention[0, 1, 1:, 1:].mean(axis=-1)).all(), seed  # first-token head
    assert len(tokens(33)) == 33


@pytest.mark.parametrize("length", [64, 1024, 16384, 131072])
def test_three_steps_lead_to_single_weights_on_the_diagonal(length):
    from bench.long import steps

    viewports = steps(length)
    assert len(viewports) == 3
    for top, bottom, left, right in viewports:
        assert (top, bottom) == (left, right)
        assert 0 <= top < bottom <= length
    assert viewports[-1][1] - viewports[-1][0] == 64


def test_a_peer_is_not_tried_where_python_would_take_too_long():
    from bench.attention import PYTHON, too_dear

    assert too_dear([(32, [PYTHON / 100])], 64) is None
    assert too_dear([(32, [0.9])], 1 << 20) is None  # so short that it says nothing
    assert too_dear([(32, [PYTHON / 3])], 64) == 32
    assert too_dear([(32, [0.1]), (64, [])], 128) == 64
