import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from statsvc.administration import Administration, NewToken
from statsvc.model import Scope
from statsvc.stores.sqlite import Database, SqliteRegistry
from tests.conftest import App
from tests.facts import NOON_MS


class Operator(NamedTuple):
    """Calls /api/sites with a token of its own."""

    app: App
    token: str

    async def call(
        self, method: str, path: str = "", *, status: int = 200, body: Any = None, **headers: str
    ) -> Any:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.app.operations}/api/sites{path}"
        async with self.app.session.request(method, url, json=body, headers=sent | headers) as response:
            answer = await response.json() if response.status != 204 else None
            assert response.status == status, answer
            assert "Access-Control-Allow-Origin" not in response.headers
            return answer


@pytest.fixture
async def administration(tmp_path: Path, app: App):
    """Of the running service's store, as a command beside it has it."""
    database = await Database.open(tmp_path / "stats.db", serving=False)
    yield Administration(SqliteRegistry(database))
    await database.close()


async def made(administration: Administration, scope: Scope, domain: str = "") -> NewToken:
    site = await administration.site(domain) if domain else None
    return await administration.make_token(site, scope, "", NOON_MS)


@pytest.fixture
async def operator(app: App, administration: Administration) -> Operator:
    return Operator(app, (await made(administration, Scope.ADMIN)).text)


async def test_a_site_lives_from_its_registration_to_its_removal(app, operator):
    """Each change is in the service's next answer, and the site's counts outlive it."""
    added = await operator.call(
        "POST", status=201, body={"domain": "Da-Nang.gov.vn", "time_zone": "Asia/Ho_Chi_Minh"}
    )
    assert (added["domain"], added["public"], added["window_seconds"]) == ("da-nang.gov.vn", True, 300)
    await app.view("/", site="da-nang.gov.vn")
    body = {"aliases": ["danang.vn"], "window_seconds": 600, "repeat_seconds": 5}
    changed = await operator.call("PATCH", "/da-nang.gov.vn", body=body)
    assert changed | body == changed
    assert changed["time_zone"] == "Asia/Ho_Chi_Minh"
    totals = await app.totals("danang.vn")
    assert (totals["site"], totals["current"]["window_seconds"]) == ("da-nang.gov.vn", 600)
    assert [site["domain"] for site in await operator.call("GET")] == ["da-nang.gov.vn", "hue.gov.vn"]
    await operator.call("DELETE", "/da-nang.gov.vn", status=204)
    await operator.call("GET", "/da-nang.gov.vn", status=404)
    again = await operator.call("POST", status=201, body={"domain": "da-nang.gov.vn"})
    assert (again["window_seconds"], again["total"]) == (600, {"visits": 1, "pageviews": 1})


async def test_a_baseline_is_set_corrected_and_undone_with_its_history(app, operator):
    """The reason is kept with the number of the token; a total never becomes negative."""
    await app.view("/")
    path = "/hue.gov.vn/baselines"
    await operator.call(
        "POST", path, status=201, body={"visits": 100, "pageviews": 300, "reason": "old counter"}
    )
    assert (await app.totals())["visits"]["total"] == 101
    await operator.call("POST", path, status=201, body={"visits": -1, "reason": "an attack"})
    assert (await app.totals())["visits"]["total"] == 0
    refused = await operator.call("POST", path, status=400, body={"visits": -2, "reason": "too much"})
    assert "-1 is the least" in refused["errors"]["visits"][0]
    shown = await operator.call("DELETE", path + "/latest", body={"reason": "it was none"})
    assert (await app.totals())["visits"]["total"] == 101
    told = [(entry["visits"], entry["reason"], entry["undone_reason"]) for entry in shown["baselines"]]
    assert told == [
        (-1, "an attack (token 1)", "it was none (token 1)"),
        (100, "old counter (token 1)", None),
    ]
    assert shown["counts"]["people"] == {"visits": 1, "pageviews": 1}


async def test_a_token_of_a_site_is_made_used_and_revoked(app, operator):
    """Shown once; revoked, it opens nothing at once."""
    await operator.call("PATCH", "/hue.gov.vn", body={"public": False})
    token = await operator.call("POST", "/hue.gov.vn/tokens", status=201, body={"note": "intranet"})
    url, headers = f"{app.public}/api/totals?site=hue.gov.vn", {"Authorization": f"Bearer {token['token']}"}
    async with app.session.get(url, headers=headers) as response:
        assert response.status == 200
    shown = (await operator.call("GET", "/hue.gov.vn"))["tokens"]
    assert [(entry["id"], entry["scope"], entry["note"]) for entry in shown] == [(2, "read", "intranet")]
    assert token["token"] not in str(shown)
    await operator.call("DELETE", "/hue.gov.vn/tokens/2", status=204)
    async with app.session.get(url, headers=headers) as response:
        assert response.status == 403
    await operator.call("DELETE", "/hue.gov.vn/tokens/2", status=404)
    await operator.call("DELETE", "/hue.gov.vn/tokens/1", status=404)  # it is not this site's


CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "", None),
    ("POST", "", {"domain": "new.vn"}),
    ("DELETE", "/hue.gov.vn", None),
    ("GET", "/hue.gov.vn", None),
    ("PATCH", "/hue.gov.vn", {"public": True}),
    ("POST", "/hue.gov.vn/baselines", {"visits": 1, "reason": "why"}),
    ("DELETE", "/hue.gov.vn/baselines/latest", {"reason": "why"}),
    ("POST", "/hue.gov.vn/tokens", {}),
    ("DELETE", "/hue.gov.vn/tokens/1", None),
)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_nothing_is_done_without_the_right_token(app, administration, method, path, body):
    """401 for none, a wrong or a revoked one; 403 for one of another scope or another site."""
    revoked = await made(administration, Scope.ADMIN)
    await administration.revoke_token(None, revoked.record.id, NOON_MS)
    for token in ("", "statsvc_guess", revoked.text, revoked.text[:-1]):
        answer = await Operator(app, token).call(method, path, status=401, body=body)
        assert "Authorization: Bearer" in answer["error"]
    await administration.add("dalat.vn", {}, NOON_MS)
    one_of_another = await made(administration, Scope.ADMIN, "dalat.vn")
    for weak in (
        await made(administration, Scope.READ),
        await made(administration, Scope.READ, "hue.gov.vn"),
    ):
        await Operator(app, weak.text).call(method, path, status=403, body=body)
    if path or method == "POST":
        await Operator(app, one_of_another.text).call(method, path, status=403, body=body)
    assert {site.domain for site in await administration.sites()} == {"dalat.vn", "hue.gov.vn"}


async def test_a_site_s_own_administrator_has_that_site_and_no_other(app, administration):
    """It sees and changes one; registering and removing is for who has the whole service."""
    own = Operator(app, (await made(administration, Scope.ADMIN, "hue.gov.vn")).text)
    await administration.add("dalat.vn", {}, NOON_MS)
    assert [site["domain"] for site in await own.call("GET")] == ["hue.gov.vn"]
    await own.call("PATCH", "/hue.gov.vn", body={"window_seconds": 60})
    await own.call("POST", status=403, body={"domain": "new.vn"})
    await own.call("PATCH", "/hue.gov.vn", status=403, body={"aliases": ["sub.dalat.vn"]})
    await own.call("DELETE", "/hue.gov.vn", status=403)
    there, not_there = [await own.call("GET", path, status=403) for path in ("/dalat.vn", "/nowhere.vn")]
    assert there == not_there  # nor does it learn which others there are


async def test_no_token_made_here_is_for_the_whole_service(app, operator):
    """Whoever makes it: one of a site that administers makes its like, and no more."""
    maker = operator
    for _ in range(2):
        made = await maker.call("POST", "/hue.gov.vn/tokens", status=201, body={"scope": "admin"})
        maker = Operator(app, made["token"])
        await maker.call("GET", "/hue.gov.vn")
        await maker.call("POST", status=403, body={"domain": "new.vn"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "", {"domain": "new.vn", "colour": "red"}, 400, {"colour"}),
        ("POST", "", {}, 400, {"domain"}),
        ("POST", "", {"domain": "https://new.vn/"}, 400, {"domain"}),
        ("POST", "", {"domain": "new.vn", "time_zone": "Hue"}, 400, {"time_zone"}),
        ("POST", "", {"domain": "new.vn", "aliases": ["a b"]}, 400, {"aliases"}),
        ("POST", "", {"domain": "new.vn", "window_seconds": 0}, 400, {"window_seconds"}),
        ("POST", "", {"domain": "new.vn", "window_seconds": "5"}, 400, {"window_seconds"}),
        ("POST", "", [], 400, {"body"}),
        ("POST", "", {"domain": "hue.gov.vn"}, 409, None),
        ("POST", "", {"domain": "new.vn", "aliases": ["hue.gov.vn"]}, 409, None),
        ("PATCH", "/nowhere.vn", {}, 404, None),
        ("POST", "/hue.gov.vn/baselines", {"visits": 1}, 400, {"reason"}),
        ("POST", "/hue.gov.vn/baselines", {"reason": "why"}, 400, {"visits"}),
        ("POST", "/hue.gov.vn/baselines", {"visits": 1, "reason": "a\nb"}, 400, {"reason"}),
        ("POST", "/hue.gov.vn/baselines", {"visits": 10**16, "reason": "why"}, 400, {"visits"}),
        ("DELETE", "/hue.gov.vn/baselines/latest", {"reason": "why"}, 409, None),
        ("POST", "/hue.gov.vn/tokens", {"scope": "root"}, 400, {"scope"}),
    ],
)
async def test_what_can_t_be_done_is_told_and_changes_nothing(operator, method, path, body, status, said):
    """Which field, and why."""
    before = await operator.call("GET", "/hue.gov.vn")
    answer = await operator.call(method, path, status=status, body=body)
    assert answer["error"]
    assert said is None or set(answer["errors"]) <= said
    assert await operator.call("GET", "/hue.gov.vn") == before
    assert len(await operator.call("GET")) == 1


async def test_a_page_of_another_origin_can_t_drive_it(app, operator):
    """A form's content types are refused, and a browser's question before others has no answer it likes."""
    headers = {"Authorization": f"Bearer {operator.token}", "Content-Type": "text/plain"}
    url = f"{app.operations}/api/sites"
    async with app.session.post(url, data='{"domain": "new.vn"}', headers=headers) as response:
        assert response.status == 415
    for site in ("cross-site", "same-site"):
        await operator.call("GET", status=403, **{"Sec-Fetch-Site": site})
    await operator.call("GET", **{"Sec-Fetch-Site": "same-origin"})
    headers = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
    async with app.session.options(url, headers=headers) as response:
        assert response.status == 405
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_site_comes_back_only_with_hosts_that_are_still_its_own(operator):
    """An alias that went to another site meanwhile stays there; without it, the site comes back."""
    await operator.call("POST", status=201, body={"domain": "a.vn", "aliases": ["x.vn"]})
    await operator.call("DELETE", "/a.vn", status=204)
    await operator.call("POST", status=201, body={"domain": "b.vn", "aliases": ["x.vn"]})
    for body in ({"domain": "a.vn"}, {"domain": "a.vn", "window_seconds": 60}):
        told = await operator.call("POST", status=409, body=body)
        assert "x.vn belongs to the site b.vn" in told["error"]
        await operator.call("GET", "/a.vn", status=404)
    back = await operator.call("POST", status=201, body={"domain": "a.vn", "aliases": []})
    assert back["aliases"] == []


async def test_two_at_once_can_t_take_the_same_host(operator):
    """What one is allowed by, the other can't change meanwhile."""

    async def add(number: int) -> int:
        headers = {"Authorization": f"Bearer {operator.token}"}
        body = {"domain": f"s{number}.vn", "aliases": ["shared.vn"]}
        url = f"{operator.app.operations}/api/sites"
        async with operator.app.session.post(url, json=body, headers=headers) as response:
            return response.status

    assert sorted(await asyncio.gather(*map(add, range(5)))) == [201, 409, 409, 409, 409]


async def test_two_at_once_can_t_register_a_site_twice(operator):
    """One is told that it is there."""

    async def add() -> int:
        headers = {"Authorization": f"Bearer {operator.token}"}
        url = f"{operator.app.operations}/api/sites"
        async with operator.app.session.post(url, json={"domain": "new.vn"}, headers=headers) as response:
            return response.status

    assert sorted(await asyncio.gather(*(add() for _ in range(5)))) == [201, 409, 409, 409, 409]
