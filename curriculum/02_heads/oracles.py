"""Heads: what is drawn, and what is right."""

import copy
from functools import cache

import numpy as np

import interpwidgets as iw
from interpwidgets.course import relabelled

MODEL = "induction-2l"


TEXT = "lion bread clock river flute tiger lemon lion bread clock river"


LAST, COPY, NEXT = 11, 4, 5  # where river is said again, where it was said first, and what followed


@cache
def shipped():
    """The model that the lesson looks at."""
    return iw.load(MODEL)


def said_twice(rng, rows, length):
    """Token ids of random words said twice, after <bos>: [row][position]."""
    bos = shipped().tokenizer.bos_token_id
    firsts = [rng.permutation(np.arange(3, 512))[:length].tolist() for _ in range(rows)]
    return [[bos, *first, *first] for first in firsts]


# The pattern, from queries and keys -----------------------------------------------------------------------------------


def draw_queries_and_keys(rng):
    """Random ones, or a head's own on random words: [position, d_head]."""
    if rng.random() < 0.3:
        rec = iw.record(shipped(), said_twice(rng, 1, int(rng.integers(2, 6))))
        layer, head = rng.integers(2), rng.integers(4)
        return tuple(rec[site, int(layer)][0, :, head].numpy().astype(float) for site in ("q", "k"))
    positions, width = rng.integers(2, 8), rng.integers(2, 12)
    return tuple(rng.normal(scale=rng.uniform(0.5, 3), size=(positions, width)) for _ in range(2))


def pattern_by_loop(q, k):
    """One query at a time, over the keys that it may see."""
    found = np.zeros((len(q), len(k)))
    for i, query in enumerate(q):
        scores = np.array([query @ k[j] for j in range(i + 1)]) / len(query) ** 0.5
        weights = np.exp(scores - scores.max())
        found[i, : i + 1] = weights / weights.sum()
    return found


def side_by_side(got, expected, tokens):
    """Two patterns in a view, the learner's and the right one."""
    both = [np.asarray(each, float)[None, None] for each in (got, expected)]
    return iw.AttentionView(*both, tokens=[list(map(str, tokens))] * 2, names=["yours", "expected"], compare=1)


# Prefix matching ----------------------------------------------------------------------------------------------------


def draw_pattern_and_tokens(rng):
    """A causal pattern and tokens of which one occurs twice at least."""
    while True:
        size = int(rng.integers(4, 14))
        tokens = rng.integers(0, rng.integers(2, 8), size=size)
        if len(set(tokens.tolist())) < size:
            break
    q, k = (rng.normal(scale=rng.uniform(0.5, 3), size=(size, 3)) for _ in range(2))
    return pattern_by_loop(q, k), tokens


def prefix_by_loop(pattern, tokens):
    """Query by query, over the earlier copies of its token."""
    spent = []
    for i, token in enumerate(tokens):
        after = [j + 1 for j in range(i) if tokens[j] == token]
        if after:
            spent.append(sum(pattern[i, j] for j in after))
    return float(np.mean(spent))


# Which heads? ---------------------------------------------------------------------------------------------------------


def with_heads_broken(rng, model):
    """The model, or the model with one to three heads of layer 1 that look for nothing: their queries are shuffled."""
    import torch

    module = copy.deepcopy(model.module)
    heads = model.n_heads
    broken = rng.choice(heads, size=int(rng.integers(1, heads)), replace=False)
    with torch.no_grad():
        weights = module.transformer.h[1].attn.c_attn.weight
        size = model.d_model // heads
        for head in broken:
            block = weights[:, head * size : (head + 1) * size]
            order = torch.as_tensor(rng.permutation(block.numel()))
            block.copy_(block.flatten()[order].reshape(block.shape))
    return (iw.Model(module, model.tokenizer, name=f"{model.name}, {len(broken)} heads broken"),)


def scores_of_heads(model):
    """Prefix matching on fixed random words: [layer, head]."""
    prompts = said_twice(np.random.default_rng(0), 2, 30)
    rec = iw.record(model, prompts, sites=["pattern"])
    scores = np.zeros((model.n_layers, model.n_heads))
    for layer, head in np.ndindex(scores.shape):
        rows = [prefix_by_loop(rec.pattern(layer, head, row).numpy(), tokens) for row, tokens in enumerate(prompts)]
        scores[layer, head] = np.mean(rows)
    return scores


def induction_heads(model):
    """Heads that spend more than 0.3 of their attention on what followed the token before."""
    return [(int(layer), int(head)) for layer, head in np.argwhere(scores_of_heads(model) > 0.3)]


def steps_back(model):
    """Heads that spend more than 0.3 on the token before."""
    rec = iw.record(model, said_twice(np.random.default_rng(0), 1, 30), sites=["pattern"])
    places = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    return [place for place in places if rec.pattern(*place).diagonal(-1).mean() > 0.3]


# In a view --------------------------------------------------------------------------------------------------------


@cache
def heads_that_look():
    """Heads that spend half of the last token's attention on what followed its first copy."""
    rec = iw.record(shipped(), TEXT)
    places = [(layer, head) for layer in range(2) for head in range(4)]
    return [place for place in places if rec.pattern(*place)[LAST, NEXT] > 0.5]


# What a head copies --------------------------------------------------------------------------------------------------


def draw_ov(rng):
    """Embedding, value, output and unembedding of a small head, leaning to copying, or against it, or neither."""
    words, width, size = rng.integers(4, 10), rng.integers(3, 7), rng.integers(2, 4)
    embed, unembed = rng.normal(size=(words, width)), rng.normal(size=(width, words))
    w_v, w_o = rng.normal(size=(width, size)), rng.normal(size=(size, width))
    lean = rng.choice([-1.0, 0.0, 1.0])
    unembed = unembed + lean * embed.T
    return embed, w_v, w_o + w_v.T, unembed * rng.uniform(0.2, 3)


def copying_by_ring(embed, w_v, w_o, unembed):
    """The same eigenvalues, but for zeros, from the small matrix on the other side: [d_head, d_head]."""
    values = np.linalg.eigvals(w_o @ unembed @ embed @ w_v)
    return float(values.sum().real / np.abs(values).sum())


# Which reader? ------------------------------------------------------------------------------------------------------


def accuracy(logits, ids):
    """The share of the second copy that is predicted best, its first word left out."""
    found = []
    for row, said in zip(logits.argmax(-1).tolist(), ids, strict=True):
        half = len(said) // 2 + 1
        found += [row[i] == said[i + 1] for i in range(half, len(said) - 1)]
    return float(np.mean(found))


@cache
def copies():
    """Relabelled copies of the shipped model, each with its previous-token heads: [(model, heads)]."""
    found = []
    for seed in range(3):
        model = relabelled(shipped(), np.random.default_rng(seed))
        found.append((model, [head for layer, head in steps_back(model) if layer == 0]))
    return found


def draw_reader(rng, back=None):
    """A copy, words said twice, and heads of layer 0: those that look back, or the others."""
    model, previous = copies()[rng.integers(len(copies()))]
    others = [head for head in range(model.n_heads) if head not in previous]
    back = rng.random() < 0.5 if back is None else back
    return model, said_twice(rng, 3, int(rng.integers(25, 40))), previous if back else others


class BothKinds:
    """One draw of each kind, made when it is asked for: a model is loaded then."""

    def __iter__(self):
        return (draw_reader(np.random.default_rng(int(back)), back) for back in (True, False))


def kept_from_by_freezing(model, ids, heads):
    """The heads ablated for everybody, and all but the reader held to what they were."""
    clean = iw.record(model, ids, sites=["q", "k", "v"])
    gone = iw.Ablate("z", 0, head=heads, kind="mean", reference=iw.record(model, ids, sites=["z"]))
    found = {}
    for reader in ("q", "k", "v"):
        held = [iw.Patch(site, 1, value=clean) for site in ("q", "k", "v") if site != reader]
        wrote = iw.run(model, ids, [gone, *held], sites=["attn_out"])["attn_out", 1]
        found[reader] = _right(model, ids, iw.Patch("attn_out", 1, value=wrote))
    return found


def _right(model, ids, *interventions):
    return accuracy(iw.run(model, ids, list(interventions), sites=["logits"])["logits"], ids)


# Build one ------------------------------------------------------------------------------------------------------------


def stream_after_layer_0(tokens, words, places):
    """What the lesson's previous-token head leaves: [position, token | place | before | next], ones and zeros."""
    stream = np.zeros((len(tokens), 3 * words + places))
    for i, token in enumerate(tokens):
        stream[i, token] = 1
        stream[i, words + i] = 1
        stream[i, words + places + tokens[max(i - 1, 0)]] = 1
    return stream


class Weights(tuple):
    """Four matrices that a verdict does not print: they are the solution."""

    def __repr__(self):
        return "four matrices of a head that finds what followed the earlier copy, and says it"


def induction_weights(words, places):
    """Queries read the token, keys what stood before, values the token, and the output writes to next."""
    token, before, nxt = 0, words + places, 2 * words + places
    w_q, w_k, w_v = (np.zeros((3 * words + places, words)) for _ in range(3))
    w_o = np.zeros((words, 3 * words + places))
    for word in range(words):
        w_q[token + word, word] = 100.0
        w_k[before + word, word] = 1.0
        w_v[token + word, word] = 1.0
        w_o[word, nxt + word] = 1.0
    return Weights((w_q, w_k, w_v, w_o))


def what_it_does(weights, tokens, words, places):
    """The pattern and the logits of `next` of a head with these weights."""
    w_q, w_k, w_v, w_o = weights
    stream = stream_after_layer_0(tokens, words, places)
    pattern = pattern_by_loop(stream @ w_q, stream @ w_k)
    return pattern, (stream + pattern @ (stream @ w_v) @ w_o)[:, -words:]


def sizes_of(weights):
    """d_model, words and places of a right answer, whose d_head is the number of words."""
    width, words = weights[0].shape
    return width, words, width - 3 * words


def prompts_for(words, places):
    """A few prompts that fit: <bos>, words in random order, said twice."""
    rng = np.random.default_rng([words, places])
    for _ in range(3):
        length = int(rng.integers(2, 1 + min(words - 1, (places - 1) // 2)))
        first = (1 + rng.permutation(words - 1)[:length]).tolist()
        yield [0, *first, *first]


def in_a_view(example):
    """The learner's head and the right one at work on a prompt."""
    _, words, places = sizes_of(example.expected)
    tokens = next(iter(prompts_for(words, places)))
    theirs, ours = (what_it_does(each, tokens, words, places)[0] for each in (example.got, example.expected))
    return side_by_side(theirs, ours, tokens)


def the_same_head(got, expected):
    """Whether two heads look at the same place and say the same, where a word is said for the second time."""
    width, words, places = sizes_of(expected)
    if not isinstance(got, (tuple, list)) or len(got) != 4:
        return "is not four matrices: return w_q, w_k, w_v, w_o"
    try:
        theirs = [np.asarray(each, float) for each in got]
    except (TypeError, ValueError):
        return "holds something that is no matrix of numbers"
    shapes = [each.shape for each in theirs]
    size, carried = (s[1] if len(s) == 2 else -1 for s in (shapes[0], shapes[2]))
    if shapes != [(width, size), (width, size), (width, carried), (carried, width)] or min(size, carried) < 1:
        return (
            f"has shapes {[list(shape) for shape in shapes]}; expected [{width}, d_head] for w_q, w_k and w_v, and "
            f"[d_head, {width}] for w_o"
        )
    if not all(np.isfinite(each).all() for each in theirs):
        return "holds numbers that are not finite: a large number will do where you wish for infinity"
    for tokens in prompts_for(words, places):
        ours, said = what_it_does(expected, tokens, words, places)
        attends, says = what_it_does(theirs, tokens, words, places)
        for i in range(len(tokens) // 2 + 1, len(tokens)):
            j = int(ours[i].argmax())
            at = f"for tokens {tokens}, at position {i},"
            if not np.allclose(attends[i], ours[i], atol=0.1):
                return f"{at} attends to position {j} with {attends[i, j]:.2f}; expected {ours[i, j]:.2f}"
            if _best(says[i]) != _best(said[i]):
                return f"{at} says {_best(says[i])}; expected {_best(said[i])}"
    return ""


def _best(logits):
    """The word with the highest logit; nothing if there is no clear one."""
    first, second = np.sort(logits)[::-1][:2]
    return int(logits.argmax()) if first - second > 0.2 * abs(first) and first > 0 else "nothing"


# Redundancy ---------------------------------------------------------------------------------------------------------


@cache
def accuracy_without(count):
    """Copy accuracy of the shipped model without its strongest induction heads, so many of them."""
    model, ids = shipped(), said_twice(np.random.default_rng(2), 16, 40)
    strongest = np.argsort(-scores_of_heads(model)[1])[:count].tolist()
    gone = [iw.Ablate("z", 1, head=strongest, kind="mean")] if count else []
    return accuracy(iw.run(model, ids, gone, sites=["logits"])["logits"], ids)
