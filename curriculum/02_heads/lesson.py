# %% [markdown] minutes=95
# # Heads: where they look, what they carry, and two that work together
#
# *lion bread clock river flute tiger lemon lion bread clock river …*
#
# Nobody ever wrote this, and still you know the next word. So does a transformer of two attention layers and nothing
# else. How?
#
# You will look, measure, intervene, and in the end write the mechanism into empty weights with your own hands. It takes
# about an hour and a half; after part 3 is a good moment for a walk.
#
# Read along, or afterwards: Elhage et al. 2021, [A Mathematical Framework for Transformer Circuits][framework], and
# Olsson et al. 2022, [In-context Learning and Induction Heads][induction].
#
# [framework]: https://transformer-circuits.pub/2021/framework/index.html
# [induction]: https://transformer-circuits.pub/2022/in-context-learning-and-induction-heads/index.html

# %%
import numpy as np
import torch

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model = iw.load("induction-2l")
model
# => Model(induction-2l: GPT2LMHeadModel, 2 layers × 4 heads, d_model 128, vocabulary 512, context 256)

# %% [markdown]
# ## Does it do it at all?
#
# Before asking how, ask whether. Random words in random order leave nothing to go by but the first time they were said.
# So we say them twice, and count how often the model is right the second time.


# %%
def said_twice(rows, length, seed=0):
    """Token ids of random words said twice, after <bos>: a list for each row."""
    rng = np.random.default_rng(seed)
    firsts = [rng.permutation(np.arange(3, 512))[:length].tolist() for _ in range(rows)]
    return [[model.tokenizer.bos_token_id, *first, *first] for first in firsts]


def accuracy(logits, ids):
    """The share of the second copy that is predicted best; its first word is left out, for nothing announces it."""
    best, ids = logits.argmax(-1), torch.tensor(ids)
    half = ids.shape[1] // 2 + 1
    return (best[:, half:-1] == ids[:, half + 1 :]).float().mean().item()


ids = said_twice(rows=16, length=40)
clean = iw.record(model, ids, sites=["z", "q", "k", "v", "pattern", "logits"])
print(f"right on {accuracy(clean['logits'], ids):.2f} of the second copy; by chance 1 in 512")
# -> right on 0.97 of the second copy; by chance 1 in 512

# %% [markdown]
# ## 1 · Where it looks
#
# Each small square is one head: rows are tokens that look, columns the tokens they look at. Click through all eight.
# Which heads do a thing you could name?

# %%
text = "lion bread clock river flute tiger lemon lion bread clock river"
rec = iw.record(model, text, sites=["q", "k", "v", "pattern", "logits"])
iw.AttentionView(rec, layer=1, head=2)

# %% [markdown]
# ### Predict
#
# Head 1.2 above looks like the culprit: at the last *river* nearly all of its attention is on *flute*. Say we take it
# away, and put the mean of what it writes in its place. On what share of the second copy is the model then still right?
#
# Write down a number from 0 to 1, and how sure you are that it is within 0.08. We come back to it at the end.

# %%
# >>> solution: exercise("heads.alone").check()
exercise("heads.alone").check(0.92, confidence=0.6)
# <<< solution

# %% [markdown]
# ### A pattern by hand
#
# Of every token's place in the residual stream, a head makes three short vectors: a **query** (what I look for), a
# **key** (what I can be found by) and a **value** (what I hand over). How far token *i* attends to token *j* is
#
# 1. a score, query *i* · key *j* / √d_head;
# 2. no score at all if *j* comes after *i*: when *i* was read, *j* was not there yet;
# 3. shared out: each token has a weight of exactly 1 to spend. A softmax.
#
# Write it. The one question that everybody gets wrong once: in which order do 2 and 3 come, and along which axis?


# %%
def pattern(q, k):
    """Attention weights [query, key] from NumPy arrays q and k [position, d_head]."""
    # >>> solution
    scores = q @ k.T / np.sqrt(q.shape[1])  # [query, key]
    scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
    # <<< solution


exercise("heads.pattern").check(pattern)

# %% [markdown]
# Is this what the model does? Its own queries and keys were recorded, and its own pattern too.


# %%
def tried(function, *arguments):
    """What your function returns; None until you have written it."""
    try:
        return function(*arguments)
    except NotImplementedError:
        return None


ours = tried(pattern, rec["q", 1][0, :, 2].numpy(), rec["k", 1][0, :, 2].numpy())
if ours is not None:
    print(f"largest difference to the model's own weights: {np.abs(ours - rec.pattern(1, 2).numpy()).max():.0e}")

# %% [markdown]
# ### A weight is not yet a message
#
# Attention 0.9 to a token whose value is next to nothing moves next to nothing. So the view can show more than where a
# head looks: `weigh="value"` multiplies by the length of what is carried, `weigh="logit"` by what it adds to the logit
# of the word that really comes next; after the last, where none comes, of the word that the model expects. What survives
# in layer 1? And in layer 0?

# %%
iw.AttentionView(iw.record(model, text), layer=1, head=2, query=11, weigh="logit")

# %% [markdown]
# That is only the direct way, from the head straight to the logits. A head whose work is read by other heads is nearly
# invisible here. Keep that in mind for layer 0.

# %% [markdown]
# ## 2 · Which heads do it?
#
# Eight heads one can look through. Eight thousand one must score. Two scores are enough here (Olsson et al. 2022,
# appendix, head activation evaluators):
#
# - **previous token**: the share of attention spent one step back, the diagonal below the main one;
# - **prefix matching**: the share spent on *what followed the last time* this token was there.
#
# The first is one line.

# %%
previous = [[clean.pattern(layer, head).diagonal(-1).mean().item() for head in range(4)] for layer in range(2)]
print(np.round(previous, 2))  # [layer, head]
# -> [[0.08 0.03 0.52 0.38]
# ->  [0.02 0.03 0.02 0.03]]

# %% [markdown]
# No head spends all of its attention there; two heads of layer 0 spend a good part. Note them, we shall need them in
# part 4.
#
# Now the second score, by hand. First draw the prompt `a b c a` on paper: the last `a` is query 3. Which column is the
# right one?


# %%
def prefix_matching(pattern, tokens):
    """The attention that queries whose token was there before spend on what followed it, every time; the mean.

    pattern [query, key] and tokens [position], NumPy arrays; some token occurs twice.
    """
    # >>> solution
    spent = []
    for i in range(len(tokens)):
        earlier = [j for j in range(i) if tokens[j] == tokens[i]]
        if earlier:
            spent.append(pattern[i, [j + 1 for j in earlier]].sum())
    return float(np.mean(spent))
    # <<< solution


exercise("heads.prefix").check(prefix_matching)

# %% [markdown]
# Now with the tool: the view has the same score, and can sort by it. You can also paint a region of the large square,
# and all heads are sorted by how much attention they spend there: a score for any question that you can paint.

# %%
iw.AttentionView(rec, layer=1, head=2, sort_by="induction")

# %% [markdown]
# ### The claim
#
# “Heads 1.0 to 1.3 are induction heads” is a sentence about one file of weights. A *method* is worth more. Write the
# function that finds them: heads that spend more than 0.3 of their attention on what followed, on random words said
# twice.
#
# It will be run on models that you have not seen: copies whose heads stand at other places, some of them broken, and a
# model whose weights were shuffled.


# %%
def induction_heads(model):
    """A list of (layer, head); empty if there are none."""
    # >>> solution
    prompts = said_twice(rows=2, length=30, seed=5)
    rec = iw.record(model, prompts, sites=["pattern"])
    found = []
    for layer in range(model.n_layers):
        for head in range(model.n_heads):
            patterns = [rec.pattern(layer, head, row).numpy() for row in range(len(prompts))]
            scores = [prefix_matching(each, np.array(row)) for each, row in zip(patterns, prompts, strict=True)]
            if np.mean(scores) > 0.3:
                found.append((layer, head))
    return found
    # <<< solution


exercise("heads.which").check(induction_heads)

# %% [markdown]
# Break it: would any model of this shape score like that? Here is the same model at an earlier moment, step 1000 of its
# training. The scores are the library's own; on the second line, yours should agree with them.

# %%
from interpwidgets.models.scores import head_scores

for name, each in [("step 1000", iw.load("induction-2l", checkpoint=1000)), ("the end", model)]:
    scores = head_scores(each.module, torch.tensor(ids))["prefix_matching"]  # [layer, head]
    print(f"{name:>9}: layer 0", np.round(scores[0].numpy(), 2), " layer 1", np.round(scores[1].numpy(), 2))

# %% [markdown]
# Same parts, same kind of text, no induction yet. What happened in between is the subject of module 9.

# %% [markdown]
# ### Point at it
#
# In the view below, select one weight: an induction head, in the row of the last **river**, in the column that tells
# what comes next. Then run the cell under it.

# %%
view = iw.AttentionView(rec)
view

# %%
# >>> solution: # select a head and a weight in the view above, then run this cell
view.layer, view.head = 1, 0
view.query, view.key = 11, 5
# <<< solution
exercise("heads.look").check(view)

# %% [markdown]
# ## 3 · What it carries
#
# Where a head looks is up to queries and keys: the **QK circuit**. What it does with what it finds is up to values and
# the output matrix: the **OV circuit**. The two are nearly separate machines, and a head that looks at the right place
# might still say the wrong thing.
#
# Follow one word through: embed it, take its value, write it to the stream, read the logits. Four matrices in a row
# make one, [word, word]: looked at → made likelier. A head that **copies** has a strong diagonal. In one number (Elhage
# et al. 2021, “Summarizing OV/QK matrices”): the eigenvalues λ of that matrix, Σλ / Σ|λ|. 1 copies, −1 suppresses what
# it sees, 0 neither.


# %%
def copying_score(embed, w_v, w_o, unembed):
    """Σλ / Σ|λ|. Shapes: [word, d_model], [d_model, d_head], [d_head, d_model], [d_model, word]."""
    # >>> solution
    values = np.linalg.eigvals(embed @ w_v @ w_o @ unembed)
    return values.sum().real / np.abs(values).sum()
    # <<< solution


exercise("heads.copying").check(copying_score)

# %% [markdown]
# Predict: what are the copying scores of our four induction heads?
#
# Here are the matrices. Norms are in the way, as always: we apply the one before the layer to the embeddings, and of
# the last one we keep the weights. Its division makes all logits of a place smaller or larger together, and we leave it
# out.

# %%
words = np.random.default_rng(0).choice(np.arange(3, 512), 150, replace=False)  # 150 of 509, to be quick
gpt = model.module.transformer
unembed = (model.module.lm_head.weight * gpt.ln_f.weight).detach().T[:, words].numpy()
embedding = gpt.wte.weight.detach()[words]


def value_and_output(layer, head):
    """w_v [d_model, d_head] and w_o [d_head, d_model] of one head."""
    block, size = gpt.h[layer].attn, model.d_model // model.n_heads
    values = block.c_attn.weight.detach()[:, 2 * model.d_model :]
    return values[:, head * size : (head + 1) * size].numpy(), model.anatomy.w_o(layer)[head].detach().numpy()


straight = gpt.h[1].ln_1(embedding).detach().numpy()
for head in range(4):
    score = tried(copying_score, straight, *value_and_output(1, head), unembed)
    print(f"head 1.{head}", "–" if score is None else f"{score:5.2f}")
# -> head 1.0  0.24
# -> head 1.1 -0.22
# -> head 1.2  0.69
# -> head 1.3  0.52

# %% [markdown]
# Is 1.1 no copying head, and 1.0 hardly one? Look again at what was assumed: that layer 1 sees the bare embedding. It
# doesn't. Layer 0 has written to the stream first, and two of its heads attend to the very token they stand on (look:
# which?). They give each word a second form. Let them write, as if they looked nowhere else, and ask again.

# %%
attentive = [head for head in range(4) if clean.pattern(0, head).diagonal().mean() > 0.5]
bare = gpt.h[0].ln_1(embedding).detach().numpy()
written = sum(bare @ w_v @ w_o for w_v, w_o in (value_and_output(0, head) for head in attentive))
after_layer_0 = gpt.h[1].ln_1(embedding + torch.tensor(written)).detach().numpy()
print("heads of layer 0 that look at their own token:", attentive)
for head in range(4):
    score = tried(copying_score, after_layer_0, *value_and_output(1, head), unembed)
    print(f"head 1.{head}", "–" if score is None else f"{score:5.2f}")
# -> heads of layer 0 that look at their own token: [0, 1]
# -> head 1.0  1.00
# -> head 1.1  0.94
# -> head 1.2  1.00
# -> head 1.3  1.00

# %% [markdown]
# All four copy. What they copy is not the word but what layer 0 made of it: values of layer 1 read heads of layer 0,
# which Elhage et al. call **V-composition**. The first table was no error of arithmetic. It was a right answer to a
# question that the model does not ask.
#
# Note what this is worth: a reading of weights, with norms treated roughly. If it is true, then keeping those heads of
# layer 0 from layer 1's *values*, and from nothing else, must end the copying. That is an experiment.

# %% [markdown]
# ## 4 · Two heads that work together
#
# The story so far, as one would draw it on a board: a previous-token head in layer 0 writes at *flute* “river stood
# before me”. The induction head's **key** at flute holds that; its **query** at the second river asks for it. Keys of
# layer 1 read a head of layer 0: **K-composition**.
#
# If so, without the previous-token heads there is no induction. Take them away. The mean of a head over prompts is put
# in the place of what it writes, so that the rest of the model gets something of a kind it knows.


# %%
def without(layer, heads):
    """Copy accuracy with these heads ablated to their mean."""
    ablated = iw.run(model, ids, [iw.Ablate("z", layer, head=heads, kind="mean")], sites=["logits"])
    return accuracy(ablated["logits"], ids)


looking_back = [head for head in range(4) if previous[0][head] > 0.3]
print(f"without the previous-token heads {looking_back}: {without(0, looking_back):.2f}")
# -> without the previous-token heads [2, 3]: 0.01

# %% [markdown]
# Copying is gone. Is K-composition shown?
#
# Do the control before you answer: take away the *other* heads of layer 0.

# %%
print(f"without the others {attentive}: {without(0, attentive):.2f}")
for head in range(4):
    print(f"without 0.{head} alone: {without(0, [head]):.2f}")
# -> without the others [0, 1]: 0.00
# -> without 0.0 alone: 0.89
# -> without 0.1 alone: 0.12
# -> without 0.2 alone: 0.82
# -> without 0.3 alone: 0.80

# %% [markdown]
# Gone as well. And alone, the head that matters most is none of those that look back. So the first number, on its own,
# shows nothing of the kind: it shows that layer 1 needs layer 0. *Something upstream was needed* is true of nearly
# everything upstream.
#
# The claim is about one path: from those heads, into the **keys**. So cut that path, and only that one.


# %%
def kept_from(model, ids, heads):
    """Copy accuracy if one reader in layer 1 is computed as if these heads of layer 0 had written their mean.

    Everything else sees the heads as they are. A dictionary with a number for each reader: {"q": …, "k": …, "v": …}.
    """
    # >>> solution
    broken = iw.run(model, ids, [iw.Ablate("z", 0, head=heads, kind="mean")], sites=["q", "k", "v"])
    left = {}
    for reader in ("q", "k", "v"):
        patched = iw.run(model, ids, [iw.Patch(reader, 1, value=broken)], sites=["logits"])
        left[reader] = accuracy(patched["logits"], ids)
    return left
    # <<< solution


exercise("heads.reader").check(kept_from)

# %% [markdown]
# Now the table that the board drawing was missing. Predict each of the six numbers: high, or near zero?

# %%
print("kept from layer 1's        q     k     v")
for name, heads in [("previous-token heads", looking_back), ("own-token heads", attentive)]:
    left = tried(kept_from, model, ids, heads)
    if left is not None:
        print(f"{name:>20}  ", *(f"{left[reader]:6.2f}" for reader in "qkv"), sep="")
# -> kept from layer 1's        q     k     v
# -> previous-token heads    0.94  0.01  0.98
# ->      own-token heads    0.06  0.95  0.02

# %% [markdown]
# One column each. Keys need the heads that look back, and queries and values do not. Queries and values need the heads
# that look at their own token, and keys do not. The second row is what part 3 foretold for values, from the weights
# alone.
#
# Two ablations that looked the same were two different things. The path tells them apart.

# %% [markdown]
# ## 5 · Build one
#
# You understand a mechanism when you can write it into empty weights. Our stream has four blocks of ones and zeros:
#
# | block | size | holds |
# |---|---|---|
# | `token` | words | which word stands here |
# | `place` | places | which position this is |
# | `before` | words | which word stood before; nobody has written it yet |
# | `next` | words | the logits |
#
# First the head of layer 0, together. Its query at place *i* asks for place *i* − 1; its values carry `token`; it
# writes to `before`. Scores are 100 or 0, so that the softmax is a choice. (No norms, no MLP; word 0 is `<bos>`: the
# first token can only look at itself, and would take itself for its own predecessor.)

# %%
vocabulary, places = 8, 13
sizes = {"token": vocabulary, "place": places, "before": vocabulary, "next": vocabulary}
d_model = sum(sizes.values())


def block(name, sizes=sizes):
    """The coordinates of one block: [d_model, size], ones and zeros."""
    start = list(sizes).index(name)
    first = sum(list(sizes.values())[:start])
    return np.eye(sum(sizes.values()))[:, first : first + sizes[name]]


def attend(stream, w_q, w_k, w_v, w_o):
    """A head's pattern, and the stream with what it wrote."""
    scores = stream @ w_q @ (stream @ w_k).T / np.sqrt(w_q.shape[1])
    weights = torch.tensor(scores).masked_fill(~torch.ones(scores.shape).tril().bool(), -torch.inf).softmax(-1).numpy()
    return weights, stream + weights @ stream @ w_v @ w_o


one_back = np.eye(places, k=-1)  # place i → place i − 1
previous_head = 100 * block("place") @ one_back, block("place"), block("token"), block("before").T

tokens = [0, 3, 1, 6, 2, 5, 3, 1, 6]
start = block("token")[:, tokens].T + block("place")[:, : len(tokens)].T
looks_back, stream = attend(start, *previous_head)
print("token ", tokens)
print("before", (stream @ block("before")).argmax(-1).tolist())
# -> token  [0, 3, 1, 6, 2, 5, 3, 1, 6]
# -> before [0, 0, 3, 1, 6, 2, 5, 3, 1]

# %% [markdown]
# Now the induction head: yours. It gets the stream above, and must say at every word that was there before what
# followed it. Which block does each of the four matrices read, or write?
#
# It is run with other numbers of words and places, so use those you are given. `block(name, sizes)` helps.


# %%
def induction_head(vocabulary, places):
    """w_q, w_k, w_v [d_model, d_head] and w_o [d_head, d_model]; d_head is yours to choose."""
    sizes = {"token": vocabulary, "place": places, "before": vocabulary, "next": vocabulary}
    # >>> solution
    w_q = 100 * block("token", sizes)  # I am river:
    w_k = block("before", sizes)  # who came after river?
    w_v = block("token", sizes)  # what are you?
    w_o = block("next", sizes).T  # then that comes next
    return w_q, w_k, w_v, w_o
    # <<< solution


exercise("heads.build").check(induction_head)

# %% [markdown]
# Run it. Layer 0 is the head we wrote together, layer 1 is yours. Where a word is new, nothing matches, the head
# spreads its attention over everything, and no word stands out: “?”. (`<bos>`, at the start, has only itself to look
# at, and says itself.)

# %%
built = tried(induction_head, vocabulary, places)
patterns = [looks_back]
if built is not None:
    looks_ahead, after = attend(stream, *built)
    patterns.append(looks_ahead)
    print("token", tokens)
    print("says ", [int(row.argmax()) if row.max() > 0.9 else "?" for row in after @ block("next")])
# -> token [0, 3, 1, 6, 2, 5, 3, 1, 6]
# -> says  [0, '?', '?', '?', '?', '?', 1, 6, 2]

# %%
iw.AttentionView(np.stack(patterns)[:, None], tokens=[str(token) for token in tokens], layer=len(patterns) - 1)

# %% [markdown]
# Break it: give your head the stream as it was before layer 0. It has no one to tell it what stood before, and finds
# nothing. A one-layer model has nothing better, and this is why it takes two layers (Elhage et al. 2021, “Two-Layer
# Attention-Only Transformers”).

# %%
if built is not None:
    _, alone = attend(start, *built)
    print("says ", [int(row.argmax()) if row.max() > 0.9 else "?" for row in alone @ block("next")])
# -> says  [0, '?', '?', '?', '?', '?', '?', '?', '?']

# %% [markdown]
# The package ships the same machine as a GPT-2 that any tool can open, compiled from a program: `compiled-induction`.
# There every head has a name, and two are idle, as controls. Compare it with the trained one above: hard where that is
# soft, one head where that has four.

# %%
from interpwidgets.models.compiler import labels

compiled = iw.load("compiled-induction")
iw.AttentionView(iw.record(compiled, "a b c d a b c"), labels=labels(compiled).head, layer=1)

# %% [markdown]
# ## 6 · Do not fool yourself
#
# Back to the trained model, and to your prediction. Each induction head is taken away alone. In the view below, do the
# same with `ablate`: choose heads of layer 1, and read what becomes of the last word.

# %%
view = iw.AttentionView(rec, layer=1, head=2, query=11, ablate="mean")
view

# %%
order = [int(head) for head in np.argsort(-scores[1].numpy())]  # the strongest by prefix matching first
for head in order:
    print(f"without 1.{head}, prefix matching {scores[1][head]:.2f}: right on {without(1, [head]):.2f}")
# -> without 1.2, prefix matching 0.93: right on 0.96
# -> without 1.3, prefix matching 0.89: right on 0.96
# -> without 1.0, prefix matching 0.87: right on 0.97
# -> without 1.1, prefix matching 0.60: right on 0.97

# %% [markdown]
# Every one of them can go. What do you conclude?

# %%
# >>> solution: exercise("heads.redundant").check()
exercise("heads.redundant").check("c", confidence=0.9)
# <<< solution

# %% [markdown]
# Now take them away together. And beside the share of right answers, look at something that cannot saturate: the
# **lead**, how far the logit of the right word is above that of the best wrong one.


# %%
def lead(logits, ids):
    """The right word's logit less the best other, the mean over the second copy."""
    ids = torch.tensor(ids)
    half = ids.shape[1] // 2 + 1
    said, right = logits[:, half:-1], ids[:, half + 1 :, None]
    return (said.gather(-1, right) - said.scatter(-1, right, -torch.inf).amax(-1, keepdim=True)).mean().item()


for count in range(5):
    gone = [iw.Ablate("z", 1, head=order[:count], kind="mean")] if count else []
    logits = iw.run(model, ids, gone, sites=["logits"])["logits"] if count else clean["logits"]
    print(f"without {count}: right on {accuracy(logits, ids):.2f}, lead {lead(logits, ids):5.2f}")
# -> without 0: right on 0.97, lead  4.63
# -> without 1: right on 0.96, lead  1.73
# -> without 2: right on 0.80, lead  0.44
# -> without 3: right on 0.07, lead -0.78
# -> without 4: right on 0.00, lead -1.10

# %% [markdown]
# The share of right answers hardly moves at first, then falls off a cliff. The lead is more than halved by the first
# head that goes. Three lessons:
#
# - *Not needed* is not *not used*. A single ablation misses what is redundant.
# - A measure with a ceiling hides what happens above it. Look at logits beside accuracy.
# - Nobody stepped in. Heads of one layer run side by side and cannot notice that one is gone; together they simply
#   wrote more than enough. (In deeper models later heads do step in: Wang et al. 2022 call them backup name movers,
#   §3.)

# %% [markdown]
# ## What you predicted

# %%
predictions("heads")

# %% [markdown]
# ## What we have not shown
#
# - **That the heads do this on ordinary text.** Random words said twice are a test made for induction. Look at the
#   sentence below, with all four heads: who still looks at what followed last time, and who does something else?

# %%
iw.AttentionView(iw.record(model, "the cat sat on the mat . the cat sat"), layer=1, head=2, query=10)

# %% [markdown]
# - **What each single head of layer 0 does.** The path was cut for two heads at once. They may share the work, or do
#   two things.
# - **What the heads do otherwise.** A head named for one behaviour on one kind of prompt has a name, not a job
#   description.
# - **That it is the same in another training.** You have looked at one set of weights. The card of `induction-2l` measures
#   other seeds: which of your findings came again there?
# - **Anything about large models.** Olsson et al. argue that such heads carry much of in-context learning there too;
#   for large models with MLPs their evidence is mostly correlational, and they say so.
# - Means were taken over these prompts. Another ablation (zero, another prompt's value) is another question; try one.
#
# ## Your research log
#
# Copy it into your notes, and fill it in while it is fresh. One page, dated.
#
# > - **Question.** One sentence.
# > - **What I expected,** and how sure I was (0–1), before looking.
# > - **What I did.** Model, prompts (how many, from where, which seed), what was changed, what was measured.
# > - **What I saw.** The number, its spread over prompts, and the picture that goes with it.
# > - **The control that could have failed,** and what it gave.
# > - **What else would look the same.**
# > - **What I believe now,** and what would change my mind.
# > - **Not shown. Next.**
#
# A question to start from: do the two previous-token heads share the work, or does each do its own? `kept_from` takes a
# list of one.
