"""Connections to Redis or Valkey: one server, behind Sentinels, or a cluster."""

from typing import Any

from statsvc.errors import ConfigError
from statsvc.redis_url import RedisUrl

CONNECT_SECONDS = 1.0


def connect(url: RedisUrl, connect_seconds: float = CONNECT_SECONDS) -> Any:
    """A client of redis-py, not yet connected. Raises ConfigError where redis-py isn't installed.

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
    options: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "ssl": url.tls,
        "protocol": 2,
        "socket_connect_timeout": connect_seconds,
        "socket_keepalive": True,
    }
    retry = Retry(NoBackoff(), 0)
    match url.kind:
        case "cluster":
            nodes = [ClusterNode(*address) for address in url.nodes]
            return RedisCluster(startup_nodes=nodes, retry=retry, **options)
        case "sentinel":
            sentinels = Sentinel(  # type: ignore[no-untyped-call]
                url.nodes, socket_timeout=connect_seconds, socket_connect_timeout=connect_seconds
            )
            return sentinels.master_for(url.service, db=url.database, retry=retry, **options)
        case _:
            host, port = url.nodes[0]
            return Redis(host=host, port=port, db=url.database, retry=retry, **options)
