import pytest

from statsvc.model import Site
from statsvc.sites import Sites
from tests.facts import NOON_MS


@pytest.fixture
async def sites(registry):
    for domain, aliases in (
        ("hue.gov.vn", ("portal.vn",)),
        ("tin.hue.gov.vn", ()),
        ("localhost", ("127.0.0.1",)),
    ):
        await registry.add(Site(id=0, domain=domain, aliases=aliases), NOON_MS)
    sites = Sites(registry)
    await sites.load()
    return sites


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("hue.gov.vn", "hue.gov.vn"),
        ("WWW.HUE.gov.vn", "hue.gov.vn"),
        ("portal.vn", "hue.gov.vn"),
        ("127.0.0.1", "localhost"),
        ("a.hue.gov.vn", None),
        ("", None),
    ],
)
async def test_a_site_is_found_by_its_names(sites, domain, found):
    """By its domain or an alias, however it is written; a subdomain is no name."""
    site = sites.find(domain)
    assert (site and site.domain) == found


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("hue.gov.vn", "hue.gov.vn"),
        ("a.b.hue.gov.vn", "hue.gov.vn"),
        ("x.tin.hue.gov.vn", "tin.hue.gov.vn"),
        ("sub.portal.vn", "hue.gov.vn"),
        ("gov.vn", None),
        ("", None),
    ],
)
async def test_a_hosts_site_is_the_closest(sites, host, found):
    """A subdomain with a site of its own is that site."""
    site = sites.of_host(host)
    assert (site and site.domain) == found
    assert len(sites) == len(list(sites)) == 3
