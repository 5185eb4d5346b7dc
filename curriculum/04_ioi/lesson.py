# %% [markdown] minutes=70
# # A circuit end to end: who got the book?
#
# *When anna and ben went to the park, ben gave a book to …* You say *anna* without effort. How do you know? Ben is said
# twice, so he gives; the other one gets. That is an algorithm: find who is repeated, avoid him, name the other.
#
# Wang et al. (2022) found heads that do this in GPT-2 small. Here you find such a circuit yourself, from the first
# suspicion to a test that could have failed. And then you meet a model that gives the same answers, all of them right,
# and does something else.

# %%
from itertools import combinations, product
from pathlib import Path

import numpy as np

import interpwidgets as iw
from interpwidgets.course import exercise, predictions

model, naive = iw.load("ioi-known"), iw.load("storyteller-4l")

# %% [markdown]
# `ioi-known` was made to work by a circuit that is written on its card; do not look yet. `storyteller-4l` learned to
# continue stories, and nobody told it how.
#
# Pairs of prompts again. Clean: one of the two is named again. Corrupted: the other one is. Same words, same length, and
# the right answer is the other name. Both orders, so that “the first name” answers half of them.

# %%
NAMES = (
    "anna ben clara david emma frank grace henry iris jack kate leo maria noah olga paul quinn rosa sam tina uma victor"
).split()
rng = np.random.default_rng(0)
clean, corrupted, right, wrong = [], [], [], []
for i in range(24):
    a, b = rng.permutation(NAMES)[:2].tolist()
    first, second = [(a, b), (b, a)][i % 2]
    text = f"when {first} and {second} went to the park , {{}} gave a book to"
    clean.append(text.format(b))
    corrupted.append(text.format(a))
    right.append(a)
    wrong.append(b)
metric, accuracy = iw.logit_diff(right, wrong), iw.accuracy(right)
for each in (model, naive):
    scores = [iw.run(each, clean, [], metric=one).value for one in (accuracy, metric)]
    print(f"{each.name:15} accuracy {scores[0]:.2f}, logit difference {scores[1]:.1f}")

# %% [markdown]
# ## Predict
#
# Equal scores. Now a *control*: the last name said is a third person's. “when anna and ben went to the park , ben **and
# clara** gave a book to”. Of the first two, anna is still the one said once. On what share of such sentences, in both
# orders, does `storyteller-4l` put the name said once above the one said twice? Chance is 0.5.

# %%
# >>> solution: exercise("ioi.control").check()
exercise("ioi.control").check(0.6, confidence=0.5)
# <<< solution

# %% [markdown]
# ## Who writes the name?
#
# Begin at the end, and walk back. The logits are a sum (module 1): who wrote the difference between the two names?

# %%
iw.ResidualView(iw.direct_logit_attribution(model, clean, metric))

# %% [markdown]
# Make it a function, for any model of this kind: the heads that write, by themselves, **more than half** of the logit
# difference. For a model that is not right more often than not, none.


# %%
def movers(model, clean, right, wrong):
    """A list of (layer, head)."""
    # >>> solution
    if iw.run(model, clean, [], metric=iw.accuracy(right)).value <= 0.5:
        return []
    found = iw.direct_logit_attribution(model, clean, iw.logit_diff(right, wrong))
    wrote = found.heads.mean(0)  # [layer, head]
    return [(int(layer), int(head)) for layer, head in np.argwhere(wrote > found.total.mean() / 2)]
    # <<< solution


exercise("ioi.movers").check(movers)

# %% [markdown]
# A *name mover*: it looks from the end at a name, and writes that name. See for yourself where it looks, and change the
# prompt shown to one of the other order. But why at *this* name and not at the other? It must have been told.
#
# ## Where does the answer stand, and when?

# %%
iw.AttentionView(iw.record(model, clean[:2]), layer=2, head=0, query=14)

# %% [markdown]
# Patch the stream, layer by layer and position by position: the clean value into the corrupted run. Beside it the heads.

# %%
stream, heads = (
    iw.patch_sweep(model, clean, corrupted, metric, over=site, progress=False) for site in ("resid_pre", "z")
)
iw.PatchingView({"residual stream": stream, "heads": heads}, measure="recovered")

# %% [markdown]
# A staircase. Before layers 0 and 1 all stands at the word where a name is said again; before layer 2 it stands at the
# end. And one head a layer brings back nearly everything. Three numbers near 1: do three heads each do all of it?
#
# As a function again: all heads whose clean values bring back **more than 0.2** of the way; an empty list where the
# model does not do the task.


# %%
def find_circuit(model, clean, corrupted, right, wrong):
    """A list of (layer, head)."""
    # >>> solution
    if iw.run(model, clean, [], metric=iw.accuracy(right)).value <= 0.5:
        return []
    difference = iw.logit_diff(right, wrong)
    effects = iw.patch_sweep(model, clean, corrupted, difference, over="z", progress=False)
    return [(int(layer), int(head)) for layer, head in np.argwhere(effects.recovered > 0.2)]
    # <<< solution


exercise("ioi.circuit").check(find_circuit)

# %% [markdown]
# ## Who tells whom?
#
# A patch of a head lets everything after it run: that is its *whole* effect, by all ways. To see one edge, send a message
# along it and along nothing else (Wang et al. 2022, §3.1):
#
# 1. Run the corrupted prompt. Hold every head and every MLP at what it is. Only the sender says what it says on the clean
#    prompt. Write down what the receiver's input, its `q` or `v`, becomes.
# 2. Run the corrupted prompt again, freely, with nothing but that input patched.
#
# Interventions at one site are applied in the order of the list, so a `Patch` of one head after a `Freeze` of all leaves
# the others frozen.


# %%
def along_path(model, clean, corrupted, sender, receiver, right, wrong):
    """The logit difference when sender (layer, head) tells receiver (via, layer, head) directly what it knows."""
    # >>> solution
    (layer, head), (via, above, ear) = sender, receiver
    frozen = [iw.Freeze(site, i) for i in range(model.n_layers) for site in ("z", "mlp_out")]
    says = iw.Patch("z", layer, head=head, value=iw.record(model, clean, sites=["z"]))
    heard = iw.run(model, corrupted, [*frozen, says], sites=[via])
    told = iw.Patch(via, above, head=ear, value=heard)
    return iw.run(model, corrupted, [told], metric=iw.logit_diff(right, wrong)).value
    # <<< solution


exercise("ioi.path").check(along_path)

# %% [markdown]
# With the tool: who tells the name mover's queries? Who tells its keys, its values? And who tells that one?

# %%
for receiver in (("q", 2, 0), ("k", 2, 0), ("v", 2, 0), ("v", 1, 2), ("q", 1, 2)):
    senders = iw.path_sweep(model, clean, corrupted, metric, receivers=[receiver], progress=False)
    (layer, head), strongest = senders.top(1)[0]
    share = strongest.recovered
    print(f"{receiver[0]} of head {receiver[1]}.{receiver[2]}: most from head {layer}.{head}, {share:.2f} of the way")

# %% [markdown]
# Every edge at once, patched for real, as a graph. An edge is as wide as its effect.

# %%
edges = iw.edge_sweep(model, clean, corrupted, metric, progress=False)
view = iw.CircuitView(edges.top(4).pruned())
view

# %% [markdown]
# Click the part that writes next to nothing to the logits itself, and without which the name mover does not know where
# to look.

# %%
# >>> solution: # click the part in the view above, then run this cell
view.node = "L1H2"
# <<< solution
exercise("ioi.silent").check(view)

# %% [markdown]
# ## Is it the circuit?
#
# Three heads, a story, a nice picture. What would show that we are wrong? Take away **everything else**: every other head
# and MLP says what it says on the corrupted prompt. If the three do the job, the answer stays: *faithfulness*. Then take
# away **the three**, and keep all the rest: if the answer stays then, somebody else can do it as well.

# %%
ours = iw.Circuit(nodes=["L0H1", "L1H2", "L2H0"])
iw.faithfulness(model, clean, ours, metric, reference=corrupted, ablate="patch")

# %% [markdown]
# Beside it stand random circuits of as many parts: a circuit is to beat those, not zero.
#
# ## Is it all of it?
#
# Faithful is not complete. Think of a head with a stand-in, who says the same but steps in only when the first is gone.
# The circuit without the stand-in is perfectly faithful. To find out, damage both in the same way: for a set K of the
# circuit's parts, compare the circuit without K with the whole model without K. If the stand-in exists, the model copes
# better than the circuit. The largest gap over all K is the *incompleteness* (Wang et al. 2022, §4).
#
# The paper's F is here a function: `score(kept)` runs the model with only the parts in `kept`, a frozenset. `model` and
# `circuit` are frozensets of parts.


# %%
def incompleteness(score, model, circuit):
    """The largest |F(C∖K) − F(M∖K)| over all subsets K of the circuit."""
    # >>> solution
    sizes = range(len(circuit) + 1)
    subsets = [frozenset(parts) for size in sizes for parts in combinations(circuit, size)]
    return max(abs(score(circuit - some) - score(model - some)) for some in subsets)
    # <<< solution


exercise("ioi.incompleteness").check(incompleteness)

# %% [markdown]
# On our model, with every K written out. `score` keeps some heads clean, and gives all others their corrupted values. (Try
# your function on it: `incompleteness(score, every, three)`.)

# %%
every = frozenset(product(range(3), range(4)))  # (layer, head)
three = frozenset([(0, 1), (1, 2), (2, 0)])


def keeping(model):
    """A function: the logit difference with only some heads clean."""
    other = iw.record(model, corrupted, sites=["z"])

    def run(kept):
        gone = [iw.Patch("z", layer, head=head, value=other) for layer, head in sorted(every - kept)]
        return iw.run(model, clean, gone, metric=metric).value

    return run


def without(score, circuit):
    """A line for each K: the circuit without it, the model without it."""
    for size in range(len(circuit) + 1):
        for some in combinations(sorted(circuit), size):
            names = ", ".join(f"{layer}.{head}" for layer, head in some) or "nothing"
            print(
                f"without {names:15} circuit {score(circuit - set(some)):6.1f}   model {score(every - set(some)):6.1f}"
            )


score = keeping(model)
without(score, three)

# %% [markdown]
# The two columns agree line by line: nothing outside of the three steps in.
#
# ## Break it: the twin
#
# `ioi-known` has a twin, of the same shape and data, trained on the answers alone; nobody asked it for a circuit. It is
# just as good. Find its three strongest heads in the same way, and hold them to the same test.

# %%
twin = iw.load(Path(iw.models.__file__).parent / "systems" / "ioi-known" / "control")
print("accuracy", iw.run(twin, clean, [], metric=accuracy).value)
effects = iw.patch_sweep(twin, clean, corrupted, metric, over="z", progress=False)
strongest = frozenset(place for place, _ in effects.top(3))
without(keeping(twin), strongest)

# %% [markdown]
# The first line is faithfulness: circuit and model are far apart, though these are its three strongest heads. And look
# where one of them is taken away: the model still gives some answer, the circuit none. What the twin does is spread
# over more of it than these three. A test that can fail has just failed; that is worth more than the first success.
#
# ## The shortcut trap
#
# Back to `storyteller-4l`, which was right every time. The same sweep:

# %%
iw.PatchingView(iw.patch_sweep(naive, clean, corrupted, metric, over="resid_pre", progress=False), measure="recovered")

# %% [markdown]
# The staircase lacks a step. After layer 0 nothing is left at the repeated name; it stands at the end already. But at the
# repeated name is where one would *notice* that it is repeated. A rival comes to mind: the last word simply looks up
# the **last name said**, and the model answers with anybody but that one. In all sentences it ever saw of two people, the
# last name said is the giver, and the rival is always right.
#
# Write both rivals down. A hypothesis that is a program can be asked what it predicts.


# %%
def rivals(words, two, names):
    """The answers of both, each a list out of `two`, in its order.

    First: those of the two who are said once. Second: those of the two who are not the last name said, of all `names`.
    """
    # >>> solution
    once = [name for name in two if words.count(name) == 1]
    said = [word for word in words if word in names]
    return once, [name for name in two if name != said[-1]]
    # <<< solution


exercise("ioi.rivals").check(rivals)

# %% [markdown]
# On the usual sentences both give the same list, so a million of them prove nothing. The experiment is a sentence on
# which they differ: the last name is a third person's. The first rival still has one answer; the second has two names
# left, and has to guess. Three kinds of such sentences, each in both orders.

# %%
kinds = (
    "when {} and {} went to the park , {} and {} gave a book to",
    "when {} and {} went to the park with {} , {} gave a book to",
    "when {} and {} went to the park , {} had a book . {} gave it to",
)
rng = np.random.default_rng(1)
for kind in kinds:
    print(kind)
    cast = [rng.permutation(NAMES)[:3].tolist() for _ in range(40)]
    for order in ("said once first", "said twice first"):
        pairs = [(a, b) if order == "said once first" else (b, a) for a, b, _ in cast]
        prompts = [kind.format(*pair, b, c) for pair, (_, b, c) in zip(pairs, cast, strict=True)]
        against = iw.logit_diff([a for a, _, _ in cast], [b for _, b, _ in cast])
        shares = {each.name: np.mean(iw.run(each, prompts, [], metric=against).values > 0) for each in (model, naive)}
        print(f"   {order:16}", ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))

# %% [markdown]
# `ioi-known` does not mind who is named last. `storyteller-4l` does: it falls short everywhere but in one row. The first
# rival predicts 1.00 in all six, and is refuted. The second predicts a coin, 0.50, and is not quite right either: in the
# third kind the model follows the order in which the two were introduced, and in the first it does better than a coin.
# (It has seen stories of three people.) Does it ever name the third person, whom the shortcut avoids?

# %%
prompts = [kind.format(a, b, b, c) for kind in kinds for a, b, c in cast]
third = iw.run(naive, prompts, [], metric=iw.accuracy([c for _ in kinds for _, _, c in cast]))
print(f"the best word is the last name said in {third.value:.2f} of the sentences")

# %% [markdown]
# Equal answers, other insides. Had you only looked at accuracy, or only at heads that look at the right name, you would
# have drawn the textbook's circuit into a model that does not have it.
#
# ## What you predicted

# %%
predictions("ioi")

# %% [markdown]
# ## What we have shown, and what not
#
# Write it down while it is fresh; a sentence each, with its number and its control.
#
# **Shown**, on sentences of one form: in `ioi-known`, three heads in a row carry which of two names is answered; without
# anything else they do it, without them nothing does, and no subset of them has a stand-in. In `storyteller-4l`, what
# makes the difference has left the repeated name after layer 0, and when the last name said is another, the model often
# fails: it does not find the name said once.
#
# **Not shown:**
#
# - What `storyteller-4l` does instead. The last name said is what it avoids, always; how it chooses among the others, the
#   second rival does not say. Write a third one: it should follow the order, where the model does.
# - How the heads of `ioi-known` do their part: what 0.1 compares, in which directions 1.2 speaks.
# - That anybody's circuit is as small. This one was trained in; its twin's three strongest heads are none.
# - Other names, other sentences, other lengths. `draw` some, and look.
#
# **Research log.** Copy, and fill in.
#
# | | |
# |---|---|
# | Claim | *parts, who tells whom, on which inputs* |
# | Rival | *what else gives the same answers? written as a program* |
# | Where they differ | *the control, and what each predicts* |
# | Faithful | *circuit alone; random circuits of this size* |
# | Complete | *largest gap over K, and how many K were tried* |
# | Null | *the method on a model without the circuit* |
# | Found | |
# | Not shown | |
#
# ## To read
#
# Wang et al. 2022, [Interpretability in the wild](https://arxiv.org/abs/2211.00593), §3 and §4 ·
# Goldowsky-Dill et al. 2023, [Localizing model behavior with path patching](https://arxiv.org/abs/2304.05969) ·
# Conmy et al. 2023, [Towards automated circuit discovery](https://arxiv.org/abs/2304.14997) ·
# Gupta et al. 2024, [InterpBench](https://arxiv.org/abs/2407.14494): models with a circuit trained in, as this one
