"""Who sent a request; and `GET /api/address`, which tells an operator whom the service takes a caller for."""

import orjson
from aiohttp import hdrs

from statsvc.address import Client, Network, among, client_of, is_local, network_of
from statsvc.announcements import Announcer, ProxyNotTrusted
from statsvc.api.answer import JSON, Answer
from statsvc.api.request import Request
from statsvc.bots import sign_of
from statsvc.model import Sender
from statsvc.visitor import HOUSEHOLD_PREFIX_V6


class Senders:
    def __init__(self, trusted_proxies: tuple[Network, ...], announce: Announcer) -> None:
        self._trusted = among(trusted_proxies)
        self._announce = announce

    def of(self, request: Request) -> Sender:
        headers = request.headers
        client = self._client(request)
        unproxied = not client.proxies and not client.disputed and is_local(client.address)
        if unproxied and (hdrs.X_FORWARDED_FOR in headers or hdrs.FORWARDED in headers):
            self._announce(ProxyNotTrusted())
        return Sender(client.address, headers.get(hdrs.USER_AGENT, ""), sign_of(headers), unproxied)

    async def get(self, request: Request) -> Answer:
        """The caller's own address, as events have it, and why."""
        client = self._client(request)
        told = {
            "address": client.address,
            "visitor": network_of(client.address, HOUSEHOLD_PREFIX_V6),
            "why": client.why,
        }
        return Answer(200, orjson.dumps(told), JSON | {hdrs.CACHE_CONTROL: "no-store"})

    def _client(self, request: Request) -> Client:
        headers = request.headers
        return client_of(
            request.remote,
            headers.getall(hdrs.X_FORWARDED_FOR, ()),
            headers.getall(hdrs.FORWARDED, ()),
            self._trusted,
        )
