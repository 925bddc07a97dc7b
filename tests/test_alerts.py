"""The service under load, scraped by a real Prometheus; and a spike, all the way to who should know of it."""

import http.client
import json
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.postgres import database_of
from tests.process import CHROME, Service, eventually
from tests.prometheus import Alertmanager, Prometheus, Receiver, backfill, hurried, names, promtool, rules
from tests.test_dashboards import BOARDS, expressions
from tests.test_rules_files import BUILT_IN, RECORDED

SITE = "hue.gov.vn"
USUAL = 10.0
SPIKE_ABOVE = 3 * USUAL + 50
WEEK = 7 * 86400.0
VARIABLES = {"$site": SITE, "$instance": ".+", "$__rate_interval": "10s"}


def past(now: float) -> dict[str, list[tuple[float, float]]]:
    """Four weeks in which the site had ten readers; of each only the minutes that are looked at."""

    def minutes(ago: float, value: float) -> list[tuple[float, float]]:
        return [(now - ago + 60 * minute, value) for minute in range(-10, 30)]

    series: dict[str, list[tuple[float, float]]] = {}
    for name, usual in (("current_visitors", USUAL), ("pageviews", 0.1)):
        hours, days = (f'site:statsvc_{name}:{of}{{site="{SITE}"}}' for of in ("avg1h", "busiest1d"))
        series[hours] = [
            sample for week in (4, 3, 2, 1) for sample in minutes(week * WEEK - 1800, usual)
        ] + minutes(2 * 3600, usual)
        series[days] = [sample for week in (4, 3, 2, 1) for sample in minutes(week * WEEK + 86400, usual)]
    bots = f'site_audience:statsvc_events:rate5m{{site="{SITE}",audience="bot"}}'
    series[bots] = minutes(3 * 3600, 0.01)
    series[f'statsvc_current_visitors{{site="{SITE}"}}'] = minutes(WEEK, USUAL)
    return series


class Portal:
    """Sends events to the service, over one connection."""

    def __init__(self, at: str) -> None:
        self._connection = http.client.HTTPConnection(at, timeout=10)

    def close(self) -> None:
        self._connection.close()

    def send(self, status: int = 202, user_agent: str = CHROME, **event: str) -> bytes:
        body = json.dumps(event)
        self._connection.request("POST", "/api/event", body, {"User-Agent": user_agent})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == status, text
        return text

    def view(self, visitor: int, name: str = "pageview") -> int:
        """A visitor does something on the site; its current visitors."""
        text = self.send(n=name, u=f"https://{SITE}/", d=SITE, user_agent=f"{CHROME} visitor/{visitor}")
        current: int = json.loads(text)["current"]["visitors"]
        return current

    def everything(self) -> None:
        """Once whatever can happen without breaking the disk."""
        self.view(1, "engagement")
        self.view(1, "Download")
        self.send(n="pageview", u=f"https://{SITE}/", d=SITE, user_agent="curl/8")
        self.send(n="pageview", u="https://elsewhere.test/", d=SITE)
        self.send(400, n="pageview", u="")
        self.send(404, n="pageview", u="https://nobody.test/", d="nobody.test")


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Service, Prometheus with its rules and four weeks of past, Alertmanager, receiver; and some load."""
    folder = tmp_path_factory.mktemp("observed")
    (folder / "rules.yaml").write_text(hurried())
    backfill(folder, past(time.time()))
    with (
        Receiver() as receiver,
        Service(folder / "stats.db", "--site", SITE) as service,
        Alertmanager(folder, receiver.url) as alertmanager,
        Prometheus(folder, service.operations, alertmanager.at, folder / "rules.yaml") as prometheus,
        closing(Portal(service.public)) as portal,
    ):

        def scraped(visitors: int) -> bool:
            for visitor in range(visitors):
                portal.view(visitor)
            portal.everything()
            return bool(prometheus.query("site:statsvc_pageviews:rate5m > 0"))

        eventually(lambda: scraped(3), 20)
        yield SimpleNamespace(service=service, prometheus=prometheus, portal=portal, receiver=receiver)


def test_a_spike_is_told_to_who_should_know(observed):
    """A crowd comes; the alert is at the webhook within seconds, with the numbers in it, and not before."""
    (above,) = eventually(lambda: observed.prometheus.query("site:statsvc_current_visitors:spike_above"))
    assert float(above["value"][1]) == SPIKE_ABOVE
    assert observed.receiver.alerts == []
    crossed = 0.0
    for visitor in range(200):
        if observed.portal.view(visitor) > SPIKE_ABOVE and not crossed:
            crossed = time.monotonic()

    def told():
        return [
            (at, alert)
            for at, alert in observed.receiver.alerts
            if alert["labels"].get("signal") == "current_visitors"
        ]

    (at, alert), *_ = eventually(told, 30)
    print(f"from threshold to webhook: {at - crossed:.1f} s")
    assert at - crossed < 15
    assert alert["status"] == "firing"
    assert alert["labels"]["alertname"] == "TrafficSpike"
    assert alert["labels"]["site"] == SITE
    assert "200 current visitors" in alert["annotations"]["description"]
    assert "are 10, and a spike begins above 80" in alert["annotations"]["description"]


def test_every_rule_is_evaluated_and_every_recorded_series_is_there(observed):
    """As Prometheus itself says; what a rule records has data, for a site with history."""
    assert {alert["labels"]["alertname"] for _, alert in observed.receiver.alerts} <= {"TrafficSpike"}

    def evaluated():
        groups = observed.prometheus.get("rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    found = eventually(evaluated)
    assert len(found) == len(rules())
    for rule in found:
        assert rule["health"] == "ok", rule
    for name in RECORDED:
        observed.portal.everything()
        eventually(lambda name=name: observed.prometheus.query(name))


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_has_data(observed, name):
    """Each expression, with the variables filled in as Grafana does; a drop has no mark, as there is none."""
    observed.portal.everything()
    for expr in expressions(BOARDS[name]):
        filled = expr
        for variable, value in VARIABLES.items():
            filled = filled.replace(variable, value)
        assert "$" not in filled
        if "TrafficDrop" in filled:
            assert observed.prometheus.query(filled) == []
        else:
            eventually(lambda filled=filled: observed.prometheus.query(filled))


def test_what_is_named_is_served(observed, tmp_path):
    """Rules and dashboards read only metrics of the real /metrics, or of a node's; what it serves passes promtool."""
    with Service(database_of(tmp_path), "--outbox", str(tmp_path / "outbox.db")) as node:
        texts = [service.get("/metrics")[1] for service in (observed.service, node)]
    served = set()
    for text in texts:
        promtool("check", "metrics", given=text)
        for family in text_string_to_metric_families(text):
            served |= {family.name, *(sample.name for sample in family.samples)}
            served |= {f"{family.name}_total"} if family.type == "counter" else set()
    read = {read for rule in rules() for read in names(rule["expr"])}
    read |= {read for board in BOARDS.values() for expr in expressions(board) for read in names(expr)}
    assert read - served - RECORDED - BUILT_IN == set()
