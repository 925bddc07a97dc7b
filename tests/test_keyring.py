import asyncio

from statsvc.calendar import local_hour
from statsvc.keyring import Keyring
from tests.facts import SITE, FakeClock, wall_ms


async def test_a_secret_is_durable_before_it_is_used(store):
    """Another process, after a crash, makes the same ids."""
    keyring = Keyring(store)
    assert keyring.known(SITE, "2026-11-23") is None
    secret = await keyring.fetch(SITE, "2026-11-23")
    assert keyring.known(SITE, "2026-11-23") == secret
    restarted = Keyring(store)
    await restarted.load()
    assert restarted.known(SITE, "2026-11-23") == secret


async def test_many_who_ask_at_midnight_get_one_secret(store):
    """Also those who ask while it is being made."""
    keyring = Keyring(store)
    secrets = await asyncio.gather(*(keyring.fetch(SITE, "2026-11-23") for _ in range(50)))
    assert len(set(secrets)) == 1


async def test_who_asks_and_goes_away_harms_nobody(store):
    """The others still get the secret."""
    keyring = Keyring(store)
    gone = asyncio.create_task(keyring.fetch(SITE, "2026-11-23"))
    stays = asyncio.create_task(keyring.fetch(SITE, "2026-11-23"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == keyring.known(SITE, "2026-11-23")


async def test_a_secret_that_was_prepared_needs_no_store_at_midnight(store, registry):
    """It is the one that all nodes have; until its day begins nobody is taken for a visitor under it."""
    keyring, other = Keyring(store), Keyring(store)
    await keyring.prepare(SITE, "2026-11-24")
    now = FakeClock(wall_ms("2026-11-23 23:00")).now()
    assert keyring.neighbours(SITE, local_hour(SITE.zone, now.wall_ms), now) == ()
    secret = await other.fetch(SITE, "2026-11-24")
    await store.forget(0, 0, "2026-11-25")
    assert await store.secrets() == {}
    assert await keyring.fetch(SITE, "2026-11-24") == secret == keyring.known(SITE, "2026-11-24")


async def test_what_was_prepared_is_forgotten_too(store):
    """A secret outlives its days nowhere."""
    keyring = Keyring(store)
    await keyring.prepare(SITE, "2026-11-24")
    keyring.forget("2026-11-25")
    await store.forget(0, 0, "2026-11-25")
    await keyring.fetch(SITE, "2026-11-24")
    assert len(await store.secrets()) == 1


async def test_neighbours_are_yesterday_after_midnight_and_tomorrow_if_it_was(store):
    """Yesterday's secret for as long as a visit reaches back over midnight; tomorrow's if the clock was there."""
    keyring = Keyring(store)
    days = ["2026-11-22", "2026-11-23", "2026-11-24"]
    secrets = {day: await keyring.fetch(SITE, day) for day in days[:2]}

    def neighbours(text: str) -> tuple[bytes, ...]:
        now = FakeClock(wall_ms(text)).now()
        return keyring.neighbours(SITE, local_hour(SITE.zone, now.wall_ms), now)

    assert neighbours("2026-11-23 00:29:59") == (secrets["2026-11-22"],)
    assert neighbours("2026-11-23 00:30:00") == ()
    assert neighbours("2026-11-22 23:59:59") == (secrets["2026-11-23"],)
    keyring.forget("2026-11-23")
    assert neighbours("2026-11-23 00:00:00") == ()
