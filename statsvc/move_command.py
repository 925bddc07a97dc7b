"""`statsvc migrate-store`: from a file to a fleet's database."""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from statsvc.backends import move
from statsvc.config import StoreUrl, parse_store, without_password
from statsvc.progress import Progress


def add_to(commands: Any) -> None:
    """Add `migrate-store` to the program's commands."""
    command: argparse.ArgumentParser = commands.add_parser(
        "migrate-store",
        help="move a store from SQLite to PostgreSQL",
        description="Move a store from SQLite to PostgreSQL: sites, all counts, baselines and tokens, also"
        " undone and revoked ones, open visits, secrets and visitors' ids. Works beside the running service;"
        " then run it again when the service is stopped: it copies what has changed, adds up every figure on"
        " both sides, and lets nodes count there. A move that was interrupted goes on where it was. The file"
        " stays as it is.",
    )
    command.add_argument(
        "--from", dest="source", metavar="URL", type=_store, required=True, help="sqlite:///PATH"
    )
    command.add_argument(
        "--to",
        metavar="URL",
        type=_store,
        required=True,
        help="postgresql://USER@HOST/DATABASE, with no store yet",
    )
    command.set_defaults(run=lambda given: asyncio.run(_move(given.source, given.to)))


async def _move(source: StoreUrl, to: StoreUrl) -> None:
    progress, began = Progress(), time.monotonic()
    try:
        moved = await move(source, to, progress)
    finally:
        progress.clear()
    print(
        f"{moved.rows:,} rows, {moved.copied:,} of them copied now, in {time.monotonic() - began:.1f} s;"
        " every figure adds up to the same on both sides"
    )
    if moved.finished:
        print(f"{to} is the store now: start the nodes with it, and never again a service with {source}")
    else:
        print(f"{source} is being served: stop the service and run this again, for what it has counted since")


def _store(text: str) -> StoreUrl:
    try:
        store = parse_store(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}, got {without_password(text)!r}") from None
    return store.resolve() if isinstance(store, Path) else store  # however it is named, it is one file
