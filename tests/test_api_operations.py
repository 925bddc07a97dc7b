import sqlite3
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.process import Service, eventually


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


def test_unhealthy_while_nothing_can_be_committed(tmp_path: Path):
    """Another process holds the file: 503 with the reason, and 200 again when it lets go."""

    def health() -> tuple[int, str]:
        try:
            with urlopen(f"http://{service.operations}/-/healthy", timeout=20) as answer:
                return answer.status, ""
        except HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    with Service(tmp_path / "stats.db") as service:
        assert health() == (200, "")
        other = sqlite3.connect(tmp_path / "stats.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, said = health()
        assert status == 503
        assert "seconds" in said
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: health() == (200, ""))
