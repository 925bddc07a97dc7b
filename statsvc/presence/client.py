"""Connections to Redis or Valkey: one server, behind Sentinels, or a cluster."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from statsvc.errors import ConfigError
from statsvc.redis_url import RedisUrl

CONNECT_SECONDS = 1.0


@asynccontextmanager
async def connected(url: RedisUrl, connect_seconds: float | None = None) -> AsyncIterator[Any]:
    """A client of redis-py, which connects when it is used. Raises ConfigError where that isn't installed.

    It sends nothing a second time by itself: what was sent may have been done though no answer came.
    """
    try:
        from redis.asyncio import Redis, RedisCluster, Sentinel  # noqa: PLC0415 - an extra
        from redis.asyncio.cluster import ClusterNode  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            ["--presence: Redis needs the package redis: pip install 'statsvc[fleet]'"]
        ) from None
    if connect_seconds is None:
        connect_seconds = CONNECT_SECONDS
    options: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "ssl": url.tls,
        "protocol": 2,
        "socket_connect_timeout": connect_seconds,
        "socket_keepalive": True,
    }
    retry = Retry(NoBackoff(), 0)
    async with AsyncExitStack() as stack:
        client: Any
        if url.kind == "cluster":
            nodes = [ClusterNode(*address) for address in url.nodes]
            client = RedisCluster(startup_nodes=nodes, retry=retry, **options)
        elif url.kind == "sentinel":
            patience = {"socket_timeout": connect_seconds, "socket_connect_timeout": connect_seconds}
            sentinels = Sentinel(url.nodes, **patience)  # type: ignore[no-untyped-call]
            for sentinel in sentinels.sentinels:
                stack.push_async_callback(sentinel.aclose)
            client = sentinels.master_for(url.service, db=url.database, retry=retry, **options)
            stack.push_async_callback(client.connection_pool.disconnect)
        else:
            host, port = url.nodes[0]
            client = Redis(host=host, port=port, db=url.database, retry=retry, **options)
        stack.push_async_callback(client.aclose)
        yield client
