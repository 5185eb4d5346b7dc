"""What the model expected instead

What to look for: the end of the first sentence. As it is, the model is sure of `henry`; without the attention of its
last two layers it thinks of anybody else. Colour by KL to find all the places where those layers matter, and by change
of surprise to see where they help (orange: without them the token is more of a surprise) and where they mislead (blue).

Source: `token_log_probs` of CircuitsVis, Cooney and Nanda 2023; surprise in bits, Shannon 1951, "Prediction and entropy
of printed English".
"""

import interpwidgets as iw

model = iw.load("storyteller-4l")
story = (
    "when peter and henry travelled to the field , peter showed a kite to henry . when clara and david went to the park"
)
ablate = [iw.Ablate("z", layer=2), iw.Ablate("z", layer=3)]
names = ["as it is", "without attention in layers 2 and 3"]
view = iw.TopTokensView(iw.record(model, story), compare=ablate, names=names, position=14, colour="kl")
view
