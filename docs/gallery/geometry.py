"""A pentagon: five features in two dimensions

What to look for: move the step. With dense features the model keeps the two directions that it has room for, at right
angles. As features become sparser it packs more of them in: two pairs of opposites, and from a sparsity of 0.8 on a
pentagon, in which each feature has 2/5 of a dimension to itself. Select one and read the angles to the others: 72° and
144°.

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
