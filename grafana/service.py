"""The dashboard of the engineer: requests, the pipeline, the store, and what is running short."""

from grafana_foundation_sdk.builders import dashboard

from grafana.panels import BLUE, GREEN, GREY, ORANGE, RED, Rows, board, choice, lines, number

ON = 'instance=~"$instance"'
ANSWERED = f'{ON}, route!="/api/stream"'
PER = "[$__rate_interval]"
REQUESTS = "statsvc_http_request_duration_seconds"
COMMITS = "statsvc_commit_duration_seconds"
GIGABYTE = 1024**3


def rate(metric: str, labels: str = ON, by: str = "") -> str:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{{{labels}}}{PER}))"


def percentile(share: float, histogram: str, labels: str = ON, by: str = "") -> str:
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', labels, f'le, {by}' if by else 'le')})"


DROPPED = rate("statsvc_events_dropped_total", f'{ON}, reason!~"bot|headless|headers"', "reason")


def build() -> dashboard.Dashboard:
    made = board(
        "Service",
        "statsvc-service",
        "How statsvc itself does: first what its callers feel, then why. What to do about each alert stands"
        " in docs/runbook.md.",
        "now-6h",
    )
    made.with_variable(
        choice(
            "instance",
            "Instance",
            "The processes that are looked at",
            "label_values(statsvc_build_info, instance)",
        )
    )
    rows = Rows(made)
    _numbers(rows)
    _requests(rows)
    _pipeline(rows)
    _storage(rows)
    _saturation(rows)
    _nodes(rows)
    return made


def _numbers(rows: Rows) -> None:
    refused = rate("statsvc_requests_rejected_total", f'{ON}, status="503"')
    rows.add(
        4,
        number(
            "Refused",
            "Requests a second that are answered 503, because events can't be committed or too many wait."
            " Should be 0: a refused event is not counted.",
            f"{refused} or vector(0)",
            unit="reqps",
            base=GREEN,
            thresholds=[(0.001, RED)],
        ),
        number(
            "Events",
            "Events committed to disk a second, of people and bots.",
            rate("statsvc_events_total"),
            unit="cps",
        ),
        number(
            "Answer time, 99 of 100",
            "So fast, or faster, 99 of 100 requests are answered, streams left out.",
            percentile(0.99, REQUESTS, ANSWERED),
            unit="s",
            base=GREEN,
            thresholds=[(0.25, ORANGE), (1, RED)],
        ),
        number(
            "Waiting requests",
            "Requests begun and not answered, streams left out, of the node that has the most. At 2,000 it"
            " refuses more.",
            f"max(statsvc_requests_in_flight{{{ON}}})",
            base=GREEN,
            thresholds=[(1000, ORANGE), (2000, RED)],
        ),
        number(
            "Disk free",
            "Room on the disk that holds the store.",
            f"min(statsvc_store_free_bytes{{{ON}}})",
            unit="bytes",
            base=RED,
            thresholds=[(GIGABYTE, ORANGE), (10 * GIGABYTE, GREEN)],
        ),
        number(
            "Instances up",
            "Processes that answer Prometheus, of the job `statsvc`.",
            f'sum(up{{job="statsvc", {ON}}})',
            base=RED,
            thresholds=[(1, GREEN)],
        ),
    )


def _requests(rows: Rows) -> None:
    rows.heading("Requests")
    rows.add(
        8,
        lines(
            "Requests by route",
            "Requests a second, by what was called. (none) is whatever no route is for.",
            {"{{route}}": rate(f"{REQUESTS}_count", by="route")},
            unit="reqps",
        ),
        lines(
            "Errors by status",
            "Requests a second that were answered with an error. 400 and 404 are the callers'; 503 is ours.",
            {"{{status}}": f"{rate('statsvc_requests_rejected_total', by='status')} or vector(0)"},
            unit="reqps",
            colors={"503": RED},
        ),
        lines(
            "Answer time by route, 99 of 100",
            "99 of 100 requests are answered within this time. Streams stay open by intent and are left out.",
            {"{{route}}": percentile(0.99, REQUESTS, ANSWERED, "route")},
            unit="s",
            thresholds=[(1, RED)],
        ),
    )


def _pipeline(rows: Rows) -> None:
    rows.heading("Pipeline")
    rows.add(
        8,
        lines(
            "Events by what became of them",
            "Events a second: counted among people, counted among bots, dropped for a reason, or refused"
            " because their sender had sent too many (see the README). Of a page or name too many: they are"
            " among the first, but under (other), not their own page or name.",
            {
                "{{audience}}": rate("statsvc_events_total", by="audience"),
                "too many of one sender": f"{rate('statsvc_events_limited_total')} or vector(0)",
                "dropped: {{reason}}": f"{DROPPED} or label_replace(vector(0) unless on() {DROPPED},"
                ' "reason", "none", "", "")',
                "of a page or name too many": f"{rate('statsvc_events_capped_total')} or vector(0)",
            },
            unit="cps",
            colors={"human": GREEN, "bot": GREY},
        ),
        lines(
            "Commit duration",
            "From a batch's first attempt until it is on disk. Each event waits for it; above half a second"
            " for ten minutes SlowCommits is sent.",
            {"99 of 100": percentile(0.99, COMMITS), "half": percentile(0.5, COMMITS)},
            unit="s",
            colors={"99 of 100": BLUE, "half": GREY},
            thresholds=[(0.5, RED)],
        ),
        lines(
            "Events a batch",
            "How many events share a commit. It grows with load: that is how the disk keeps up.",
            {
                "99 of 100": percentile(0.99, "statsvc_commit_batch_events"),
                "mean": f"{rate('statsvc_commit_batch_events_sum')}"
                f" / ({rate('statsvc_commit_batch_events_count')} > 0)",
            },
            unit="locale",
            colors={"99 of 100": BLUE, "mean": GREY},
        ),
    )
    rows.add(
        8,
        lines(
            "Waiting requests",
            "Requests begun and not answered, streams left out. At 2,000 more are refused.",
            {"{{instance}}": f"statsvc_requests_in_flight{{{ON}}}"},
            unit="locale",
            thresholds=[(1000, ORANGE), (2000, RED)],
        ),
        lines(
            "Failed commits",
            "Attempts a second that failed, those tried again, and events a second whose senders were told"
            " 503 for it. Should be 0.",
            {
                "failed attempts": rate("statsvc_commit_failures_total"),
                "tried again": rate("statsvc_commit_retries_total"),
                "events given up": rate("statsvc_commit_given_up_events_total"),
            },
            unit="cps",
            colors={"failed attempts": ORANGE, "tried again": GREY, "events given up": RED},
        ),
        lines(
            "Since the last commit",
            "How long ago a batch became durable. It grows when nobody reads; that is no fault while nothing"
            " waits.",
            {"{{instance}}": f"time() - (statsvc_last_commit_timestamp_seconds{{{ON}}} > 0)"},
            unit="s",
        ),
    )


def _storage(rows: Rows) -> None:
    rows.heading("Storage")
    rows.add(
        8,
        lines(
            "Stored data",
            "Size of the store and of its write-ahead log, which is folded into it now and then. Nodes that"
            " share a store all show its size.",
            {
                "store": f"max(statsvc_store_bytes{{{ON}}})",
                "write-ahead log": f"max(statsvc_store_log_bytes{{{ON}}})",
            },
            unit="bytes",
            colors={"store": BLUE, "write-ahead log": GREY},
        ),
        lines(
            "Room on the disk",
            "What is free, and (dashed) what would be in two days at the pace of the last six hours. Below"
            " the red line, 1 GiB, DiskFilling is critical.",
            {
                "free": f"min(statsvc_store_free_bytes{{{ON}}})",
                "in two days": "clamp_min(min("
                f"predict_linear(statsvc_store_free_bytes{{{ON}}}[6h], 2 * 86400)), 0)",
            },
            unit="bytes",
            colors={"free": BLUE, "in two days": GREY},
            dashed=("in two days",),
            thresholds=[(GIGABYTE, RED)],
        ),
    )


def _saturation(rows: Rows) -> None:
    rows.heading("Saturation")
    rows.add(
        8,
        lines(
            "Event loop lag, 99 of 100",
            "How much later than asked for the event loop comes round. All answers wait for it; above a"
            " quarter of a second for ten minutes EventLoopLagging is sent.",
            {"{{instance}}": percentile(0.99, "statsvc_event_loop_lag_seconds", by="instance")},
            unit="s",
            thresholds=[(0.25, RED)],
        ),
        lines(
            "Processor",
            "Processor time used: the event loop can use one whole core, and the disk's thread a part of"
            " another.",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{ON}}}{PER})"},
            unit="percentunit",
        ),
        lines(
            "Memory",
            "Resident memory of the process. Open visits and today's visitors are most of it.",
            {"{{instance}}": f"process_resident_memory_bytes{{{ON}}}"},
            unit="bytes",
        ),
    )
    rows.add(
        8,
        lines(
            "Open visits and streams",
            "Visits held in memory, people's and bots', and open streams of Server-Sent Events.",
            {
                "open visits": f"sum(statsvc_open_visits{{{ON}}})",
                "in the window": f"sum(statsvc_window_entries{{{ON}}})",
                "streams": f"sum(statsvc_stream_readers{{{ON}}})",
            },
            unit="locale",
            colors={"open visits": BLUE, "streams": GREY},
        ),
        lines(
            "Open files",
            "Part of the files and connections that the process may have open, that it has.",
            {"{{instance}}": f"process_open_fds{{{ON}}} / process_max_fds{{{ON}}}"},
            unit="percentunit",
            thresholds=[(0.8, RED)],
        ),
        lines(
            "Clock steps and faults",
            "Times the wall clock was set, and things that should not happen and did, in ten minutes. Should"
            " be 0.",
            {
                "clock steps": f"sum(increase(statsvc_clock_steps_total{{{ON}}}[10m]))",
                "faults": f"sum(increase(statsvc_faults_total{{{ON}}}[10m]))",
            },
            unit="locale",
            colors={"clock steps": ORANGE, "faults": RED},
        ),
    )


def _nodes(rows: Rows) -> None:
    rows.heading("Nodes")
    rows.add(
        8,
        lines(
            "Nodes up and ready",
            "Processes that answer Prometheus, and those of them that are ready: one that is told to stop"
            " isn't any more, and goes on for as long as it drains. One that can't reach its Redis counts on,"
            " and doesn't know who is current.",
            {
                "up": f'sum(up{{job="statsvc", {ON}}})',
                "ready": f"sum(statsvc_ready{{{ON}}})",
                "know who is current": f"sum(statsvc_presence_known{{{ON}}})",
            },
            unit="locale",
            colors={"up": GREY, "ready": GREEN, "know who is current": BLUE},
        ),
        lines(
            "Events by node",
            "Events that each node commits a second. Behind a load balancer they are about equal; a node"
            " that has none is left out by it.",
            {"{{instance}}": rate("statsvc_events_total", by="instance")},
            unit="cps",
        ),
        lines(
            "Commit duration by node, 99 of 100",
            "Where nodes share a store and one is slower than the others, it is the node, or its way to the"
            " store.",
            {"{{instance}}": percentile(0.99, COMMITS, by="instance")},
            unit="s",
            thresholds=[(0.5, RED)],
        ),
    )
    rows.add(
        8,
        lines(
            "Batches in the outbox",
            "What each node has acknowledged and not yet brought to a store in a network: it is safe on the"
            " node's own disk. 0 as long as the store can be reached.",
            {"{{instance}}": _waiting("statsvc_outbox_batches")},
            unit="locale",
        ),
        lines(
            "Longest wait in the outbox",
            "How long the first of them waits. After two minutes OutboxNotDelivered is sent.",
            {"{{instance}}": _waiting("statsvc_outbox_age_seconds")},
            unit="s",
            thresholds=[(120, RED)],
        ),
    )


def _waiting(metric: str) -> str:
    """A node whose store is on its own machine has no outbox, and nothing that waits."""
    return f"{metric}{{{ON}}} or 0 * statsvc_ready{{{ON}}}"
