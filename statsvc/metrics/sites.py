"""What the portals show: the API's own numbers, for each site."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PERIODS = ("total", "today")


class SiteMetrics(Collector):
    """Exports the totals it was last given, whatever day it is and whoever corrected a baseline.

    They are gauges: "today" begins anew each day, and a correction takes away. For rates there is
    `statsvc_events_total`.
    """

    def __init__(self) -> None:
        self._totals: Sequence[Mapping[str, Any]] = ()

    def update(self, totals: Sequence[Mapping[str, Any]]) -> None:
        """`totals`: what `SiteTotals.as_dict` says, of each site."""
        self._totals = totals

    def collect(self) -> Iterable[GaugeMetricFamily]:
        totals = self._totals
        current = GaugeMetricFamily(
            "statsvc_current_visitors",
            "Distinct visitors with an event in the site's window.",
            labels=["site"],
        )
        peak = GaugeMetricFamily(
            "statsvc_peak_visitors",
            "The most current visitors there were, ever and today.",
            labels=["site", "period"],
        )
        for of_site in totals:
            site, now = of_site["site"], of_site["current"]
            current.add_metric([site], now["visitors"])
            peak.add_metric([site, "total"], now["peak"]["visitors"])
            peak.add_metric([site, "today"], now["peak_today"]["visitors"])
        yield current
        yield peak
        yield from self._periods(totals)

    def _periods(self, totals: Sequence[Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
        helps = {
            "visits": "Visits of a site: all with its baseline, and today's.",
            "pageviews": "Pageviews of a site: all with its baseline, and today's.",
            "visitors": "Distinct visitors of a site's local day.",
        }
        for name, text in helps.items():
            family = GaugeMetricFamily(f"statsvc_{name}", text, labels=["site", "period"])
            for of_site in totals:
                for period in PERIODS:
                    if period in of_site[name]:
                        family.add_metric([of_site["site"], period], of_site[name][period])
            yield family
