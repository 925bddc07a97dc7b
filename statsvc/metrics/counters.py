"""Counters with series for each site: thousands of them, written between events."""

import asyncio
from collections.abc import Iterator, Sequence

SERIES_AT_ONCE = 200
"""Written before the event loop gets its turn."""


class SiteCounter:
    """A counter that writes its own lines, for the reason that `sites.write_sites` does.

    `name` is without `_total`. Labels are a domain and words of ours: none has to be escaped.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._text = text
        pairs = ",".join(f'{label}="%s"' for label in labels)
        self._line = f"{name}_total{{{pairs}}} %d\n"
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, by: int = 1) -> None:
        """To the series with these values, in the order of `labels`."""
        self._values[labels] = self._values.get(labels, 0) + by

    def pieces(self, *, openmetrics: bool) -> Iterator[str]:
        """Its text, as it was when the first piece was asked for."""
        # The formats differ in what a counter's family is called.
        family = self._name if openmetrics else f"{self._name}_total"
        yield f"# HELP {family} {self._text}\n# TYPE {family} counter\n"
        series = list(self._values.items())
        for first in range(0, len(series), SERIES_AT_ONCE):
            part = series[first : first + SERIES_AT_ONCE]
            yield "".join(self._line % (*labels, value) for labels, value in part)


async def write_counters(counters: Sequence[SiteCounter], *, openmetrics: bool) -> bytes:
    """All their lines, with turns for the event loop."""
    pieces = []
    for counter in counters:
        for piece in counter.pieces(openmetrics=openmetrics):
            pieces.append(piece)
            await asyncio.sleep(0)
    return "".join(pieces).encode()
