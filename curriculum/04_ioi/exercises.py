"""A circuit end to end: who writes the name, who tells whom, and what a circuit leaves out."""

from __future__ import annotations

from interpwidgets.course import Claim, Estimate, Function, InView, Mutant, close, exact, unordered
from interpwidgets.course.drawn import marked

from .oracles import (
    Scores,
    along,
    both,
    both_ends,
    circuit_of,
    draw_model,
    draw_pairs,
    draw_path,
    draw_words,
    every_gap,
    movers,
    naive_on_the_control,
    on_the_words,
    worst,
)
from .wrong import CIRCUIT, INCOMPLETENESS, MOVER, PATH, RIVALS

# How often is the naive model right on the control? ------------------------------------------------------------------

control = Estimate(
    "ioi.control",
    title="How often is the naive model right when the last name is another?",
    minutes=2,
    difficulty=2,
    importance=5,
    oracle=naive_on_the_control,
    within=0.12,
    between=(0, 1),
    unit="of the sentences",
    later=True,
    hints=(
        "What is chance, between two names?",
        "Perfect on the usual sentences says nothing about how.",
        "Somewhere between chance and perfect, and nearer to chance.",
    ),
    solution="It was trained on sentences in which its shortcut works; these are sentences in which it is silent.",
)


# Who writes the name? --------------------------------------------------------------------------------------------------

mover = Claim(
    "ioi.movers",
    title="Who writes the name?",
    minutes=8,
    difficulty=2,
    importance=5,
    model="ioi-known",
    draw=lambda rng, model: (model, *[each for i, each in enumerate(draw_pairs(rng, 16)) if i != 1]),
    oracle=movers,
    same=unordered(),
    mutants=MOVER,
    drawn=marked(lambda model, clean, right, wrong: clean[0]),
    hints=(
        "Into what sum does the logit difference fall?",
        "direct_logit_attribution has .heads, [prompt, layer, head], and .total, [prompt]; and accuracy comes first.",
        "`found.heads.mean(0) > found.total.mean() / 2`",
    ),
    solution=(
        "One head of the last layer writes nearly all of the difference, straight to the logits. That says who writes, "
        "and nothing of how it knows what to write. A model of random weights has a strongest head too; it has no task."
    ),
)


# One path, by hand -------------------------------------------------------------------------------------------------------

path = Function(
    "ioi.path",
    title="One path, by hand",
    minutes=12,
    difficulty=4,
    importance=5,
    after=["ioi.movers"],
    draw=draw_path,
    trials=12,
    seconds=30,
    oracle=along,
    same=close(1e-4),
    mutants=PATH,
    drawn=both_ends,
    hints=(
        "If nothing but the sender changes, and everything between is held, what does the receiver hear?",
        "Two runs. In the first all is frozen but the sender, and the receiver's input is recorded. In the second only "
        "that input is patched.",
        "`heard = iw.run(model, corrupted, [*held, sends], sites=[via])`, then `iw.Patch(via, layer, head=…, value=heard)`",
    ),
    solution=(
        "First run: the corrupted prompt with every head and MLP frozen at its own value, and the sender at its clean "
        "one; what the receiver's input is then, it has from the sender directly. Second run: that input, and nothing "
        "else, is patched; from there on all runs freely (Wang et al. 2022, §3.1)."
    ),
)


# Who tells the mover? ------------------------------------------------------------------------------------------------------

silent = InView(
    "ioi.silent",
    title="Needed, and writes nothing",
    minutes=3,
    difficulty=2,
    importance=4,
    after=["ioi.path"],
    reads=("node",),
    oracle=lambda: [("L1H2",)],
    mutants=[
        Mutant(
            "the name mover",
            lambda: [("L2H0",)],
            "that is who is told; its edge to the logits is as wide as any.",
            "Go one edge back: who tells its queries?",
        ),
        Mutant(
            "the one before",
            lambda: [("L0H1",)],
            "that one finds the repetition, where the name is said again; it is not at the end, where the mover asks.",
            "Who carries its news to the end?",
        ),
    ],
    hints=(
        "Which edges come into the name mover, and by which of q, k and v?",
        "What decides where a head looks is its query: who writes that?",
        "The one in the middle.",
    ),
    solution=(
        "L1H2 writes next to nothing to the logits, and the name mover's queries hang on it: it says which slot to "
        "avoid. Direct attribution alone would not have found it. In Wang et al. 2022 such heads are called "
        "S-inhibition heads."
    ),
)


# Return the circuit --------------------------------------------------------------------------------------------------------

circuit = Claim(
    "ioi.circuit",
    title="Return the circuit",
    minutes=10,
    difficulty=3,
    importance=5,
    after=["ioi.movers"],
    model="ioi-known",
    draw=lambda rng, model: (model, *draw_pairs(rng, 12)),
    oracle=circuit_of,
    same=unordered(),
    mutants=CIRCUIT,
    drawn=marked(lambda model, clean, corrupted, right, wrong: clean[0]),
    hints=(
        "Which heads, with their clean values, bring back some of the answer?",
        "patch_sweep over z, a threshold on .recovered; an empty list for a model that is not right.",
        '`effects = iw.patch_sweep(model, clean, corrupted, metric, over="z")`, `np.argwhere(effects.recovered > 0.2)`',
    ),
    solution=(
        "Three heads, one a layer; each brings back nearly all, for they stand in a row: whichever of them says its "
        "clean word, all after it follow. Numbers of 1.0 three times do not add up to 3: they are one chain."
    ),
)


# Faithful and complete -----------------------------------------------------------------------------------------------------

incompleteness = Function(
    "ioi.incompleteness",
    title="What does a circuit leave out?",
    minutes=10,
    difficulty=4,
    importance=5,
    after=["ioi.circuit"],
    draw=draw_model,
    cases=[
        (Scores([{"a": 3.0, "b": 3.0}]), frozenset("ab"), frozenset("a")),  # b stands in for a
        (Scores([{"a": 3.0}, {"b": -2.0}]), frozenset("ab"), frozenset("a")),  # b works against it
        (Scores([{"a": 3.0, "b": 2.0, "c": 2.5}, {"d": 1.0}]), frozenset("abcd"), frozenset("abd")),
    ],
    oracle=worst,
    mutants=INCOMPLETENESS,
    drawn=every_gap,
    hints=(
        "If a part has a stand-in outside of the circuit, which experiment would show it?",
        "Go through all subsets K of the circuit, and compare F(C∖K) with F(M∖K).",
        "`max(abs(score(circuit - K) - score(model - K)) for K in subsets)`, with itertools.combinations for the subsets",
    ),
    solution=(
        "The incompleteness of Wang et al. 2022, §4: the largest |F(C∖K) − F(M∖K)| over all K ⊆ C. The empty K is "
        "faithfulness. A circuit can be perfectly faithful and leave out every stand-in: nobody sees them until the "
        "regulars are gone. With large circuits one samples K, or searches greedily."
    ),
)


# Two rivals ------------------------------------------------------------------------------------------------------------------

rivals = Function(
    "ioi.rivals",
    title="Two rivals, as programs",
    minutes=6,
    difficulty=2,
    importance=5,
    draw=draw_words,
    oracle=both,
    same=exact,
    mutants=RIVALS,
    drawn=on_the_words,
    hints=(
        "On “when anna and ben went home , ben and clara gave it to”: what does each rival say?",
        "One counts; the other finds the last word that is in `names`. Both answer out of `two`, in its order.",
        "`last = [word for word in words if word in names][-1]`",
    ),
    solution=(
        "Where both give the same list, no sentence of that kind can tell them apart, however many you try. Where the "
        "lists differ is an experiment: “ben and clara gave it” leaves the second rival with two names, so it has to "
        "guess."
    ),
)
