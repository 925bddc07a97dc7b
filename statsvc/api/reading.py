"""What all questions about numbers have in common: whose they are, who may read them, what is new."""

from hashlib import blake2b

from aiohttp import hdrs

from statsvc.administration import digest_of
from statsvc.api.request import Request
from statsvc.calendar import timestamp
from statsvc.errors import InvalidEvent, Refused, UnknownSite
from statsvc.model import Site, Token
from statsvc.ports import Registry
from statsvc.sites import Sites

MAX_AGE_SECONDS = 5


class Reading:
    def __init__(self, sites: Sites, registry: Registry) -> None:
        self._sites = sites
        self._registry = registry

    async def site(self, request: Request) -> Site:
        """The site that `site=` names and the caller may read.

        Raises InvalidEvent where none is named, UnknownSite, or Refused where it is private and
        no token for it was sent.
        """
        site = self.named(request)
        if not site.public and not await self._opens(request, site):
            raise Refused(
                403, f"{site.domain} is private: send a token for it as `Authorization: Bearer TOKEN`"
            )
        return site

    def named(self, request: Request) -> Site:
        """The site that `site=` names, whoever asks. Raises InvalidEvent or UnknownSite."""
        domain = request.query.get("site", "")
        if not domain:
            raise InvalidEvent({"site": ["is required: the domain of a registered site"]})
        site = self._sites.find(domain)
        if site is None:
            raise UnknownSite(domain)
        return site

    async def _opens(self, request: Request, site: Site) -> bool:
        token = await token_of(request, self._registry)
        return token is not None and token.opens(site)


async def token_of(request: Request, registry: Registry) -> Token | None:
    """What was sent as `Authorization: Bearer TOKEN`; None for nothing, an unknown or a revoked one."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return await registry.token(digest_of(token.strip()))


def numbers(totals: bytes, as_of_ms: int) -> bytes:
    """Encoded totals without the moment they were given at: the same for as long as the numbers are."""
    return totals.replace(timestamp(as_of_ms).encode(), b"", 1)


def weak_etag(content: bytes) -> str:
    """Weak: two answers with the same content are the same, whenever they were given."""
    return f'W/"{blake2b(content, digest_size=12).hexdigest()}"'


def cache_headers(site: Site, etag: str) -> dict[str, str]:
    """For what changes with the site's numbers."""
    scope = "public" if site.public else "private"
    return {hdrs.ETAG: etag, hdrs.CACHE_CONTROL: f"{scope}, max-age={MAX_AGE_SECONDS}"}


def is_known(request: Request, etag: str) -> bool:
    """Whether the caller has this answer already."""
    asked = request.headers.get(hdrs.IF_NONE_MATCH, "")
    # RFC 9110: `*` is any answer there is, and a weak comparison doesn't look at the W/.
    return asked.strip() == "*" or etag.removeprefix("W/") in asked
