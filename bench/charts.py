"""How cost grows: throughput and latency against connections, sites, pages, history and current visitors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter

from bench import past
from bench.load import Load
from bench.requests import Requests, events
from bench.rows_store import crowd
from bench.stage import SITE, Stage

BUSY = 64
NAME = "performance-growth.svg"
DARK, LIGHT, GREY = "#1f5fa8", "#8fb4dc", "#666666"


class _Sweep(NamedTuple):
    """What is varied, from where to where, and the store and requests for one value of it."""

    of: str
    full: tuple[int, ...]
    quick: int
    load: Callable[[Stage, int], Load]


def seconds(stage: Stage) -> float:
    return stage.seconds / 3 * 2


def _connections(stage: Stage, count: int) -> Load:
    with stage.service() as service:
        return stage.load(service, events(sites=[SITE]), count, seconds(stage))


def _sites(stage: Stage, count: int) -> Load:
    return _of_store(stage, events(sites=past.domains(count)), sites=count)


def _pages(stage: Stage, count: int) -> Load:
    return _of_store(stage, events(sites=past.domains(1), pages=count), sites=1)


def _history(stage: Stage, years: int) -> Load:
    return _of_store(stage, events(sites=past.domains(100), pages=100), sites=100, days=years * 365)


def _visitors(stage: Stage, count: int) -> Load:
    store = stage.folder() / "stats.db"
    crowd(store, count)
    with stage.service(store) as service:
        return stage.load(service, events(sites=[SITE]), BUSY, seconds(stage))


def _of_store(stage: Stage, requests: Requests, *, sites: int, days: int = 0) -> Load:
    store = stage.folder() / "stats.db"
    past.write(store, sites=sites, days=days, pages=100)
    with stage.service(store, past.domains(sites)) as service:
        return stage.load(service, requests, BUSY, seconds(stage))


SWEEPS = (
    _Sweep("connections", (1, 4, 16, 64, 256, 1000), 16, _connections),
    _Sweep("sites", (1, 10, 100, 1000), 10, _sites),
    _Sweep("pages of a site", (1, 10, 100, 1000, 10_000), 10, _pages),
    _Sweep("years of history of 100 sites", (0, 1, 3, 10), 1, _history),
    _Sweep("current visitors at the start", (1000, 10_000, 100_000, 1_000_000), 1000, _visitors),
)


def draw(stage: Stage, folder: Path) -> None:
    """Measure every point once and write the chart into `folder`."""
    # Text stays text, and the same figures make the same file.
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": NAME,
        "font.size": 9,
        "axes.edgecolor": GREY,
    }
    with mpl.rc_context(style):
        drawing = Drawing(figsize=(15, 5.4), layout="constrained")
        axes = drawing.subplots(2, len(SWEEPS), sharey="row")
        for (upper, lower), sweep in zip(axes.T, SWEEPS, strict=True):
            points = (sweep.quick,) if stage.quick else sweep.full
            loads = [sweep.load(stage, point) for point in points]
            upper.plot(points, [load.rate for load in loads], "o-", color=DARK)
            lower.plot(points, [load.p99_ms for load in loads], "o-", color=LIGHT, label="p99")
            lower.plot(points, [load.p50_ms for load in loads], "o-", color=DARK, label="p50")
            lower.set_xlabel(sweep.of)
            for axis in (upper, lower):
                axis.set_xscale("symlog" if 0 in points else "log")
                axis.set_xticks(points, [f"{point:,}" for point in points], rotation=30)
                axis.minorticks_off()
                axis.grid(visible=True, color="#e4e4e4")
                axis.spines[["top", "right"]].set_visible(False)
        drawing.align_xlabels(axes[1])
        axes[0, 0].set_ylabel("events a second")
        axes[0, 0].set_ylim(bottom=0)
        axes[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes[1, 0].set_ylabel("milliseconds to the answer")
        axes[1, 0].set_yscale("log")
        axes[1, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[1, 0].legend(frameon=False)
        drawing.suptitle(
            "POST /api/event, durable, every event a new visitor; 64 connections where they don't vary."
            " One core; each point is one load.",
            fontsize=10,
            color=GREY,
        )
        drawing.savefig(folder / NAME, format="svg", metadata={"Date": None})
