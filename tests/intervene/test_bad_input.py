"""What cannot be done is refused in a sentence that names the facts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from models import zoo

import interpwidgets as iw

IDS, OTHER = [[5, 6, 7, 8, 9]], [[15, 16, 17, 18, 19]]
METRIC = iw.logit_diff(5, 7)


@cache
def model(family: str = "gpt2") -> iw.Model:
    return iw.Model(zoo.build(family))


@cache
def shipped() -> iw.Model:
    return iw.load("induction-2l")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iw.Patch("resid", 0, value=0.0), "no site 'resid'. There are: embed, resid_pre, .*, logits"),
        (lambda: iw.Scale("logits"), "read, not written"),
        (lambda: iw.Scale("lse", 0), "read, not written"),
        (lambda: iw.Scale("resid_pre"), r"'resid_pre' needs a layer: Scale\('resid_pre', layer=…\)"),
        (lambda: iw.Scale("ln_scale", 0), "several sites; intervene on ln1_scale or ln2_scale"),
        (lambda: iw.Scale("resid_pre", 0, head=1), r"'resid_pre' has no heads, it is \[batch, pos, d_model\]"),
        (lambda: iw.Ablate("z", 0, kind="none"), "'zero', 'mean' or 'resample'; got 'none'"),  # type: ignore[arg-type]
    ],
)
def test_an_intervention_that_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        make()


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iw.Scale("resid_pre", 3), "no layer 3; there are 3, numbered from 0"),
        (lambda: iw.Scale("resid_pre", -4), "no layer -4; there are 3"),
        (lambda: iw.Scale("z", 0, head=4), "has 4 heads, numbered from 0"),
        (lambda: iw.Scale("z", 0, head=[0, -5]), "has 4 heads"),
        (lambda: iw.Scale("resid_pre", 0, pos=5), "5 positions, numbered from 0; there is no 5"),
        (lambda: iw.Scale("resid_pre", 0, pos=[0, -6]), "there is no -6"),
        (lambda: iw.Patch("resid_pre", 0), "has no value: give a Recording, a tensor or a number"),
        (lambda: iw.Patch("resid_pre", 0, value=torch.zeros(7)), r"shape \[7\] does not fit .*: there it is \[5, 32\]"),
        (lambda: iw.Patch("resid_pre", 0, value=torch.zeros(2, 5, 32)), "2 prompts, and 1 are run"),
        (
            lambda: iw.Patch("resid_pre", 0, value=torch.zeros(3, 32)),
            "3 positions in prompt 0, and position 4 is asked",
        ),
        (lambda: iw.Scale("resid_pre", 0, direction=[1.0, 2.0]), r"a vector of 32 numbers, .*; got shape \[2\]"),
        (lambda: iw.Scale("resid_pre", 0, direction=torch.zeros(32)), "not all zero"),
        (lambda: iw.Ablate("resid_pre", 0, kind="resample"), "needs another prompt with a position 4"),
        (lambda: "Scale", "Patch, Ablate, Steer, Scale or Freeze; got 'Scale'"),
        (lambda: None, "Patch, Ablate, Steer, Scale or Freeze; got None"),
        (lambda: iw.Scale, "Patch, Ablate, Steer, Scale or Freeze; got <class"),
    ],
)
def test_an_intervention_that_does_not_fit(make: Callable[[], Any], message: str, measured: bool) -> None:
    options: dict[str, Any] = {"metric": METRIC} if measured else {}
    with pytest.raises(iw.InputError, match=message):
        iw.run(model(), IDS, [make()], **options)


def narrow() -> iw.Model:
    """A model of the same name, half as wide."""
    return iw.Model(zoo.build("gpt2", hidden_size=16), name=model().name)


def recorded(**options: Any) -> iw.Recording:
    return iw.record(model(), OTHER, sites=["resid_pre"], **options)


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iw.record(model("llama"), OTHER, sites=["resid_pre"]), "of another model than GPT2LMHeadModel"),
        (lambda: iw.record(model(), [[1, 2, 3]], sites=["resid_pre"]), "3 positions in prompt 0, and position 4"),
        (lambda: recorded(positions=[1, 2]), "some positions or heads only"),
        (lambda: iw.record(model(), OTHER, sites=["resid_post"]), "There is no 'resid_pre' of layer 0. Recorded:"),
        (lambda: recorded(layers=[2]), "There is no 'resid_pre' of layer 0. Recorded: .*layers 2"),
        (lambda: iw.record(model(), [*OTHER, *OTHER, *OTHER], sites=["resid_pre"]), "3 prompts, and 1 are run"),
        (
            lambda: iw.record(
                iw.Model(zoo.build("gpt2", hidden_size=16), name=model().name), OTHER, sites=["resid_pre"]
            ),
            r"is \[32\] in GPT2LMHeadModel, and \[16\] in .*: a recording of another model",
        ),
    ],
)
def test_a_recording_that_does_not_fit(make: Callable[[], Any], message: str, measured: bool) -> None:
    options: dict[str, Any] = {"metric": METRIC} if measured else {}
    with pytest.raises((iw.InputError, iw.NotRecordedError), match=message):
        iw.run(model(), IDS, iw.Patch("resid_pre", 0, value=make()), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"over": "resid"}, "no site 'resid'"),
        ({"layers": [3]}, "no layer 3; there are 3"),
        ({"over": "z", "heads": [4]}, "no head 4|4 heads"),
        ({"positions": [5]}, "no position 5|5 positions"),
        ({"by": ("layer", "head")}, "'resid_pre' has no heads"),
        ({"by": ("token",)}, "'layer', 'head' and 'pos'"),
        ({"by": ()}, "'layer', 'head' and 'pos'"),
    ],
)
def test_a_sweep_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        iw.patch_sweep(model(), IDS, OTHER, METRIC, progress=False, **options)


def test_prompts_that_do_not_align_are_shown_as_tokens() -> None:
    with pytest.raises(iw.InputError) as caught:
        iw.patch_sweep(shipped(), "the cat sat", "the dog", iw.logit(5), progress=False)
    said = str(caught.value)
    own, other = ("|".join(shipped().tokens(text).text) for text in ("the cat sat", "the dog"))
    assert own in said
    assert other in said
    assert "has 4 tokens" in said
    with pytest.raises(iw.InputError, match="1 clean prompts and 2 corrupted; they are pairs"):
        iw.patch_sweep(model(), IDS, [*OTHER, *OTHER], METRIC, progress=False)
    with pytest.raises(iw.InputError, match=r"one length; these have \[2, 3\] tokens"):
        iw.patch_sweep(model(), [[1, 2], [1, 2, 3]], [[3, 2], [3, 2, 3]], METRIC, progress=False)


def test_a_metric_token_that_splits_is_shown() -> None:
    with pytest.raises(iw.InputError, match=r"is \d+ tokens to .*: .*A metric reads one"):
        iw.patch_sweep(shipped(), "the cat", "the dog", iw.logit("the cat sat"), progress=False)
    with pytest.raises(iw.InputError, match="no tokenizer, so it cannot read 'cat'"):
        iw.run(model(), IDS, iw.Scale("z", 0), metric=iw.logit("cat"))


@pytest.mark.parametrize(
    ("family", "site", "why"),
    [("mixtral", "mlp_post", "experts"), ("gpt_neox", "resid_mid", "side by side"), ("mamba", "z", "attention")],
)
def test_a_site_that_a_model_lacks_says_why(family: str, site: str, why: str) -> None:
    lacking = model(family)
    name = lacking.name
    with pytest.raises(iw.InputError, match=f"Layer 0 of {name} has no '{site}': .*{why}"):
        iw.record(lacking, IDS, sites=[site])
    with pytest.raises(iw.InputError, match=f"Layer 0 of {name} has no '{site}': .*{why}"):
        iw.run(lacking, IDS, iw.Scale(site, 0), metric=METRIC)
    with pytest.raises(iw.InputError, match=f"Layer 0 of {name} has no '{site}': .*{why}"):
        iw.patch_sweep(lacking, IDS, OTHER, METRIC, over=site, by=("layer",), progress=False)


def test_rows_that_are_no_tokens_are_refused() -> None:
    prefixed = model("cpmant")  # 32 rows before the prompt
    with pytest.raises(iw.InputError, match=r"\[1, 37\] rows where the prompts have \[1, 5\] tokens"):
        iw.record(prefixed, IDS, sites=["resid_pre"])
    with pytest.raises(iw.InputError, match=r"\[1, 37\] rows"):
        iw.run(prefixed, IDS, iw.Scale("resid_pre", 0), metric=METRIC)


def test_a_model_in_training_mode_is_put_back_after_an_error() -> None:
    module = zoo.build("gpt2").train()
    with pytest.raises(iw.InputError):
        iw.run(module, IDS, iw.Patch("resid_pre", 1, value=torch.zeros(7)), metric=METRIC)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
