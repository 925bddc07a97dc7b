"""What is in docker/: looked over by the tools made for it, and run where they are there."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml

from statsvc.config import SETTINGS, load
from tests.process import CHROME, Service, command, eventually
from tests.prometheus import free_port, program
from tests.test_connections import AMBIGUOUS

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
LAST = b"GET /counter.js HTTP/1.1\r\nHost: stats.example\r\nConnection: close\r\n\r\n"
EVENT = b'{"n": "pageview", "u": "https://hue.gov.vn/", "d": "hue.gov.vn"}'


def run(*arguments: str | Path) -> str:
    """What it printed, once it has found nothing wrong."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_dockerfile_passes_hadolint():
    """No warning."""
    assert run(program("hadolint"), DOCKER / "Dockerfile") == ""


def test_commands_get_the_installed_services_store_and_user(tmp_path):
    """What the wrapper runs: the program, here, as who serves, with the unit's store and the file of settings."""
    if os.geteuid() != 0:
        pytest.skip("only root runs as somebody else")
    tmp_path.chmod(0o755)
    program, settings, wrapper = (tmp_path / name for name in ("program", "statsvc.env", "statsvc"))
    program.write_text(
        '#!/bin/sh\necho "$(id -un) $PWD $STATSVC_STORE $STATSVC_SITE $STATSVC_TIME_ZONE $STATSVC_LISTEN $*"\n'
    )
    # What systemd takes, and a shell wouldn't.
    settings.write_text("; not now\nSTATSVC_SITE=a.vn, b.vn\nSTATSVC_TIME_ZONE='UTC'\nSTATSVC_LISTEN=$(id)")
    text = (DOCKER / "statsvc.sh").read_text()
    text = text.replace("/opt/statsvc/bin/statsvc", str(program)).replace("-u statsvc", "-u nobody")
    wrapper.write_text(text.replace("/etc/statsvc/statsvc.env", str(settings)))
    for file in (program, wrapper):
        file.chmod(0o755)
    # pytest's own folders are for root alone.
    for folder in list(tmp_path.parents)[:2]:
        folder.chmod(0o711)
    unit = (DOCKER / "statsvc.service").read_text()
    store = re.search(r"^Environment=STATSVC_STORE=(.*)$", unit, re.MULTILINE)[1]  # type: ignore[index]
    assert run(wrapper, "check", "a b") == f"nobody {Path.cwd()} {store} a.vn, b.vn UTC $(id) check a b\n"


def test_the_nightly_copy_is_kept_and_dated(tmp_path):
    """The line cron runs: a copy with the day in its name, and old ones go only after a whole one."""
    line = (DOCKER / "statsvc.cron").read_text().splitlines()[-1]
    assert line.split()[5] == "statsvc"
    order = line.split(maxsplit=6)[6].replace("\\%", "%").replace("/var/backups/statsvc", str(tmp_path))
    old, program = tmp_path / "stats-2020-01-01.db", tmp_path / "statsvc"
    old.touch()
    os.utime(old, (0, 0))
    order = order.replace("/usr/local/bin/statsvc", str(program))
    for status, kept in ((1, True), (0, False)):
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit {status}\n')
        program.chmod(0o755)
        subprocess.run(["/bin/sh", "-c", order], check=False)
        assert old.exists() == kept
    assert re.fullmatch(r"backup \S+/stats-\d{4}-\d\d-\d\d\.db\n", (tmp_path / "asked").read_text())


def test_the_demo_has_an_alert_of_its_own(tmp_path):
    """It fires in the demo's spike, and neither in its morning's rise nor for any real portal."""
    label = '{site="SITE", instance="statsvc:8081", job="statsvc"}'
    # By the minute: two of rise, four of a day, four of a spike, and the day again.
    values = "0 120 200 210 200 210 200 1400 1500 1500 1500 300 200 200 200"
    series = [
        {"series": f"statsvc_current_visitors{label.replace('SITE', site)}", "values": values}
        for site in ("hue.example", "hue.gov.vn")
    ]
    fires = {"hue.example": {7: False, 8: True, 10: False, 13: False}}
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": 'count by (site) (ALERTS{alertname="DemoSpike", alertstate="firing"})',
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": f'{{site="{site}"}}', "value": 1}] if fired else [],
                }
                for site, minutes in fires.items()
                for minute, fired in minutes.items()
            ],
        }
    ]
    file = tmp_path / "tests.yaml"
    rules = [str(DOCKER / "demo.rules.yaml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "15s", "tests": tests}))
    assert "SUCCESS" in run(program("promtool"), "test", "rules", file)


def test_alertmanager_tells_the_receiver(tmp_path):
    """A real Alertmanager, with the configuration as it is but for addresses and waiting, reaches the example."""
    amtool, alertmanager = program("amtool"), program("prometheus-alertmanager")
    run(amtool, "check-config", DOCKER / "alertmanager.yml")
    with running(sys.executable, "-u", DOCKER / "receiver.py", "127.0.0.1:0") as receiver:
        assert receiver.stdout is not None
        address = receiver.stdout.readline().split()[-1]
        config, at = tmp_path / "alertmanager.yml", f"127.0.0.1:{free_port()}"
        config.write_text(
            (DOCKER / "alertmanager.yml")
            .read_text()
            .replace("receiver:9099", address)
            .replace("group_wait: 10s", "group_wait: 0s")
        )
        options = [f"--config.file={config}", f"--storage.path={tmp_path}", f"--web.listen-address={at}"]
        with running(alertmanager, *options, "--cluster.listen-address="):
            url = f"--alertmanager.url=http://{at}"
            alert = [
                "TrafficSpike",
                "severity=warning",
                "site=hue.gov.vn",
                "--annotation=summary=Many readers",
            ]
            add = [amtool, url, "alert", "add", *alert]
            eventually(lambda: subprocess.run(add, capture_output=True, check=False).returncode == 0)
            assert receiver.stdout.readline() == "firing TrafficSpike hue.gov.vn Many readers\n"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"alerts": 1}', b'{"alerts": [{}]}'])
def test_the_receiver_refuses_what_is_no_alert(body):
    """And goes on listening."""
    with running(sys.executable, "-u", DOCKER / "receiver.py", "127.0.0.1:0") as receiver:
        assert receiver.stdout is not None
        address = receiver.stdout.readline().split()[-1]
        for _ in range(2):
            with pytest.raises(HTTPError, match="400"):
                urlopen(f"http://{address}/", body, timeout=5)


@pytest.mark.parametrize("name", ["statsvc.service", "statsvc@8081.service"])
def test_the_systemd_unit_is_sound_and_hardened(name, tmp_path):
    """systemd finds nothing to complain of, and rates its exposure as low; of a process on a shared port, too."""
    analyze = program("systemd-analyze")
    unit = tmp_path / name
    statsvc = Path(sys.executable).with_name("statsvc")
    unit.write_text(
        (DOCKER / "statsvc.service").read_text().replace("/opt/statsvc/bin/statsvc", str(statsvc))
    )
    drop_ins = tmp_path / "statsvc@.service.d"
    drop_ins.mkdir()
    (drop_ins / "shared-port.conf").write_text((DOCKER / "statsvc@.conf").read_text())
    complaints = [line for line in run(analyze, "verify", unit).splitlines() if "statsvc" in line]
    assert complaints == []
    said = run(analyze, "security", "--offline=true", unit)
    exposure = re.search(rf"exposure level for {name}: ([\d.]+)", said)
    assert exposure
    assert float(exposure[1]) < 2.0


def test_processes_on_a_shared_port_differ_in_what_is_theirs_alone():
    """The template's settings are settings, with values that are taken; ports and files are an instance's own."""
    given = re.findall(r"(STATSVC_\w+)=(\S+)", (DOCKER / "statsvc@.conf").read_text())
    settings = {setting.variable: setting for setting in SETTINGS}
    instances = [
        [load({}, {name: value.replace("%i", port)}, [settings[name]]) for name, value in given]
        for port in ("8081", "8082")
    ]
    one, other = (
        {field: value for each in instance for field, value in each.items()} for instance in instances
    )
    assert one.pop("reuse_port") is other.pop("reuse_port") is True
    assert one.keys() == other.keys() == {"ops_listen", "outbox"}
    assert not one.items() & other.items()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory) -> Iterator[tuple[str, Service, Path]]:
    """The example's nginx before a real service: its https address, the service, and nginx's folder."""
    nginx, openssl = program("nginx"), program("openssl")
    folder = tmp_path_factory.mktemp("nginx")
    certificate = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stats.example", "-days", "2"]
    run(openssl, "req", *certificate, "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem")
    command(folder / "stats.db", "site", "add", "hue.gov.vn")
    with Service(folder / "stats.db", "--trusted-proxy", "127.0.0.1/32") as service:
        https = free_port()
        text = (DOCKER / "nginx.conf").read_text()
        text = re.sub(r"listen \[::\].*\n", "", text)
        for there, here in {
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen 443 ": f"listen 127.0.0.1:{https} ",
            "127.0.0.1:8080;": f"{service.public};",
            "/etc/letsencrypt/live/stats.example": str(folder),
            "/var/log/nginx": str(folder),
        }.items():
            assert there in text, there
            text = text.replace(there, here)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; pid {folder}/nginx.pid; error_log {folder}/main.log warn;\n"
            f"events {{}}\nhttp {{\n{temporary}{text}\n}}\n"
        )
        run(nginx, "-t", "-c", config)
        with running(nginx, "-c", config) as process:
            address = f"https://127.0.0.1:{https}"
            eventually(lambda: ask(address, "/counter.js")[0] == 200)
            yield address, service, folder
            process.terminate()
            process.wait(10)


def ask(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    named = {"Host": "stats.example", "User-Agent": CHROME}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(address + path, body, named), timeout=5, context=trusting) as answer:
            return answer.status, answer.read()
    except HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except OSError:
        return 0, b""


def test_behind_nginx_nobody_chooses_an_address(proxied):
    """What a visitor claims in a forwarding header goes no further: one browser stays one visitor."""
    address, _, _ = proxied
    for claimed in ("203.0.113.1", "203.0.113.2, 127.0.0.1", "nonsense"):
        forwarded = f"for={claimed}"
        status, _ = ask(address, "/api/event", EVENT, X_Forwarded_For=claimed, Forwarded=forwarded)
        assert status == 202
        _, told = ask(address, "/api/address", X_Forwarded_For=claimed, Forwarded=forwarded)
        assert "wrote it: 1" in json.loads(told)["why"]
    totals = json.loads(ask(address, "/api/totals?site=hue.gov.vn")[1])
    assert totals["pageviews"]["total"] == 3
    assert totals["visitors"]["today"] == 1


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_nothing_is_smuggled_past_nginx(proxied, name):
    """What can be read in two ways: no event is counted that was not answered 202, and nothing is our fault."""
    address, _, _ = proxied

    def pageviews() -> int:
        return json.loads(ask(address, "/api/totals?site=hue.gov.vn")[1])["pageviews"]["total"]

    before = pageviews()
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    port = int(address.rpartition(":")[2])
    said = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        trusting.wrap_socket(plain, server_hostname="stats.example") as sent,
        suppress(ConnectionError),
    ):
        sent.sendall(AMBIGUOUS[name].replace(b"Host: x", b"Host: stats.example") + LAST)
        while part := sent.recv(65536):
            said += part
    statuses = {int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", said)}
    assert not statuses & {500, 502, 504}
    # nginx still answers HTTP/0.9, which has no status.
    assert pageviews() - before <= said.count(b"HTTP/1.1 202 ") + said.startswith(b"GIF89a")


@pytest.mark.parametrize(
    "path", ["/metrics", "/-/healthy", "/-/ready", "/api/sites", "/api/sites/hue.gov.vn"]
)
def test_nginx_does_not_ask_for_what_is_for_operators(proxied, path):
    """404, and the answer is nginx's own."""
    status, body = ask(proxied[0], path)
    assert status == 404
    assert b"nginx" in body


def test_the_stream_comes_through_nginx_at_once(proxied):
    """The first message is there while the connection stays open."""
    address, _, _ = proxied
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    request = Request(f"{address}/api/stream?site=hue.gov.vn", headers={"Host": "stats.example"})
    with urlopen(request, timeout=5, context=trusting) as stream:
        lines = [stream.readline() for _ in range(2)]
    assert any(line.startswith(b"data: {") for line in lines)


def test_nginx_logs_no_address(proxied):
    """Neither of whom it served, nor of whom it could not serve."""
    address, service, folder = proxied
    service.kill()
    assert ask(address, "/api/event", EVENT)[0] == 502
    assert (folder / "statsvc.log").read_text() == ""
    assert "127.0.0.1" not in (folder / "main.log").read_text()
