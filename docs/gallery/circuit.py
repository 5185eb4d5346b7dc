"""A circuit, and what it is worth

What to look for: four edges carry nearly all of it, from the embedding through three heads to the logits, each by one
input. This model was trained to work in this way (the card of `ioi-known` tells how), so here the graph is known, and
the one found is the true one. Every edge was patched for real. Move the threshold and the next ones appear: all others
together are a hundredth of it. Below the graph everything outside is ablated, beside random circuits of this size.

Source: Wang et al. 2022, Interpretability in the wild, §3.1 and §4; Goldowsky-Dill et al. 2023, Localizing model
behavior with path patching.
"""

import interpwidgets as iw

model = iw.load("ioi-known")
pairs = [("anna", "ben"), ("emma", "jack"), ("clara", "paul"), ("grace", "henry")]
text = "when {} and {} went to the park , {} gave a book to".format
clean, corrupted = [text(a, b, b) for a, b in pairs], [text(a, b, a) for a, b in pairs]
metric = iw.logit_diff([a for a, _ in pairs], [b for _, b in pairs])
found = iw.edge_sweep(model, clean, corrupted, metric, progress=False)
truth = {"L0H1": "duplicate", "L1H2": "s-inhibition", "L2H0": "name mover"}
view = iw.CircuitView(found.with_labels(truth), threshold=5, node="L1H2")
view.test()
view
