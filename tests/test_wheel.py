"""The wheel: what it holds, and that the service runs from it alone."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.process import CHROME, Service

ROOT = Path(__file__).parent.parent
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    building = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run(building, check=True)
    (wheel,) = folder.glob("statsvc-*.whl")
    return wheel


def test_the_wheel_holds_all_of_the_package(wheel):
    """Modules, schema steps and what pages load; and nothing else."""
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "statsvc").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as held:
        names = {name for name in held.namelist() if ".dist-info/" not in name}
    assert names == package


def test_the_service_runs_from_the_wheel_alone(wheel, tmp_path):
    """In an empty environment, in another folder: it counts, and serves its script and its page."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", wheel], check=True)
    # What it depends on is taken from here, where `constraints.txt` was installed; statsvc itself is not.
    site_packages = Path(
        sysconfig.get_path(
            "purelib", "venv", {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
        )
    )
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = [python, "-c", "import statsvc; print(statsvc.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(site_packages)

    statsvc = (str(tmp_path / "venv" / "bin" / "statsvc"),)
    with Service(tmp_path / "stats.db", "--site", "hue.gov.vn", program=statsvc, cwd=tmp_path) as service:

        def ask(path: str, body: bytes | None = None) -> bytes:
            request = Request(f"http://{service.public}{path}", body, {"User-Agent": CHROME})
            with urlopen(request, timeout=5) as answer:
                return answer.read()

        event = b'{"n": "pageview", "u": "https://hue.gov.vn/", "d": "hue.gov.vn"}'
        assert json.loads(ask("/api/event", event))["pageviews"]["total"] == 1
        assert b"data-statsvc" in ask("/counter.js")
        assert b"hue.gov.vn" in ask("/")
        assert service.stop() == 0
