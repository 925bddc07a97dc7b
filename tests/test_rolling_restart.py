"""Three nodes behind nginx are restarted one after the other, under load."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.fleet import Counted, Fleet
from tests.load import Ledger, Outcome, loading, visitors
from tests.nodes import Nginx
from tests.postgres import database_of, shared
from tests.process import eventually
from tests.redis_server import RedisServer

SITE = "hue.gov.vn"
PEOPLE = range(200)


async def test_a_rolling_restart_of_three_nodes_costs_no_event(tmp_path: Path) -> None:
    """Each event sent meanwhile is acknowledged, and counted once; none is refused, by nginx neither.

    People hop between nodes that come and go: each stays one visitor.
    """
    await _roll(tmp_path, [SITE], rounds=1)


@pytest.mark.torture
async def test_many_rolling_restarts_cost_no_event(tmp_path: Path) -> None:
    """As above, again and again; on many sites, as each has 10,000 paths a day."""
    await _roll(tmp_path, [f"site{number}.gov.vn" for number in range(40)], rounds=10)


async def _roll(tmp_path: Path, sites: list[str], rounds: int) -> None:
    ledger = Ledger()
    with (
        RedisServer() as redis,
        Fleet(tmp_path, database_of(tmp_path), redis.url, sites, "--drain-seconds", "1") as fleet,
        Nginx(tmp_path, fleet.publics) as nginx,
    ):
        async with loading(nginx.at, ledger) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run(sites, PEOPLE, random.Random(1)))
            for _ in range(rounds):
                for number, node in enumerate(fleet.nodes):
                    await load.until_sent(100)
                    assert await asyncio.to_thread(node.stop) == 0
                    await asyncio.to_thread(fleet.start, number)
                # nginx asks a node again a second or two after it has failed.
                await asyncio.to_thread(eventually, lambda: _all_serve(fleet))
            load.end()
        counted = Counted(shared(), fleet.store, sites)
        ledger.print_figures("rolling restarts of three nodes", rounds, counted.pageviews)
        assert ledger.unreached == 0
        assert ledger.outcomes() == {Outcome.ACKNOWLEDGED: len(ledger.sent)}
        counted.check(ledger)
        for site in sites:
            views = counted.sites[site]
            shown = await asyncio.to_thread(eventually, lambda: fleet.agree(site, views))  # noqa: B023
            assert shown["visitors"]["today"] == len(visitors(ledger.of(site)))


async def test_what_nginx_sends_again_for_a_killed_node_counts_once(tmp_path: Path) -> None:
    """Whether the node had committed it or not; an event that the next node can't decide on is answered 503."""
    ledger = Ledger()
    with (
        RedisServer() as redis,
        Fleet(tmp_path, database_of(tmp_path), redis.url, [SITE]) as fleet,
        Nginx(tmp_path, fleet.publics) as nginx,
    ):
        async with loading(nginx.at, ledger, ids=True) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run([SITE], PEOPLE, random.Random(1)))
            await load.until_sent(300)
            await asyncio.to_thread(fleet.nodes[0].kill)
            await load.until_sent(300)
            load.end()
        await asyncio.to_thread(fleet.start, 0)
        await asyncio.to_thread(eventually, lambda: fleet.waiting() == 0)
        Counted(shared(), fleet.store, [SITE]).check(ledger)
    assert ledger.unreached == 0
    assert {sent.status for sent in ledger.sent} <= {202, 503}


def _all_serve(fleet: Fleet) -> bool:
    return min(node.metric("statsvc_commit_batch_events_sum") for node in fleet.nodes) > 0
