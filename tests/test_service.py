from statsvc.model import Site
from tests.facts import NOON_MS


async def test_sites_named_at_start_are_registered_once(start):
    """--site registers what is new, with the time zone given, and leaves what is there."""
    async with start(sites="hue.gov.vn") as app:
        await app.view("/")
    async with start(sites="hue.gov.vn,b.vn", zone="UTC") as app:
        assert (await app.totals("hue.gov.vn"))["pageviews"]["total"] == 1
        assert (await app.totals("b.vn"))["pageviews"]["total"] == 0


async def test_a_new_day_begins_at_the_sites_own_midnight(start, clock):
    """Two sites in two zones: noon in Huế is still the evening before in Honolulu."""
    assert clock.now().wall_ms == NOON_MS
    async with start(sites="hue.gov.vn", zone="Asia/Ho_Chi_Minh") as app:
        await app.view("/")
    async with start(sites="aloha.test", zone="Pacific/Honolulu") as app:
        await app.view("/", site="aloha.test")
        clock.advance(6 * 3600)
        assert (await app.totals("hue.gov.vn"))["visits"]["today"] == 1
        assert (await app.totals("aloha.test"))["visits"]["yesterday"] == 1


async def test_a_site_named_at_start_takes_no_other_sites_alias(start, registry):
    """A domain that is an alias is known already: its visitors stay where they are counted."""
    await registry.add(Site(id=0, domain="hue.gov.vn", aliases=("old.vn",)), NOON_MS)
    async with start(sites="old.vn") as app:
        assert (await app.totals("old.vn"))["site"] == "hue.gov.vn"
    assert len(await registry.sites()) == 1


async def test_a_site_that_was_removed_stays_removed(start, registry):
    """A name left over in the environment brings nothing back."""
    site = await registry.add(Site(id=0, domain="hue.gov.vn", public=False), NOON_MS)
    await registry.remove(site, NOON_MS)
    async with start(sites="hue.gov.vn"):
        assert await registry.sites() == []
