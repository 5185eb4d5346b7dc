"""CircuitsVis' functions, under their names and with their arguments, as views of interpwidgets.

    import interpwidgets.circuitsvis as cv                # was: import circuitsvis as cv

    cv.attention.attention_heads(attention=pattern, tokens=tokens)

What comes back is a view: it can be read and set in Python, saved, and linked. Colours are the palette of
interpwidgets, which can be told apart by colour-blind readers and follows the notebook into the dark, so
`negative_color` and `positive_color` are accepted and change nothing. Written after CircuitsVis 1.43.3 (Cooney and
Nanda 2023, github.com/TransformerLensOrg/CircuitsVis), whose package is not needed.
"""

from interpwidgets.circuitsvis import activations, attention, logits, tokens, topk_samples, topk_tokens

__all__ = ["activations", "attention", "logits", "tokens", "topk_samples", "topk_tokens"]
