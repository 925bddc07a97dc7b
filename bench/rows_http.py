"""Rows measured over HTTP against the references, in turns: reference, nginx, service, and again."""

from collections.abc import Iterator
from statistics import median

from bench.books import bare_commit_ms
from bench.figures import Figure
from bench.load import Load
from bench.requests import MANY, Requests, events, pixels, reads
from bench.stage import SITE, Stage

BUSY = 64
BUSIER = 256


class _Turns:
    """What one shape of load gave, turn by turn, side by side."""

    def __init__(self, stage: Stage, requests: Requests, connections: int, *, with_nginx: bool) -> None:
        self.bare: list[Load] = []
        self.nginx: list[Load] = []
        self.ours: list[Load] = []
        with stage.service() as service, stage.references(service.answer_bytes(requests)) as (bare, pixel):
            for _ in range(stage.turns):
                stage.spin()
                self.bare.append(stage.load(bare, requests, connections, stage.turn_seconds))
                if with_nginx and pixel is not None:
                    self.nginx.append(stage.load(pixel, requests, connections, stage.turn_seconds))
                self.ours.append(stage.load(service, requests, connections, stage.turn_seconds))

    def rates(self, others: list[Load]) -> list[float]:
        return [mine.rate / other.rate for mine, other in zip(self.ours, others, strict=True)]

    def p99s(self) -> list[float]:
        return [mine.p99_ms / bare.p99_ms for mine, bare in zip(self.ours, self.bare, strict=True)]

    def seen(self) -> dict[str, float]:
        loads = {"ours/s": self.ours, "aiohttp/s": self.bare, "nginx/s": self.nginx}
        seen = {name: median(load.rate for load in made) for name, made in loads.items() if made}
        cpu = {"ours CPU µs": self.ours, "aiohttp CPU µs": self.bare}
        return seen | {name: median(load.cpu_us for load in made) for name, made in cpu.items()}

    def seen_p99(self) -> dict[str, float]:
        loads = {"ours ms": self.ours, "aiohttp ms": self.bare}
        return {name: median(load.p99_ms for load in made) for name, made in loads.items()}


def event(stage: Stage) -> Iterator[Figure]:
    """Durable `POST /api/event`, every event a new visitor."""
    for connections in (BUSY,) if stage.quick else (BUSY, BUSIER):
        turns = _Turns(stage, events(sites=[SITE]), connections, with_nginx=True)
        what = f"`POST /api/event`, new visitors, {connections} connections"
        seen = turns.seen()
        yield Figure("event", f"{what}: of aiohttp", turns.rates(turns.bare), 0.60, True, seen=seen)
        if turns.nginx:
            yield Figure("event", f"{what}: of nginx", turns.rates(turns.nginx), 0.19, True)
        yield Figure("event", f"{what}: p99 of aiohttp's", turns.p99s(), 3, False, seen=turns.seen_p99())


def connect(stage: Stage) -> Iterator[Figure]:
    """The same, with a new TCP connection for every event."""
    turns = _Turns(stage, events(sites=[SITE], close=True), BUSY, with_nginx=False)
    what = "the same, a new TCP connection for every event: of aiohttp"
    yield Figure("connect", what, turns.rates(turns.bare), 0.75, True, seen=turns.seen())


def mix(stage: Stage) -> Iterator[Figure]:
    """The same, with visitors who come back and read on."""
    requests = events(sites=[SITE], visitors=MANY, engagement=0.4)
    turns = _Turns(stage, requests, BUSY, with_nginx=False)
    what = "the same, 20,000 visitors coming back, 40 % engagement: of aiohttp"
    yield Figure("mix", what, turns.rates(turns.bare), 0.70, True, seen=turns.seen())


def quiet(stage: Stage) -> Iterator[Figure]:
    """One connection, one event at a time."""
    requests = events(sites=[SITE])
    ratios, ours, bares, commits = [], [], [], []
    with stage.service() as service, stage.references(service.answer_bytes(requests)) as (bare, _):
        folder = stage.folder()
        for _ in range(stage.turns):
            stage.spin()
            bares.append(stage.load(bare, requests, 1, stage.turn_seconds).p50_ms)
            commits.append(bare_commit_ms(folder, stage.turn_seconds / 3))
            ours.append(stage.load(service, requests, 1, stage.turn_seconds).p50_ms)
            ratios.append(ours[-1] / (bares[-1] + commits[-1]))
    seen = {"ours ms": median(ours), "aiohttp ms": median(bares), "bare commit ms": median(commits)}
    what = "a quiet service, one event at a time: p50 of (aiohttp's + one bare commit)"
    yield Figure("quiet", what, ratios, 2, False, seen=seen)


def answers(stage: Stage) -> Iterator[Figure]:
    """What is read: totals, badge, pixel."""
    for what, requests, goal in (
        ("`GET /api/totals`, warm", reads("/api/totals?site={}", [SITE]), 0.85),
        ("`GET /badge.svg`, warm", reads("/badge.svg?site={}", [SITE]), 0.85),
        ("`GET /hit.gif`, new visitors", pixels(SITE), 0.65),
    ):
        turns = _Turns(stage, requests, BUSY, with_nginx=False)
        yield Figure("answers", f"{what}: of aiohttp", turns.rates(turns.bare), goal, True, seen=turns.seen())
