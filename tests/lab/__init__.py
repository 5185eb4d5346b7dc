"""A private notebook server driven by a real browser: the harness of every test that needs a host."""
