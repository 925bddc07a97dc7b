"""`python -m bench`: measure, print the table, write JSON, draw the charts."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench import rows_fleet, rows_http, rows_store
from bench.cores import LOAD_CORE, SERVER_CORE
from bench.figures import Figure, Report, noise, table
from bench.load import OWN, WRK, BenchError, best_generator
from bench.stage import Stage

HERE = Path(__file__).parent
ROWS: dict[str, Callable[[Stage], Iterator[Figure]]] = {
    "event": rows_http.event,
    "connect": rows_http.connect,
    "mix": rows_http.mix,
    "quiet": rows_http.quiet,
    "answers": rows_http.answers,
    "sites": rows_store.sites,
    "visitors": rows_store.visitors,
    "history": rows_store.history,
    "month": rows_store.month,
    "fleet": rows_fleet.fleet,
}
_GENERATORS = {WRK: "wrk", OWN: "our own generator"}


def main() -> int:
    """0 when every figure could be measured, whether or not it meets its goal."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short version of everything, as a smoke test")
    parser.add_argument("--only", choices=[*ROWS, "charts"], action="append", help="measure this alone")
    parser.add_argument(
        "--generator", choices=[WRK, OWN], default=best_generator(), help="what makes the load"
    )
    parser.add_argument("--json", type=Path, default=HERE / "last.json", help="write the figures here")
    parser.add_argument("--charts", type=Path, default=HERE.parent / "docs", help="draw the charts here")
    parser.add_argument("--folder", type=Path, help="keep stores here meanwhile: the disk that is measured")
    given = parser.parse_args()
    wanted = given.only or [*ROWS, "charts"]
    with TemporaryDirectory(dir=given.folder, prefix="statsvc-bench-") as folder:
        stage = Stage(Path(folder), given.generator, quick=given.quick)
        report = Report(
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            generator=given.generator,
            quick=given.quick,
            noise={},
            figures=[],
        )
        failed = False
        try:
            for name in (name for name in ROWS if name in wanted):
                _say(f"{name} …")
                report.figures.extend(ROWS[name](stage))
                report.noise[name] = noise(stage.spins)
                stage.spins.clear()
                given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
            if "charts" in wanted:
                from bench.charts import draw  # noqa: PLC0415 - matplotlib is slow to import

                _say("charts …")
                draw(stage, given.charts)
        except BenchError as exc:
            failed = True
            _say(f"failed: {exc}")
    if report.figures:
        print(_told(report))
    return int(failed)


def _told(report: Report) -> str:
    steady = ", ".join(f"{name} {share:.0%}" for name, share in report.noise.items())
    return (
        f"{report.began}, {report.machine}; load by {_GENERATORS[report.generator]}.\n"
        f"Noise, the most by which a fixed piece of computing differed within a row: {steady}.\n\n"
        f"{table(report)}"
    )


def _machine() -> str:
    where = (
        "server and load on one core" if SERVER_CORE == LOAD_CORE else "server on one core, load on another"
    )
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {where}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
