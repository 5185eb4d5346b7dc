# %% [markdown] minutes=65
# # Evidence: ablate, patch, attribute
#
# In module 2 a stripe below the diagonal looked as if a head copied words. It looked. A pattern of attention is where a
# head reads; whether anything comes of it, the picture does not say.
#
# This lesson is about the step from *looks like* to *is*: reach into the forward pass, change one thing, and see what
# becomes of the answer. There are three ways, each with a way of its own to mislead, and you will meet all of them.

# %%
import numpy as np

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model = iw.load("induction-2l")
model
# => Model(induction-2l: GPT2LMHeadModel, 2 layers × 4 heads, d_model 128, vocabulary 512, context 256)

# %% [markdown]
# ## The question
#
# Ten random words, then the first four of them again. What comes next? Whoever noticed the repetition says: the fifth.
#
# Beside each such *clean* prompt we keep a *corrupted* one, in which one word is another: the fourth, the first time it
# is said. Now the last word has never been said before, and there is nothing to copy. The two differ in one word, so
# whatever differs between the runs comes from it.

# %%
WORDS = (
    "lion bread clock river flute drum apple lamp horse garden kite market cheese forest bear mouse stone window "
    "letter bridge tower frog fox rope"
).split()
rng = np.random.default_rng(0)
clean, corrupted, right, wrong = [], [], [], []
for _ in range(32):
    words = rng.permutation(WORDS)[:11].tolist()
    clean.append(" ".join(words[:10] + words[:4]))
    corrupted.append(" ".join([*words[:3], words[10], *words[4:10], *words[:4]]))
    right.append(words[4])  # what followed the last word the first time
    wrong.append(words[6])  # another word of the prompt
print(clean[0], "→", right[0])
print(corrupted[0], "→ ?")

# %% [markdown]
# Two ways to ask how well the model does. *Accuracy*: how often the right word is the best of all. The *logit
# difference*: how far the right word is above another word of the prompt. Remember that they are not the same; it will
# matter in ten minutes.

# %%
accuracy, metric = iw.accuracy(right), iw.logit_diff(right, wrong)
for name, prompts in (("clean", clean), ("corrupted", corrupted)):
    right_share, difference = (iw.run(model, prompts, [], metric=each).value for each in (accuracy, metric))
    print(f"{name:10} accuracy {right_share:.2f}, logit difference {difference:5.2f}")

# %% [markdown]
# Here is layer 1 on one of them. Walk through its four heads: from the last word, where does each look? Which has the
# brightest stripe?

# %%
iw.AttentionView(iw.record(model, clean[0]), layer=1, head=2, query=14)

# %% [markdown]
# ## Predict
#
# We take the head with the brightest stripe and make it say, everywhere, only what it says on average. On what share of
# such prompts is the model still right? Write down a number from 0 to 1, and how sure you are. It is settled at the end.

# %%
# >>> solution: exercise("evidence.alone").check()
exercise("evidence.alone").check(0.95, confidence=0.6)
# <<< solution

# %% [markdown]
# ## Taking a head away
#
# To ablate a head is to replace what it writes. By what? The field has three customs:
#
# - **zero**: nothing. But no head ever writes nothing, and later parts may count on what it always writes.
# - **mean**: what it writes on average. What it says whatever the prompt stays, what it says about this one is gone.
# - **resample**: what it wrote on another prompt. A real value, only of the wrong prompt.
#
# The mean first, by hand. `z` is what a head writes before its output matrix. Prompts differ in length, and are padded:
# prompt `i` has `lengths[i]` real tokens.


# %%
def mean_write(z, head, lengths):
    """The mean of one head over all real tokens, [d_head], of z [prompt, pos, head, d_head]."""
    # >>> solution
    tokens = [z[i, :length, head] for i, length in enumerate(lengths)]
    return np.concatenate(tokens).mean(0)
    # <<< solution


exercise("evidence.mean").check(mean_write)

# %% [markdown]
# An ablation is then a patch with that mean: *replace the values here by these*. The tool does the same in one word.

# %%
z = iw.record(model, clean, sites=["z"])["z", 1]  # [prompt, pos, head, d_head]; all prompts are of one length
by_hand = iw.run(model, clean, [iw.Patch("z", 1, head=2, value=z.mean((0, 1))[2])], metric=metric)
by_tool = iw.run(model, clean, [iw.Ablate("z", 1, head=2, kind="mean")], metric=metric)
print(by_hand)
print(by_tool)

# %% [markdown]
# ## Three customs, three answers
#
# The same head, silenced in four ways: the three above, and a mean for each position on its own.

# %%
ways = {
    "as it is": [],
    "zero": [iw.Ablate("z", 1, head=2)],
    "mean": [iw.Ablate("z", 1, head=2, kind="mean")],
    "mean by position": [iw.Ablate("z", 1, head=2, kind="mean", per_pos=True)],
    "resample": [iw.Ablate("z", 1, head=2, kind="resample")],
}
for name, change in ways.items():
    difference, right_share = (iw.run(model, clean, change, metric=each).value for each in (metric, accuracy))
    scale = iw.run(model, clean, change, sites=["ln_final_scale"])["ln_final_scale"][:, -1].mean().item()
    print(
        f"{name:18} logit difference {difference:5.2f}, accuracy {right_share:.2f}, final norm divides by {scale:4.1f}"
    )

# %% [markdown]
# The logit difference says that the head is worth most of the answer, if you ask by the mean; a small part, if by zero.
# Accuracy says that it hardly matters, but for the last line. Before you read on: what could make a logit difference
# shrink, and leave the ranking of the words as it was?
#
# The last column tells. The final norm divides the stream by its length. At most positions this head has nothing to
# copy, and writes something *long*, always much the same; so its mean over positions is longer than what it writes
# at the end of a prompt. Put there, it makes the stream long, the norm divides by more, and *all* logits shrink. Little
# of that is about the word to be copied. The mean by position does not have this, and agrees with zero.
#
# And *resample*? It does not silence the head. It gives it a wrong voice: the head now insists on the word that followed
# in another prompt, and sometimes it wins. That is another question than “what if the head said nothing?”.

# %%
lengths = {
    "what it writes in the first copy": z[:, 1:11, 2].norm(dim=-1).mean(),
    "at the end": z[:, -1, 2].norm(dim=-1).mean(),
    "its mean": z[..., 2, :].mean((0, 1)).norm(),
}
print(", ".join(f"{name}: length {length:.1f}" for name, length in lengths.items()))

# %% [markdown]
# No custom is the right one. Say which you used, look at two metrics, and if they disagree find out why.
#
# ## One alone is not missed
#
# The head is spare, and the reason stands in the first picture: it has three colleagues. Take away one after the other.

# %%
reference = iw.record(model, clean, sites=["z"])
for heads in ([2], [2, 3], [2, 3, 0], [2, 3, 0, 1]):
    gone = [iw.Ablate("z", 1, head=heads, kind="mean", per_pos=True, reference=reference)]
    print(f"without heads {heads}: accuracy {iw.run(model, clean, gone, metric=accuracy).value:.2f}")

# %% [markdown]
# So “ablated it, nothing happened, hence it does nothing” is wrong: redundancy hides from ablations of single parts.
#
# ## How sure? Prompts vary
#
# Each prompt gives a number; another draw of prompts would give others. A bootstrap asks how much the mean would move:
# draw as many prompts as there are, with repetition, a few thousand times, and see where the means fall.

# %%
effect = iw.run(model, clean, [iw.Ablate("z", 1, head=0, kind="zero")], metric=metric)
change = effect.per_prompt  # [prompt], paired: with less without, on the same prompt
drawn = np.random.default_rng(0).integers(len(change), size=(4000, len(change)))
low, high = np.quantile(change[drawn].mean(1), [0.025, 0.975])
print(f"by hand: {change.mean():.2f}, 95 % {low:.2f} … {high:.2f}")
print(effect)

# %% [markdown]
# The interval is of the *paired* change. What if you forget the pairing, and take the spread of the two means? Prompts
# differ from each other more than the ablation differs from prompt to prompt, and the interval grows for no reason.
#
# ## Compared with what? Other heads
#
# An interval that excludes zero says that something happened. Nearly everything makes something happen. The better
# question: is it more than what any other head would do?

# %%
for layer, head in ((1, 1), (0, 1)):
    gone = iw.Ablate("z", layer, head=head, kind="resample", reference=reference)
    print(f"head {layer}.{head}", iw.run(model, clean, [gone], metric=metric, control="random_heads", draws=50))

# %% [markdown]
# Head 1.1 has an interval without zero in it, and a random head does more. Head 0.1 exceeds them all. Is it the one that
# finds the repetition, then? Ablation cannot say. It takes away *everything* that a head says, on any prompt; we only
# know that the model needs 0.1 for something.
#
# ## Patching: change one fact, not everything
#
# Here the corrupted prompts earn their keep. Run the corrupted prompt, in which nothing is to be copied. Then reach in
# and replace the stream at *one* layer and *one* position by what it was in the clean run. If the answer comes back, what
# makes the difference stands there. (Vig et al. 2020; Meng et al. 2022, §2; “interchange”: Geiger et al. 2021.)
#
# No hooks: record the giver, run the receiver with a `Patch`.


# %%
def patched(model, clean, corrupted, layer, pos, right, wrong):
    """The logit difference of a corrupted prompt, its stream before `layer` at `pos` taken from the clean one."""
    # >>> solution
    rec = iw.record(model, clean, sites=["resid_pre"])
    patch = iw.Patch("resid_pre", layer, pos=pos, value=rec)
    return iw.run(model, corrupted, [patch], metric=iw.logit_diff(right, wrong)).value
    # <<< solution


exercise("evidence.patch").check(patched)

# %% [markdown]
# ## From logits to a share
#
# “The metric rose to 6.1” says little. Put the corrupted run at 0 and the clean run at 1: how much of the way is it?
# You have the three runs, a number for each prompt. There are two ways to make one number of them, and one of them is
# ruled by prompts that say nothing.


# %%
def recovered(clean, corrupted, patched):
    """The share of the way from corrupted to clean; each an array with a number for each prompt."""
    # >>> solution
    return (patched - corrupted).mean() / (clean - corrupted).mean()
    # <<< solution


exercise("evidence.recovered").check(recovered)

# %% [markdown]
# ## A sweep
#
# All layers, all positions. Before you look: where, in the row of layer 0, can there be anything at all? And after layer
# 0 has done its work, in the row of layer 1?

# %%
stream = iw.patch_sweep(model, clean, corrupted, metric, over="resid_pre", progress=False)
view = iw.PatchingView(stream, measure="recovered", layer=0, position=1)
view

# %% [markdown]
# In layer 0 there is one cell, of course: the word that differs. Click the cell by which, **before layer 1**, all of the
# answer comes back. Then say to yourself what must have been written there, and by what kind of head.

# %%
# >>> solution: # click the cell in the view above, then run this one
view.layer, view.position = 1, 5
# <<< solution
exercise("evidence.moved").check(view)

# %% [markdown]
# One step to the right: “before me stood *river*”. This is what attention alone could not show, and ablation could not
# either: which fact, at which place, at which depth.
#
# ## Two directions
#
# So far a clean value went into the corrupted run: **denoising**, *is this enough to bring the answer back?* The other
# way round, a corrupted value goes into the clean run: **noising**, *is this needed?* (Heimersheim & Nanda 2024.)
# Do both, head by head. Do you expect the same table?

# %%
denoise = iw.patch_sweep(model, clean, corrupted, metric, over="z", progress=False)
noise = iw.patch_sweep(model, corrupted, clean, metric, over="z", progress=False)
iw.PatchingView({"denoising: is it enough?": denoise, "noising: is it needed?": noise}, measure="recovered")

# %% [markdown]
# Now as a function, for any model of this kind. Which heads carry what came before: without which (noised, one at a
# time) is more than **0.4** of the way from clean to corrupted gone? Your function gets models whose heads have other
# places, and one that never learned anything. There the answer is an empty list.


# %%
def carriers(model, clean, corrupted, right, wrong):
    """A list of (layer, head); empty for a model that is not right more often than not."""
    # >>> solution
    if iw.run(model, clean, [], metric=iw.accuracy(right)).value <= 0.5:
        return []
    metric = iw.logit_diff(right, wrong)
    effects = iw.patch_sweep(model, corrupted, clean, metric, over="z", progress=False)
    return [(int(layer), int(head)) for layer, head in np.argwhere(effects.recovered > 0.4)]
    # <<< solution


exercise("evidence.carriers").check(carriers)

# %% [markdown]
# Head 0.1, which ablation found first, is not among them: it is needed for every prompt, and carries nothing of *this*.
#
# Look at the two heads of layer 0 once more, alone and together.

# %%
recording = {"clean": iw.record(model, clean, sites=["z"]), "corrupted": iw.record(model, corrupted, sites=["z"])}
for heads in ([2], [3], [2, 3]):
    back, away = (iw.Patch("z", 0, head=heads, value=recording[name]) for name in ("clean", "corrupted"))
    enough = iw.run(model, corrupted, [back], metric=metric, clean=clean).recovered
    needed = iw.run(model, clean, [away], metric=metric, clean=corrupted).recovered
    print(f"heads {heads} of layer 0: denoising brings back {enough:.2f}, noising takes away {needed:.2f}")

# %%
# >>> solution: exercise("evidence.direction").check()
exercise("evidence.direction").check("c", confidence=0.9)
# <<< solution

# %% [markdown]
# ## The linear guess
#
# A sweep runs the model once for each cell. With a thousand heads and a thousand positions one would rather not. The
# trick: a gradient tells, for *every* activation at once, how the metric moves if it moves a little. A patch moves it by
# clean − corrupted. Multiply. Two forward passes and one backward, and there is a guess for every cell (Nanda 2023).


# %%
def attribution(clean, corrupted, gradient):
    """For each head the guessed effect of patching it, [head], from arrays [prompt, pos, head, d_head]."""
    # >>> solution
    return ((clean - corrupted) * gradient).sum((1, 3)).mean(0)
    # <<< solution


exercise("evidence.attribution").check(attribution)

# %% [markdown]
# How good is the guess? `check` patches some cells for real. First the heads of our model.

# %%
guessed = iw.attribution_patch(model, clean, corrupted, metric, over="z", check=8)
print(guessed.checked)
for layer in range(2):
    ratio = guessed.effect[layer].sum() / denoise.effect[layer].sum()
    print(f"layer {layer}: guessed is {ratio:.2f} of what patching finds")
iw.PatchingView({"guessed": guessed, "patched for real": denoise})

# %% [markdown]
# The guess ranks the heads well, and that is what it is for. Sizes are another matter: all too small, and layer 0 more so
# than layer 1. What layer 1 writes has only a norm before the logits. What layer 0 writes passes through the keys of
# layer 1, and a softmax.
#
# ## Where it fails, in slow motion
#
# `ioi-known` is a model whose inside is known: a name said twice is found by head 0.1 (module 4 takes it apart). Its
# softmaxes are sharp. Take the queries of that head and walk them from corrupted to clean in ten steps, instead of one
# leap. A gradient at the start sees the slope of the first step, and nothing else. What does it see?

# %%
known = iw.load("ioi-known")
sentence = "when {} and {} went to the park , {} gave a book to".format
pairs = [("anna", "ben"), ("emma", "jack"), ("clara", "paul"), ("grace", "henry")]
given, other = [sentence(a, b, b) for a, b in pairs], [sentence(a, b, a) for a, b in pairs]
names = iw.logit_diff([a for a, _ in pairs], [b for _, b in pairs])
start, end = (iw.record(known, prompts, sites=["q"])["q", 0] for prompts in (other, given))
for step in range(11):
    values = start + step / 10 * (end - start)
    here = iw.run(known, other, [iw.Patch("q", 0, head=1, value=values)], metric=names).value
    print(f"{step / 10:.1f} of the way: {here:7.2f} {'·' * round(here + 20)}")

# %% [markdown]
# A plateau, a cliff, a plateau. On the plateau the softmax is saturated: it is sure, and a small push changes nothing.
# The slope there is zero, so the guess is zero, and the effect is the height of the cliff.

# %%
gradient = iw.attribution_patch(known, given, other, names, over="q")
along = iw.integrated_attribution_patch(known, given, other, names, over="q", steps=20)
real = iw.patch_sweep(known, given, other, names, over="q", progress=False)
for name, effects in (("gradient at the start", gradient), ("gradients along the way", along), ("for real", real)):
    print(f"{name:24} queries of 0.1 {effects.effect[0, 1]:7.3f}   queries of 2.0 {effects.effect[2, 0]:7.3f}")

# %% [markdown]
# Gradients averaged along the way help where the way has slopes (Hanna et al. 2024); a cliff they may step over. So:
# attribute to *rank*, patch to *claim*. A zero from a gradient is no evidence that a part does nothing.
#
# ## What you predicted

# %%
predictions("evidence")

# %% [markdown]
# ## What we have not shown
#
# - That the heads named do the same on other text. All prompts were ten random words and four again.
# - Which of a head's inputs matters: that 0.2 and 0.3 are read by *keys* of layer 1. Module 4 does this, by paths.
# - That a restored answer is restored by the usual way. A patch can bring an answer back by a path that the model
#   does not use by itself (Makelov et al. 2023).
# - Anything that does not differ between the two prompts. Patching is blind to what both runs share: head 0.1.
#
# **Research log.** Copy, and fill in.
#
# | | |
# |---|---|
# | Question | *which head, position, or layer does …?* |
# | Prompts | *clean, corrupted, how many; what differs between them, and what does not* |
# | Intervention | *noising or denoising; ablation of which custom* |
# | Metric | *and a second one that could disagree* |
# | Predicted | *before running* |
# | Found | *effect, interval over prompts, control* |
# | What else could explain it | *redundancy, a norm, a path that is not normally used* |
# | Not shown | |
#
# ## To read
#
# Heimersheim & Nanda 2024, [How to use and interpret activation patching](https://arxiv.org/abs/2404.15255), §2 and §4 ·
# Zhang & Nanda 2023, [Towards best practices of activation patching](https://arxiv.org/abs/2309.16042) ·
# Meng et al. 2022, [Locating and editing factual associations](https://arxiv.org/abs/2202.05262), §2 ·
# Nanda 2023, Attribution patching: activation patching at industrial scale ·
# Kramár et al. 2024, [AtP*](https://arxiv.org/abs/2403.00745), §3 ·
# Hanna et al. 2024, [Have faith in faithfulness](https://arxiv.org/abs/2403.17806), §3 ·
# Makelov et al. 2023, [Is this the subspace you are looking for?](https://arxiv.org/abs/2311.17030)
