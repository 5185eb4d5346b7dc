"""The exercises of the example: one of each kind. Authors copy from here."""

from functools import cache

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, unordered


def draw_scores(rng):
    """Scores of a few queries over a few keys, of any size: [query, key]."""
    queries, keys = rng.integers(1, 6), rng.integers(2, 7)
    return (rng.normal(scale=3, size=(queries, keys)),)


def softmax(scores):
    """A loop, so that it shares nothing with the solution in the lesson."""
    rows = [np.exp(row - row.max()) for row in np.asarray(scores, float)]
    return np.stack([row / row.sum() for row in rows])


def no_softmax(scores):
    return scores / scores.sum(-1, keepdims=True)


def over_queries(scores):
    return softmax(scores.T).T


def over_all(scores):
    return softmax(scores.reshape(1, -1)).reshape(scores.shape)


attention = Function(
    "example.attention",
    title="From scores to attention",
    minutes=5,
    difficulty=1,
    importance=4,
    draw=draw_scores,
    oracle=softmax,
    cases=[(np.array([[1000.0, 0.0]]),)],  # exp(1000) overflows
    mutants=[
        Mutant(
            "softmax over the queries",
            over_queries,
            "Your columns sum to one: you share each key among the queries.",
            "Each query has a weight of one to spend on keys. Which axis is the keys'?",
        ),
        Mutant(
            "softmax over everything",
            over_all,
            "All your weights together sum to one.",
            "Every row is a distribution of its own: keep the axis when you sum.",
        ),
        Mutant(
            "scores, not their exponentials",
            no_softmax,
            "You divide scores by their sum; scores may be negative, and so are your weights.",
            "Make them positive first: what function does a softmax apply to each score?",
        ),
    ],
    hints=(
        "What must each row of an attention pattern sum to?",
        "Exponentials make scores positive; a sum over one axis makes them shares.",
        "`weights = np.exp(scores - scores.max(-1, keepdims=True))`, then divide by a sum over the same axis.",
    ),
    solution=(
        "A softmax over the last axis, the keys. The largest score is taken off first: the result is the same, and "
        "exp(1000) is not. Over the queries, a row would no longer say how one token spends its attention."
    ),
)


def steps_back(model):
    """The mean attention of each head on the token before, over random tokens: [layer, head]."""
    source = iw.record(model, [np.random.default_rng(0).permutation(np.arange(8, 40)).tolist()]).attention(0)
    layers, heads, queries, _ = source.shape
    found = np.zeros((layers, heads))
    for layer, head, query in np.ndindex(layers, heads, queries - 1):
        found[layer, head] += source.block(layer, head, [query + 1], slice(query, query + 1))[0, 0] / (queries - 1)
    return found


def previous_heads(model):
    """Heads that spend more than half of their attention on the token before."""
    return [(int(layer), int(head)) for layer, head in np.argwhere(steps_back(model) > 0.5)]


@cache
def shipped_heads():
    """The same, of the shipped model."""
    return previous_heads(iw.load("induction-2l"))


previous = Claim(
    "example.previous",
    title="Find the heads that look one step back",
    minutes=10,
    difficulty=2,
    importance=4,
    after=["example.attention"],
    model="induction-2l",
    oracle=previous_heads,
    same=unordered(),
    mutants=[
        Mutant(
            "one head a layer",
            lambda model: [(layer, 0) for layer in range(model.n_layers)],
            "You name one head of each layer, whether or not any looks one step back.",
            "Compare with a threshold: a model in which no head does it has none.",
        ),
        Mutant(
            "every head",
            lambda model: [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)],
            "You name every head.",
            "Measure how much attention lies on the token before, and keep the heads that spend most of theirs there.",
        ),
        Mutant(
            "no head",
            lambda model: [],
            "You find none; there is one.",
            "Is the threshold too high, or the diagonal the wrong one?",
        ),
    ],
    hints=(
        "Where in the matrix are the weights of query i on key i − 1?",
        "Take the mean of the first diagonal below the main one, for each head.",
        "`pattern.diagonal(-1).mean() > 0.5`",
    ),
    solution="A threshold on a mean over a diagonal; on a scrambled model, no head passes it, and none is named.",
)

look = InView(
    "example.look",
    title="Click that head",
    minutes=2,
    difficulty=1,
    importance=3,
    reads=("layer", "head"),
    oracle=shipped_heads,
    mutants=[
        Mutant(
            "layer and head swapped",
            lambda: [(head, layer) for layer, head in shipped_heads()],
            "that is the same numbers the other way round.",
            "Rows of squares are layers, columns are heads.",
        ),
    ],
    hints=(
        "Which square has a line?",
        "Right below the diagonal.",
        "It is in the first layer.",
    ),
    solution="The one with the bright line just below the diagonal.",
)

share = Estimate(
    "example.share",
    title="How much of its attention does it spend one step back?",
    minutes=1,
    difficulty=1,
    importance=2,
    oracle=lambda: steps_back(iw.load("induction-2l")).max(),
    within=0.1,
    between=(0, 1),
    later=True,
    hints=("Of a weight of 1, how much?", "More than half.", "Nearly all."),
    solution="The rest goes to the first token.",
)

meaning = Choice(
    "example.meaning",
    title="What does the line tell us?",
    minutes=2,
    difficulty=2,
    importance=5,
    options=[
        Option("The model needs this head.", "Where it looks is no evidence that what it finds is used."),
        Option(
            "This head looks one step back, on this prompt.", "No more than that: one head, one prompt.", right=True
        ),
        Option("This head copies the previous token.", "What is copied is up to its values and W_O, not the pattern."),
    ],
    hints=("What was measured?", "Attention, on one prompt.", "Not what the head writes."),
    solution="A pattern says where a head looks; ablation says whether it matters.",
)
