"""Every model system that is shipped: its files, its card against its weights, and that it loads with nothing else."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

import interpwidgets as iw
from interpwidgets.models.train.__main__ import main
from interpwidgets.models.train.card import check
from interpwidgets.models.train.system import SYSTEMS, system

SEED = secrets.randbits(30)  # a failure prints it
PACKAGE = Path(iw.__file__).parent


def card_of(name: str) -> dict:
    return json.loads((system(name).folder / "card.json").read_text("utf-8"))


def test_what_has_a_recipe_is_shipped_and_the_other_way_round() -> None:
    assert sorted(SYSTEMS) == iw.models.shipped()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_number_of_the_card_holds_on_fresh_prompts(name: str) -> None:
    outside = [row for row in check(system(name), SEED) if not row.holds]
    assert not outside, SEED


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_card_lists_every_measure_with_an_interval_around_its_value(name: str) -> None:
    card = card_of(name)
    assert list(card["measured"]) == list(system(name).measures)
    for entry in card["measured"].values():
        low, high = entry["interval"]
        assert low <= entry["value"] <= high
        assert entry["seeds_range"][0] <= entry["seeds_mean"] <= entry["seeds_range"][1]
        if system(name).task:
            assert len(entry["seeds"]) >= 3


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_text_of_the_card_is_made_from_its_numbers(name: str) -> None:
    text = (system(name).folder / "README.md").read_text("utf-8")
    assert text == system(name).text(card_of(name))
    assert text.startswith(f"# {name}\n")
    assert "not" in text.lower()  # what is not inside


@pytest.mark.parametrize("name", [name for name in SYSTEMS if system(name).task])
def test_the_recipe_of_the_card_is_the_one_in_the_code(name: str) -> None:
    """Words, corpus and settings are those the weights were trained by."""
    card = card_of(name)
    assert system(name).task(system(name).recipe(seed=card["recipe"]["seed"])).about()["run"] == card["run"]
    for path in system(name).folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.metadata()["run"] == card["run"]
            assert file.metadata()["step"] == str(card["recipe"]["steps"])


def test_no_pickle_comes_with_the_package() -> None:
    for path in PACKAGE.rglob("*"):
        assert path.suffix not in {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz"}, path
    for path in (PACKAGE / "models" / "systems").rglob("*"):
        assert path.is_dir() or path.suffix in {".safetensors", ".json", ".md"}, path


def test_all_weights_together_are_small() -> None:
    sizes = {name: card_of(name)["bytes"] for name in SYSTEMS}
    assert sum(path.stat().st_size for path in (PACKAGE / "models" / "systems").rglob("*.safetensors")) <= 25e6, sizes


def test_all_of_them_load_without_a_network() -> None:
    code = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import interpwidgets as iw\n"
        "print([repr(iw.load(name)) != '' for name in iw.models.shipped()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("True") == len(SYSTEMS)


def test_the_check_says_which_number_does_not_hold(tmp_path: Path, monkeypatch, capsys) -> None:
    chosen = system("compiled-induction")
    card = card_of(chosen.name)
    name = next(iter(card["measured"]))
    card["measured"][name]["interval"] = [2.0, 3.0]
    for path in chosen.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr(type(chosen), "folder", tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(["check", chosen.name])
    said = capsys.readouterr().out
    assert [line.split()[1] for line in said.splitlines() if "OUTSIDE" in line] == [name]
    assert "1 numbers outside" in said


def test_an_unknown_system_is_refused_in_words() -> None:
    with pytest.raises(iw.InputError, match=r"no recipe for 'gpt-5'; there are induction-2l"):
        system("gpt-5")
