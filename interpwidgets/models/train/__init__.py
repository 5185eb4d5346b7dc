"""Train the model systems that ship with the package: one command each, the same weights for the same seed."""
