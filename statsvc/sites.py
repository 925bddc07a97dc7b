"""The registered sites, at hand for every event."""

from collections.abc import Iterable, Iterator

from statsvc.errors import SiteTaken
from statsvc.model import Site
from statsvc.ports import Registry
from statsvc.rules import normal_host


def refuse_shared_hosts(site: Site, sites: Iterable[Site]) -> None:
    """A host belongs to one site: raises SiteTaken where `site` claims one of another site's."""
    for other in sites:
        if other.domain != site.domain:
            shared = {site.domain, *site.aliases} & {other.domain, *other.aliases}
            if shared:
                raise SiteTaken(f"{', '.join(sorted(shared))} belongs to the site {other.domain} already")


class Sites:
    """Read once from the registry, and again when it was changed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._by_host: dict[str, Site] = {}
        self._all: list[Site] = []

    async def load(self) -> None:
        self._all = await self._registry.sites()
        self._by_host = {alias: site for site in self._all for alias in site.aliases}
        self._by_host |= {site.domain: site for site in self._all}

    def __iter__(self) -> Iterator[Site]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, domain: str) -> Site | None:
        """The site that a page names: by its domain or an alias, with or without `www.`."""
        site = self._by_host.get(domain)
        return site or self._by_host.get(normal_host(domain).removeprefix("www."))

    def of_host(self, host: str) -> Site | None:
        """The site whose domain or alias `host` is, or is a subdomain of; the closest one."""
        while host:
            if site := self._by_host.get(host):
                return site
            host = host.partition(".")[2]
        return None
