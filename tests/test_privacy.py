"""What must be nowhere: after days of load and faults, the bytes of all files and of the log are searched."""

import asyncio
import base64
import random
import socket
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from statsvc.stores.sqlite.snapshot import snapshot
from tests.faults import FakedClock, injecting, locked
from tests.load import Books, figures, noon_zone, until
from tests.process import CHROME, Service, command

ADDRESSES = (
    "203.0.113.77",
    "198.51.100.214",
    "2001:db8:ab12:cd34:ef56:1a2b:3c4d:5e6f",
    "2001:db8:77aa::1234:abcd",
)
USER_AGENTS = (
    f"{CHROME} Zq7Reader/88.77.66",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://zq7robot.example)",
    "Zq7Nobrowser",
    "Zq7Wrong \xff\xfe Zq7Bytes",
    "",
)
MARK = b"zq7"
"""Is in every User-Agent, and nowhere else."""
SITES = [f"site{number}.gov.vn" for number in range(80)]
"""Enough that their secrets fill more than one page, and are moved from page to page."""
DAY_SECONDS = 86_400


def spellings(address: str) -> set[bytes]:
    """How an address may be written: as text, as bytes, as numbers, encoded."""
    parsed = ip_address(address)
    texts = {str(parsed), parsed.exploded, parsed.reverse_pointer, str(int(parsed)), parsed.packed.hex()}
    texts |= {text.upper() for text in texts} | {quote(text, safe="") for text in texts}
    texts |= {text.replace(".", "%2E") for text in texts} | {
        base64.b64encode(text.encode()).decode() for text in texts
    }
    network = parsed.packed[:8] if parsed.version == 6 else parsed.packed
    return {text.encode() for text in texts} | {
        network,
        network.hex().encode(),
        base64.b64encode(parsed.packed),
    }


def found_in(data: bytes) -> list[bytes]:
    here = [spelling for address in ADDRESSES for spelling in spellings(address) if spelling in data]
    encoded = [base64.b64encode(agent.encode("latin-1"))[:24] for agent in USER_AGENTS if agent]
    return here + [
        part for part in (MARK, b"Mozilla", b"Googlebot", *encoded) if part.lower() in data.lower()
    ]


def files_of(store: Path) -> bytes:
    """All there is in its folder: the database, its log and index, the lock, backups."""
    return b"\n".join(path.read_bytes() for path in store.parent.iterdir() if path.is_file())


class Days:
    """A service whose days pass when told to, and every secret it ever had."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        self.store = folder / "data" / "stats.db"
        self.clock = FakedClock(folder, all_pass=True)
        self.day = 0
        self.secrets: dict[tuple[int, str], bytes] = {}
        self.logs = ""

    def serve(self) -> Service:
        options = [option for site in SITES for option in ("--site", site)]
        zone = ("--time-zone", noon_zone(), "--trusted-proxy", "127.0.0.1")
        return Service(self.store, *options, *zone, env=self.clock.environment)

    def next(self) -> None:
        self.day += 1
        self.clock.step_to(self.day * DAY_SECONDS)

    async def load(self, service: Service) -> None:
        """Visitors of every kind at every door, right and wrong; from every address with every User-Agent."""
        url = f"http://{service.public}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            for address in ADDRESSES:
                for agent in USER_AGENTS:
                    headers = {"User-Agent": agent, "X-Forwarded-For": f"{address}, 127.0.0.1"}
                    for body in (
                        b'{"n":"pageview","u":"https://site1.gov.vn/","d":"site1.gov.vn"}',
                        b'{"n":"pageview","u":"https://other.vn/","d":"site1.gov.vn"}',
                        b'{"n":"pageview","u":"https://a.vn/","d":"nosuch.vn"}',
                        b"{",
                        b"[" * 2000,
                        b"\xff\xfe",
                        b"",
                        bytes(900_000),
                    ):
                        await _ask(session.post(f"{url}/api/event", data=body, headers=headers))
                    for path in (
                        "/hit.gif?d=site2.gov.vn&u=https://site2.gov.vn/a",
                        "/hit.gif",
                        "/badge.svg?site=x",
                        "/api/totals?site=site1.gov.vn",
                        "/api/totals?site=nosuch.vn",
                        "/nosuch",
                        "/api/event",
                    ):
                        await _ask(session.get(url + path, headers=headers))
            for site in SITES:
                event = f'{{"n":"pageview","u":"https://{site}/","d":"{site}"}}'
                headers = {"User-Agent": USER_AGENTS[0], "X-Forwarded-For": ADDRESSES[0]}
                await _ask(session.post(f"{url}/api/event", data=event, headers=headers))
        host, _, port = service.public.rpartition(":")
        for raw in (
            f"\x16\x03 {ADDRESSES[0]} Zq7",
            f"GET / HTTP/1.1\r\nUser-Agent: Zq7\r\nX-Forwarded-For {ADDRESSES[2]}\r\n\r\n",
        ):
            with closing(socket.create_connection((host, int(port)), timeout=5)) as connection:
                connection.sendall(raw.encode())
        self.secrets |= Books.read(self.store).secrets

    async def load_a_little(self, service: Service) -> None:
        """A few events, while the store is in trouble."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for address in ADDRESSES:
                body = b'{"n":"pageview","u":"https://site1.gov.vn/","d":"site1.gov.vn"}'
                headers = {"User-Agent": USER_AGENTS[0], "X-Forwarded-For": address}
                tasks.create_task(
                    _ask(session.post(f"http://{service.public}/api/event", data=body, headers=headers))
                )

    async def until_forgotten(self) -> None:
        """Until housekeeping has been: no byte of a secret that is older than two days is anywhere."""
        days = sorted({day for _, day in self.secrets})[-2:]
        old = [secret for (_, day), secret in self.secrets.items() if day not in days]
        await until(lambda: not any(secret in data for data in (files_of(self.store),) for secret in old))
        kept = Books.read(self.store).secrets
        assert {day for _, day in kept} == set(days)
        assert all(kept[key] == secret for key, secret in self.secrets.items() if key[1] in days)

    def log(self, service: Service) -> None:
        self.logs += str(service.lines)


async def _ask(request: object) -> None:
    try:
        async with request as response:  # type: ignore[attr-defined]
            await response.read()
    except aiohttp.ClientError:
        pass


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(tmp_path)


async def test_no_address_no_user_agent_and_no_old_secret_is_anywhere(days: Days) -> None:
    """Over days with errors, a lock, a failing disk, backups, a reader in the way and a kill between."""
    await _live(days, kills=1)


@pytest.mark.torture
async def test_weeks_leave_no_address_no_user_agent_and_no_old_secret(days: Days) -> None:
    """As above, with a kill at any moment of each of many midnights."""
    await _live(days, kills=15)
    figures(
        "privacy",
        days=days.day + 1,
        secrets_destroyed=len(days.secrets) - 2 * len(SITES),
        bytes_searched=len(files_of(days.store)) + len(days.logs),
        found=0,
    )


async def _live(days: Days, kills: int) -> None:
    service = days.serve()
    try:
        await days.load(service)
        command(days.store, "backup", str(days.store.with_name("backup.db")))
        with locked(days.store):
            await days.load_a_little(service)
        with injecting(service, "fdatasync", "error=EIO", "-wal"):
            await days.load_a_little(service)
        days.next()
        await days.load(service)
        days.next()
        await days.load(service)
        await days.until_forgotten()

        # A backup that reads while secrets are destroyed keeps them in the log for as long as it reads.
        with snapshot(days.store):
            days.next()
            await days.load(service)
            await until(lambda: len({day for _, day in Books.read(days.store).secrets}) == 2)
        days.clock.step_to(days.day * DAY_SECONDS + 3600)
        await days.until_forgotten()

        # Killed before it had a chance, or in the middle of it.
        for _ in range(kills):
            days.next()
            await days.load(service)
            await asyncio.sleep(random.random() / 2)
            service.kill()
            days.log(service)
            service = days.serve()
            await days.until_forgotten()
        command(days.store, "backup", str(days.store.with_name("second.db")))
        assert found_in(files_of(days.store)) == []
        backups = b"".join(days.store.with_name(name).read_bytes() for name in ("backup.db", "second.db"))
        assert not any(secret in backups for secret in days.secrets.values())
        assert service.stop() == 0
        assert found_in(files_of(days.store)) == []
    finally:
        service.kill()
    days.log(service)
    assert found_in(days.logs.encode()) == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """What the test above looks for, it would find."""
    for address in ADDRESSES:
        for text in (address, quote(address, safe=""), ip_address(address).exploded):
            assert found_in(f"x{text}y".encode())
        assert found_in(b"\x00" + ip_address(address).packed + b"\x00")
    for agent in filter(None, USER_AGENTS):
        assert found_in(b"\x00" + agent.encode("latin-1") + b"\x00")
