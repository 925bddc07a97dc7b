import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from statsvc import board as board_module
from statsvc.board import Answers, Board
from statsvc.errors import StoreError
from statsvc.model import PageTotals, Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.tally import fold
from tests.facts import SITE, FakeClock, hit
from tests.test_stores import postgres


class Score:
    """Counts and asks, as ingest and the API do."""

    def __init__(self, store, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.presence = MemoryPresence(store)
        self.board = Board(store, self.presence)

    async def count(self, *hits) -> Answers:
        touched = await self.presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        async with self.board.between_commits:
            await self.store.commit(
                Batch(random.getrandbits(63), hits[-1].at.wall_ms, tally, touched.open_visits)
            )
            return await self.board.settle([SITE], tally, touched, self.clock.now())

    async def ask(self, *paths: str) -> dict[str, Any]:
        return orjson.loads(await self.board.answer(SITE, {path: path for path in paths}, self.clock.now()))


@pytest.fixture
def score(store, clock) -> Score:
    return Score(store, clock)


async def test_kept_totals_equal_those_read_again(score, clock):
    """After any commits, forgetting and reading the history changes no number."""
    for n in range(6):
        await score.count(hit(clock.advance(700), n % 2, f"/{n % 3}"))
        kept = await score.ask("/0", "/1", "/2", "/3")
        score.board.forget()
        assert await score.ask("/0", "/1", "/2", "/3") == kept
    assert kept["pageviews"]["total"] == 6
    assert sum(page["pageviews"] for page in kept["pages"].values()) == 6


async def test_what_other_nodes_count_is_followed(tmp_path, clock):
    """Whoever counts in which order, and whenever it is looked for: all boards show all of it, once."""
    async with AsyncExitStack() as stack:
        nodes = [Score((await stack.enter_async_context(postgres(tmp_path))).store, clock) for _ in range(2)]
        chance = random.Random(1)

        async def follow(score: Score) -> None:
            if await score.store.changed():
                await score.board.follow([SITE], clock.now())

        for node in nodes:
            await follow(node)
        for number in range(40):
            counting, asking = chance.choice(nodes), chance.choice(nodes)
            await asyncio.gather(
                counting.count(hit(clock.advance(1), number, chance.choice(("/a", "/b")))),
                follow(counting),
                asking.ask("/a", "/b"),
                follow(asking),
            )
        for node in nodes:
            await follow(node)
        shown = [await node.ask("/a", "/b") for node in nodes]
        assert [of["pageviews"]["total"] for of in shown] == [40, 40]
        assert [sum(page["pageviews"] for page in of["pages"].values()) for of in shown] == [40, 40]
        assert all(of["visits"]["total"] == of["visitors"]["today"] == 40 for of in shown)


async def test_pages_that_cannot_be_read_leave_the_sites_numbers(score, clock):
    """A sender is told what is known, and no page rather than a wrong one."""
    await score.count(hit(clock.now(), 1, "/a"))

    async def gone(_: object) -> None:
        raise StoreError("connection refused")

    score.store.pages = gone
    answers = await score.count(hit(clock.now(), 2, "/b"))
    told = orjson.loads(answers.to(SITE, "/b"))
    assert told["pageviews"]["total"] == 2
    assert "pages" not in told


async def test_an_answer_is_what_is_asked_for_afterwards(score, clock):
    """What a sender is told is what anyone is told."""
    answers = await score.count(hit(clock.now(), 1, "/a"), hit(clock.now(), 2, "/b"))
    assert orjson.loads(answers.to(SITE, "/a")) == await score.ask("/a")
    assert orjson.loads(answers.to(SITE, "/b")) == await score.ask("/b")


async def test_what_is_forgotten_while_others_are_read_is_told_all_the_same(score, clock):
    """A commit that fails meanwhile lets go of all totals: who asks for all sites gets each of them."""
    await score.count(hit(clock.now()))
    other = Site(id=2, domain="other.vn")
    asking = asyncio.create_task(anext(score.board.of_all([SITE, other], clock.now())))
    await asyncio.sleep(0)
    score.board.forget()
    assert (await asking)["pageviews"]["total"] == 1


async def test_reading_while_a_commit_runs_counts_it_once(score, clock):
    """History that is first read during a commit has it, and it is not added again."""
    now = clock.now()
    touched = await score.presence.touch([hit(now)])
    tally = fold([hit(now)], touched.touches, touched.peaks)
    async with score.board.between_commits:
        await score.store.commit(Batch(1, now.wall_ms, tally, touched.open_visits))
        asking = asyncio.create_task(score.ask("/"))
        await asyncio.sleep(0)
        await score.board.settle([SITE], tally, touched, now)
    assert (await asking)["pageviews"]["total"] == 1
    assert (await score.ask("/"))["pages"]["/"]["pageviews"] == 1


async def test_pages_held_are_bounded_and_never_wrong(score, clock, monkeypatch):
    """More pages than are held are read again: no page is ever shown a 0 it has not."""
    monkeypatch.setattr(board_module, "PAGES_HELD", 3)
    for n in range(10):
        answers = await score.count(*(hit(clock.now(), n, f"/{page}") for page in range(6)))
        assert orjson.loads(answers.to(SITE, "/5"))["pages"]["/5"]["pageviews"] == n + 1
    pages = (await score.ask(*(f"/{page}" for page in range(6))))["pages"]
    assert {page["pageviews"] for page in pages.values()} == {10}
    assert len(score.board._pages) <= 3


async def test_a_page_never_seen_is_zero(score):
    """Zero is told where it is so."""
    assert await score.store.pages([(1, "/x")]) == {}
    assert (await score.ask("/x"))["pages"]["/x"] == {**PageTotals(0, 0)._asdict(), "current": 0}
