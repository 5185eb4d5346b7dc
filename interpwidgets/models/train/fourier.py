"""Look at a model of modular addition in the frequencies of its numbers, and take frequencies away from it.

A table over numbers 0 … p-1 is a sum of waves; frequency k goes round k times. What is measured here follows Nanda et
al. 2023, "Progress measures for grokking via mechanistic interpretability".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from interpwidgets.models.train.grokking import prompts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = [
    "embedding_power",
    "filtered",
    "key_frequencies",
    "logits_of",
    "neuron_shares",
    "neurons_of",
    "one_frequency",
    "power",
    "readout_power",
    "sum_waves",
    "trig_share",
]


def power(table: Tensor) -> Tensor:
    """Say how much of a table [number, …] is in each frequency, 0 … (p-1)/2; all of them make its squared norm."""
    waves = torch.fft.rfft(table.double(), dim=0).abs() ** 2 / len(table)
    waves[1:] *= 2  # cosine and sine: the other half of the spectrum is its mirror image
    found: Tensor = waves.flatten(1).sum(1)
    return found


def filtered(table: Tensor, frequencies: Iterable[int]) -> Tensor:
    """Keep only these frequencies of a table [number, …]; 0 is its mean."""
    waves = torch.fft.rfft(table.double(), dim=0)
    kept = torch.zeros(len(waves), dtype=torch.bool)
    kept[list(frequencies)] = True
    waves[~kept] = 0
    found: Tensor = torch.fft.irfft(waves, n=len(table), dim=0)
    return found


def embedding_power(model: Any) -> Tensor:
    """Give the share of each frequency 1 … (p-1)/2 in the embedding of the numbers, its mean left out."""
    found = power(model.transformer.wte.weight.detach()[: model.config.modulus])[1:]
    return found / found.sum()


def readout_power(model: Any) -> Tensor:
    """Give the share of each frequency 1 … (p-1)/2 in what the neurons write to the logits, through the weights."""
    out = model.transformer.h[0].mlp.c_proj.weight.detach()  # [neuron, width]
    found = power(model.lm_head.weight.detach()[: model.config.modulus] @ out.T)[1:]
    return found / found.sum()


def key_frequencies(model: Any) -> list[int]:
    """Name the frequencies that the neurons write to the logits, the strongest first: those above an even share.

    They are read off the weights, so no sum that they are tried on had a say.
    """
    shares = readout_power(model)
    order = shares.argsort(descending=True).tolist()
    return [k + 1 for k in order if shares[k] > 1 / len(shares)]


@torch.no_grad()
def logits_of(model: Any, embedding: Tensor | None = None, neurons: Tensor | None = None) -> Tensor:
    """Give the logits of the numbers at "=" for all sums [a, b, number], in double precision.

    `embedding` [number, width] stands in for that of the numbers, `neurons` [a, b, neuron] for what the MLP's neurons
    have at "=".
    """
    p, weights = model.config.modulus, {}
    if embedding is not None:
        table = model.transformer.wte.weight.detach().clone()
        table[:p] = embedding.to(table)
        weights["transformer.wte.weight"] = table
    hooks = []
    if neurons is not None:
        instead = neurons.to(model.lm_head.weight).flatten(0, 1)

        def replace(_module: Any, given: tuple[Tensor]) -> tuple[Tensor]:
            value = given[0].clone()
            value[:, -1] = instead
            return (value,)

        hooks.append(model.transformer.h[0].mlp.c_proj.register_forward_pre_hook(replace))
    try:
        logits: Tensor = functional_call(model, weights, (_all_sums(p),)).logits[:, -1, :p]
    finally:
        for hook in hooks:
            hook.remove()
    return logits.double().view(p, p, p)


@torch.no_grad()
def neurons_of(model: Any) -> Tensor:
    """Give what every neuron of the MLP has at "=" for all sums [a, b, neuron], in double precision."""
    p, seen = model.config.modulus, []
    hook = model.transformer.h[0].mlp.c_proj.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    try:
        model(_all_sums(p))
    finally:
        hook.remove()
    found: Tensor = seen[0][:, -1].double().view(p, p, -1)
    return found


def _all_sums(p: int) -> Tensor:
    numbers = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    return prompts(numbers[:, 0], numbers[:, 1], p)


def sum_waves(logits: Tensor, frequencies: Iterable[int]) -> Tensor:
    """Keep of logits [a, b, number] only waves of the sum: the cosine and sine of these frequencies of a + b."""
    p = len(logits)
    total = (torch.arange(p)[:, None] + torch.arange(p)) % p  # [a, b]
    of_sum = torch.zeros(p, logits.shape[-1], dtype=logits.dtype).index_add_(0, total.flatten(), logits.flatten(0, 1))
    return filtered(of_sum / p, frequencies)[total]


def trig_share(logits: Tensor, frequencies: Iterable[int]) -> float:
    """Say what share of the logits' variance is a sum of cos(2πk(a + b − c)/p), one size for each frequency k.

    The mean over all sums is left out of each number c, and the mean over numbers out of each sum: neither decides.
    """
    p = len(logits)
    centred = logits - logits.mean((0, 1))
    centred = centred - centred.mean(-1, keepdim=True)
    n = torch.arange(p)
    turn = 2 * torch.pi * ((n[:, None, None] + n[:, None] - n) % p).double() / p  # [a, b, c]
    explained = 0.0
    for k in frequencies:  # waves of different frequency are orthogonal
        wave = torch.cos(k * turn)
        explained += float((centred * wave).sum() ** 2 / (wave**2).sum())
    return explained / float((centred**2).sum())


def neuron_shares(neurons: Tensor) -> tuple[Tensor, Tensor]:
    """Give each neuron's best frequency [neuron], 1 … (p-1)/2, and the share of its variance that it explains [neuron].

    Explained by frequency k is what a sum of 1, cos, sin of a times 1, cos, sin of b at that frequency can be. A neuron
    that does not vary has the share 0.
    """
    p = len(neurons)
    spectrum = torch.fft.fft2(neurons - neurons.mean((0, 1)), dim=(0, 1)).abs() ** 2  # [a, b, neuron]
    total = spectrum.sum((0, 1))
    of_each = []
    for k in range(1, (p - 1) // 2 + 1):
        rows = torch.tensor([0, k, p - k])
        of_each.append(spectrum[rows][:, rows].sum((0, 1)))
    shares = torch.stack(of_each) / total.clamp_min(1e-12)
    best = shares.max(0)
    return best.indices + 1, torch.where(total > 1e-6 * total.max(), best.values, torch.zeros(()).double())


def one_frequency(neurons: Tensor, best: Tensor) -> Tensor:
    """Keep of neurons [a, b, neuron] their mean and what their best frequency [neuron] explains."""
    p = len(neurons)
    spectrum = torch.fft.fft2(neurons, dim=(0, 1))
    n = torch.arange(p)[:, None]
    of_best = (n == 0) | (n == best) | (n == p - best)  # [frequency, neuron]
    found: Tensor = torch.fft.ifft2(spectrum * (of_best[:, None] & of_best), dim=(0, 1)).real
    return found
