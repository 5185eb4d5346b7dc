"""Train by a recipe, step by step: the loop, its folder, the optimisers, and how sparse dictionaries learn."""
