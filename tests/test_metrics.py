import asyncio
import re
from collections import Counter

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from statsvc.announcements import (
    Capped,
    ClockStepped,
    CommitFailed,
    Committed,
    Cut,
    CutReason,
    Dropped,
    Fault,
    Rejected,
)
from statsvc.metrics.announced import AnnouncedMetrics
from statsvc.metrics.counters import SERIES_AT_ONCE, SiteCounter, write_counters
from statsvc.metrics.outbox import OutboxCollector
from statsvc.model import DropReason, Site
from tests.facts import NOON_MS, FakeClock
from tests.golden import equals_golden

BOUNDED_LABELS = {
    *("site", "name", "audience", "reason", "status", "le", "version", "period", "route", "method", "what")
}


async def scraped(app) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample's value, by its name and labels."""
    async with app.session.get(f"{app.operations}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


async def observed(*announcements) -> str:
    registry = CollectorRegistry()
    observer = AnnouncedMetrics(registry, FakeClock(NOON_MS))
    for announcement in announcements:
        observer.notice(announcement)
    of_sites = await write_counters(observer.of_sites, openmetrics=False)
    return (of_sites + generate_latest(registry)).decode()


async def test_metrics_are_what_is_documented():
    """Names, help, types and labels of all there is, with a value in each."""
    names = Counter({("hue.gov.vn", "pageview", False): 2, ("hue.gov.vn", "custom", True): 1})
    text = await observed(
        Committed(events=3, names=names, seconds=0.004, attempts=1),
        CommitFailed(events=3, error="the disk said no", given_up=False),
        CommitFailed(events=3, error="the disk said no", given_up=True),
        Dropped("hue.gov.vn", DropReason.BOT),
        Capped("hue.gov.vn", "path"),
        Rejected(400),
        Cut(CutReason.NOT_HTTP, 400),
        Cut(CutReason.IDLE, None),
        ClockStepped(-3600),
        Fault("here", "ValueError: x", "Traceback"),
    )
    equals_golden("metrics.txt", text)


def test_what_waits_in_the_outbox_has_its_age():
    """Since its first batch was committed here; 0 where nothing waits, and where the clock went back."""

    class Waiting:
        batches, size_bytes, most_bytes = 2, 300, 1000
        oldest_ms: int | None = NOON_MS

    outbox, clock = Waiting(), FakeClock(NOON_MS)
    registry = CollectorRegistry()
    registry.register(OutboxCollector(outbox, clock))

    def age() -> float | None:
        return registry.get_sample_value("statsvc_outbox_age_seconds")

    clock.advance(90)
    assert age() == 90
    assert registry.get_sample_value("statsvc_outbox_bytes") == 300
    outbox.oldest_ms = clock.now().wall_ms + 1000
    assert age() == 0
    outbox.oldest_ms = None
    assert age() == 0


async def test_names_follow_prometheus_rules(app):
    """Our prefix, base units, counters that end in _total, help for each, and only labels that are bounded."""
    await app.view("/")
    async with app.session.get(f"{app.operations}/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    for family in families:
        if not family.name.startswith(("python_", "process_")):
            assert family.name.startswith("statsvc_")
            assert family.documentation.endswith(".")
            assert not re.search(r"_(ms|millis|percent|count)$", family.name)
            for sample in family.samples:
                assert family.type != "counter" or sample.name.endswith("_total")
                assert set(sample.labels) <= BOUNDED_LABELS


async def test_the_sites_numbers_are_the_apis(app, registry):
    """Box, API and /metrics say the same, for a private site too; a baseline is in the total."""
    (site,) = await registry.sites()
    other = await registry.add(Site(id=0, domain="private.vn", public=False), NOON_MS)
    await registry.set_baseline(site.id, 1000, 5000, "old", NOON_MS)
    private = "statsvc_visits", frozenset({"site": other.domain, "period": "total"}.items())
    async with asyncio.timeout(5):
        while private not in await scraped(app):
            await asyncio.sleep(0.05)
    for visitor in range(3):
        await app.view("/", visitor)
    totals = await app.totals()
    samples = await scraped(app)

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset({"site": "hue.gov.vn", **labels}.items())]

    assert value("statsvc_current_visitors") == totals["current"]["visitors"] == 3
    assert value("statsvc_peak_visitors", period="total") == totals["current"]["peak"]["visitors"] == 3
    for name in ("visits", "pageviews"):
        for period in ("total", "today"):
            assert value(f"statsvc_{name}", period=period) == totals[name][period] > 0
    assert value("statsvc_visitors", period="today") == totals["visitors"]["today"] == 3
    assert samples[private] == 0


async def test_requests_are_told_apart_by_route_not_by_what_was_asked(app):
    """Unknown addresses and methods share one series."""
    for path in ("/api/totals?site=hue.gov.vn", "/no/such/1", "/no/such/2"):
        async with app.session.get(app.public + path):
            pass
    async with app.session.request("PATCH", app.public + "/api/event"):
        pass
    samples = await scraped(app)
    counts = {
        tuple(sorted(dict(labels).items())): value
        for (name, labels), value in samples.items()
        if name == "statsvc_http_request_duration_seconds_count"
    }
    assert counts[("method", "GET"), ("route", "/api/totals"), ("status", "200")] == 1
    assert counts[("method", "(any)"), ("route", "(none)"), ("status", "404")] == 2
    assert counts[("method", "(any)"), ("route", "(none)"), ("status", "405")] == 1


async def test_a_counter_of_many_sites_is_one_family_of_whole_lines():
    """However many there are, and written in however many pieces; others get a turn between them."""
    counter = SiteCounter("statsvc_things", "Things.", ["site", "what"])
    for number in range(2 * SERIES_AT_ONCE + 1):
        counter.add(f"{number}.vn", "tea", by=number)
    counter.add("1.vn", "tea")
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    text = (await write_counters([counter], openmetrics=False)).decode()
    watching.cancel()
    assert turns >= 3
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.type) == ("statsvc_things", "counter")
    values = [2 if number == 1 else number for number in range(2 * SERIES_AT_ONCE + 1)]
    assert [sample.value for sample in family.samples] == values


async def test_who_leaves_the_window_leaves_its_gauge(app, clock):
    """The visit stays open until its gap is over; the window has let it go."""
    await app.view("/", 1)
    clock.advance(400)
    samples = await scraped(app)
    assert samples["statsvc_window_entries", frozenset()] == 0
    assert samples["statsvc_open_visits", frozenset()] == 1


async def test_the_state_of_the_store_and_memory_is_told(app):
    """Bytes on disk, room left, visits in memory, and how late the loop is."""
    await app.view("/", 1)
    await app.view("/", 2)
    samples = await scraped(app)
    assert samples["statsvc_open_visits", frozenset()] == 2
    assert samples["statsvc_window_entries", frozenset()] == 2
    assert samples["statsvc_stream_readers", frozenset()] == 0
    assert samples["statsvc_store_bytes", frozenset()] > 4096
    assert samples["statsvc_store_log_bytes", frozenset()] > 0
    assert samples["statsvc_store_free_bytes", frozenset()] > 0
    assert ("statsvc_event_loop_lag_seconds_count", frozenset()) in samples


async def test_a_clock_that_is_set_is_counted(app, clock):
    """Slewing by milliseconds is not; setting it by an hour is."""
    clock.step(0.2)
    clock.step(3600)
    async with asyncio.timeout(5):
        while (await scraped(app))["statsvc_clock_steps_total", frozenset()] != 1:
            await asyncio.sleep(0.05)


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
        'statsvc_events_total{audience="human",name="pageview",site="hue.gov.vn"} 1',
        'statsvc_events_total{audience="human",name="engagement",site="hue.gov.vn"} 1',
        'statsvc_events_total{audience="bot",name="pageview",site="hue.gov.vn"} 1',
        'statsvc_events_dropped_total{reason="bot",site="hue.gov.vn"} 1',
        'statsvc_events_dropped_total{reason="hostname",site="hue.gov.vn"} 1',
        'statsvc_requests_rejected_total{status="400"} 1.0',
        "statsvc_commit_batch_events_sum 3.0",
        "statsvc_pending_events 0.0",
    ):
        assert f"{line}\n" in text
    assert "python_gc_objects_collected_total" in text
    assert "_created" not in text


async def test_openmetrics_is_served_to_who_asks(app, registry):
    """Content negotiation as Prometheus does it; both formats say the same of the sites."""
    await registry.add(Site(id=0, domain="b.vn"), NOON_MS)
    await app.view("/")
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}

    async def of_sites() -> set[tuple[str, frozenset[tuple[str, str]], float]]:
        async with app.session.get(f"{app.operations}/metrics", headers=headers) as response:
            assert response.content_type == "application/openmetrics-text"
            text = await response.text()
        assert text.endswith("# EOF\n")
        return {
            (sample.name, frozenset(sample.labels.items()), sample.value)
            for family in openmetrics_families(text)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if "site" in sample.labels
        }

    async with asyncio.timeout(5):
        while len(spoken := await of_sites()) != 17:
            await asyncio.sleep(0.05)
    plain = {(name, labels, value) for (name, labels), value in (await scraped(app)).items()}
    assert spoken <= plain
