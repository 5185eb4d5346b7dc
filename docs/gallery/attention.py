"""Where every head looks

What to look for: the stripe below the diagonal. In the second half of this prompt the words come again, and an
induction head attends from each to the word that followed it the first time. Sort the heads by "induction", choose the
first, then see what becomes of the next token without it: with several induction heads, one alone is rarely missed.

Source: Elhage et al. 2021, A mathematical framework for transformer circuits; Olsson et al. 2022, In-context learning
and induction heads.
"""

import interpwidgets as iw

model = iw.load("induction-2l")
rec = iw.record(model, "lion bread clock river flute lion bread clock river")
labels = iw.models.scorecard(model).labels()

view = iw.AttentionView(rec, labels=labels, sort_by="induction", layer=1, query=8)
view
