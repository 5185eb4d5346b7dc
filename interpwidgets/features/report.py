"""How well a dictionary stands in for what it reads, in the numbers that the field reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpwidgets.errors import InputError
from interpwidgets.features.absorption import Absorbed, Pairs
from interpwidgets.features.contexts import Contexts, contexts_of, cut_corpus, flat
from interpwidgets.features.corpus import Corpus
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model, as_model
from interpwidgets.models.scores import token_losses
from interpwidgets.models.splice import replaced
from interpwidgets.stats import interval

__all__ = ["DictionaryReport", "Estimate", "dictionary_report"]

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number, and the bootstrap interval (95 %) that it has over contexts."""

    value: float
    low: float
    high: float

    def __repr__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} … {self.high:.4g})"


@dataclass(frozen=True, eq=False, repr=False)
class DictionaryReport:
    """What `dictionary_report` measured. `print(report)` shows all of it.

    Tokens are all but padding and `<bos>`. Losses are cross entropies in nats a token, with something else standing
    where the dictionary writes, at all tokens at once: its reconstruction, zero, or the mean over tokens. A share
    recovered is 0 with zero (or the mean) there, and 1 with the model as it is.
    """

    dictionary: str
    model: str
    n_contexts: int
    n_tokens: int
    fvu: Estimate  # fraction of variance unexplained: ‖y − ŷ‖² / ‖y − mean y‖², over all tokens together
    l0: Estimate  # active features a token
    loss: Estimate  # of the model as it is
    loss_reconstructed: Estimate
    loss_zero: Estimate
    loss_mean: Estimate
    recovered: Estimate  # of the loss between zero and the model as it is
    recovered_mean: Estimate  # between the mean and the model as it is
    counts: NDArray[np.int64] = field(repr=False)  # [d_dict], tokens at which each feature is active
    absorbed: list[Absorbed] = field(repr=False)  # pairs that look like feature absorption: a reason to look

    @property
    def density(self) -> Floats:
        """The share of tokens at which each feature is active: [d_dict]."""
        return self.counts / self.n_tokens

    @property
    def dead(self) -> float:
        """The share of features that are active at none of these tokens; of more tokens, fewer would be."""
        return float((self.counts == 0).mean())

    def density_histogram(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """How many features have which density, the dead ones left out: edges [bin + 1] in log10, counts [bin]."""
        alive = np.log10(self.density[self.counts > 0])
        counts, edges = np.histogram(alive, bins=20, range=(min(-5.0, np.log10(1 / self.n_tokens)), 0.0))
        return edges, counts

    def __repr__(self) -> str:
        return (
            f"<report of {self.n_tokens:,} tokens: FVU {self.fvu.value:.3g}, L0 {self.l0.value:.3g}, "
            f"{self.recovered.value:.1%} of the loss recovered, {self.dead:.1%} of {len(self.counts)} features dead, "
            f"{len(self.absorbed)} pairs that look like absorption>"
        )

    def __str__(self) -> str:
        lines = {
            "variance unexplained (FVU)": self.fvu,
            "active features a token (L0)": self.l0,
            "loss of the model, nats": self.loss,
            "  with the reconstruction": self.loss_reconstructed,
            "  with zero": self.loss_zero,
            "  with the mean": self.loss_mean,
            "loss recovered, from zero": self.recovered,
            "loss recovered, from the mean": self.recovered_mean,
            "dead features": f"{self.dead:.4g} of {len(self.counts)}",
            "density, by powers of ten": _bars(self.density[self.counts > 0]),
            "pairs like absorption": f"{len(self.absorbed)} (a reason to look, not a finding)",
        }
        head = f"{self.dictionary}\non {self.n_tokens:,} tokens in {self.n_contexts:,} contexts; 95 % intervals"
        return "\n".join([head, *(f"{name:<31}{value!s}" for name, value in lines.items())])


def dictionary_report(
    dictionary: Dictionary,
    model: Model | Any,
    corpus: Any,
    *,
    context: int = 128,
    batch: int = 16,
    progress: bool = True,
) -> DictionaryReport:
    """Measure a dictionary on a corpus: FVU, L0, loss recovered, dead features, density, signs of absorption.

    >>> print(dictionary_report(sae, model, corpus))

    The corpus is what `FeatureStore.build` takes: an iterable of texts or token ids, a folder, a split of `datasets`.
    It is read twice, five forward passes in all. Intervals are over contexts, which are taken for independent. Raises
    InputError for a dictionary that is not of this model, or of several layers, and for an empty corpus.
    """
    model = as_model(model)
    dictionary.check(model)
    if len(dictionary.reads) > 1 or len(dictionary.writes) > 1:
        raise InputError(f"{dictionary!r} is of several layers; reports are of dictionaries that read and write one.")
    with cut_corpus(corpus, model, dictionary, context) as (cut, _), torch.no_grad():
        measured = _Measured(dictionary, model, cut, batch)
        for number, rows in measured.batches("activations", progress):
            measured.fit(number, rows)
        for number, rows in measured.batches("losses", progress):
            measured.losses(number, rows)
        return measured.report()


class _Measured:
    """Sums over the tokens of each context."""

    def __init__(self, one: Dictionary, model: Model, corpus: Corpus, batch: int) -> None:
        self.one, self.model, self.corpus, self.batch = one, model, corpus, batch
        n = len(corpus)
        self.tokens, self.active, self.error, self.square = np.zeros((4, n))
        self.total = np.zeros((n, one.d_out))  # sum of what is written, for the variance around the mean
        self.loss = np.zeros((4, n))  # of the model, with the reconstruction, with zero, with the mean
        self.predicted = np.zeros(n)
        self.counts = torch.zeros(one.d_dict, dtype=torch.int64)
        self.pairs = Pairs(one)

    def batches(self, what: str, progress: bool) -> Any:
        """(numbers, rows) of all contexts, as many at a time as memory allows."""
        from tqdm.auto import tqdm

        order = np.argsort(-np.diff(self.corpus.starts), kind="stable")  # of one length together: less padding
        parts = [order[first : first + self.batch] for first in range(0, len(order), self.batch)]
        for part in tqdm(parts, desc=what, unit="batch", delay=1.0, disable=not progress):
            yield part, contexts_of(self.corpus, part, self.model.device)

    def fit(self, number: NDArray[np.int64], rows: Contexts) -> None:
        """Add how well contexts are reconstructed, and by how many features."""
        one, (reads,), (writes,) = self.one, self.one.reads, self.one.writes
        found = flat(self.model, rows, {reads, writes})
        x, y = (found[site].to(one.W_dec.device) for site in (reads, writes))
        features = one.encode(x)
        if not bool(features.sum(dtype=torch.float64).isfinite()):
            raise InputError(f"{one!r} finds NaN or infinite activations in what {self.model!r} computes.")
        error = (y - one.decode(features, x)).double().square().sum(-1)
        active = features > 0
        self.counts += active.sum(0).cpu()
        self.pairs.add(features, y)
        of = torch.nonzero(rows.counted)[:, 0].cpu().numpy()  # which row each token is of
        for kept, values in (
            (self.tokens, torch.ones(len(y))),
            (self.active, active.sum(-1)),
            (self.error, error),
            (self.square, y.double().square().sum(-1)),
        ):
            np.add.at(kept, number[of], values.double().cpu().numpy())
        np.add.at(self.total, number[of], y.double().cpu().numpy())

    def losses(self, number: NDArray[np.int64], rows: Contexts) -> None:
        """Add the losses of contexts as they are, and with something else in the place of what is written."""
        one, (reads,), (writes,) = self.one, self.one.reads, self.one.writes
        mean = torch.from_numpy(self.total.sum(0) / self.tokens.sum()).float()

        def instead(new: Any) -> Any:
            def change(here: Tensor, there: Tensor) -> Tensor:
                value = new(here).to(there).reshape(there.shape)
                where = rows.counted.reshape(*rows.counted.shape, *[1] * (there.ndim - 2))
                return torch.where(where, value, there)

            return change

        def constant(value: Tensor) -> Any:
            shape = (*rows.ids.shape, one.d_out)
            return lambda here: value.to(here.device).expand(shape)

        def rebuilt(here: Tensor) -> Tensor:
            x = here.flatten(2).to(one.W_dec)
            return one.decode(one.encode(x), x)

        kept = rows.real[:, 1:]
        for row, change in enumerate(
            (
                lambda _, there: there,
                instead(rebuilt),
                instead(constant(torch.zeros(one.d_out))),
                instead(constant(mean)),
            )
        ):
            logits = replaced(self.model, rows.ids, reads, writes, change, rows.mask)
            losses = torch.where(kept, token_losses(logits, rows.ids), 0.0)
            self.loss[row, number] = losses.double().sum(-1).cpu().numpy()
        self.predicted[number] = kept.sum(-1).cpu().numpy()

    def report(self) -> DictionaryReport:
        """Put the sums together."""
        mean = self.total.sum(0) / self.tokens.sum()
        variance = self.square - 2 * self.total @ mean + self.tokens * (mean @ mean)
        clean, rebuilt, zero, average = self.loss
        return DictionaryReport(
            dictionary=repr(self.one)[1:-1],
            model=self.model.name,
            n_contexts=len(self.corpus),
            n_tokens=int(self.tokens.sum()),
            fvu=ratio(self.error, variance),
            l0=ratio(self.active, self.tokens),
            loss=ratio(clean, self.predicted),
            loss_reconstructed=ratio(rebuilt, self.predicted),
            loss_zero=ratio(zero, self.predicted),
            loss_mean=ratio(average, self.predicted),
            recovered=ratio(zero - rebuilt, zero - clean),
            recovered_mean=ratio(average - rebuilt, average - clean),
            counts=self.counts.numpy(),
            absorbed=self.pairs.found(int(self.tokens.sum())),
        )


def ratio(above: Floats, below: Floats) -> Estimate:
    """The ratio of two sums over contexts, and its interval: bootstrap of the ratio made linear around its value.

    NaN where there is nothing to divide by, or one context.
    """
    whole = below.sum()
    if whole == 0:
        return Estimate(np.nan, np.nan, np.nan)
    value = above.sum() / whole
    low, high = interval(value + (above - value * below) / below.mean())
    return Estimate(float(value), float(low), float(high))


def _bars(density: Floats) -> str:
    """Counts of features by powers of ten of their density."""
    power = np.clip(np.floor(np.log10(density)), -6, -1).astype(int)
    return ", ".join(f"10^{each}…: {int((power == each).sum())}" for each in range(-6, 0) if (power == each).any())
