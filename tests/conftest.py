"""Shared fixtures: a clock you set, a real SQLite file, and the real service in this process."""

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser

from statsvc.config import load_settings
from statsvc.service import running
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from tests.browser import Portal, chromium
from tests.facts import NOON_MS, FakeClock
from tests.postgres import stopped_at_the_end
from tests.process import CHROME
from tests.redis_server import PATIENCE_SECONDS, RedisServer, redis_cluster

settings.register_profile(
    "statsvc",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("statsvc")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What is missing on a laptop is a skip; in CI, where everything must be there, it is an error."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {item.nodeid}: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def servers() -> Iterator[None]:
    """Servers that tests share are started by who needs them first."""
    with stopped_at_the_end():
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON_MS)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "stats.db", serving=False)
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> SqliteStore:
    return SqliteStore(database)


@pytest.fixture
def registry(database: Database) -> SqliteRegistry:
    return SqliteRegistry(database)


class App:
    """The running service, as a browser and an operator reach it."""

    def __init__(self, session: ClientSession, public: str, operations: str) -> None:
        self.session = session
        self.public = f"http://{public}"
        self.operations = f"http://{operations}"

    async def event(self, status: int = 202, user_agent: str = CHROME, **fields: Any) -> dict[str, Any]:
        """Send an event; its decoded answer."""
        async with self.session.post(
            f"{self.public}/api/event", json=fields, headers={"User-Agent": user_agent}
        ) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == status, answer
            return answer

    async def view(self, path: str = "/", visitor: int = 0, site: str = "hue.gov.vn") -> dict[str, Any]:
        """A visitor sees a page."""
        return await self.event(
            n="pageview", u=f"https://{site}{path}", d=site, user_agent=f"{CHROME} visitor/{visitor}"
        )

    async def totals(self, site: str = "hue.gov.vn", *paths: str) -> dict[str, Any]:
        query = [("site", site), *(("path", path) for path in paths)]
        async with self.session.get(f"{self.public}/api/totals", params=query) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Real headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def portal() -> Iterator[Portal]:
    """A portal's own server, at another origin than the service."""
    with Portal() as portal:
        yield portal


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service waits long for a Redis that answers, as a machine may be slow."""
    monkeypatch.setattr("statsvc.presence.redis.PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr("statsvc.presence.client.CONNECT_SECONDS", PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests that neither stop nor empty it; each has a prefix or database of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    with redis_cluster() as nodes:
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


AppFactory = Callable[..., AbstractAsyncContextManager[App]]


@pytest.fixture
def start(tmp_path: Path, clock: FakeClock) -> AppFactory:
    """Starts the service on the test's store; may be stopped and started again."""

    @asynccontextmanager
    async def started(
        *, sites: str = "hue.gov.vn", zone: str = "Asia/Ho_Chi_Minh", **options: str
    ) -> AsyncIterator[App]:
        environment = {
            "STATSVC_STORE": f"sqlite://{tmp_path}/stats.db",
            "STATSVC_LISTEN": "127.0.0.1:0",
            "STATSVC_OPS_LISTEN": "127.0.0.1:0",
            "STATSVC_SITE": sites,
            "STATSVC_TIME_ZONE": zone,
        } | {f"STATSVC_{name.upper()}": value for name, value in options.items()}
        async with AsyncExitStack() as stack:
            at = await stack.enter_async_context(running(load_settings({}, environment), clock))
            session = await stack.enter_async_context(ClientSession())
            yield App(session, str(at.public), str(at.operations))

    return started


@pytest.fixture
async def app(start: AppFactory) -> AsyncIterator[App]:
    async with start() as app:
        yield app
