"""Dictionaries of other libraries, each against its own equations in float64, on random weights."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.dictionary_files import dictionary_names, load_dictionary

SEED = secrets.randbits(32)  # a failure prints it
D, F, K, ROWS = 6, 15, 4, 9


def drawn(*shape: int, number: int = 0) -> np.ndarray:
    """Random numbers, float32 in value and float64 in type, so that a file holds exactly these."""
    rng = np.random.default_rng([SEED, number, *shape])
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def stored(path: Path, weights: dict[str, np.ndarray], **config: object) -> None:
    """Write tensors, and a config beside them under the name of each keyword, `__` for a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.tensor(weight).float().contiguous() for name, weight in weights.items()}, path)
    for name, value in config.items():
        (path.parent / name.replace("__", ".")).write_text(json.dumps(value))


def agree(one: Dictionary, x: np.ndarray, features: np.ndarray, written: np.ndarray) -> None:
    """Compare features and reconstructions with those of the equations."""
    given = torch.tensor(x).float()
    with torch.no_grad():
        np.testing.assert_allclose(one.encode(given).numpy(), features, atol=2e-4, rtol=1e-3, err_msg=str(SEED))
        np.testing.assert_allclose(one(given).numpy(), written, atol=1e-3, rtol=1e-3, err_msg=str(SEED))
    assert 0 < (features > 0).mean() < 1


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def largest(x: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row; zero for the others."""
    kept = np.zeros_like(x)
    for row, values in enumerate(x):
        for i in np.argsort(-values)[:k]:
            kept[row, i] = max(values[i], 0)
    return kept


# --- SAELens


def saelens(folder: Path, architecture: str, weights: dict[str, np.ndarray], **config: object) -> Dictionary:
    """Write a folder as SAELens does, and read it."""
    about = {"hook_name": "blocks.3.hook_resid_post", "hook_name_out": "blocks.3.hook_mlp_out", "model_name": "m"}
    given = {"architecture": architecture, "d_in": D, "d_sae": F, "d_out": weights["W_dec"].shape[1]}
    stored(folder / "sae_weights.safetensors", weights, cfg__json=given | {"metadata": about} | config)
    return load_dictionary(folder)


def basics(d_out: int = D) -> dict[str, np.ndarray]:
    return {
        "W_enc": drawn(D, F, number=1),
        "W_dec": drawn(F, d_out, number=2),
        "b_enc": drawn(F, number=3),
        "b_dec": drawn(d_out, number=4),
    }


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("normalise", ["none", "constant_norm_rescale", "layer_norm", "expected_average_only_in"])
def test_saelens_normalises_and_centres_as_it_is_told(centred: bool, normalise: str, tmp_path: Path) -> None:
    w, x = basics(), 3 * drawn(ROWS, D, number=5) + 1
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.37}')
    one = saelens(tmp_path, "standard", w, normalize_activations=normalise, apply_b_dec_to_input=centred)
    mean, scale = np.zeros((ROWS, 1)), np.ones((ROWS, 1))
    if normalise == "constant_norm_rescale":
        scale = np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(D)
    elif normalise == "layer_norm":
        mean, scale = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
    elif normalise == "expected_average_only_in":
        scale = scale / 0.37
    read = (x - mean) / (scale + (1e-5 if normalise == "layer_norm" else 0))
    features = relu((read - w["b_dec"] * centred) @ w["W_enc"] + w["b_enc"])
    agree(one, x, features, (features @ w["W_dec"] + w["b_dec"]) * scale + mean)
    if normalise in ("constant_norm_rescale", "layer_norm"):
        with pytest.raises(InputError, match=f"normalises what it reads \\({normalise}\\).*decode\\(features, x\\)"):
            one.decode(torch.tensor(features).float())
        one.save(tmp_path / "again")
        assert load_dictionary(tmp_path / "again").fingerprint == one.fingerprint


@pytest.mark.parametrize("rescaled", [True, False])
def test_saelens_topk_chooses_by_activations_or_by_what_they_write(rescaled: bool, tmp_path: Path) -> None:
    w, x = basics(), drawn(ROWS, D, number=5)
    w["W_dec"] *= np.linspace(0.2, 3, F)[:, None]
    one = saelens(tmp_path, "topk", w, k=K, rescale_acts_by_decoder_norm=rescaled)
    lengths = np.linalg.norm(w["W_dec"], axis=1) if rescaled else np.ones(F)
    features = largest(((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * lengths, K)
    agree(one, x, features, features / lengths @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("rescaled", [True, False])
def test_saelens_batchtopk_in_training_has_one_threshold(architecture: str, rescaled: bool, tmp_path: Path) -> None:
    w, x = basics(), drawn(ROWS, D, number=5)
    given = w | {"topk_threshold": np.array(0.8)}
    one = saelens(tmp_path, architecture, given, k=K, rescale_acts_by_decoder_norm=rescaled)
    assert one.kind == "jumprelu"
    lengths = np.linalg.norm(w["W_dec"], axis=1) if rescaled else np.ones(F)
    before = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * lengths
    features = before * (before > np.float32(0.8))
    agree(one, x, features, features / lengths @ w["W_dec"] + w["b_dec"])
    stored(tmp_path / "sae_weights.safetensors", w)
    with pytest.raises(InputError, match="lacks topk_threshold; it has W_dec, W_enc, b_dec, b_enc"):
        load_dictionary(tmp_path)


def test_saelens_gated_opens_by_one_bias_and_measures_by_another(tmp_path: Path) -> None:
    w, x = basics(), drawn(ROWS, D, number=5)
    del w["b_enc"]
    w |= {"b_gate": drawn(F, number=6), "b_mag": drawn(F, number=7), "r_mag": 0.5 * drawn(F, number=8)}
    one = saelens(tmp_path, "gated", w)
    read = x - w["b_dec"]
    features = (read @ w["W_enc"] + w["b_gate"] > 0) * relu(read @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"])
    agree(one, x, features, features @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_saelens_transcoders_read_what_they_do_not_write(threshold: bool, skip: bool, tmp_path: Path) -> None:
    w, x = basics(4), drawn(ROWS, D, number=5)
    w |= {"threshold": np.abs(drawn(F, number=6))} if threshold else {}
    w |= {"W_skip": drawn(4, D, number=7)} if skip else {}
    name = f"{'jumprelu_' if threshold else ''}{'skip_' if skip else ''}transcoder"
    one = saelens(tmp_path, name, w, apply_b_dec_to_input=False)
    before = x @ w["W_enc"] + w["b_enc"]
    features = relu(before) * (before > w["threshold"] if threshold else True)
    agree(one, x, features, features @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if skip else 0))
    assert one.transcoder
    assert one.skip == skip
    assert one.writes == (("mlp_out", 3),)
    if skip:
        with pytest.raises(InputError, match=r"has a skip, so features alone .*decode\(features, x\)"):
            one.decode(torch.tensor(features).float())
    one.save(tmp_path / "again")
    assert load_dictionary(tmp_path / "again").fingerprint == one.fingerprint


def test_saelens_of_heads_takes_them_apart_or_in_one_row(tmp_path: Path) -> None:
    w, x = basics(), drawn(ROWS, D, number=5)
    hook = {"metadata": {"hook_name": "blocks.1.attn.hook_z"}, "reshape_activations": "hook_z"}
    one = saelens(tmp_path, "standard", w, **hook)
    features = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    agree(one, x, features, features @ w["W_dec"] + w["b_dec"])
    apart = torch.tensor(x).float().view(ROWS, 2, 3)
    assert torch.equal(one.encode(apart), one.encode(apart.flatten(1)))
    assert torch.equal(one(apart).flatten(1), one(apart.flatten(1)))
    one.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["reshape_activations"] == "hook_z"


def test_older_saelens_says_normalised_in_yes_and_no_and_keeps_ones_it_does_not_use(tmp_path: Path) -> None:
    given = basics() | {"scaling_factor": np.ones(F)}
    flat = {
        "d_in": D, "d_sae": F, "hook_point": "blocks.3.hook_resid_post", "normalize_activations": False,
        "prepend_bos": True, "context_size": 64, "hook_point_head_index": None,
    }  # fmt: skip
    stored(tmp_path / "sae_weights.safetensors", given, cfg__json=flat)
    one = load_dictionary(tmp_path)
    assert one.metadata == {"prepend_bos": True, "context_size": 64}
    stored(tmp_path / "sae_weights.safetensors", basics(), cfg__json=flat | {"normalize_activations": True})
    with pytest.raises(InputError, match=r"no activation_scaler\.json beside it says by what"):
        load_dictionary(tmp_path)
    stored(tmp_path / "sae_weights.safetensors", basics() | {"scaling_factor": drawn(F)}, cfg__json=flat)
    with pytest.raises(InputError, match="has scaling_factor, which no relu dictionary uses"):
        load_dictionary(tmp_path)


def test_a_site_can_be_said_where_the_folder_does_not(tmp_path: Path) -> None:
    stored(tmp_path / "sae_weights.safetensors", basics(), cfg__json={"d_in": D, "d_sae": F})
    with pytest.raises(InputError, match=r"does not say which site .* site=\('resid_post', 2\)"):
        load_dictionary(tmp_path)
    assert load_dictionary(tmp_path, site=("mlp_out", 5)).reads == (("mlp_out", 5),)


# --- dictionary_learning

TRAINER = {"activation_dim": D, "dict_size": F, "k": K, "lm_name": "some/model", "layer": 7}


def learnt(folder: Path, name: str, weights: dict[str, np.ndarray], **trainer: object) -> Dictionary:
    """Write a folder as dictionary_learning does, but for the pickle, and read it."""
    about = TRAINER | {"dict_class": name, "submodule_name": "resid_post_layer_7"} | trainer
    stored(folder / "ae.safetensors", weights, config__json={"trainer": about, "buffer": {"ctx_len": 128}})
    return load_dictionary(folder)


def linear() -> dict[str, np.ndarray]:
    """Weights as nn.Linear keeps them: the other way round."""
    return {
        "encoder.weight": drawn(F, D, number=1),
        "encoder.bias": drawn(F, number=2),
        "decoder.weight": drawn(D, F, number=3),
    }


def test_dictionary_learning_autoencoder(tmp_path: Path) -> None:
    w, x = linear() | {"bias": drawn(D, number=4)}, drawn(ROWS, D, number=5)
    one = learnt(tmp_path, "AutoEncoder", w)
    features = relu((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"])
    agree(one, x, features, features @ w["decoder.weight"].T + w["bias"])
    assert (one.reads, one.model, one.metadata) == ((("resid_post", 7),), "some/model", {"context_size": 128})


def test_dictionary_learning_new_autoencoder_is_not_centred(tmp_path: Path) -> None:
    w, x = linear() | {"decoder.bias": drawn(D, number=4)}, drawn(ROWS, D, number=5)
    features = relu(x @ w["encoder.weight"].T + w["encoder.bias"])
    agree(learnt(tmp_path, "AutoEncoderNew", w), x, features, features @ w["decoder.weight"].T + w["decoder.bias"])


def test_dictionary_learning_topk_ignores_the_threshold_that_it_keeps(tmp_path: Path) -> None:
    w = linear() | {"b_dec": drawn(D, number=4), "k": np.array(K), "threshold": np.array(9.0)}
    x = drawn(ROWS, D, number=5)
    features = largest((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"], K)
    agree(learnt(tmp_path, "AutoEncoderTopK", w), x, features, features @ w["decoder.weight"].T + w["b_dec"])


def test_dictionary_learning_batchtopk_is_one_threshold(tmp_path: Path) -> None:
    w = linear() | {"b_dec": drawn(D, number=4), "k": np.array(K), "threshold": np.array(0.75)}
    x = drawn(ROWS, D, number=5)
    before = relu((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
    features = before * (before > 0.75)
    agree(learnt(tmp_path, "BatchTopKSAE", w), x, features, features @ w["decoder.weight"].T + w["b_dec"])
    with pytest.raises(InputError, match=r"threshold in .* is -1\.0: it is one number above zero once"):
        learnt(tmp_path, "BatchTopKSAE", w | {"threshold": np.array(-1.0)})


def test_dictionary_learning_matryoshka_is_not_the_other_way_round(tmp_path: Path) -> None:
    w = basics() | {"k": np.array(K), "threshold": np.array(0.75), "group_sizes": np.array([5, 10])}
    x = drawn(ROWS, D, number=5)
    before = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    features = before * (before > 0.75)
    agree(learnt(tmp_path, "MatryoshkaBatchTopKSAE", w), x, features, features @ w["W_dec"] + w["b_dec"])


def test_dictionary_learning_gated_counts_along_directions_of_length_one(tmp_path: Path) -> None:
    w = linear() | {"decoder_bias": drawn(D, number=4), "r_mag": 0.5 * drawn(F, number=6)}
    w |= {"gate_bias": drawn(F, number=7), "mag_bias": drawn(F, number=8)}
    del w["encoder.bias"]
    x = drawn(ROWS, D, number=5)
    one = learnt(tmp_path, "GatedAutoEncoder", w)
    encoded = (x - w["decoder_bias"]) @ w["encoder.weight"].T
    plain = (encoded + w["gate_bias"] > 0) * relu(np.exp(w["r_mag"]) * encoded + w["mag_bias"])
    lengths = np.linalg.norm(w["decoder.weight"], axis=0)
    agree(one, x, plain * lengths, plain @ w["decoder.weight"].T + w["decoder_bias"])
    assert one.metadata["decoder_norm_folded"]


def test_dictionary_learning_jumprelu_does_not_subtract_its_bias(tmp_path: Path) -> None:
    w, x = basics() | {"threshold": np.abs(drawn(F, number=6))}, drawn(ROWS, D, number=5)
    before = x @ w["W_enc"] + w["b_enc"]
    plain = relu(before * (before > w["threshold"]))
    lengths = np.linalg.norm(w["W_dec"], axis=1)
    agree(learnt(tmp_path, "JumpReluAutoEncoder", w), x, plain * lengths, plain @ w["W_dec"] + w["b_dec"])


def test_dictionary_learning_crosscoder_reads_layers_side_by_side(tmp_path: Path) -> None:
    w = {
        "encoder.weight": drawn(3, D, F, number=1), "encoder.bias": drawn(F, number=2),
        "decoder.weight": drawn(3, F, D, number=3), "decoder.bias": drawn(3, D, number=4),
    }  # fmt: skip
    x = drawn(ROWS, 3, D, number=5)
    with pytest.raises(InputError, match=r'does not say which: add "layers"'):
        learnt(tmp_path, "CrossCoder", w)
    one = learnt(tmp_path, "CrossCoder", w, layers=[2, 4, 7])
    features = relu(np.einsum("bld,ldf->bf", x, w["encoder.weight"]) + w["encoder.bias"])
    written = np.einsum("bf,lfd->bld", features, w["decoder.weight"]) + w["decoder.bias"]
    agree(one, x.reshape(ROWS, -1), features, written.reshape(ROWS, -1))
    assert one.reads == one.writes == (("resid_post", 2), ("resid_post", 4), ("resid_post", 7))
    assert repr(one).startswith("<crosscoder of 15 features on resid_post of layers 2, 4, 7 of some/model: ReLU, 18")
    with pytest.raises(InputError, match=r"encoder|W_enc in .* is \[3, 6, 15\]; config\.json names 2 layers"):
        learnt(tmp_path, "CrossCoder", w, layers=[2, 4])
    with pytest.raises(InputError, match="no layout for several layers"):
        one.save(tmp_path / "again")
    one.save(tmp_path / "again", layout="dictionary_learning")
    assert load_dictionary(tmp_path / "again").fingerprint == one.fingerprint


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("resid_post_layer_3", ("resid_post", 3)),
        ("mlp_out_layer_12", ("mlp_out", 12)),
        ("attention_out_layer_0", ("attn_out", 0)),
        ("attn_layer_4", ("attn", 4)),
        (None, ("resid_post", 7)),
    ],
)
def test_dictionary_learning_names_its_site_by_the_submodule(name: str | None, site: tuple, tmp_path: Path) -> None:
    one = learnt(tmp_path, "AutoEncoder", linear() | {"bias": drawn(D, number=4)}, submodule_name=name)
    assert one.reads == (site,)


@pytest.mark.parametrize(
    ("weights", "trainer", "sentence"),
    [
        ({}, {"dict_class": "IdentityDict"}, "dict_class 'IdentityDict' is not read; AutoEncoder, AutoEncoderNew"),
        ({}, {"dict_size": 16}, r"W_dec in .* is \[15, 6\]; config\.json says \[16, 6\]"),
        ({}, {"activation_dim": None}, "does not say 'activation_dim'"),
        ({"bias": np.full(D, np.nan)}, {}, "b_dec in .* holds NaN"),
        ({"extra": np.zeros(2)}, {}, "has extra, which no relu dictionary uses"),
    ],
)
def test_dictionary_learning_that_does_not_fit_is_refused(
    weights: dict, trainer: dict, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        learnt(tmp_path, trainer.pop("dict_class", "AutoEncoder"), linear() | {"bias": drawn(D)} | weights, **trainer)


def test_dictionary_learning_pickle_is_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    one = learnt(tmp_path, "AutoEncoder", linear() | {"bias": drawn(D)})
    torch.save(load_file(tmp_path / "ae.safetensors"), tmp_path / "ae.pt")
    (tmp_path / "ae.safetensors").unlink()
    with pytest.raises(InputError, match="pickled weights, which can run code and are not read") as refused:
        load_dictionary(tmp_path)
    exec("\n".join(line.strip() for line in str(refused.value).splitlines()[1:]))
    assert load_dictionary(tmp_path).fingerprint == one.fingerprint


# --- both ways


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("layout", ["saelens", "dictionary_learning"])
def test_what_is_saved_in_a_layout_computes_the_same(kind: str, centred: bool, layout: str, tmp_path: Path) -> None:
    one = Dictionary(D, F, kind=kind, k=K, site="mlp_out", layer=2, centred=centred, model="m")  # type: ignore[arg-type]
    with torch.no_grad():
        for number, weight in enumerate(one.parameters()):
            weight.copy_(torch.tensor(drawn(*weight.shape, number=number)))
    one.save(tmp_path, layout=layout)  # type: ignore[arg-type]
    again = load_dictionary(tmp_path)
    assert (again.site, again.layer, again.model) == ("mlp_out", 2, "m")
    x = torch.tensor(drawn(ROWS, D, number=50)).float()
    with torch.no_grad():
        folded = layout == "dictionary_learning" and kind in ("jumprelu", "gated")
        lengths = one.W_dec.norm(dim=1) if folded else 1
        torch.testing.assert_close(again.encode(x), one.encode(x) * lengths, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again(x), one(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "gated"])
def test_folded_writes_the_same_along_directions_of_length_one(kind: str) -> None:
    one = Dictionary(D, F, kind=kind, site="resid_post", layer=0)  # type: ignore[arg-type]
    with torch.no_grad():
        for number, weight in enumerate(one.parameters()):
            weight.copy_(torch.tensor(drawn(*weight.shape, number=number)))
        one.W_dec[3] = 0
        folded = one.folded()
        x = torch.tensor(drawn(ROWS, D, number=50)).float()
        torch.testing.assert_close(folded(x), one(x), atol=1e-4, rtol=1e-4)
        lengths = folded.W_dec.norm(dim=1)
    assert float(lengths[3]) == 0
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(F - 1))
    assert folded.metadata == {"decoder_norm_folded": True}
    assert one.metadata == {}


def test_topk_is_not_folded_where_that_would_choose_other_features() -> None:
    one = Dictionary(D, F, kind="topk", k=K, site="resid_post", layer=0)
    one.W_dec.data.copy_(torch.tensor(drawn(F, D)))
    with pytest.raises(InputError, match="with length one, other features would be the 4 largest"):
        one.folded()
    one.W_dec.data.div_(one.W_dec.norm(dim=1, keepdim=True) / 3)
    assert torch.allclose(one.folded().W_dec.norm(dim=1), torch.ones(F))


def test_there_is_no_other_layout(tmp_path: Path) -> None:
    one = Dictionary(D, F, kind="relu", site="resid_mid", layer=0, site_out="mlp_out")
    with pytest.raises(InputError, match=r"no layout 'npz' to save in\. There are: saelens, dictionary_learning"):
        one.save(tmp_path, layout="npz")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no transcoder, skip or normalisation"):
        one.save(tmp_path, layout="dictionary_learning")


# --- circuit-tracer


def test_circuit_tracer_transcoders_of_each_layer(tmp_path: Path) -> None:
    x = drawn(ROWS, D, number=5)
    shapes = {"W_enc": (F, D), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
    for layer in (0, 2, 10):
        w = {name: drawn(*shape, number=layer + i) for i, (name, shape) in enumerate(shapes.items())}
        w |= {"activation_function.threshold": np.abs(drawn(1, F, number=99))} if layer == 2 else {}
        w |= {"W_skip": drawn(D, D, number=98)} if layer == 10 else {}
        stored(tmp_path / f"layer_{layer}.safetensors", w)
        (tmp_path / "config.yaml").write_text(
            "model_name: org/model\nmodel_kind: transcoder_set\nscan: org/scan\n"
            "feature_input_hook: hook_resid_mid\nfeature_output_hook: mlp.hook_out\n"
        )
        one = load_dictionary(tmp_path, f"layer_{layer}")
        before = x @ w["W_enc"].T + w["b_enc"]
        features = before * (before > w["activation_function.threshold"][0]) if layer == 2 else relu(before)
        written = features @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if layer == 10 else 0)
        agree(one, x, features, written)
        assert (one.reads, one.writes) == ((("resid_mid", layer),), (("mlp_out", layer),))
        assert (one.model, one.metadata) == ("org/model", {"scan": "org/scan"})
    assert dictionary_names(tmp_path) == ["layer_0", "layer_2", "layer_10"]
    with pytest.raises(InputError, match="several dictionaries; say which: layer_0, layer_2, layer_10"):
        load_dictionary(tmp_path)
    (tmp_path / "config.yaml").write_text("[: not yaml")
    with pytest.raises(InputError, match=r"config\.yaml is damaged"):
        load_dictionary(tmp_path, "layer_0")


def test_circuit_tracer_cross_layer_transcoders_write_to_every_later_layer(tmp_path: Path) -> None:
    layers, x = 3, drawn(3, ROWS, D, number=5)
    w = [
        {
            "W_enc": drawn(F, D, number=10 + i), "b_enc": drawn(F, number=20 + i), "b_dec": drawn(D, number=30 + i),
            "threshold": np.abs(drawn(F, number=40 + i)), "W_dec": drawn(F, layers - i, D, number=50 + i),
        }
        for i in range(layers)
    ]  # fmt: skip
    for i, each in enumerate(w):
        encoder = {f"{name}_{i}": weight for name, weight in each.items() if name != "W_dec"}
        stored(tmp_path / f"W_enc_{i}.safetensors", encoder)
        stored(tmp_path / f"W_dec_{i}.safetensors", {f"W_dec_{i}": each["W_dec"]})
    written, whole = np.zeros_like(x), torch.zeros(layers, ROWS, D)
    for i, name in enumerate(dictionary_names(tmp_path)):
        one = load_dictionary(tmp_path, name)
        before = x[i] @ w[i]["W_enc"].T + w[i]["b_enc"]
        features = before * (before > w[i]["threshold"])
        written[i:] += np.einsum("bf,fld->lbd", features, w[i]["W_dec"])
        written[i] += w[i]["b_dec"]
        given = torch.tensor(x[i]).float()
        np.testing.assert_allclose(one.encode(given).numpy(), features, atol=1e-4, err_msg=str(SEED))
        assert one.writes == tuple(("mlp_out", layer) for layer in range(i, layers))
        whole[i:] += one(given).view(ROWS, layers - i, D).transpose(0, 1)
    np.testing.assert_allclose(whole.numpy(), written, atol=1e-3, err_msg=str(SEED))
    (tmp_path / "W_dec_1.safetensors").unlink()
    with pytest.raises(InputError, match=r"There is no .*W_dec_1\.safetensors: the decoder of a cross-layer"):
        load_dictionary(tmp_path, "layer_1")


def test_circuit_tracer_topk_and_what_does_not_fit(tmp_path: Path) -> None:
    w = {"W_enc": drawn(F, D), "W_dec": drawn(F, D, number=1), "b_enc": drawn(F), "b_dec": drawn(D), "k": np.array(K)}
    stored(tmp_path / "layer_0.safetensors", w)
    one = load_dictionary(tmp_path)
    assert (one.kind, one.k) == ("topk", K)
    assert one.site == "blocks.0.mlp.hook_in"  # what is normalised before the MLP is no site of ours
    with pytest.raises(InputError, match=r"is on 'blocks\.0\.mlp\.hook_in', which is no site"):
        one.check(iw.load("induction-2l"))
    stored(tmp_path / "layer_0.safetensors", w | {"W_enc": drawn(F, 2, D)})
    with pytest.raises(InputError, match=r"W_enc in .* is \[15, 2, 6\]; it should have 2 dimensions"):
        load_dictionary(tmp_path)
    del w["W_dec"]
    stored(tmp_path / "layer_0.safetensors", w)
    with pytest.raises(InputError, match="lacks W_dec; it has W_enc, b_dec, b_enc, k"):
        load_dictionary(tmp_path)


# --- functions of one's own


def test_any_functions_with_directions_are_a_dictionary() -> None:
    w = basics()
    enc, dec, bias = (torch.tensor(w[name]).float() for name in ("W_enc", "W_dec", "b_enc"))

    def encode(x):
        return (x @ enc + bias).relu()

    sae = SimpleNamespace(encode=encode, decode=lambda features: features @ dec, W_dec=dec)
    one = Dictionary.wrap(sae, site="resid_post", layer=2, model="mine")
    x = drawn(ROWS, D, number=5)
    features = relu(x @ w["W_enc"] + w["b_enc"])
    agree(one, x, features, features @ w["W_dec"])
    same = load_dictionary((encode, sae.decode, dec), site=("resid_post", 2))
    assert same.fingerprint == one.fingerprint
    other = Dictionary.wrap(lambda x: encode(x) * 2, sae.decode, dec, site="resid_post", layer=2)
    assert other.fingerprint != one.fingerprint
    assert repr(one) == "<dictionary of 15 features on resid_post of layer 2 of mine: wrapped, 6 → 15 → 6>"
    with pytest.raises(InputError, match=r"reads 6 numbers a position; got \[2, 7\]"):
        one.encode(torch.zeros(2, 7))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((SimpleNamespace(encode=len),), "A SimpleNamespace has no decode and no W_dec: give what is missing"),
        ((len, None, torch.zeros(3, 2)), "takes two functions, encode and decode, and W_dec"),
        ((len, len, torch.zeros(3)), r"W_dec is \[d_dict, d_out\], all of it finite; got \[3\]"),
        ((len, len, torch.full((3, 2), torch.nan)), "all of it finite"),
        ((lambda x: x, len, torch.zeros(3, 2)), r"encode takes \[1, 2\] to \[1, 2\]; W_dec has 3 features"),
    ],
)
def test_functions_that_are_no_dictionary_are_refused(given: tuple, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Dictionary.wrap(*given, site="resid_post", layer=0)


def test_functions_are_asked_where_they_read_and_are_not_saved(tmp_path: Path) -> None:
    given = (torch.relu, torch.relu, torch.eye(4))
    with pytest.raises(InputError, match="Functions do not say what they read"):
        load_dictionary(given)
    one = load_dictionary(given, site=("resid_post", 0))
    for refused in (lambda: one.save(tmp_path), one.folded, lambda: one.before(torch.zeros(4))):
        with pytest.raises(InputError, match="is made of functions"):
            refused()


# --- is it of this model?


def test_a_dictionary_is_held_to_its_model() -> None:
    model = iw.load("storyteller-4l")
    for name in dictionary_names("storyteller-4l-sae"):
        load_dictionary("storyteller-4l-sae", name).check(model)
    one = load_dictionary("storyteller-4l-sae")
    with pytest.raises(InputError, match=r"was trained on a model of fingerprint [0-9a-f]+; induction-2l has"):
        one.check(iw.load("induction-2l"))  # as wide as the other, layer by layer
    del one.metadata["model_fingerprint"]
    one.check(iw.load("induction-2l"))
    one.layer = one.layer_out = 9
    with pytest.raises(InputError, match="There is no layer 9; there are 4"):
        one.check(model)
    one.layer = one.layer_out = 1
    one.site = one.site_out = "mlp_post"
    with pytest.raises(InputError, match=r"has 128 numbers a position on mlp_post of layer 1; storyteller-4l has 512"):
        one.check(model)


def test_a_dictionary_that_knows_its_models_fingerprint_tells_another_checkpoint() -> None:
    model, one = iw.load("storyteller-4l"), load_dictionary("storyteller-4l-sae")
    one.metadata["model_fingerprint"] = model.fingerprint
    one.check(model)
    weight = next(model.module.parameters())
    with torch.no_grad():
        weight[0, 0] += 1e-3
    with pytest.raises(InputError, match=r"was trained on a model of fingerprint [0-9a-f]{16}; storyteller-4l has"):
        one.check(model)


def test_a_fingerprint_is_of_content() -> None:
    one, same = (load_dictionary("storyteller-4l-sae") for _ in range(2))
    same.model, same.metadata = "renamed", {}
    assert one.fingerprint == same.fingerprint
    for change in (
        lambda: same.W_dec.data[7, 3].add_(1e-4),
        lambda: setattr(same, "k", 15),
        lambda: setattr(same, "layer", 2),
        lambda: setattr(same, "centred", False),
    ):
        before = same.fingerprint
        change()
        assert same.fingerprint != before
