"""The compose files of docker/: looked over by the tools made for them, and against what they start."""

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from statsvc.config import SETTINGS, load
from tests.prometheus import program
from tests.test_docker import DOCKER, ROOT, run

SCHEMA = ROOT.parent / "shared" / "schemas" / "compose-spec.json"
COMPOSE = {
    name: yaml.safe_load((DOCKER / name).read_text()) for name in ("compose.yaml", "compose.fleet.yaml")
}


def services(name: str) -> dict[str, dict[str, Any]]:
    """Of a compose file, with what they extend."""
    found: dict[str, dict[str, Any]] = {}
    for service, given in COMPOSE[name]["services"].items():
        extended = given.get("extends")
        base = services(extended["file"])[extended["service"]] if extended else {}
        mounts = base.get("volumes", []) + given.get("volumes", [])
        # What is mounted to one place twice is what was said last.
        by_place = {mount.split(":")[1]: mount for mount in mounts}
        found[service] = {**base, **given, "volumes": list(by_place.values())}
    return found


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_is_as_specified(name):
    """By the Compose Specification's own schema."""
    if not SCHEMA.exists():
        pytest.skip("the Compose Specification's schema is not here")
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(COMPOSE[name])


@pytest.mark.parametrize("name", COMPOSE)
def test_both_generations_of_compose_take_the_file(name):
    """The plugin is held to the specification above; this is the program that Debian still has."""
    run(program("docker-compose"), "-f", DOCKER / name, "config", "-q")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_shares_no_data_with_another_projects_folder_of_that_name(name):
    """Without a project's name the folder's is taken, which is `docker` elsewhere, too."""
    volumes = COMPOSE[name]["volumes"]
    assert {volume["name"] for volume in volumes.values()} == {f"statsvc-{volume}" for volume in volumes}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_names_only_what_is_there(name):
    """Files, folders, volumes, services and settings, with values that are taken."""
    settings = {setting.variable: setting for setting in SETTINGS}
    for service, given in services(name).items():
        if build := given.get("build"):
            context = (DOCKER / build["context"]).resolve()
            assert context == ROOT
            assert (context / build["dockerfile"]).is_file()
        for volume in given["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), f"{service}: {source}"
            else:
                assert source in COMPOSE[name]["volumes"]
        assert set(given.get("depends_on", ())) <= set(services(name))
        for variable, value in given.get("environment", {}).items():
            if variable.startswith("STATSVC_"):
                chosen = re.sub(r"\$\{\w+(?::-([^}]*))?\}", r"\1", value)
                load({}, {variable: chosen}, [settings[variable]])


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_is_pinned_and_careful(name):
    """No image that changes by itself, nothing writable but volumes, and only 8080 for the world."""
    for service in services(name).values():
        # PostgreSQL's releases have two numbers.
        assert re.search(r":(local|v?\d+\.\d+\.\d+)$|^postgres:\d+\.\d+$", service["image"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    published = [port for service in services(name).values() for port in service.get("ports", ())]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["8080:8080"]
    assert len({port.rpartition(":")[0] for port in published}) == len(published)


def test_the_fleets_nginx_asks_its_nodes_and_is_believed_by_them():
    """By the addresses that compose gives them; each node has a folder of its own for what it must not lose."""
    fleet = services("compose.fleet.yaml")
    at = {
        name: service["networks"]["default"]["ipv4_address"]
        for name, service in fleet.items()
        if "networks" in service
    }
    nodes = {name: service for name, service in fleet.items() if name.startswith("node")}
    asked = re.findall(r"^ +server ([\d.]+):8080 ", (DOCKER / "nginx.fleet.conf").read_text(), re.MULTILINE)
    assert asked == [at[name] for name in nodes]
    for service in nodes.values():
        assert service["environment"]["STATSVC_TRUSTED_PROXY"].split(",")[0] == at["nginx"]
    assert len({service["volumes"][0].split(":")[0] for service in nodes.values()}) == len(nodes) == 3


@pytest.mark.parametrize("name", COMPOSE)
def test_prometheus_takes_its_configuration_and_scrapes_what_compose_starts(name, tmp_path):
    """With the rules and the targets that compose mounts: every node."""
    config = (DOCKER / "prometheus.yml").read_text()
    parsed = yaml.safe_load(config)
    started = services(name)
    mounts = dict(volume.split(":")[1::-1] for volume in started["prometheus"]["volumes"] if volume[0] == ".")
    jobs = {job["job_name"]: job for job in parsed["scrape_configs"]}
    (file,) = jobs.pop("statsvc")["file_sd_configs"][0]["files"]
    (of_statsvc,) = yaml.safe_load((DOCKER / mounts[file]).read_text())
    serving = [service for service in started if service == "statsvc" or service.startswith("node")]
    assert of_statsvc["targets"] == [f"{service}:8081" for service in serving]
    for job in jobs.values():
        targets = job["static_configs"][0]["targets"]
        assert {target.split(":")[0] for target in targets} <= {*started, "localhost"}
    here = tmp_path / "prometheus.yml"
    for there in (*parsed["rule_files"], file):
        mounted = there.removesuffix("/*.yaml")
        config = config.replace(mounted, str(DOCKER / mounts[mounted]))
    here.write_text(config)
    assert "SUCCESS" in run(program("promtool"), "check", "config", here)


def test_grafana_finds_its_dashboards_and_its_source():
    """What is provisioned is where compose puts it."""
    provisioning = ROOT / "grafana" / "provisioning"
    mounts = dict(volume.split(":")[:2] for volume in services("compose.yaml")["grafana"]["volumes"])
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["uid"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "statsvc.yaml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["../grafana/dashboards"]
