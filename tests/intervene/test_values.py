"""What a value may be given as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from intervene.hooks import build

import interpwidgets as iw
from interpwidgets.intervene import Patch

torch.set_num_threads(1)
CLEAN, CORRUPTED = [[4, 9, 11, 2]], [[5, 12, 9, 3]]


@pytest.mark.parametrize("pos", [None, [1, 3], slice(1, None), -1])
@pytest.mark.parametrize("head", [2, [0, 3], None])
def test_values_of_a_whole_site_serve_some_of_its_heads(head: Any, pos: Any) -> None:
    model = iw.Model(build("gpt2"))
    rec = iw.record(model, CLEAN, sites=["z"])
    whole = rec["z", 1][0]  # [pos, head, d_head]
    wanted = iw.run(model, CORRUPTED, Patch("z", 1, head=head, pos=pos, value=rec), metric=iw.logit(3)).values
    there = np.arange(4) if pos is None else np.atleast_1d(np.arange(4)[pos])
    for value in (whole, whole[there], whole[None]):
        found = iw.run(model, CORRUPTED, Patch("z", 1, head=head, pos=pos, value=value), metric=iw.logit(3)).values
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_mean_over_shorter_prompts_serves_longer_ones() -> None:
    model = iw.Model(build("gpt2"))
    rec = iw.record(model, [[7, 8], [3, 1]], sites=["z"])
    by_hand = rec["z", 1].mean((0, 1))  # [head, d_head]
    found = iw.run(model, CORRUPTED, iw.Ablate("z", 1, kind="mean", reference=rec), metric=iw.logit(3)).values
    wanted = iw.run(model, CORRUPTED, Patch("z", 1, value=by_hand.expand(4, -1, -1)), metric=iw.logit(3)).values
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    with pytest.raises(iw.InputError, match=r"The mean over .* has 2 positions"):
        iw.run(model, CORRUPTED, iw.Ablate("z", 1, kind="mean", reference=rec, per_pos=True), metric=iw.logit(3))
