"""Heads: wrong answers that people give."""

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Mutant

from .oracles import _right, scores_of_heads, steps_back

# The pattern, from queries and keys -----------------------------------------------------------------------------------


def _pattern(q, k, *, scale=0.5, axis=-1, mask=-np.inf, after=False):
    scores = q @ k.T / q.shape[1] ** scale
    seen = np.tri(len(q), dtype=bool)
    if not after:
        scores = np.where(seen, scores, mask * np.ones_like(scores) if mask is not None else scores)
    weights = np.exp(scores - scores.max(axis, keepdims=True))
    weights = weights / weights.sum(axis, keepdims=True)
    return weights * seen if after else weights


def _blind_to_itself(q, k):
    seen = np.tri(len(q), k=-1, dtype=bool)
    with np.errstate(all="ignore"):
        weights = np.exp(np.where(seen, q @ k.T / q.shape[1] ** 0.5, -np.inf))
        return weights / weights.sum(-1, keepdims=True)


def _overflowing(q, k):
    with np.errstate(all="ignore"):
        weights = np.exp(np.where(np.tri(len(q), dtype=bool), q @ k.T / q.shape[1] ** 0.5, -np.inf))
        return weights / weights.sum(-1, keepdims=True)


PATTERN = [
    Mutant(
        "softmax over the queries",
        lambda q, k: _pattern(q, k, axis=0),
        "Your columns sum to one: each key is shared out among the queries.",
        "Each query has a weight of one to spend on keys. Which axis is the keys'?",
    ),
    Mutant(
        "no mask",
        lambda q, k: _pattern(q, k, mask=None),
        "Your queries look at tokens that come after them.",
        "When a token was read, the later ones were not there yet. Which triangle of [query, key] may have weight?",
    ),
    Mutant(
        "mask after the softmax",
        lambda q, k: _pattern(q, k, mask=None, after=True),
        "You take the future away after the weights were shared out, so your rows no longer sum to one.",
        "What the future got is lost to the row. Take it out before the weights are shared out.",
    ),
    Mutant(
        "zero is not minus infinity",
        lambda q, k: _pattern(q, k, mask=0.0),
        "You set the scores of the future to 0, and exp(0) is 1: the future still gets weight.",
        "Which score has the exponential 0?",
    ),
    Mutant(
        "blind to itself",
        _blind_to_itself,
        "Your tokens may not look at themselves; the first one has then nothing to look at, and 0/0 is no number.",
        "A token may look at itself and at what came before it: the diagonal stays.",
    ),
    Mutant(
        "exponentials too large",
        _overflowing,
        "You are right as long as scores are small; exp(1000) is infinite, and ∞/∞ is no number.",
        "A softmax stays what it is if every score of a row is lowered by the same number. By which, to be safe?",
    ),
    Mutant(
        "no √d_head",
        lambda q, k: _pattern(q, k, scale=0.0),
        "You leave the scores as long as they are: your pattern is too sharp.",
        "A dot product of more numbers is larger. By what are scores divided before the softmax?",
    ),
    Mutant(
        "divided by d_head, not its root",
        lambda q, k: _pattern(q, k, scale=1.0),
        "You divide by d_head: your pattern is too flat.",
        "The sum of d numbers of size one has a size of √d, not of d.",
    ),
    Mutant(
        "queries and keys change places",
        lambda q, k: _pattern(k, q),
        "Your rows are keys: k · q where q · k is wanted.",
        "Row i belongs to query i. Which of the two stands first in the product?",
    ),
]


# Prefix matching ----------------------------------------------------------------------------------------------------


def _spent(pattern, tokens, *, shift=1, which=slice(None), over="matched", a_cell=False):
    spent, cells = [], 0
    for i, token in enumerate(tokens):
        copies = [j for j in range(i) if tokens[j] == token][which]
        keys = [j + shift for j in copies if j + shift < len(tokens)]
        cells += len(keys)
        if copies or over == "all":
            spent.append(sum(pattern[i, j] for j in keys))
    return float(sum(spent) / (cells if a_cell else len(spent)))


def _one_back(pattern, tokens):
    """A head that looks one step back, whatever stands there."""
    return float(np.diagonal(pattern, -1).mean())


PREFIX = [
    Mutant(
        "the copy itself, not what followed it",
        lambda pattern, tokens: _spent(pattern, tokens, shift=0),
        "You count attention to the earlier copy of the token itself: that is a duplicate-token score.",
        "A head that wants to say what comes next looks one place further. Where does it find it?",
    ),
    Mutant(
        "one place too far",
        lambda pattern, tokens: _spent(pattern, tokens, shift=2),
        "You count attention to two places after the earlier copy.",
        "The copy stands at j. At which place stands what came right after it?",
    ),
    Mutant(
        "the token before",
        _one_back,
        "You count attention to the token just before, whatever it is: that is a previous-token score.",
        "What the query's token is must matter: look for earlier places where it stood.",
    ),
    Mutant(
        "averaged over all queries",
        lambda pattern, tokens: _spent(pattern, tokens, over="all"),
        "You divide by all queries; those whose token is new had nothing to find and pull the mean down.",
        "Which queries have an earlier copy? The mean is over them.",
    ),
    Mutant(
        "the latest copy alone",
        lambda pattern, tokens: _spent(pattern, tokens, which=slice(-1, None)),
        "You count what followed the latest copy only; a token may have occurred several times.",
        "For one query, add up the attention after every earlier copy.",
    ),
    Mutant(
        "the first copy alone",
        lambda pattern, tokens: _spent(pattern, tokens, which=slice(1)),
        "You count what followed the first copy only; a token may have occurred several times.",
        "list.index finds one place. For one query, add up the attention after every earlier copy.",
    ),
    Mutant(
        "averaged over cells",
        lambda pattern, tokens: _spent(pattern, tokens, a_cell=True),
        "You divide by the number of cells, so that a query with three copies counts three times.",
        "First one number for each query: what share of its attention is spent there? Then the mean of these.",
    ),
]


# Which heads? ---------------------------------------------------------------------------------------------------------


def the_best(model):
    """The head with the highest score, whatever it is."""
    scores = scores_of_heads(model)
    return [tuple(int(i) for i in np.unravel_index(scores.argmax(), scores.shape))]


WHICH = [
    Mutant(
        "every head of the last layer",
        lambda model: [(model.n_layers - 1, head) for head in range(model.n_heads)],
        "You name all heads of layer 1. In the shipped model that is true; here some of them were broken.",
        "Measure each head of the model that you are given: does every line of your function use its argument?",
    ),
    Mutant(
        "the strongest head, however weak",
        the_best,
        "You name the one head with the highest score. There may be several, and there may be none.",
        "The exercise gives a threshold: compare each head's score with it.",
    ),
    Mutant(
        "previous-token heads",
        steps_back,
        "You name heads that look one step back: the other half of the circuit.",
        "An induction head looks at what followed an earlier copy; that is heads.prefix, not the diagonal.",
    ),
    Mutant(
        "no head",
        lambda model: [],
        "You find none. On words that are not said twice, or one place off, every score is near 0.",
        "Print the scores for `model`: which is the largest? Then look at where the stripe is in the view.",
    ),
]


# What a head copies --------------------------------------------------------------------------------------------------


def _token_matrix(embed, w_v, w_o, unembed):
    return embed @ w_v @ w_o @ unembed


def _singular(*weights):
    matrix = _token_matrix(*weights)
    return float(np.trace(matrix) / np.linalg.svd(matrix, compute_uv=False).sum())


def _without_words(embed, w_v, w_o, unembed):
    values = np.linalg.eigvals(w_o @ w_v)
    return float(values.sum().real / np.abs(values).sum())


def _real_parts(embed, w_v, w_o, unembed):
    values = np.linalg.eigvals(w_o @ unembed @ embed @ w_v).real
    return float(values.sum() / np.abs(values).sum())


COPYING = [
    Mutant(
        "singular values",
        _singular,
        "You divide by singular values: they say how much is moved, not whether a word is moved onto itself.",
        "A word that raises its own logit is an eigenvector with a positive eigenvalue. np.linalg.eigvals.",
    ),
    Mutant(
        "words left out",
        _without_words,
        "You took the eigenvalues of W_V W_O alone: those of the residual stream, not of words.",
        "Start from a word and end at a word: the embedding comes first, the unembedding last.",
    ),
    Mutant(
        "real parts in the denominator",
        _real_parts,
        "You divide by the sizes of the real parts, so that an eigenvalue that mostly turns counts as little.",
        "The size of a complex number is np.abs of it, before the imaginary part is dropped.",
    ),
    Mutant(
        "share of words on the diagonal",
        lambda *weights: float((np.diag(_token_matrix(*weights)) > 0).mean()),
        "You count words that raise their own logit. It answers a similar question; it is not this score.",
        "The score asked for is the sum of the eigenvalues over the sum of their sizes.",
    ),
    Mutant(
        "mean of the diagonal",
        lambda *weights: float(np.trace(_token_matrix(*weights)) / len(weights[0])),
        "You give the mean of the diagonal, which grows with the weights: no score to compare heads by.",
        "Divide by something of the same size: the sum of the eigenvalues' absolute values.",
    ),
]


# Which reader? ------------------------------------------------------------------------------------------------------


def _gone(heads):
    return iw.Ablate("z", 0, head=heads, kind="mean")


def _readers(model, ids, heads, layer=1):
    """Patches that give each reader what it would be without the heads."""
    broken = iw.run(model, ids, [_gone(heads)], sites=["q", "k", "v"])
    return {reader: iw.Patch(reader, layer, value=broken) for reader in ("q", "k", "v")}


def _kept_from(model, ids, heads, layer=1):
    return {reader: _right(model, ids, patch) for reader, patch in _readers(model, ids, heads, layer).items()}


def _only_reader_hears(model, ids, heads):
    clean = iw.record(model, ids, sites=["q", "k", "v"])
    patches = {reader: iw.Patch(reader, 1, value=clean) for reader in ("q", "k", "v")}
    return {reader: _right(model, ids, _gone(heads), patch) for reader, patch in patches.items()}


def _piled_up(model, ids, heads):
    patches = list(_readers(model, ids, heads).values())
    return {reader: _right(model, ids, *patches[: i + 1]) for i, reader in enumerate(("q", "k", "v"))}


def _loss(model, ids, heads):
    whole = _right(model, ids)
    return {reader: whole - left for reader, left in _kept_from(model, ids, heads).items()}


READER = [
    Mutant(
        "kept from everybody",
        lambda model, ids, heads: dict.fromkeys(("q", "k", "v"), _right(model, ids, _gone(heads))),
        "Your three numbers are the same: you keep the heads from all their readers at once.",
        "Two runs: one in which the heads are ablated, to see what the reader would be; one with only that put in.",
    ),
    Mutant(
        "the wrong way round",
        _only_reader_hears,
        "You keep the heads from everybody but the reader: yours is the only one that still hears them.",
        "Which run is the one with a small change in it, and which one lends a value? Start from the intact run.",
    ),
    Mutant(
        "the layer of the heads, not of the reader",
        lambda model, ids, heads: _kept_from(model, ids, heads, layer=0),
        "You patch the queries, keys or values of layer 0, which come before these heads have written anything.",
        "Who reads what layer 0 wrote? Patch there.",
    ),
    Mutant(
        "patches pile up",
        _piled_up,
        "Your keys are patched with the queries still patched, your values with both.",
        "Each reader has a run of its own, with one patch.",
    ),
    Mutant(
        "what is lost, not what is left",
        _loss,
        "You give how far the accuracy falls; asked for is the accuracy that is left.",
        "Do not subtract anything.",
    ),
]


# Build one ------------------------------------------------------------------------------------------------------------


def _weights(words, places, *, query="token", key="before", value="token", output="next", sharp=100.0):
    start = {"token": 0, "before": words + places, "next": 2 * words + places}
    width = 3 * words + places
    block = {name: np.eye(width)[:, at : at + words] for name, at in start.items()}
    return sharp * block[query], block[key], block[value], block[output].T


BUILD = [
    Mutant(
        "keys that know only themselves",
        lambda words, places: _weights(words, places, key="token"),
        "Your keys read the token itself, so the head finds the token's copies, itself among them, and repeats it.",
        "The key to be found is one further: it has to say which token came before it. Which block holds that?",
    ),
    Mutant(
        "queries and keys change places",
        lambda words, places: _weights(words, places, query="before", key="token"),
        "Your query asks with the token before, and keys answer with their own: the head looks back, not ahead.",
        "Say it aloud: I am river; who was preceded by river? Who reads which block?",
    ),
    Mutant(
        "values read what stood before",
        lambda words, places: _weights(words, places, value="before"),
        "You look at the right place and bring the wrong thing: the token before it, which is your own.",
        "Attention is at flute. Which block of flute's stream holds flute?",
    ),
    Mutant(
        "written over the token",
        lambda words, places: _weights(words, places, output="token"),
        "Your head writes to the block of the token, which nobody reads as an answer.",
        "Logits are read from the block `next`. w_o says where a head writes.",
    ),
    Mutant(
        "scores too small",
        lambda words, places: _weights(words, places, sharp=1.0),
        "A match scores hardly more than anything else, so your head spreads its attention.",
        "A softmax makes a choice if scores are far apart, also after they were divided by √d_head.",
    ),
]
