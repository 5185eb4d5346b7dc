"""First look: a prediction, surprise by hand, and two answers given in views."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

import interpwidgets as iw
from interpwidgets.course import Choice, Estimate, Function, InView, Mutant, Option
from interpwidgets.course.drawn import beside

TEXT = "lion bread clock river flute lion bread clock"
LAST, COPIED = 8, 4  # positions of the last clock, and of river


@cache
def model():
    """The model that the lesson looks at."""
    return iw.load("induction-2l")


def probability(text: str, word: str) -> float:
    """Of a word, after a text."""
    logits = iw.record(model(), text, sites=["logits"])["logits"][0, -1].double()
    return float(logits.softmax(-1)[int(model().tokens(word).ids[-1])])


guess = Estimate(
    "first_look.guess",
    title="How likely does the model find river?",
    minutes=1,
    difficulty=1,
    importance=3,
    oracle=lambda: probability(TEXT, "river"),
    within=0.15,
    between=(0, 1),
    later=True,
    mutants=[
        Mutant(
            "no better than chance",
            lambda: 0.0,
            "You expected next to nothing: no sentence leads to river. But the words themselves have come before.",
            "Read the prompt again as a list that begins for the second time.",
        ),
        Mutant(
            "certain",
            lambda: 1.0,
            "You expected certainty. Clock was followed by river only once, and the model keeps some doubt.",
            "How sure can one be of a pattern that was seen once?",
        ),
    ],
    hints=(
        "What would you say next, and how much would you bet on it?",
        "There are 512 words to choose from, so even 0.1 is much.",
        "It is the first guess, and the model is not certain.",
    ),
    solution=(
        "The model sees that the list begins again, and says what came next the first time. It is not certain: it was "
        "trained on stories too, in which a word is not always followed by what followed it before."
    ),
)


def draw_logits(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [pos, vocab] of any scale, and the tokens that stand there [pos]."""
    positions, vocabulary = int(rng.integers(2, 8)), int(rng.integers(4, 9))
    logits = rng.normal(scale=rng.choice([0.5, 2, 6]), size=(positions, vocabulary)).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(rng.integers(vocabulary, size=positions))


def bits(logits: Any, ids: Any) -> np.ndarray:
    """A loop in double precision: what comes at i was expected at i − 1."""
    rows, found = np.asarray(logits, float), [math.nan]
    for before, token in zip(rows, np.asarray(ids).tolist()[1:], strict=False):
        total = sum(math.exp(logit - before.max()) for logit in before)
        found.append((math.log(total) + before.max() - before[token]) / math.log(2))
    return np.array(found)


def of_its_own_position(logits: Any, ids: Any) -> np.ndarray:
    return bits(logits[1:], ids)


def in_place(logits: Any, ids: Any) -> np.ndarray:
    return np.array([bits(logits[[i, i]], ids[[i, i]])[1] for i in range(len(ids))])


def one_too_early(logits: Any, ids: Any) -> np.ndarray:
    return np.array([*bits(logits, ids)[1:], math.nan])


def over_positions(logits: Any, ids: Any) -> np.ndarray:
    share = logits.double().log_softmax(0).numpy() / -math.log(2)
    return np.array([math.nan, *(share[i, token] for i, token in enumerate(ids.tolist()[1:]))])


surprise = Function(
    "first_look.surprise",
    title="Surprise, by hand",
    minutes=6,
    difficulty=2,
    importance=4,
    draw=draw_logits,
    oracle=bits,
    cases=[(torch.tensor([[1000.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 1]))],  # exp(1000) overflows
    drawn=beside(lambda logits, ids: [f"word{token}" for token in ids.tolist()]),
    mutants=[
        Mutant(
            "reads its own position",
            of_its_own_position,
            "You look up each token in the logits of its own position. Those were made when the token had been read.",
            "The logits at i are about the token that comes at i + 1. Which row knew nothing of this token yet?",
        ),
        Mutant(
            "no shift at all",
            in_place,
            "You give a number to every token, the first too, each from the logits of its own position. Those were made "
            "when the token had been read: they are about the next one.",
            "Which row of the logits knew nothing of this token yet? And is there one for the first?",
        ),
        Mutant(
            "no shift, in nats",
            lambda logits, ids: in_place(logits, ids) * math.log(2),
            "You look up each token in the logits of its own position, the first too, and take the natural logarithm.",
            "Which row of the logits knew nothing of this token yet? And which base counts halvings?",
        ),
        Mutant(
            "one place too early",
            one_too_early,
            "Your numbers are right, and stand one place too early: at the token before the one they are about.",
            "Surprise belongs to the token that came. The first token is the one without a number.",
        ),
        Mutant(
            "nats",
            lambda logits, ids: bits(logits, ids) * math.log(2),
            "You took the natural logarithm: that is surprise in nats.",
            "One bit is one halving. Which base does a logarithm have that counts halvings?",
        ),
        Mutant(
            "a probability",
            lambda logits, ids: 2.0 ** -bits(logits, ids),
            "You give the probability of each token, not how surprising it was.",
            "How many halvings lead from 1 down to that probability?",
        ),
        Mutant(
            "log-probability, negative",
            lambda logits, ids: -bits(logits, ids),
            "Your numbers are negative: these are logarithms of probabilities.",
            "A token that was certain should surprise by 0, an unlikely one by much.",
        ),
        Mutant(
            "softmax over positions",
            over_positions,
            "Your softmax runs over the positions, so that each word is shared among them.",
            "At each position the probabilities of all words sum to 1. Which axis is that?",
        ),
    ],
    hints=(
        "Which row of the logits was made just before this token was read?",
        "Take `log_softmax` over the vocabulary, leave out the last row, and look up the tokens from the second on.",
        "`log_p = logits[:-1].log_softmax(-1)`; `-log_p[range(len(ids) - 1), ids[1:]] / math.log(2)`; NaN in front.",
    ),
    solution=(
        "The logits at a position are about the next token, so the last row has nothing to be compared with, and the "
        "first token has no row: it gets NaN. Dividing by ln 2 makes bits of nats. Read at their own position, tokens "
        "look less surprising or more, and nothing tells you: off by one is the most frequent mistake in this field."
    ),
)

WANTED = 0.5


def kind_of(text: str) -> str:
    """What a prompt for tiger does: the name of a mistake, or nothing."""
    words = text.lower().split()
    if "tiger" not in words:
        return "not there"
    if words[-1] == "tiger":
        return "written down"
    try:
        return "" if probability(text, "tiger") > WANTED else "too little"
    except iw.InterpError:
        return "too little"


def same_kind(got: Any, expected: Any) -> str:
    """Two prompts are the same answer if they succeed, or fail, in the same way."""
    return "" if kind_of(str(got[0])) == kind_of(str(expected[0])) else "is another kind of prompt"


def one(text: str) -> Callable[[], list[tuple[str]]]:
    """A prompt, as the only one of its kind."""
    return lambda: [(text,)]


write = InView(
    "first_look.write",
    title="Make it say tiger",
    minutes=4,
    difficulty=2,
    importance=4,
    after=["first_look.surprise"],
    reads=("text",),
    oracle=one("river flute clock tiger lemon river flute clock"),
    same=same_kind,
    mutants=[
        Mutant(
            "tiger is not there",
            one("lion bread clock river flute lion bread clock"),
            "there is no tiger in your prompt, and no reason to think of one.",
            "This model copies. What would it have to copy from?",
        ),
        Mutant(
            "tiger is written down",
            one("the lion saw the tiger"),
            "your prompt ends in tiger. You said it; the model should.",
            "Stop one word earlier: after your prompt comes the model's turn.",
        ),
        Mutant(
            "not sure enough",
            one("clock tiger flute lion clock"),
            "tiger is there, but the model does not give it half of its bet.",
            "What follows a word the second time? Let more than one word come again, and leave some words in between.",
        ),
    ],
    hints=(
        "What did the model do with a list that began again?",
        "Write some words, tiger among them; then write the same words again, and stop before tiger.",
        "river flute clock … lemon river flute clock",
    ),
    solution=(
        "A list that begins again is continued as it went the first time. One word said twice is often too little for "
        "this model, and so are two words in turns: with more of the list, and words in between, it is sure."
    ),
)


@cache
def looked_at() -> dict[tuple[int, int], np.ndarray]:
    """Where each head looks from the last token of the prompt: [key]."""
    source = iw.record(model(), TEXT).attention(0)
    layers, heads, _, keys = source.shape
    return {
        (layer, head): np.asarray(source.block(layer, head, [LAST], slice(0, keys)))[0]
        for layer, head in np.ndindex(layers, heads)
    }


def mostly_on(*keys: int) -> Callable[[], list[tuple[int, int]]]:
    """The heads that give most of their weight to one of these."""
    return lambda: [place for place, row in looked_at().items() if max(row[key] for key in keys) > 0.5]


def nowhere_much() -> list[tuple[int, int]]:
    return [place for place, row in looked_at().items() if row.max() <= 0.5]


copier = InView(
    "first_look.copier",
    title="Click a head that looks at the word to copy",
    minutes=3,
    difficulty=1,
    importance=5,
    reads=("layer", "head"),
    oracle=mostly_on(COPIED),
    mutants=[
        Mutant(
            "looks at the token itself",
            mostly_on(LAST),
            "from the last clock this head looks at the last clock.",
            "Look for a row whose dark cell is not on the diagonal: the word you want is called river.",
        ),
        Mutant(
            "looks one step back",
            mostly_on(LAST - 1),
            "from the last clock this head looks at the word before it, bread. What follows clock is not there.",
            "Which word came after the first clock? Look for the head that is dark in that column.",
        ),
        Mutant(
            "looks here and there",
            nowhere_much,
            "from the last clock this head spreads its attention; no word gets half of it.",
            "The head you want gives most of its weight to a single word, river.",
        ),
    ],
    hints=(
        "You stand on the last clock. Which word would you want to read, to know what comes next?",
        "Click the last clock on the left, and read the strip for one head after the other. Try the lower squares.",
        "It is in layer 1, and there is more than one: the dark cell is in the column of river.",
    ),
    solution=(
        "These heads look at what came after the last time this word was said: they are called induction heads (Olsson "
        "et al. 2022). The model has several. To look one step back is not enough: bread does not tell what follows."
    ),
)

evidence = Choice(
    "first_look.evidence",
    title="One head never looks at river, and without it river is gone. What may you write down?",
    minutes=3,
    difficulty=2,
    importance=5,
    after=["first_look.copier"],
    options=[
        Option(
            "It copies river after all.",
            "It does not read river, so it cannot carry it. It may make something that the copying heads need.",
        ),
        Option(
            "The heads that look at river do not matter: without any one of them, river is still there.",
            "One at a time they stand in for each other. Look at the row in which all of them are gone.",
        ),
        Option(
            "On this prompt the model needs it; what for, this experiment does not say.",
            "Needed is what was measured, on one prompt. What it is needed for takes another experiment.",
            right=True,
        ),
        Option(
            "Something is wrong: a head that does not look there cannot matter.",
            "Attention to river is one path. Other heads may need what this one writes, wherever it looks.",
        ),
    ],
    hints=(
        "What exactly was changed, and what was measured?",
        "One prompt, one head, one number: what is the most cautious sentence that is true?",
        "Needed is not the same as copies.",
    ),
    solution=(
        "To take a part away says whether the model can do without it. It does not say what the part does: the head "
        "may feed those that copy. And a part that can be spared alone may be one of several that do the same."
    ),
)
