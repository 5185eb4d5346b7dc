"""What components wrote to a lens: each term by hand in float64, and all of them add up to what the lens reads."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import torch
from models import zoo

import interpwidgets as iw
from interpwidgets.intervene import lens_logit_attribution, logit_lens
from interpwidgets.models.record import record

torch.set_num_threads(1)
SEED = secrets.randbits(32)  # a failure prints it


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture(scope="module")
def gpt2() -> iw.Model:
    return iw.Model(zoo.build("gpt2").double(), name="gpt2")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "cohere", "gptj", "mamba"])
def test_terms_add_up_to_the_logit_of_the_lens(family, rng) -> None:
    options = {"final_logit_softcapping": 5.0} if family == "gemma2" else {}
    model = iw.Model(zoo.build(family, **options), name=family)
    lens = logit_lens(record(model, rng.integers(8, zoo.VOCABULARY, (2, 19)), sites=["resid_post"]))
    for layer in lens.layers:
        prompt, position, token = (int(rng.integers(top)) for top in (2, 19, zoo.VOCABULARY))
        found = lens_logit_attribution(lens, token, layer=layer, position=position, prompt=prompt)
        logit = float(lens.logits(layer)[prompt, position, token].double())
        if family == "gemma2":
            assert found.softcap == 5
            logit = 5 * np.arctanh(logit / 5)
        assert found.total == pytest.approx(logit, rel=1e-4, abs=1e-4)
        assert found.values.sum() == pytest.approx(logit, rel=1e-3, abs=1e-3)
        assert len(found.values) == len(found.labels)
        assert found.id == token
        if family != "mamba":
            assert len(found.labels) == 1 + 2 * (layer + 1) + 2
            assert found.values[-2] == pytest.approx(0, abs=1e-3)  # nothing is left over


def by_hand(model, rec, layer, position, token):
    """Terms of gpt2's lens, with its last LayerNorm's scale held."""
    w = {name: weight.detach().numpy() for name, weight in model.module.state_dict().items()}
    x = rec["resid_post", layer][0, position].numpy()
    scale = np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    direction = w["lm_head.weight"][token] * w["transformer.ln_f.weight"] / scale
    direction = direction - direction.mean()
    terms = {"embed": rec["resid_pre", 0][0, position].numpy() @ direction}
    heads = []
    for each in range(layer + 1):
        for site in ("attn_out", "mlp_out"):
            terms[f"L{each} {site[:-4]}"] = rec[site, each][0, position].numpy() @ direction
        w_o = w[f"transformer.h.{each}.attn.c_proj.weight"].reshape(4, 8, 32)
        heads.append(np.einsum("hd,hdm,m->h", rec["z", each][0, position].numpy(), w_o, direction))
    return terms | {"rest": 0.0, "constant": w["lm_head.weight"][token] @ w["transformer.ln_f.bias"]}, heads, scale


@pytest.mark.parametrize("recorded", [True, False])
def test_each_term_by_hand(gpt2, rng, recorded) -> None:
    """From the recording where it holds what was written, else from a pass of the model."""
    sites = ["resid_pre", "resid_post", "attn_out", "mlp_out", "z"]
    rec = record(gpt2, rng.integers(8, zoo.VOCABULARY, (1, 21)), sites=sites)
    own = rec if recorded else record(gpt2, rec.tokens[0].ids.tolist(), sites=["resid_post"])
    lens = logit_lens(own)
    for layer, position in ((0, 20), (1, 3), (2, 17)):
        token = int(rng.integers(zoo.VOCABULARY))
        found = lens_logit_attribution(lens, token, layer=layer, position=position)
        terms, heads, scale = by_hand(gpt2, rec, layer, position, token)
        assert found.labels == tuple(terms)
        np.testing.assert_allclose(found.values, list(terms.values()), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.heads, heads, rtol=1e-7, atol=1e-9)
        assert found.scale == pytest.approx(scale, rel=1e-6)


def test_a_part_of_a_block_is_read_too(gpt2, rng) -> None:
    rec = record(gpt2, rng.integers(8, zoo.VOCABULARY, (1, 6)), sites=["resid_pre", "resid_mid", "resid_post"])
    last = {}
    for site in ("resid_pre", "resid_mid"):
        lens = logit_lens(rec, site=site)
        found = lens_logit_attribution(lens, 9, layer=1)
        assert found.total == pytest.approx(float(lens.logits(1)[0, -1, 9]), abs=1e-8)
        assert found.values.sum() == pytest.approx(found.total, abs=1e-8)
        last[site] = found.labels[-3]
    assert last == {"resid_pre": "L0 mlp", "resid_mid": "L1 attn"}


def test_an_affine_translator_is_read_through(gpt2, rng) -> None:
    move = torch.nn.Linear(32, 32).double()
    rec = record(gpt2, rng.integers(8, zoo.VOCABULARY, (1, 6)), sites=["resid_post"])
    lens = logit_lens(rec, translators={0: move, 1: lambda stream: stream + move(stream)})
    for layer in lens.layers:
        found = lens_logit_attribution(lens, 11, layer=layer, position=2)
        assert found.total == pytest.approx(float(lens.logits(layer)[0, 2, 11]), abs=1e-8)
        assert found.values.sum() == pytest.approx(found.total, abs=1e-8)
    assert found.heads.shape == (3, 4)
    bent = logit_lens(rec, translators=lambda stream, _: torch.relu(stream))
    with pytest.raises(iw.InputError, match="translator of layer 1 is not affine"):
        lens_logit_attribution(bent, 11, layer=1)


def test_a_run_that_was_intervened_on_has_to_be_recorded(gpt2, rng) -> None:
    ids = rng.integers(8, zoo.VOCABULARY, (1, 6))
    ablate = [iw.Ablate("z", 0, head=1, kind="zero")]
    sites = ["resid_pre", "resid_post", "attn_out", "mlp_out", "z"]
    whole, part = (iw.run(gpt2, ids, ablate, sites=some) for some in (sites, ["resid_post"]))
    found = lens_logit_attribution(logit_lens(whole), 9, layer=2)
    assert found.heads[0, 1] == 0
    assert found.values.sum() == pytest.approx(found.total, abs=1e-8)
    with pytest.raises(iw.InputError, match="was it intervened on"):
        lens_logit_attribution(logit_lens(part), 9, layer=2)


def test_bad_input(gpt2, rng) -> None:
    rec = record(gpt2, rng.integers(8, zoo.VOCABULARY, (1, 6)), sites=["resid_post", "attn_out"])
    with pytest.raises(iw.InputError, match="no layer 3"):
        lens_logit_attribution(logit_lens(rec), 9, layer=3)
    with pytest.raises(iw.InputError, match="no position 6"):
        lens_logit_attribution(logit_lens(rec), 9, layer=0, position=6)
    with pytest.raises(iw.InputError, match="reads one write alone"):
        lens_logit_attribution(logit_lens(rec, site="attn_out"), 9, layer=0)
    some = record(gpt2, [[5, 6, 7]], sites=["resid_post"], positions=[1])
    with pytest.raises(iw.InputError, match="some positions"):
        lens_logit_attribution(logit_lens(some), 9, layer=0)
    olmo = iw.Model(zoo.build("bert"))
    with pytest.raises(iw.InputError, match="does not only add"):
        lens_logit_attribution(logit_lens(record(olmo, [[5, 6, 7]], sites=["resid_post"])), 9, layer=0)


def test_a_part_of_a_lens_says_the_same(gpt2, rng) -> None:
    lens = logit_lens(record(gpt2, [rng.integers(8, zoo.VOCABULARY, size).tolist() for size in (9, 5)]))
    part = lens.at(1, 1, 4)
    ids, probs, entropy, kl = part.overview(3)
    whole = lens.top(3)
    for found, truth in ((ids, whole[0]), (probs, whole[1]), (entropy, lens.entropy), (kl, lens.kl)):
        torch.testing.assert_close(found[:, 0], truth[:, 1, 1:4])
    assert part.tokens[0].text == lens.tokens[1].text[1:4]
    for bad, says in (((2,), "no prompt 2"), ((0, 9), "no positions 9:None")):
        with pytest.raises(iw.InputError, match=says):
            lens.at(*bad)
    early = logit_lens(record(gpt2, [[5, 6, 7]], layers=[0]))
    assert early.overview()[3].isnan().all()


def test_its_text_adds_up(gpt2) -> None:
    said = repr(lens_logit_attribution(logit_lens(record(gpt2, [[5, 6, 7]])), 9, layer=0))
    assert said.startswith("LensAttribution of #9 after layer 0 at position 2: ")
    assert "L0 attn" in said
