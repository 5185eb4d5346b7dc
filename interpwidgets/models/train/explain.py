"""Find which concept each feature stands for, on one half of a text, and score it on the other.

A feature is explained by a concept as far as it is active where the concept is true: by F1, at the activation that
fits best. Neither the concept nor the activation is chosen on the tokens that the score is from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from interpwidgets.models.corpora.storybook import TOKEN_ID

if TYPE_CHECKING:
    from torch import Tensor

    from interpwidgets.models.train.concepts import Labelled

__all__ = ["LEVELS", "Explained", "Half", "explained"]

LEVELS = (1.0, 0.128, 0.064, 0.032, 0.016, 0.008, 0.004, 0.002)
"""On which shares of the tokens a feature may count as active, if it is active on more."""

_WORDS = len(TOKEN_ID)


class Half(NamedTuple):
    """Features on one half of a text, and what is true there. Concepts are words, then classes, then context."""

    features: Tensor  # [token, feature]
    ids: Tensor  # [token]
    labels: Tensor  # [token, class or context] of 0 and 1

    @staticmethod
    def of(features: Tensor, text: Labelled, turn: int = 0) -> Half:
        """Put features beside the labels of their text, or of the row that is `turn` rows away."""
        ids = text.tokens[:, 1:]
        labels = torch.cat([text.classes, text.context], dim=1)
        turned = labels.view(*ids.shape, -1).roll(turn, 0)
        return Half(features, ids.roll(turn, 0).flatten(), turned.flatten(0, 1))

    def together(self, active: Tensor) -> Tensor:
        """Count the tokens where a feature [token, feature] is active and a concept is true: [concept, feature]."""
        words = torch.zeros(_WORDS, active.shape[1]).index_add_(0, self.ids, active)
        return torch.cat([words, self.labels.T @ active])

    def sizes(self) -> Tensor:
        """Count the tokens where a concept is true: [concept]."""
        return torch.cat([self.ids.bincount(minlength=_WORDS).float(), self.labels.sum(0)])


class Explained(NamedTuple):
    """What features stand for, and how well: chosen on one half, scored on the other."""

    concept: Tensor  # [feature]
    threshold: Tensor  # [feature], above which it counts as active
    precision: Tensor  # [feature]
    recall: Tensor  # [feature]
    f1: Tensor  # [feature]
    feature: Tensor  # [class or context], the one that stands for it best
    concept_f1: Tensor  # [class or context]; NaN where there is too little of it to tell
    classes: int

    def share(self, above: float, family: str = "any") -> float:
        """The share of all features that a concept explains with an F1 above a value; of one family if named."""
        last = _WORDS + self.classes
        inside = {
            "any": self.concept >= 0,
            "word": self.concept < _WORDS,
            "class": (self.concept >= _WORDS) & (self.concept < last),
            "context": self.concept >= last,
        }[family]
        return float(((self.f1 > above) & inside).float().mean())

    def mean_f1(self, family: str) -> float:
        """The mean over the concepts of a family of how well the best feature of each stands for it."""
        chosen = self.concept_f1[: self.classes] if family == "class" else self.concept_f1[self.classes :]
        return float(chosen.nanmean())


@torch.no_grad()
def explained(choosing: Half, scoring: Half, classes: int, least: int = 20) -> Explained:
    """Choose on one half, score on the other; `classes` of the labels are classes, the others context."""
    thresholds = _thresholds(choosing.features)  # [level, feature]
    sizes = choosing.sizes()
    features = thresholds.shape[1]
    best, concept, level = torch.full((features,), -1.0), torch.zeros(features).long(), torch.zeros(features).long()
    labels = len(sizes) - _WORDS
    best_of, feature, level_of = torch.full((labels,), -1.0), torch.zeros(labels).long(), torch.zeros(labels).long()
    for number, threshold in enumerate(thresholds):
        active = (choosing.features > threshold).float()
        scores = 2 * choosing.together(active) / (active.sum(0) + sizes[:, None]).clamp(min=1)  # F1 [concept, feature]
        f1, which = scores.max(0)
        better = f1 > best
        best, concept, level = f1.where(better, best), which.where(better, concept), level.where(~better, number)
        f1, which = scores[_WORDS:].max(1)
        better = f1 > best_of
        best_of, feature, level_of = (
            f1.where(better, best_of), which.where(better, feature), level_of.where(~better, number)
        )  # fmt: skip
    own = thresholds.gather(0, level[None])[0]
    active = (scoring.features > own).float()
    hits = scoring.together(active).gather(0, concept[None])[0]
    found, true = active.sum(0), scoring.sizes()[concept]
    active = (scoring.features[:, feature] > thresholds[level_of, feature]).float()  # [token, class or context]
    size = scoring.labels.sum(0)
    of_concepts = 2 * (active * scoring.labels).sum(0) / (active.sum(0) + size).clamp(min=1)
    enough = (size >= least) & (sizes[_WORDS:] >= least)
    return Explained(
        concept=concept,
        threshold=own,
        precision=hits / found.clamp(min=1),
        recall=hits / true.clamp(min=1),
        f1=2 * hits / (found + true).clamp(min=1),
        feature=feature,
        concept_f1=of_concepts.where(enough, torch.nan),
        classes=classes,
    )


def _thresholds(features: Tensor) -> Tensor:
    """Above which value a feature is active on no more than a share of the tokens: [level, feature]."""
    ordered = features.T.contiguous().sort(dim=1, descending=True).values
    at = [min(len(features) - 1, round(level * len(features))) for level in LEVELS[1:]]
    return torch.cat([torch.zeros(1, features.shape[1]), ordered[:, at].T.relu()])
