"""Models by name: folders, checkpoints, the hub's cache; and names that lead nowhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

import interpwidgets as iw
from interpwidgets.models import load as home

WORDS = {"<unk>": 0, "the": 1, "cat": 2, "sat": 3}
load_module = sys.modules["interpwidgets.models.load"]


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as `save_pretrained` leaves it, with two half-precision training states beside."""
    where = tmp_path / "tiny"
    module = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=4, bos_token_id=0, eos_token_id=0)
    )
    module.save_pretrained(where)
    tokenizer().save_pretrained(where)
    for step in (100, 2000):
        with torch.no_grad():
            module.transformer.wte.weight.fill_(step)
        module.half().save_pretrained(where / "checkpoints" / f"step-{step:05}")
        module.float()
        (where / "checkpoints" / f"step-{step:05}" / "config.json").unlink()
    return where


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, and a cache of our own."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_folder(folder: Path) -> None:
    model = iw.load(folder)
    assert repr(model) == ("Model(tiny: GPT2LMHeadModel, 1 layers × 2 heads, d_model 8, vocabulary 4, context 16)")
    assert not model.module.training
    rec = iw.record(model, "the cat sat")
    assert list(rec.tokens[0]) == ["the", "cat", "sat"]
    assert iw.load(str(folder)).name == "tiny"


def test_a_checkpoint_shares_its_parents_config_and_computes_in_float32(folder: Path) -> None:
    for checkpoint in (100, "100", "step-00100"):
        model = iw.load(folder, checkpoint=checkpoint)
        assert model.name == "tiny step-00100"
        weight = model.anatomy.embed.weight
        assert weight.dtype == torch.float32
        assert (weight == 100).all()
    with pytest.raises(iw.UnknownModelError, match=r"tiny has no checkpoint 7; .* steps 100, 2000"):
        iw.load(folder, checkpoint=7)
    with pytest.raises(iw.UnknownModelError, match="no checkpoint 'last'"):
        iw.load(folder, checkpoint="last")


def test_loading_is_silent(folder: Path) -> None:
    code = f"import interpwidgets as iw; iw.load({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_a_folder_without_a_tokenizer_takes_ids(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    model = iw.load(folder)
    assert list(iw.record(model, [1, 2]).tokens[0]) == ["#1", "#2"]
    with pytest.raises(iw.InputError, match="no tokenizer"):
        iw.record(model, "the cat")


def test_a_shipped_system_is_found_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    monkeypatch.setattr(load_module, "SYSTEMS", folder.parent)
    assert iw.load("tiny").name == "tiny"
    assert iw.load("tiny", checkpoint=2000).name == "tiny step-02000"
    with pytest.raises(iw.UnknownModelError, match=r"no model 'tinny'.* Did you mean 'tiny'\? Shipped .*: tiny\."):
        iw.load("tinny")


def test_a_name_that_nobody_knows_offers_what_is_in_the_cache(offline: Path) -> None:
    (offline / "models--some-org--small-llama").mkdir(parents=True)
    with pytest.raises(LookupError, match=r"cannot be reached .*Did you mean 'some-org/small-llama'"):
        iw.load("some-org/smal-lama")
    for name in ("a/b/c", "no such model", "../up", ""):
        with pytest.raises(iw.UnknownModelError, match="cannot be a Hugging Face id"):
            iw.load(name)


def test_offline_mode_asks_nobody(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(HfApi, "model_info", fail)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(iw.UnknownModelError, match="HF_HUB_OFFLINE is set"):
        iw.load("some-org/some-model")


def test_a_model_in_the_hubs_cache_is_loaded_without_a_network(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--some-org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    refs = tmp_path / "hub" / "models--some-org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    code = "import interpwidgets as iw; print(iw.load('some-org/tiny'))"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.startswith("Model(some-org/tiny: GPT2LMHeadModel, 1 layers"), done.stderr


def test_pickled_weights_are_not_read(folder: Path) -> None:
    state = GPT2LMHeadModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(iw.InputError, match="no weights in safetensors"):
        iw.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"architectures": ["NoSuchModel"]}, "names 'NoSuchModel'"), ({"architectures": None}, "names no architecture")],
)
def test_a_config_of_an_unknown_class(folder: Path, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(iw.InputError, match=message):
        iw.load(folder)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(iw.InputError, match=r"no config\.json"):
        iw.load(tmp_path)


def test_what_is_loaded_already(modules: dict[str, PreTrainedModel]) -> None:
    module, words = modules["gpt2"], tokenizer()
    model = iw.load((module, words))
    assert model.module is module
    assert model.tokenizer is words
    assert iw.load(model) is model
    assert iw.load(module).tokenizer is None
    assert home is iw.load
    with pytest.raises(iw.InputError, match="checkpoint"):
        iw.load(module, checkpoint=3)
