"""A prompt to write on

What to look for: which tokens surprise the model, and what it expects next. Add an intervention and read the two
distributions side by side: a head that does not matter for this prompt changes nothing. Every view in `drives` follows
what is written.

Source: Shannon 1951, Prediction and entropy of printed English (surprise in bits per symbol).
"""

import interpwidgets as iw

model = iw.load("storyteller-4l")
text = "one day anna and tom went to the park . tom gave the ball to"

view = iw.PromptView(model, text, interventions=[iw.Ablate("attn_out", layer=3, kind="mean")])
view
