"""Files of another user: what can't be done is said with whose they are, and who asked."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import SERVE
from tests.process import command

NOBODY = pwd.getpwnam("nobody")
MINE = f"this user, {pwd.getpwuid(os.geteuid()).pw_name}, may not"
THEIRS = f"which is {NOBODY.pw_name}'s"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root gives files away")
    store = tmp_path_factory.mktemp("made") / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """In a folder of its own."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    return Path(shutil.copy(made, folder))


def give(path: Path, mode: int) -> None:
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    path.chmod(mode)


def run(store: Path, *arguments: str, status: int = 1) -> str:
    """What it said, as a user like any other: root who can't pass over permissions."""
    lowly = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-chown")
    statsvc = (sys.executable, "-m", "statsvc", *arguments, "--store", f"sqlite://{store}")
    done = subprocess.run([*lowly, *statsvc], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.mark.parametrize("arguments", [SERVE, ("site", "add", "b.vn")], ids=str)
def test_a_store_that_is_another_users_is_told(store, arguments):
    """The file, its owner and the user who asked; nothing is changed, and it can be read."""
    give(store, 0o644)
    run(store, "site", "list", status=0)
    before = store.read_bytes()
    said = f"attempt to write a readonly database; {MINE} write to {store}, {THEIRS}\n"
    assert run(store, *arguments) == f"statsvc: {store}: {said}"
    assert store.read_bytes() == before


@pytest.mark.parametrize("arguments", [("site", "list"), ("check",)], ids=str)
def test_a_folder_that_is_another_users_is_told(store, arguments):
    """Whoever reads a store that is not served writes beside it, too."""
    give(store.parent, 0o755)
    assert run(store, *arguments).endswith(f"; {MINE} write to {store.parent}, {THEIRS}\n")


def test_a_new_store_in_a_folder_of_another_user_is_told(store):
    """One line, and no file."""
    give(store.parent, 0o755)
    new = store.with_name("new.db")
    assert run(new, "site", "add", "b.vn").endswith(f"; {MINE} write to {store.parent}, {THEIRS}\n")
    assert not new.exists()


@pytest.mark.parametrize("arguments", [("check",), ("site", "list"), ("backup", "copy.db")], ids=str)
def test_a_store_that_may_not_be_read_is_told(store, arguments):
    """In one line, whether the file is kept from the user or its folder."""
    give(store, 0o600)
    said = f"statsvc: {store}: unable to open database file; {MINE} read {store}, {THEIRS}\n"
    assert run(store, *arguments) == said
    give(store.parent, 0o700)
    said = f"statsvc: {store} can't be opened: Permission denied; {MINE} read {store.parent}, {THEIRS}\n"
    assert run(store, *arguments) == said


def test_a_backup_into_a_folder_of_another_user_is_told(store, tmp_path):
    """The folder, also one that may not be looked into, and nothing is left in it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    for mode, verb in ((0o755, "write to"), (0o700, "read")):
        give(folder, mode)
        copy = folder / "copy.db"
        said = f"statsvc: {copy} can't be opened: Permission denied; {MINE} {verb} {folder}, {THEIRS}\n"
        assert run(store, "backup", str(copy)) == said
    assert list(folder.iterdir()) == []


def test_a_check_by_root_leaves_nothing_that_the_server_cannot_write(store):
    """What SQLite puts beside a file that is not served is the owner's, whoever looked."""
    give(store.parent, 0o750)
    give(store, 0o640)
    command(store, "check")
    command(store, "site", "list")
    assert {path.stat().st_uid for path in store.parent.iterdir()} == {NOBODY.pw_uid}
