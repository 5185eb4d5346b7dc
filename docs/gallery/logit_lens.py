"""A prediction forms

What to look for: in the last column, the names. The answer is not there after layer 1, and sure after layer 2, where
one head moves the name that was said once: see below the table which part wrote it, and open its heads. Follow "anna"
and choose her rank as the colour to see how far the name was from the top before. A lens reads early layers badly: that
a token is not there does not show that the model does not know it.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, "Eliciting latent predictions from
transformers with the tuned lens" (§2, §3).
"""

import interpwidgets as iw

model = iw.load("ioi-known")
rec = iw.record(model, "when anna and ben went to the park , ben gave a book to")

view = iw.LogitLensView(rec)
view
