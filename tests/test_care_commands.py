"""`statsvc backup` and `statsvc check`, on real files, beside real services."""

import asyncio
import os
import pty
import random
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.load import Books, Ledger, Outcome, loading, noon_zone, pageviews
from tests.process import Service, command

SITES = ("hue.gov.vn", "b.vn")
SOUND = "is sound, and its numbers add up"


def registered(folder: Path) -> Path:
    store = folder / "stats.db"
    for site in SITES:
        command(store, "site", "add", site, "--time-zone", noon_zone())
    return store


async def loaded(service: Service, events: int) -> Ledger:
    ledger = Ledger()
    async with loading(service.public, ledger) as load:
        await load.run(SITES, range(40), random.Random(1), enough=events)
    return ledger


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> Path:
    """A store in which some hundred events were counted, and whose service has stopped."""
    store = registered(tmp_path_factory.mktemp("counted"))
    with Service(store) as service:
        asyncio.run(loaded(service, 300))
        assert service.stop() == 0
    return store


@pytest.fixture
def store(counted, tmp_path) -> Path:
    copy = tmp_path / "stats.db"
    copy.write_bytes(counted.read_bytes())
    return copy


def run(store: Path, *sql: str) -> None:
    """Tamper with the numbers."""
    with closing(sqlite3.connect(store)) as database, database:
        for statement in sql:
            assert database.execute(statement).rowcount != 0


async def test_a_backup_under_load_is_a_whole_moment(tmp_path):
    """What was acknowledged before it began is in it, its numbers agree, and the service goes on counting."""
    store, to = registered(tmp_path), tmp_path / "copy.db"
    with Service(store) as service:
        ledger = Ledger()
        async with loading(service.public, ledger) as load:
            people = asyncio.create_task(load.run(SITES, range(40), random.Random(1), enough=1500))
            while len(ledger.acknowledged()) < 300:
                await asyncio.sleep(0.01)
            before = pageviews(ledger.acknowledged())
            said = await asyncio.to_thread(command, store, "backup", str(to))
            sent = pageviews(ledger.sent) + 40
            await people
            assert pageviews(ledger.of(outcome=Outcome.REFUSED)) == 0
            assert "is a whole copy" in said
            assert before <= Books.read(to).pageviews <= sent
            assert SOUND in await asyncio.to_thread(command, store, "check")
        assert service.stop() == 0
    assert SOUND in command(to, "check")
    assert Books.read(store).pageviews == pageviews(ledger.acknowledged())


def test_a_backup_has_no_visitor_in_it(store, tmp_path):
    """No byte of a secret, of a visitor's id or of an open visit: a kept copy links nobody to anything."""
    to = tmp_path / "copy.db"
    with closing(sqlite3.connect(store)) as database:
        secrets = [secret for (secret,) in database.execute("SELECT secret FROM secrets")]
        ids = [str(one) for (one,) in database.execute("SELECT value FROM newcomers, json_each(visitors)")]
        visits = [bytes(visits) for (visits,) in database.execute("SELECT open_visits FROM batches")]
    command(store, "backup", str(to))
    copy = to.read_bytes()
    assert len(ids) > 40
    assert not any(part in copy for part in (*secrets, *(one.encode() for one in ids), *filter(None, visits)))


def test_a_restored_backup_serves_on(store, tmp_path):
    """All counts are what they were, and go on."""
    to = tmp_path / "copy.db"
    before = Books.read(store).pageviews
    command(store, "backup", str(to))
    with Service(to) as service:
        more = pageviews(asyncio.run(loaded(service, 100)).acknowledged())
        assert service.stop() == 0
    assert Books.read(to).pageviews == before + more
    assert SOUND in command(to, "check")


def test_a_restored_backup_knows_its_tokens(store, tmp_path):
    """They open what they opened, revoked ones nothing; and who has the copy can't read them in it."""
    to = tmp_path / "copy.db"
    tokens = [command(store, "site", "token", "hue.gov.vn").split()[-1] for _ in range(2)]
    command(store, "site", "set", "hue.gov.vn", "--no-public")
    command(store, "site", "token", "hue.gov.vn", "--revoke", "2")
    command(store, "backup", str(to))
    assert not any(token.encode() in to.read_bytes() for token in tokens)

    def status(token: str) -> int:
        asked = Request(
            f"http://{service.public}/api/totals?site=hue.gov.vn",
            headers={"Authorization": f"Bearer {token}"},
        )
        try:
            with urlopen(asked, timeout=10) as answer:
                return int(answer.status)
        except HTTPError as exc:
            with exc:
                return exc.code

    with Service(to) as service:
        assert [status(token) for token in tokens] == [200, 403]
        assert service.stop() == 0
        assert not any(token in str(service.lines) for token in tokens)


def test_a_backup_overwrites_nothing(store, tmp_path):
    """A file that is there stays as it is."""
    to = tmp_path / "copy.db"
    to.write_text("mine")
    assert "is there already" in command(store, "backup", str(to), status=1)
    assert "is there already" in command(store, "backup", str(store), status=1)
    assert to.read_text() == "mine"


def test_a_broken_off_backup_is_begun_anew(store, tmp_path):
    """What a crash left behind is in nobody's way."""
    to = tmp_path / "copy.db"
    to.with_name("copy.db.part").write_text("half of a copy")
    command(store, "backup", str(to))
    assert SOUND in command(to, "check")
    assert not to.with_name("copy.db.part").exists()


def test_a_copy_that_cannot_be_written_leaves_nothing(store, tmp_path):
    """Neither a file that looks like a backup, nor a part of one, and a sentence."""
    to = tmp_path / "copy.db"
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", "backup", str(to), "--store", f"sqlite://{store}"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"statsvc: {to}")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("copy*")) == []


def test_a_backup_into_no_folder_gets_a_sentence(store, tmp_path):
    """With the file's name and what is wrong."""
    said = command(store, "backup", str(tmp_path / "none" / "copy.db"), status=1)
    assert said == f"statsvc: there is no folder {tmp_path / 'none'} to put copy.db into\n"


@pytest.mark.parametrize("words", [("check",), ("backup", "copy.db")], ids=str)
def test_a_store_that_is_not_there_is_not_made(tmp_path, words):
    """Nor is a file of another program taken for one."""
    assert "is not there" in command(tmp_path / "none.db", *words, status=1)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE theirs (x)")
    assert "is no statsvc database" in command(other, *words, status=1)
    assert {path.name for path in tmp_path.iterdir()} == {"other.db"}


def test_a_terminal_sees_the_progress_and_a_log_a_line(store, tmp_path):
    """On a terminal the bar stands on standard error; the result is one line on standard output."""
    ours, theirs = pty.openpty()
    to = tmp_path / "copy.db"
    arguments = [sys.executable, "-m", "statsvc", "backup", str(to), "--store", f"sqlite://{store}"]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    assert b"%  copying" in os.read(ours, 10_000)
    os.close(ours)
    assert done.stdout.count("\n") == 1
    plain = subprocess.run([*arguments[:4], f"{to}2", *arguments[5:]], capture_output=True, check=True)
    assert plain.stderr == b""


def test_check_finds_nothing_wrong_with_what_is_right(store):
    """Exit status 0, one line, and not a byte of the store is changed."""
    before = store.read_bytes()
    assert command(store, "check") == f"{store} {SOUND}\n"
    assert store.read_bytes() == before


def test_check_after_a_kill(tmp_path):
    """What kill -9 leaves behind adds up, before and after the next start."""
    store = registered(tmp_path)
    with Service(store) as service:
        asyncio.run(loaded(service, 200))
        service.kill()
    assert SOUND in command(store, "check")
    with Service(store) as service:
        assert service.stop() == 0
    assert SOUND in command(store, "check")


TAMPERED = [
    (
        "UPDATE totals SET visits = visits + 1 WHERE site = 1",
        "hue.gov.vn, people: visits of all time: expected",
    ),
    ("UPDATE totals SET pageviews = 0 WHERE site = 2", "(the sum of its days), found 0"),
    ("DELETE FROM totals WHERE site = 2", "b.vn, people: pageviews of all time: expected"),
    ("DELETE FROM hours WHERE site = 1", "expected 0 (the sum of its hours), found"),
    ("UPDATE hours SET events = events + 1", "events of all time by name: expected"),
    ("UPDATE hours SET pageviews = events + 1", "pageviews of an hour: expected"),
    ("UPDATE days SET pageviews = pageviews - 1", "pageviews of a day: expected"),
    ("UPDATE days SET visitors = 100000", "visitors of a day: expected"),
    (
        "UPDATE days SET visitors = 1",
        "visitors' ids kept for a day: expected 1 (at most its visitors), found",
    ),
    (
        "DELETE FROM pages WHERE path = '/tin-tuc/1'",
        "/tin-tuc/1: pageviews of a page on its days: expected 0 ",
    ),
    ("UPDATE page_days SET visits = 1000 WHERE path = '/'", "/: visits of a page on its days: expected"),
    ("UPDATE page_days SET visits = 0", "visits on a day: expected 0 (at most its pages' visits), found"),
    ("DELETE FROM page_days WHERE path = '/'", "pageviews of all pages on a day: expected"),
    ("DELETE FROM names WHERE name = 'pageview'", "pageviews of a day: expected 0"),
    (
        "UPDATE peaks SET site = 77 WHERE site = 1",
        "site 77: peaks of sites that never were: expected 0 (none), found 1",
    ),
    ("INSERT INTO schema_steps VALUES (99, 'x', '')", "as of this statsvc, found step 99"),
]


@pytest.mark.parametrize(("sql", "said"), TAMPERED, ids=[sql for sql, _ in TAMPERED])
def test_check_says_what_differs(store, sql, said):
    """The site, the number, what was expected and what was found; exit status 1."""
    run(store, sql)
    assert said in told(store)


def test_check_knows_its_schema(store):
    """A table, view or trigger that someone has changed or removed is named."""
    with closing(sqlite3.connect(store)) as database:
        database.execute("DROP TRIGGER post")
        database.execute("CREATE TABLE mine (x)")
    assert "the schema's post: expected its definition in this statsvc, found missing" in told(store)
    assert "the schema's mine: expected nothing of that name" in told(store)


def test_check_of_a_damaged_file(store):
    """Damage that SQLite itself finds is told, and what is no database any more is a sentence."""
    data = bytearray(store.read_bytes())
    data[4096 * 3 + 8 : 4096 * 20] = random.Random(1).randbytes(4096 * 17 - 8)
    store.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", "check", "--store", f"sqlite://{store}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "integrity" in done.stdout or "not a sound statsvc database" in done.stderr
    assert "Traceback" not in done.stderr


def told(store: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", "check", "--store", f"sqlite://{store}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert SOUND not in done.stdout
    return done.stdout


def test_many_differences_are_not_all_told(store):
    """A store with thousands of them is past reading."""
    run(store, "UPDATE page_days SET visits = visits + 1000")
    assert told(store).count("\n") == 51
    assert told(store).endswith("and more\n")


def test_days_of_pages_that_were_let_go_are_no_difference(store):
    """What retention took away isn't missed; what is lost beside it is."""
    run(
        store,
        "INSERT INTO let_go VALUES ('page_days', '9999-01-01')",
        "DELETE FROM page_days WHERE path = '/'",
    )
    assert SOUND in command(store, "check")
    run(store, "UPDATE page_days SET visits = visits + 1000 WHERE path = '/tin-tuc'")
    assert "/tin-tuc: visits of a page on its days" in told(store)
    run(store, "UPDATE pages SET pageviews = pageviews + 1")
    assert "pageviews of all pages: expected" in told(store)
