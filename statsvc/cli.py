"""The command line."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from statsvc import __version__, care_commands, demo_command, move_command, site_commands, snippet_command
from statsvc.config import SETTINGS, add_options, load_settings
from statsvc.errors import StatsvcError
from statsvc.log import configure
from statsvc.service import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did its work, 1 when it could not, 2 when it was not understood."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # where it can't have every letter, or a file's name is none
    # Stores and backups are for their user alone: a store has the secrets that ids are made with.
    os.umask(0o077)
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        status = int(given.run(given) or 0)
        sys.stdout.flush()
    except StatsvcError as exc:
        print(f"statsvc: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who reads has read enough. What is left must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="statsvc", description="A visitor counter for portals.")
    parser.add_argument("--version", action="version", version=f"statsvc {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("serve", help="run the service", description="Run the service.")
    add_options(command, SETTINGS)
    command.set_defaults(run=_serve)

    site_commands.add_to(commands)
    site_commands.add_token_to(commands)
    snippet_command.add_to(commands)
    care_commands.add_to(commands)
    move_command.add_to(commands)
    demo_command.add_to(commands)

    command = commands.add_parser("version", help="print the version")
    command.set_defaults(run=lambda _: print(f"statsvc {__version__}"))
    return parser


def _serve(given: argparse.Namespace) -> None:
    settings = load_settings(vars(given), os.environ)
    configure()
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(serve(settings))
