import pytest

from tests.process import CHROME

EVENT = {"n": "pageview", "u": "https://hue.gov.vn/", "d": "hue.gov.vn"}


async def metric(app, name: str) -> float:
    async with app.session.get(f"{app.operations}/metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if line.startswith(name + " ")]
    return float(lines[0].split()[-1])


async def send(app, **headers: str) -> tuple[int, str, str]:
    """The status, why the event was dropped, and when to come back."""
    headers = {"User-Agent": CHROME, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with app.session.post(f"{app.public}/api/event", json=EVENT, headers=headers) as response:
        answer = response.headers
        return response.status, answer.get("X-Statsvc-Dropped", ""), answer.get("Retry-After", "")


async def test_a_caller_is_told_whom_the_service_takes_it_for(start):
    """The address that its events have, and why: an operator opens it through the proxy."""
    async with start(trusted_proxy="127.0.0.1") as app:
        headers = {"X-Forwarded-For": "2001:db8:1:2:3::4"}
        async with app.session.get(f"{app.public}/api/address", headers=headers) as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert await response.json() == {
                "address": "2001:db8:1:2:3::4",
                "visitor": "2001:db8:1:2::",
                "why": "X-Forwarded-For has it, and trusted proxies wrote it: 1",
            }


async def test_both_headers_tell_visitors_apart(start):
    """Behind a trusted proxy, whichever of the two it writes."""
    async with start(trusted_proxy="127.0.0.1") as app:
        for n in range(3):
            await send(app, X_Forwarded_For=f"203.0.113.{n}")
            await send(app, Forwarded=f"for=203.0.113.{n}")
        assert (await app.totals())["visitors"]["today"] == 3


async def test_no_header_gets_a_client_past_the_limits(start):
    """One that contradicts what its trusted proxy wrote makes it the proxy, and the proxy one sender."""
    async with start(trusted_proxy="127.0.0.1", network_limit="0.001/s,3") as app:
        for forged in ({}, {"Forwarded": "for=198.51.100.1"}, {"Forwarded": "nonsense"}, {"Forwarded": ""}):
            for n in range(5):
                await send(app, X_Forwarded_For="203.0.113.1", User_Agent=f"{CHROME} {n}", **forged)
        # Three as itself, and three as the proxy.
        assert (await app.totals())["pageviews"]["total"] == 6
        assert await metric(app, "statsvc_proxy_not_trusted_events_total") == 0


async def test_an_undeclared_proxy_is_made_visible(app, capsys):
    """A metric for each event and one log line, without an address."""
    for n in range(3):
        await send(app, X_Forwarded_For=f"203.0.113.{n}")
    await send(app)
    assert (await app.totals())["visitors"]["today"] == 1
    assert await metric(app, "statsvc_proxy_not_trusted_events_total") == 3
    log = "".join(capsys.readouterr())
    assert log.count("--trusted-proxy") == 1
    assert "203.0.113" not in log


@pytest.mark.parametrize(
    ("headers", "reason", "bots"),
    [
        ({"User_Agent": "curl/8"}, "bot", 1),
        ({"User_Agent": ""}, "headers", 1),
        ({"Sec_Fetch_Site": "cross-site"}, "headers", 1),
        ({"Sec_Purpose": "prefetch;prerender"}, "prefetch", 0),
        ({"Purpose": "prefetch"}, "prefetch", 0),
        ({"X_Purpose": "preview"}, "prefetch", 0),
        ({"X_Moz": "prefetch"}, "prefetch", 0),
        ({"Sec_Fetch_Site": "cross-site", "Accept_Language": "vi"}, "", 0),
        ({}, "", 0),
    ],
)
async def test_headers_that_no_reader_sends_are_dropped_for_their_reason(app, headers, reason, bots):
    """202 with the reason; bots are counted apart, what nobody saw is not counted at all."""
    assert await send(app, **headers) == (202, reason, "")
    assert (await app.totals())["pageviews"]["total"] == (not reason)
    async with app.session.get(f"{app.operations}/metrics") as response:
        metrics = await response.text()
    assert ('audience="bot"' in metrics) == bool(bots)
    assert (f'dropped_total{{reason="{reason}",site="hue.gov.vn"}} 1\n' in metrics) == bool(reason)


@pytest.mark.parametrize("flag", [{"b": 153}, {"b": True}, {"bot": 1}, {"b": "1"}])
async def test_a_browser_that_a_program_drives_is_a_bot(app, flag):
    """The tracker says so; a flag that says no changes nothing."""
    for no in ({"b": 0}, {"b": False}, {"b": "false"}, {"b": None}):
        await app.event(**EVENT, **no)
    assert (await app.totals())["pageviews"]["total"] == 4
    await app.event(**EVENT, **flag)
    assert (await app.totals())["pageviews"]["total"] == 4


async def test_more_events_than_a_visitor_may_send_are_refused(start, clock):
    """429 with the time to come back, in a metric by site and limit; and then they are taken again."""
    async with start(trusted_proxy="127.0.0.1", visitor_limit="1/s,3", network_limit="2/s,5") as app:
        answers = [await send(app, X_Forwarded_For="203.0.113.7") for _ in range(4)]
        assert answers == [(202, "", "")] * 3 + [(429, "", "1")]
        others = [await send(app, X_Forwarded_For="203.0.113.7", User_Agent=f"{CHROME} {n}") for n in "abc"]
        assert others == [(202, "", "")] * 2 + [(429, "", "1")]
        assert await metric(app, 'statsvc_events_limited_total{limit="visitor",site="hue.gov.vn"}') == 1
        assert await metric(app, 'statsvc_events_limited_total{limit="network",site="hue.gov.vn"}') == 1
        assert await metric(app, 'statsvc_requests_rejected_total{status="429"}') == 2
        clock.advance(1)
        assert await send(app, X_Forwarded_For="203.0.113.7") == (202, "", "")
        assert (await app.totals())["pageviews"]["total"] == 6
