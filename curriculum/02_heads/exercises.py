"""Module 2: what heads look at, what they carry, and two that work together."""

import copy
from functools import cache

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, close, relabelled, unordered

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


def side_by_side(got, expected, tokens):
    """Two patterns in a view, the learner's and the right one."""
    both = [np.asarray(each, float)[None, None] for each in (got, expected)]
    return iw.AttentionView(*both, tokens=[list(map(str, tokens))] * 2, names=["yours", "expected"], compare=1)


pattern = Function(
    "heads.pattern",
    title="The pattern, from queries and keys",
    minutes=8,
    difficulty=2,
    importance=5,
    draw=draw_queries_and_keys,
    oracle=pattern_by_loop,
    cases=[
        (np.array([[1.0]]), np.array([[2.0]])),
        (np.array([[60.0, 0.0], [0.0, 60.0]]), np.array([[0.0, 30.0], [-30.0, 30.0]])),  # exp(1273) overflows
    ],
    mutants=[
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
    ],
    drawn=lambda example: side_by_side(example.got, example.expected, range(len(example.expected))),
    hints=(
        "What must each row sum to, and which cells of it must be 0?",
        "Scores first: every query with every key. Then the future out. Then a softmax, along the keys.",
        "`scores = q @ k.T / np.sqrt(q.shape[1])`; `np.where(np.tri(len(q), dtype=bool), scores, -np.inf)`; "
        "then exponentials, divided by their sum over the last axis.",
    ),
    solution=(
        "A score is how well a key fits a query, in units that do not grow with d_head. The mask comes before the "
        "softmax, as minus infinity: exp(−∞) is 0, and what is left is shared out among the past. Done after it, rows "
        "would sum to less than one; with 0 in place of −∞ the future would count as a middling fit. The softmax goes "
        "along the keys, for it is the query that has attention to spend."
    ),
)

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


prefix = Function(
    "heads.prefix",
    title="Score a head for prefix matching",
    minutes=8,
    difficulty=3,
    importance=5,
    after=["heads.pattern"],
    draw=draw_pattern_and_tokens,
    oracle=prefix_by_loop,
    drawn=lambda example: iw.AttentionView(
        example.arguments[0][None, None],
        tokens=list(map(str, example.arguments[1])),
        query=len(example.arguments[1]) - 1,
    ),
    cases=[
        (pattern_by_loop(np.ones((3, 1)), np.array([[0.0], [1.0], [2.0]])), np.array([5, 5, 7])),
        (pattern_by_loop(np.ones((5, 1)), np.arange(5.0)[:, None]), np.array([4, 6, 4, 6, 4])),
    ],
    mutants=[
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
    ],
    hints=(
        "For the query at position i, which keys would tell it what comes next?",
        "For each i, all earlier j with the same token; the keys are j + 1. Sum within a query; mean over queries.",
        "`earlier = [j for j in range(i) if tokens[j] == tokens[i]]`, and if there are any: "
        "`pattern[i, [j + 1 for j in earlier]].sum()`. In the end the mean.",
    ),
    solution=(
        "An induction head attends to what came after earlier copies. The key j + 1 is at most i, since j is before i, "
        "so it is never in the future. The mean is over queries that had something to find: the others say nothing "
        "about the head. Attention to j itself is another kind of head, one that notices duplicates."
    ),
)

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


def the_best(model):
    """The head with the highest score, whatever it is."""
    scores = scores_of_heads(model)
    return [tuple(int(i) for i in np.unravel_index(scores.argmax(), scores.shape))]


which = Claim(
    "heads.which",
    title="Which heads are induction heads?",
    minutes=10,
    difficulty=3,
    importance=5,
    after=["heads.prefix"],
    model=MODEL,
    draw=with_heads_broken,
    oracle=induction_heads,
    same=unordered(),
    drawn=lambda example: iw.AttentionView(iw.record(example.arguments[0], TEXT), sort_by="induction"),
    mutants=[
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
    ],
    hints=(
        "On which prompt would an induction head show itself, and nothing else?",
        "Random words, said twice; record; score every head with your `prefix_matching`; keep those above 0.3.",
        "`prompts = said_twice(2, 30)`, `rec = iw.record(model, prompts)`, and for each layer and head the mean over "
        "rows of `prefix_matching(rec.pattern(layer, head, row).numpy(), np.array(prompts[row]))`.",
    ),
    solution=(
        "Random words have no grammar, so that nothing but the first copy tells what comes next; the score is then a "
        "clean one. It is a function of the model and not a list of names, so it holds for copies whose heads stand "
        "elsewhere, for copies in which some heads were broken, and it finds nothing in a model with shuffled weights. "
        "“The best head” would name one even there."
    ),
)

# In a view --------------------------------------------------------------------------------------------------------


@cache
def heads_that_look():
    """Heads that spend half of the last token's attention on what followed its first copy."""
    rec = iw.record(shipped(), TEXT)
    places = [(layer, head) for layer in range(2) for head in range(4)]
    return [place for place in places if rec.pattern(*place)[LAST, NEXT] > 0.5]


look = InView(
    "heads.look",
    title="Click the weight that tells what comes next",
    minutes=3,
    difficulty=2,
    importance=4,
    after=["heads.which"],
    reads=("layer", "head", "query", "key"),
    oracle=lambda: [(*place, LAST, NEXT) for place in heads_that_look()],
    mutants=[
        Mutant(
            "a head, but no weight",
            lambda: [(layer, head, query, None) for layer in range(2) for head in range(4) for query in (None, LAST)],
            "you chose a head, and no weight of it yet.",
            "Click a cell of the large square: its row is the query, its column the key.",
        ),
        Mutant(
            "rows and columns change places",
            lambda: [(*place, NEXT, LAST) for place in heads_that_look()],
            "in this row flute asks about the last river, which it cannot see.",
            "The row is the token that looks, the column the token that it looks at.",
        ),
        Mutant(
            "another word's weight",
            lambda: [(*place, query, query - 6) for place in heads_that_look() for query in range(8, LAST)],
            "an induction head at its work, but for another word.",
            "It is the last river that wants to know what comes next.",
        ),
        Mutant(
            "the first copy, not what followed it",
            lambda: [(*place, LAST, COPY) for place in heads_that_look()],
            "that is river itself, the first time. Knowing that it was there does not say what came next.",
            "Go one column further.",
        ),
        Mutant(
            "a head that looks one step back",
            lambda: [(0, head, LAST, LAST - 1) for head in range(4)],
            "a head of layer 0, looking at the token just before.",
            "It is half of the story. Which heads find the other river, and what came after it?",
        ),
        Mutant(
            "the first time, not the second",
            lambda: [(*place, COPY, COPY - shift) for place in heads_that_look() for shift in range(COPY + 1)],
            "that is a query of the first river, which has no earlier copy.",
            "The row is the token that looks. Which river is the one that has to be continued?",
        ),
        Mutant(
            "a head of layer 0",
            lambda: [(0, head, LAST, NEXT) for head in range(4)],
            "right row, right column; but this head has next to no weight there.",
            "Read the weight under the pointer. In which layer is it close to 1?",
        ),
    ],
    hints=(
        "Which token must come next, and where does it stand already?",
        "The row is the last token. The column is the word that followed river the first time.",
        "Layer 1, row 11; the column is that of “flute”.",
    ),
    solution=(
        "Rows are queries: the last river asks. Columns are keys: the answer stands where flute is. Any head of layer "
        "1 with a bright cell there is right. Select in Python what you would click: `view.layer, view.head = 1, 2`, "
        "`view.query, view.key = 11, 5`."
    ),
)

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


copying = Function(
    "heads.copying",
    title="Does a head say what it looks at?",
    minutes=8,
    difficulty=3,
    importance=4,
    draw=draw_ov,
    oracle=copying_by_ring,
    cases=[
        (np.eye(3), np.eye(3), np.eye(3), np.eye(3)),  # copies everything: 1
        # three words in a ring, each makes the next one likelier: neither copies nor its opposite
        (np.eye(3), np.eye(3), np.roll(np.eye(3), 1, 0), np.eye(3)),
    ],
    mutants=[
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
    ],
    hints=(
        "Which matrix says, for every word looked at, what it adds to every word's logit?",
        "Multiply from word to word: embedding, W_V, W_O, unembedding. Then eigenvalues.",
        "`values = np.linalg.eigvals(embed @ w_v @ w_o @ unembed)`; the sum, divided by the sum of `np.abs(values)`; "
        "its real part.",
    ),
    solution=(
        "The matrix goes from the word looked at to logits. If it makes each word likelier, its eigenvalues are "
        "positive and the score is near 1; −1 is a head that suppresses what it sees; near 0 neither (Elhage et al. "
        "2021, “Summarizing OV/QK matrices”). Eigenvalues come in complex pairs, whose imaginary parts cancel in the "
        "sum. Singular values are never negative, and could not tell copying from suppressing."
    ),
)

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


reader = Function(
    "heads.reader",
    title="Keep a head from one reader",
    minutes=12,
    difficulty=4,
    importance=5,
    after=["heads.which"],
    draw=draw_reader,
    oracle=kept_from_by_freezing,
    same=close(0.06),  # zero or mean, and a word or two
    cases=BothKinds(),
    trials=2,
    seconds=60,
    mutants=[
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
    ],
    hints=(
        "What would the reader in layer 1 be, if those heads had said nothing? Which run tells?",
        "Run once with the heads ablated, and keep q, k and v. Then, for each, run intact with only that one put in.",
        '`broken = iw.run(model, ids, [iw.Ablate("z", 0, head=heads, kind="mean")], sites=["q", "k", "v"])`, then '
        'for each reader a run with `[iw.Patch(reader, 1, value=broken)]` and `sites=["logits"]`.',
    ),
    solution=(
        "The first run says what layer 1 would ask, offer or carry, had those heads written their mean. The second "
        "changes nothing but that. So what falls is due to that one path, and not to all that the heads are good for. "
        "The other way round, leaving only one reader its hearing, answers another question: whether that path is "
        "enough. This is path patching with one step (Goldowsky-Dill et al. 2023; Elhage et al. 2021 call the path "
        "through the keys K-composition)."
    ),
)

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


def _weights(words, places, *, query="token", key="before", value="token", output="next", sharp=100.0):
    start = {"token": 0, "before": words + places, "next": 2 * words + places}
    width = 3 * words + places
    block = {name: np.eye(width)[:, at : at + words] for name, at in start.items()}
    return sharp * block[query], block[key], block[value], block[output].T


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


build = Function(
    "heads.build",
    title="Build an induction head",
    minutes=12,
    difficulty=4,
    importance=4,
    after=["heads.pattern"],
    draw=lambda rng: (int(rng.integers(3, 9)), int(rng.integers(5, 17))),
    oracle=induction_weights,
    same=the_same_head,
    drawn=in_a_view,
    mutants=[
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
    ],
    hints=(
        "Say what the head asks, in words: I am X; I look for a place that …?",
        "w_q and w_k pick blocks of the stream such that query · key is large where `before` of the key is `token` of "
        "the query. w_v and w_o move `token` to `next`.",
        'With `block(name)` from above, [d_model, words]: `w_q = 100 * block("token")`, and `w_k` is another block; '
        "`w_o` is the transpose of the block that it writes to.",
    ),
    solution=(
        "The key at flute reads that river stood before it: layer 0 wrote that, so this is K-composition. The query at "
        "the second river reads river. They match, and 100 makes the match a choice. Values carry the token looked at, "
        "and w_o puts it where the answer is read. With keys that read `token`, as they would in a model of one layer, "
        "the head can only find river again: one layer is not enough."
    ),
)

# Redundancy ---------------------------------------------------------------------------------------------------------


@cache
def accuracy_without(count):
    """Copy accuracy of the shipped model without its strongest induction heads, so many of them."""
    model, ids = shipped(), said_twice(np.random.default_rng(2), 16, 40)
    strongest = np.argsort(-scores_of_heads(model)[1])[:count].tolist()
    gone = [iw.Ablate("z", 1, head=strongest, kind="mean")] if count else []
    return accuracy(iw.run(model, ids, gone, sites=["logits"])["logits"], ids)


alone = Estimate(
    "heads.alone",
    title="How often is it still right without its strongest induction head?",
    minutes=2,
    difficulty=2,
    importance=4,
    oracle=lambda: accuracy_without(1),
    within=0.08,
    between=(0, 1),
    later=True,
    mutants=[
        Mutant(
            "one head does it all",
            lambda: 0.0,
            "You thought that copying hangs on this one head. Without it, the model copies nearly as before.",
            "A head that does a thing need not be the only one.",
        ),
        Mutant(
            "four heads, a quarter each",
            lambda: 0.75 * accuracy_without(0),
            "You thought that four heads add up like shares. But a logit that is large enough need not be larger.",
            "The answer is right or wrong; contributions to a logit add up, answers do not.",
        ),
    ],
    hints=("How many heads of layer 1 have the stripe?", "Would the others notice?", "It is hardly less than before."),
    solution="Nearly as often as with it: the other heads of layer 1 look at the same place and write the same word.",
)

redundant = Choice(
    "heads.redundant",
    title="Without its strongest induction head, the model copies nearly as well. What follows?",
    minutes=3,
    difficulty=3,
    importance=5,
    after=["heads.reader"],
    options=[
        Option(
            "This head does nothing for copying.",
            "It looks at the right place and writes the right word; it is only not alone. What one removal does not "
            "show, the removal of several may.",
        ),
        Option(
            "The model does not copy by induction heads at all.",
            "That is too much from one head. Remove all that look there, and see, before you say so.",
        ),
        Option(
            "The model can do without this head, on these prompts; not what the head does when it is there.",
            "Exactly that: it says what is needed, given that all the others are there. It may still do its share.",
            right=True,
        ),
        Option(
            "The other heads noticed, and did more than before.",
            "Heads of one layer run side by side: none hears that another is gone. What they wrote before was enough.",
        ),
    ],
    hints=(
        "What was removed, and what was left in place?",
        "“Not needed” is a statement about the head and everything beside it.",
        "Can a head of layer 1 know what another head of layer 1 did?",
    ),
    solution=(
        "An ablation asks whether the rest can do without. With four heads that do the same, the answer is yes for "
        "each alone, and no for all of them. So single ablations find what is not redundant, and miss what is."
    ),
)
