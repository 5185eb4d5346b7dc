"""Neurons, and the text they answer to

What to look for: the strongest neuron of layer 1 answers to `travelled` and `went`, words of going somewhere, and less
to `gave` and what is given. Others answer to names, or to the word before a thing. Most are silent nearly always: write
`share < 0.1` into the filter to find those. Click a token to see which neurons are most active there.

Source: Karpathy, Johnson and Li 2015, "Visualizing and Understanding Recurrent Networks" (§4.2, text coloured by one
cell); the choosers are those of `text_neuron_activations` in CircuitsVis, Cooney and Nanda 2023.
"""

import interpwidgets as iw

model = iw.load("storyteller-4l")
story = (
    "when peter and henry travelled to the field , peter showed a kite to henry . "
    "when clara and david went to the park , david gave a drum to clara ."
)
rec = iw.record(model, story, sites=["mlp_post"])
view = iw.NeuronsView(rec, layer=1, position=21)
view
