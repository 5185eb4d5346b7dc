"""A circuit end to end: what is drawn, and what is right."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

import interpwidgets as iw
from interpwidgets.course.gpt2 import difference, forward, ids_of, knows, replaced

NAMES = (
    "anna ben clara david emma frank grace henry iris jack kate leo maria noah olga paul quinn rosa sam tina uma victor"
).split()


PLACES, THINGS = "park market school river library garden".split(), "book ball key lamp map coin".split()


CONTROLS = (
    "when {} and {} went to the park , {} and {} gave a book to",
    "when {} and {} went to the park with {} , {} gave a book to",
    "when {} and {} went to the park , {} had a book . {} gave it to",
)


def draw_pairs(rng, count):
    """Sentences in which one of two is named again; corrupted, the other one is. Both orders."""
    pairs = []
    for _ in range(count):
        a, b = (str(name) for name in rng.choice(NAMES, 2, replace=False))
        place, thing = str(rng.choice(PLACES)), str(rng.choice(THINGS))
        first, second = (a, b) if rng.random() < 0.5 else (b, a)
        text = f"when {first} and {second} went to the {place} , {{}} gave a {thing} to"
        pairs.append((text.format(b), text.format(a), a, b))
    return tuple(list(each) for each in zip(*pairs, strict=True))  # clean, corrupted, right, wrong


# How often is the naive model right on the control? ------------------------------------------------------------------


@cache
def naive_on_the_control():
    """The share of control sentences on which storyteller-4l puts the name said once above the one said twice."""
    rng, model, found = np.random.default_rng(0), iw.load("storyteller-4l"), []
    for text in CONTROLS:
        cast = [[str(name) for name in rng.choice(NAMES, 3, replace=False)] for _ in range(100)]
        both_orders = [((a, b, b, c), (b, a, b, c))[i % 2] for i, (a, b, c) in enumerate(cast)]
        seen = forward(model, [text.format(*names) for names in both_orders])
        found += list(difference(model, seen, [a for a, _, _ in cast], [b for _, b, _ in cast]) > 0)
    return float(np.mean(found))


# Who writes the name? --------------------------------------------------------------------------------------------------


def direct(model, clean, right, wrong):
    """What each head writes straight to the logit difference, and the difference: {(layer, head): mean}, mean."""
    seen, norm = forward(model, clean), model.module.transformer.ln_f
    stream = seen["resid_post", model.n_layers - 1][:, -1]
    scale = (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()  # [prompt, 1]
    table = model.module.lm_head.weight.detach()
    towards = (table[ids_of(model, right)] - table[ids_of(model, wrong)]) * norm.weight.detach()  # [prompt, d_model]
    found = {}
    for layer, block in enumerate(model.module.transformer.h):
        out = block.attn.c_proj.weight.detach().reshape(model.n_heads, -1, stream.shape[-1])
        for head in range(model.n_heads):
            wrote = seen["z", layer][:, -1, head] @ out[head]
            centred = wrote - wrote.mean(-1, keepdim=True)
            found[layer, head] = float((centred / scale * towards).sum(-1).mean())
    return found, float(difference(model, seen, right, wrong).mean())


def movers(model, clean, right, wrong):
    found, total = direct(model, clean, right, wrong)
    return [place for place, value in found.items() if value > total / 2] if knows(model, clean, right) else []


# One path, by hand -------------------------------------------------------------------------------------------------------


@cache
def crowded():
    """The twin of ioi-known that was trained on answers alone: in it every part has a hand in everything."""
    return iw.load(Path(iw.models.__file__).parent / "systems" / "ioi-known" / "control")


def draw_path(rng):
    (clean,), (corrupted,), (right,), (wrong,) = draw_pairs(rng, 1)
    start, end = [(0, 1), (0, 2), (0, 2), (1, 2)][rng.integers(4)]
    sender, receiver = (start, int(rng.integers(4))), (str(rng.choice(["q", "v"])), end, int(rng.integers(4)))
    return crowded(), clean, corrupted, sender, receiver, right, wrong


def along(model, clean, corrupted, sender, receiver, right, wrong, held=("z", "mlp_out"), every=False):
    (layer, head), (via, above, ear) = sender, receiver
    there, here = forward(model, [clean]), forward(model, [corrupted])

    def change(site, i, value):
        value = here[site, i].clone() if site in held else value
        if (site, i) == ("z", layer):
            value = value.clone()
            value[:, :, head] = there["z", layer][:, :, head]
        return value

    heard = forward(model, [corrupted], change)[via, above]
    told = replaced((via, above), heard, slice(None) if every else ear)
    return float(difference(model, forward(model, [corrupted], told), [right], [wrong])[0])


def both_ends(example):
    """The head that tells and the head that is told, on the prompt that runs."""
    model, _, corrupted, (layer, head), (via, above, ear) = example.arguments[:5]
    ends = {(layer, head): "sender", (above, ear): f"receiver, by {via}"}
    return iw.AttentionView(
        iw.record(model, corrupted), labels=ends, layer=above, head=ear, title="Both ends of the path"
    )


# Return the circuit --------------------------------------------------------------------------------------------------------


def brought_back(model, clean, corrupted, right, wrong, pos=slice(None)):
    """The share of the way that each head's clean z brings the corrupted run."""
    there, here = forward(model, clean), forward(model, corrupted)
    goal, base = (difference(model, seen, right, wrong).mean() for seen in (there, here))
    found = {}
    for layer, head in np.ndindex(model.n_layers, model.n_heads):
        seen = forward(model, corrupted, replaced(("z", layer), there["z", layer], head, pos))
        found[layer, head] = (difference(model, seen, right, wrong).mean() - base) / (goal - base)
    return found


def circuit_of(model, clean, corrupted, right, wrong):
    if not knows(model, clean, right):
        return []
    found = brought_back(model, clean, corrupted, right, wrong)
    return [place for place, value in found.items() if value > 0.2]


# Faithful and complete -----------------------------------------------------------------------------------------------------


class Scores:
    """What a model scores with only some of its parts: parts in a team score as much as the best that is there."""

    def __init__(self, teams):
        self.teams = teams

    def __call__(self, kept):
        """The score with these parts kept, and all others ablated."""
        kept = frozenset(kept)
        return float(sum(max((team[part] for part in kept & team.keys()), default=0.0) for team in self.teams))

    def __repr__(self):
        teams = (" or ".join(f"{part} {value:.2f}" for part, value in team.items()) for team in self.teams)
        return f"score({'; '.join(teams)})"


def draw_model(rng):
    """Parts in teams; a circuit that often lacks somebody's stand-in."""
    parts, teams = list("abcdefg"[: rng.integers(4, 8)]), []
    left = [str(part) for part in rng.permutation(parts)]
    while left:
        size = min(len(left), int(rng.integers(1, 4)))
        teams.append({part: float(rng.uniform(0.5, 4)) * rng.choice([1, 1, 1, -0.5]) for part in left[:size]})
        left = left[size:]
    circuit = frozenset(str(part) for part in rng.permutation(parts)[: rng.integers(2, len(parts))])
    return Scores(teams), frozenset(parts), circuit


def gap(score, model, circuit, without):
    return abs(score(circuit - without) - score(model - without))


def worst(score, model, circuit):
    subsets = (frozenset(some) for size in range(len(circuit) + 1) for some in combinations(sorted(circuit), size))
    return max(gap(score, model, circuit, some) for some in subsets)


def every_gap(example):
    """How far circuit and model are apart without each set of parts."""
    score, model, circuit = example.arguments
    subsets = [frozenset(some) for size in range(len(circuit) + 1) for some in combinations(sorted(circuit), size)]
    labels = ["+".join(sorted(some)) or "nothing" for some in subsets]
    gaps = [gap(score, model, circuit, some) for some in subsets]
    return iw.TokensView(labels, {"|F(C∖K) − F(M∖K)|": gaps}, title="The gap without each set K")


# Two rivals ------------------------------------------------------------------------------------------------------------------


def draw_words(rng):
    """A sentence with two people who may have been given something, one of them often named again, and others."""
    a, b, c = (str(name) for name in rng.choice(NAMES, 3, replace=False))
    middle = [[b], [b, "and", c], ["with", b, ",", c], [c], [a, "and", b], [b, "had", "it", ".", c], [b, "met", c]]
    words = ["when", a, "and", b, "went", "home", ",", *middle[rng.integers(len(middle))], "gave", "it", "to"]
    swap = {a: b, b: a} if rng.random() < 0.5 else {}
    return [swap.get(word, word) for word in words], sorted([a, b]), sorted(NAMES)


def both(words, two, names):
    last = [word for word in words if word in names][-1]
    counts = {name: sum(word == name for word in words) for name in two}
    return [name for name in two if counts[name] == 1], [name for name in two if name != last]


def on_the_words(example):
    """Whom each rival answers with, on the sentence."""
    words = example.arguments[0]
    series = {}
    for rival, yours, expected in zip(("said once", "not the last"), example.got, example.expected, strict=True):
        for whose, answer in (("yours", yours), ("expected", expected)):
            series[f"{rival}: {whose}"] = [float(word in answer) for word in words]
    return iw.TokensView(words, series, side_by_side=True, title="Whom each rival answers with")
