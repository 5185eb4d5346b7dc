"""Where the answer comes from, position by position

What to look for: three cells that bring all of it back, a staircase. The clean name matters where it is said the second
time, up to layer 1; from there a head takes it to the last position, where it is from layer 2 on. Beside it the heads
that do so. Dots are cells whose interval includes no effect: nearly all. Click a cell, and its intervention is run on
one prompt.

Source: Heimersheim and Nanda 2024, "How to use and interpret activation patching" (arXiv:2404.15255); Wang et al. 2022,
"Interpretability in the wild" (arXiv:2211.00593, §3); the picture is that of Meng et al. 2022 (§2).
"""

import interpwidgets as iw

model = iw.load("ioi-known")
names = [("anna", "ben"), ("carl", "david"), ("emma", "frank"), ("grace", "henry"), ("iris", "jack")]
clean = [f"when {a} and {b} went to the park , {b} gave a book to" for a, b in names]
corrupted = [f"when {a} and {b} went to the park , {a} gave a book to" for a, b in names]
metric = iw.logit_diff([a for a, _ in names], [b for _, b in names])
stream, heads = (
    iw.patch_sweep(model, clean, corrupted, metric, over=site, progress=False) for site in ("resid_pre", "z")
)

view = iw.PatchingView({"residual stream": stream, "heads": heads}, measure="recovered")
view
