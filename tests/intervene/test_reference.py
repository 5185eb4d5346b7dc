"""Every site and every intervention, against a transformer written out in NumPy (reference.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from intervene.reference import Array, Edit, Reference, Values
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import interpwidgets as iw
from interpwidgets.models.sites import LAYERLESS, PER_HEAD, SITES

KINDS = ("gpt2", "llama")
LAYERS, HEADS, KV_HEADS, VOCABULARY = 2, 4, 2, 37
READ = tuple(site for site in SITES if site != "lse")
WRITTEN = tuple(site for site in READ if site != "logits")
BY_KEY = ("scores", "pattern")
TOLERANCE = {"gpt2": 3e-5, "llama": 1e-4}  # scores and patterns are given out in float32; Llama's norm works in float32
Rng = np.random.Generator
drawn = settings(deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a seed does not shrink


@cache
def build(kind: str, dtype: torch.dtype = torch.float64) -> tuple[iw.Model, Reference]:
    """A model with random weights and biases, and the reference with the same."""
    size = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_size": 16, "vocab_size": VOCABULARY}
    no_ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    module: PreTrainedModel
    if kind == "gpt2":
        module = GPT2LMHeadModel(GPT2Config(n_positions=32, n_inner=24, **size, **no_ids))
    else:
        config = LlamaConfig(num_key_value_heads=KV_HEADS, intermediate_size=24, rms_norm_eps=1e-5, **size, **no_ids)
        module = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn(weight.shape, generator=generator) * 0.4
            weight.copy_(weight + noise if weight.ndim == 1 else noise)
    module = module.to(dtype).eval()
    weights = {name: weight.detach().double().numpy() for name, weight in module.named_parameters()}
    kv_heads = HEADS if kind == "gpt2" else KV_HEADS
    return iw.Model(module), Reference(kind, weights, LAYERS, HEADS, kv_heads, eps=1e-5)


def prompts_of(rng: Rng, lengths: Sequence[int]) -> list[list[int]]:
    return [rng.integers(0, VOCABULARY, int(length)).tolist() for length in lengths]


def check(rec: iw.Recording, runs: Sequence[Values], tolerance: float) -> None:
    """Every site that the reference saw is what was recorded."""
    for number, run in enumerate(runs):
        for (site, layer), truth in run.items():
            found, size = rec[site if layer is None else (site, layer)][number], len(truth)
            found = found[:, :size, :size].transpose(0, 1) if site in BY_KEY else found[:size]
            np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance, err_msg=f"{site} {layer}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("grad", [False, True])
@settings(drawn, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_site_is_recorded(kind: str, dtype: torch.dtype, grad: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, reference = build(kind, dtype)
    prompts = prompts_of(rng, rng.integers(1, 9, rng.integers(1, 4)))
    rec = iw.record(model, prompts, sites=READ, grad=grad)
    if grad:
        assert rec["resid_pre", 1].requires_grad
        rec = detached(rec)
    runs = [reference.run(ids) for ids in prompts]
    assert set(runs[0]) == {(s, layer) for s in READ for layer in ([None] if s in LAYERLESS else range(LAYERS))}
    check(rec, runs, TOLERANCE[kind] if dtype == torch.float64 else 1e-3)


def detached(rec: iw.Recording) -> Any:
    class Detached:
        def __getitem__(self, key: Any) -> torch.Tensor:
            return rec[key].detach()

    return Detached()


# -- interventions: what each says, once more, in NumPy


@dataclass
class World:
    """A model, prompts, and other prompts to take values from."""

    rng: Rng
    model: iw.Model
    reference: Reference
    prompts: list[list[int]]
    other: list[list[int]]  # as many, each as long or longer

    def __post_init__(self) -> None:
        self.base = [self.reference.run(ids) for ids in self.prompts]
        self.donor = [self.reference.run(ids) for ids in self.other]

    @property
    def shortest(self) -> int:
        return min(map(len, self.prompts))


New = Callable[[int, Array], Array]  # of a prompt: its values there -> what they would become everywhere


@dataclass
class Change:
    """An intervention of ours, and the same in NumPy."""

    ours: iw.Intervention
    new: New

    def __call__(self, prompt: int, value: Array) -> Array:
        with np.errstate(invalid="ignore"):
            new = np.broadcast_to(self.new(prompt, value), value.shape)
            if self.ours.direction is not None:
                u = np.asarray(self.ours.direction)
                new = value + ((new - value) @ u)[..., None] * u / (u @ u)
        rows = np.arange(len(value))
        if self.ours.pos is not None:
            rows = np.atleast_1d(rows[self.ours.pos if isinstance(self.ours.pos, slice) else np.array(self.ours.pos)])
        heads = ... if self.ours.head is None else np.atleast_1d(self.ours.head)
        out = value.copy()
        if heads is ...:
            out[rows] = new[rows]
        else:
            out[rows[:, None], heads] = new[rows[:, None], heads]
        return out


def edit_of(changes: Sequence[Change], prompt: int) -> Edit:
    def edit(site: str, layer: int | None, value: Array) -> Array:
        for change in changes:
            if (change.ours.site, change.ours.layer) == (site, layer):
                value = change(prompt, value)
        return value

    return edit


def draw(world: World, site: str | None = None, layer: int | None = None) -> Change:
    """An intervention at random."""
    rng = world.rng
    site = site or str(rng.choice(WRITTEN))
    layer = None if site in LAYERLESS else int(rng.integers(LAYERS)) if layer is None else layer
    shape = world.base[0][site, layer].shape[1:]
    pos = draw_pos(rng, world.shortest)
    where: dict[str, Any] = {"layer": layer, "pos": pos}
    if site in PER_HEAD and rng.random() < 0.5:
        where["head"] = (
            int(rng.integers(-shape[0], shape[0]))
            if rng.random() < 0.5
            else rng.permutation(shape[0])[: rng.integers(1, shape[0] + 1)].tolist()
        )
    if site not in BY_KEY and rng.random() < 0.3:
        where["direction"] = rng.normal(size=shape[-1])
    kind = str(rng.choice(["patch", "steer", "scale", "freeze", "ablate"]))
    return globals()[f"draw_{kind}"](world, site, where)


def draw_pos(rng: Rng, size: int) -> Any:
    """Positions that every prompt has."""
    return [
        None,
        int(rng.integers(size)),
        int(rng.integers(-size, 0)),
        slice(*sorted(rng.integers(0, size + 2, 2).tolist())),
        slice(int(rng.integers(-size - 1, 0)), None),
        rng.integers(-size, size, rng.integers(1, 4)).tolist(),
    ][rng.integers(6)]


def number(rng: Rng, site: str) -> float:
    return float(rng.uniform(0.3, 2.0) if site.endswith("scale") else rng.normal() * 2)


def draw_scale(world: World, site: str, where: dict[str, Any]) -> Change:
    factor = number(world.rng, site)
    return Change(iw.Scale(site, factor=factor, **where), lambda _, value: value * factor)


def given_values(world: World, site: str, where: dict[str, Any]) -> tuple[Any, New]:
    """Values as a user may give them: a number, a recording, arrays of several shapes."""
    rng, layer = world.rng, where["layer"]
    forms = ["number", "recording", "recording of one", "batch", "position"]
    form = "number" if site.endswith("scale") else str(rng.choice(forms))
    if form == "number":
        value = number(rng, site)
        return value, lambda _, __: np.float64(value)
    if form.startswith("recording"):
        of_one = form == "recording of one"
        longest = max(range(len(world.other)), key=lambda i: len(world.other[i]))
        chosen = [longest] if of_one else list(range(len(world.other)))
        rec = iw.record(world.model, [world.other[i] for i in chosen], sites=[site])
        return rec, lambda prompt, value: cut(world.donor[chosen[prompt % len(chosen)]][site, layer], value)
    shape = world.base[0][site, layer].shape[1:]
    longest = max(map(len, world.prompts))
    if site in BY_KEY:
        shape = (shape[0], longest)
    if form == "batch":
        values = rng.normal(size=(len(world.prompts), longest, *shape))
        return torch.from_numpy(values), lambda prompt, value: cut(values[prompt], value)
    if "head" in where and isinstance(where["head"], int):  # as large as one position of one head
        vector = rng.normal(size=shape[1:])
        return torch.from_numpy(vector), lambda _, value: vector[..., : value.shape[-1]]
    if "head" in where:
        vector = rng.normal(size=shape[1:])
        return vector.tolist(), lambda _, value: vector[..., : value.shape[-1]]
    vector = rng.normal(size=shape)
    return vector, lambda _, value: vector[..., : value.shape[-1]]


def cut(values: Array, like: Array) -> Array:
    """Of the values of a longer prompt, as many positions (and keys)."""
    values = values[: len(like)]
    return values[..., : like.shape[-1]]


def draw_patch(world: World, site: str, where: dict[str, Any]) -> Change:
    value, new = given_values(world, site, where)
    return Change(iw.Patch(site, value=value, **where), new)


def draw_steer(world: World, site: str, where: dict[str, Any]) -> Change:
    vector, new = given_values(world, site, where)
    while isinstance(vector, iw.Recording) and site == "scores":  # −∞ is no vector
        vector, new = given_values(world, site, where)
    factor = 1.0 if site.endswith("scale") else float(world.rng.normal())
    return Change(
        iw.Steer(site, vector=vector, coefficient=factor, **where),
        lambda prompt, value: value + factor * new(prompt, value),
    )


def draw_freeze(world: World, site: str, where: dict[str, Any]) -> Change:
    if world.rng.random() < 0.5:
        return Change(iw.Freeze(site, **where), lambda prompt, _: world.base[prompt][site, where["layer"]])
    rec = iw.record(world.model, world.other, sites=[site])
    return Change(
        iw.Freeze(site, value=rec, **where),
        lambda prompt, value: cut(world.donor[prompt][site, where["layer"]], value),
    )


def draw_ablate(world: World, site: str, where: dict[str, Any]) -> Change:
    rng, at = world.rng, (site, where["layer"])
    kind = str(rng.choice(["mean", "resample"] if site.endswith("scale") else ["zero", "mean", "resample"]))
    own = bool(rng.random() < 0.5)
    if kind == "zero":
        return Change(iw.Ablate(site, kind="zero", **where), lambda _, value: np.zeros_like(value))
    if kind == "mean":
        per_pos = bool(rng.random() < 0.5)
        rec = None if own else iw.record(world.model, world.other, sites=[site])
        mean = mean_of([run[at] for run in (world.base if own else world.donor)], per_pos)
        ours = iw.Ablate(site, kind="mean", per_pos=per_pos, reference=rec, **where)
        return Change(ours, lambda _, value: cut(mean, value) if per_pos else mean[..., : value.shape[-1]])
    if own and len(world.prompts) == 2 and len({*map(len, world.prompts)}) == 1:  # there is just one other prompt
        own_at = [run[at] for run in world.base]
        return Change(iw.Ablate(site, kind="resample", **where), lambda prompt, _: own_at[1 - prompt])
    longest = max(range(len(world.other)), key=lambda i: len(world.other[i]))
    rec = iw.record(world.model, world.other[longest], sites=[site])
    return Change(
        iw.Ablate(site, kind="resample", reference=rec, **where),
        lambda _, value: cut(world.donor[longest][at], value),
    )


def fill(values: Array, like: Array) -> Array:
    """As many positions and keys, whatever stands in those that are not there."""
    size = len(like)
    grown = np.full((max(size, len(values)), *values.shape[1:]), np.nan)
    grown[: len(values)] = values
    if like.shape[-1] > grown.shape[-1]:
        grown = np.pad(grown, [(0, 0), (0, 0), (0, like.shape[-1] - grown.shape[-1])])
    return cut(grown, like)


def mean_of(values: Sequence[Array], per_pos: bool) -> Array:
    """Over prompts, and positions unless `per_pos`, of those that are there."""
    longest = max(values, key=len)
    every = np.full((len(values), *longest.shape), np.nan)
    for number, value in enumerate(values):
        every[number, : len(value)] = fill(value, longest)[: len(value)]
    return np.nanmean(every, axis=0 if per_pos else (0, 1))


def world_of(kind: str, seed: int) -> World:
    rng = np.random.default_rng(seed)
    model, reference = build(kind)
    lengths = rng.integers(1, 8, rng.integers(1, 4))
    return World(rng, model, reference, prompts_of(rng, lengths), prompts_of(rng, lengths + rng.integers(0, 2)))


def check_changes(world: World, changes: Sequence[Change]) -> None:
    """Sites after the changes, and a metric of them, which is computed another way."""
    runs = [world.reference.run(ids, edit_of(changes, i)) for i, ids in enumerate(world.prompts)]
    ours = [change.ours for change in changes]
    check(iw.run(world.model, world.prompts, ours, sites=READ), runs, TOLERANCE[world.reference.kind])
    pos, token = int(world.rng.integers(-world.shortest, world.shortest)), int(world.rng.integers(VOCABULARY))
    found = iw.run(world.model, world.prompts, ours, metric=iw.logit(token, pos=pos))
    truth = [run["logits", None][pos, token] for run in runs]
    base = [run["logits", None][pos, token] for run in world.base]
    tolerance = TOLERANCE[world.reference.kind]
    np.testing.assert_allclose(found.values, truth, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.corrupted, base, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", WRITTEN)
@settings(drawn, max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_intervention(kind: str, site: str, seed: int) -> None:
    world = world_of(kind, seed)
    check_changes(world, [draw(world, site)])


@pytest.mark.parametrize("kind", KINDS)
@settings(drawn, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_several_interventions(kind: str, seed: int) -> None:
    world = world_of(kind, seed)
    check_changes(world, [draw(world) for _ in range(world.rng.integers(2, 6))])


@pytest.mark.parametrize("kind", KINDS)
@settings(drawn, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_on_one_site_is_that_of_the_list(kind: str, seed: int) -> None:
    world = world_of(kind, seed)
    site, layer = str(world.rng.choice(WRITTEN)), int(world.rng.integers(LAYERS))
    check_changes(world, [draw(world, site, layer) for _ in range(world.rng.integers(2, 5))])


@pytest.mark.parametrize("kind", KINDS)
@settings(drawn, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_across_sites_the_order_is_that_of_the_model(kind: str, seed: int) -> None:
    """What a block returns is what the next is entered with: two sites, one stream."""
    world = world_of(kind, seed)
    check_changes(world, [draw(world, "resid_pre", 1), draw(world, "resid_post", 0), draw(world, "resid_pre", 1)])


@pytest.mark.parametrize("site", BY_KEY)
def test_a_direction_among_keys_is_refused(site: str) -> None:
    with pytest.raises(iw.InputError, match="no direction"):
        iw.Scale(site, 0, direction=[1.0, 2.0])


def test_a_log_sum_exp_of_changed_scores_is_refused() -> None:
    model, _ = build("gpt2")
    with pytest.raises(iw.InputError, match=r"'lse' of layer 1 .* changed"):
        iw.run(model, [1, 2, 3], iw.Scale("scores", 1, factor=2.0), sites=["lse"])


def test_the_pattern_shown_is_the_changed_one() -> None:
    model, _ = build("llama")
    rec = iw.run(model, [1, 2, 3], iw.Patch("pattern", 1, value=0.25, head=1), sites=["q", "k"])
    assert rec.pattern(1, 1).tolist() == [[0.25, 0, 0], [0.25, 0.25, 0], [0.25, 0.25, 0.25]]
