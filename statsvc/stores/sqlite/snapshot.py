"""The whole file as it is at one moment, for commands that read all of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from statsvc.errors import StoreDamaged, StoreError
from statsvc.stores.sqlite.database import APPLICATION_ID
from statsvc.stores.sqlite.log_file import refuse_damaged_log
from statsvc.stores.sqlite.told import BUSY_TIMEOUT_SECONDS, told


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in one read transaction, and nothing but reading. A service goes on committing meanwhile.

    While it is open the write-ahead log can't be emptied, only grow. Raises StoreError with a sentence.
    """
    with told(path):
        if not path.is_file():
            raise StoreError(f"{path} is not there")
        refuse_damaged_log(path)
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
        )
        with closing(connection):
            connection.execute("BEGIN")
            # The transaction begins with what is read first.
            ((application,),) = connection.execute("SELECT * FROM pragma_application_id")
            if application != APPLICATION_ID:
                raise StoreDamaged(f"{path} is no statsvc database")
            try:
                yield connection
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise KeyboardInterrupt from None  # it fell into a progress handler
                raise
