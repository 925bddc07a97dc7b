"""Three nodes behind nginx are restarted one after the other, under load."""

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

from tests.load import Books, Ledger, Outcome, loading, pageviews
from tests.nodes import Nginx, kept_ports
from tests.process import UNLIMITED, Service

SITE = "hue.gov.vn"
PEOPLE = range(200)
NODES = ("a", "b", "c")


def node(folder: Path, name: str, public: str) -> Service:
    options = ("--site", SITE, "--listen", public, "--trusted-proxy", "127.0.0.1", *UNLIMITED)
    return Service(folder / f"{name}.db", *options, "--drain-seconds", "1")


async def test_a_rolling_restart_of_three_nodes_costs_no_event(tmp_path: Path) -> None:
    """Each event sent meanwhile is acknowledged, and counted once; none is refused, by nginx neither."""
    ledger = Ledger()
    with ExitStack() as stack:
        at = dict(zip(NODES, stack.enter_context(kept_ports(len(NODES))), strict=True))
        running = {name: stack.enter_context(node(tmp_path, name, at[name])) for name in NODES}
        nginx = stack.enter_context(Nginx(tmp_path, list(at.values())))
        async with loading(nginx.at, ledger) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run([SITE], PEOPLE, random.Random(1)))
            for name in NODES:
                await load.until_sent(100)
                assert await asyncio.to_thread(running[name].stop) == 0
                again = await asyncio.to_thread(node, tmp_path, name, at[name])
                running[name] = stack.enter_context(again)
            load.end()
        for service in running.values():
            service.process.terminate()
        for service in running.values():
            assert service.stop() == 0  # told a second time, so at once
    assert ledger.unreached == 0
    assert ledger.outcomes() == {Outcome.ACKNOWLEDGED: len(ledger.sent)}
    counts = [Books.read(tmp_path / f"{name}.db").pageviews for name in NODES]
    assert min(counts) > 0
    assert sum(counts) == pageviews(ledger.sent)
