"""docs/openapi.yaml is the API: the routes, and what a running service answers to inputs made from it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import hdrs
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from statsvc.api.dispatch import Dispatch
from statsvc.api.routes import Parts, operations_routes, public_routes
from statsvc.api.stream import Streams
from statsvc.model import DropReason
from tests.process import UNLIMITED, Service, command

DOCUMENT = Path(__file__).parent.parent / "docs" / "openapi.yaml"
API: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
ENDLESS = "/api/stream"
SEED = 1
EXAMPLES = 200
"""Inputs made for each call, beside those for each limit. With 100, planted faults were once not found."""
MANY_EXAMPLES = 1500
MINUTES = 10
GENERATED = re.compile(r"(\d+) generated")


def methods(dispatch: Dispatch) -> dict[str, set[str]]:
    """Those of each path."""
    return {route.template: set(route.handlers) for route in dispatch.routes}


def is_operations(path: str) -> bool:
    return "servers" in API["paths"][path]


def documented(*, operations: bool) -> dict[str, set[str]]:
    return {
        path: {method.upper() for method in calls} - {"SERVERS", "PARAMETERS"}
        for path, calls in API["paths"].items()
        if is_operations(path) == operations
    }


def test_it_is_an_openapi_document():
    """Of version 3.1, by the standard's own schema."""
    validate(API)
    assert API["openapi"].startswith("3.1.")


def test_it_has_every_route_of_the_listeners_and_no_other():
    """Paths and methods; HEAD and OPTIONS are as its introduction says."""
    streams = Streams(*[None] * 6)  # type: ignore[arg-type]
    parts = Parts(**dict.fromkeys(Parts.__dataclass_fields__) | {"streams": streams, "trusted_proxies": ()})  # type: ignore[arg-type]
    public = methods(public_routes(parts))
    operations = methods(operations_routes(parts, None, None))  # type: ignore[arg-type]
    for listener, asides in ((public, {hdrs.METH_HEAD, hdrs.METH_OPTIONS}), (operations, {hdrs.METH_HEAD})):
        calls = {path: served - asides for path, served in listener.items()}
        assert calls == documented(operations=listener is operations)
    assert all(hdrs.METH_OPTIONS in served for served in public.values())
    without_head = {path for path, served in public.items() if served == {"GET", "OPTIONS"}}
    assert without_head == {"/hit.gif", ENDLESS}
    for path in without_head:
        assert path in API["info"]["description"]


def test_it_names_every_reason_of_a_drop():
    """The header's pattern has those of the program and no other."""
    pattern = API["components"]["headers"]["X-Statsvc-Dropped"]["schema"]["pattern"]
    assert set(re.findall(r"\w+", pattern)) == set(DropReason)


def test_each_example_is_what_its_schema_says():
    """Of bodies, answers and errors."""

    def examples(node: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, dict):
            if "example" in node and "schema" in node:
                yield node["schema"], node["example"]
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            yield from examples(child)

    found = list(examples(API))
    assert len(found) > 10
    for schema, example in found:
        Draft202012Validator({**schema, "components": API["components"]}).validate(example)


async def test_the_documented_answer_is_a_real_one(app):
    """The example's event gets the example's totals."""
    post = API["paths"]["/api/event"]["post"]
    bodies = post["requestBody"]["content"]
    event = bodies["application/json"]["example"]
    assert json.loads(bodies["text/plain"]["example"]) == event
    answer = post["responses"]["202"]["content"]["application/json"]["example"]
    assert await app.event(**event) == answer


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    with Service(store, *UNLIMITED) as service:
        yield service


def try_inputs(service: Service, folder: Path, examples: int, minutes: float) -> int:
    """Right and wrong inputs for each call, judged by the document; how many they were."""
    made_of = yaml.safe_load(DOCUMENT.read_text())
    # It is the same body; made as any text it would be no JSON.
    del made_of["paths"]["/api/event"]["post"]["requestBody"]["content"]["text/plain"]
    del made_of["paths"][ENDLESS]
    tried = 0
    token = re.search(r"statsvc_\S+", command(service.store, "token", "add", "--note", "this test"))
    assert token
    for address, operations in ((service.public, False), (service.operations, True)):
        paths = {path: call for path, call in made_of["paths"].items() if is_operations(path) == operations}
        (folder / "openapi.yaml").write_text(yaml.safe_dump(made_of | {"paths": paths}))
        options = ("--checks", "all", "--phases", "examples,coverage,fuzzing", "--seed", str(SEED))
        found = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(Path(__file__).parent / "schemathesis.toml")),
                *("run", "openapi.yaml", "--url", f"http://{address}", *options),
                *("--header", f"Authorization: Bearer {token[0]}"),
                *("--max-examples", str(examples), "--generation-database", "none", "--no-color"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=minutes * 60,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        generated = GENERATED.search(found.stdout)
        assert generated, found.stdout
        tried += int(generated[1])
    assert {line["event"] for line in service.lines} <= {"started", "sites read again"}
    return tried


def test_what_it_says_is_what_a_running_service_does(service, tmp_path):
    """Statuses, types, headers, bodies; what the schema refuses is refused, what it takes is taken, and no 500."""
    assert try_inputs(service, tmp_path, EXAMPLES, 2) > 1000


@pytest.mark.torture
def test_no_input_of_very_many_is_a_fault(service, tmp_path):
    """As before, with many more."""
    tried = try_inputs(service, tmp_path, MANY_EXAMPLES, MINUTES)
    print(f"inputs made of docs/openapi.yaml tried: {tried:,}; 500s: 0")
