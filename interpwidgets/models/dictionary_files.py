"""Dictionaries by name: those shipped with the package, and folders in the layouts of SAELens and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpwidgets.errors import InputError, UnknownModelError
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.layouts import circuit_tracer, dictionary_learning, saelens
from interpwidgets.models.layouts.weights import PICKLES, pickled, pickles, read_json

if TYPE_CHECKING:
    from interpwidgets.models.sites import Site

__all__ = ["dictionary_names", "load_dictionary"]

SYSTEMS = Path(__file__).parent / "systems"
BUNDLE = "config.json"


def load_dictionary(name: str | Path | Any, which: str | None = None, *, site: Site | None = None) -> Dictionary:
    """Get a dictionary: a shipped one by the name of its bundle, one from a folder, or your own functions as one.

    >>> load_dictionary("storyteller-4l-sae")
    >>> load_dictionary("storyteller-4l-sae", which="transcoder.1")
    >>> load_dictionary("./my-sae")
    >>> load_dictionary((encode, decode, W_dec), site=("resid_post", 8))      # see Dictionary.wrap

    A folder is in the layout of SAELens (also of before version 6), dictionary_learning or circuit-tracer. `which`
    picks one of several; the main one if None. `site` says where it reads if the folder does not. Weights are read
    from safetensors only: a pickle is refused with InputError, which says how to convert it.
    """
    if not isinstance(name, (str, Path)):
        if site is None:
            raise InputError("Functions do not say what they read: load_dictionary(…, site=('resid_post', 8)).")
        return Dictionary.wrap(*(name if isinstance(name, tuple) else (name,)), site=site[0], layer=site[1])
    folder = _folder(name)
    if folder.suffix in PICKLES:
        raise pickled(folder)
    if not folder.is_dir():
        shipped = sorted({path.parent.parent.name for path in SYSTEMS.glob(f"*/*/{saelens.CONFIG}")})
        raise UnknownModelError(
            f"There is no dictionary {str(name)!r}: it is no folder. Shipped with the package: {', '.join(shipped)}."
        )
    if not _is_single(folder):
        return _one_of(folder, which, site)
    if which is not None:
        raise InputError(f"{folder} holds one dictionary; leave `which` out.")
    return _read(folder, site)


def _one_of(folder: Path, which: str | None, site: Site | None) -> Dictionary:
    """One of the dictionaries of a bundle: the main one if none is named."""
    names = dictionary_names(folder)
    if not names:
        if found := pickles(folder):
            raise pickled(found[0])
        raise InputError(
            f"{folder} holds no dictionary: there is no {saelens.CONFIG} and no {dictionary_learning.CONFIG} with a "
            "trainer, neither here nor one folder down, and no layer_….safetensors."
        )
    if which is None and len(names) > 1 and not _order(folder):
        raise InputError(f"{folder} holds several dictionaries; say which: {', '.join(names)}.")
    if which is not None and which not in names:
        raise UnknownModelError(f"{folder.name} has no dictionary {which!r}; it has {', '.join(names)}.")
    name = which or names[0]
    return circuit_tracer.read(folder, name) if name in circuit_tracer.names(folder) else _read(folder / name, site)


def dictionary_names(bundle: str | Path) -> list[str]:
    """List the dictionaries of a bundle, the main one first."""
    folder = _folder(bundle)
    if layers := circuit_tracer.names(folder):
        return layers
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found, order = [path.name for path in inside if _is_single(path)], _order(folder)
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _folder(name: str | Path) -> Path:
    shipped = SYSTEMS / str(name)
    return shipped if any(shipped.glob(f"*/{saelens.CONFIG}")) else Path(name).expanduser()


def _is_single(folder: Path) -> bool:
    return (folder / saelens.CONFIG).is_file() or dictionary_learning.is_one(folder)


def _read(folder: Path, site: Site | None) -> Dictionary:
    if (folder / saelens.CONFIG).is_file():
        return saelens.read(folder, site)
    return dictionary_learning.read(folder, site)


def _order(folder: Path) -> list[str]:
    """The names of a bundle in its own order; none if it does not say."""
    order = read_json(folder / BUNDLE).get("dictionaries") if (folder / BUNDLE).is_file() else None
    return order if isinstance(order, list) else []
