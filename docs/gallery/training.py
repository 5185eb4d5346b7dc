"""Induction heads form at once, and the loss shows it

What to look for: drag the upright line through the steps 1,250 to 1,600. The loss on the second copy of random words
falls off a cliff, and in the same steps heads of layer 1 begin to look at what came after the last occurrence, and a
head of layer 0, whose work they need, at the token before. The attention below is that of the checkpoint under the
line: in layer 1 a stripe appears, as far below the diagonal as the words repeat.

Source: Olsson et al. 2022, "In-context learning and induction heads" (Arguments 1 and 2).
"""

import numpy as np

import interpwidgets as iw

steps = [0, 1000, 1150, 1250, *range(1300, 1600, 25), 1625, 1700, 1850, 2000]
words = np.random.default_rng(0).integers(10, 500, 16).tolist()
models = [iw.load("induction-2l", checkpoint=step) for step in steps]
runs = [iw.record(model, [1, *words, *words], sites=["q", "k", "logits"]) for model in models]
losses = [-run["logits"][0].log_softmax(-1)[range(32), [*words, *words]] for run in runs]
copies = {"first copy loss": [x[:16].mean() for x in losses], "second copy loss": [x[17:].mean() for x in losses]}
heads = {f"head 1.{h} attention": [r.pattern(1, h).diagonal(-15).mean() for r in runs] for h in range(4)}
previous = {"head 0.2, to the token before": [r.pattern(0, 2).diagonal(-1).mean() for r in runs]}
training = iw.TrainingView(copies | heads | previous, steps, title="A bump in training")
attention = iw.AttentionView(*runs, names=[f"step {step:,}" for step in steps], layer=1, head=2)
view = iw.Dashboard([training, attention], linked=False)
iw.link(training, attention, on=[("step", "prompt")])
view
