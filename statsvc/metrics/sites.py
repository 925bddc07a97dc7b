"""What the portals show: the API's own numbers, for each site."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

SITES_AT_ONCE = 20
"""Written before the event loop gets its turn."""

_FAMILIES = {
    "statsvc_current_visitors": "Distinct visitors with an event in the site's window.",
    "statsvc_peak_visitors": "The most current visitors there were, ever and today.",
    "statsvc_visits": "Visits of a site: all with its baseline, and today's.",
    "statsvc_pageviews": "Pageviews of a site: all with its baseline, and today's.",
    "statsvc_visitors": "Distinct visitors of a site's local day.",
}


async def write_sites(totals: AsyncIterator[Mapping[str, Any]]) -> bytes:
    """The lines of all sites, which are the same in Prometheus' text format and in OpenMetrics.

    `totals` gives what `SiteTotals.as_dict` says, of each site. They are written here, a few sites at a
    time, and not by the client library: that holds the interpreter lock for all of them, and with a
    thousand sites events wait.

    They are gauges: "today" begins anew each day, and a correction takes away. For rates there is
    `statsvc_events_total`.
    """
    families: dict[str, list[str]] = {
        name: [f"# HELP {name} {text}\n# TYPE {name} gauge\n"] for name, text in _FAMILIES.items()
    }
    sites = 0
    async for of_site in totals:
        for lines, text in zip(families.values(), _lines(of_site), strict=True):
            lines.append(text)
        sites += 1
        if sites % SITES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return "".join(text for lines in families.values() for text in lines).encode()


def _lines(totals: Mapping[str, Any]) -> tuple[str, ...]:
    """A site's lines of each family. A domain has no character that would have to be escaped."""
    site, current = totals["site"], totals["current"]
    visits, pageviews = totals["visits"], totals["pageviews"]
    visitors = current["visitors"]
    return (
        # Where it is not known there is no sample: a 0 would be taken for a drop.
        "" if visitors is None else f'statsvc_current_visitors{{site="{site}"}} {visitors}\n',
        f'statsvc_peak_visitors{{site="{site}",period="total"}} {current["peak"]["visitors"]}\n'
        f'statsvc_peak_visitors{{site="{site}",period="today"}} {current["peak_today"]["visitors"]}\n',
        f'statsvc_visits{{site="{site}",period="total"}} {visits["total"]}\n'
        f'statsvc_visits{{site="{site}",period="today"}} {visits["today"]}\n',
        f'statsvc_pageviews{{site="{site}",period="total"}} {pageviews["total"]}\n'
        f'statsvc_pageviews{{site="{site}",period="today"}} {pageviews["today"]}\n',
        f'statsvc_visitors{{site="{site}",period="today"}} {totals["visitors"]["today"]}\n',
    )
