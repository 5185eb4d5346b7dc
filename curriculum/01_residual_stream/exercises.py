"""The residual stream: the sum, the lens, the norm held, who writes a logit, and a comparison with its control."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

import interpwidgets as iw
from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, close
from interpwidgets.course.drawn import beside

TEXT = "when peter and henry travelled to the field , peter showed a kite to"
RIGHT, WRONG = "henry", "peter"
NAMES = ["anna", "ben", "leo", "kate", "peter", "henry", "clara", "david"]
EPS = 1e-5


@cache
def model():
    """The model that the lesson looks at."""
    return iw.load("storyteller-4l")


@cache
def many():
    """Who writes the right name rather than the wrong one, over the lesson's 112 prompts."""
    pairs = list(itertools.permutations(NAMES, 2))
    asked = [(a, b, b, a, b) for a, b in pairs] + [(a, b, a, b, a) for a, b in pairs]
    texts = [f"when {a} and {b} went to the park , {giver} gave a book to" for a, b, giver, _, _ in asked]
    metric = iw.logit_diff([right for *_, right, _ in asked], [wrong for *_, wrong in asked])
    return iw.direct_logit_attribution(model(), texts, metric)


share = Estimate(
    "residual_stream.share",
    title="What share of the answer do attention heads write?",
    minutes=2,
    difficulty=1,
    importance=3,
    oracle=lambda: float(many().attn.sum(1).mean() / many().total.mean()),
    within=0.15,
    between=(0, 1),
    later=True,
    mutants=[
        Mutant(
            "nearly all, as in GPT-2 small",
            lambda: 0.9,
            "You expected the heads to write nearly all, as the name movers of GPT-2 small do (Wang et al. 2022). Here "
            "MLPs write most of this difference.",
            "A circuit found in one model is a hypothesis about the next.",
        ),
        Mutant(
            "about half",
            lambda: 0.5,
            "You expected heads and MLPs to write about the same; MLPs write most of this difference.",
            "Heads carry words from elsewhere. Both names stand elsewhere: do they carry one, or both?",
        ),
    ],
    hints=(
        "Heads move what other words know. MLPs work on what has arrived. Which of them chooses between two names?",
        "If heads bring both names to the last word, what is left of it in a difference?",
        "Less than half.",
    ),
    solution=(
        "Heads bring names to the last word, but both of them alike, so that little is left in the difference; most of "
        "the choice is written by the last MLP. Measured against a name that nobody said, the heads' share is another: "
        "a share has a denominator."
    ),
)


def draw_writes(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A stream's beginning [pos, d], and what attention and MLPs add, [layer, pos, d] each; of unequal sizes."""
    layers, positions, width = (int(n) for n in rng.integers((1, 1, 2), (6, 5, 6)))
    first = rng.normal(size=(positions, width))
    writes = rng.normal(size=(2, layers, positions, width)) * rng.choice([0.1, 1, 10], size=(2, layers, 1, 1))
    return tuple(torch.tensor(each, dtype=torch.float32) for each in (first, *writes))  # type: ignore[return-value]


def summed(first: Any, attn: Any, mlp: Any) -> np.ndarray:
    """A loop that carries the stream from layer to layer."""
    stream, after = np.asarray(first, float).copy(), []
    for attn_out, mlp_out in zip(np.asarray(attn, float), np.asarray(mlp, float), strict=True):
        stream = stream + attn_out + mlp_out
        after.append(stream)
    return np.stack(after)


rebuild = Function(
    "residual_stream.rebuild",
    title="Rebuild the stream from what was written",
    minutes=6,
    difficulty=2,
    importance=5,
    draw=draw_writes,
    oracle=summed,
    drawn=beside(lambda first, attn, mlp: [f"layer{layer}" for layer in range(len(attn))], along=0),
    mutants=[
        Mutant(
            "each layer on its own",
            lambda first, attn, mlp: attn + mlp,
            "You give what each layer writes. A layer adds to the stream; it does not replace it.",
            "What stood there before the layer is still there. Carry it along.",
        ),
        Mutant(
            "each layer from the beginning",
            lambda first, attn, mlp: first + attn + mlp,
            "You add each layer to what entered the first one, and lose what the layers between wrote.",
            "Layer 2 reads what layer 1 left. Which kind of sum keeps all earlier terms?",
        ),
        Mutant(
            "without the embedding",
            lambda first, attn, mlp: np.cumsum(np.asarray(attn + mlp), 0),
            "You sum what all layers wrote, and leave out what the stream began with.",
            "The embedding is written first, and nobody erases it.",
        ),
        Mutant(
            "before the MLP",
            lambda first, attn, mlp: summed(first, attn, mlp) - np.asarray(mlp),
            "You give the stream after each layer's attention and before its MLP: that is resid_mid.",
            "After a layer means after both of its writes.",
        ),
        Mutant(
            "before the layer",
            lambda first, attn, mlp: summed(first, attn, mlp) - np.asarray(mlp + attn),
            "You give the stream before each layer, resid_pre: everything is one layer late.",
            "The first entry should already contain what layer 0 wrote.",
        ),
    ],
    hints=(
        "How does the stream after layer 2 differ from the stream after layer 1?",
        "By what layer 2 writes, and by nothing else; so it is a running sum over layers.",
        "`first + (attn + mlp).cumsum(0)`",
    ),
    solution=(
        "A running sum, begun with the embedding. No part overwrites, so each part's share of the end can be told; all "
        "of this lesson follows from that. A model could still write the opposite of what stands there: the sum says "
        "what was added, not what is left of it."
    ),
)


def normed(stream: Any) -> np.ndarray:
    """A LayerNorm without weight and bias, row by row in double precision."""
    rows = np.asarray(stream, float)
    found = [(row - row.sum() / len(row)) / np.sqrt(np.square(row - row.mean()).mean() + EPS) for row in flat(rows)]
    return np.reshape(found, rows.shape)


def flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, rows.shape[-1])


def draw_lens(rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Streams [layer, pos, d] that grow, a norm's weight and bias [d], an unembedding [word, d]."""
    layers, positions, width, words = (int(n) for n in rng.integers((1, 1, 3, 3), (5, 4, 7, 8)))
    growth = np.geomspace(0.3, 20, layers)[:, None, None]
    streams = growth * (rng.normal(size=(layers, positions, width)) + rng.normal(size=(1, 1, 1)))
    given = (streams, rng.uniform(0.3, 2, size=width), rng.normal(size=width), rng.normal(size=(words, width)))
    return tuple(torch.tensor(each, dtype=torch.float32) for each in given)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def read(stream: Any, weight: Any, bias: Any, unembed: Any) -> np.ndarray:
    """Logits of what has been normed already."""
    return (np.asarray(stream) * np.asarray(weight, float) + np.asarray(bias, float)) @ np.asarray(unembed, float).T


def lensed(streams: Any, weight: Any, bias: Any, unembed: Any) -> np.ndarray:
    return softmax(read(normed(streams), weight, bias, unembed))


def uncentred(streams: Any) -> np.ndarray:
    rows = np.asarray(streams, float)
    return rows / np.sqrt(np.square(rows).mean(-1, keepdims=True) + EPS)


lens = Function(
    "residual_stream.lens",
    title="The logit lens, by hand",
    minutes=8,
    difficulty=2,
    importance=5,
    after=["residual_stream.rebuild"],
    draw=draw_lens,
    oracle=lensed,
    drawn=beside(lambda streams, weight, bias, unembed: [f"word{i}" for i in range(len(unembed))], along=2),
    mutants=[
        Mutant(
            "without the final norm",
            lambda streams, weight, bias, unembed: softmax(np.asarray(streams @ unembed.T, float)),
            "You unembed the stream as it is. The model never does: its final norm comes between.",
            "Do to each layer's stream what the model does to the last: norm first, then unembed.",
        ),
        Mutant(
            "without weight and bias",
            lambda streams, weight, bias, unembed: softmax(normed(streams) @ np.asarray(unembed, float).T),
            "You norm, and leave out the weight and the bias that the final norm has learned.",
            "After centring and scaling, a LayerNorm multiplies by its weight and adds its bias.",
        ),
        Mutant(
            "not centred",
            lambda streams, weight, bias, unembed: softmax(read(uncentred(streams), weight, bias, unembed)),
            "You divide by the root of the mean square, and do not take off the mean: an RMSNorm. This model has a "
            "LayerNorm.",
            "A LayerNorm takes off the mean over d_model first, and divides by the standard deviation.",
        ),
        Mutant(
            "logits",
            lambda streams, weight, bias, unembed: read(normed(streams), weight, bias, unembed),
            "You give logits; probabilities were asked for.",
            "What makes logits positive, and lets them sum to 1?",
        ),
        Mutant(
            "softmax over positions",
            lambda streams, weight, bias, unembed: np.swapaxes(
                softmax(np.swapaxes(read(normed(streams), weight, bias, unembed), 1, 2)), 1, 2
            ),
            "Your softmax runs over the positions.",
            "At each layer and position, the probabilities of all words sum to 1. Which axis is that?",
        ),
    ],
    hints=(
        "What does the model do to the stream after its last layer?",
        "LayerNorm over d_model, weight, bias, unembedding, softmax: the same for every layer.",
        "`normed = torch.nn.functional.layer_norm(streams, weight.shape, weight, bias, EPS)`, then `@ unembed.T`.",
    ),
    solution=(
        "The lens reads every layer as the model reads the last. So the norm belongs to it: early streams have another "
        "length, and without the norm you would compare lengths. It is an assumption that the layers write in the "
        "language of the last; the end of the lesson shows where it fails."
    ),
)


def draw_parts(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Parts of a stream [part, d] of unequal sizes and means, and the norm's weight [d]."""
    parts, width = int(rng.integers(1, 7)), int(rng.integers(3, 9))
    sizes = rng.choice([3, 30, 300], size=(parts, 1))
    written = sizes * (rng.normal(size=(parts, width)) + rng.normal(size=(parts, 1)))
    given = (written, rng.uniform(0.3, 2, size=width))
    return tuple(torch.tensor(each, dtype=torch.float32) for each in given)  # type: ignore[return-value]


def held_apart(parts: Any, weight: Any) -> np.ndarray:
    """A loop: each part less its own mean, over the deviation of the whole."""
    rows, weights = np.asarray(parts, float), np.asarray(weight, float)
    whole = sum(rows)
    spread = np.sqrt(sum((whole - whole.mean()) ** 2) / len(whole) + EPS)
    return np.stack([(row - row.mean()) / spread * weights for row in rows])


def of_whole(parts: Any) -> float:
    """The scale that is held."""
    return float(np.sqrt(np.asarray(parts, float).sum(0).var() + EPS))


held = Function(
    "residual_stream.held",
    title="What each part is after the norm",
    minutes=8,
    difficulty=3,
    importance=5,
    after=["residual_stream.lens"],
    draw=draw_parts,
    oracle=held_apart,
    drawn=beside(lambda parts, weight: [f"part{i}" for i in range(len(parts))], along=0),
    mutants=[
        Mutant(
            "each part with its own scale",
            lambda parts, weight: normed(parts) * np.asarray(weight),
            "You norm each part by itself. Your parts all get the same length, and do not add up to the normed stream.",
            "The model divides once, by the deviation of the whole sum. Use that number for every part.",
        ),
        Mutant(
            "not centred",
            lambda parts, weight: np.asarray(parts * weight, float) / of_whole(parts),
            "You do not take off the mean. A LayerNorm does, and the mean of a sum is the sum of the means.",
            "To centre is linear: take off each part its own mean.",
        ),
        Mutant(
            "the mean of the whole",
            lambda parts, weight: np.asarray(parts - parts.sum(0).mean()) / of_whole(parts) * np.asarray(weight),
            "You take the mean of the whole stream off every part, so it is taken off once for each part.",
            "The means of the parts add up to the mean of the whole. Which one belongs to a part?",
        ),
        Mutant(
            "without the weight",
            lambda parts, weight: held_apart(parts, np.ones(len(weight))),
            "You leave out the weight that the norm has learned.",
            "After the division, each of the d_model numbers is multiplied by its weight.",
        ),
        Mutant(
            "the deviation of a sample",
            lambda parts, weight: held_apart(parts, weight) * np.sqrt(1 - 1 / len(weight)),
            "You divide by the standard deviation of a sample, with n − 1 below the sum: what .std() and .var() of a "
            "tensor give unless told otherwise.",
            "A LayerNorm takes the plain mean of the squares. Look up `correction`.",
        ),
        Mutant(
            "divided by the length",
            lambda parts, weight: held_apart(parts, weight) / np.sqrt(len(weight)),
            "You divide by the length of the centred stream. A LayerNorm divides by its standard deviation.",
            "The two differ by a factor that depends on d_model. Is it a sum of squares, or a mean?",
        ),
    ],
    hints=(
        "Which steps of a LayerNorm are linear, and which one is not?",
        "To centre and to multiply by a weight are linear. The division is not: take its number from the whole stream.",
        "`scale = (parts.sum(0).var(correction=0) + EPS) ** 0.5`; put `parts - parts.mean(-1, keepdim=True)` over it.",
    ),
    solution=(
        "With the scale held at the value that it has on this prompt, the norm is linear, and the parts add up to the "
        "normed stream less its bias. Held is an assumption: if a part were gone, the scale would be another. Normed "
        "each on its own, a tiny write would look as large as the greatest."
    ),
)


def draw_question(rng: np.random.Generator, model: Any) -> tuple[Any, str, str, str]:
    """A sentence about giving, the right name and the wrong one."""
    a, b = rng.choice(NAMES, size=2, replace=False).tolist()
    place, thing = rng.choice(["park", "field", "house"]), rng.choice(["book", "kite", "ball"])
    return model, f"when {a} and {b} went to the {place} , {b} gave a {thing} to", a, b


def by_tool(model: Any, text: str, right: str, wrong: str) -> np.ndarray:
    """The tool's answer, [layer, head]."""
    return iw.direct_logit_attribution(model, text, iw.logit_diff(right, wrong)).heads[0]


def id_of(model: Any, word: str) -> int:
    return int(model.tokens(word).ids[-1])


def along(
    model: Any, text: str, direction: Any, *, weighted: bool = True, scaled: bool = True, pos: int = -1
) -> np.ndarray:
    """What heads write along a difference of rows of the unembedding, [layer, head], with steps left out on demand."""
    rec = iw.record(model, text, sites=["z", "resid_post"])
    norm = model.module.transformer.ln_f
    direction = np.asarray(direction.detach(), float) * (np.asarray(norm.weight.detach(), float) if weighted else 1)
    direction = direction - direction.mean()
    scale = np.sqrt(np.asarray(rec["resid_post", -1][0, -1], float).var() + norm.eps) if scaled else 1
    found = []
    for layer in range(model.n_layers):
        z, w_o = np.asarray(rec["z", layer][0, pos], float), np.asarray(model.anatomy.w_o(layer).detach(), float)
        found.append([head_z @ head_w @ direction / scale for head_z, head_w in zip(z, w_o, strict=True)])
    return np.array(found)


def rows(model: Any, right: str, wrong: str) -> Any:
    unembed = model.module.lm_head.weight
    return unembed[id_of(model, right)] - unembed[id_of(model, wrong)]


direct = Claim(
    "residual_stream.direct",
    title="What each head writes to the answer",
    minutes=12,
    difficulty=3,
    importance=5,
    after=["residual_stream.held"],
    model="storyteller-4l",
    draw=draw_question,
    oracle=by_tool,
    drawn=beside(lambda model, *_: [f"L{layer}H{head}" for layer, head in np.ndindex(model.n_layers, model.n_heads)]),
    same=close(1e-3),
    trials=2,
    mutants=[
        Mutant(
            "the right name alone",
            lambda model, text, right, wrong: along(model, text, model.module.lm_head.weight[id_of(model, right)]),
            "You give what is written to the logit of the right name. A logit alone has no zero: all of them may rise.",
            "Read along the difference of two rows of the unembedding.",
        ),
        Mutant(
            "the other way round",
            lambda model, text, right, wrong: -by_tool(model, text, right, wrong),
            "Your signs are turned round: you take the right name off the wrong one.",
            "What speaks for the right name should be positive.",
        ),
        Mutant(
            "without the norm's scale",
            lambda model, text, right, wrong: along(model, text, rows(model, right, wrong), scaled=False),
            "You do not divide by the final norm's scale. All your numbers are too large by the same factor.",
            "The stream is divided before it is unembedded; hold that number, ln_final_scale at the last position.",
        ),
        Mutant(
            "without the norm's weight",
            lambda model, text, right, wrong: along(model, text, rows(model, right, wrong), weighted=False),
            "You leave out the weight of the final norm.",
            "Multiply by ln_f.weight what is read, or the direction along which you read.",
        ),
        Mutant(
            "the first position",
            lambda model, text, right, wrong: along(model, text, rows(model, right, wrong), pos=0),
            "You take what the heads write at the first position, <bos>.",
            "The answer is read at the last position of the prompt.",
        ),
        Mutant(
            "layers and heads exchanged",
            lambda model, text, right, wrong: by_tool(model, text, right, wrong).T,
            "Your rows are heads and your columns layers.",
            "Give [layer, head]: the first index is the layer.",
        ),
    ],
    hints=(
        "A head writes z · W_O. Along which direction is that read, when two logits are compared?",
        "The difference of two rows of the unembedding, times the norm's weight, centred; then over the norm's scale.",
        "`torch.einsum('hd,hdm,m->h', rec['z', layer][0, -1], model.anatomy.w_o(layer), direction) / scale`",
    ),
    solution=(
        "What is after the norm linear in the stream is linear in each head's output, so a head's share is one dot "
        "product. The centring may be moved into the direction: to take the mean off what is read, or off what it is "
        "read along, comes to the same. On a copy of the model with its heads shuffled the numbers move with the heads."
    ),
)


@cache
def written() -> np.ndarray:
    """What each head writes in the lesson's sentence, [layer, head]."""
    return by_tool(model(), TEXT, RIGHT, WRONG)


def best() -> list[tuple[int, int]]:
    layer, head = divmod(int(written().argmax()), written().shape[1])
    return [(layer, head)]


def heads_that(test: Callable[[float], bool]) -> Callable[[], list[tuple[int, int]]]:
    """Heads of which a test holds, other than the answer and its mirror image."""

    def found() -> list[tuple[int, int]]:
        (right,) = best()
        return [place for place in np.ndindex(4, 4) if test(written()[place]) and place not in (right, right[::-1])]

    return found


writer = InView(
    "residual_stream.writer",
    title="Click the head that speaks most for henry",
    minutes=3,
    difficulty=1,
    importance=3,
    after=["residual_stream.direct"],
    reads=("layer", "head"),
    oracle=best,
    mutants=[
        Mutant(
            "layer and head exchanged",
            lambda: [place[::-1] for place in best()],
            "these are the right two numbers, the other way round.",
            "Open the layer first, then choose the head in it.",
        ),
        Mutant(
            "writes against",
            heads_that(lambda value: value < 0),
            "this head writes against henry: its bar goes to the left.",
            "A long bar is not enough; look at the side on which it is.",
        ),
        Mutant(
            "writes less",
            heads_that(lambda value: value >= 0),
            "this head speaks for henry, or hardly at all; another one does so more.",
            "Look at the heads of every layer, also where the layer's own bar is short: heads cancel.",
        ),
    ],
    hints=(
        "In which layers do heads cancel, so that the layer's bar hides them?",
        "Open every layer in turn, and compare its longest bar to the right.",
        "It is in the layer in which the view opened.",
    ),
    solution=(
        "It sits in the same layer as the head that writes most against henry, so that the bar of the layer shows "
        "little of either. And it is one sentence: over many sentences this head writes next to nothing."
    ),
)

control = Choice(
    "residual_stream.control",
    title="After layer 0 the lens puts the right name above the wrong one in every sentence. What does that show?",
    minutes=4,
    difficulty=3,
    importance=5,
    options=[
        Option(
            "After layer 0 the model has decided for the right name.",
            "A name that nobody said beats the wrong one as often, and the right one is not ahead of it. The control "
            "that should have failed passed: the measure does not see the right name.",
        ),
        Option(
            "After layer 0 the name said last has been pushed down; nothing yet speaks for the right one.",
            "Both numbers together say that, in these sentences, as the lens reads them.",
            right=True,
        ),
        Option(
            "Nothing: the lens reads early layers badly.",
            "It may read them badly, but it reads something: the wrong name is below the others in every sentence. "
            "That is an observation, only not of what one hoped for.",
        ),
        Option(
            "The MLP of layer 0 stores who was given the thing.",
            "It writes to the difference. Whether it stores anything, and whether the model uses it, was not tested.",
        ),
    ],
    hints=(
        "A difference grows if one side rises. How else?",
        "Compare both names with a third one, that nobody said.",
        "Right against unsaid is a coin toss; unsaid against wrong is not.",
    ),
    solution=(
        "A difference of two logits cannot say which of the two moved. A third name tells: after layer 0 it is the "
        "wrong name that fell. Choose the control before you look: something that should fail if you are right."
    ),
)
