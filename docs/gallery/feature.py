"""Features of a dictionary, from the strongest example to the weakest

What to look for: below each other stand the tokens at which feature 344 is active, `holds` before a thing that was told
of, then `by`, `beside`, `under`. Press 0 to go to the weakest tenth of its activations: other words, and no longer one
idea. Its histogram has two humps to match. Below is what it reads from and writes to by weights, a hypothesis: little
of it stands out from random directions. Then write a text of your own, or steer with it, and see whether you were
right.

Source: Bricken et al. 2023, "Towards Monosemanticity" (feature dashboards, examples by interval); Templeton et al.
2024, "Scaling Monosemanticity" (steering along a feature's direction).
"""

import random
import tempfile

import interpwidgets as iw
from interpwidgets.models.corpora.corpus import document

model, sae = iw.load("storyteller-4l"), iw.load_dictionary("storyteller-4l-sae")
rng = random.Random(0)
corpus = [" ".join(word for sentence in document(rng, "heldout") for word in sentence) or "." for _ in range(400)]
store = iw.FeatureStore.build(tempfile.mkdtemp(), model, sae, corpus)
text = "the red box holds the map . the blue box holds the kite . the red box"
view = iw.FeatureView(store, feature=344, text=text, intervention="ablate", connections=True)
view
