"""Metrics of the pipeline, fed by announcements."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from statsvc.announcements import (
    Announcement,
    Capped,
    ClockStepped,
    CommitFailed,
    Committed,
    Cut,
    Dropped,
    Fault,
    Folded,
    Limited,
    ProxyNotTrusted,
    Rejected,
)
from statsvc.metrics.counters import SiteCounter
from statsvc.ports import Clock

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BATCH_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class AnnouncedMetrics:
    """Implements `announcements.Observer`."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._events = SiteCounter(
            "statsvc_events",
            "Events committed, by site, name (pageview, engagement, custom) and audience (human, bot).",
            ["audience", "name", "site"],
        )
        self._dropped = SiteCounter(
            "statsvc_events_dropped",
            "Events that are not among a site's human numbers, by site and reason.",
            ["reason", "site"],
        )
        self._limited = SiteCounter(
            "statsvc_events_limited",
            "Events refused because their visitor or network had sent too many, by site and limit.",
            ["limit", "site"],
        )
        self._capped = SiteCounter(
            "statsvc_events_capped",
            "Events counted under (other), because their path or name was one too many for the site's day.",
            ["site", "what"],
        )
        self._folded = SiteCounter(
            "statsvc_pages_folded",
            "Pages that were read least, and are counted under (other) since the site has too many, by site.",
            ["site"],
        )
        self.of_sites = (self._events, self._dropped, self._limited, self._capped, self._folded)
        """Those that are not in the registry, because they write their own lines."""
        self._rejected = Counter(
            "statsvc_requests_rejected",
            "Requests answered with an error, by HTTP status.",
            ["status"],
            registry=registry,
        )
        self._proxy_not_trusted = Counter(
            "statsvc_proxy_not_trusted_events",
            "Events from a proxy in this machine's own networks that is not a trusted one:"
            " all its visitors are taken for one.",
            registry=registry,
        )
        self._cut = Counter(
            "statsvc_connections_cut",
            "Connections ended before a request was read, by reason.",
            ["reason"],
            registry=registry,
        )
        self._commit_seconds = Histogram(
            "statsvc_commit_duration_seconds",
            "Time from a batch's first attempt to its durable commit.",
            buckets=COMMIT_SECONDS,
            registry=registry,
        )
        self._batch_events = Histogram(
            "statsvc_commit_batch_events",
            "Events in a committed batch.",
            buckets=BATCH_EVENTS,
            registry=registry,
        )
        self._failures = Counter(
            "statsvc_commit_failures", "Attempts to commit a batch that failed.", registry=registry
        )
        self._retries = Counter(
            "statsvc_commit_retries",
            "Attempts to commit a batch again, after one that failed.",
            registry=registry,
        )
        self._given_up = Counter(
            "statsvc_commit_given_up_events",
            "Events whose senders were told 503 because their batch could not be committed.",
            registry=registry,
        )
        self._last_commit = Gauge(
            "statsvc_last_commit_timestamp_seconds",
            "When the last batch became durable, in seconds since the epoch.",
            registry=registry,
        )
        self._clock_steps = Counter(
            "statsvc_clock_steps",
            "Times the wall clock was set while the service ran, by a second or more.",
            registry=registry,
        )
        self._faults = Counter(
            "statsvc_faults",
            "Things that should not happen and did; the log has each with its traceback.",
            registry=registry,
        )

    def notice(self, announcement: Announcement) -> None:
        match announcement:
            case Committed():
                for (site, name, bot), events in announcement.names.items():
                    self._events.add("bot" if bot else "human", name, site, by=events)
                self._commit_seconds.observe(announcement.seconds)
                self._batch_events.observe(announcement.events)
                self._last_commit.set(self._clock.now().wall_ms / 1000)
            case CommitFailed():
                self._failures.inc()
                if announcement.given_up:
                    self._given_up.inc(announcement.events)
                else:
                    self._retries.inc()
            case Dropped():
                self._dropped.add(announcement.reason, announcement.site)
            case Limited():
                self._limited.add(announcement.limit, announcement.site)
            case Capped():
                self._capped.add(announcement.site, announcement.what)
            case Folded():
                self._folded.add(announcement.site, by=announcement.pages)
            case Rejected():
                self._rejected.labels(str(announcement.status)).inc()
            case ProxyNotTrusted():
                self._proxy_not_trusted.inc()
            case Cut():
                self._cut.labels(announcement.reason).inc()
                if announcement.status is not None:
                    self._rejected.labels(str(announcement.status)).inc()
            case ClockStepped():
                self._clock_steps.inc()
            case Fault():
                self._faults.inc()
            case _:
                pass
