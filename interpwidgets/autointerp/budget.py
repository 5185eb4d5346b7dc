"""What a language model may be asked for, what it was, and what it would be."""

from __future__ import annotations

from dataclasses import dataclass

from interpwidgets.errors import BudgetError, InputError

__all__ = ["Budget", "Estimate", "Spent"]


@dataclass(frozen=True)
class Budget:
    """How much may be spent at most; None: as much as it takes. Answers from the cache are free."""

    calls: int | None = None
    tokens: int | None = None  # read and written
    cost: float | None = None  # in the currency of the prices

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "cost"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"A budget is a number from 0 on, or None; {name} is {value!r}.")


@dataclass
class Spent:
    """What was spent: calls, tokens read and written, and what they cost at (input, output) prices a million."""

    prices: tuple[float, float] | None = None
    calls: int = 0
    read: int = 0
    written: int = 0

    @property
    def cost(self) -> float | None:
        """What it cost; None where no prices are known."""
        return None if self.prices is None else (self.read * self.prices[0] + self.written * self.prices[1]) / 1e6

    def check(self, budget: Budget) -> None:
        """Raise BudgetError if nothing more may be spent."""
        for name, spent in (("calls", self.calls), ("tokens", self.read + self.written), ("cost", self.cost)):
            limit = getattr(budget, name)
            if limit is not None and spent is not None and spent >= limit:
                raise BudgetError(f"The budget of {limit:g} {name} is used up: {self}.")

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", {self.cost:.2f} at these prices"
        return f"{self.calls:,} calls, {self.read:,} tokens read, {self.written:,} written{cost}"


@dataclass(frozen=True)
class Estimate:
    """What labelling would take."""

    name: str
    spent: Spent | None = None  # None: it asks no language model
    exact: bool = False  # whether tokens read are counted; else a token is taken to be four characters
    cached: int = 0  # calls that the cache answers

    def __repr__(self) -> str:
        if self.spent is None:
            return f"{self.name}: no calls, no cost."
        how = "counted" if self.exact else "four characters to a token"
        free = f"; {self.cached:,} more are answered by the cache" if self.cached else ""
        return f"{self.name} would take about {self.spent} ({how}){free}."
