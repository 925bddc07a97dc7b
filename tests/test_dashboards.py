"""The dashboards' files: made by the code beside them, valid, and all explained."""

import json
import re

import pytest

from grafana.build import FOLDER, dashboards
from tests.prometheus import ROOT, names
from tests.test_rules_files import BUILT_IN, RECORDED, documented

SCHEMA = ROOT.parent / "shared" / "schemas" / "dashboard.jsonschema.json"
BOARDS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{board['title']}: {panel['title']}")
    for board in BOARDS.values()
    for panel in board["panels"]
    if panel["type"] != "row"
]
SOURCE = {"type": "prometheus", "uid": "prometheus"}


def expressions(board) -> list[str]:
    """Of its panels and of its marks."""
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    targets += [mark["target"] for mark in board["annotations"].get("list", [])]
    return [target["expr"] for target in targets]


def test_the_files_are_what_the_code_makes():
    """Else: python -m grafana.build."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == dashboards()


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_valid(name):
    """By Grafana's schema, turned into JSON Schema."""
    if not SCHEMA.exists():
        pytest.skip("the schema is not here")
    validator = pytest.importorskip("jsonschema").Draft7Validator(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(BOARDS[name])] == []


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_places_of_their_own(name):
    """Ids differ, and no panel lies on another, hangs over the edge or leaves a hole in its row."""
    taken: set[tuple[int, int]] = set()
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    assert taken == {(x, y) for x in range(24) for y in range(max(y for _, y in taken) + 1)}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_is_explained(panel):
    """Title, a sentence, a unit, thresholds, and the data source that is provisioned."""
    assert panel["title"]
    assert re.search(r"\w{3}.*\.$", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == SOURCE
        assert target["expr"]


@pytest.mark.parametrize("name", BOARDS)
def test_dashboards_read_only_what_is_documented_or_recorded(name):
    """Also to list what may be chosen."""
    board = BOARDS[name]
    read = {read for expr in expressions(board) for read in names(expr)}
    for variable in board["templating"]["list"]:
        read |= set(re.findall(r"label_values\((\w+),", variable["query"]))
    for metric in read:
        assert metric in RECORDED | BUILT_IN or documented(metric), metric


@pytest.mark.parametrize("name", BOARDS)
def test_panels_heed_what_is_chosen(name):
    """Each expression on it asks for the variable of its dashboard."""
    (variable,) = BOARDS[name]["templating"]["list"]
    for expr in expressions(BOARDS[name]):
        assert f'{variable["name"]}=~"${variable["name"]}"' in expr
