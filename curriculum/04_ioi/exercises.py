"""The exercises of module 4: a circuit end to end."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Claim, Estimate, Function, InView, Mutant, close, exact, unordered

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


def forward(model, prompts, change=lambda site, layer, value: value):
    """GPT-2 written out: values by (site, layer), and the logits; `change` may put others in their place."""
    import torch

    core, heads = model.module.transformer, model.n_heads
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"] for prompt in prompts])
    seen, (batch, size) = {}, ids.shape

    def at(site, layer, value):
        seen[site, layer] = value = change(site, layer, value)
        return value

    with torch.no_grad():
        stream = core.wte(ids) + core.wpe(torch.arange(size))
        later = torch.ones(size, size, dtype=torch.bool).triu(1)
        for i, block in enumerate(core.h):
            projected = block.attn.c_attn(block.ln_1(stream)).reshape(batch, size, 3, heads, -1)
            q, k, v = (at(site, i, value) for site, value in zip("qkv", projected.unbind(2), strict=True))
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
            pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
            z = at("z", i, torch.einsum("bhqk,bkhd->bqhd", pattern, v))
            stream = stream + block.attn.c_proj(z.flatten(2))
            stream = stream + at("mlp_out", i, block.mlp(block.ln_2(stream)))
        seen["stream"], seen["logits"] = stream, model.module.lm_head(core.ln_f(stream))
    return seen


def ids(model, words):
    return model.tokenizer.convert_tokens_to_ids(list(words))


def difference(model, seen, right, wrong):
    """logit(right) − logit(wrong) at the end of each prompt."""
    places = zip(seen["logits"][:, -1], ids(model, right), ids(model, wrong), strict=True)
    return np.array([float(row[a] - row[b]) for row, a, b in places])


def knows(model, clean, right):
    """Whether the model does the task at all: right more often than not."""
    return np.mean(forward(model, clean)["logits"][:, -1].argmax(-1).numpy() == ids(model, right)) > 0.5


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


def direct(model, clean, right, wrong):
    """What each head writes straight to the logit difference, and the difference: {(layer, head): mean}, mean."""
    seen, norm = forward(model, clean), model.module.transformer.ln_f
    stream = seen["stream"][:, -1]
    scale = (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()  # [prompt, 1]
    table = model.module.lm_head.weight.detach()
    towards = (table[ids(model, right)] - table[ids(model, wrong)]) * norm.weight.detach()  # [prompt, d_model]
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


def replaced(place, values, head=slice(None), pos=slice(None)):
    """A change that puts `values` at some heads and positions of one place."""

    def change(site, layer, value):
        if (site, layer) == place:
            value = value.clone()
            value[:, pos, head] = values[:, pos, head]
        return value

    return change


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
    mutants=[
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
    ],
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
    same=close(1e-3),
    mutants=[
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
    ],
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


def at_the_end_only(model, clean, corrupted, right, wrong):
    if not knows(model, clean, right):
        return []
    found = brought_back(model, clean, corrupted, right, wrong, pos=-1)
    return [place for place, value in found.items() if value > 0.2]


def top_three(model, clean, corrupted, right, wrong):
    found = brought_back(model, clean, corrupted, right, wrong)
    return sorted(found, key=lambda place: -abs(found[place]))[:3]


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
    mutants=[
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
    ],
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
    mutants=[
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
    ],
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


def last_of_two(words, two, names):
    return both(words, two, names)[0], both(words, two, two)[1]


rivals = Function(
    "ioi.rivals",
    title="Two rivals, as programs",
    minutes=6,
    difficulty=2,
    importance=5,
    draw=draw_words,
    oracle=both,
    same=exact,
    mutants=[
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
    ],
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
