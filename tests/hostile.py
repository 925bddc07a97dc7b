"""What senders write who mean no good, or whose programs are broken; and the sending of it, byte by byte."""

import json
import socket
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

DOMAIN = "hue.gov.vn"
PAGE = f"https://{DOMAIN}/"
TEXTS = [
    *(
        "",
        " ",
        "\0",
        "\x1b[2J\x1b]0;x\x07",
        "\r\nX-Evil: 1",
        "\n{}",
        "\x85\u2028\u2029",
        "\x7f\x9b31m",
        "\ufeff",
    ),
    *(
        "\u202eright to left\u2066",
        "e\u0301" * 300,
        "\N{PILE OF POO}",
        "\ud800",
        "\udc80\udcff",
        "NaN",
        "null",
        "-1",
    ),
    *(
        "<script>alert(1)</script>",
        "\"'><svg onload=alert(1)>",
        "]]>&amp;<!--",
        "${x}%s{0}",
        "javascript:alert(1)",
    ),
    *(
        "'; DROP TABLE sites; --",
        '" OR 1=1 --',
        "%00",
        "%",
        "%zz%ff%ed%a0%80",
        "../../etc/passwd",
        "a" * 3000,
    ),
]
URLS = [
    *("http://[::1]/", "http://[fe80::1%25eth0]/", "http://[", "http://[v1.x]/", f"http://[{DOMAIN}]/"),
    *(f"http://a:b@{DOMAIN}/", f"http://{DOMAIN}:99999/", f"http://{DOMAIN}:-1/", f"http://{DOMAIN}:x/"),
    *(
        f"http://{DOMAIN}:\u0663/",
        f"https://{DOMAIN}\\@evil.test/",
        "https://xn--/",
        "https://xn--zz9999/",
        "https:///x",
    ),
    *(
        f"https://{'ü' * 70}.vn/",
        f"https://{'a' * 70}.vn/",
        "https://ü..b/",
        "https://a..b/",
        f"https://{'.' * 1900}/",
    ),
    *(
        "https://℀.vn/",
        f"https://{DOMAIN}／x",
        "https://hue。gov。vn/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:1/",
    ),
    *(
        "https://\ud800.vn/",
        f"{PAGE}\ud800",
        f"\0{PAGE}",
        f"{PAGE}\0",
        f"{PAGE}%ff%ed%a0%80",
        f"{PAGE}\u202e\u2028",
    ),
    *(
        PAGE + "a" * 20_000,
        PAGE + "/" * 900,
        PAGE + "%" * 900,
        PAGE + "?" + "a=b&" * 400,
        f"app://{DOMAIN}/x",
    ),
]
NUMBERS = [
    "1e999999",
    "-1e999999",
    "9" * 5000,
    "-0",
    "1.5",
    "9007199254740993",
    "NaN",
    "Infinity",
    "0x10",
    "01",
]
BODIES = [
    *(b"", b" ", b"\0", b"null", b"1", b'"x"', b"[1]", b"{", b"{}", b"\xff\xfe", b'{"n":1,}', b'{"a":1} x'),
    *(
        b"[" * 16_000,
        b"[" * 100_000,
        b'{"p":' + b"[" * 16_000,
        b'{"p":' + b'{"a":' * 2500 + b"1" + b"}" * 2501,
    ),
    *(json.dumps({"n": "pageview", "u": PAGE}).encode(form) for form in ("utf-16", "utf-32", "utf-8-sig")),
    *(
        b'{"n":"a","n":"b","u":"%b"}' % PAGE.encode(),
        b'{"n":"\xed\xa0\x80"}',
        b'{"\xff":1,"n":"a"}',
        b"n=a&u=b",
    ),
    json.dumps({"n": "pageview", "u": PAGE + "a" * 1_000_000}).encode(),
]
TYPES = [
    b"text/plain",
    b"application/json; charset=utf-16",
    b"text/plain; charset=nonsense",
    b";",
    b"\xff",
    b"a" * 9000,
]
METHODS = [
    *[b"GET"] * 16,
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"PROPFIND",
    b"CONNECT",
]
HEADERS = {
    b"Accept-Language": [b"\xff;q=zz,,", b"vi;q=2", b"a" * 60_000, b"*", b"-", b"vi-" * 1000],
    b"If-None-Match": [b'W/"x", "y", *', b'"' * 8000, b"*", b"W/", b'"' * 60_000],
    b"Range": [b"bytes=0-0", b"bytes=5-2,-0,x"],
    b"If-Modified-Since": [b"yesterday", b"Thu, 99 Nov 2026 25:61:61 GMT"],
    b"Accept": [b"\xff/*;q=\xff", b"application/openmetrics-text; version=9.9;;", b"," * 60_000],
    b"Authorization": [b"Bearer", b"Bearer \xff", b"Bearer " + b"x" * 8000, b"Basic Og==", b"\xff"],
    b"User-Agent": [b"\xff" * 8000, b"(a+)+" * 1600, b"\xed\xa0\x80", b""],
    b"X-Forwarded-For": [b"1," * 4000, b"[::1%25x]:99999", b"\xff", b"127.0.0.1, unknown"],
    b"Forwarded": [
        b"for=\xff",
        b'for="[::1%x]:99999";by=;;=',
        b"for=_x" + b",for=127.0.0.1" * 500,
        b"for=1;" * 1000,
    ],
    b"Sec-Purpose": [b"prefetch", b"\xff"],
    b"X-Forwarded-Proto": [b"javascript", b'https"><script>'],
    b"Host": [b"\xff", b"", b"a:b:c", b"[::1", b'"><script>alert(1)</script>', b"a" * 8000],
    b"Origin": [b"null", b"\xff"],
    b"Expect": [b"100-continue", b"nonsense"],
    b"Upgrade": [b"websocket", b"h2c"],
    b"Content-Encoding": [b"gzip", b"br", b"\xff"],
    b"Cookie": [b'\xff=;;;="'],
    b"Referer": [b"\xff", b"http://["],
}
PUBLIC = [
    *["/api/event"] * 3,
    "/hit.gif",
    "/api/totals",
    "/api/address",
    "/api/stream",
    "/badge.svg",
    "/box",
    "/counter.js",
    "/",
    "/nothing",
]
OPERATIONS = ["/metrics", "/-/healthy", "/-/ready", "/"]
PARAMETERS = [
    "site",
    "path",
    "show",
    "lang",
    "theme",
    "style",
    "count",
    "u",
    "url",
    "d",
    "n",
    "r",
    "p",
    "\udcff",
    "",
]
ROWS = ["page", "visits", "current", "visits," * 5000]

values = st.sampled_from(TEXTS + URLS + [DOMAIN, PAGE, "/a", "1", "secret.vn", *ROWS]) | st.text(max_size=40)
named = st.tuples(st.sampled_from(PARAMETERS), values)
SITES = [("site", DOMAIN), ("site", "secret.vn")]
known = st.sampled_from([*([site] for site in SITES), [("d", DOMAIN)], [("u", PAGE)], [], [SITES[1]]])


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Right ones, with hostile values, names and repetitions; sometimes of bytes that are no query."""
    pairs = draw(known) + draw(st.lists(named, max_size=5))
    if draw(st.integers(0, 20)) == 0:
        pairs += [("path", "/a")] * 200
    written = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in pairs).encode()
    return written[:60_000] + draw(
        st.sampled_from([b"", b"", b"&&=", b"&%", b"&%zz=%ff", b";a", b"#x", b"&" * 900])
    )


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Events with something wrong in them, and what is no event."""
    if draw(st.booleans()):
        return draw(st.sampled_from(BODIES) | st.binary(max_size=60))
    names = st.sampled_from(
        ["n", "name", "u", "url", "d", "domain", "r", "p", "props", "b", "bot", "id", "x", "\0"]
    )
    plain = st.none() | st.booleans() | st.floats() | st.integers() | values | st.just(PAGE) | st.just(DOMAIN)
    anything = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(values, inner, max_size=3)
    )
    pairs = draw(st.lists(st.tuples(names, anything), max_size=2))
    page = draw(st.just(PAGE) | st.sampled_from(URLS) | st.text().map(PAGE.__add__))
    fields = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in [("n", "a"), ("u", page), *pairs]]
    fields += [f'"{draw(names)}":{number}' for number in draw(st.lists(st.sampled_from(NUMBERS), max_size=1))]
    return ("{" + ",".join(draw(st.permutations(fields))) + "}").encode()


@st.composite
def requests(draw: st.DrawFn, paths: Iterable[str] = PUBLIC) -> bytes:
    """One request, after which the connection is closed."""
    method, path = draw(st.sampled_from(METHODS)), draw(st.sampled_from(list(paths)))
    body = b""
    if path == "/api/event" and draw(st.integers(0, 4)):
        method, body = b"POST", draw(bodies())
    query = draw(queries()) if draw(st.integers(0, 9)) else b""
    headers = {b"Host": b"x"}
    for name in draw(st.lists(st.sampled_from(list(HEADERS)), max_size=4)):
        headers[name] = draw(st.sampled_from(HEADERS[name]))
    if body:
        headers[b"Content-Type"] = draw(st.sampled_from(TYPES))
    return request(method, path.encode() + (b"?" + query if query else b""), headers, body)


def request(method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes = b"") -> bytes:
    lines = {b"Connection": b"close", **headers}
    if body or method == b"POST":
        lines[b"Content-Length"] = b"%d" % len(body)
    head = b"".join(b"%b: %b\r\n" % line for line in lines.items())
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, head, body)


class Answered:
    """What came back: an answer's status, headers by lower-case name, and body."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split()[1]) if status.startswith("HTTP/1.") else 0
        self.unread = status.startswith("HTTP/1.0 ")
        """The answer to what could not be read as a request: no route has seen it."""
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def ask(address: str, raw: bytes, seconds: float = 5.0) -> Answered:
    """Send it, and read the answer to its end, or a stream's first message. Raises TimeoutError."""
    host, _, port = address.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        try:
            connection.sendall(raw)
            while chunk := connection.recv(65_536):
                received += chunk
                if b"text/event-stream" in received and b"\ndata: " in received:
                    break
        except ConnectionError:
            pass  # it is answered before all of it was sent, and closed
    return Answered(received)


SEARCHED = {
    "/hit.gif": {"u": PAGE, "d": DOMAIN, "n": "a", "id": ""},
    "/api/totals": {"site": DOMAIN, "path": "/a"},
    "/api/stream": {"site": DOMAIN},
    "/badge.svg": {
        "site": DOMAIN,
        "path": "/a",
        "show": "page",
        "lang": "vi",
        "theme": "auto",
        "style": "box",
        "count": "1",
        "u": PAGE,
    },
    "/box": {"site": DOMAIN, "path": "/a", "show": "page", "lang": "vi", "theme": "auto"},
}


def each_alone() -> Iterator[bytes]:
    """Right requests with one thing wrong: each hostile value in each place."""
    plain = {b"Host": b"x"}
    for path, right in SEARCHED.items():
        for name in right:
            for value in TEXTS + URLS:
                query = "&".join(f"{key}={_encoded(text)}" for key, text in (right | {name: value}).items())
                yield request(b"GET", f"{path}?{query}".encode()[:60_000], plain)
    for path in PUBLIC[2:]:
        for site in (DOMAIN, "secret.vn"):
            for header, given in HEADERS.items():
                target = f"{path}?site={site}&u={PAGE}&count=1".encode()
                for field in given:
                    yield request(b"GET", target, plain | {header: field})
    event = {"n": "a", "u": PAGE, "d": DOMAIN, "r": "", "p": {}, "b": 0, "id": ""}
    for name in event:
        anything: list[Any] = [*TEXTS, *URLS, None, True, -1, 1.5, [], {}, [[]], {"": {}}]
        for wrong in anything:
            body = json.dumps(event | {name: wrong}).encode()
            yield request(b"POST", b"/api/event", plain, body)
        for number in NUMBERS:
            yield request(
                b"POST",
                b"/api/event",
                plain,
                b'{"n":"a","u":"%b","%b":%b}' % (PAGE.encode(), name.encode(), number.encode()),
            )
    for body in BODIES:
        for kind in TYPES:
            yield request(b"POST", b"/api/event", plain | {b"Content-Type": kind}, body)
