"""A circuit end to end: wrong answers that people give."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from interpwidgets.course import Mutant
from interpwidgets.course.gpt2 import difference, forward, knows, replaced

from .oracles import along, both, brought_back, direct, gap, movers

# Who writes the name? --------------------------------------------------------------------------------------------------


def in_any_model(model, clean, right, wrong):
    found, total = direct(model, clean, right, wrong)
    return [place for place, value in found.items() if value > total / 2]


def strongest_writer(model, clean, right, wrong):
    found, _ = direct(model, clean, right, wrong)
    return [max(found, key=found.get)]


def every_writer(model, clean, right, wrong):
    found, _ = direct(model, clean, right, wrong)
    return [place for place, value in found.items() if value > 0]


def missed(model, clean, right, wrong):
    """Heads without which, set to zero, half of the difference is gone."""
    if not knows(model, clean, right):
        return []
    total, found = difference(model, forward(model, clean), right, wrong).mean(), []
    for layer, head in np.ndindex(model.n_layers, model.n_heads):
        values = forward(model, clean)["z", layer] * 0
        seen = forward(model, clean, replaced(("z", layer), values, head))
        if difference(model, seen, right, wrong).mean() < total / 2:
            found.append((layer, head))
    return found


MOVER = [
    Mutant(
        "always the strongest",
        strongest_writer,
        "You name the head that writes most, also in a model that cannot do the task: there is always a most.",
        "A model that is not right has no name mover; ask for that first.",
    ),
    Mutant(
        "half of nothing",
        in_any_model,
        "You find name movers in a model that cannot do the task: half of a difference that is noise is little.",
        "First ask whether the model is right, and if it is not, answer with an empty list.",
    ),
    Mutant(
        "everybody who writes something",
        every_writer,
        "You name every head that writes a little in the right direction; in a sum of a dozen numbers half do.",
        "Compare each with half of the whole difference.",
    ),
    Mutant(
        "who is missed",
        missed,
        "You name the heads without which the answer is gone. That is their whole effect; some of them write "
        "nothing to the logits themselves.",
        "Ask who writes: direct_logit_attribution.",
    ),
]


# One path, by hand -------------------------------------------------------------------------------------------------------

PATH = [
    Mutant(
        "nothing held",
        lambda *given: along(*given, held=()),
        "Between sender and receiver you let everything run: the receiver hears the sender also through others.",
        "Hold every other head and MLP at what it was in the corrupted run: Freeze, before the Patch of the sender.",
    ),
    Mutant(
        "MLPs not held",
        lambda *given: along(*given, held=("z",)),
        "You hold the heads, and the MLPs pass on what the sender said.",
        "mlp_out has to be held too; then what is left is the direct path.",
    ),
    Mutant(
        "the whole layer listens",
        lambda *given: along(*given, every=True),
        "You give what was heard to all heads of the receiver's layer.",
        "Only the receiver's head is told; the patch of the second run needs its head=….",
    ),
    Mutant(
        "clean and corrupted swapped",
        lambda model, clean, corrupted, *rest: along(model, corrupted, clean, *rest),
        "You run the clean prompt, and send a corrupted value along the path.",
        "The corrupted prompt runs; the sender says what it says on the clean one.",
    ),
]


# Return the circuit --------------------------------------------------------------------------------------------------------


def at_the_end_only(model, clean, corrupted, right, wrong):
    if not knows(model, clean, right):
        return []
    found = brought_back(model, clean, corrupted, right, wrong, pos=-1)
    return [place for place, value in found.items() if value > 0.2]


def top_three(model, clean, corrupted, right, wrong):
    found = brought_back(model, clean, corrupted, right, wrong)
    return sorted(found, key=lambda place: -abs(found[place]))[:3]


CIRCUIT = [
    Mutant(
        "only who writes",
        lambda model, clean, corrupted, right, wrong: movers(model, clean, right, wrong),
        "You return the head that writes the name. Without those that tell it which name, it writes either.",
        "Ask for whole effects: patch each head, and let everything after it run.",
    ),
    Mutant(
        "only the last position",
        at_the_end_only,
        "You patch heads at the last position. What happens before it, where a name is said again, you do not see.",
        "Patch a head at all positions.",
    ),
    Mutant(
        "a share of nothing",
        lambda *given: [place for place, value in brought_back(*given).items() if value > 0.2],
        "You find a circuit in a model that cannot do the task: a share of a gap that is noise can be anything.",
        "First ask whether the model is right, and if it is not, answer with an empty list.",
    ),
    Mutant(
        "always three",
        top_three,
        "You return the three strongest heads, of any model. The null model has three strongest too.",
        "Use a threshold that means something, and first ask whether the model does the task.",
    ),
]


# Faithful and complete -----------------------------------------------------------------------------------------------------

INCOMPLETENESS = [
    Mutant(
        "faithfulness",
        lambda score, model, circuit: gap(score, model, circuit, frozenset()),
        "You take nothing away: |F(C) − F(M)| is faithfulness.",
        "Take the same parts out of circuit and model, every set of them, and look for the largest gap.",
    ),
    Mutant(
        "one part at a time",
        lambda score, model, circuit: max(
            gap(score, model, circuit, frozenset(some)) for some in ["", *sorted(circuit)]
        ),
        "You take parts away one at a time. Two that stand in for each other are never missed so.",
        "Every set of parts of the circuit: none, one, two, … all.",
    ),
    Mutant(
        "all at once",
        lambda score, model, circuit: gap(score, model, circuit, circuit),
        "You take the whole circuit away, and no part of it.",
        "Every set of parts of the circuit, this one among them.",
    ),
    Mutant(
        "taken from the circuit only",
        lambda score, model, circuit: max(
            abs(score(circuit - frozenset(some)) - score(model))
            for size in range(len(circuit) + 1)
            for some in combinations(sorted(circuit), size)
        ),
        "You damage the circuit and compare it with the whole model: of course it is worse.",
        "The model has to lose the same parts.",
    ),
    Mutant(
        "with its sign",
        lambda score, model, circuit: max(
            score(model - frozenset(some)) - score(circuit - frozenset(some))
            for size in range(len(circuit) + 1)
            for some in combinations(sorted(circuit), size)
        ),
        "You keep the sign: a circuit that does better than the model, for it left out somebody who works against "
        "the answer, counts as complete.",
        "Take the size of the gap.",
    ),
]


# Two rivals ------------------------------------------------------------------------------------------------------------------


def last_of_two(words, two, names):
    return both(words, two, names)[0], both(words, two, two)[1]


RIVALS = [
    Mutant(
        "the last word, not the last name",
        lambda words, two, names: (both(words, two, names)[0], [name for name in two if name != words[-1]]),
        "Your second rival avoids the last word of the sentence, which is no name.",
        "Which words are names stands in `names`: find the last one of those.",
    ),
    Mutant(
        "the last of the two",
        last_of_two,
        "Your second rival looks for the last of the two people, and does not see a third one named after them.",
        "The last name said can be anybody's: search among all `names`.",
    ),
    Mutant(
        "who is named twice",
        lambda words, two, names: (
            [name for name in two if words.count(name) > 1],
            both(words, two, names)[1],
        ),
        "Your first rival names who is said again: that is the giver.",
        "Who was given the thing is said once.",
    ),
    Mutant(
        "the last name itself",
        lambda words, two, names: (
            both(words, two, names)[0],
            [name for name in two if name not in both(words, two, names)[1]],
        ),
        "Your second rival answers with the last name said; the shortcut is to answer anybody but that one.",
        "Avoid the last name.",
    ),
]
