# %% [markdown] minutes=20
# # An example lesson
#
# One exercise of each kind, for authors. A cell holds one idea; this is one.

# %%
import numpy as np

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model = iw.load("induction-2l")
model
# => Model(induction-2l: GPT2LMHeadModel, 2 layers × 4 heads, d_model 128, vocabulary 512, context 256)

# %% [markdown]
# ## Predict
#
# One head looks at the token just before. How much of its attention, from 0 to 1, does it spend there?

# %%
# >>> solution: exercise("example.share").check()
exercise("example.share").check(0.95, confidence=0.8)
# <<< solution

# %% [markdown]
# ## From scores to attention


# %%
def attention(scores):
    """Weights from scores, [query, key]: each row sums to one."""
    # >>> solution
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
    # <<< solution


exercise("example.attention").check(attention)


# %% [markdown]
# ## Which heads look one step back?


# %%
def previous_heads(model):
    """A list of (layer, head); empty if there are none."""
    # >>> solution
    ids = np.random.default_rng(1).permutation(np.arange(8, 40)).tolist()
    rec = iw.record(model, [ids])
    heads = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    return [(layer, head) for layer, head in heads if rec.pattern(layer, head).diagonal(-1).mean() > 0.5]
    # <<< solution


exercise("example.previous").check(previous_heads)

# %% [markdown]
# Click the head that does it, then run the cell below the view.

# %%
view = iw.AttentionView(iw.record(model, "lion bread clock river lion bread clock river"))
view

# %%
# >>> solution: # click the head in the view above, then run this cell
view.layer, view.head = previous_heads(model)[0]
# <<< solution
exercise("example.look").check(view)

# %%
# >>> solution: exercise("example.meaning").check()
exercise("example.meaning").check("b", confidence=0.9)
# <<< solution

# %% [markdown]
# ## What you predicted

# %%
predictions("example")
