"""The secrets that visitors' ids are made with: one for each site and local day."""

import asyncio
import secrets

from statsvc.calendar import LocalHour
from statsvc.model import Moment, Site
from statsvc.ports import Store
from statsvc.visitor import SECRET_BYTES

DAYS_NEEDED = 2
"""A secret is destroyed when the local day two days after its own begins."""


class Keyring:
    """A secret is durable before the first id is made with it, so a restart knows today's visitors."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secrets: dict[tuple[int, str], bytes] = {}
        self._prepared: dict[tuple[int, str], bytes] = {}
        self._fetching: dict[tuple[int, str], asyncio.Task[bytes]] = {}

    async def load(self) -> None:
        self._secrets = await self._store.secrets()

    def known(self, site: Site, day: str) -> bytes | None:
        return self._secrets.get((site.id, day))

    async def fetch(self, site: Site, day: str) -> bytes:
        """The day's secret, made where there is none. At midnight many ask at once; one task asks the store.

        Raises StoreError.
        """
        key = (site.id, day)
        if key in self._prepared:
            self._secrets[key] = self._prepared.pop(key)
        if key in self._secrets:
            return self._secrets[key]
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        return await asyncio.shield(task)

    async def prepare(self, site: Site, day: str) -> None:
        """Have the secret of a day to come, which nobody has a visit under: `fetch` needs no store then.

        Raises StoreError.
        """
        key = (site.id, day)
        if key not in self._prepared and key not in self._secrets:
            self._prepared[key] = await self._made(key)

    async def _fetch(self, key: tuple[int, str]) -> bytes:
        secret = self._secrets[key] = await self._made(key)
        return secret

    async def _made(self, key: tuple[int, str]) -> bytes:
        secret = await self._store.secret(*key, secrets.token_bytes(SECRET_BYTES))
        assert secret is not None, "a store keeps the secret it is given"
        return secret

    def neighbours(self, site: Site, hour: LocalHour, at: Moment) -> tuple[bytes, ...]:
        """Secrets under which a visit that is still open may have begun.

        After midnight that is yesterday's, for as long as a visit or the window reaches back; and
        tomorrow's, where it is known: the wall clock may have stepped back over midnight.
        """
        after = self.known(site, hour.day_after)
        reach_ms = 1000 * max(site.visit_gap_seconds, site.window_seconds)
        if at.wall_ms - hour.day_start_ms < reach_ms:
            before = self.known(site, hour.day_before)
            return tuple(secret for secret in (before, after) if secret is not None)
        return () if after is None else (after,)

    def forget(self, days_before: str) -> None:
        """Let go of the secrets of local days before `days_before`."""
        for held in (self._secrets, self._prepared):
            for key in [key for key in held if key[1] < days_before]:
                del held[key]
