"""Names of sites, ours and TransformerLens'."""

import pytest

import interpwidgets as iw
from interpwidgets.models.sites import LAYERLESS, SITES, parse_site, transformer_lens_name


@pytest.mark.parametrize("site", SITES)
def test_a_name_and_its_counterpart_are_one_site(site: str) -> None:
    layer = None if site in LAYERLESS else 7
    assert parse_site(site, 7) == [(site, layer)]
    if (theirs := transformer_lens_name(site, layer)) is not None:
        assert parse_site(theirs) == [(site, layer)]
    else:
        assert site in ("lse", "logits")


def test_names_of_several_and_of_none() -> None:
    assert parse_site("ln_scale", 2) == [("ln1_scale", 2), ("ln2_scale", 2)]
    assert parse_site("blocks.3.attn.hook_rot_q") == parse_site("q", 3)
    assert parse_site("attn.hook_z", 1) == [("z", 1)]
    for wrong in ("resid", "blocks.x.hook_z", "blocks.1.hook_nothing", ""):
        with pytest.raises(iw.InputError, match="There are: embed, resid_pre"):
            parse_site(wrong)
