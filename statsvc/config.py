"""Every setting of the service: one table, from which `--help`, the environment and the docs are made."""

import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from platformdirs import user_data_path

from statsvc.address import Network
from statsvc.errors import ConfigError
from statsvc.limits import Limit
from statsvc.model import DEFAULT_TIME_ZONE
from statsvc.redis_url import RedisUrl, parse_redis
from statsvc.rules import normal_host

LONGEST_DAYS = 36_500
LONGEST_DRAIN_SECONDS = 3600
_POSTGRESQL = ("postgresql", "postgres")


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A database of PostgreSQL. As a text it has no password."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return without_password(self.url)


StoreUrl = Path | PostgresUrl


@dataclass(frozen=True, slots=True)
class Settings:
    listen: Address
    ops_listen: Address
    store: StoreUrl
    read_replica: PostgresUrl | None
    outbox: Path
    outbox_size: int
    presence: RedisUrl | None
    """None: this process's memory."""
    site: tuple[str, ...]
    time_zone: str
    trusted_proxy: tuple[Network, ...]
    visitor_limit: Limit | None
    network_limit: Limit | None
    keep_page_days: int | None
    reuse_port: bool
    drain_seconds: float


def parse_address(text: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:\s]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ValueError("expected HOST:PORT, for example 0.0.0.0:8080 or [::]:8080")
    host = match[1] or match[2]
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("expected a host that can be looked up") from None
    return Address(host, int(match[3]))


def parse_store(text: str) -> StoreUrl:
    """A file of SQLite, or a database of PostgreSQL."""
    parts = urlsplit(text)
    if parts.scheme in _POSTGRESQL:
        return parse_postgres(text)
    path = unquote(parts.path)
    if parts.scheme != "sqlite" or parts.netloc or not path.strip("/") or not path.isprintable():
        raise ValueError(
            "expected sqlite:///PATH, for example sqlite:///var/lib/statsvc/stats.db,"
            " or postgresql://USER@HOST/DATABASE"
        )
    if parts.query or parts.fragment:
        raise ValueError("expected a path only; write ? as %3F and # as %23")
    # Four slashes, as database libraries write an absolute path, mean the same file.
    return Path(re.sub("^/+", "/", path))


def parse_postgres(text: str) -> PostgresUrl:
    """What PostgreSQL's own programs take, with a database."""
    parts = urlsplit(text)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in _POSTGRESQL or not re.fullmatch(r"[^/\x00-\x1f]+", database):
        raise ValueError("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    if parts.fragment:
        raise ValueError("expected no #; write it as %23")
    for host in filter(None, hosts):
        match = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[^\[\]:\s]+)(?::(\d{1,5}))?", host, re.ASCII)
        if match is None or int(match[1] or 1) not in range(1, 65536):
            raise ValueError(
                "expected HOST or HOST:PORT, or several with commas between; write @ : / as %40 %3A %2F"
            )
    return PostgresUrl(text)


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    url = re.sub(r"(://[^:/?#@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&#]*", r"\1***", url)


def parse_path(text: str) -> Path:
    if not text or not text.isprintable():
        raise ValueError("expected the path of a file")
    return Path(text)


def parse_size(text: str) -> int:
    """In bytes."""
    match = re.fullmatch(r"(\d{1,6})([kMG])B", text, re.ASCII)
    if match is None or not int(match[1]):
        raise ValueError("expected a size such as 256MB or 2GB")
    return int(match[1]) * {"k": 10**3, "M": 10**6, "G": 10**9}[match[2]]


def parse_presence(text: str) -> RedisUrl | None:
    return None if text == "memory:" else parse_redis(text)


def parse_domain(text: str) -> str:
    domain = normal_host(text).removeprefix("www.")
    labels = domain.split(".")
    if (
        not domain
        or len(domain) > 253
        or not all(
            label
            and len(label) <= 63
            and label.replace("-", "").replace("_", "").isalnum()
            and label.isascii()
            for label in labels
        )
    ):
        raise ValueError("expected a domain such as hue.gov.vn, without scheme, port or path")
    return domain


def parse_time_zone(text: str) -> str:
    if text not in _time_zones():
        raise ValueError("expected a name of the time zone database, such as Asia/Ho_Chi_Minh or UTC")
    return ZoneInfo(text).key


@cache
def _time_zones() -> set[str]:
    return available_timezones() - {"localtime", "Factory"}  # which is another one on another machine


def parse_network(text: str) -> Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("expected a network such as 10.0.0.0/8, or an address") from None
    address = text.partition("/")[0]
    if ip_address(address) != network.network_address:
        raise ValueError(f"expected {address} for that address, or {network} for its whole network")
    return network


def parse_limit(text: str) -> Limit | None:
    if text == "off":
        return None
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)/s,(\d{1,7})", text, re.ASCII)
    if match is None or not float(match[1]) or not int(match[2]):
        raise ValueError("expected RATE/s,BURST, for example 10/s,1200, or off")
    return Limit(float(match[1]), int(match[2]))


def parse_days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST_DAYS:
        raise ValueError(f"expected a number of days, from 1 to {LONGEST_DAYS:,}")
    return int(text)


def parse_flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def parse_drain_seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text, re.ASCII) or float(text) > LONGEST_DRAIN_SECONDS:
        raise ValueError(f"expected a number of seconds, from 0 to {LONGEST_DRAIN_SECONDS:,}")
    return float(text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `--name VALUE`, or STATSVC_NAME in the environment; the command line wins.

    A flag is given by its name alone, or in the environment as true or false.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    default: str | None
    help: str
    many: bool = False
    """May be given more than once; in the environment with commas between."""

    @property
    def option(self) -> str:
        return f"--{self.name}"

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return f"STATSVC_{self.field.upper()}"


def default_store() -> str:
    return f"sqlite://{quote(str(user_data_path('statsvc') / 'stats.db'))}"


def default_outbox() -> str:
    return str(user_data_path("statsvc") / "outbox.db")


STORE = Setting(
    "store",
    "URL",
    parse_store,
    None,
    "where counts are kept: sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    " (default: stats.db in the user's data folder)",
)
OUTBOX = Setting(
    "outbox",
    "PATH",
    parse_path,
    None,
    "with a PostgreSQL store: this node's own file for events that can't be brought there now"
    " (default: outbox.db in the user's data folder)",
)
DEFAULTS: Mapping[Setting, Callable[[], str]] = {STORE: default_store, OUTBOX: default_outbox}
"""Of settings whose default is a place of the user's."""
SETTINGS = (
    Setting("listen", "H:P", parse_address, "0.0.0.0:8080", "where pages call; port 0 takes a free one"),
    Setting("ops-listen", "H:P", parse_address, "127.0.0.1:8081", "metrics and health; not for the internet"),
    STORE,
    Setting(
        "read-replica",
        "URL",
        parse_postgres,
        None,
        "a streaming replica of a PostgreSQL store: totals are read there as long as it is not behind",
    ),
    OUTBOX,
    Setting("outbox-size", "SIZE", parse_size, "256MB", "how much of events the outbox holds at most"),
    Setting(
        "presence",
        "URL",
        parse_presence,
        "memory:",
        "where it is known who is current: memory: (this process's own) or redis://HOST:PORT, for a fleet",
    ),
    Setting("site", "DOMAIN", parse_domain, None, "register this site at start if it is new", many=True),
    Setting(
        "time-zone", "ZONE", parse_time_zone, DEFAULT_TIME_ZONE, "time zone of sites registered by --site"
    ),
    Setting(
        "trusted-proxy",
        "CIDR",
        parse_network,
        None,
        "believe X-Forwarded-For or Forwarded from this network (default: nobody is believed)",
        many=True,
    ),
    Setting(
        "visitor-limit",
        "RATE/s,BURST",
        parse_limit,
        "10/s,1200",
        "how many events one visitor may send, in the long run and at once, or off",
    ),
    Setting(
        "network-limit",
        "RATE/s,BURST",
        parse_limit,
        "30/s,6000",
        "how many events one IPv4 address or IPv6 /48 may send, in the long run and at once, or off",
    ),
    Setting(
        "keep-page-days",
        "DAYS",
        parse_days,
        None,
        "let go of pages' counts by day when they are older (default: keep for ever);"
        " a page's all-time numbers and all numbers of sites stay",
    ),
    Setting(
        "reuse-port",
        "",
        parse_flag,
        "false",
        "share the port of --listen with other processes that say so, over one store;"
        " each needs an --ops-listen of its own",
    ),
    Setting(
        "drain-seconds",
        "SECONDS",
        parse_drain_seconds,
        "0",
        "go on so long after a signal to stop, while /-/ready says no, for load balancers to turn elsewhere",
    ),
)


def add_options(parser: ArgumentParser, settings: Sequence[Setting]) -> None:
    for setting in settings:
        default = f" (default: {setting.default})" if setting.default else ""
        about = f"{setting.help}{default} [{setting.variable}]"
        if setting.parse is parse_flag:
            parser.add_argument(
                setting.option, dest=setting.field, action="store_const", const="true", help=about
            )
            continue
        parser.add_argument(
            setting.option,
            dest=setting.field,
            metavar=setting.metavar,
            action="append" if setting.many else "store",
            help=about,
        )


def load(
    arguments: Mapping[str, Any], environment: Mapping[str, str], settings: Sequence[Setting] = SETTINGS
) -> dict[str, Any]:
    """The value of each setting by its field. Raises ConfigError with all that is wrong."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    for setting in settings:
        given, source = _given(setting, arguments, environment)
        parsed = []
        for text in given:
            try:
                parsed.append(setting.parse(text.strip()))
            except ValueError as exc:
                problems.append(f"{source}: {exc}, got {without_password(text)!r}")
        values[setting.field] = tuple(parsed) if setting.many else next(iter(parsed), None)
    if problems:
        raise ConfigError(problems)
    return values


def _given(
    setting: Setting, arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[list[str], str]:
    value = arguments.get(setting.field)
    if value is not None:
        return (value if setting.many else [value]), setting.option
    if text := environment.get(setting.variable, ""):
        values = [value for value in text.split(",") if value.strip()] if setting.many else [text]
        return values, setting.variable
    default = DEFAULTS[setting]() if setting in DEFAULTS else setting.default
    return ([] if default is None else [default]), setting.option


def load_settings(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    settings = Settings(**load(arguments, environment))
    if settings.read_replica is not None and isinstance(settings.store, Path):
        raise ConfigError(["--read-replica: expected with a --store of PostgreSQL only"])
    if settings.reuse_port and isinstance(settings.store, Path):
        raise ConfigError(
            [
                "--reuse-port: an SQLite store is served by one process only;"
                " several on one port need a store that they share"
            ]
        )
    return settings
