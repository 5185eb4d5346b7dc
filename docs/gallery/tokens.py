"""Where the loss is

What to look for: the first time a name is said it costs many bits, the second time next to none; the thing that is
given cannot be known, and the word after it can. Switch to entropy: there the model knows that it does not know.
`loss − entropy` is where it was wrong about that. Drag over a sentence to read its means.

Source: Shannon 1951, "Prediction and entropy of printed English" (§3, entropy from what is guessed next); the picture
is `colored_tokens_multi` of CircuitsVis, Cooney and Nanda 2023.
"""

import numpy as np

import interpwidgets as iw

model = iw.load("storyteller-4l")
story = (
    "when peter and henry travelled to the field , peter showed a kite to henry . when clara and david went to the park"
)
rec = iw.record(model, story, sites=["logits"])
bits = rec["logits"][0].log_softmax(-1).numpy() / np.log(2)  # [pos, vocab]
loss = [np.nan, *(-bits[i, token] for i, token in enumerate(rec.tokens[0].ids[1:]))]
entropy = [np.nan, *-(2**bits * bits).sum(-1)[:-1]]
series = {"loss (bits)": loss, "entropy (bits)": entropy, "loss − entropy": np.subtract(loss, entropy)}
view = iw.TokensView(rec, series, side_by_side=True, position=13, title="Loss of storyteller-4l")
view
