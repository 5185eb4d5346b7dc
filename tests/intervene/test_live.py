"""Effects that remember how to run one of their cells, and sweeps that are watched."""

from __future__ import annotations

import copy
import pickle
import secrets
from typing import Any

import numpy as np
import pytest
import torch
from models import zoo

import interpwidgets as iw

torch.set_num_threads(1)
RNG = np.random.default_rng(secrets.randbits(32))


@pytest.fixture(scope="module")
def model() -> iw.Model:
    return iw.Model(zoo.build("gpt2").double(), name="gpt2")


def pairs(count=3, size=7):
    clean = RNG.integers(8, zoo.VOCABULARY, (count, size))
    corrupted = clean.copy()
    corrupted[:, 2] = (clean[:, 2] - 7) % (zoo.VOCABULARY - 8) + 8
    return clean.tolist(), corrupted.tolist()


def distribution(model, prompt, interventions):
    logits = iw.run(model, [prompt], interventions, sites=("logits",))["logits"][0, -1]
    return logits.softmax(-1).numpy()


def test_a_cell_of_a_patch_is_run_again(model) -> None:
    clean, corrupted = pairs()
    effects = iw.patch_sweep(model, clean, corrupted, iw.logit_diff(3, 5), over="resid_pre", progress=False)
    prompt, layer, pos = 1, 1, 4
    found = effects.live({"layer": layer, "pos": pos}, prompt)
    patch = iw.Patch("resid_pre", layer, pos=pos, value=iw.record(model, [clean[prompt]]))
    before, after = (distribution(model, corrupted[prompt], each) for each in ([], [patch]))
    np.testing.assert_allclose(found.before, before[list(found.ids)], rtol=1e-9)
    np.testing.assert_allclose(found.after, after[list(found.ids)], rtol=1e-9)
    assert found.kl == pytest.approx((before * np.log(before / after)).sum(), rel=1e-6)
    assert found.position == 6
    row = effects[layer]
    assert row.live({"pos": pos}, prompt).to_json() == found.to_json()
    assert effects[layer, pos].live({}, prompt).to_json() == found.to_json()
    same = effects.live({"layer": 1, "pos": 0}, 0)
    assert same.kl < 1e-9
    assert same.how.startswith("nothing")
    assert [tuple(tokens.ids) for tokens in effects.live.clean] == [tuple(ids) for ids in clean]
    with pytest.raises(iw.InputError, match="no prompt 3"):
        effects.live({"layer": 0, "pos": 0}, 3)


def test_a_mean_is_over_all_prompts_of_the_sweep(model) -> None:
    prompts, _ = pairs()
    effects = iw.ablate_sweep(model, prompts, iw.logit_diff(3, 5), over="z", progress=False)
    found = effects.live({"layer": 1, "head": 2}, 2)
    mean = iw.record(model, prompts, sites=["z"])
    after = distribution(model, prompts[2], [iw.Ablate("z", 1, head=2, kind="mean", reference=mean)])
    np.testing.assert_allclose(found.after, after[list(found.ids)], rtol=1e-9)


def test_what_always_belongs_to_a_run_belongs_to_this_one(model) -> None:
    clean, corrupted = pairs()
    always = [iw.Scale("mlp_out", 0, factor=0.0)]
    effects = iw.patch_sweep(
        model, clean, corrupted, iw.logit_diff(3, 5), over="resid_mid", always=always, progress=False
    )
    found = effects.live({"layer": 2, "pos": 5}, 0)
    np.testing.assert_allclose(found.before, distribution(model, corrupted[0], always)[list(found.ids)], rtol=1e-9)


def test_a_copy_sum_or_file_is_not_live(model, tmp_path) -> None:
    clean, corrupted = pairs()
    effects = iw.patch_sweep(model, clean, corrupted, iw.logit_diff(3, 5), progress=False)
    effects.save(tmp_path / "effects.npz")
    for other in (effects + effects, 2 * effects, -effects, iw.Effects.load(tmp_path / "effects.npz")):
        assert other.live is None
    for other in (pickle.loads(pickle.dumps(effects)), copy.deepcopy(effects)):
        assert other.live is None
        np.testing.assert_array_equal(other.values, effects.values)
    assert "live" not in repr(effects)


def test_a_sweep_is_watched_while_it_runs(model, monkeypatch) -> None:
    monkeypatch.setattr("interpwidgets.intervene.gathering._SHOW", 0.0)
    monkeypatch.setattr("interpwidgets.intervene.engine._ROWS", 16)
    clean, corrupted = pairs()
    seen: list[iw.Effects] = []
    effects = iw.patch_sweep(
        model, clean, corrupted, iw.logit_diff(3, 5), over="mlp_out", progress=False, into=seen.append
    )
    done = [int(each.done.sum()) for each in seen]
    assert len(done) > 3
    assert done == sorted(done)
    assert done[0] < done[-1] == effects.done.size
    np.testing.assert_array_equal(seen[-1].values, effects.values)
    for each in seen:
        ran = ~np.isnan(each.values)
        np.testing.assert_array_equal(each.values[ran], effects.values[ran])
        assert each.live is not None
    iw.ablate_sweep(model, clean, iw.logit_diff(3, 5), progress=False, into=seen.append)
    assert seen[-1].done.all()


@pytest.mark.parametrize("kind", ["paths", "doses", "trace"])
def test_the_other_sweeps_are_watched_too(kind: str, model, monkeypatch) -> None:
    monkeypatch.setattr("interpwidgets.intervene.gathering._SHOW", 0.0)
    monkeypatch.setattr("interpwidgets.intervene.engine._ROWS", 8)
    clean, corrupted = pairs()
    seen: list[Any] = []
    how: dict[str, Any] = {"progress": False, "into": seen.append}
    if kind == "paths":
        effects = iw.path_sweep(model, clean, corrupted, iw.logit_diff(3, 5), receivers=[("q", 2, 1)], **how)
    elif kind == "doses":
        vector = np.random.default_rng().normal(size=model.d_model)
        effects = iw.steer(model, clean, iw.logit_diff(3, 5), vector=vector, layer=1, **how)
    else:
        trace = iw.causal_trace(model, clean[0], subject=[1], samples=2, **how)
        assert seen[0].mlp is None
        assert repr(seen[-1]) == repr(trace)
        seen = [each.states for each in seen if each.attn is None]
        effects = trace.states
    done = [int(each.done.sum()) for each in seen]
    assert len(done) > 2
    assert done == sorted(done)
    assert done[0] < done[-1] == effects.done.size
    np.testing.assert_array_equal(seen[-1].values, effects.values)


def test_an_interrupt_keeps_the_paths_that_are_done(model, monkeypatch) -> None:
    monkeypatch.setattr("interpwidgets.intervene.paths._ROWS", 8)
    clean, corrupted = pairs()
    whole = iw.path_sweep(model, clean, corrupted, iw.logit_diff(3, 5), receivers=[("q", 2, 1)], progress=False)
    calls = iter(range(10_000))

    def metric(logits: torch.Tensor) -> torch.Tensor:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return logits[:, 3] - logits[:, 5]

    with pytest.warns(UserWarning, match="Interrupted"):
        part = iw.path_sweep(model, clean, corrupted, metric, receivers=[("q", 2, 1)], progress=False)
    ran = ~np.isnan(part.values)
    assert 0 < ran.sum() < ran.size
    np.testing.assert_allclose(part.values[ran], whole.values[ran], atol=1e-5)
