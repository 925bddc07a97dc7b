"""What SQLite and the system say of a file, in sentences for people."""

import errno
import os
import sqlite3
from pathlib import Path
from pwd import getpwuid

from statsvc.errors import StoreDamaged, StoreError

BUSY_TIMEOUT_SECONDS = 2.0
"""How long a statement waits for another process, such as `statsvc site`, to finish its own."""


class told:  # noqa: N801 - reads as a statement: with told(path): …
    """Turn SQLite's errors into ours, with the file's name and what can be done."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        match exc:
            case sqlite3.IntegrityError():
                return
            case sqlite3.DatabaseError() if _is_damage(exc):
                # Python's own would show the text.
                why = "text that is no UTF-8" if result_code(exc) is None else exc
                raise StoreDamaged(unsound(self._path, why)) from exc
            case sqlite3.OperationalError() if result_code(exc) == sqlite3.SQLITE_BUSY:
                raise StoreError(
                    f"{self._path} was locked by another process for {BUSY_TIMEOUT_SECONDS:g} seconds"
                ) from exc
            case sqlite3.Error():
                raise StoreError(f"{self._path}: {exc}{_forbidden(exc, self._path)}") from exc
            case UnicodeDecodeError():
                raise StoreDamaged(unsound(self._path, "text that is no UTF-8")) from exc
            case OSError():
                why = f"{exc.strerror or exc}{_forbidden(exc, self._path)}"
                raise StoreError(f"{self._path} can't be opened: {why}") from exc


def unsound(path: Path, why: object) -> str:
    return (
        f"{path} is not a sound statsvc database ({why}). It was left as it is: put it aside, with its -wal"
        " and -shm, and restore a backup to this path."
    )


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    if isinstance(exc, sqlite3.OperationalError) and result_code(exc) is None:
        return True  # Python's own, for text that is no UTF-8
    return result_code(exc) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def result_code(exc: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None for what Python itself raises."""
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _forbidden(exc: sqlite3.Error | OSError, path: Path) -> str:
    """Which of the store's files this user may not use, and whose they are; nothing where that isn't why."""
    if isinstance(exc, OSError):
        refused = exc.errno in (errno.EACCES, errno.EPERM)
    else:
        refused = result_code(exc) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    path = path.absolute()
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-shm", ".lock")]
    for verb, mode in (("read", os.R_OK), ("write to", os.W_OK)):
        files = [file for file in (path, *beside, path.parent) if refused and _forbids(file, mode)]
        if files:
            whose = (f"{file}, which is {_user(file.stat().st_uid)}'s" for file in files)
            return f"; this user, {_user(os.geteuid())}, may not {verb} {', nor '.join(whose)}"
    return ""


def _forbids(file: Path, mode: int) -> bool:
    # Not Path.exists, which raises where the folder may not be looked into.
    return os.path.exists(file) and not os.access(file, mode)  # noqa: PTH110


def _user(number: int) -> str:
    try:
        return getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"  # as in a container
