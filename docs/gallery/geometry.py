"""A pentagon: five features in two dimensions

What to look for: move the step. As features become sparser, more of them fit: at a sparsity of 0.3 three at angles of
120°, at 0.5 and 0.7 two pairs of opposites, from 0.8 on all five as a pentagon, in which each has 2/5 of a dimension to
itself. Select one and read the angles to the others: 72° and 144°. Dense features (0) settle on nothing so clean.

Source: Elhage et al. 2022, "Toy models of superposition" (the phase change, feature dimensionality).
"""

import interpwidgets as iw

toys = iw.load("toy-superposition")
steps = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9]
vectors = [toys.W(features=5, hidden=2, sparsity=sparsity).T for sparsity in steps]
labels = [f"feature {i}" for i in range(5)]
named = [f"sparsity {sparsity:g}" for sparsity in steps]
view = iw.GeometryView(vectors, labels=labels, steps=named, step=5, feature=0, title="Superposition")
view
