"""Where Redis is, as operators write it: one server, behind Sentinels, or a cluster."""

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}


class RedisUrl(NamedTuple):
    kind: Literal["server", "sentinel", "cluster"]
    nodes: tuple[tuple[str, int], ...]
    """The server; or the Sentinels, or nodes of the cluster, any of which can tell where the others are."""
    tls: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0
    service: str = ""
    """What the Sentinels call the server."""

    def __str__(self) -> str:
        """As it may be shown: without the user and the password."""
        kind = "" if self.kind == "server" else f"+{self.kind}"
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        service = f"/{self.service}" if self.service else ""
        return f"redis{'s' * self.tls}{kind}://{nodes}{service}/{self.database}"


def parse_redis(text: str) -> RedisUrl:
    """Raises ValueError, which says what was expected."""
    parts = urlsplit(text)
    match = re.fullmatch(r"redis(s?)(?:\+(sentinel|cluster))?", parts.scheme)
    if match is None or parts.query or parts.fragment:
        raise ValueError(
            "expected memory:, redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"
            " or redis+cluster://HOST:PORT,HOST:PORT; rediss with TLS"
        )
    kind: Literal["server", "sentinel", "cluster"] = match[2] or "server"  # type: ignore[assignment]
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    nodes = tuple(_node(host, _PORTS[kind]) for host in hosts.split(","))
    if kind == "server" and len(nodes) > 1:
        raise ValueError("expected one HOST:PORT; several are for redis+sentinel:// and redis+cluster://")
    path = [unquote(part) for part in parts.path.removeprefix("/").split("/")]
    service = path.pop(0) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise ValueError("expected /SERVICE at the end, the name that the Sentinels have for the server")
    database = "/".join(path) or "0"
    if not re.fullmatch(r"\d{1,4}", database, re.ASCII) or (kind == "cluster" and int(database)):
        raise ValueError("expected the number of a database after the last /; a cluster has only 0")
    return RedisUrl(
        kind,
        nodes,
        bool(match[1]),
        unquote(username) or None,
        unquote(password) or None,
        int(database),
        service,
    )


def _node(text: str, port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:\s@]+))(?::(\d{1,5}))?", text, re.ASCII)
    if match is None or int(match[3] or port) not in range(1, 65536):
        raise ValueError("expected HOST or HOST:PORT; in a password write @ : / as %40 %3A %2F")
    return match[1] or match[2], int(match[3] or port)
