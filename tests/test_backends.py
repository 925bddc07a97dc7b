"""What a store's URL means to the service and to every command: PostgreSQL as SQLite."""

import re
import shlex
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from tests.postgres import PostgresServer, shared
from tests.process import CHROME, Service, answer, command, eventually


@pytest.fixture(scope="module")
def server() -> PostgresServer:
    return shared()


async def view(service: Service, path: str = "/", visitor: int = 0) -> dict[str, Any]:
    async with ClientSession() as session:
        event = {"n": "pageview", "u": f"https://hue.gov.vn{path}", "d": "hue.gov.vn"}
        agent = {"User-Agent": f"{CHROME} visitor/{visitor}"}
        async with session.post(f"http://{service.public}/api/event", json=event, headers=agent) as got:
            assert got.status == 202, (await got.text(), service.lines)
            return await got.json()


async def test_the_service_and_its_commands_work_over_postgresql(server):
    """Counted, shown, changed beside the running service, restarted, and added up again."""
    store = server.database()
    with Service(store, "--site", "hue.gov.vn") as service:
        await view(service, "/a")
        await view(service, "/b", visitor=1)
        command(
            store,
            "site",
            "baseline",
            "hue.gov.vn",
            "--visits",
            "1000",
            "--pageviews",
            "5000",
            "--reason",
            "old",
        )
        eventually(lambda: '"total":1002' in answer(service.public, "/api/totals?site=hue.gov.vn").text)
        metrics = service.get("/metrics")[1]
        assert re.search(r"^statsvc_store_bytes \d", metrics, re.MULTILINE)
        assert "statsvc_store_free_bytes" not in metrics  # the server's machine alone knows
        assert service.stop() == 0
    with Service(store) as service:
        assert (await view(service, "/a"))["pageviews"]["total"] == 5003
        assert (await view(service, "/a"))["current"]["visitors"] == 2
    assert "1,002" in command(store, "site", "list")
    assert "sound, and its numbers add up" in command(store, "check")


async def test_check_tells_what_does_not_add_up(server):
    """With the site, the audience and both numbers, as of a file."""
    store = server.database()
    with Service(store, "--site", "hue.gov.vn") as service:
        await view(service)
    server.sql("UPDATE statsvc.totals SET visits = visits + 6", urlsplit(store).path[1:])
    assert "hue.gov.vn, people: visits of all time: expected 1 (the sum of its hours), found 7" in command(
        store, "check", status=1
    )


async def test_backup_prints_a_command_that_makes_one(server, tmp_path):
    """What pg_dump writes has all counts and none of what must be destroyed; a restored copy adds up."""
    store, copy = server.database(), server.database()
    with Service(store, "--site", "hue.gov.vn") as service:
        await view(service)
    said = command(store, "backup", "/tmp/a copy.dump", status=1)
    order = shlex.split(said.splitlines()[-1])
    assert order[0] == "pg_dump"
    server.run(*(part.replace("/tmp/a copy.dump", f"{server.folder}/copy.dump") for part in order))
    server.run("pg_restore", "--dbname", copy, f"{server.folder}/copy.dump")
    assert "add up" in command(copy, "check")
    assert re.search(r"hue.gov.vn +UTC +1 +1", command(copy, "site", "list"))
    for table in ("secrets", "newcomers", "batches", "receipts"):
        assert server.sql(f"SELECT count(*) FROM statsvc.{table}", urlsplit(copy).path[1:]) == "0"


def test_what_is_wrong_is_said_without_the_password(server):
    """No such database, no store in it, nobody there: a sentence each."""
    secret = server.url("nowhere").replace("statsvc@", "statsvc:secret@")
    for store, sentence in (
        (secret, 'database nowhere: database "nowhere" does not exist; `createdb` makes one'),
        (server.database(), "there is no store at PostgreSQL at 127.0.0.1:"),
        ("postgresql://statsvc:secret@127.0.0.1:1/x", "can't be reached"),
    ):
        said = command(store, "site", "list", status=1)
        assert sentence in said
        assert "secret" not in said
        assert "Traceback" not in said


def test_the_log_does_not_show_the_password(server):
    """Not where the service says what it serves from."""
    store = server.database().replace("statsvc@", "statsvc:secret@")
    with Service(store) as service:
        (started,) = [line for line in service.lines if line.get("event") == "started"]
    assert started["store"] == store.replace("secret", "***")
    assert "secret" not in str(service.lines)


def test_without_the_driver_it_is_said_how_to_get_it():
    """The drivers are an extra: who has one machine needs none of them."""
    without = "import sys; sys.modules['asyncpg'] = None; from statsvc.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", without, "check", "--store", "postgresql://a/b"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "statsvc: a PostgreSQL store needs its driver: pip install 'statsvc[fleet]'\n"
