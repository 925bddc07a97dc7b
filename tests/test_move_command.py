"""A store moved from SQLite to PostgreSQL: all of it, once, beside a running service, and after being killed."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from bench import past
from statsvc.backends import opened_store
from statsvc.model import Scope, Site
from statsvc.stores.move import TABLES
from tests.facts import NOON_MS
from tests.postgres import program, shared
from tests.process import CHROME, UNLIMITED, Service, command, eventually

REGISTRY = ("sites", "baselines", "tokens")


@pytest.fixture
def url() -> str:
    return shared().database()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stats.db"


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


def sql(url: str, text: str) -> str:
    return shared().sql(text, name_of(url))


def view(service: Service, path: str, visitor: int) -> dict[str, Any]:
    body = json.dumps(
        {"n": "pageview", "u": f"https://hue.gov.vn{path}", "d": "hue.gov.vn", "id": f"{path} {visitor}"}
    )
    headers = {"User-Agent": f"{CHROME} visitor/{visitor}", "Content-Type": "text/plain"}
    with urlopen(Request(f"http://{service.public}/api/event", body.encode(), headers), timeout=30) as answer:
        return json.loads(answer.read())


def move(file: Path, url: str, status: int = 0) -> str:
    done = subprocess.run(moving(file, url), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr or done.stdout
    return done.stdout or done.stderr


def moving(file: Path, url: str) -> list[str]:
    return [sys.executable, "-m", "statsvc", "migrate-store", "--from", f"sqlite://{file}", "--to", url]


def assert_equal(file: Path, url: str) -> int:
    """Every row of every table is there as it was; how many there are."""
    total = 0
    columns = {table.name: table.columns for table in TABLES}
    with closing(sqlite3.connect(file)) as database:
        for name in REGISTRY:
            columns[name] = ", ".join(
                column for _, column, *_ in database.execute(f"PRAGMA table_info({name})")
            )
        for name, names in columns.items():
            here = database.execute(f"SELECT {names} FROM {name}").fetchall()
            there = json.loads(sql(url, f"SELECT coalesce(json_agg(row), '[]') FROM (SELECT {names} FROM {name}) AS row")
                               .replace("\n", ""))  # fmt: skip
            assert sorted(map(normal, here)) == sorted(normal(row.values()) for row in there), name
            total += len(here)
    return total


def normal(row: Any) -> str:
    """Bytes as PostgreSQL writes them, arrays and truth as they are meant."""
    parts = []
    for value in row:
        if isinstance(value, bytes):
            parts.append("\\x" + value.hex())
        elif isinstance(value, str) and value.startswith("["):
            parts.append(str(json.loads(value)))
        else:
            parts.append(str(int(value) if isinstance(value, bool) else value))
    return "\t".join(parts)


@contextmanager
def held_back(url: str, table: str) -> Iterator[Callable[[], None]]:
    """Nobody can write to the table until it ends, or what it gives is called; reading is free."""
    order = [program("psql"), url, "-XAtq", "-c", "SET search_path = statsvc", "-f", "-"]
    with subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(f"BEGIN; LOCK TABLE {table} IN SHARE MODE; SELECT 'held';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "held\n"
        yield session.stdin.close
        session.stdin.close()


@contextmanager
def waiting(file: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    """A move that has got to a table that is held back; killed at the end, if it still runs."""
    waits = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{name_of(url)}' AND wait_event_type = 'Lock'"
    with subprocess.Popen(moving(file, url), stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: process.poll() is not None or shared().sql(waits) == "t", 60)
            assert process.poll() is None
            yield process
        finally:
            process.kill()


def prepare(url: str) -> None:
    """Tables, so that one can be held."""
    with Service(url) as service:
        service.stop()


async def administer(file: Path) -> None:
    """What an operator may have done to a site."""
    async with opened_store(file) as (_, registry, _):
        (site,) = [site for site in await registry.sites() if site.domain == "hue.gov.vn"]
        for visits, reason in ((10, "a slip"), (1000, "the old counter's"), (7, "no")):
            await registry.set_baseline(site.id, visits, 9, reason, NOON_MS)
        await registry.undo_baseline(site.id, "it was right before", NOON_MS)
        for of_site, digest in ((site.id, b"of a site"), (None, b"of all")):
            token = await registry.add_token(of_site, Scope.READ, digest, "for the intranet", NOON_MS)
        await registry.revoke_token(token.id, NOON_MS)
        gone = await registry.add(Site(id=0, domain="gone.vn", aliases=("went.vn",)), NOON_MS)
        await registry.remove(gone, NOON_MS)


def test_all_of_a_realistic_store_is_moved(file, url):
    """Played by the demo, killed with visits open, with baselines and tokens undone, and a site removed."""
    with Service(file, "--site", "hue.gov.vn", *UNLIMITED) as service:
        address = f"http://{service.public}"
        command(file, "demo", "--url", address, "--minutes", "0.05", "--rate", "400", "--seed", "1")
        asyncio.run(administer(file))
        before = view(service, "/last", 1)
        service.kill()
    told = move(file, url)
    assert "is the store now" in told
    assert assert_equal(file, url) > 100
    assert "add up" in command(url, "check")
    with Service(url) as service:
        after = view(service, "/last", 1)  # the same event, sent again: counted already
        assert {**after, "as_of": ""} == {**before, "as_of": ""}
        known = view(service, "/more", 1)  # the same visitor, on the same visit
        assert known["visits"] == before["visits"]
        assert known["visitors"] == before["visitors"]
        assert known["pageviews"]["total"] == before["pageviews"]["total"] + 1
    command(url, "site", "add", "new.vn")  # with an id of its own
    assert "went.vn" in command(url, "site", "add", "gone.vn")  # it comes back as it was


def test_nothing_that_is_acknowledged_meanwhile_is_lost(file, url):
    """Before, during and after a pass beside the running service; nodes are let in after the last one."""
    past.write(file, sites=2, days=300, pages=9)
    prepare(url)
    with Service(file, "--site", "hue.gov.vn", *UNLIMITED) as service:
        view(service, "/before", 1)
        with ExitStack() as stack:
            held = stack.enter_context(held_back(url, "page_days"))
            first = stack.enter_context(waiting(file, url))
            view(service, "/during", 2)
            held()
            told, _ = first.communicate(timeout=60)
        assert first.returncode == 0
        assert "is being served: stop the service and run this again" in told
        view(service, "/after", 3)
        refused = command(url, "site", "list", status=1)
        assert "is being moved there, and that has not ended" in refused
        assert service.stop() == 0
    told = move(file, url)
    assert int(told.partition(" rows, ")[2].partition(" of them")[0].replace(",", "")) < 2000  # not all again
    assert_equal(file, url)
    with Service(url) as service:
        totals = view(service, "/now", 4)
    assert totals["pageviews"]["total"] == totals["visits"]["total"] == 4
    assert "has been moved there, and what nodes counted since would be undone" in move(file, url, status=1)


def test_a_killed_move_goes_on(file, url):
    """Killed with half of the tables there: nobody may count there, and the next pass ends it."""
    past.write(file, sites=2, days=300, pages=9)
    prepare(url)
    with held_back(url, "names"), waiting(file, url) as process:
        process.kill()
    assert (
        sql(url, "SELECT (SELECT count(*) FROM statsvc.hours) > 0, (SELECT count(*) FROM statsvc.names) > 0")
        == "t|f"
    )
    assert "has not ended" in command(url, "serve", status=1)
    other = file.with_name("other.db")
    past.write(other, sites=1, days=1, pages=9)
    assert f"{file} is being moved there, not {other}" in move(other, url, status=1)
    assert "is the store now" in move(file, url)
    assert_equal(file, url)


def test_pages_that_became_one_between_two_passes_are_so_in_the_copy(file, url):
    """Sums tell nothing of it: of a day with one page there is one page after it, with the same counts."""
    past.write(file, sites=2, days=30, pages=9)
    with Service(file) as service:
        move(file, url)
        service.stop()
    fold = "UPDATE {} SET path = '(other)' WHERE site = 1 AND path = '/tin-tuc/3'"
    with closing(sqlite3.connect(file)) as database:
        for table in ("pages", "page_days"):
            database.execute(fold.format(table))
        database.commit()
    move(file, url)
    assert_equal(file, url)
    assert "(other)" in sql(url, "SELECT DISTINCT path FROM statsvc.page_days")


def test_what_can_not_be_moved_is_said(file, url):
    """Before anything is written."""
    command(url, "site", "add", "hue.gov.vn")
    assert f"there is no store at {file}" in move(file, url, status=1)
    past.write(file, sites=1, days=1, pages=9)
    assert "has a store with sites already; a store is moved to an empty one" in move(file, url, status=1)
    backwards = [*moving(file, url)[:-4], "--from", url, "--to", f"sqlite://{file}"]
    done = subprocess.run(backwards, capture_output=True, text=True, check=False)
    assert "a store is moved from sqlite:///PATH to postgresql://" in done.stderr
