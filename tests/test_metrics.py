import re
from collections import Counter

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from statsvc.announcements import CommitFailed, Committed, Dropped, Rejected
from statsvc.metrics import MetricsObserver
from statsvc.model import DropReason
from tests.facts import NOON_MS, FakeClock
from tests.golden import equals_golden


def observed(*announcements) -> str:
    registry = CollectorRegistry()
    observer = MetricsObserver(registry, FakeClock(NOON_MS), lambda: 3)
    for announcement in announcements:
        observer.notice(announcement)
    return generate_latest(registry).decode()


def test_metrics_are_what_is_documented():
    """Names, help, types and labels of all there is, with a value in each."""
    names = Counter({("hue.gov.vn", "pageview", False): 2, ("hue.gov.vn", "custom", True): 1})
    text = observed(
        Committed(events=3, names=names, seconds=0.004, attempts=1),
        CommitFailed(events=3, error="the disk said no", given_up=False),
        CommitFailed(events=3, error="the disk said no", given_up=True),
        Dropped("hue.gov.vn", DropReason.BOT),
        Rejected(400),
    )
    equals_golden("metrics.txt", re.sub(r'version="[^"]*"', 'version="…"', text))


def test_names_follow_prometheus_rules():
    """Our prefix, base units, counters that end in _total, help for each."""
    for family in text_string_to_metric_families(observed()):
        assert family.name.startswith("statsvc_")
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|millis|percent|count)$", family.name)
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total")
            assert set(sample.labels) <= {"site", "name", "audience", "reason", "status", "le", "version"}


async def test_the_served_metrics_agree_with_the_answers(app):
    """What the collector answered is what operators see; a bot is dropped there, and counted there."""
    await app.view("/")
    await app.event(n="engagement", u="https://hue.gov.vn/", d="hue.gov.vn")
    await app.event(n="pageview", u="https://hue.gov.vn/", d="hue.gov.vn", user_agent="curl/8")
    await app.event(n="pageview", u="https://evil.test/", d="hue.gov.vn")
    await app.event(status=400)
    async with app.session.get(f"{app.operations}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    for line in (
        'statsvc_events_total{audience="human",name="pageview",site="hue.gov.vn"} 1.0',
        'statsvc_events_total{audience="human",name="engagement",site="hue.gov.vn"} 1.0',
        'statsvc_events_total{audience="bot",name="pageview",site="hue.gov.vn"} 1.0',
        'statsvc_events_dropped_total{reason="bot",site="hue.gov.vn"} 1.0',
        'statsvc_events_dropped_total{reason="hostname",site="hue.gov.vn"} 1.0',
        'statsvc_requests_rejected_total{status="400"} 1.0',
        "statsvc_commit_batch_events_sum 3.0",
        "statsvc_pending_events 0.0",
    ):
        assert f"{line}\n" in text
    assert "python_gc_objects_collected_total" in text
    assert "_created" not in text


async def test_openmetrics_is_served_to_who_asks(app):
    """Content negotiation as Prometheus does it."""
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with app.session.get(f"{app.operations}/metrics", headers=headers) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")
