"""How dictionaries lie on disk: one module a layout. Weights are read from safetensors only."""
