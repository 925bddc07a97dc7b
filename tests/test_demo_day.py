import random
from collections import Counter
from itertools import pairwise

import pytest

from statsvc.bots import is_bot
from statsvc.demo_day import BOTS_USER_AGENTS, HOURS, SPIKE_PATH, Day, Spike, busy, hour_at, plan, user_agent

DAY = Day(("a.example", "b.example", "c.example"), seconds=720.0, speed=120.0, events_per_second=40.0)


@pytest.fixture(scope="module")
def played():
    return list(plan(DAY, random.Random(1)))


def test_a_number_is_a_browser_of_its_own():
    """A hundred thousand visitors are as many User-Agents, and none looks like a bot."""
    browsers = {user_agent(number) for number in range(100_000)}
    assert len(browsers) == 100_000
    assert not any(map(is_bot, random.Random(1).sample(sorted(browsers), 2000)))


def test_bots_are_known_as_bots():
    """The demo's bots are counted apart."""
    assert all(map(is_bot, BOTS_USER_AGENTS))


def test_the_curve_has_a_night_and_a_morning():
    """Quiet at four, busiest at nine, and nothing jumps."""
    assert busy(3) < 0.1 < busy(9) == max(map(busy, range(24)))
    assert busy(23.999) == pytest.approx(HOURS[0], abs=0.01)
    assert all(abs(busy(tenth / 10) - busy(tenth / 10 + 0.1)) < 0.04 for tenth in range(240))


def test_a_day_is_pressed_into_the_play():
    """It begins in the morning, and twelve minutes at 120 are a day."""
    assert hour_at(DAY, 0) == 6
    assert hour_at(DAY, 360) == 18
    assert hour_at(DAY, 720) == 6


def test_the_same_chance_is_the_same_day(played):
    """A play can be repeated."""
    assert played == list(plan(DAY, random.Random(1)))
    assert played != list(plan(DAY, random.Random(2)))


def test_events_come_in_order_and_within_the_play(played):
    """Nothing is sent before its time, and nothing after the end."""
    assert all(one.at <= other.at for one, other in pairwise(played))
    assert played[0].at >= 0
    assert played[-1].at < DAY.seconds


def test_the_rate_follows_the_curve_and_keeps_to_its_bound(played):
    """As many events as asked for in the busiest hours, few at night."""
    per_minute = Counter(int(event.at // 60) for event in played)
    busiest = max(per_minute.values()) / 60
    assert 0.75 * DAY.events_per_second < busiest < 1.3 * DAY.events_per_second
    by_night = per_minute[10] / 60  # two to four in the night
    assert by_night < 0.4 * busiest


def test_sites_differ_in_size(played):
    """Each has about half as many readers as the one before."""
    sizes = Counter(event.site for event in played if not is_bot(event.user_agent))
    assert sizes["a.example"] == pytest.approx(2 * sizes["b.example"], rel=0.2)
    assert sizes["b.example"] == pytest.approx(2 * sizes["c.example"], rel=0.2)


def test_there_is_what_there_is_on_a_portal(played):
    """People and bots, pageviews and engagement, visitors of one page and of many, and some who come back."""
    people = [event for event in played if not is_bot(event.user_agent)]
    assert 0.05 < 1 - len(people) / len(played) < 0.3
    assert {event.name for event in people} == {"pageview", "engagement"}
    views = Counter(event.user_agent for event in people if event.name == "pageview")
    assert min(views.values()) == 1
    assert max(views.values()) > 8
    seen = Counter[str]()
    last: dict[str, float] = {}
    for event in people:
        seen[event.user_agent] += event.at - last.get(event.user_agent, event.at) > 120
        last[event.user_agent] = event.at
    assert sum(seen.values()) > 100


def test_a_spike_is_of_the_first_site_for_a_while():
    """So many times the readers, most of them of one page, and then as before."""
    spike = Spike(begins=200.0, ends=380.0, factor=8.0)
    played = list(plan(DAY._replace(spike=spike), random.Random(1)))
    first = Counter(int(event.at // 20) for event in played if event.site == "a.example")
    other = Counter(int(event.at // 20) for event in played if event.site == "b.example")
    assert first[16] > 4 * first[8]
    assert first[23] < first[16] / 3
    assert other[16] < 2 * other[8]
    read = Counter(event.path for event in played if 260 < event.at < 380 and event.site == "a.example")
    assert read.most_common(1)[0][0] == SPIKE_PATH
