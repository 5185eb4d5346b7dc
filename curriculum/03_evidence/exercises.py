"""The exercises of module 3: ablate, patch, attribute."""

from __future__ import annotations

from functools import cache

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, close, unordered

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
            stream = at("resid_pre", i, stream)
            projected = block.attn.c_attn(block.ln_1(stream)).reshape(batch, size, 3, heads, -1)
            q, k, v = projected.unbind(2)  # each [prompt, pos, head, d_head]
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
            seen["pattern", i] = pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
            z = at("z", i, torch.einsum("bhqk,bkhd->bqhd", pattern, v))
            stream = stream + block.attn.c_proj(z.flatten(2))
            stream = at("resid_post", i, stream + block.mlp(block.ln_2(stream)))
        seen["logits"] = model.module.lm_head(core.ln_f(stream))
    return seen


def difference(model, seen, right, wrong):
    """logit(right) − logit(wrong) at the end of each prompt."""
    logits = seen["logits"][:, -1]
    right, wrong = (model.tokenizer.convert_tokens_to_ids(words) for words in (right, wrong))
    return np.array([float(row[a] - row[b]) for row, a, b in zip(logits, right, wrong, strict=True)])


def replaced(place, values, head=slice(None), pos=slice(None)):
    """A change that puts `values` at one place."""

    def change(site, layer, value):
        if (site, layer) != place:
            return value
        value = value.clone()
        if site == "z":
            value[:, pos, head] = values[:, pos, head]
        else:
            value[:, pos] = values[:, pos]
        return value

    return change


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
    return float(np.mean(logits.argmax(-1).numpy() == shipped().tokenizer.convert_tokens_to_ids(right)))


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


def draw_z(rng):
    """What heads wrote on prompts of different lengths, padded with numbers that mean nothing."""
    prompts, size, heads, width = rng.integers(2, 5), rng.integers(3, 7), rng.integers(2, 5), rng.integers(2, 5)
    lengths = np.array([size, *rng.integers(1, size, prompts - 1)])
    z = rng.normal(size=(prompts, size, heads, width)) + rng.normal(scale=3, size=(prompts, 1, heads, width))
    return z, int(rng.integers(heads)), lengths


def mean_write(z, head, lengths):
    kept = [z[i, pos, head] for i, length in enumerate(lengths) for pos in range(length)]
    return np.sum(kept, 0) / len(kept)


mean = Function(
    "evidence.mean",
    title="What a head writes on average",
    minutes=5,
    difficulty=2,
    importance=4,
    draw=draw_z,
    oracle=mean_write,
    mutants=[
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
    ],
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


def draw_patch(rng):
    """A pair, and a place: most often one of those where something happens."""
    (clean,), (corrupted,), (right,), (wrong,) = draw_pairs(rng, 1)
    layer, pos = [(0, 4), (1, 5), (0, 5), (1, 4), (int(rng.integers(2)), int(rng.integers(1, 15)))][rng.integers(5)]
    return shipped(), clean, corrupted, layer, pos, right, wrong


def patched_run(model, clean, corrupted, layer, pos, right, wrong):
    values = forward(model, [clean])["resid_pre", layer]
    seen = forward(model, [corrupted], replaced(("resid_pre", layer), values, pos=pos))
    return float(difference(model, seen, [right], [wrong])[0])


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
    mutants=[
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
    ],
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


def draw_runs(rng):
    """A metric of three runs, by prompt, with gaps of very different size."""
    count = rng.integers(2, 9)
    corrupted = rng.normal(scale=2, size=count)
    clean = corrupted + rng.choice([0.2, 2.0, 9.0], count) * rng.uniform(0.5, 1.5, count)
    return clean, corrupted, corrupted + (clean - corrupted) * rng.uniform(-0.4, 1.5, count)


def share(clean, corrupted, patched):
    gap = sum(float(a) - float(b) for a, b in zip(clean, corrupted, strict=True))
    return sum(float(a) - float(b) for a, b in zip(patched, corrupted, strict=True)) / gap


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
    mutants=[
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
    ],
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


def knows(model, clean, right):
    """Whether the model does the task at all: right more often than not."""
    best = forward(model, clean)["logits"][:, -1].argmax(-1).numpy()
    return np.mean(best == model.tokenizer.convert_tokens_to_ids(right)) > 0.5


def noised(model, clean, corrupted, right, wrong):
    return above(shares(model, corrupted, clean, right, wrong))


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


def if_it_knows(answer):
    """The same, and nothing for a model that does not do the task."""
    return lambda model, clean, corrupted, right, wrong: (
        answer(model, clean, corrupted, right, wrong) if knows(model, clean, right) else []
    )


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
    mutants=[
        *either_way(
            "denoising in place of noising", denoised, _DENOISED, "Which prompt has to run, and which one lends?"
        ),
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
    ],
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


attribution = Function(
    "evidence.attribution",
    title="All patches from one gradient",
    minutes=6,
    difficulty=3,
    importance=4,
    after=["evidence.patch"],
    draw=draw_gradients,
    oracle=guess,
    mutants=[
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
    ],
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
