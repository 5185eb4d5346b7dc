"""Who writes the name: direct logit attribution of an indirect object

What to look for: in this model the circuit is known, since it was trained in. The bars add up to the difference
between the right name and the wrong one, and nearly all of it is written by layer 2: head 2.0, the name mover. Choose
one prompt, and see what that head carried: the value of the name that is said once. Then see what a bar is not: head
1.2 writes next to nothing by itself, and without it the name mover would not know where to look.

Source: Wang et al. 2022, "Interpretability in the wild", §3.1; Elhage et al. 2021, "A mathematical framework for
transformer circuits".
"""

import itertools

import interpwidgets as iw

names = list(itertools.permutations(["anna", "ben", "leo", "kate"], 2))
prompts = [f"when {a} and {b} went to the park , {b} gave a book to" for a, b in names]
metric = iw.logit_diff([a for a, _ in names], [b for _, b in names])
found = iw.direct_logit_attribution(iw.load("ioi-known"), prompts, metric)
view = iw.ResidualView(found)
view
