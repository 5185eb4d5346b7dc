"""What the card of `storyteller-4l-sae` says in words, its measures by other means, and the training it comes from."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import interpwidgets as iw
from interpwidgets.models.corpora.storybook import TOKEN_ID
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.dictionary_files import dictionary_names
from interpwidgets.models.splice import read, replaced
from interpwidgets.models.train.cards import dictionaries as card
from interpwidgets.models.train.concepts import CLASSES, labelled
from interpwidgets.models.train.dictionaries import Dictionaries, Recipe, untrained
from interpwidgets.models.train.explain import Half, explained
from interpwidgets.models.training.loop import train
from interpwidgets.models.training.sparse import _Step

FOLDER = Path(iw.__file__).parent / "models" / "systems" / "storyteller-4l-sae"
CARD = json.loads((FOLDER / "card.json").read_text("utf-8"))
SEED = secrets.randbits(30)  # a failure prints it


@pytest.fixture(scope="module")
def bundle():
    return card.load_bundle(FOLDER)


# --- the card


def test_the_claims_in_words_hold_for_every_seed() -> None:
    for seed in CARD["cpu_seconds"]:
        of = {name: entry["seeds"][seed] for name, entry in CARD["measured"].items()}
        # controls: what is clearly explained by more than a word is found in the trained model only
        learnt = of["topk_classes"] + of["topk_context"]
        assert of["untrained_classes"] + of["untrained_context"] < 0.25 * learnt
        assert of["random_classes"] + of["random_context"] < 0.25 * learnt
        assert of["axes_classes"] + of["axes_context"] < 0.25 * learnt
        assert of["shuffled_explained"] < 0.01
        assert of["untrained_words"] > of["topk_words"]
        for name in ("class_f1", "context_f1"):
            assert of[f"topk_{name}"] > max(of[f"{each}_{name}"] for each in ("random", "axes", "untrained")) + 0.1
        # causes
        assert of["next_without"] > 3 * abs(of["next_control"])
        assert of["next_without"] > 3 * abs(of["next_elsewhere"])
        assert of["brackets_without"] > 3 * max(abs(of["brackets_control"]), abs(of["brackets_other"]))
        assert of["neurons_clear"] < of["topk_clear"]
        assert of["l1_class_f1"] < of["neurons_class_f1"]
    for role in ("io", "s1"):
        assert CARD["concepts"][f"ioi_pair: {role}"][1] < card.POOR


# --- the files


def test_the_bundle_is_small_and_holds_no_pickle() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4e6
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}


def test_every_dictionary_loads_by_its_name() -> None:
    names = dictionary_names("storyteller-4l-sae")
    assert len(names) == 6
    for name in names:
        one = iw.load_dictionary("storyteller-4l-sae", which=name)
        assert one.model == ("storyteller-4l untrained" if name.startswith("untrained") else "storyteller-4l")
        assert one.transcoder == name.startswith("transcoder")
        torch.testing.assert_close(one.W_dec.norm(dim=1), torch.ones(one.d_dict), atol=2e-3, rtol=0)
    assert iw.load_dictionary("storyteller-4l-sae").kind == "topk"
    weights = load_file(FOLDER / names[0] / "sae_weights.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_a_record_of_the_model_goes_into_the_dictionary(bundle) -> None:
    sae = bundle.dictionaries["topk"]
    stream = iw.record(iw.load("storyteller-4l"), "anna gave the key to")[sae.site, sae.layer]
    features = sae.encode(stream)
    assert features.shape == (1, 6, sae.d_dict)
    assert ((features > 0).sum(-1) <= sae.k).all()


# --- the measures, by other means


def test_splicing_is_what_patching_gives(bundle) -> None:
    """The loss with the reconstruction in place, by `Patch` with the values computed beforehand."""
    tokens = torch.tensor(batch(SEED, -3, 4, 32, 0.2, "heldout"))
    for name in ("topk", "transcoder"):
        one = bundle.dictionaries[name]
        found = card.spliced(bundle.model, one, tokens)
        rec = iw.record(bundle.model, tokens, sites=[one.site, one.site_out], layers=[one.layer])
        value = torch.cat([rec[one.site_out, one.layer][:, :1], one(rec[one.site, one.layer])[:, 1:]], dim=1)
        run = iw.run(bundle.model, tokens, iw.Patch(one.site_out, one.layer, value=value), sites=["logits"])
        logits = run["logits"][:, :-1].log_softmax(-1)
        loss = -logits.gather(-1, tokens[:, 1:, None]).mean()
        assert found == pytest.approx(float(loss), abs=1e-4), SEED


def test_sparsity_is_what_a_slow_count_gives(bundle) -> None:
    """In float64, feature by feature."""
    halves = [card.Text.of(bundle, labelled(SEED + number, 2, 24)) for number in range(2)]
    for name in ("topk", "jumprelu", "untrained"):
        one = bundle.dictionaries[name]
        x = torch.cat([text.at(name, (one.site, one.layer)) for text in halves]).double().numpy()
        w = {key: weight.double().numpy() for key, weight in one.state_dict().items()}
        features = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        if one.kind == "topk":
            features[features < np.sort(features, axis=1)[:, [-one.k]]] = 0
        else:
            features[features <= w["threshold"]] = 0
        features = features.clip(0)
        left = ((x - features @ w["W_dec"] - w["b_dec"]) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        found = card._sparsity(name, one, halves)
        assert found["fvu"] == pytest.approx(left, abs=1e-3), SEED
        assert found["l0"] == pytest.approx((features > 0).sum(1).mean(), abs=0.1), SEED
        assert found["dead"] == pytest.approx((features <= 0).all(0).mean(), abs=0.02), SEED


def test_reading_is_recording_and_no_hook_stays(bundle) -> None:
    tokens = torch.tensor(batch(SEED, -3, 2, 20, 0.0, "heldout"))
    plain = bundle.model.module(tokens).logits
    found = read(bundle.model, tokens, [("resid_mid", 1), ("mlp_out", 1)])
    rec = iw.record(bundle.model, tokens, sites=["resid_mid", "mlp_out"], layers=[1])
    for site in ("resid_mid", "mlp_out"):
        torch.testing.assert_close(found[site, 1], rec[site, 1])
    same = replaced(bundle.model, tokens, ("mlp_out", 1), ("mlp_out", 1), lambda here, there: there)
    torch.testing.assert_close(same, plain)
    assert torch.equal(bundle.model.module(tokens).logits, plain)


def test_f1_is_that_of_a_slow_count() -> None:
    """Features made to be known: one for a word, one for a class, one for noise."""
    halves = [labelled(SEED + number, 12, 64) for number in range(2)]
    rng = np.random.default_rng(SEED)
    both = []
    for text in halves:
        ids = text.tokens[:, 1:].flatten()
        features = torch.zeros(len(ids), 3)
        features[:, 0] = (ids == TOKEN_ID["the"]) * 2.0
        features[:, 1] = text.classes[:, text.class_names.index("name")] * torch.tensor(rng.random(len(ids)) > 0.1)
        features[:, 2] = torch.tensor(rng.random(len(ids)) > 0.5)
        both.append(Half.of(features, text))
    found = explained(both[0], both[1], len(CLASSES))
    assert int(found.concept[0]) == TOKEN_ID["the"]
    assert float(found.f1[0]) == 1.0
    assert int(found.concept[1]) == len(TOKEN_ID) + halves[0].class_names.index("name")
    names = halves[1].classes[:, halves[1].class_names.index("name")].bool()
    active = both[1].features[:, 1] > 0
    precision, recall = (active & names).sum() / active.sum(), (active & names).sum() / names.sum()
    assert float(found.precision[1]) == pytest.approx(float(precision))
    assert float(found.recall[1]) == pytest.approx(float(recall))
    assert float(found.f1[1]) == pytest.approx(float(2 * precision * recall / (precision + recall)), abs=1e-6)
    assert float(found.f1[2]) < 0.5
    assert (found.share(0.7), found.share(0.7, "word"), found.share(0.7, "class")) == pytest.approx(
        (2 / 3, 1 / 3, 1 / 3)
    )
    assert float(found.concept_f1[halves[0].class_names.index("name")]) == pytest.approx(float(found.f1[1]))


def test_labels_are_true_of_their_tokens() -> None:
    text = labelled(SEED, 16, 64)
    word = {number: each for each, number in TOKEN_ID.items()}
    rows = [[word[int(token)] for token in row] for row in text.tokens]
    context = text.context.view(16, 63, -1)
    names = {name: index for index, name in enumerate(text.context_names)}
    seen = 0
    for row, words in enumerate(rows):
        for at in range(1, 64):
            true = context[row, at - 1]
            for name, members in CLASSES.items():
                assert bool(true[names[f"after {name}"]]) == (words[at - 1] in members)
                if at < 63:
                    assert bool(true[names[f"before {name}"]]) == (words[at + 1] in members)
            assert bool(true[names["first word of a sentence"]]) == (words[at - 1] in (".", "<bos>"))
            if true[names["plural subject, verb to come"]]:
                assert not {"is", "was", "has"} & set(words[at : at + 1])
            if true[names["( is to be closed"]]:
                assert "(" in words[: at + 1]
                seen += 1
    assert seen


# --- training


def test_the_threshold_learns_from_a_box_around_it() -> None:
    before = torch.tensor([[0.2, 0.9, 1.1, 3.0]], requires_grad=True)
    threshold = torch.ones(4, requires_grad=True)
    _Step.apply(before, threshold, 0.5, True).sum().backward()
    assert before.grad.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert threshold.grad.tolist() == [0.0, -2.0, -2.0, 0.0]  # −threshold / bandwidth, inside the box
    before.grad = threshold.grad = None
    counted = _Step.apply(before, threshold, 0.5, False)
    assert counted.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    counted.sum().backward()
    assert before.grad is None
    assert threshold.grad.tolist() == [0.0, -2.0, -2.0, 0.0]


TINY = Recipe(steps=6, features=32, k=4, rows=2, length=24, patience=2, revived=8)


@pytest.fixture(scope="module")
def source():
    return untrained(1)


def test_a_run_that_was_cut_off_comes_to_the_same_weights(source, tmp_path: Path) -> None:
    whole = train(Dictionaries(TINY, source), tmp_path / "whole", progress=False)
    train(Dictionaries(TINY, source), tmp_path / "cut", until=3, progress=False)
    cut = train(Dictionaries(TINY, source), tmp_path / "cut", progress=False)
    one, other = (load_file(folder / "state.safetensors") for folder in (whole, cut))
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def test_training_explains_more_and_the_shipped_form_computes_the_same(source) -> None:
    task = Dictionaries(Recipe(**{**TINY.__dict__, "steps": 40, "rate": 0.01}), source)
    first = task.line()
    for number in range(40):
        loss = task.loss(number)
        task.model.zero_grad(set_to_none=True)
        loss.backward()
        task.optimiser.step(number)
    last = task.line()
    for part in task.model.parts:
        assert last[f"{part.name}.fvu"] < first[f"{part.name}.fvu"], part.name
    found = task.activations(99)
    for index, part in enumerate(task.model.parts):
        one, scales = task.model.dictionaries[index], task.model.scales[index]
        x = found[part.trained][part.reads]
        with torch.no_grad():
            features = one.encode(x / scales[0])
            wanted = (features @ torch.nn.functional.normalize(one.W_dec, dim=1) + one.b_dec) * scales[1]
            torch.testing.assert_close(task.model.finished(index)(x), wanted, atol=1e-3, rtol=1e-3)


def test_another_model_or_another_recipe_is_another_run(source) -> None:
    run = Dictionaries(TINY, source).about()["run"]
    assert Dictionaries(TINY, source).about()["run"] == run
    assert Dictionaries(TINY, untrained(2)).about()["run"] != run
    assert Dictionaries(Recipe(**{**TINY.__dict__, "k": 5}), source).about()["run"] != run
