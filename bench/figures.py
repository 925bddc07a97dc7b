"""What was measured: each figure beside its goal, as a table and as JSON."""

from collections.abc import Sequence
from statistics import median

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One measurement, repeated."""

    row: str
    what: str
    rounds: list[float]
    goal: float | None
    """None for what is only told."""
    at_least: bool = True
    """Whether the goal is a floor (True) or a ceiling."""
    unit: str = ""
    """Empty for a ratio."""
    seen: dict[str, float] = {}
    """The absolute figures behind it; another run's are never comparable."""

    @property
    def value(self) -> float:
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """From the lowest round to the highest, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.value if self.value else 0.0

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


class Report(msgspec.Struct, frozen=True):
    """A run."""

    began: str
    machine: str
    generator: str
    quick: bool
    noise: dict[str, float]
    """By row: how much longer a fixed piece of computing took at its slowest than at its quickest."""
    figures: list[Figure]


def table(report: Report) -> str:
    """As Markdown; a figure that doesn't meet its goal says so."""
    lines = ["| what | goal | measured | spread | | seen |", "|---|---|---|---|---|---|"]
    for figure in report.figures:
        goal, met = "-", ""
        if figure.goal is not None:
            goal = f"{'≥' if figure.at_least else '≤'} {_number(figure.goal)} {figure.unit}".rstrip()
            met = "met" if figure.met else "**unmet**"
        measured = f"{_number(figure.value)} {figure.unit}".rstrip()
        seen = ", ".join(f"{name} {_number(value)}" for name, value in figure.seen.items())
        spread = f"{figure.spread:.0%}" if len(figure.rounds) > 1 else "once"
        lines.append(f"| {figure.what} | {goal} | {measured} | {spread} | {met} | {seen} |")
    return "\n".join(lines)


def noise(spins: Sequence[float]) -> float:
    return max(spins) / min(spins) - 1


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
