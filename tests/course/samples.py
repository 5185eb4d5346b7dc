"""Exercises to try checks with: small, and with an oracle that anyone can follow."""

from __future__ import annotations

import numpy as np

from interpwidgets.course import Choice, Estimate, Function, InView, Mutant, Option

FACTS = {
    "title": "Share out",
    "minutes": 5,
    "difficulty": 1,
    "importance": 4,
    "hints": ("Which axis?", "The last.", "`x / x.sum(-1, keepdims=True)`"),
    "solution": "Each row is divided by its sum.",
}


def draw(rng):
    return (rng.uniform(0.5, 2, size=(rng.integers(2, 5), rng.integers(5, 8))),)


def share(x):
    return np.stack([row / sum(row) for row in x])


def over_columns(x):
    return x / x.sum(0)


def over_all(x):
    return x / x.sum()


def by_the_largest(x):
    return x / x.max(-1, keepdims=True)


MUTANTS = [
    Mutant("over the columns", over_columns, "Your columns sum to one.", "Sum over the other axis."),
    Mutant("over everything", over_all, "All of it sums to one.", "Keep the rows apart."),
    Mutant("by the largest", by_the_largest, "You divide by the largest.", "Divide by a sum."),
]


def function(name="sample.share", **more):
    return Function(name, **{**FACTS, "draw": draw, "oracle": share, "mutants": MUTANTS, **more})


def in_view(**more):
    swapped = Mutant("swapped", lambda: [(3, 1)], "that is the other way round.", "Rows are layers.")
    facts = {"reads": ("layer", "head"), "oracle": lambda: [(1, 3), (0, 2)], "mutants": [swapped]}
    return InView("sample.look", **{**FACTS, **facts, **more})


def estimate(**more):
    percent = Mutant("in percent", lambda: 40.0, "That is in percent.", "From 0 to 1.")
    return Estimate("sample.guess", **{**FACTS, "oracle": lambda: 0.4, "within": 0.05, "mutants": [percent], **more})


def choice(**more):
    options = [Option("red", "It is not red."), Option("blue", "It is.", right=True), Option("green", "Not green.")]
    return Choice("sample.colour", **{**FACTS, "options": options, **more})
