"""Writes the dashboards; `python -m grafana.build` runs it.

They are provisioned from `grafana/dashboards`; a test holds that they are what this makes.
"""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import service, visitors

FOLDER = Path(__file__).parent / "dashboards"


def text(made: Dashboard) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def dashboards() -> dict[str, str]:
    """The text of each file."""
    return {"visitors.json": text(visitors.build()), "service.json": text(service.build())}


if __name__ == "__main__":
    for name, content in dashboards().items():
        (FOLDER / name).write_text(content)
