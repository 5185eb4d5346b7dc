"""Models that are trained to carry out a known causal graph: what a method of discovery can be tested on."""
