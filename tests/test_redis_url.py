import pytest

from statsvc.config import load_settings
from statsvc.errors import ConfigError
from statsvc.redis_url import RedisUrl, parse_redis


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://cache.example", RedisUrl("server", (("cache.example", 6379),))),
        (
            "rediss://statsvc:p%40ss@10.0.0.1:7000/3",
            RedisUrl("server", (("10.0.0.1", 7000),), True, "statsvc", "p@ss", 3),
        ),
        ("redis://:secret@[::1]:7000", RedisUrl("server", (("::1", 7000),), password="secret")),
        (
            "redis+sentinel://a,b:27000/main",
            RedisUrl("sentinel", (("a", 26379), ("b", 27000)), service="main"),
        ),
        (
            "rediss+sentinel://a/main/2",
            RedisUrl("sentinel", (("a", 26379),), tls=True, database=2, service="main"),
        ),
        ("redis+cluster://a:7000,b", RedisUrl("cluster", (("a", 7000), ("b", 6379)))),
    ],
)
def test_where_redis_is(text, url):
    """One server, Sentinels with the name they know it by, or nodes of a cluster."""
    assert parse_redis(text) == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://", "expected HOST or HOST:PORT"),
        ("redis://a:70000", "expected HOST or HOST:PORT"),
        ("redis://u:p:ss@w@rd@a:b", "write @ : / as %40"),
        ("redis://a,b", "expected one HOST:PORT"),
        ("redis://a/x", "expected the number of a database"),
        ("redis+cluster://a/1", "a cluster has only 0"),
        ("redis+sentinel://a", "expected /SERVICE"),
        ("redis://a?db=1", "expected memory:, redis://"),
        ("valkey://a", "expected memory:, redis://"),
    ],
)
def test_what_is_no_redis_is_refused(text, expected):
    """With what was expected."""
    with pytest.raises(ValueError, match=expected):
        parse_redis(text)


def test_a_password_is_not_shown_when_its_url_is_refused():
    """It would be in the log."""
    with pytest.raises(ConfigError) as raised:
        load_settings({}, {"STATSVC_PRESENCE": "redis://statsvc:hunter2@a,b"})
    (problem,) = raised.value.problems
    assert "hunter2" not in problem
    assert problem.endswith("got 'redis://statsvc:***@a,b'")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("rediss://me:secret@[::1]:7000/3", "rediss://[::1]:7000/3"),
        ("redis+sentinel://:secret@a,b:1/main/2", "redis+sentinel://a:26379,b:1/main/2"),
    ],
)
def test_it_is_shown_without_the_password(text: str, shown: str):
    """As the log has it when the service starts."""
    assert str(parse_redis(text)) == shown
