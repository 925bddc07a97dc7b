import asyncio
import gzip

import orjson
import pytest

from statsvc.api import request
from statsvc.api.answer import Answer, encode_headers
from tests.process import CHROME

EVENT = {"n": "pageview", "u": "https://hue.gov.vn/tin-tuc/1?utm=x#y", "d": "hue.gov.vn"}


async def test_an_event_is_answered_with_the_totals_and_its_own_page(app):
    """One request records and fills the box."""
    answer = await app.event(**EVENT)
    assert answer == {
        "site": "hue.gov.vn",
        "as_of": "2026-11-23T05:00:00Z",
        "current": {
            "visitors": 1,
            "window_seconds": 300,
            "peak": {"visitors": 1, "at": "2026-11-23T05:00:00Z"},
            "peak_today": {"visitors": 1, "at": "2026-11-23T05:00:00Z"},
        },
        "visits": {
            "total": 1,
            "today": 1,
            "yesterday": 0,
            "this_week": 1,
            "last_week": 0,
            "this_month": 1,
            "last_month": 0,
            "this_year": 1,
        },
        "pageviews": {
            "total": 1,
            "today": 1,
            "yesterday": 0,
            "this_week": 1,
            "last_week": 0,
            "this_month": 1,
            "last_month": 0,
            "this_year": 1,
        },
        "visitors": {"today": 1, "yesterday": 0},
        "engagement_seconds": 120,
        "pages": {"/tin-tuc/1": {"visits": 1, "pageviews": 1, "current": 1}},
    }


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "text/plain;charset=UTF-8"])
@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        {
            "name": "pageview",
            "url": "https://hue.gov.vn/",
            "domain": "hue.gov.vn",
            "referrer": None,
            "props": {},
        },
        {"n": "pageview", "u": "https://www.hue.gov.vn/", "d": "www.hue.gov.vn", "p": '{"a":"b"}', "v": 24},
        {"n": "pageview", "u": "https://tin.hue.gov.vn/"},
        {"n": 404, "u": "https://hue.gov.vn/", "d": " hue.gov.vn "},
        {"n": 404.0, "u": "https://hue.gov.vn/"},
    ],
)
async def test_the_standards_spellings_are_understood(app, event, content_type):
    """Short and long names, text/plain and JSON, with and without the domain."""
    async with app.session.post(
        f"{app.public}/api/event",
        data=orjson.dumps(event),
        headers={"Content-Type": content_type, "User-Agent": CHROME},
    ) as response:
        assert response.status == 202
        assert "X-Statsvc-Dropped" not in response.headers


async def test_an_event_for_several_sites_counts_for_each(start):
    """Sites are named with commas between; one that is not registered is said."""
    async with start(sites="a.vn,b.vn") as app:
        async with app.session.post(
            f"{app.public}/api/event",
            json={"n": "pageview", "u": "https://a.vn/", "d": "a.vn,b.vn,c.vn,a.vn,c.vn"},
            headers={"User-Agent": CHROME},
        ) as response:
            assert response.status == 202
            assert response.headers["X-Statsvc-Dropped"] == "unknown_site, hostname"
            assert response.headers["X-Plausible-Dropped"] == "2"
            assert (await response.json())["site"] == "a.vn"
        assert (await app.totals("a.vn"))["pageviews"]["total"] == 1
        assert (await app.totals("b.vn"))["pageviews"]["total"] == 0


async def test_a_bot_is_dropped_from_the_human_numbers_and_told_the_totals(app):
    """202 with the reason; the totals are the people's."""
    async with app.session.post(
        f"{app.public}/api/event", json=EVENT, headers={"User-Agent": "curl/8"}
    ) as response:
        assert response.status == 202
        assert response.headers["X-Statsvc-Dropped"] == "bot"
        assert (await response.json())["pageviews"]["total"] == 0


async def test_another_hosts_page_is_dropped_and_told_the_totals(app):
    """A copied snippet on another host counts for nobody."""
    async with app.session.post(
        f"{app.public}/api/event", json=EVENT | {"u": "https://evil.test/"}, headers={"User-Agent": CHROME}
    ) as response:
        assert response.status == 202
        assert response.headers["X-Statsvc-Dropped"] == "hostname"
        assert (await response.json())["pageviews"]["total"] == 0


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b"[1]", ["body"]),
        (b"\xff\xfe", ["body"]),
        (b"null", ["body"]),
        (b"[" * 16_000, ["body"]),
        (b"{}", ["name", "url"]),
        (b'{"n":"","u":""}', ["name", "url"]),
        (b'{"n":[],"u":5,"d":{}}', ["name", "url", "domain"]),
        (b'{"n":"","u":"https://hue.gov.vn/","b":[]}', ["bot", "name"]),
        (b'{"n":"pageview","u":"hue.gov.vn"}', ["url"]),
        (b'{"n":"pageview","u":"https://' + b"x" * 2000 + b'"}', ["url"]),
        (b'{"n":"' + b"x" * 121 + b'","u":"https://hue.gov.vn/"}', ["name"]),
        (b'{"n":' + b"9" * 5000 + b',"u":"https://hue.gov.vn/"}', ["name"]),
        (b'{"n":1e400,"u":"https://hue.gov.vn/"}', ["name"]),
        (b'{"n":"a","u":"https://hue.gov.vn/","p":[1]}', ["props"]),
        (b'{"n":5.5,"u":"http://localhost/\xff"}', ["name", "url"]),
        (b'{"n":5.5,"\xff":1}', ["body"]),
        (b'{"n":"a","u":"https://hue.gov.vn/","d":"' + b"a.vn," * 21 + b'"}', ["domain"]),
    ],
)
async def test_bad_events_are_told_every_bad_field(app, body, fields):
    """400 says which fields are wrong and what was expected; nothing is recorded."""
    async with app.session.post(
        f"{app.public}/api/event", data=body, headers={"User-Agent": CHROME}
    ) as response:
        answer = await response.json()
        assert response.status == 400, answer
        assert list(answer["errors"]) == fields
        assert all(answer["errors"].values())
        assert answer["error"].startswith(f"{fields[0]}: ")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert (await app.totals())["pageviews"]["total"] == 0


async def test_an_unknown_site_is_404(app):
    """The sentence names what was asked for."""
    answer = await app.event(n="pageview", u="https://x.vn/", d="x.vn", status=404)
    assert "x.vn" in answer["error"]


async def test_a_large_body_is_413(app):
    """More than 16 KiB is not read."""
    async with app.session.post(f"{app.public}/api/event", data=b" " * 16_385) as response:
        assert response.status == 413
        assert "16,384" in (await response.json())["error"]


@pytest.mark.parametrize("path", ["/api/event", "/api/totals", "/hit.gif", "/counter.js"])
async def test_preflights_are_answered_for_any_origin(app, path):
    """A browser that asks first is allowed to send."""
    headers = {
        "Origin": "https://portal.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with app.session.options(f"{app.public}{path}", headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]
        assert int(response.headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/api/event", 405), ("PUT", "/hit.gif", 405)],
)
async def test_errors_carry_cors_and_a_sentence(app, method, path, status):
    """A browser hides an error without CORS headers from the page."""
    async with app.session.request(method, f"{app.public}{path}") as response:
        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert (await response.json())["error"]


async def test_the_pixel_records_a_page_without_scripts(app):
    """A GIF of 43 bytes, never cached; one pageview."""
    async with app.session.get(
        f"{app.public}/hit.gif",
        params={"d": "hue.gov.vn", "u": "https://hue.gov.vn/a"},
        headers={"User-Agent": CHROME},
    ) as response:
        body = await response.read()
        assert (response.status, response.content_type) == (200, "image/gif")
        assert (len(body), body[:6]) == (43, b"GIF89a")
        assert "no-store" in response.headers["Cache-Control"]
    assert (await app.totals("hue.gov.vn", "/a"))["pages"]["/a"]["pageviews"] == 1


async def test_looking_at_the_pixel_is_not_seeing_the_page(app):
    """HEAD records nothing; a pixel without a page says what is missing."""
    async with app.session.head(f"{app.public}/hit.gif?d=hue.gov.vn&u=https://hue.gov.vn/") as response:
        assert response.status == 405
    async with app.session.get(f"{app.public}/hit.gif", params={"d": "hue.gov.vn"}) as response:
        assert response.status == 400
        assert (await response.json())["errors"] == {"url": ["is required"]}
    assert (await app.totals())["pageviews"]["total"] == 0


async def test_visits_across_midnight(app, clock):
    """One visit and one current visitor over midnight, a visitor of both days, pageviews where they lie."""
    clock.advance(11 * 3600 + 59 * 60)
    await app.view("/")
    clock.advance(120)
    totals = await app.view("/")
    assert totals["current"]["visitors"] == 1
    assert (totals["visits"]["total"], totals["visits"]["today"], totals["visits"]["yesterday"]) == (1, 0, 1)
    assert (totals["pageviews"]["today"], totals["pageviews"]["yesterday"]) == (1, 1)
    assert totals["visitors"] == {"today": 1, "yesterday": 1}


async def test_many_at_once_are_all_counted(app):
    """Concurrent events gather in batches; each is counted once."""
    answers = await asyncio.gather(*(app.view(f"/{n % 7}", visitor=n % 50) for n in range(300)))
    totals = await app.totals()
    assert totals["pageviews"]["total"] == 300
    assert totals["visits"]["total"] == totals["visitors"]["today"] == totals["current"]["visitors"] == 50
    assert max(answer["pageviews"]["total"] for answer in answers) == 300
    assert totals["current"]["peak"]["visitors"] == 50


async def test_a_restart_changes_no_number(start, clock):
    """Totals, current visitors, open visits, today's visitors and peaks outlive the process."""
    async with start() as app:
        for visitor in range(5):
            await app.view("/a", visitor)
        before = await app.totals("hue.gov.vn", "/a")
    async with start() as app:
        assert await app.totals("hue.gov.vn", "/a") == before
        after = await app.view("/a", 3)
    assert after["visits"] == before["visits"]
    assert after["visitors"] == before["visitors"]
    assert after["pageviews"]["total"] == 6


async def test_a_trusted_proxy_tells_the_visitor(start):
    """Behind a proxy that is trusted, X-Forwarded-For tells visitors apart; else everyone is the proxy."""

    async def visitors(app) -> int:
        for client in ("203.0.113.1", "203.0.113.2"):
            async with app.session.post(
                f"{app.public}/api/event",
                json=EVENT,
                headers={"User-Agent": CHROME, "X-Forwarded-For": client},
            ) as response:
                assert response.status == 202
        return (await app.totals())["current"]["visitors"]

    async with start() as app:
        assert await visitors(app) == 1
    async with start(trusted_proxy="127.0.0.0/8,10.0.0.0/8") as app:
        assert await visitors(app) == 3


async def test_an_empty_short_name_gives_way_to_the_long_one(app):
    """For each field alike."""
    await app.event(n="", name="pageview", u="", url="https://hue.gov.vn/", d="", domain="hue.gov.vn")
    assert (await app.totals())["pageviews"]["total"] == 1


async def test_control_characters_in_a_name_are_replaced(app, store):
    """Every store can keep the name: PostgreSQL has no text with a zero in it, and one such event would be
    the end of all in its batch."""
    await app.event(**EVENT | {"n": "down\u0000load\n"})
    assert await store.names(1, "2026-11-23") == {"down\ufffdload"}


async def test_a_compressed_body_is_not_unpacked(app):
    """A bomb costs nothing: it is no JSON."""
    bomb = gzip.compress(b"a" * 10_000_000)
    headers = {"User-Agent": CHROME, "Content-Encoding": "gzip"}
    async with app.session.post(f"{app.public}/api/event", data=bomb, headers=headers) as response:
        assert response.status == 400
        assert list((await response.json())["errors"]) == ["body"]


async def test_a_body_that_does_not_come_is_not_waited_for(app, monkeypatch):
    """408 with the time that was given, and the connection is closed."""
    monkeypatch.setattr(request, "BODY_SECONDS", 0.05)
    host, _, port = app.public.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/event HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 0.05 seconds" in answer
    writer.close()


async def test_a_reader_who_leaves_is_no_fault(app, capsys):
    """On a phone that loses its network: no log line, no error in the metrics."""
    host, _, port = app.public.removeprefix("http://").rpartition(":")
    for _ in range(5):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'POST /api/event HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"n"')
        await writer.drain()
        writer.transport.abort()
    await app.view("/")
    async with app.session.get(f"{app.operations}/metrics") as response:
        metrics = await response.text()
    assert "statsvc_faults_total 0.0" in metrics
    assert 'status="500"' not in metrics
    out = capsys.readouterr()
    assert "fault" not in out.out + out.err


@pytest.mark.parametrize("header", ["Host", "Authorization", "User-Agent", "If-None-Match"])
@pytest.mark.parametrize("path", ["/", "/api/totals?site=hue.gov.vn", "/counter.js"])
async def test_headers_that_are_no_text_are_no_fault(app, path, header):
    """Bytes that are no UTF-8 get an answer that is none of ours to blame."""
    host, _, port = app.public.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    hosts = b"" if header == "Host" else b"Host: x\r\n"
    writer.write(
        b"GET %s HTTP/1.1\r\n%s%s: Bearer \xff\r\nConnection: close\r\n\r\n"
        % (path.encode(), hosts, header.encode())
    )
    assert (await reader.read()).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 304 "))
    writer.close()


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_no_value_of_a_header_begins_another(bad):
    """An answer whose header has a line break in it is not written."""
    with pytest.raises(ValueError, match="X-Told"):
        Answer(200, b"", {"X-Told": bad}).encode(encode_headers({}))
