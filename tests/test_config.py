from ipaddress import ip_network
from pathlib import Path

import pytest

from statsvc.config import SETTINGS, Address, PostgresUrl, load_settings, parse_domain, parse_store
from statsvc.errors import ConfigError


def test_defaults_are_the_documented_ones():
    """Public on 8080 for everyone, operations on 8081 for this machine, nobody trusted."""
    settings = load_settings({}, {"STATSVC_STORE": "sqlite:///x.db"})
    assert str(settings.listen) == "0.0.0.0:8080"
    assert str(settings.ops_listen) == "127.0.0.1:8081"
    assert (settings.site, settings.trusted_proxy, settings.presence) == ((), (), None)
    assert str(load_settings({}, {}).store).endswith("/stats.db")


def test_every_option_has_an_environment_variable_and_the_option_wins():
    """STATSVC_ and the option's name; lists with commas."""
    environment = {
        "STATSVC_LISTEN": "[::1]:1",
        "STATSVC_SITE": "a.vn, b.vn,",
        "STATSVC_TRUSTED_PROXY": "10.0.0.0/8",
        "STATSVC_STORE": "sqlite:///e.db",
    }
    settings = load_settings({"store": "sqlite:///o.db", "site": None}, environment)
    assert settings.listen == Address("::1", 1)
    assert str(settings.listen) == "[::1]:1"
    assert settings.site == ("a.vn", "b.vn")  # an empty entry is none
    assert settings.trusted_proxy == (ip_network("10.0.0.0/8"),)
    assert settings.store == Path("/o.db")
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)


def test_bad_values_are_all_named_at_once():
    """Each with the option or variable it came from, what was expected and what came."""
    with pytest.raises(ConfigError) as raised:
        load_settings(
            {"listen": "8080", "site": ["https://a.vn/"], "store": "mysql://x"},
            {"STATSVC_TRUSTED_PROXY": "10.0.0.0/8,everyone", "STATSVC_TIME_ZONE": "Hanoi"},
        )
    assert raised.value.problems == (
        "--listen: expected HOST:PORT, for example 0.0.0.0:8080 or [::]:8080, got '8080'",
        "--store: expected sqlite:///PATH, for example sqlite:///var/lib/statsvc/stats.db, or postgresql://USER@HOST/DATABASE, got 'mysql://x'",
        "--site: expected a domain such as hue.gov.vn, without scheme, port or path, got 'https://a.vn/'",
        "STATSVC_TIME_ZONE: expected a name of the time zone database, such as Asia/Ho_Chi_Minh or UTC, got 'Hanoi'",
        "STATSVC_TRUSTED_PROXY: expected a network such as 10.0.0.0/8, or an address, got 'everyone'",
    )


def test_an_outbox_is_a_file_beside_the_users_data_and_its_size_has_a_unit():
    """What is no size is told with one that is."""
    assert str(load_settings({}, {}).outbox).endswith("/outbox.db")
    settings = load_settings({"outbox": "/var/lib/outbox.db", "outbox_size": "2GB"}, {})
    assert (settings.outbox, settings.outbox_size) == (Path("/var/lib/outbox.db"), 2_000_000_000)
    for wrong in ("2", "0MB", "2 GB", "-1GB"):
        with pytest.raises(ConfigError, match="expected a size such as 256MB or 2GB"):
            load_settings({"outbox_size": wrong}, {})


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/stats.db", "/var/lib/stats.db"),
        ("sqlite:////var/lib/stats.db", "/var/lib/stats.db"),
        ("sqlite:///a%20b.db", "/a b.db"),
    ],
)
def test_a_store_url_is_a_path(url, path):
    """What follows sqlite:// is the file's path; four slashes mean the same."""
    assert parse_store(url) == Path(path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/x.db", "stats.db", "mysql://x/y", ""]
)
def test_other_stores_are_refused(url):
    """What can't be a store is said."""
    with pytest.raises(ValueError, match="expected sqlite:///PATH"):
        parse_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://stats@db.example:5433/statsvc", "postgresql://stats@db.example:5433/statsvc"),
        ("postgres://stats:p@ss:w%2Frd@db/statsvc", "postgres://stats:***@db/statsvc"),
        (
            "postgresql://a:1,[::1]:5432/s?target_session_attrs=any",
            "postgresql://a:1,[::1]:5432/s?target_session_attrs=any",
        ),
        (
            "postgresql:///statsvc?host=/run/postgresql&password=secret",
            "postgresql:///statsvc?host=/run/postgresql&password=***",
        ),
    ],
)
def test_a_database_is_shown_without_its_password(url, shown):
    """Whichever way the password is written into it; the driver gets it whole."""
    assert parse_store(url) == PostgresUrl(url)
    assert str(parse_store(url)) == shown
    assert "secret" not in repr(parse_store(url))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://stats:secret@db", "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("postgresql://stats:secret@db/", "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("postgresql://stats:secret@db/a/b", "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("postgresql://stats:secret@db:99999/a", "expected HOST or HOST:PORT"),
        ("postgresql://stats:secret@db:port/a", "expected HOST or HOST:PORT"),
        ("postgresql://stats:se#cret@db/a", "expected"),
    ],
)
def test_what_is_no_database_is_refused_without_showing_the_password(url, said):
    """What can't be a URL may have a password all the same."""
    with pytest.raises(ConfigError, match=said) as raised:
        load_settings({"store": url}, {})
    assert "cret" not in str(raised.value)


def test_a_replica_is_one_of_postgresql():
    """A file has none."""
    replica = {"STATSVC_READ_REPLICA": "postgresql://b/s"}
    settings = load_settings({"store": "postgresql://a/s"}, replica)
    assert settings.read_replica == PostgresUrl("postgresql://b/s")
    with pytest.raises(ConfigError, match="--read-replica: expected with a --store of PostgreSQL"):
        load_settings({"store": "sqlite:///s.db"}, replica)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("WWW.Hue.gov.vn", "hue.gov.vn"),
        ("người.vn", "xn--ngi-28a9548a.vn"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_domain_is_written_one_way(text, domain):
    """Lower case, ASCII, without www."""
    assert parse_domain(text) == domain


@pytest.mark.parametrize("text", ["", "a..vn", "a.vn/x", "a.vn:80", "a b.vn", "x" * 64 + ".vn", "."])
def test_what_is_no_domain_is_refused(text):
    """With the sentence that says what a domain is."""
    with pytest.raises(ValueError, match="expected a domain"):
        parse_domain(text)


def test_a_flag_is_true_or_false_in_the_environment():
    """And nothing that could be read either way."""
    assert not load_settings({}, {"STATSVC_REUSE_PORT": "false"}).reuse_port
    with pytest.raises(ConfigError, match="STATSVC_REUSE_PORT: expected true or false, got 'yes'"):
        load_settings({}, {"STATSVC_REUSE_PORT": "yes"})


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("2.5", 2.5), ("3600", 3600)])
def test_a_drain_is_in_seconds(text, seconds):
    """None by default."""
    assert load_settings({"drain_seconds": text}, {}).drain_seconds == seconds
    assert load_settings({}, {}).drain_seconds == 0


@pytest.mark.parametrize("text", ["", "-1", "1e3", "10s", "3601", "nan", "٣"])
def test_what_is_no_time_to_drain_is_refused(text):
    """With the bounds."""
    with pytest.raises(ConfigError, match="expected a number of seconds, from 0 to 3,600"):
        load_settings({"drain_seconds": text}, {})


def test_a_network_is_not_widened():
    """An address with bits past its prefix is a slip: it trusts a network, or one machine, but not by guess."""
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"STATSVC_TRUSTED_PROXY": "10.0.0.1/8"})
    assert "expected 10.0.0.1 for that address, or 10.0.0.0/8 for its whole network" in str(caught.value)
