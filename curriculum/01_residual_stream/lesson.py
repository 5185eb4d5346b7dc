# %% [markdown] minutes=60
# # The residual stream as a sum
#
# Picture a whiteboard for each word of a sentence. The embedding writes on it first. Then come the layers, one after
# the other: each reads what is there, and **adds** something. Nobody has a sponge. At the end the model reads the last
# board, and says a word.
#
# If it is so, then every logit is a sum too, and one may ask of each part: *how much of this answer did you write?* In
# an hour you will have done that by hand, and have seen it mislead you three times.

# %% [markdown]
# ## A sentence and a question
#
# `storyteller-4l` is a small GPT-2: four layers of attention and MLP. Two people, one of them acts; who is given the
# thing?

# %%
import itertools
from random import Random

import torch

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model = iw.load("storyteller-4l")
text = "when peter and henry travelled to the field , peter showed a kite to"
rec = iw.record(
    model,
    text,
    sites=["resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "ln_final_scale", "logits"],
)
for probability, word in zip(*rec["logits"][0, -1].softmax(-1).topk(3), strict=True):
    print(f"{model.tokenizer.decode([int(word)]):>8} {probability:.2f}")

# %% [markdown]
# ## Predict
#
# Take how far `henry` is ahead of `peter`: logit(henry) − logit(peter). In GPT-2 small nearly all of such a difference
# is written by a few attention heads, the *name movers* (Wang et al. 2022, §3). Here, over 112 sentences like this one:
# **what share do all attention heads together write directly, from 0 to 1?** The MLPs and the embedding have the rest.

# %%
# >>> solution: exercise("residual_stream.share").check()
exercise("residual_stream.share").check(0.1, confidence=0.5)
# <<< solution

# %% [markdown]
# ## Nobody has a sponge
#
# Is it true? `resid_pre` is the board before a layer, `resid_post` after it; `attn_out` and `mlp_out` are what the two
# halves of the layer write. If there is a sponge anywhere, the following is not zero.

# %%
for layer in range(model.n_layers):
    written = rec["attn_out", layer] + rec["mlp_out", layer]
    missing = rec["resid_post", layer] - rec["resid_pre", layer] - written
    print(f"layer {layer}: {missing.abs().max() / rec['resid_post', layer].abs().max():.0e} missing")

# %% [markdown]
# Zero, but for rounding. So you can rebuild the whole stream from what was written. `first` is the board before layer
# 0, `[position, d_model]`; `attn` and `mlp` are the writes, `[layer, position, d_model]`. Give the stream after each
# layer, `[layer, position, d_model]`.


# %%
def rebuild(first, attn, mlp):
    """The residual stream after each layer: [layer, position, d_model]."""
    # >>> solution
    return first + (attn + mlp).cumsum(0)
    # <<< solution


exercise("residual_stream.rebuild").check(rebuild)

# %% [markdown]
# How long is what stands on the last word's board?

# %%
print(f"before layer 0: {rec['resid_pre', 0][0, -1].norm():.0f}")
for layer in range(model.n_layers):
    attn, mlp, after = (rec[site, layer][0, -1].norm() for site in ("attn_out", "mlp_out", "resid_post"))
    print(f"layer {layer} writes {attn:.0f} by attention, {mlp:.0f} by its MLP; after it: {after:.0f}")
# -> before layer 0: 2
# -> layer 0 writes 74 by attention, 178 by its MLP; after it: 210
# -> layer 1 writes 90 by attention, 105 by its MLP; after it: 296
# -> layer 2 writes 84 by attention, 34 by its MLP; after it: 314
# -> layer 3 writes 147 by attention, 306 by its MLP; after it: 250

# %% [markdown]
# The embedding, two units long, is soon a whisper. And after the last layer the stream is *shorter* than before: there
# is no sponge, but a part can write the opposite of what stands there.
#
# ## Read it early: the logit lens
#
# The model reads the board after the last layer: it norms, it unembeds, it takes a softmax. Why not do the same after
# every layer, and see what it *would* say? nostalgebraist (2020, *interpreting GPT: the logit lens*) tried, and many
# have since.
#
# A LayerNorm takes the mean off the `d_model` numbers, divides by their standard deviation (√(variance + `EPS`)),
# multiplies by its weight, and adds its bias. `unembed` is `[word, d_model]`.

# %%
EPS = 1e-5


def lens(streams, weight, bias, unembed):
    """The probability of each word after each layer: [layer, position, d_model] → [layer, position, word]."""
    # >>> solution
    normed = torch.nn.functional.layer_norm(streams, weight.shape, weight, bias, EPS)
    return (normed @ unembed.T).softmax(-1)
    # <<< solution


exercise("residual_stream.lens").check(lens)

# %% [markdown]
# Once by hand, then with the tool. Rows are layers, the last on top; in each cell stands the likeliest next word. Look
# at the last column from below: when does `henry` come? Click a cell to see its runners-up, and who wrote there. Then
# look at other columns, and note what you believe about the layers.

# %%
lens_view = iw.LogitLensView(rec, token="henry", measure="probability")
lens_view

# %% [markdown]
# ## The norm stands in the way
#
# We want to split *logits*, and between the board and the logits is a norm, which divides by the length of the whole.
# Half of a stream, normed, is not half of the normed stream. The way out: **hold the scale** at the number that it has
# on this prompt. All the rest of the norm is linear.
#
# `parts` is `[part, d_model]`, and the stream is their sum. Give what each part is after the norm, so that they add up
# to the normed stream but for its bias.


# %%
def held(parts, weight):
    """What each part is after the final norm, with the norm's scale held: [part, d_model]."""
    # >>> solution
    scale = torch.sqrt(parts.sum(0).var(correction=0) + EPS)
    centred = parts - parts.mean(-1, keepdim=True)
    return centred / scale * weight
    # <<< solution


exercise("residual_stream.held").check(held)

# %% [markdown]
# ## Who wrote the answer?
#
# Now all is linear, from a head's output to a logit. A head writes `z · W_O`; two logits are compared along the
# difference of two rows of the unembedding. Give what each head writes to logit(right) − logit(wrong) at the last
# position, `[layer, head]`. This is *direct logit attribution* (Elhage et al. 2021).
#
# It is a function of *any* model like this one: it will be tried on copies whose heads are shuffled. You find what you
# need here:

# %%
print("z:              ", list(rec["z", 0].shape), "prompt, position, head, d_head")
print("w_o of a layer: ", list(model.anatomy.w_o(0).shape), "head, d_head, d_model")
print("ln_final_scale: ", list(rec["ln_final_scale"].shape), "prompt, position, 1: what the final norm divides by")
print("ln_f.weight:    ", list(model.module.transformer.ln_f.weight.shape))
print("unembedding:    ", list(model.module.lm_head.weight.shape), "word, d_model")
print("henry is token  ", int(model.tokens("henry").ids[-1]))


# %%
def direct(model, text, right, wrong):
    """What each head writes directly to logit(right) − logit(wrong): [layer, head]."""
    # >>> solution
    rec = iw.record(model, text, sites=["z", "ln_final_scale"])
    unembed, norm = model.module.lm_head.weight, model.module.transformer.ln_f
    first, second = (int(model.tokens(word).ids[-1]) for word in (right, wrong))
    direction = (unembed[first] - unembed[second]) * norm.weight
    direction = (direction - direction.mean()) / rec["ln_final_scale"][0, -1]
    layers = range(model.n_layers)
    found = [torch.einsum("hd,hdm,m->h", rec["z", i][0, -1], model.anatomy.w_o(i), direction) for i in layers]
    return torch.stack(found).detach()
    # <<< solution


exercise("residual_stream.direct").check(direct)

# %% [markdown]
# And with the tool. The bars add up, from layer to layer, to the difference of the two logits. An attention layer opens
# into its heads, a head into the words whose values it carried.
#
# The view opens at the head with the longest bar; it writes *against* henry. **Click the head that speaks most for
# him**, in any layer, then run the cell below.

# %%
anecdote = iw.direct_logit_attribution(model, text, iw.logit_diff("henry", "peter"))
view = iw.ResidualView(anecdote)
view

# %%
# >>> solution: # click the head in the view above, then run this cell
view.layer, view.head = divmod(int(anecdote.heads[0].argmax()), model.n_heads)
# <<< solution
exercise("residual_stream.writer").check(view)

# %% [markdown]
# ## Break it, first: one sentence is an anecdote
#
# Two heads of the last layer with long bars, one for and one against: a story tells itself. Before you tell it, ask
# more sentences. Here are 112, with eight names in either place.

# %%
names = ["anna", "ben", "leo", "kate", "peter", "henry", "clara", "david"]
pairs = list(itertools.permutations(names, 2))
asked = [(a, b, b, a, b) for a, b in pairs] + [(a, b, a, b, a) for a, b in pairs]  # first, second, giver, right, wrong
texts = [f"when {a} and {b} went to the park , {giver} gave a book to" for a, b, giver, _, _ in asked]
right, wrong = [each[3] for each in asked], [each[4] for each in asked]
over_many = iw.direct_logit_attribution(model, texts, iw.logit_diff(right, wrong))
print("one sentence, heads of the last layer: ", anecdote.heads[0, -1].round(2))
print("112 sentences, heads of the last layer:", over_many.heads[:, -1].mean(0).round(2))

# %%
iw.ResidualView(over_many)

# %% [markdown]
# The two heads were an accident of that sentence. What is left: the last MLP writes most, the MLP of layer 0 comes
# second, and heads hardly count. This is what you predicted, so here is what came of it; the cell at the end will tell
# you again.

# %%
print(f"heads: {over_many.attn.sum(1).mean() / over_many.total.mean():.2f} of the difference")
print(f"MLPs:  {over_many.mlp.sum(1).mean() / over_many.total.mean():.2f}")
# -> heads: 0.08 of the difference
# -> MLPs:  0.92

# %% [markdown]
# ## Break it, again: the control that fails
#
# The MLP of layer 0 writes for the right name, on average over 112 sentences. Has the model decided *that early*? Ask
# the lens: in how many sentences is the right name above the wrong one after each layer?
#
# And ask for a **control**: something that must *not* work if the story is true. Take a name that nobody said. If layer
# 0 knows the answer, the right name should be above that one too.

# %%
many = iw.record(model, texts, sites=["resid_post"])
read = iw.logit_lens(many)
ids = {name: int(model.tokens(name).ids[-1]) for name in names}
unsaid = [
    next(name for name in names[i % 8 :] + names if name not in pair)
    for i, pair in enumerate(zip(right, wrong, strict=True))
]
print("after layer   right > wrong   right > unsaid   unsaid > wrong")
for layer in range(model.n_layers):
    last = read.logits(layer)[:, -1]
    r, w, u = (last[range(len(texts)), [ids[name] for name in which]] for which in (right, wrong, unsaid))
    print(f"{layer:>6} {(r > w).float().mean():>15.2f} {(r > u).float().mean():>16.2f} {(u > w).float().mean():>16.2f}")

# %%
# >>> solution: exercise("residual_stream.control").check()
exercise("residual_stream.control").check("b", confidence=0.8)
# <<< solution

# %% [markdown]
# The same control for the attribution: split right − wrong into right − unsaid and unsaid − wrong. What the MLP of
# layer 0 wrote should stand in one of the two only. Then look at the heads.

# %%
for what, first, second in (
    ("right − wrong", right, wrong),
    ("right − unsaid", right, unsaid),
    ("unsaid − wrong", unsaid, wrong),
):
    found = iw.direct_logit_attribution(model, texts, iw.logit_diff(first, second))
    heads, mlps = found.attn.sum(1).mean(), found.mlp.mean(0)
    print(
        f"{what:>15}: {found.total.mean():6.2f} = heads {heads:5.2f}, MLPs " + " ".join(f"{mlp:5.2f}" for mlp in mlps)
    )

# %% [markdown]
# The heads write for the right name, and nearly as much for the wrong one: they bring *both*, and a difference of the
# two hides what they do. So the share that you saw was true, and was an answer to one question: what tells these two
# names apart? Asked what tells the right name from one that was not said, the heads' share is another. **A share has a
# denominator. Write it down with the number.**
#
# ## Break it, a third time: the lens reads too little
#
# Go back to the lens: after layer 1 it seldom has the right person on top. Does the stream not know yet, or can the
# lens not read it? Belrose et al. (2023, *Eliciting latent predictions from transformers with the tuned lens*) let each
# layer be *translated* first: a linear map, fitted so that it predicts the last layer's stream. We fit ours by least
# squares, with a pinch of ridge, on 600 sentences of the kind that training had, and try it on 200 that it cannot have
# had.
#
# A fitted map may be too clever. So there is a control here as well: the same map, fitted to the final streams of
# *other* sentences. It must fail.

# %%
from interpwidgets.models.corpora.tasks import ioi_pair


def ends(side, seed, count):
    """Streams at the last word after each layer, [layer, prompt, d_model], and the right names' ids."""
    rng = Random(seed)
    questions = [ioi_pair(rng, side) for _ in range(count)]
    found = iw.record(model, [each.prompt for each in questions], sites=["resid_post"])
    last = [len(tokens) - 1 for tokens in found.tokens]
    streams = torch.stack([found["resid_post", layer][range(count), last] for layer in range(model.n_layers)])
    return streams, torch.tensor([int(model.tokens(each.answer).ids[-1]) for each in questions])


def fitted(early, final):
    """The affine map that takes early streams closest to final ones."""
    with_one = torch.cat([early, torch.ones(len(early), 1)], 1).double()
    normal = with_one.T @ with_one + 1e-2 * with_one.square().mean() * torch.eye(with_one.shape[1])
    found = torch.linalg.solve(normal, with_one.T @ final.double()).float()
    return lambda stream: stream @ found[:-1] + found[-1]


train, _ = ends("train", 1, 600)
test, answers = ends("heldout", 2, 200)
others = torch.randperm(600, generator=torch.Generator().manual_seed(0))
translators = {layer: fitted(train[layer], train[-1]) for layer in range(3)}
controls = {layer: fitted(train[layer], train[-1][others]) for layer in range(3)}

norm, unembed = model.module.transformer.ln_f, model.module.lm_head
print("after layer   lens   translated   control")
with torch.no_grad():
    for layer in range(3):
        tried = (test[layer], translators[layer](test[layer]), controls[layer](test[layer]))
        plain, tuned, chance = ((unembed(norm(each)).argmax(-1) == answers).float().mean() for each in tried)
        print(f"{layer:>6} {plain:>13.2f} {tuned:>12.2f} {chance:>9.2f}")

# %% [markdown]
# After layer 1 the answer is there, in nearly every sentence, in a language that the last layer does not speak. After
# layer 0 it is not there, at least not for a linear map. See both lenses on our sentence, one below the other. Read the
# last column only: the map was fitted to last words, and elsewhere it sees names where there are none. A lens has a
# place where it was tried.

# %%
plain = iw.logit_lens(rec)
iw.LogitLensView(
    plain,
    iw.logit_lens(rec, translators=translators),
    names=["as it is", "translated"],
    compare=1,
    token="henry",
    measure="probability",
)

# %% [markdown]
# ## What you predicted

# %%
predictions("residual_stream")

# %% [markdown]
# ## What we have not shown
#
# - That any part *matters*. All this is bookkeeping of one pass: a part that writes nothing to the logits may be what a
#   later one needs. To know, take it away, or put another's in its place: module 3.
# - That the model *uses* what the translated lens reads. A map can find what no later layer looks for.
# - That the scale may be held. If a part were gone the norm's scale would change, and with it every other part's share.
# - How the last MLP chooses between two names that were both carried to it.
# - That any of it is so in another wording, another seed, or a larger model. In GPT-2 small, heads write the answer
#   (Wang et al. 2022).
#
# ## Your research log
#
# ```
# Question, model, prompts (how many):
# Measure, and against what (the denominator):
# I predicted:                                I saw:
# The control that should fail:               did it?
# What the picture suggested, and the numbers did not bear out:
# I believe now:                              how sure, in %:
# What would prove me wrong:
# Next, the smallest experiment that could surprise me:
# ```
#
# Read on: Elhage et al. 2021, *A mathematical framework for transformer circuits*, “The residual stream”. Next module:
# heads, which decide what is carried from board to board.
