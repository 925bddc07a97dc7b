"""Tokens: shown once, and then nowhere. The bytes of all files and of the log are searched."""

import base64
import json
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.process import Service, command


def ask(url: str, token: str = "", body: object = None, method: str | None = None) -> tuple[int, str]:
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, sent, method=method), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def printed(text: str) -> str:
    found = re.search(r"statsvc_[\w-]{40,}", text)
    assert found, text
    return found[0]


def spellings(token: str) -> list[bytes]:
    """As it is shown, and the random bytes it was made of."""
    secret = token.removeprefix("statsvc_")
    raw = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    return [secret.encode(), raw, raw.hex().encode()]


def test_a_token_is_in_no_file_no_log_and_no_answer_but_the_one_that_made_it(tmp_path: Path):
    """Made by command and over HTTP, used rightly and wrongly, revoked, backed up, and after a kill."""
    folder = tmp_path / "data"
    store = folder / "stats.db"
    with Service(store, "--site", "hue.gov.vn") as service:
        sites = f"http://{service.operations}/api/sites"
        admin = printed(command(store, "token", "add", "--scope", "admin", "--note", "x"))
        status, made = ask(f"{sites}/hue.gov.vn/tokens", admin, {"note": "intranet"})
        assert status == 201
        tokens = [admin, printed(made), printed(command(store, "site", "token", "hue.gov.vn"))]
        command(store, "site", "set", "hue.gov.vn", "--no-public")
        answers = [command(store, "site", "show", "hue.gov.vn"), command(store, "token", "list")]
        for token in tokens:
            answers += [
                ask(url, token, body)[1]
                for url, body in (
                    (f"http://{service.public}/api/totals?site=hue.gov.vn", None),
                    (f"http://{service.public}/badge.svg?site=hue.gov.vn", None),
                    (f"http://{service.public}/box?site=hue.gov.vn", None),
                    (f"http://{service.public}/api/stream?site=hue.gov.vn", None),
                    (f"http://{service.public}/api/event", {"n": "pageview", "u": "https://hue.gov.vn/"}),
                    (f"http://{service.public}/api/event", []),
                    (sites, None),
                    (sites, {"domain": "not a domain"}),
                    (f"{sites}/hue.gov.vn", None),
                    (f"http://{service.operations}/metrics", None),
                )
            ]
            ask(f"http://{service.public}/api/totals?site=hue.gov.vn&token={token}")
            ask(f"{sites}/hue.gov.vn", token[:-1])
        assert ask(f"{sites}/hue.gov.vn/tokens/2", admin, method="DELETE")[0] == 204
        command(store, "backup", str(folder / "backup.db"))
        service.kill()
        logged = json.dumps(service.lines)
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"intranet" in kept  # the log of the killed service is among what is searched
    for token in tokens:
        for spelling in spellings(token):
            assert spelling not in kept + logged.encode() + "".join(answers).encode()


def test_what_is_written_is_for_its_user_alone(tmp_path: Path):
    """Whatever the umask: the store holds the secrets that visitors' ids are made with."""
    store = tmp_path / "made" / "stats.db"
    with Service(store, "--site", "hue.gov.vn"):
        command(store, "backup", str(store.with_name("backup.db")))
        there = {path.name: path.stat().st_mode & 0o077 for path in [store.parent, *store.parent.iterdir()]}
    assert {"stats.db", "stats.db-wal", "backup.db"} <= there.keys()
    assert set(there.values()) == {0}, there
