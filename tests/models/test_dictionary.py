"""Dictionaries: encoding and decoding against NumPy in float64, SAELens' layout on disk, and what is refused."""

from __future__ import annotations

import json
import pickle
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from interpwidgets.errors import InputError, UnknownModelError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.dictionary_files import dictionary_names, load_dictionary

SEED = secrets.randbits(32)  # a failure prints it
KINDS = ["relu", "topk", "jumprelu", "gated", "transcoder", "jumprelu_transcoder"]


def filled(kind: str, seed: int = SEED) -> Dictionary:
    """A dictionary with random weights."""
    transcoder = kind.endswith("transcoder")
    kind = {"transcoder": "relu", "jumprelu_transcoder": "jumprelu"}.get(kind, kind)
    places = {"site_out": "mlp_out", "d_out": 6} if transcoder else {}
    one = Dictionary(
        10,
        24,
        kind=kind,  # type: ignore[arg-type]
        k=5,
        site="resid_mid" if transcoder else "resid_post",
        layer=2,
        model="some-model",
        metadata={"context_size": 128},
        **places,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in one.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
            if name == "threshold":
                weight.abs_()
            if name == "r_mag":
                weight.mul_(0.3)
    return one


def by_hand(one: Dictionary, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and reconstruction, position by position and feature by feature."""
    w = {name: weight.detach().double().numpy() for name, weight in one.named_parameters()}
    features = np.zeros((*x.shape[:-1], one.d_dict))
    for place in np.ndindex(x.shape[:-1]):
        read = x[place] - w["b_dec"] if one.centred else x[place]
        before = np.array(
            [read @ w["W_enc"][:, i] + w["b_gate" if one.kind == "gated" else "b_enc"][i] for i in range(one.d_dict)]
        )
        if one.kind == "topk":
            kept = set(np.argsort(-before)[: one.k])
        elif one.kind == "jumprelu":
            kept = {i for i in range(one.d_dict) if before[i] > w["threshold"][i]}
        elif one.kind == "gated":
            kept = {i for i in range(one.d_dict) if before[i] > 0}
            before = np.array(
                [read @ w["W_enc"][:, i] * np.exp(w["r_mag"][i]) + w["b_mag"][i] for i in range(one.d_dict)]
            )
        else:
            kept = set(range(one.d_dict))
        for i in kept:
            features[place][i] = max(0.0, before[i])
    return features, np.einsum("...i,id->...d", features, w["W_dec"]) + w["b_dec"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centred", [True, False])
def test_features_and_reconstructions_are_those_of_the_equations(kind: str, centred: bool) -> None:
    one = filled(kind)
    one.centred = centred and not one.transcoder
    x = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(SEED + 1))
    features, rebuilt = by_hand(one, x.double().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(one.encode(x).numpy(), features, atol=1e-4, err_msg=str(SEED))
        np.testing.assert_allclose(one(x).numpy(), rebuilt, atol=1e-3, err_msg=str(SEED))
    assert one(x).shape == (3, 4, one.d_out)


def test_topk_keeps_no_more_than_k_and_nothing_negative() -> None:
    one = filled("topk")
    with torch.no_grad():
        one.b_enc.fill_(-100.0)
        assert not one.encode(torch.randn(7, 10)).any()
        one.b_enc.fill_(100.0)
        assert ((one.encode(torch.randn(7, 10)) > 0).sum(-1) == 5).all()


# --- on disk


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_read_again(kind: str, tmp_path: Path) -> None:
    one = filled(kind)
    one.save(tmp_path / "one")
    again = load_dictionary(tmp_path / "one")
    assert repr(again) == repr(one)
    for name in ("kind", "k", "site", "layer", "site_out", "layer_out", "centred", "model"):
        assert getattr(again, name) == getattr(one, name), name
    assert again.metadata == {"sae_lens_version": "6.0.0", "context_size": 128}
    for name, weight in one.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    assert not any(weight.requires_grad for weight in again.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_is_that_of_saelens(kind: str, tmp_path: Path) -> None:
    filled(kind).save(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    weights = load_file(tmp_path / "sae_weights.safetensors")
    assert config["architecture"] == {"relu": "standard"}.get(kind, kind)
    assert (config["d_in"], config["d_sae"], config["dtype"]) == (10, 24, "float32")
    assert config["normalize_activations"] == config["reshape_activations"] == "none"
    assert config["apply_b_dec_to_input"] == ("transcoder" not in kind)
    site = "resid_mid" if "transcoder" in kind else "resid_post"
    assert config["metadata"]["hook_name"] == f"blocks.2.hook_{site}"
    assert config["metadata"]["model_name"] == "some-model"
    assert config.get("k") == (5 if kind == "topk" else None)
    assert weights["W_enc"].shape == (10, 24)
    assert weights["W_dec"].shape == (24, 6 if "transcoder" in kind else 10)
    beside = {"b_gate", "b_mag", "r_mag"} if kind == "gated" else {"b_enc"}
    assert set(weights) == {"W_enc", "W_dec", "b_dec", *beside} | ({"threshold"} if "jumprelu" in kind else set())


def test_half_precision_is_for_storing(tmp_path: Path) -> None:
    one = filled("topk")
    one.save(tmp_path, torch.float16)
    assert load_file(tmp_path / "sae_weights.safetensors")["W_enc"].dtype == torch.float16
    again = load_dictionary(tmp_path)
    assert again.W_enc.dtype == torch.float32
    torch.testing.assert_close(again.W_enc, one.W_enc, atol=2e-3, rtol=1e-3, check_device=False)


@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_a_flat_config_of_older_saelens_is_read(kind: str, tmp_path: Path) -> None:
    filled(kind).save(tmp_path)
    config = {"d_in": 10, "d_sae": 24, "hook_point": "blocks.2.hook_resid_post", "model_name": "some-model"}
    if kind == "topk":
        config |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    assert repr(load_dictionary(tmp_path)) == repr(filled(kind))


def test_a_hook_that_is_no_site_of_ours_keeps_its_name(tmp_path: Path) -> None:
    edit(tmp_path, metadata={"hook_name": "blocks.0.ln2.hook_normalized"})
    assert load_dictionary(tmp_path).site == "blocks.0.ln2.hook_normalized"


def test_a_bundle_lists_its_dictionaries_and_gives_the_main_one(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        filled("relu" if name == "a" else "topk").save(tmp_path / name)
    with pytest.raises(InputError, match="several dictionaries; say which: a, b, c"):
        load_dictionary(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"dictionaries": ["c", "a"]}))
    assert dictionary_names(tmp_path) == ["c", "a", "b"]
    assert load_dictionary(tmp_path).kind == "topk"
    assert load_dictionary(tmp_path, "a").kind == "relu"
    with pytest.raises(UnknownModelError, match=r"no dictionary 'd'; it has c, a, b"):
        load_dictionary(tmp_path, which="d")
    with pytest.raises(InputError, match="leave `which` out"):
        load_dictionary(tmp_path / "a", which="a")


# --- what is refused


def edit(folder: Path, kind: str = "topk", **changes: object) -> None:
    """Save a dictionary and change its config; None takes an entry away."""
    filled(kind).save(folder)
    config = json.loads((folder / "cfg.json").read_text()) | changes
    (folder / "cfg.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal' is not read; standard, topk, jumprelu, gated"),
        ({"architecture": None}, "architecture None is not read"),
        ({"metadata": None}, "does not say which site"),
        ({"normalize_activations": "covariance_whitening"}, "normalize_activations is 'covariance_whitening'"),
        ({"normalize_activations": "expected_average_only_in"}, "no activation_scaler.json beside it"),
        ({"reshape_activations": "sideways"}, "reshape_activations is 'sideways'"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor is set"),
        ({"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'; relu and topk are read"),
        ({"metadata": {"hook_name": "blocks.0.attn.hook_q", "hook_head_index": 3}}, "hook_head_index is 3"),
        ({"d_sae": -1}, "d_sae is -1; it has to be a whole number above zero"),
        ({"d_sae": "many"}, "d_sae is 'many'"),
        ({"metadata": {}}, "does not say which site"),
        ({"d_sae": None}, "does not say 'd_sae'"),
        ({"k": None}, "needs k between 1 and 24; got None"),
        ({"k": "5"}, "needs k between 1 and 24; got '5'"),
        ({"d_in": 11}, r"is \[24, 10\]; cfg\.json says \[24, 11\]"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(changes: dict, sentence: str, tmp_path: Path) -> None:
    edit(tmp_path, **changes)
    with pytest.raises(InputError, match=sentence):
        load_dictionary(tmp_path)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "went off",))

    (tmp_path / "ae.pt").write_bytes(pickle.dumps(Bomb()))
    for given in (tmp_path, tmp_path / "ae.pt"):
        with pytest.raises(InputError, match="pickled weights, which can run code and are not read"):
            load_dictionary(given)
    edit(tmp_path)
    (tmp_path / "sae_weights.safetensors").unlink()
    with pytest.raises(InputError, match="pickled weights"):
        load_dictionary(tmp_path)
    (tmp_path / "ae.pt").rename(tmp_path / "sae_weights.pt")
    with pytest.raises(InputError, match=r"convert it once:(.|\n)*save_file\(.*sae_weights\.safetensors'\)"):
        load_dictionary(tmp_path)
    assert not (tmp_path / "went off").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    edit(tmp_path, "jumprelu")
    path = tmp_path / "sae_weights.safetensors"
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if name != "threshold"}, path)
    with pytest.raises(InputError, match=r"lacks threshold; it has W_dec, W_enc, b_dec, b_enc"):
        load_dictionary(tmp_path)
    save_file({**weights, "W_skip": torch.zeros(10, 10)}, path)
    with pytest.raises(InputError, match="has W_skip, which no jumprelu dictionary uses"):
        load_dictionary(tmp_path)
    save_file({**weights, "b_dec": torch.full((10,), torch.nan)}, path)
    with pytest.raises(InputError, match=r"b_dec in .* holds NaN"):
        load_dictionary(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="is damaged"):
        load_dictionary(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"has no sae_weights\.safetensors"):
        load_dictionary(tmp_path)


def test_folders_that_hold_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no dictionary"):
        load_dictionary(tmp_path)
    with pytest.raises(UnknownModelError, match="There is no dictionary 'nowhere'"):
        load_dictionary("nowhere")
    (tmp_path / "cfg.json").write_text("{")
    (tmp_path / "sae_weights.safetensors").touch()
    with pytest.raises(InputError, match=r"cfg\.json is damaged"):
        load_dictionary(tmp_path)


def test_activations_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"reads 10 numbers a position; got \[2, 11\]"):
        filled("relu").encode(torch.zeros(2, 11))


@pytest.mark.parametrize("k", [None, 0, 25])
def test_topk_needs_a_k_that_can_be(k: int | None) -> None:
    with pytest.raises(InputError, match="needs k between 1 and 24"):
        Dictionary(10, 24, kind="topk", k=k, site="resid_post", layer=0)


def test_what_saelens_has_no_layout_for_is_not_saved(tmp_path: Path) -> None:
    one = Dictionary(4, 8, kind="topk", k=2, site="resid_mid", layer=0, site_out="mlp_out")
    with pytest.raises(InputError, match="no TopK transcoder"):
        one.save(tmp_path)


def test_a_bias_of_another_width_cannot_be_subtracted() -> None:
    with pytest.raises(InputError, match="centred=False"):
        Dictionary(4, 8, kind="relu", site="resid_mid", layer=0, d_out=6, centred=True)


def test_it_says_what_it_is() -> None:
    assert repr(filled("topk")) == (
        "<dictionary of 24 features on resid_post of layer 2 of some-model: TopK (k = 5), 10 → 24 → 10>"
    )
    assert "transcoder of 24 features from resid_mid of layer 2 to mlp_out of layer 2" in repr(filled("transcoder"))
