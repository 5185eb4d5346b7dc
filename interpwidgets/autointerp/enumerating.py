"""Statements about all features of a store: of how many they hold, which break them, what a sample allows to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from tqdm.auto import tqdm

from interpwidgets.errors import InputError
from interpwidgets.features import Feature, FeatureStore

__all__ = ["Enumeration", "enumerate_features"]

Rule = str | Callable[[Feature], bool]


@dataclass(frozen=True)
class Enumeration:
    """What was found of a statement about all features.

    `most` is how many of all features break it at most, at `level`: exact where all were checked, else from the
    hypergeometric distribution of a sample without replacement. Of a small part of many, that is Clopper and Pearson's
    bound, and if none breaks it the rule of three: 3 ÷ checked of them, at 95 %.
    """

    rule: str
    total: int  # features that it is about
    checked: int
    breaking: tuple[int, ...]  # features that break it
    unknown: tuple[int, ...]  # features of which it is neither true nor false, as of a score that is not there
    most: int
    level: float

    @property
    def holds(self) -> int:
        """Of how many checked features it holds."""
        return self.checked - len(self.breaking) - len(self.unknown)

    @property
    def all(self) -> bool:
        """Whether it is known to hold of every feature."""
        return self.holds == self.total

    @property
    def sampled(self) -> bool:
        """Whether some features were not checked."""
        return self.checked < self.total

    def __repr__(self) -> str:
        of = (
            f"{self.holds:,} of {self.checked:,} checked features"
            if self.sampled
            else f"{self.holds:,} of {self.total:,}"
        )
        said = [f"{self.rule}: holds of {'all ' if self.all else ''}{f'{self.total:,} features' if self.all else of}"]
        for name, some in (("broken by", self.breaking), ("unknown of", self.unknown)):
            if some:
                few = ", ".join(map(str, some[:8]))
                said.append(f"{name} {len(some):,} ({few}{', …' * (len(some) > 8)})")
        if self.sampled:
            share = f"{self.most:,} ({self.most / self.total:.2%})"
            said.append(f"of all {self.total:,}, at most {share} break it, at {self.level:.0%}")
        return "<" + "; ".join(said) + ">"


def enumerate_features(
    store: FeatureStore,
    rule: Rule,
    *,
    sample: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = True,
) -> Enumeration:
    """Check a statement; see `FeatureStore.enumerate`."""
    if not 0 < level < 1:
        raise InputError(f"level is a share between 0 and 1, such as 0.95; got {level!r}.")
    total = len(store)
    if sample is not None and not 0 < sample <= total:
        raise InputError(f"A sample is from 1 to {total:,} features; got {sample!r}.")
    if isinstance(rule, str):
        if sample is not None:
            raise InputError("A condition is checked of all features at once; leave `sample` out.")
        breaking, unknown = (_where(store, f"({rule}\n) {is_}") for is_ in ("IS FALSE", "IS NULL"))
        return Enumeration(rule, total, total, breaking, unknown, len(breaking) + len(unknown), level)
    if not callable(rule):
        raise InputError(f"A rule is a condition such as 'density < 0.01', or a function; got {type(rule).__name__}.")
    chosen = (
        range(total) if sample is None else np.sort(np.random.default_rng(seed).permutation(total)[:sample]).tolist()
    )
    bar = tqdm(chosen, desc="rule", unit="feature", delay=1.0, disable=not progress)
    breaking = tuple(index for index in bar if not rule(store[index]))
    name = getattr(rule, "__name__", repr(rule))
    name = (rule.__doc__ or name).strip().partition("\n")[0] if name != "<lambda>" else "a function"
    return Enumeration(
        name, total, len(chosen), breaking, (), most_breaking(total, len(chosen), len(breaking), level), level
    )


def _where(store: FeatureStore, condition: str) -> tuple[int, ...]:
    return tuple(int(index) for index in store.query(condition, columns=["index"], limit=None).index)


def most_breaking(total: int, checked: int, broken: int, level: float) -> int:
    """The largest number that may break it: with more, a sample with so few or fewer is less likely than 1 − level."""
    low, high = broken, total - (checked - broken)
    while low < high:
        middle = (low + high + 1) // 2
        if stats.hypergeom.cdf(broken, total, middle, checked) >= 1 - level:
            low = middle
        else:
            high = middle - 1
    return low
