"""Sweeps are what a naive loop of whole passes gives, and leave the model as it was."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from intervene import naive
from models import zoo
from torch import Tensor
from transformers import PreTrainedModel

import interpwidgets as iw
from interpwidgets.intervene import engine as engine_module
from interpwidgets.intervene.interventions import Intervention
from interpwidgets.models.sites import LAYERLESS, PER_HEAD, SITES

KINDS = ("gpt2", "llama")
LAYERS, HEADS, SIZE = 3, 4, 6
WRITTEN = [site for site in SITES if site not in ("lse", "logits")]


@cache
def module_of(kind: str) -> PreTrainedModel:
    return zoo.build(kind)


@pytest.fixture(params=KINDS)
def module(request: pytest.FixtureRequest) -> PreTrainedModel:
    return module_of(request.param)


@pytest.fixture
def model(module: PreTrainedModel) -> iw.Model:
    return iw.Model(module)


def draw(count: int = 2, size: int = SIZE, seed: int | None = None) -> list[list[int]]:
    return np.random.default_rng(seed).integers(3, zoo.VOCABULARY, (count, size)).tolist()


def loop(module: PreTrainedModel, clean: Any, corrupted: Any, site: str, by: tuple[str, ...], at: Callable) -> Any:
    """Every cell by a pass of its own: [*axes, prompt]."""
    kind = module.config.model_type
    name, side = naive.SITES[kind][site]
    blocks = module.transformer.h if kind == "gpt2" else module.model.layers
    sizes = {"layer": LAYERS, "head": HEADS, "pos": len(corrupted[0])}
    found = np.empty((*(sizes[axis] for axis in by), len(corrupted)))
    for cell in itertools.product(*(range(sizes[axis]) for axis in by)):
        place = dict(zip(by, cell, strict=True))
        part = blocks[place["layer"]].get_submodule(name)
        head = (place["head"], HEADS) if "head" in place else None
        for prompt, (a, b) in enumerate(zip(clean, corrupted, strict=True)):
            value = naive.heard(module, part, side, a)
            found[(*cell, prompt)] = at(naive.patched(module, part, side, b, value, place.get("pos"), head), b)
    return found


def close(found: Any, truth: Any) -> None:
    truth = np.asarray(truth)
    # A difference near 0 has the rounding of the logits that it is of, which are about 1.
    np.testing.assert_allclose(found, truth, atol=1e-4 * np.abs(truth).max() + 1e-6, rtol=1e-4)


METRICS: dict[str, tuple[Any, Callable[[Tensor, Any], float]]] = {
    "at the end": (iw.logit_diff(5, 7), lambda logits, _: logits[-1, 5] - logits[-1, 7]),
    "before the end": (iw.logit_diff(5, 7, pos=3), lambda logits, _: logits[3, 5] - logits[3, 7]),
    "everywhere": (
        iw.loss(),
        lambda logits, ids: torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])),
    ),
}


@pytest.mark.parametrize("asked", METRICS)
@pytest.mark.parametrize(
    ("site", "by"),
    [
        *((site, ("layer", "pos")) for site in ("resid_pre", "resid_post", "attn_out", "mlp_out")),
        ("z", ("layer", "head")), ("z", ("layer", "head", "pos")), ("z", ("pos", "layer")), ("mlp_out", ("layer",)),
    ],
)  # fmt: skip
def test_patching_is_a_loop_of_whole_passes(
    module: PreTrainedModel, model: iw.Model, site: str, by: tuple[str, ...], asked: str
) -> None:
    clean, corrupted = draw(), draw()
    metric, at = METRICS[asked]
    effects = iw.patch_sweep(model, clean, corrupted, metric, over=site, by=by, progress=False)
    assert [axis.name for axis in effects.axes] == list(by)
    close(effects.values, loop(module, clean, corrupted, site, by, at))
    with torch.no_grad():
        for ids, base, other in zip(corrupted, effects.corrupted, effects.clean, strict=True):
            close(base, at(module(torch.tensor([ids])).logits[0], ids))
            close(other, at(module(torch.tensor([clean[corrupted.index(ids)]])).logits[0], clean[corrupted.index(ids)]))


@pytest.mark.parametrize("site", WRITTEN)
def test_patching_at_every_site_is_one_run_after_another(model: iw.Model, site: str) -> None:
    axes = ["pos"] if site in LAYERLESS else ["layer", "head", "pos"] if site in PER_HEAD else ["layer", "pos"]
    clean, corrupted = draw(), draw()
    metric = iw.logit_diff(5, 7)
    rec = iw.record(model, clean, sites=[site])
    for count in range(1, len(axes) + 1):
        for by in itertools.combinations(axes, count):
            if "layer" in axes and "layer" not in by:
                continue
            effects = iw.patch_sweep(model, clean, corrupted, metric, over=site, by=by, progress=False)
            for cell in itertools.product(*(range(len(axis.labels)) for axis in effects.axes)):
                place = {axis.name: axis.labels[i] for axis, i in zip(effects.axes, cell, strict=True)}
                after = iw.run(model, corrupted, iw.Patch(site, value=rec, **place), sites=["logits"])["logits"]
                close(effects.values[cell], after[:, -1, 5] - after[:, -1, 7])


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
@pytest.mark.parametrize("site", ["resid_pre", "z", "pattern", "v", "mlp_post"])
@pytest.mark.parametrize("own", [True, False])
def test_ablation_is_one_run_after_another(model: iw.Model, kind: Any, site: str, own: bool) -> None:
    prompts = draw()
    reference = None if own else iw.record(model, draw(3), sites=[site])
    effects = iw.ablate_sweep(
        model, prompts, iw.logit_diff(5, 7), over=site, kind=kind, reference=reference, seed=4, progress=False
    )
    for cell in itertools.product(*(range(len(axis.labels)) for axis in effects.axes)):
        place = {axis.name: axis.labels[i] for axis, i in zip(effects.axes, cell, strict=True)}
        what = iw.Ablate(site, kind=kind, reference=reference, seed=4, **place)
        after = iw.run(model, prompts, what, sites=["logits"])["logits"]
        close(effects.values[cell], after[:, -1, 5] - after[:, -1, 7])


@pytest.mark.parametrize("site", ["resid_pre", "q", "k", "v", "pattern", "z", "resid_post"])
def test_what_is_always_done_is_part_of_every_run(model: iw.Model, site: str) -> None:
    clean, corrupted = draw(), draw()
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1)) * 3
    always = [iw.Steer("resid_post", 0, vector=vector, pos=slice(1, 4)), iw.Scale("z", 1, factor=0.3, head=2)]
    effects = iw.patch_sweep(
        model, clean, corrupted, iw.logit_diff(5, 7), over=site, by=("layer",), always=always, progress=False
    )
    rec = iw.record(model, clean, sites=[site])
    for layer in range(LAYERS):
        done: list[Intervention] = [*always, iw.Patch(site, layer, value=rec)]
        after = iw.run(model, corrupted, done, sites=["logits"])["logits"]
        close(effects.values[layer], after[:, -1, 5] - after[:, -1, 7])
    base = iw.run(model, corrupted, always, sites=["logits"])["logits"]
    close(effects.corrupted, base[:, -1, 5] - base[:, -1, 7])


def test_prompts_of_different_length(model: iw.Model) -> None:
    clean = [*draw(1, 4), *draw(1, 7), *draw(1, 5)]
    corrupted = [*draw(1, 4), *draw(1, 7), *draw(1, 5)]
    found = iw.patch_sweep(model, clean, corrupted, iw.loss(), over="z", by=("layer", "head"), progress=False)
    for number, (a, b) in enumerate(zip(clean, corrupted, strict=True)):
        alone = iw.patch_sweep(model, [a], [b], iw.loss(), over="z", by=("layer", "head"), progress=False)
        close(found.values[..., number], alone.values[..., 0])


@pytest.mark.parametrize("rows", [1, 7, 50])
@pytest.mark.parametrize("way", ["packed", "resumed", "whole"])
def test_the_size_of_a_chunk_and_the_way_do_not_matter(
    module: PreTrainedModel, model: iw.Model, monkeypatch: pytest.MonkeyPatch, rows: int, way: Any
) -> None:
    clean, corrupted = draw(), draw()
    plain = iw.patch_sweep(model, clean, corrupted, iw.loss(), progress=False)
    monkeypatch.setattr(engine_module, "_ROWS", rows)
    monkeypatch.setitem(engine_module._ways, module, way)
    close(iw.patch_sweep(model, clean, corrupted, iw.loss(), progress=False).values, plain.values)


def test_the_shortest_way_is_taken(module: PreTrainedModel, model: iw.Model) -> None:
    assert engine_module.way_of(model) == "packed"


# -- what happens on the way


class Counting:
    """A metric of the logits that does something at its n-th call."""

    def __init__(self, n: int, what: Callable[[], None]) -> None:
        self.n, self.what, self.calls = n, what, 0

    def __call__(self, logits: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.n:
            self.what()
        return logits[:, 5] - logits[:, 7]


def interrupt() -> None:
    raise KeyboardInterrupt


def no_memory() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def state(module: PreTrainedModel) -> Any:
    """All that a sweep must not leave behind."""
    configs = [part.config._attn_implementation for part in module.modules() if hasattr(part, "config")]
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]
    training = [part.training for part in module.modules()]
    own = [part.__dict__.get("forward") for part in module.modules()]
    return configs, hooks, training, own


@pytest.mark.parametrize("end", ["done", "interrupt", "error"])
@pytest.mark.parametrize("over", ["resid_pre", "pattern", "ln1_scale", "embed"])
def test_the_model_is_left_as_it_was(kind: str, end: str, over: str) -> None:
    module = zoo.build(kind).train()
    module.base_model.get_input_embeddings().eval()
    before = state(module)

    def boom() -> None:
        raise ZeroDivisionError

    metric = Counting(4, {"done": lambda: None, "interrupt": interrupt, "error": boom}[end])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            iw.patch_sweep(module, draw(), draw(), metric, over=over, progress=False)
        except ZeroDivisionError:
            assert end == "error"
    assert state(module) == before


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_model_in_training_mode_is_measured_without_dropout(kind: str) -> None:
    module = zoo.build(kind)
    clean, corrupted = draw(), draw()
    plain = iw.patch_sweep(module, clean, corrupted, iw.loss(), progress=False)
    close(iw.patch_sweep(module.train(), clean, corrupted, iw.loss(), progress=False).values, plain.values)
    assert module.training


def test_an_interrupt_keeps_what_is_done(model: iw.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, corrupted = draw(1), draw(1)
    whole = iw.patch_sweep(model, clean, corrupted, iw.logit_diff(5, 7), progress=False)
    monkeypatch.setattr(engine_module, "_ROWS", 12)
    with pytest.warns(UserWarning, match=r"Interrupted: \d+ of 18 runs are done"):
        part = iw.patch_sweep(model, clean, corrupted, Counting(5, interrupt), progress=False)
    done = ~np.isnan(part.values)
    assert 0 < done.sum() < 18
    close(part.values[done], whole.values[done])


def test_a_cache_goes_on_where_it_was_interrupted(
    model: iw.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean, corrupted = draw(1), draw(1)
    whole = iw.patch_sweep(model, clean, corrupted, Counting(0, interrupt), progress=False)
    monkeypatch.setattr(engine_module, "_ROWS", 12)
    stopped, resumed, again = Counting(5, interrupt), Counting(0, interrupt), Counting(0, interrupt)
    with pytest.warns(UserWarning, match="Interrupted"):
        iw.patch_sweep(model, clean, corrupted, stopped, progress=False, cache=tmp_path)
    effects = iw.patch_sweep(model, clean, corrupted, resumed, progress=False, cache=tmp_path)
    close(effects.values, whole.values)
    iw.patch_sweep(model, clean, corrupted, again, progress=False, cache=tmp_path)
    assert again.calls == 2  # clean and corrupted
    assert again.calls < resumed.calls
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_is_not_used_for_anything_else(kind: str, tmp_path: Path) -> None:
    module = zoo.build(kind)
    clean, corrupted = draw(1), draw(1)
    rec = iw.record(module, clean, sites=["resid_pre"])
    steer = [iw.Steer("resid_post", 0, vector=torch.ones(32))]
    variants: list[Callable[[], iw.Effects]] = [
        lambda: iw.patch_sweep(module, clean, corrupted, iw.logit_diff(5, 7), progress=False, cache=tmp_path),
        lambda: iw.patch_sweep(module, clean, corrupted, iw.logit_diff(5, 8), progress=False, cache=tmp_path),
        lambda: iw.patch_sweep(module, clean, corrupted, iw.logit_diff(5, 7, pos=3), progress=False, cache=tmp_path),
        lambda: iw.patch_sweep(module, corrupted, clean, iw.logit_diff(5, 7), progress=False, cache=tmp_path),
        lambda: iw.patch_sweep(module, draw(1), corrupted, iw.logit_diff(5, 7), progress=False, cache=tmp_path),
        lambda: iw.patch_sweep(
            module, clean, corrupted, iw.logit_diff(5, 7), over="mlp_out", progress=False, cache=tmp_path
        ),
        lambda: iw.patch_sweep(
            module, clean, corrupted, iw.logit_diff(5, 7), always=steer, progress=False, cache=tmp_path
        ),
        lambda: iw.patch_sweep(
            module, clean, corrupted, iw.logit_diff(5, 7), always=[*steer, *steer], progress=False, cache=tmp_path
        ),
        lambda: iw.patch_sweep(
            module, clean, corrupted, iw.logit_diff(5, 7), progress=False, cache=tmp_path,
            always=[iw.Steer("resid_post", 0, vector=torch.ones(32) * 2)],
        ),
        lambda: iw.patch_sweep(
            module, clean, corrupted, lambda logits: logits[:, 1], progress=False, cache=tmp_path
        ),
        lambda: iw.patch_sweep(
            module, clean, corrupted, lambda logits: logits[:, 2], progress=False, cache=tmp_path
        ),
        lambda: iw.ablate_sweep(module, clean, iw.logit_diff(5, 7), over="resid_pre", progress=False, cache=tmp_path),
        lambda: iw.ablate_sweep(
            module, clean, iw.logit_diff(5, 7), over="resid_pre", kind="zero", progress=False, cache=tmp_path
        ),
        lambda: iw.ablate_sweep(
            module, clean, iw.logit_diff(5, 7), over="resid_pre", reference=rec, progress=False, cache=tmp_path
        ),
        lambda: iw.ablate_sweep(
            module, clean, iw.logit_diff(5, 7), over="resid_pre", progress=False, cache=tmp_path,
            reference=iw.record(module, draw(1), sites=["resid_pre"]),
        ),
    ]  # fmt: skip
    for number, variant in enumerate(variants, 1):
        variant()
        assert len(list(tmp_path.iterdir())) == number, number
    first = variants[0]()
    with torch.no_grad():
        module.get_parameter(next(name for name, _ in module.named_parameters() if "mlp" in name)).mul_(-1)
    assert not np.allclose(variants[0]().values, first.values)


def test_too_little_memory_halves_the_batch(model: iw.Model) -> None:
    clean, corrupted = draw(), draw()
    whole = iw.patch_sweep(model, clean, corrupted, iw.logit_diff(5, 7), progress=False)
    with pytest.warns(UserWarning, match=r"\d+ interventions at once do not fit into memory; trying half"):
        effects = iw.patch_sweep(model, clean, corrupted, Counting(3, no_memory), progress=False)
    close(effects.values, whole.values)


def test_another_error_is_not_taken_for_lack_of_memory(model: iw.Model) -> None:
    def wrong() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        iw.patch_sweep(model, draw(), draw(), Counting(3, wrong), progress=False)


def test_two_threads_sweep_one_model(module: PreTrainedModel, model: iw.Model) -> None:
    pairs = [(draw(), draw()) for _ in range(2)]
    overs = ["resid_pre", "z"]
    alone = [
        iw.patch_sweep(model, *pair, iw.loss(), over=over, progress=False).values
        for pair, over in zip(pairs, overs, strict=True)
    ]
    found: dict[int, Any] = {}

    def work(i: int) -> None:
        found[i] = [iw.patch_sweep(model, *pairs[i], iw.loss(), over=overs[i], progress=False).values for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        for values in found[i]:
            close(values, alone[i])


def test_a_pass_of_another_thread_is_not_touched(module: PreTrainedModel, model: iw.Model) -> None:
    ids = torch.tensor(draw())
    with torch.no_grad():
        plain = module(ids).logits
    seen: list[Tensor] = []

    def elsewhere() -> None:
        with torch.no_grad():
            seen.append(module(ids).logits)

    def look() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    main = threading.get_ident()
    hook = model.anatomy.blocks[1].register_forward_hook(
        lambda *_: look() if len(seen) < 4 and threading.get_ident() == main else None
    )
    try:
        iw.patch_sweep(model, draw(), draw(), iw.loss(), over="z", progress=False)
    finally:
        hook.remove()
    assert len(seen) == 4
    for logits in seen:
        torch.testing.assert_close(logits, plain)


@pytest.mark.parametrize("site", ["resid_pre", "q", "k", "v", "pattern", "z", "mlp_post", "attn_out"])
def test_gradients_reach_a_recording(model: iw.Model, site: str) -> None:
    """The gradient at a site is the slope of what a patch does."""
    ids = draw(1)
    rec = iw.record(model, ids, sites=[site, "logits"], grad=True)
    value = rec.emitted(site, 1)
    (slope,) = torch.autograd.grad(rec["logits"][0, -1, 5], value)
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(0)) * (value != 0)
    step = 1e-2
    ends = [
        iw.run(model, ids, iw.Patch(site, 1, value=value.detach() + sign * step * direction),
               sites=["logits"])["logits"][0, -1, 5]
        for sign in (1, -1)
    ]  # fmt: skip
    found = float(ends[0] - ends[1]) / (2 * step)
    assert found == pytest.approx(float((slope * direction).sum()), rel=0.03, abs=0.02)
