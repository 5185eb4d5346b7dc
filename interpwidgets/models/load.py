"""Models by name: those shipped with the package, folders, and the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, overload

import torch
import transformers
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from torch import nn

from interpwidgets.errors import InputError, UnknownModelError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.dictionary_files import dictionary_names, load_dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.toys import ToySuperposition

__all__ = ["load"]

SYSTEMS = Path(__file__).parent / "systems"  # one folder for each model that is shipped
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_STATES = "checkpoints/step-[0-9]*/model.safetensors"
_PATIENCE = 5.0  # seconds for the hub to say whether it has a model of that name


@overload
def load(name: Literal["toy-superposition"]) -> ToySuperposition: ...  # type: ignore[overload-overlap]
@overload
def load(name: Literal["storyteller-4l-sae"]) -> Dictionary: ...  # type: ignore[overload-overlap]
@overload
def load(
    name: str | Path | Model | nn.Module | tuple[nn.Module, Any], *, checkpoint: int | str | None = None
) -> Model: ...
def load(name: Any, *, checkpoint: int | str | None = None) -> Any:
    """Get a model by name: a shipped one, a folder, or a Hugging Face id; or wrap one that you have.

    >>> shipped()                                     # the names of the model systems that come with the package
    >>> load("induction-2l")
    >>> load("induction-2l", checkpoint=1000)         # an earlier moment of its training
    >>> load("./my-model"), load("openai-community/gpt2")
    >>> load((module, tokenizer))

    Weights are read from safetensors only, and no code comes with them. On the hub, `checkpoint` is a revision. Two of
    what is shipped are no transformers: "toy-superposition" is a `ToySuperposition`, and a folder of dictionaries is
    its main `Dictionary`, as from `load_dictionary`.
    """
    if not isinstance(name, (str, Path)):
        if checkpoint is not None:
            raise InputError("checkpoint= picks a stored state of a model given by name; this one is loaded.")
        return as_model(name)
    if str(name) in shipped():
        return _from_folder(SYSTEMS / str(name), str(name), checkpoint)
    if str(name) and Path(name).expanduser().is_dir():
        return _from_folder(Path(name).expanduser(), Path(name).resolve().name, checkpoint)
    return _from_hub(str(name), None if checkpoint is None else str(checkpoint))


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SYSTEMS.glob("*/config.json"))


def checkpoints(folder: Path) -> dict[int, Path]:
    """The stored training states of a model folder, by step."""
    found = {int(path.parent.name[len("step-") :]): path.parent for path in folder.glob(_STATES)}
    return dict(sorted(found.items()))


def _from_folder(folder: Path, name: str, checkpoint: int | str | None) -> Any:
    if checkpoint is None and dictionary_names(folder):
        return load_dictionary(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a model: it has no config.json, which save_pretrained(…) writes.")
    weights = folder if checkpoint is None else _checkpoint(folder, name, checkpoint)
    if (
        json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        == ToySuperposition.config_class.model_type
    ):
        with _quietly(True):
            toys: nn.Module = ToySuperposition.from_pretrained(folder, use_safetensors=True)
        return toys.eval()
    # A checkpoint shares its parent's config, and may be stored in half precision to save room.
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    options = {"dtype": torch.float32} if checkpoint is not None else {}
    module = _weights(weights, name, config, local_files_only=True, **options)
    label = name if checkpoint is None else f"{name} {weights.name}"
    return Model(module, _tokenizer(folder, local_files_only=True), name=label)


def _checkpoint(folder: Path, name: str, checkpoint: int | str) -> Path:
    states = checkpoints(folder)
    step = re.fullmatch(r"(?:step-)?(\d+)", str(checkpoint))
    if step is None or int(step[1]) not in states:
        known = f"it has those of the steps {', '.join(map(str, states))}" if states else "it has none"
        raise UnknownModelError(f"{name} has no checkpoint {checkpoint!r}; {known}.")
    return states[int(step[1])]


def _from_hub(name: str, revision: str | None) -> Model:
    if not _HUB_ID.fullmatch(name):
        raise _unknown(name, "it is no folder, and cannot be a Hugging Face id either")
    try:
        return _from_pretrained(name, revision, local_files_only=True)
    except OSError:  # not here, or not all of it
        pass
    if constants.HF_HUB_OFFLINE:
        raise _unknown(name, "it is no folder, the local cache does not have it, and HF_HUB_OFFLINE is set")
    try:
        # Asked first, with a time limit: a typo without a network should not wait for a download to be given up.
        HfApi().model_info(name, revision=revision, timeout=_PATIENCE)
    except HfHubHTTPError as error:
        at = "" if revision is None else f" at revision {revision!r}"
        why = f"it is no folder, and the Hugging Face hub does not give it out{at} ({_first_line(error)})"
        raise _unknown(name, why) from error
    except Exception as error:  # what a failed connection raises depends on the hub client's version
        why = f"it is no folder, and the Hugging Face hub cannot be reached ({type(error).__name__})"
        raise _unknown(name, why) from error
    return _from_pretrained(name, revision, local_files_only=False)


def _from_pretrained(name: str, revision: str | None, *, local_files_only: bool) -> Model:
    where: dict[str, Any] = {"local_files_only": local_files_only, "revision": revision or "main"}
    config = transformers.AutoConfig.from_pretrained(name, **where)
    module = _weights(name, name, config, **where)
    return Model(module, _tokenizer(name, **where), name=name if revision is None else f"{name} {revision}")


def _weights(source: str | Path, name: str, config: Any, **options: Any) -> nn.Module:
    """The module of the class that the config names, with its weights."""
    architectures = getattr(config, "architectures", None) or []
    classes = [getattr(transformers, kind, None) for kind in architectures]
    if not classes or classes[0] is None:
        given = f"names {architectures[0]!r}" if architectures else "names no architecture"
        raise InputError(
            f"The config of {name} {given}, which transformers {transformers.__version__} does not have. Build the "
            "module yourself, and pass it on: load((module, tokenizer))."
        )
    try:
        with _quietly(options["local_files_only"]):
            module: nn.Module = classes[0].from_pretrained(source, config=config, use_safetensors=True, **options)
    except OSError as error:
        if options["local_files_only"] and not Path(source).is_dir():
            raise  # not in the cache
        raise InputError(
            f"{name} has no weights in safetensors ({_first_line(error)}). Pickled weights can run code and are not "
            "read; convert them with save_pretrained(…)."
        ) from error
    return module.eval()


@contextmanager
def _quietly(quiet: bool) -> Iterator[None]:
    """Without a progress bar, for reading a file, which is quick; a download shows how far it is."""
    logging: Any = transformers.utils.logging
    if not (quiet and logging.is_progress_bar_enabled()):
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _tokenizer(source: str | Path, **options: Any) -> Any:
    """The tokenizer stored beside the weights; None where there is none, since token ids are prompts too."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError):
        return None
    # Without files, transformers makes up a tokenizer of the model's type that knows nothing but special tokens.
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_ids) else None


def _unknown(name: str, why: str) -> UnknownModelError:
    known = [*shipped(), *_cached()]
    near = get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    offer = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownModelError(
        f"There is no model {name!r}: {why}.{offer} Shipped with the package: {', '.join(shipped()) or 'none'}. "
        "Otherwise give a folder, a Hugging Face id, or (module, tokenizer)."
    )


def _cached() -> list[str]:
    """Hub ids of the models in the local cache."""
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
