"""Figures of a benchmark: each over its rounds, with the bound that it should keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, a value a round; ``bound`` is what its median should be at least or at most."""

    name: str
    values: tuple[float, ...]
    side: Literal["at least", "at most"]
    bound: float

    @property
    def median(self) -> float:
        """Over the rounds."""
        return median(self.values)

    @property
    def kept(self) -> bool:
        """Whether the median is within the bound."""
        return self.median >= self.bound if self.side == "at least" else self.median <= self.bound


def figure_table(figures: Sequence[Figure]) -> list[str]:
    """Lines of a Markdown table: median, spread over the rounds, bound and verdict."""
    lines = ["| figure | median | lowest to highest | bound | |", "|---|---|---|---|---|"]
    return lines + [
        f"| {one.name} | {one.median:.3g} | {min(one.values):.3g} to {max(one.values):.3g}"
        f" | {one.side} {one.bound:.3g} | {'within' if one.kept else '**missed**'} |"
        for one in figures
    ]
