"""Interventions as values: what to change in a forward pass, and where. Nothing here touches a model.

Several interventions on one site are applied in the order of their list; otherwise the model's own order decides,
so that what comes later in the network sees what was changed before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from interpwidgets.errors import InputError
from interpwidgets.models.recording import Recording
from interpwidgets.models.sites import BY_KEY, LAYERLESS, PER_HEAD, SITE_SHAPES, parse_site

__all__ = ["Ablate", "Freeze", "Intervention", "Patch", "Scale", "Steer"]

Positions = int | slice | Sequence[int] | None


@dataclass(frozen=True, eq=False, repr=False)
class Intervention:
    """A change at one site: of a layer, of some heads and positions, or only along a direction.

    - site, layer: where, in the field's names or TransformerLens' (see `SITE_SHAPES`)
    - head: one or several heads, of a site that has them; all if None
    - pos: positions, negative ones from the prompt's end; all if None. Of `scores` and `pattern`: queries; of `k` and
      `v`: keys
    - direction: [d], change only the component along it
    """

    site: str
    layer: int | None = None
    _: KW_ONLY
    head: int | Sequence[int] | None = None
    pos: Positions = None
    direction: Any = None

    def __post_init__(self) -> None:
        sites = parse_site(self.site, self.layer)
        if len(sites) > 1:
            raise InputError(f"{self.site!r} names several sites; intervene on {' or '.join(s for s, _ in sites)}.")
        site, layer = sites[0]
        if site in ("lse", "logits"):
            raise InputError(f"{site!r} can be read, not written. Intervene on one of the sites before it.")
        if layer is None and site not in LAYERLESS:
            raise InputError(f"{site!r} needs a layer: {type(self).__name__}({site!r}, layer=…).")
        if self.head is not None and site not in PER_HEAD:
            raise InputError(f"{site!r} has no heads, it is {SITE_SHAPES[site]}; leave `head` out.")
        if self.direction is not None and site in BY_KEY:
            raise InputError(f"{site!r} is numbers by key, which have no direction; leave `direction` out.")
        object.__setattr__(self, "site", site)
        object.__setattr__(self, "layer", layer)

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """A factor for the values there, and what to add: [pos, …] or, of some heads, [pos, head, …]."""
        raise NotImplementedError

    @property
    def refers_to_base(self) -> bool:
        """Whether it takes values from the run that it is done to."""
        return False

    @property
    def where(self) -> str:
        """The place in words."""
        of = "" if self.layer is None else f" of layer {self.layer}"
        if self.head is not None:
            heads = [self.head] if isinstance(self.head, int) else list(self.head)
            of += f", head{'s' if len(heads) > 1 else ''} {', '.join(map(str, heads))}"
        along = "" if self.direction is None else ", along a direction"
        return f"{self.site}{of} at {_positions_in_words(self.pos)}{along}"


def _positions_in_words(pos: Positions) -> str:
    if pos is None:
        return "all positions"
    if isinstance(pos, slice):
        return f"positions {'' if pos.start is None else pos.start}:{'' if pos.stop is None else pos.stop}"
    if isinstance(pos, (int, np.integer)):
        return "the last position" if pos == -1 else f"position {pos}"
    return "positions " + ", ".join(map(str, pos))


@dataclass(frozen=True, eq=False)
class Here:
    """Where an intervention is applied: a prompt of a batch, some positions, some heads."""

    prompt: int
    prompts: int
    positions: Tensor  # [pos], from the prompt's start
    heads: Tensor | None  # [head]
    base: Recording | None  # the run that is intervened on, as far as it was asked for
    shape: tuple[int, ...]  # of a whole value at one position: [d_model], [head, d_head], …
    model: Any

    def pick(self, value: Tensor) -> Tensor:
        """Of `[pos, …]` of one prompt, the positions and heads."""
        value = value[self.positions.to(value.device)]
        return value if self.heads is None else value[:, self.heads.to(value.device)]


@dataclass(frozen=True, eq=False, repr=False)
class Patch(Intervention):
    """Replace values by those of another run, or by given ones.

    `value` is a Recording of the same model (one prompt, or as many as are run), a tensor [batch, pos, …] or [pos, …]
    like the site, a tensor that fits one position, or a number. Activation patching: Vig et al. 2020; Geiger et al.
    2021 ("interchange intervention").
    """

    value: Any = None

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """The replacement."""
        return 0.0, _values(self, self.value, here)

    def __repr__(self) -> str:
        return f"Patch: {self.where} becomes {_value_in_words(self.value)}"


@dataclass(frozen=True, eq=False, repr=False)
class Freeze(Intervention):
    """Hold values at what they are in a run without interventions: the one intervened on, or another Recording.

    Used to let an effect pass by some paths only (Wang et al. 2022, §3.1 "path patching").
    """

    value: Recording | None = None

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """The values held on to."""
        return 0.0, _values(self, here.base if self.value is None else self.value, here)

    @property
    def refers_to_base(self) -> bool:
        """If no other run is given."""
        return self.value is None

    def __repr__(self) -> str:
        run = "the run itself" if self.value is None else repr(self.value)
        return f"Freeze: {self.where} stays as in {run}"


@dataclass(frozen=True, eq=False, repr=False)
class Ablate(Intervention):
    """Remove what a component says: put zero, its mean, or its value on another prompt in its place.

    - kind "zero"; "mean" over prompts and positions of `reference`, or with `per_pos` over prompts only; "resample":
      its value at the same position of another prompt of `reference`, drawn with `seed`
    - reference: a Recording of this site; the run itself if None

    Mean and resample ablation keep activations in distribution where zero does not: Wang et al. 2022 §2, Chan et al.
    2022 ("causal scrubbing").
    """

    kind: Literal["zero", "mean", "resample"] = "zero"
    reference: Recording | None = None
    per_pos: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("zero", "mean", "resample"):
            raise InputError(f"An ablation is of kind 'zero', 'mean' or 'resample'; got {self.kind!r}.")

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """What stands in place of the component's values."""
        if self.kind == "zero":
            return 0.0, None
        reference = here.base if self.reference is None else self.reference
        assert reference is not None
        last = int(here.positions.max()) if here.positions.numel() else 0
        if self.kind == "mean" and self.site not in BY_KEY:
            mean = reference.mean(self.site, self.layer, per_pos=self.per_pos)
            if self.per_pos:
                return 0.0, here.pick(_long_enough(mean, here, f"The mean over {reference!r}"))
            return 0.0, here.pick(mean.expand(last + 1, *mean.shape))
        values = _emitted(self, reference, here)  # [batch, pos, …]
        if self.kind == "mean":
            mean = torch.nanmean(values, dim=(0,) if self.per_pos else (0, 1))
            return 0.0, here.pick(mean if self.per_pos else mean.expand(values.shape[1], *mean.shape))
        own = here.prompt if reference is here.base else -1
        fit = [i for i, tokens in enumerate(reference.tokens) if len(tokens) > last and i != own]
        if not fit:
            raise InputError(
                f"Resampling needs another prompt with a position {last}: give `reference`, a Recording of more."
            )
        rng = np.random.default_rng((self.seed, here.prompt))
        return 0.0, here.pick(values[fit[int(rng.integers(len(fit)))]])

    @property
    def refers_to_base(self) -> bool:
        """If it is not to zero, and no other run is given."""
        return self.kind != "zero" and self.reference is None

    def __repr__(self) -> str:
        means = {"zero": "zero", "mean": "its mean", "resample": "its value on another prompt"}
        return f"Ablate: {self.where} becomes {means[self.kind]}"


@dataclass(frozen=True, eq=False, repr=False)
class Steer(Intervention):
    """Add a vector, `coefficient` times: Turner et al. 2023, "Activation addition"."""

    vector: Any = None
    coefficient: float = 1.0

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """What is added."""
        return 1.0, self.coefficient * _values(self, self.vector, here)

    def __repr__(self) -> str:
        return f"Steer: {self.coefficient:g} × {_value_in_words(self.vector)} is added to {self.where}"


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Intervention):
    """Multiply by a factor: 0 removes, 1 leaves, −1 reverses."""

    factor: float = 1.0

    def change(self, here: Here) -> tuple[float, Tensor | None]:
        """The factor."""
        return float(self.factor), None

    def __repr__(self) -> str:
        return f"Scale: {self.where} is multiplied by {self.factor:g}"


def _values(what: Intervention, given: Any, here: Here) -> Tensor:
    """Values for some positions and heads, from whatever they were given as."""
    if isinstance(given, Recording):
        return here.pick(_of_recording(what, given, here))
    if given is None:
        raise InputError(
            f"{type(what).__name__} at {what.site!r} has no value: give a Recording, a tensor or a number."
        )
    value = given.detach() if isinstance(given, Tensor) and not given.requires_grad else torch.as_tensor(given)
    whole = here.shape
    count = int(here.positions.numel())
    part = (count, *whole) if here.heads is None else (count, len(here.heads), *whole[1:])
    if value.ndim == len(whole) + 2 and value.shape[2:] == whole:  # [batch, pos, …]
        if value.shape[0] not in (1, here.prompts):
            raise InputError(f"The value has {value.shape[0]} prompts, and {here.prompts} are run.")
        return here.pick(_long_enough(value[here.prompt % value.shape[0]], here, "The value"))
    if value.ndim == len(whole) + 1 and value.shape[1:] == whole and value.shape[0] not in (1, count):  # [pos, …]
        return here.pick(_long_enough(value, here, "The value"))
    if value.shape == (count, *whole) and here.heads is not None and len(here.heads) < whole[0]:  # all heads
        return value[:, here.heads.to(value.device)]
    try:
        return value.broadcast_to(part)
    except RuntimeError:
        raise InputError(
            f"A value of shape {list(value.shape)} does not fit {what.where}: there it is {list(part)}, "
            "[position, …], or one position of that."
        ) from None


def _of_recording(what: Intervention, rec: Recording, here: Here) -> Tensor:
    """One prompt's values [pos, …] out of a recording."""
    if len(rec) not in (1, here.prompts):
        raise InputError(f"{rec!r} has {len(rec)} prompts, and {here.prompts} are run; record as many, or one.")
    if rec.model is not None and rec.model is not here.model and rec.name != here.model.name:
        raise InputError(f"{rec!r} is of another model than {here.model.name}.")
    if rec.positions is not None or rec.heads is not None:
        raise InputError(f"{rec!r} holds some positions or heads only; a patch needs a recording of all of them.")
    value = _emitted(what, rec, here)[here.prompt % len(rec)]
    if tuple(value.shape[1:]) != here.shape:
        raise InputError(
            f"{what.site} of layer {what.layer} is {list(here.shape)} in {here.model.name}, and "
            f"{list(value.shape[1:])} in {rec!r}: a recording of another model?"
        )
    return _long_enough(value[: len(rec.tokens[here.prompt % len(rec)])], here, repr(rec))


def _emitted(what: Intervention, rec: Recording, here: Here) -> Tensor:
    """A recording's values [batch, pos, …]; of scores and patterns, on as many keys as there are here."""
    value = rec.emitted(what.site, what.layer)
    if what.site in BY_KEY and (more := here.shape[-1] - value.shape[-1]):
        value = pad(value, (0, more), value=-torch.inf if what.site == "scores" else 0.0)
    return value


def _long_enough(value: Tensor, here: Here, what: str) -> Tensor:
    if here.positions.numel() and int(here.positions.max()) >= len(value):
        raise InputError(
            f"{what} has {len(value)} positions in prompt {here.prompt}, and position {int(here.positions.max())} is "
            "asked of it. Prompts must align token by token; or name the positions with pos=…."
        )
    return value


def _value_in_words(value: Any) -> str:
    if isinstance(value, Recording):
        return f"what it is in {value!r}"
    if isinstance(value, (int, float)):
        return f"{value:g}"
    shape = list(getattr(value, "shape", ())) or "?"
    return f"a given array {shape}"
