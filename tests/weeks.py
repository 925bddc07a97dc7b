"""Six believable weeks of three portals, as a test of the rules for `promtool test rules`.

Prometheus begins on a Saturday. Each half hour is a straight line between samples two minutes apart. Weeks are
counted from 0; the days in which something happens are named below.
"""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

SATURDAY = 5
HALF_HOURS = 48
WEEKS = 6
CURVE = (
    *(0.10, 0.05, 0.03, 0.02, 0.02, 0.05, 0.15, 0.60, 1.00, 0.95, 0.85, 0.60),
    *(0.35, 0.50, 0.80, 0.85, 0.75, 0.55, 0.35, 0.30, 0.35, 0.40, 0.30, 0.18),
)
DAYS = (1.3, 1.0, 1.0, 1.0, 0.95, 0.4, 0.35)
TET = range(30, 37)
"""The days of the quiet week: Monday to Sunday."""
LAUNCH = 18 + 9 / 24
"""The new portal opens: a Wednesday at nine."""
SPIKES = (39 + 3 / 24, 39 + 10 / 24)
"""Wednesday of the last week, at three in the night and at ten in the morning, for two hours."""
DROP = 40 + 10 / 24
"""The Thursday after, at ten."""


class Portal(NamedTuple):
    site: str
    peak: float
    """Current visitors on a usual day at eight."""
    begins: float = 0.0


PORTALS = (Portal("province.vn", 2500), Portal("village.vn", 6), Portal("new.vn", 800, LAUNCH))


def readers(portal: Portal, half_hour: int, chance: random.Random) -> float:
    day, part = divmod(half_hour, HALF_HOURS)
    now = half_hour / HALF_HOURS
    if now < portal.begins:
        return 0
    hour, half = divmod(part, 2)
    level = CURVE[hour] if not half else (CURVE[hour] + CURVE[(hour + 1) % 24]) / 2
    usual = portal.peak * level * DAYS[(SATURDAY + day) % 7] * chance.uniform(0.8, 1.25)
    if day in TET:
        usual *= 0.15
    if portal.site == "province.vn":
        if any(spike <= now < spike + 1 / 12 for spike in SPIKES):
            usual = usual * 6 + 300
        if DROP <= now < DROP + 1 / 12:
            usual = 0
    return usual


def series(portal: Portal) -> Iterable[dict[str, str]]:
    """Current visitors, and pageviews: a reader sees a page every hundred seconds. A restart each Sunday night."""
    chance = random.Random(portal.site)
    current, pageviews = [], []
    total = 0
    for half_hour in range(WEEKS * 7 * HALF_HOURS):
        now = round(readers(portal, half_hour, chance))
        current.append(f"{now}x14")
        more = round(now * 1.2)
        if half_hour % (7 * HALF_HOURS) == HALF_HOURS + 46:
            total = 0
        pageviews.append(f"{total}+{more}x14")
        total += 15 * more
    yield {
        "series": f'statsvc_current_visitors{{site="{portal.site}", instance="a:8081"}}',
        "values": " ".join(current),
    }
    yield {
        "series": f'statsvc_events_total{{site="{portal.site}", name="pageview", audience="human", instance="a:8081"}}',
        "values": " ".join(pageviews),
    }


def at(day: float, minutes: int = 0) -> str:
    return f"{round(day * 48) * 30 + minutes}m"


def write(path: Path, rules: Path) -> None:
    seen: Callable[[str, str], str] = lambda state, over: (  # noqa: E731
        f'count by (alertname, site) (count_over_time(ALERTS{{alertstate=~"{state}"}}[{over}]))'
    )
    quiet = {"expr": seen("pending|firing", "38d"), "eval_time": at(38), "exp_samples": []}
    spikes = [
        {
            "expr": 'count by (alertname, site) (ALERTS{alertstate="firing"})',
            "eval_time": at(spike, 60),
            "exp_samples": [{"labels": '{alertname="TrafficSpike", site="province.vn"}', "value": 2}],
        }
        for spike in SPIKES
    ]
    drop = {
        "expr": 'count by (alertname, site) (ALERTS{alertstate="firing"})',
        "eval_time": at(DROP, 60),
        "exp_samples": [{"labels": '{alertname="TrafficDrop", site="province.vn"}', "value": 1}],
    }
    after = {"expr": seen("pending|firing", "22h"), "eval_time": at(42, -30), "exp_samples": []}
    up = {"series": 'up{job="statsvc", instance="a:8081"}', "values": f"1x{WEEKS * 7 * HALF_HOURS * 15}"}
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "30m",
        "group_eval_order": [f"statsvc-{group}" for group in ("now", "usual", "sites", "service")],
        "tests": [
            {
                "interval": "2m",
                "input_series": [up, *(one for portal in PORTALS for one in series(portal))],
                "promql_expr_test": [quiet, *spikes, drop, after],
            }
        ],
    }
    path.write_text(yaml.safe_dump(document, width=10**9))
