"""What the README says is so, and what is so the README says."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from statsvc.announcements import CutReason
from statsvc.api.connection import KEEPALIVE_SECONDS, LONGEST_LINE_BYTES
from statsvc.api.door import HEAD_SECONDS, MOST_UNANSWERED_BYTES, REQUESTS_AT_ONCE
from statsvc.api.listener import UNREAD_SECONDS
from statsvc.api.request import BODY_SECONDS, LARGEST_BODY_BYTES
from statsvc.api.stream import MOST_READERS, MOST_UNSENT_BYTES
from statsvc.config import SETTINGS
from statsvc.ingest import HANGING_SECONDS, HITS_IN_OPEN_BATCH
from statsvc.languages import labels, rows
from statsvc.model import DropReason, Site
from statsvc.service import FILES_FOR_THE_REST, MOST_CONNECTIONS
from statsvc.snippet_command import EXAMPLE_URL, lines
from tests.postgres import database_of
from tests.process import CHROME

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EMBED = {name: (ROOT / "docs" / name).read_text() for name in ("embed.md", "embed.vi.md")}
COUNTER = ROOT / "statsvc" / "assets" / "counter"
METRICS = (ROOT / "docs" / "metrics.md").read_text()
OVERLOAD = (ROOT / "docs" / "overload.md").read_text()
OPERATE = (ROOT / "docs" / "operate.md").read_text()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting):
    """Option, variable and default."""
    (row,) = [line for line in README.splitlines() if re.match(rf"\| `{setting.option}[ `]", line)]
    assert f"`{setting.variable}`" in row
    assert setting.default is None or f"`{setting.default}`" in row


@pytest.mark.parametrize("reason", DropReason)
def test_every_drop_reason_is_documented(reason):
    """A caller who finds it in a header finds it there."""
    assert f"| `{reason}` |" in README


def test_every_limit_is_documented():
    """With its number, as the code has it; and each reason for ending a connection."""
    rows = [line for line in OVERLOAD.splitlines() if line.startswith("| ")]
    for reason in CutReason:
        assert any(row.endswith(f"| `{reason}` |") for row in rows)
    for what, number in {
        "requests begun": f"{REQUESTS_AT_ONCE:,}",
        "connections |": f"{MOST_CONNECTIONS:,}, or the process's open files less {FILES_FOR_THE_REST}",
        "time for a request's head": f"{HEAD_SECONDS:.0f} seconds",
        "time for a body": f"{BODY_SECONDS:.0f} seconds",
        "bytes before an answer": f"{MOST_UNANSWERED_BYTES // 1024} KiB",
        "one line of a head": f"{LONGEST_LINE_BYTES // 1024} KiB",
        "body of an event": f"{LARGEST_BODY_BYTES // 1024} KiB",
        "an answer of which nothing": f"{UNREAD_SECONDS:.0f} seconds",
        "a connection between": f"{KEEPALIVE_SECONDS:.0f} seconds",
        "readers of streams": f"{MOST_READERS:,}",
        "a reader who": f"{MOST_UNSENT_BYTES // 1024} KiB",
        "events in the open batch": f"{HITS_IN_OPEN_BATCH:,}",
        "a commit that takes": f"{HANGING_SECONDS:.0f} seconds",
    }.items():
        (row,) = [row for row in rows if row.startswith(f"| {what}")]
        assert number in row


async def test_every_metric_is_documented(start, tmp_path):
    """With its type and labels, as the real /metrics has them, of a fleet's node too; and no other is."""
    families: list[Any] = []
    for store in (f"sqlite://{tmp_path}/stats.db", database_of(tmp_path)):
        async with start(store=store, outbox=f"{tmp_path}/outbox.db") as app:
            await app.view("/")
            async with app.session.get(f"{app.operations}/metrics") as response:
                families += text_string_to_metric_families(await response.text())
    served = {}
    for family in families:
        if family.name.startswith("statsvc_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            served[name] = (family.type, labels)
    rows = re.findall(r"^\| `(statsvc_\w+)` \| (\w+) \| ([\w, ]*)\|", METRICS, re.MULTILINE)
    documented = {name: (kind, set(labels.replace(",", " ").split())) for name, kind, labels in rows}
    assert set(served) == set(documented)
    for name, (kind, labels) in served.items():
        assert documented[name][0] == kind
        assert labels <= documented[name][1]


async def test_every_route_is_documented(app):
    """And every route that is documented answers."""
    documented = set(re.findall(r"`(?:GET|POST) (/[^`?]*)", README))
    assert documented == {
        *("/api/event", "/hit.gif", "/api/totals", "/api/stream", "/api/address"),
        *("/badge.svg", "/box", "/counter.js", "/"),
        *("/metrics", "/-/healthy", "/-/ready", "/api/sites"),
        *("/api/sites/{domain}", "/api/sites/{domain}/baselines", "/api/sites/{domain}/tokens"),
    }
    for path in documented:
        statuses = set()
        for listener in (app.public, app.operations):
            async with app.session.request(
                "POST" if path == "/api/event" else "GET", listener + path.replace("{domain}", "hue.gov.vn")
            ) as response:
                statuses.add(response.status)
        assert 404 in statuses
        assert len(statuses - {404}) == 1


async def test_the_curl_example_is_counted(start):
    """What a new user pastes first works."""
    (user_agent, body) = re.search(r"curl \S+ -A '([^']+)' \\\n\s+-d '([^']+)'", README).groups()  # type: ignore[union-attr]
    async with start(sites="localhost") as app:
        answer = await app.event(user_agent=user_agent, **json.loads(body))
    assert answer["pageviews"]["total"] == 1


async def test_the_documented_answer_has_the_keys_of_a_real_one(app):
    """The example in the README is an answer, key by key."""
    example = re.search(r'^    (\{"site".*?\}\}\})$', README, re.MULTILINE | re.DOTALL)
    assert example
    text = example[1].replace("…the same keys…", '"same": 0')
    documented = json.loads(text)
    answer = await app.event(
        n="pageview", u="https://hue.gov.vn/tin-tuc/1", d="hue.gov.vn", user_agent=CHROME
    )
    assert list(documented) == list(answer)
    for key in ("current", "visits", "visitors", "pages"):
        assert list(documented[key]) == list(answer[key])


def test_every_dependency_has_its_reason_and_a_pinned_version():
    """One line in CONTRIBUTING.md, one in constraints.txt; and no address of an index anywhere."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    pinned = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["fleet"]]:
        name = re.match(r"[\w-]+", requirement)[0]  # type: ignore[index]
        assert re.search(rf"^\| {name} (\(`\[fleet\]`\) )?\|", contributing, re.MULTILINE)
        assert f"{name}==" in pinned
    assert extras["dev"][0] == "statsvc[fleet]"
    for requirement in extras["dev"][1:]:
        name = re.match(r"[\w-]+", requirement)[0]  # type: ignore[index]
        assert name in contributing
        assert f"{name}==" in pinned
    assert "://" not in pinned


def test_every_make_target_in_the_readme_exists():
    """`make run` and the others."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^ +make ([a-z]+)", README, re.MULTILINE))
    assert named >= {"run", "test", "check"}
    assert named <= targets


def test_every_command_in_the_readme_is_understood():
    """`statsvc …` lines name commands and options that exist."""
    helps = {path.stem: path.read_text() for path in (Path(__file__).parent / "goldens").glob("help*.txt")}
    for line in re.findall(r"^    statsvc (.*)", README + OPERATE, re.MULTILINE):
        words = re.sub(r"\s{2,}\(.*|\"[^\"]*\"", "", line).replace("[", " ").replace("]", " ").split()
        command = words[: 2 if words[0] in {"site", "token"} else 1]
        known = helps.get("_".join(["help", *command]), helps[f"help_{command[0]}"])
        assert command[-1] in known
        for option in (word for word in words if word.startswith("--")):
            assert option in known, f"{' '.join(command)} has no {option}"


@pytest.mark.parametrize("name", EMBED)
def test_editors_read_all_that_the_box_takes(name):
    """Rows, the script's attributes, colours and parts, as they are in the sources; in both languages."""
    text = EMBED[name]
    sources = {path.name: path.read_text() for path in COUNTER.iterdir()}
    options = set(re.findall(r"options\.(\w+)", "".join(sources.values())))
    attributes = {"data-" + re.sub("[A-Z]", lambda letter: "-" + letter[0].lower(), name) for name in options}
    assert "data-domain" in attributes
    colours = set(re.findall(r"--statsvc-\w+", sources["box.css"]))
    assert len(colours) >= 4
    for word in (*rows(), *attributes, *colours, *labels()):
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), f"{name} says nothing of {word}"


def test_both_languages_say_the_same():
    """The same headings, tables and examples, in the same order."""

    def shape(text: str) -> list[str]:
        lines = [line for line in text.splitlines() if line.startswith(("#", "|", "```"))]
        return [line.split()[0] if line.startswith(("#", "```")) else line.split("|")[1] for line in lines]

    english, vietnamese = (
        [part if part.startswith(("#", "```")) else "|" for part in shape(text)] for text in EMBED.values()
    )
    assert english == vietnamese


@pytest.mark.parametrize("name", EMBED)
def test_the_lines_editors_paste_are_those_of_the_program(name):
    """What `statsvc snippet` prints stands in the docs as well."""
    site = Site(id=1, domain="hue.gov.vn")
    script, _, noscript, iframe, _ = re.findall(r"^  (<.*>)$", lines(site, EXAMPLE_URL, "vi"), re.MULTILINE)
    for line in (script, noscript, iframe):
        assert line in EMBED[name]


def test_the_threat_model_names_tests_that_are_there():
    """What it says is shown is shown somewhere, for each attacker."""
    text = (ROOT / "docs" / "threat-model.md").read_text()
    rows = re.findall(r"^\| (?!who |---)(.+)\|$", text, re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+\.py|docker/[\w.]+)`", row.rsplit("|", 1)[1])
        assert named, row
        for name in named:
            assert (ROOT / name).exists() or (ROOT / "tests" / name).exists(), name
