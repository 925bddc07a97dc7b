"""The dashboards over three nodes of one service: they draw what they would of a single one that does it all."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.process import Service
from tests.prometheus import Prometheus, backfill
from tests.test_alerts import SITE, WEEK, Portal
from tests.test_dashboards import BOARDS
from tests.test_rules_files import RECORDED

ONE, THREE = ["one:8081"], ["a:8081", "b:8081", "c:8081"]
SAME_ON_EVERY_NODE = {
    *(f"statsvc_{what}" for what in ("current_visitors", "peak_visitors", "visits", "pageviews", "visitors")),
    *("statsvc_store_bytes", "statsvc_store_log_bytes", "statsvc_store_free_bytes"),
    "statsvc_requests_in_flight",  # of which each node has its own limit
    *("statsvc_ready", "statsvc_presence_known"),
}
OF_NODES = ("up{", "statsvc_ready{", "statsvc_presence_known{")
"""What counts the nodes themselves: there it is three times as many."""
STEP_SECONDS, MINUTES = 30.0, 14

Samples = list[tuple[float, float]]


def panels() -> Iterator[Any]:
    """Each expression but those of marks, and of lines for each node by itself."""
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                if "{{instance}}" not in target["legendFormat"]:
                    yield pytest.param(target["expr"], id=f"{panel['title']}: {target['legendFormat']}")


def of_service(metrics: str, site: str, instances: list[str], now: float) -> dict[str, Samples]:
    """Every series of /metrics, each with numbers of its own; the nodes share the work."""
    times = [now - STEP_SECONDS * step for step in range(int(MINUTES * 60 / STEP_SECONDS), -1, -1)]
    series: dict[str, Samples] = {}
    samples = [
        (family.type, sample)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if family.name.startswith("statsvc_")
    ]
    for place, (kind, sample) in enumerate(samples, 1):
        labels = {**sample.labels, **({"site": site} if "site" in sample.labels else {})}
        level = 3.0 * place
        if sample.name not in SAME_ON_EVERY_NODE:
            level /= len(instances)
        for instance in instances:
            named = ",".join(
                f'{label}="{value}"' for label, value in {**labels, "instance": instance}.items()
            )
            if kind in ("counter", "histogram"):
                values = [(at, level * (at - times[0])) for at in times]
            else:
                values = [(at, level) for at in (now - WEEK, *times)]
            series[f'{sample.name}{{{named},job="statsvc"}}'] = values
    series |= {f'up{{instance="{instance}",job="statsvc"}}': [(now, 1.0)] for instance in instances}
    for name in RECORDED:
        if name.startswith("site:"):
            series[f'{name}{{site="{site}"}}'] = [(at, 0.5) for at in times]
    return series


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus that has seen both services, and until when."""
    folder: Path = tmp_path_factory.mktemp("drawn")
    with (
        Service(folder / "stats.db", "--site", SITE) as service,
        closing(Portal(service.public)) as portal,
    ):
        portal.view(1)
        portal.everything()
        metrics = service.get("/metrics")[1]
    now = time.time() - 60
    series = of_service(metrics, "one.vn", ONE, now) | of_service(metrics, "three.vn", THREE, now)
    backfill(folder, series)
    rules = folder / "rules.yaml"
    rules.write_text("groups: []\n")
    nobody = "127.0.0.1:9"
    with Prometheus(folder, nobody, nobody, rules) as prometheus:
        yield prometheus, now


@pytest.mark.parametrize("expr", list(panels()))
def test_three_nodes_draw_what_one_would(drawn: tuple[Prometheus, float], expr: str) -> None:
    """What they share isn't added up, and what each does is."""
    prometheus, now = drawn

    def lines(site: str, instances: list[str]) -> dict[frozenset[tuple[str, str]], float]:
        filled = expr.replace("$site", site).replace("$instance", "|".join(instances))
        filled = filled.replace("$__rate_interval", "5m")
        found = prometheus.get("query", query=filled, time=f"{now:.3f}")["result"]
        return {
            frozenset(item for item in line["metric"].items() if item[0] != "site"): float(line["value"][1])
            for line in found
        }

    one, three = lines("one.vn", ONE), lines("three.vn", THREE)
    assert one
    times = len(THREE) if any(metric in expr for metric in OF_NODES) else 1
    assert three == pytest.approx({labels: times * value for labels, value in one.items()})
