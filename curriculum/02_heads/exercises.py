"""Heads: what they look at, what they carry, and two that work together."""

import numpy as np

import interpwidgets as iw
from interpwidgets.course import Choice, Claim, Estimate, Function, InView, Mutant, Option, close, unordered

from .oracles import (
    COPY,
    LAST,
    MODEL,
    NEXT,
    TEXT,
    BothKinds,
    accuracy_without,
    copying_by_ring,
    draw_ov,
    draw_pattern_and_tokens,
    draw_queries_and_keys,
    draw_reader,
    heads_that_look,
    in_a_view,
    induction_heads,
    induction_weights,
    kept_from_by_freezing,
    pattern_by_loop,
    prefix_by_loop,
    side_by_side,
    the_same_head,
    with_heads_broken,
)
from .wrong import BUILD, COPYING, PATTERN, PREFIX, READER, WHICH

# The pattern, from queries and keys -----------------------------------------------------------------------------------

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
    mutants=PATTERN,
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
    mutants=PREFIX,
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
    mutants=WHICH,
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
    mutants=COPYING,
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
    mutants=READER,
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
    mutants=BUILD,
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
