"""Rules and their runbook: what promtool says of them, and that nothing is missing."""

import re
from pathlib import Path

import pytest
import yaml

from tests.prometheus import ROOT, RULES, names, promtool, rules
from tests.test_docs import METRICS
from tests.weeks import write

RUNBOOK_URL = "docs/runbook.md"
RUNBOOK = (ROOT / RUNBOOK_URL).read_text()
TESTS = sorted((ROOT / "grafana" / "tests").glob("*.yaml"))
ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
NAMES = sorted({alert["alert"] for alert in ALERTS})
BUILT_IN = {"up", "ALERTS"}


def documented(name: str) -> bool:
    """In docs/metrics.md; a histogram by its parts, and the Python client's own."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return (
        base.startswith(("process_", "python_")) or f"| `{base}` |" in METRICS or f"| `{name}` |" in METRICS
    )


def test_promtool_finds_nothing_wrong():
    """`promtool check rules`."""
    assert "SUCCESS" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_where_they_must_and_nowhere_else(path):
    """`promtool test rules`: each alert silent, and firing within the minutes that the runbook says."""
    promtool("test", "rules", path)


def test_six_weeks_of_three_portals_are_silent_but_for_their_spikes_and_their_drop(tmp_path):
    """Mondays, nights, the quiet week of Tết and the rush after it, restarts and an opening wake nobody."""
    write(tmp_path / "weeks.yaml", RULES)
    promtool("test", "rules", tmp_path / "weeks.yaml")


def test_every_alert_is_tested_by_promtool():
    """With its full text, that is: firing."""
    fired = {
        test["alertname"]
        for path in TESTS
        for group in yaml.safe_load(path.read_text())["tests"]
        for test in group.get("alert_rule_test", [])
        if test["exp_alerts"]
    }
    assert fired == set(NAMES)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_what_where_how_bad_and_what_to_do(alert):
    """Summary, numbers, severity, and a runbook's address that is derived from its name."""
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert "$labels" in annotations["summary"]
    assert (
        "$value" in annotations["description"]
        or "query" in annotations["description"]
        or (alert["alert"] in {"StatsvcDown", "PresenceGone"})
    )
    assert annotations["runbook_url"] == f"{RUNBOOK_URL}#{alert['alert'].lower()}"


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_its_place_in_the_runbook(name):
    """A heading of its own, within which minutes it is told, what it means, where to look and what to do."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in section[1]
    assert re.search(rf"^\| \[{name}\]\(#{name.lower()}\) \| \w+.* \| .+ \| .+ \|$", RUNBOOK, re.MULTILINE)


def test_the_runbook_has_no_alert_that_is_gone():
    """Its headings are the alerts, and two more."""
    assert set(re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)) == {
        *NAMES,
        "How traffic is judged",
        "Setting up",
    }


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_read_only_what_is_documented_or_recorded(rule):
    """In their expressions, and in the queries of their texts."""
    texts = [rule["expr"]]
    for text in rule.get("annotations", {}).values():
        texts += [
            found.replace("\\", "") for found in re.findall(r'printf "((?:\\.|[^"\\])*)" \$labels', text)
        ]
    for text in texts:
        for name in names(text):
            assert name in RECORDED | BUILT_IN or documented(name), name


def test_names_are_found_in_expressions():
    """The reader that these tests rest on."""
    expr = 'sum by (le, x) (rate(a_total{b="c or d"}[5m] offset 1h)) > 2 * level:e:f and on (y) g unless (h)'
    assert names(expr) == {"a_total", "level:e:f", "g", "h"}


def test_the_paths_in_the_tests_are_relative():
    """They run wherever the repository lies."""
    for path in TESTS:
        (named,) = yaml.safe_load(path.read_text())["rule_files"]
        assert (path.parent / Path(named)).resolve() == RULES
