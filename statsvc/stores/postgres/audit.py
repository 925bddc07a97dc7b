"""Whether the numbers in the database agree: what is counted in several tables is added up again.

All of it is read in one transaction, so in one state, beside running nodes or not. Whether the server's files
are sound is the server's to say: `pg_amcheck`, and `data_checksums`.
"""

import asyncio
from collections.abc import Callable, Iterator

from statsvc.stores.agreements import Difference, agreements, difference
from statsvc.stores.postgres.database import PostgresDatabase, schema_steps

AGREEMENTS = agreements("cardinality(visitors)")


def audit(url: str, progress: Callable[[str, float], None]) -> Iterator[Difference]:
    """Everything that is not as it must be. `progress` is told what is looked at, and how much of all was.

    Raises StoreError where the database can't be read at all.
    """
    yield from asyncio.run(_audit(url, progress))


async def _audit(url: str, progress: Callable[[str, float], None]) -> list[Difference]:
    database = PostgresDatabase(url)
    await database.connect("any")
    try:
        await database.require()
        async with database.transaction(isolation="repeatable_read", readonly=True) as reading:
            wanted = len(list(schema_steps()))
            done = await reading.fetchval("SELECT max(step) FROM schema_steps")
            if done != wanted:
                return [Difference("the schema", f"step {wanted}, as of this statsvc", f"step {done}")]
            domains = dict(await reading.fetch("SELECT id, domain FROM sites"))
            found = []
            for number, agreement in enumerate(AGREEMENTS):
                progress(agreement.what, number / len(AGREEMENTS))
                rows = await reading.fetch(agreement.sql, timeout=None)
                found += [difference(agreement, row, domains) for row in rows]
            return found
    finally:
        await database.close()
