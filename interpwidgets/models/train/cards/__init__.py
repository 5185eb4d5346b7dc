"""One module a system: what is measured on it, and how its card reads."""
