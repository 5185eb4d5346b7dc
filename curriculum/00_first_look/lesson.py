# %% [markdown] minutes=30
# # First look: what is inside, and how to look
#
# Somebody reads you a list: *lion, bread, clock, river, flute.* Then: *lion, bread, clock …* and stops. You know what
# comes next. Nobody taught you this list; you looked back.
#
# A small language model can do it too. In the next half hour you will see *that* it does, *where* in it that happens,
# and how far a picture can be trusted. You need no more than Python. Run a cell with Shift+Enter; click on everything.
#
# You may stop at any time. What you answered is kept; when you come back, run the cells above the one where you were
# (*Run → Run All Above Selected Cell*).

# %% [markdown]
# ## A model
#
# `induction-2l` came with the package. It was trained to guess the next word, of simple stories and of lists of random
# words. Nothing in this course needs a network.

# %%
import math

import torch

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model = iw.load("induction-2l")
model
# => Model(induction-2l: GPT2LMHeadModel, 2 layers × 4 heads, d_model 128, vocabulary 512, context 256)

# %% [markdown]
# ## What it reads
#
# A model reads *tokens*. Here a token is a word; `<bos>` marks the beginning, and a word that it does not know is
# `<unk>`. Always look at the tokens first: what you wrote and what was read are two things.

# %%
model.tokens("The lion sat on a skateboard")
# => Tokens(7: <bos> the lion sat on a <unk>)

# %% [markdown]
# ## Predict before you look
#
# The model reads `lion bread clock river flute lion bread clock`. It knows 512 words. What probability, from 0 to 1,
# will it give to `river`?
#
# Run the cell, write your guess below it, and say how sure you are that it is right to within 0.15. There is nothing to
# lose by being wrong, and much by not having guessed: what you never expected cannot surprise you.

# %%
text = "lion bread clock river flute lion bread clock"
# >>> solution: exercise("first_look.guess").check()
exercise("first_look.guess").check(0.6, confidence=0.5)
# <<< solution

# %% [markdown]
# ## What it says
#
# `iw.record` runs the model once and keeps what happened inside. At each position the model gives a number to every
# word, its *logit*; a softmax makes probabilities of them.

# %%
rec = iw.record(model, text, sites=["q", "k", "v", "z", "resid_pre", "resid_post", "logits"])
print(rec["logits"].shape, "prompts, positions, words")
after_the_last = rec["logits"][0, -1].softmax(-1)
for probability, word in zip(*after_the_last.topk(3), strict=True):
    print(f"{model.tokenizer.decode([int(word)]):>8} {probability:.2f}")
# -> torch.Size([1, 9, 512]) prompts, positions, words
# ->    river 0.64
# ->    lemon 0.01
# ->     nina 0.01

# %% [markdown]
# ## Was it surprised?
#
# It had something to say at every position, not only at the last. A word that got the probability ½ surprises by one
# bit, ¼ by two, and so on: *surprise* is −log₂ of the probability that the word had **before it was read**.
#
# Write it down. `logits` is `[position, word]`, `ids` are the tokens, `[position]`. Give one number a token; the first
# came without a warning, so it gets NaN (`torch.nan`).


# %%
def surprise(logits, ids):
    """The surprise of each token in bits, [position]; NaN first."""
    # >>> solution
    expected = logits[:-1].log_softmax(-1)
    found = -expected[range(len(ids) - 1), ids[1:]] / math.log(2)
    return torch.cat([torch.full([1], torch.nan), found])
    # <<< solution


exercise("first_look.surprise").check(surprise)

# %% [markdown]
# Once by hand, then with the tool. `PromptView` measures the same and paints it on the words; `TokensView` paints any
# number of a word. Which words cost much, which cost little? Click one to read its bits.

# %%
bits = iw.PromptView(model, text).surprise()
words = iw.TokensView(rec, {"surprise (bits)": bits}, title="A list that begins again")
words

# %% [markdown]
# The list costs about nine bits a word: one in 512 is exactly nine halvings, so the model knew nothing. When the words
# come again, the cost falls; not at once, but by the third it does. It has noticed.
#
# ## Write on it
#
# Below is a prompt that you can change. The colours are surprise again, and underneath is what the model expects next.
# Find out what makes it copy: **write a prompt that does not end in `tiger`, after which the model gives `tiger` more
# than half of its bet.** Then run the cell below the view.

# %%
prompt = iw.PromptView(model, "the dog saw the tiger .")
prompt

# %%
# >>> solution: # write in the view above, then run this cell
prompt.text = "drum tiger salt lemon drum tiger salt lemon drum"
# <<< solution
exercise("first_look.write").check(prompt)

# %% [markdown]
# ## Where it looks
#
# To say `river`, the model has to look back: words exchange what they know by *attention*. There are two layers with
# four heads each; each little square below is one head.
#
# In the large square, **rows are the words that look, columns are the words looked at**. Each row shares out a weight
# of exactly 1. Nobody can look at what has not been read yet, so one half is empty. Click a little square to enlarge
# it; click a word on the left to see where it looks.
#
# From the last `clock`, find **a head that gives most of its weight to `river`**. Leave it selected, and run the cell
# below.

# %%
view = iw.AttentionView(rec, query=8)
view

# %%
# >>> solution: # click a head in the view above, then run this cell
view.layer, view.head = 1, 2
# <<< solution
exercise("first_look.copier").check(view)

# %% [markdown]
# What you click is a value in Python, and what you set in Python is seen in the view.

# %%
print("layer", view.layer, "head", view.head, "query", view.query)
view.key = 4
view.selection  # the weight from clock to river in the head that you chose

# %% [markdown]
# Now choose *what a head carries* in place of *where it looks*: set **weights** to **× effect on a logit**, as here. A
# cell is then what looking there adds to the logit of a word. Orange adds, blue takes away.

# %%
carried = iw.AttentionView(rec, layer=1, head=0, query=8, key=4, weigh="logit", token="river")
carried

# %% [markdown]
# ## Break it
#
# A picture is a hypothesis. You have two: *these heads copy*, and *the model says river because of them*. What would
# prove you wrong?
#
# First, take away the reason. In the second prompt nothing is different but one word, the first `clock`. Does the head
# still look at `river`? The other prompt stands beside the first.

# %%
other = "lion bread drum river flute lion bread clock"
iw.AttentionView(
    rec, iw.record(model, other), names=["clock came before", "it did not"], compare=1, layer=1, head=0, query=8
)

# %%
river = iw.prob("river")
print(f"clock came before: {iw.run(model, text, metric=river).value:.3f}")
print(f"it did not:        {iw.run(model, other, metric=river).value:.3f}")

# %% [markdown]
# Then take away the heads. `Ablate` replaces what a head writes by zeros, and leaves all else as it is. Read the table
# slowly: which rows do you expect, and which one do you not?

# %%
for layer in range(2):
    for head in range(4):
        without = iw.run(model, text, [iw.Ablate("z", layer, head=head)], metric=river)
        looks = rec.pattern(layer, head)[8, 4]
        print(f"without layer {layer} head {head}: river {without.value:.2f}   it looks at river with {looks:.2f}")
print(f"without all of layer 1: river {iw.run(model, text, [iw.Ablate('z', 1)], metric=river).value:.2f}")

# %% [markdown]
# Without any one head of layer 1 `river` is weaker, and still far from chance; without all of them it is gone. And in
# layer 0 there is a head that does not look at `river` at all, without which `river` is gone.

# %%
# >>> solution: exercise("first_look.evidence").check()
exercise("first_look.evidence").check("c", confidence=0.8)
# <<< solution

# %% [markdown]
# ## What you predicted

# %%
predictions("first_look")

# %% [markdown]
# ## What we have not shown
#
# - That these heads copy on *other* prompts: you looked at one list, and changed one word of it.
# - How a head in layer 1 can know that the word before `river` was `clock`. It looks at `river`, and `river` does not
#   say. Module 2 finds out.
# - What the head in layer 0 does that all depends on.
# - That zero is a fair thing to put in a head's place. It is not what a head ever writes when it has nothing to say.
#   Module 3 tries others.
# - That a large model does it like this. Olsson et al. 2022, *In-context learning and induction heads*, looked at many
#   sizes.
#
# ## Your research log
#
# Copy this into a file of your own, and fill it in now. It takes two minutes, and in a month it is worth more than the
# notebook.
#
# ```
# Date, model, prompt:
# I predicted:
# I saw (numbers):
# I believe now:                              how sure, in %:
# What would prove me wrong:
# Did I try that? What came of it:
# What I do not understand:
# Next, the smallest experiment that could surprise me:
# ```
#
# Keep one view as a page that works without Python, and send it to somebody: `view.save_html("first-look.html")`. Next:
# what words actually pass to each other, *the residual stream*.
