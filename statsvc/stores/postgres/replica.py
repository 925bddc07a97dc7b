"""A streaming replica: reads that it may answer because it has all that the primary had."""

import asyncio
from typing import Any, Self

from statsvc.errors import StoreError
from statsvc.stores.postgres.database import PostgresDatabase, Row

TRY_AGAIN_SECONDS = 10.0
"""How long a replica that failed is left alone."""
# A promoted replica says where it stopped following, a primary says nothing: neither gets any further.
_IS_THERE = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)"


class PostgresReplica:
    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._left_alone_until = 0.0

    @classmethod
    async def open(cls, url: str) -> Self:
        """Nothing is asked of it yet: a replica that is away is no reason not to start."""
        database = PostgresDatabase(url)
        await database.connect("any")
        return cls(database)

    async def close(self) -> None:
        await self._database.close()

    async def fetch_as_of(self, position: str, sql: str, *parameters: Any) -> list[Row] | None:
        """A statement's rows, where the replica has replayed the log up to `position`; None where it hasn't,
        or can't be asked.
        """
        now = asyncio.get_running_loop().time()
        if now < self._left_alone_until:
            return None
        try:
            # Two statements: one's own snapshot may be older than what it is told of the log. And one
            # connection: the URL may name several servers.
            async with self._database.connection() as connection:
                if not await connection.fetchval(_IS_THERE, position):
                    return None
                rows: list[Row] = await connection.fetch(sql, *parameters)
                return rows
        except StoreError:
            self._left_alone_until = now + TRY_AGAIN_SECONDS
            return None
