"""`statsvc backup` and `statsvc check`. Both work beside a running service, and without one."""

import argparse
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

from statsvc.backends import audit, back_up
from statsvc.config import STORE, StoreUrl, add_options, load
from statsvc.progress import Progress

MOST_DIFFERENCES = 50
"""Shown; a file that has more is past reading them one by one."""


def add_to(commands: Any) -> None:
    """Add `backup` and `check` to the program's commands."""
    backup: argparse.ArgumentParser = commands.add_parser(
        "backup",
        help="copy the store to a new file, also while it is served",
        description="Copy the store to a new file, also while it is served. The file appears when the copy is"
        " whole, verified and durable. Secrets, visitors' ids and open visits are not in it: who comes back"
        " after a restore is a new visitor of that day, and all counts are what they were. PostgreSQL"
        " copies its databases itself: how is printed.",
    )
    backup.add_argument(
        "file", metavar="FILE", type=Path, help="the copy; a file that is there is not overwritten"
    )
    add_options(backup, (STORE,))
    backup.set_defaults(run=_backup)

    check: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="look whether the store is sound and its numbers add up",
        description="Look whether the store is sound, has this program's schema, and its numbers add up:"
        " totals are added again from the hours, the days and the pages. Changes nothing, and works while the"
        " store is served. Exit status 1 and a line for each difference where something is wrong.",
    )
    add_options(check, (STORE,))
    check.set_defaults(run=_check)


def _backup(given: argparse.Namespace) -> None:
    progress, began = Progress(), time.monotonic()
    try:
        copy = back_up(_store(given), given.file, progress)
    finally:
        progress.clear()
    seconds = time.monotonic() - began
    print(f"{given.file} is a whole copy: {copy.rows:,} rows, {copy.size_bytes:,} bytes, {seconds:.1f} s")


def _check(given: argparse.Namespace) -> int:
    store, progress = _store(given), Progress()
    different = 0
    try:
        for difference in islice(audit(store, progress), MOST_DIFFERENCES + 1):
            progress.clear()
            different += 1
            if different > MOST_DIFFERENCES:
                print("and more")
                break
            print(f"{difference.what}: expected {difference.expected}, found {difference.found}")
    finally:
        progress.clear()
    if not different:
        print(f"{store} is sound, and its numbers add up")
    return int(different > 0)


def _store(given: argparse.Namespace) -> StoreUrl:
    store: StoreUrl = load(vars(given), os.environ, (STORE,))["store"]
    return store
