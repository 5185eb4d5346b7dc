"""Evidence: wrong answers that people give."""

from __future__ import annotations

import numpy as np

from interpwidgets.course import Mutant
from interpwidgets.course.gpt2 import difference, forward, replaced

from .oracles import above, guess, if_it_knows, mean_write, noised, patched_run, share, shares

# The mean of a head --------------------------------------------------------------------------------------------------

MEAN = [
    Mutant(
        "padding counted",
        lambda z, head, lengths: z[:, :, head].mean((0, 1)),
        "You average over all positions, also those behind the end of the shorter prompts.",
        "Prompt i has lengths[i] tokens; what stands behind them is no activation of anything.",
    ),
    Mutant(
        "mean of the prompts' means",
        lambda z, head, lengths: np.mean([z[i, :n, head].mean(0) for i, n in enumerate(lengths)], 0),
        "You average each prompt, then the averages: a token of a short prompt weighs more than one of a long one.",
        "One mean over all real tokens: a sum of all, divided by how many there are.",
    ),
    Mutant(
        "one number for all dimensions",
        lambda z, head, lengths: np.full_like(z[0, 0, head], mean_write(z, head, lengths).mean()),
        "You average over d_head as well: the vector has lost its direction.",
        "The mean is over prompts and positions. It is still a vector, [d_head].",
    ),
    Mutant(
        "zero",
        lambda z, head, lengths: np.zeros_like(z[0, 0, head]),
        "You return zero: that is the other ablation.",
        "Keep what the head writes whatever the prompt says: its mean over prompts and positions.",
    ),
    Mutant(
        "all heads",
        lambda z, head, lengths: np.mean([mean_write(z, h, lengths) for h in range(z.shape[2])], 0),
        "You average over the heads too.",
        "Each head has a mean of its own; only the one that is ablated is asked for.",
    ),
]


# One patch, by hand ----------------------------------------------------------------------------------------------------


def change_of(model, clean, corrupted, layer, pos, right, wrong):
    before = difference(model, forward(model, [corrupted]), [right], [wrong])[0]
    return patched_run(model, clean, corrupted, layer, pos, right, wrong) - float(before)


def everywhere(model, clean, corrupted, layer, pos, right, wrong):
    values = forward(model, [clean])["resid_pre", layer]
    seen = forward(model, [corrupted], replaced(("resid_pre", layer), values))
    return float(difference(model, seen, [right], [wrong])[0])


def after_the_block(model, clean, corrupted, layer, pos, right, wrong):
    values = forward(model, [clean])["resid_post", layer]
    seen = forward(model, [corrupted], replaced(("resid_post", layer), values, pos=pos))
    return float(difference(model, seen, [right], [wrong])[0])


PATCH = [
    Mutant(
        "clean and corrupted swapped",
        lambda model, clean, corrupted, *rest: patched_run(model, corrupted, clean, *rest),
        "You run the clean prompt with a value of the corrupted one: that is noising.",
        "Here the corrupted prompt runs, and one value in it comes from the clean run.",
    ),
    Mutant(
        "every position",
        everywhere,
        "You patch the layer at every position: nothing of the corrupted prompt is left above it.",
        "Give the patch its place: pos=….",
    ),
    Mutant(
        "after the block, not before",
        after_the_block,
        "You patch what leaves the block: resid_post.",
        "resid_pre is the stream that enters the block of this layer.",
    ),
    Mutant(
        "the change, not the value",
        change_of,
        "You return how far the patch moved the metric; the metric itself is asked for.",
        "An Effect has both: .value is where the metric is with the patch, .effect how far it moved.",
    ),
]


# The share ---------------------------------------------------------------------------------------------------------------

RECOVERED = [
    Mutant(
        "mean of ratios",
        lambda clean, corrupted, patched: float(np.mean((patched - corrupted) / (clean - corrupted))),
        "You divide prompt by prompt and average the shares: a prompt with hardly any gap has a share of anything, "
        "and it counts as much as the others.",
        "Average first, divide once.",
    ),
    Mutant(
        "share of what is missing",
        lambda clean, corrupted, patched: (clean - patched).mean() / (clean - corrupted).mean(),
        "You measure the way that is still to go: 1 where the patch did nothing.",
        "0 is to mean: as corrupted. 1: as clean. Where do you start to count?",
    ),
    Mutant(
        "divided by clean",
        lambda clean, corrupted, patched: (patched - corrupted).mean() / clean.mean(),
        "You divide by the clean metric: then a patch that brings back everything is not 1, unless corrupted is 0.",
        "The whole way is from corrupted to clean.",
    ),
    Mutant(
        "clipped",
        lambda clean, corrupted, patched: min(1.0, max(0.0, share(clean, corrupted, patched))),
        "You cut at 0 and 1. A patch can overshoot, or make things worse, and both are findings.",
        "Leave the number as it is.",
    ),
]


# Which heads carry it? ---------------------------------------------------------------------------------------------------


def denoised(model, clean, corrupted, right, wrong):
    return above(shares(model, clean, corrupted, right, wrong))


def ablated(to):
    """Heads without which, at zero or at their mean, too little of the metric is left."""

    def answer(model, clean, corrupted, right, wrong):
        here, found = forward(model, clean), {}
        base = difference(model, here, right, wrong).mean()
        for layer, head in np.ndindex(model.n_layers, model.n_heads):
            wrote = here["z", layer]
            values = wrote * 0 if to == "zero" else wrote.mean((0, 1), keepdim=True).expand_as(wrote)
            seen = forward(model, clean, replaced(("z", layer), values, head=head))
            found[layer, head] = 1 - difference(model, seen, right, wrong).mean() / base
        return above(found)

    return answer


def by_attention(model, clean, corrupted, right, wrong):
    seen = forward(model, clean)
    return above({
        (layer, head): float(seen["pattern", layer][:, head, -1, 5].mean())
        for layer, head in np.ndindex(model.n_layers, model.n_heads)
    })  # fmt: skip


_DENOISED = (
    "You put clean values into the corrupted run, and ask which head brings the answer back on its own. A head that "
    "works only together with another is not found so."
)


_ABLATED = (
    "You take away everything that a head says. That finds heads that the model needs for anything, on any prompt, and "
    "heads that are missed for odd reasons."
)


_DIFFERS = "Take away only what differs between the two prompts: give the head its value on the corrupted one."


_NOTHING = " And you find heads in a model that cannot do the task."


def either_way(name, answer, why, advice):
    """A mistake, by itself and with the other one that people make: no look at whether the model does the task."""
    yield Mutant(name, if_it_knows(answer), why, advice)
    yield Mutant(f"{name}, in any model", answer, why + _NOTHING, advice)


CARRY = [
    *either_way("denoising in place of noising", denoised, _DENOISED, "Which prompt has to run, and which one lends?"),
    *either_way("ablated to the mean", ablated("mean"), _ABLATED, _DIFFERS),
    *either_way("ablated to zero", ablated("zero"), _ABLATED, _DIFFERS),
    Mutant(
        "by where it looks",
        by_attention,
        "You name the heads that look at the word that followed. Where a head looks is a hypothesis.",
        "Intervene: which heads, given their corrupted values, spoil the answer?",
    ),
    Mutant(
        "a share of nothing",
        noised,
        "You find heads in a model that cannot do the task: a share of a gap that is noise can be anything.",
        "First ask whether the model is right at all; if it is not, no head carries what it does not know.",
    ),
]


# The linear guess ----------------------------------------------------------------------------------------------------------

ATTRIBUTION = [
    Mutant(
        "corrupted less clean",
        lambda clean, corrupted, gradient: -guess(clean, corrupted, gradient),
        "Your signs are turned: you walk from clean to corrupted.",
        "The patch takes the activation from corrupted to clean; which way is that?",
    ),
    Mutant(
        "activation times gradient",
        lambda clean, corrupted, gradient: guess(clean, np.zeros_like(clean), gradient),
        "You multiply the gradient with the clean activation: that guesses what comes of adding it to nothing.",
        "The patch does not start at zero. By what does the activation change?",
    ),
    Mutant(
        "a mean over positions and dimensions",
        lambda clean, corrupted, gradient: ((clean - corrupted) * gradient).mean((0, 1, 3)),
        "You average over positions and d_head. The changes of all of them happen together: they add up.",
        "Sum over what one patch changes, and take the mean over prompts only.",
    ),
    Mutant(
        "sizes added up",
        lambda clean, corrupted, gradient: np.abs((clean - corrupted) * gradient).sum((1, 3)).mean(0),
        "You add up sizes. In the metric, pushes up and pushes down cancel.",
        "A dot product has signs: leave them until the end.",
    ),
]
