"""Evidence: what is drawn, and what is right."""

from __future__ import annotations

from functools import cache

import numpy as np

import interpwidgets as iw
from interpwidgets.course.gpt2 import difference, forward, ids_of, knows, replaced

WORDS = (
    "lion bread clock river flute drum apple lamp horse garden kite market cheese forest bear mouse stone window "
    "letter bridge tower frog fox rope"
).split()


NEEDED = 0.4  # of the logit difference: the least that a head has to take away


def draw_pairs(rng, count):
    """Ten words, and the first four of them again; corrupted, the fourth was another word the first time."""
    pairs = []
    for _ in range(count):
        words = [str(word) for word in rng.permutation(WORDS)[:11]]
        clean = words[:10] + words[:4]
        corrupted = [*clean[:3], words[10], *clean[4:]]
        pairs.append((" ".join(clean), " ".join(corrupted), words[4], words[6]))
    return tuple(list(each) for each in zip(*pairs, strict=True))  # clean, corrupted, right, wrong


# How much is left without the head that looks most? ------------------------------------------------------------------


@cache
def shipped():
    return iw.load("induction-2l")


def without_the_brightest():
    """Accuracy where the head of layer 1 with the brightest stripe writes its mean."""
    clean, _, right, _ = draw_pairs(np.random.default_rng(0), 64)
    seen = forward(shipped(), clean)
    stripe = seen["pattern", 1][:, :, -1, 5].mean(0)  # [head]: from the end to what followed
    mean = seen["z", 1].mean((0, 1), keepdim=True).expand_as(seen["z", 1])
    logits = forward(shipped(), clean, replaced(("z", 1), mean, head=int(stripe.argmax())))["logits"][:, -1]
    return float(np.mean(logits.argmax(-1).numpy() == ids_of(shipped(), right)))


# The mean of a head --------------------------------------------------------------------------------------------------


def draw_z(rng):
    """What heads wrote on prompts of different lengths, padded with numbers that mean nothing."""
    prompts, size, heads, width = rng.integers(2, 5), rng.integers(3, 7), rng.integers(2, 5), rng.integers(2, 5)
    lengths = np.array([size, *rng.integers(1, size, prompts - 1)])
    z = rng.normal(size=(prompts, size, heads, width)) + rng.normal(scale=3, size=(prompts, 1, heads, width))
    return z, int(rng.integers(heads)), lengths


def mean_write(z, head, lengths):
    kept = [z[i, pos, head] for i, length in enumerate(lengths) for pos in range(length)]
    return np.sum(kept, 0) / len(kept)


# One patch, by hand ----------------------------------------------------------------------------------------------------


def draw_patch(rng):
    """A pair, and a place: most often one of those where something happens."""
    (clean,), (corrupted,), (right,), (wrong,) = draw_pairs(rng, 1)
    layer, pos = [(0, 4), (1, 5), (0, 5), (1, 4), (int(rng.integers(2)), int(rng.integers(1, 15)))][rng.integers(5)]
    return shipped(), clean, corrupted, layer, pos, right, wrong


def patched_run(model, clean, corrupted, layer, pos, right, wrong):
    values = forward(model, [clean])["resid_pre", layer]
    seen = forward(model, [corrupted], replaced(("resid_pre", layer), values, pos=pos))
    return float(difference(model, seen, [right], [wrong])[0])


def every_place(example):
    """What each place of the stream brings back when it is patched; the one that was asked for is selected."""
    model, clean, corrupted, layer, pos, right, wrong = example.arguments
    metric = iw.logit_diff(right, wrong)
    effects = iw.patch_sweep(model, [clean], [corrupted], metric, over="resid_pre", progress=False)
    return iw.PatchingView(effects, layer=layer, position=pos)


# The share ---------------------------------------------------------------------------------------------------------------


def draw_runs(rng):
    """A metric of three runs, by prompt, with gaps of very different size."""
    count = rng.integers(2, 9)
    corrupted = rng.normal(scale=2, size=count)
    clean = corrupted + rng.choice([0.2, 2.0, 9.0], count) * rng.uniform(0.5, 1.5, count)
    return clean, corrupted, corrupted + (clean - corrupted) * rng.uniform(-0.4, 1.5, count)


def share(clean, corrupted, patched):
    gap = sum(float(a) - float(b) for a, b in zip(clean, corrupted, strict=True))
    return sum(float(a) - float(b) for a, b in zip(patched, corrupted, strict=True)) / gap


def three_runs(example):
    """The metric of the three runs, prompt by prompt."""
    runs = dict(zip(("corrupted", "patched", "clean"), (example.arguments[i] for i in (1, 2, 0)), strict=True))
    labels = [f"prompt{i}" for i in range(len(runs["clean"]))]
    return iw.TokensView(labels, runs, side_by_side=True, title="The three runs, prompt by prompt")


# Which heads carry it? ---------------------------------------------------------------------------------------------------


def shares(model, source, target, right, wrong):
    """How far each head's z, of `source` in `target`, moves the metric from target to source: [(layer, head)]."""
    there, here = forward(model, source), forward(model, target)
    goal, base = (difference(model, seen, right, wrong).mean() for seen in (there, here))
    found = {}
    for layer, head in np.ndindex(model.n_layers, model.n_heads):
        seen = forward(model, target, replaced(("z", layer), there["z", layer], head=head))
        found[layer, head] = (difference(model, seen, right, wrong).mean() - base) / (goal - base)
    return found


def above(found, least=NEEDED):
    return [place for place, value in found.items() if value > least]


def noised(model, clean, corrupted, right, wrong):
    return above(shares(model, corrupted, clean, right, wrong))


def if_it_knows(answer):
    """The same, and nothing for a model that does not do the task."""
    return lambda model, clean, corrupted, right, wrong: (
        answer(model, clean, corrupted, right, wrong) if knows(model, clean, right) else []
    )


# The linear guess ----------------------------------------------------------------------------------------------------------


def draw_gradients(rng):
    shape = tuple(rng.integers(2, 5, 4))  # [prompt, pos, head, d_head]
    corrupted = rng.normal(size=shape)
    return corrupted + rng.normal(scale=2, size=shape), corrupted, rng.normal(size=shape)


def guess(clean, corrupted, gradient):
    found = np.zeros(clean.shape[2])
    for prompt, pos, head, d in np.ndindex(*clean.shape):
        place = prompt, pos, head, d
        found[head] += (clean[place] - corrupted[place]) * gradient[place] / len(clean)
    return found
