"""The house stays as drawn: CONTRIBUTING.md's table of rooms, and who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "statsvc"
EDGE = 4

ROWS: dict[int, list[str]] = {
    0: ["errors", "model", "calendar", "window", "ids", "address", "languages", "announcements", "redis_url"],
    1: ["visits", "visitor", "bots", "rules", "tally", "totals", "demo_day", "picture", "limits"],
    2: ["ports"],
    3: [
        "config",
        "clock",
        "sites",
        "administration",
        "keyring",
        "board",
        "duplicates",
        "cardinality",
        "ingest",
        "collector",
        "housekeeping",
    ],
    EDGE: ["stores", "presence", "api", "metrics", "log"],
    5: ["backends"],
    6: ["service"],
    7: [
        "cli",
        "site_commands",
        "snippet_command",
        "care_commands",
        "demo_command",
        "move_command",
        "progress",
        "__main__",
    ],
}
ROW = {room: row for row, rooms in ROWS.items() for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "statsvc":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("statsvc."):
            names.add(node.module.split(".")[1])
    return names - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rows_before_it(path):
    """Nothing walks backwards, and no edge knows another."""
    room = room_of(path)
    for other in imported(path):
        if ROW[room] == EDGE:
            assert other == room or ROW[other] < EDGE, f"{room} is an edge and imports {other}"
        else:
            assert ROW[other] <= ROW[room], f"{room} (row {ROW[room]}) imports {other} (row {ROW[other]})"


def test_row_0_imports_nothing_but_row_0_nouns():
    """The first row stands on nothing of ours but what lies under the nouns and the window."""
    allowed = {"model": {"calendar"}, "announcements": {"model"}, "window": {"ids"}}
    for room in ROWS[0]:
        assert imported(PACKAGE / f"{room}.py") <= allowed.get(room, set())


def test_every_room_is_in_the_table():
    """A new room gets its place before it is built."""
    assert {room_of(path) for path in FILES} - {"assets"} == set(ROW)


def test_sql_stands_in_stores_only():
    """Nobody else speaks SQL."""
    for path in FILES:
        if room_of(path) != "stores":
            assert "sqlite3" not in path.read_text(), path
            assert "SELECT " not in path.read_text(), path


def test_the_core_reads_no_clock():
    """Time is an argument before row 3."""
    for row in (0, 1, 2):
        for room in ROWS[row]:
            text = (PACKAGE / f"{room}.py").read_text()
            assert "import time" not in text
            assert ".now()" not in text.replace("clock.now()", "")


def test_files_are_small():
    """Past 400 lines a file owes a reason."""
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_every_module_has_its_tests():
    """Tests mirror modules, one to one; a folder's backends share a contract."""
    mirrored = {
        "stores": "test_stores.py",
        "presence": "test_presences.py",
        "backends": "test_presences.py",
        "metrics": "test_metrics.py",
        "api/events": "test_api_events.py",
        "api/totals": "test_api_totals.py",
        "api/connection": "test_connections.py",
        "api/door": "test_connections.py",
        "api/request": "test_api_events.py",
        "api/answer": "test_api_events.py",
        "api/dispatch": "test_api_events.py",
        "api/listener": "test_stop.py",
        "api/senders": "test_senders.py",
        "api/reading": "test_api_totals.py",
        "api/stream": "test_stream.py",
        "api/badge": "test_badge.py",
        "api/box": "test_box_page.py",
        "snippet_command": "test_snippet.py",
        "api/operations": "test_api_operations.py",
        "api/pages": "test_browser.py",
        "api/wire": "test_api_events.py",
        "api/http": "test_api_events.py",
        "api/routes": "test_api_events.py",
        "cli": "test_commands.py",
        "assets/build": "test_assets.py",
        "site_commands": "test_commands.py",
        "administration": "test_commands.py",
        "api/sites": "test_api_sites.py",
        "__main__": "test_commands.py",
        "announcements": "test_log.py",
        "errors": "test_config.py",
        "model": "test_rules.py",
        "ports": "test_stores.py",
        "collector": "test_api_events.py",
    }
    for path in FILES:
        name = str(path.relative_to(PACKAGE).with_suffix(""))
        known = mirrored.get(name) or mirrored.get(room_of(path)) or f"test_{name}.py"
        assert name.endswith("__init__") or (ROOT / "tests" / known).exists(), f"{name} has no {known}"
