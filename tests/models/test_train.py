"""A short training: the same to the bit for the same seed, whether it was cut off or not; and its optimiser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interpwidgets.errors import InputError
from interpwidgets.models.train.__main__ import main
from interpwidgets.models.train.card import finished_runs, reach_of, write_card
from interpwidgets.models.train.cards.induction import SYSTEM, chosen_steps
from interpwidgets.models.train.induction import Induction, Recipe, new_model
from interpwidgets.models.training.loop import train
from interpwidgets.models.training.muon import Muon, orthogonalised
from interpwidgets.models.training.runs import Run

SMALL = {
    "steps": 6,
    "warm_up": 1,
    "other_rate": 0.01,
    "checkpoint_every": 2,
    "heads": 2,
    "width": 16,
    "context": 32,
    "shapes": ((4, 16), (2, 32)),
}


def small(seed: int = 0, **changed) -> Recipe:
    return Recipe(seed=seed, **{**SMALL, **changed})


def contents(path: Path) -> object:
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, "pt") as file:  # the order in which its header is written varies
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}, file.metadata()  # noqa: SIM118


def files(folder: Path) -> dict[str, object]:
    """Everything in a run, to the bit, but its log, which tells the time it took."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl"]
    return {str(path.relative_to(folder)): contents(path) for path in found}


def figures(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "cpu_seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return train(Induction(small()), tmp_path_factory.mktemp("whole"), progress=False)


def test_a_seed_gives_the_same_weights(whole: Path, tmp_path: Path) -> None:
    again = train(Induction(small()), tmp_path, progress=False)
    assert again.name == whole.name
    assert files(again) == files(whole)
    other = train(Induction(small(seed=1)), tmp_path, progress=False)
    assert other.name != whole.name
    weights, others = (load_file(f / "step-00006" / "model.safetensors") for f in (whole, other))
    assert not torch.equal(weights["transformer.wte.weight"], others["transformer.wte.weight"])


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5])
def test_a_run_cut_off_goes_on_to_the_same_weights(whole: Path, tmp_path: Path, cut: int) -> None:
    folder = train(Induction(small()), tmp_path, until=cut, progress=False)
    assert (figures(folder)[-1]["step"]) == cut
    train(Induction(small()), tmp_path, progress=False)
    wanted = {name: data for name, data in files(whole).items() if not name.startswith(f"step-{cut:05d}")}
    assert {name: data for name, data in files(folder).items() if not name.startswith(f"step-{cut:05d}")} == wanted
    assert [line for line in figures(folder) if line["step"] % 2 == 0] == figures(whole)


def test_what_the_state_has_not_reached_does_not_count(whole: Path, tmp_path: Path) -> None:
    """Cut off after the weights of step 4 were written and before the state was: step 4 is done again."""
    folder = train(Induction(small()), tmp_path, until=2, progress=False)
    (folder / "step-00004").mkdir()
    (folder / "step-00004" / "model.safetensors").write_bytes(b"half a file")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "cpu_seconds": 1.0}\n')
    train(Induction(small()), tmp_path, progress=False)
    assert files(folder) == files(whole)
    assert figures(folder) == figures(whole)


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = files(whole)
    assert train(Induction(small()), whole.parent, progress=False) == whole
    assert files(whole) == before


def test_every_checkpoint_says_what_it_is(whole: Path) -> None:
    for step in (0, 2, 4, 6):
        folder = whole / f"step-{step:05d}"
        about = json.loads((folder / "run.json").read_text())
        assert about["step"] == step
        assert about["run"] == Induction(small()).about()["run"] == whole.name[-8:]
        assert about["recipe"]["heads"] == json.loads((folder / "config.json").read_text())["n_head"] == 2
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        assert model(torch.tensor([[1, 5, 7]])).logits.isfinite().all()


def test_a_folder_of_another_run_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match="recipe differ"):
        Run(whole, {"system": "induction-2l", "run": whole.name[-8:], "recipe": {}}).open()


def test_mlps_stay_idle_and_everything_else_learns(whole: Path) -> None:
    first, last = (load_file(whole / f"step-{step:05d}" / "model.safetensors") for step in (0, 6))
    for name in first:
        if ".mlp." in name:
            assert not last[name].any(), name
        elif "ln_2" in name:
            assert torch.equal(first[name], last[name]), name
        else:
            assert not torch.equal(first[name], last[name]), name


def test_training_learns(tmp_path: Path) -> None:
    folder = train(Induction(small(steps=60, checkpoint_every=60)), tmp_path, progress=False)
    before, after = figures(folder)
    assert after["text_loss"] < before["text_loss"] - 0.5


def test_the_seed_and_nothing_else_decides_the_first_weights() -> None:
    torch.manual_seed(1)
    one = new_model(small(seed=7)).transformer.wte.weight
    torch.manual_seed(2)
    assert torch.equal(one, new_model(small(seed=7)).transformer.wte.weight)
    assert not torch.equal(one, new_model(small(seed=8)).transformer.wte.weight)


def test_making_a_model_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    new_model(small())
    assert torch.equal(torch.rand(2), wanted)


def test_the_command_trains_and_stays_in_its_folder(tmp_path: Path, capsys) -> None:
    main(["induction-2l", "--seed", "5", "--steps", "1", "--out", str(tmp_path / "runs")])
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("induction-2l-seed-5-")
    assert figures(folder)[-1]["step"] == 1
    with pytest.raises(SystemExit):
        main(["unknown-9l"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_card_needs_three_seeds_of_one_recipe(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 finished runs of 1 recipes"):
        write_card(SYSTEM, whole.parent, 0, tmp_path / "card")
    for seed, steps in ((0, 2), (1, 2), (2, 4)):
        train(Induction(small(seed=seed, steps=steps)), tmp_path, progress=False)
    with pytest.raises(InputError, match="3 finished runs of 2 recipes"):
        finished_runs(SYSTEM.name, tmp_path)
    train(Induction(small(seed=3, steps=2)), tmp_path / "more", progress=False)
    train(Induction(small(seed=4, steps=2)), tmp_path / "more", progress=False)
    train(Induction(small(seed=5, steps=2)), tmp_path / "more", until=1, progress=False)
    with pytest.raises(InputError, match="2 finished runs"):
        finished_runs(SYSTEM.name, tmp_path / "more")


def test_checkpoints_are_chosen_around_the_step_where_copying_is_half_learnt() -> None:
    log = [{"step": s, "copy_accuracy": min(0.9, max(0.0, (s - 1000) / 500))} for s in range(0, 3001, 25)]
    steps = chosen_steps(log)
    assert steps[0] == 0
    assert 1225 in steps  # 0.45
    assert 3000 not in steps  # that is the model itself
    assert len(steps) >= 20


def test_an_interval_is_five_deviations_and_never_nothing() -> None:
    values = [0.4, 0.5, 0.6, 0.55]
    mean = sum(values) / 4
    deviation = (sum((value - mean) ** 2 for value in values) / 3) ** 0.5
    assert reach_of(values) == pytest.approx(5 * deviation)
    assert reach_of([2.0] * 6) == 0.003
    assert reach_of([1.0] * 6) == reach_of([0.0] * 6) == 0.02  # a share that never missed may still miss


def test_muon_makes_directions_orthogonal() -> None:
    matrices = torch.randn(4, 24, 24, dtype=torch.float64)
    found = orthogonalised(matrices)
    u, s, vh = torch.linalg.svd(matrices)
    inside = u.mT @ found @ vh.mT  # the singular vectors are kept: what is left is diagonal
    torch.testing.assert_close(inside, torch.diag_embed(inside.diagonal(dim1=1, dim2=2)), atol=1e-8, rtol=0)
    values = inside.diagonal(dim1=1, dim2=2)
    large = s > 0.02 * torch.linalg.matrix_norm(matrices)[:, None]  # the smallest need more rounds
    assert values[large].min() > 0.6
    assert values.max() < 1.3


def test_muon_takes_q_k_and_v_apart() -> None:
    """A step on [d, 3d] is three steps on [d, d]."""
    together = torch.randn(8, 24)
    parts = [part.clone() for part in together.split(8, dim=1)]
    gradients = [torch.randn(8, 24) for _ in range(3)]
    one, three = Muon([together]), Muon(parts)
    for gradient in gradients:
        together.grad = gradient
        for part, piece in zip(parts, gradient.split(8, dim=1), strict=True):
            part.grad = piece.clone()
        one.step(0.1)
        three.step(0.1)
    torch.testing.assert_close(together, torch.cat(parts, dim=1))


def test_muon_takes_a_tall_matrix_as_squares_too() -> None:
    tall = torch.randn(24, 8)
    wide = tall.T.clone()
    one, other = Muon([tall]), Muon([wide])
    tall.grad = torch.randn(24, 8)
    wide.grad = tall.grad.T.clone()
    one.step(0.1)
    other.step(0.1)
    torch.testing.assert_close(tall, wide.T)


def test_muon_wants_gradients() -> None:
    with pytest.raises(RuntimeError, match="no gradient"):
        Muon([torch.zeros(2, 2)]).step(0.1)
