"""Evidence: ablate, patch, attribute."""

from __future__ import annotations

import numpy as np

from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, close, unordered
from interpwidgets.course.drawn import beside, marked

from .oracles import (
    draw_gradients,
    draw_pairs,
    draw_patch,
    draw_runs,
    draw_z,
    every_place,
    guess,
    if_it_knows,
    mean_write,
    noised,
    patched_run,
    share,
    three_runs,
    without_the_brightest,
)
from .wrong import ATTRIBUTION, CARRY, MEAN, PATCH, RECOVERED

# How much is left without the head that looks most? ------------------------------------------------------------------

alone = Estimate(
    "evidence.alone",
    title="How often is the model right without its brightest induction head?",
    minutes=2,
    difficulty=1,
    importance=4,
    oracle=without_the_brightest,
    within=0.1,
    between=(0, 1),
    later=True,
    hints=(
        "How many heads of layer 1 have the stripe?",
        "A team can lose a player: think of what the others still write.",
        "Nearer to 1 than to 0.",
    ),
    solution="The other heads of layer 1 look at the same place and write the same word: what one alone does is spare.",
)


# The mean of a head --------------------------------------------------------------------------------------------------

mean = Function(
    "evidence.mean",
    title="What a head writes on average",
    minutes=5,
    difficulty=2,
    importance=4,
    draw=draw_z,
    oracle=mean_write,
    mutants=MEAN,
    drawn=beside(),
    hints=(
        "Which of the four axes of z does the mean go over, and which stay?",
        "Collect the real tokens' rows first, then take one mean.",
        "`np.concatenate([z[i, :n, head] for i, n in enumerate(lengths)]).mean(0)`",
    ),
    solution=(
        "All real tokens are put in one heap, [token, d_head], and averaged. Padding would mix in rows that no prompt "
        "wrote; a mean of means would weigh tokens by how short their prompt is."
    ),
)


# One patch, by hand ----------------------------------------------------------------------------------------------------

patch = Function(
    "evidence.patch",
    title="Patch one place",
    minutes=8,
    difficulty=2,
    importance=5,
    draw=draw_patch,
    trials=10,
    oracle=patched_run,
    same=close(1e-3),
    mutants=PATCH,
    drawn=every_place,
    hints=(
        "Which prompt runs, and which only lends one value?",
        "Record the clean prompt at resid_pre, make a Patch with its layer and position, run the corrupted prompt.",
        '`iw.run(model, corrupted, [iw.Patch("resid_pre", layer, pos=pos, value=rec)], metric=…).value`',
    ),
    solution=(
        "Record the giver, run the receiver. The clean run lends the stream of one layer at one position; all else in "
        "the corrupted run is computed anew from there."
    ),
)


# The share ---------------------------------------------------------------------------------------------------------------

recovered = Function(
    "evidence.recovered",
    title="How much of the way back?",
    minutes=5,
    difficulty=2,
    importance=5,
    after=["evidence.patch"],
    draw=draw_runs,
    oracle=share,
    cases=[
        (np.array([1.0, 9.0]), np.array([0.9, 0.0]), np.array([0.4, 9.0])),  # one gap is tiny
        (np.array([4.0, 4.0]), np.array([0.0, 0.0]), np.array([6.0, 6.0])),  # beyond clean
        (np.array([4.0, 5.0]), np.array([1.0, 0.0]), np.array([0.0, -1.0])),  # the wrong way
    ],
    mutants=RECOVERED,
    drawn=three_runs,
    hints=(
        "At which value of the metric is the share to be 0, at which 1?",
        "It is a way walked, divided by the whole way; and means come before the division.",
        "`(patched - corrupted).mean() / (clean - corrupted).mean()`",
    ),
    solution=(
        "A ratio of means (Heimersheim & Nanda 2024). A mean of ratios is ruled by the prompts on which clean and "
        "corrupted hardly differ. The share is not cut: 1.3 and −0.2 are things to be explained."
    ),
)


# In the view ---------------------------------------------------------------------------------------------------------------

moved = InView(
    "evidence.moved",
    title="Where has it gone by layer 1?",
    minutes=3,
    difficulty=2,
    importance=4,
    after=["evidence.recovered"],
    reads=("layer", "position"),
    oracle=lambda: [(1, 5)],
    mutants=[
        Mutant(
            "where it came from",
            lambda: [(0, 4)],
            "that is where the two prompts differ, before anything has happened.",
            "Go up to the stream that enters layer 1.",
        ),
        Mutant(
            "it stayed",
            lambda: [(1, 4)],
            "the word itself still stands there, and by now nobody needs it: look at the colour.",
            "Which other position in this row brings everything back?",
        ),
        Mutant(
            "it is at the end",
            lambda: [(1, 14)],
            "the last token does not know yet: layer 1 has still to bring it.",
            "Which position in this row brings everything back?",
        ),
    ],
    hints=(
        "What does a previous-token head of layer 0 write, and where?",
        "In the row of layer 1, one cell is as strong as the strongest of layer 0.",
        "One to the right of the word that differs.",
    ),
    solution=(
        "Layer 1, position 5: the word after the one that differs. Heads of layer 0 have told it what came before it. "
        "At position 4 the word itself still stands, and patching it brings back nothing: no head of layer 1 uses it."
    ),
)


# Which heads carry it? ---------------------------------------------------------------------------------------------------

carry = Claim(
    "evidence.carriers",
    title="Which heads carry what came before?",
    minutes=12,
    difficulty=3,
    importance=5,
    after=["evidence.recovered"],
    model="induction-2l",
    trials=2,
    draw=lambda rng, model: (model, *draw_pairs(rng, 16)),
    oracle=if_it_knows(noised),
    same=unordered(),
    mutants=CARRY,
    drawn=marked(lambda model, clean, corrupted, right, wrong: clean[0]),
    hints=(
        "Which run has to break, if a head is needed: the clean or the corrupted one?",
        "A patch_sweep over z with the two prompts' places exchanged; and nothing for a model that is not right.",
        '`iw.patch_sweep(model, corrupted, clean, metric, over="z")`, `recovered > 0.4`, and first `iw.accuracy(right)`',
    ),
    solution=(
        "Noising, head by head: the clean prompt runs, one head says what it says on the corrupted one. Two heads of "
        "layer 0 and one of layer 1 each take away more than 0.4 of the way. The model of random weights answers "
        "nothing right, so there is nothing to carry, although the ratios there are large."
    ),
)


# The linear guess ----------------------------------------------------------------------------------------------------------

attribution = Function(
    "evidence.attribution",
    title="All patches from one gradient",
    minutes=6,
    difficulty=3,
    importance=4,
    after=["evidence.patch"],
    draw=draw_gradients,
    oracle=guess,
    mutants=ATTRIBUTION,
    drawn=beside(lambda clean, corrupted, gradient: [f"head{i}" for i in range(clean.shape[2])]),
    hints=(
        "If one number changes by δ, and the metric's slope there is g, by how much does the metric change?",
        "(clean − corrupted) · gradient, summed over all that the patch of one head changes.",
        "`((clean - corrupted) * gradient).sum((1, 3)).mean(0)`",
    ),
    solution=(
        "To first order the metric moves by the sum of (clean − corrupted) · gradient. Positions and d_head are summed, "
        "since one patch of a head changes them all; prompts are averaged. One backward pass serves every head (Nanda "
        "2023, Attribution patching)."
    ),
)


# What two directions say ---------------------------------------------------------------------------------------------------

direction = Choice(
    "evidence.direction",
    title="Noising takes away more than denoising brings back. What does that say of the two heads?",
    minutes=4,
    difficulty=3,
    importance=5,
    after=["evidence.carriers"],
    options=[
        Option(
            "One of the sweeps has a mistake: what a head carries is one number.",
            "They ask different questions, is it needed and is it enough; only in a linear model do they agree.",
        ),
        Option(
            "Each can stand in for the other: the model needs one of the two.",
            "Then noising one alone would break nothing, and denoising one alone would bring all of it back.",
        ),
        Option(
            "They work together: without either much is lost, and either alone is not enough.",
            "An AND, more or less: what both write is added up in the keys of layer 1, and half a key opens little.",
            right=True,
        ),
        Option(
            "The true effect is the mean of the two numbers.",
            "A mean of an answer to “is it needed?” and one to “is it enough?” answers neither.",
        ),
    ],
    hints=(
        "What would both sweeps show if either head were enough?",
        "Compare with the run where both heads are patched at once.",
        "Needed, each; enough, only together.",
    ),
    solution=(
        "Noising asks whether a head is needed, denoising whether it is enough. An AND is seen by noising, an OR by "
        "denoising (Heimersheim & Nanda 2024, §2). Whoever runs one direction only misses the other kind."
    ),
)
