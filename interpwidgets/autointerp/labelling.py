"""Label the features of a store: examples, a label, scores on other text, the same for controls, and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from interpwidgets.autointerp import controls as control
from interpwidgets.autointerp.budget import Estimate
from interpwidgets.autointerp.evidence import Evidence, evidence
from interpwidgets.autointerp.kinds import kinds as two_kinds
from interpwidgets.autointerp.labeler import Labeler
from interpwidgets.autointerp.report import Labelled, Report
from interpwidgets.autointerp.scores import scores
from interpwidgets.autointerp.sources import OfStore, Sampled, Source
from interpwidgets.autointerp.statistics import StatisticsLabeler
from interpwidgets.errors import BudgetError, InputError
from interpwidgets.features import FeatureStore, Label
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model

__all__ = ["CONTROLS", "label"]

CONTROLS = 40  # features of every control, at most
_WRITTEN = 64  # labels written at a time
Others = Mapping[str, tuple[Any, Dictionary]]


def label(
    store: FeatureStore,
    labeler: Labeler | None = None,
    *,
    features: Sequence[int] | str | None = None,
    controls: bool | Others = True,
    kinds: bool = True,
    simulation: bool = True,
    dry_run: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Report | Estimate:
    """Label features and score the labels; see `FeatureStore.label`."""
    labeler = labeler or StatisticsLabeler()
    if not isinstance(labeler, Labeler):
        raise InputError(f"A labeler has a name, and answers label(…) and predict(…); got {type(labeler).__name__}.")
    work = _Work(store, labeler, seed, kinds, simulation, progress)
    chosen = _chosen(store, features)
    others = _others(controls)
    if not dry_run:
        return work.report(chosen, controls is not False, others, write=True)
    if not hasattr(labeler, "dry_run"):
        return Estimate(labeler.name)
    twin = labeler.dry_run()
    _Work(store, twin, seed, kinds, simulation, progress).report(chosen, controls is not False, others, write=False)
    return twin.estimate  # type: ignore[no-any-return]


def _chosen(store: FeatureStore, features: Sequence[int] | str | None) -> list[int]:
    if features is None:
        return list(range(len(store)))
    if isinstance(features, str):
        return [int(index) for index in store.query(features, columns=["index"], limit=None).index]
    return [store[index].index for index in features]


def _others(controls: bool | Others) -> dict[str, tuple[Model, Dictionary]]:
    if isinstance(controls, bool):
        return {}
    found = {}
    for name, pair in controls.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Dictionary)):
            raise InputError(f"A control is a (model, dictionary); {name!r} is {type(pair).__name__}.")
        found[name] = (as_model(pair[0]), pair[1])
        pair[1].check(found[name][0])
    return found


class _Work:
    """One labeler at work on one store."""

    def __init__(
        self, store: FeatureStore, labeler: Labeler, seed: int, kinds: bool, simulation: bool, progress: bool
    ) -> None:
        self.store, self.labeler, self.seed, self.progress = store, labeler, seed, progress
        self.kinds, self.simulation = kinds, simulation
        self.source = OfStore(store, seed)
        self.missing: dict[int, str] = {}

    def report(
        self, chosen: list[int], controls: bool, others: dict[str, tuple[Model, Dictionary]], write: bool
    ) -> Report:
        """Label the features, then the controls; a budget that is used up ends it, and what there is is kept."""
        found: list[Labelled] = []
        beside: dict[str, list[Labelled]] = {}
        unwritten: list[Labelled] = []
        stopped = ""
        try:
            with self._bar(len(chosen), "labels") as bar:
                for feature in chosen:
                    one = self._one(self.source, feature, self.kinds)
                    bar.update()
                    if one is None:
                        continue
                    found.append(one)
                    unwritten.append(one)
                    if write and len(unwritten) == _WRITTEN:
                        self._write(unwritten)
            if controls and found:
                for name, make in self._controls(found, others).items():
                    beside[name] = make()
        except BudgetError as error:
            stopped = str(error)
        finally:
            if write and unwritten:
                self._write(unwritten)
        return Report(self.labeler.name, found, beside, self.missing, stopped)

    def _one(self, source: Source, feature: int, kinds: bool = False) -> Labelled | None:
        """Label and score a feature; None if there is too little of it, or nothing to say."""
        here = evidence(source, feature, seed=self.seed)
        mine = source is self.source
        said = self.labeler.label(here.train) if here.positives("train") else []
        if not said:
            if mine:
                self.missing[feature] = "nothing found to say" if here.positives("train") else "too few examples"
            return None
        result = scores(self.labeler, said[0], here, simulation=self.simulation, seed=self.seed)
        if mine and not result["detection"].n:
            self.missing[feature] = "too few examples held out to score its label"
        return Labelled(feature, said[0], result, two_kinds(self.labeler, said[0], here) if kinds else None)

    def _controls(
        self, found: list[Labelled], others: dict[str, tuple[Model, Dictionary]]
    ) -> dict[str, Callable[[], list[Labelled]]]:
        rng = np.random.default_rng([self.seed, 2])
        some = [found[i] for i in rng.permutation(len(found))[:CONTROLS]]
        features = [each.feature for each in some]
        source, model = self.source, self.source.model

        def of(make: Callable[[], Sampled]) -> Callable[[], list[Labelled]]:
            return lambda: self._all(make())

        made: dict[str, Callable[[], list[Labelled]]] = {
            "shuffled labels": lambda: self._shuffled(some, found, rng),
            "other tokens": of(lambda: control.other_tokens(source, features, self.seed)),
            "random directions": of(lambda: control.random_directions(source, model, features, self.seed)),
        }
        if not others:
            made["random directions, untrained model"] = of(
                lambda: control.random_directions(source, control.untrained(model, self.seed), features, self.seed)
            )
        for name, (other, one) in others.items():
            theirs = rng.permutation(one.d_dict)[: len(features)].tolist()
            made[name] = of(partial(control.their_features, source, other, one, theirs, self.seed))
        return made

    def _all(self, source: Sampled) -> list[Labelled]:
        count = source.dense.shape[1]
        with self._bar(count, "controls") as bar:
            made = []
            for feature in range(count):
                made.append(self._one(source, feature))
                bar.update()
        return [each for each in made if each is not None]

    def _shuffled(self, some: list[Labelled], found: list[Labelled], rng: np.random.Generator) -> list[Labelled]:
        """Features with the label of another, which says something else."""
        made = []
        for one in some:
            others = [each.label for each in found if each.label != one.label]
            if others:
                wrong = others[int(rng.integers(len(others)))]
                here: Evidence = evidence(self.source, one.feature, seed=self.seed)
                result = scores(self.labeler, wrong, here, simulation=self.simulation, seed=self.seed)
                made.append(Labelled(one.feature, wrong, result))
        return made

    def _write(self, labelled: list[Labelled]) -> None:
        def said(one: Labelled) -> Label:
            score = one.scores["detection"]
            value, low, high = (x if np.isfinite(x) else None for x in (score.value, score.low, score.high))
            return Label(one.label, value, low, high, self.labeler.name)

        self.store.set_labels({one.feature: said(one) for one in labelled})
        labelled.clear()

    def _bar(self, total: int, said: str) -> Any:
        return tqdm(total=total, desc=said, unit="feature", delay=1.0, disable=not self.progress)
