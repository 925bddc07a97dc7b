"""The benchmark's model of a fleet, where it can be reckoned by hand."""

import pytest

from bench.model import Costs, Fleet, Line, simulate

COSTS = Costs(node=Line(100, 50), postgres=Line(400, 20), redis=Line(150, 10), sync_us=500, sender_us=0)


def test_a_line_goes_through_both_points():
    """What a call costs, and each event in it, from what an event costs in small and in large batches."""
    line = Line.through((2, 300.0), (100, 104.0))
    assert line.of(2) / 2 == pytest.approx(300)
    assert line.of(100) / 100 == pytest.approx(104)


def test_one_connection_waits_for_everything_in_turn():
    """An event by itself takes the sum of all steps, and so its rate is one over that."""
    outcome = simulate(Fleet([0], [1], [2], connections=1), COSTS)
    alone_us = 100 + 50 + 400 + 20 + 150 + 10 + 500
    assert outcome.events_in_batch == 1
    assert outcome.p50_ms == pytest.approx(alone_us / 1000)
    assert outcome.rate == pytest.approx(1e6 / alone_us, rel=0.01)


def test_nodes_on_cores_of_their_own_add_up_until_an_engine_is_full():
    """Two nodes do twice what one does; sixteen can do no more than PostgreSQL's core lets them."""
    one, two, many = (
        simulate(
            Fleet([*range(nodes)], [100], [101], connections=8 * nodes),
            Costs(Line(100, 500), Line(0, 50), Line(0, 5), sync_us=0, sender_us=0),
        )
        for nodes in (1, 2, 16)
    )
    assert two.rate == pytest.approx(2 * one.rate, rel=0.1)
    assert many.busy["postgres"] == pytest.approx(1, abs=0.02)
    assert many.rate == pytest.approx(1e6 / 50, rel=0.05)


def test_nodes_on_one_core_share_it():
    """Batches get smaller, and what each costs is paid more often."""
    one, two = (simulate(Fleet([0] * nodes, [0], [0], connections=64), COSTS) for nodes in (1, 2))
    assert two.events_in_batch < one.events_in_batch
    assert two.rate < one.rate
