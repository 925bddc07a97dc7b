"""The dashboard of the editor-in-chief: who is here, against last week, on which site."""

from grafana_foundation_sdk.builders import dashboard, prometheus

from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SOURCE,
    Rows,
    board,
    choice,
    grid,
    lines,
    number,
    ranked,
)

OF_SITES = 'site=~"$site"'


def total(metric: str, **labels: str) -> str:
    """Of the chosen sites together. Over several nodes each shows the same: the highest is the newest."""
    chosen = ", ".join([OF_SITES, *(f'{name}="{value}"' for name, value in labels.items())])
    return f"sum(max by (site) ({metric}{{{chosen}}}))"


def by_site(metric: str, **labels: str) -> str:
    return total(metric, **labels).removeprefix("sum(").removesuffix(")")


def told(name: str, alert: str, title: str, color: str) -> dashboard.AnnotationQuery:
    """A mark at the time at which an alert fired."""
    expr = f'ALERTS{{alertname="{alert}", alertstate="firing", {OF_SITES}}}'
    mark = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color)
    mark.target(prometheus.Dataquery().datasource(SOURCE).ref_id("Anno").expr(expr)).hide(False)
    return mark.expr(expr).title_format(title).tag_keys("site,severity").step("1m")


def build() -> dashboard.Dashboard:
    made = board(
        "Visitors",
        "statsvc-visitors",
        "The numbers that the portals show, now and against last week. Times are your browser's; today is"
        " each site's own day.",
        "now-24h",
    )
    made.with_variable(
        choice("site", "Site", "The sites that are looked at", "label_values(statsvc_current_visitors, site)")
    )
    made.annotation(told("Spikes", "TrafficSpike", "Far more readers than usual: {{site}}", ORANGE))
    made.annotation(told("Drops", "TrafficDrop", "Almost no readers: {{site}}", RED))
    rows = Rows(made)
    rows.add(
        6,
        number(
            "Current visitors",
            "Distinct visitors with an event in the last minutes (a site's window: 300 seconds, where it"
            " isn't set), of the chosen sites together. The same number as in the box.",
            total("statsvc_current_visitors"),
        ),
        number(
            "Total visits",
            "All visits ever counted, with what the old counter had shown. The same number as in the box.",
            total("statsvc_visits", period="total"),
        ),
        number(
            "Total pageviews",
            "All pageviews ever counted, with what the old counter had shown. The same number as in the box.",
            total("statsvc_pageviews", period="total"),
        ),
    )
    rows.add(
        4,
        number(
            "Visitors today",
            "Distinct visitors of each site's local day; who reads two sites is a visitor of both.",
            total("statsvc_visitors", period="today"),
        ),
        number(
            "Visits today",
            "Visits begun in each site's local day. A visit ends when nothing was read for 30 minutes.",
            total("statsvc_visits", period="today"),
        ),
        number(
            "Pageviews today",
            "Pages seen in each site's local day, by people.",
            total("statsvc_pageviews", period="today"),
        ),
        number(
            "Peak today",
            "The most current visitors that a single one of the chosen sites had in its local day.",
            f'max(statsvc_peak_visitors{{period="today", {OF_SITES}}})',
        ),
    )
    now = by_site("statsvc_current_visitors")
    spike = f"site:statsvc_current_visitors:spike_above{{{OF_SITES}}}"
    one_site = f"count(max by (site) (statsvc_current_visitors{{{OF_SITES}}})) == 1"
    rows.add(
        10,
        lines(
            "Current visitors, against last week",
            "Grey is the same time a week ago; dashed, what is usual at this hour of this day: the median of"
            " up to four weeks. Where one site is chosen and comes near it, orange is the line above which"
            " an alert is sent. Marks are spikes and drops.",
            {
                "now": total("statsvc_current_visitors"),
                "a week ago": f"sum(max by (site) (statsvc_current_visitors{{{OF_SITES}}} offset 1w))",
                "usual": f"sum(site:statsvc_current_visitors:usual{{{OF_SITES}}})",
                "a spike above": f"sum({spike}) < 2 * sum({now}) and {one_site}",
            },
            unit="locale",
            colors={"now": BLUE, "a week ago": GREY, "usual": GREEN, "a spike above": ORANGE},
            dashed=("usual", "a spike above"),
        ),
    )
    people, bots = (
        f'60 * sum(rate(statsvc_events_total{{name="pageview", audience="{audience}", {OF_SITES}}}'
        "[$__rate_interval]))"
        for audience in ("human", "bot")
    )
    rows.add(
        9,
        ranked(
            "Sites by current visitors",
            "The twenty sites with the most current visitors, of those chosen.",
            {"{{site}}": f"sort_desc(topk(20, {by_site('statsvc_current_visitors')}))"},
        ),
        lines(
            "Pageviews a minute: people and bots",
            "Bots are known by what they call themselves. They are in none of the other numbers.",
            {"people": people, "bots": bots},
            unit="locale",
            colors={"people": GREEN, "bots": GREY},
        ),
    )
    rows.add(
        10,
        grid(
            "All sites",
            "The numbers of each chosen site, most current visitors first; another column sorts by itself.",
            {
                "Current visitors": by_site("statsvc_current_visitors"),
                "Peak today": by_site("statsvc_peak_visitors", period="today"),
                "Peak ever": by_site("statsvc_peak_visitors", period="total"),
                "Visitors today": by_site("statsvc_visitors", period="today"),
                "Visits today": by_site("statsvc_visits", period="today"),
                "Pageviews today": by_site("statsvc_pageviews", period="today"),
                "Total visits": by_site("statsvc_visits", period="total"),
                "Total pageviews": by_site("statsvc_pageviews", period="total"),
            },
            by="site",
            sort="Current visitors",
        ),
    )
    return made
