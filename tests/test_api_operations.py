import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.load import Ledger, loading
from tests.process import Service, command, eventually


async def test_healthy_commits_to_find_out(app, tmp_path: Path):
    """200 while the disk takes commits."""
    for path in ("/-/healthy", "/-/ready"):
        async with app.session.get(app.operations + path) as response:
            assert response.status == 200
            assert await response.json() == {"status": "ok"}


async def test_operations_are_not_on_the_public_listener(app):
    """What must not face the internet does not."""
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        async with app.session.get(app.public + path) as response:
            assert response.status == 404


def health(service: Service) -> tuple[int, str]:
    try:
        with urlopen(f"http://{service.operations}/-/healthy", timeout=20) as answer:
            return answer.status, ""
    except HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_unhealthy_while_nothing_can_be_committed(tmp_path: Path):
    """Another process holds the file: 503 with the reason, and 200 again when it lets go."""
    with Service(tmp_path / "stats.db") as service:
        assert health(service) == (200, "")
        other = sqlite3.connect(tmp_path / "stats.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, said = health(service)
        assert status == 503
        assert "seconds" in said
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: health(service) == (200, ""))


async def test_unhealthy_while_events_are_refused(tmp_path: Path):
    """A file with a damaged page takes the probe, and no event: 503 with the sentence."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    with closing(sqlite3.connect(store)) as database:
        ((page, size),) = database.execute(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'page_days'"
        )
    with store.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with Service(store) as service:
        assert health(service) == (200, "")
        ledger = Ledger()
        async with loading(service.public, ledger) as load:
            await load.send("hue.gov.vn", 1)
        assert [sent.status for sent in ledger.sent] == [503]
        status, said = await asyncio.to_thread(health, service)
        assert status == 503
        assert "not a sound statsvc database" in said
