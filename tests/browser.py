"""A real Chromium, and a portal on an origin of its own for it to open."""

import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.process import CHROME, Service, command, eventually

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Else `navigator.webdriver` tells pages that no human is there.
    "--disable-blink-features=AutomationControlled",
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
# Playwright's defaults switch off what readers' browsers do when one goes back.
LEFT_ON = ("--disable-back-forward-cache",)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none; in CI there must be one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, ignore_default_args=LEFT_ON
        )
        yield browser
        browser.close()


class Portal:
    """Serves what is put into `pages`, by path, as http://portal.test:PORT. A context manager."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, str]] = {}
        """By path: what a page holds, and its Content-Security-Policy."""
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page, policy = pages.get(self.path, ("", ""))
                body = page.encode()
                self.send_response(200 if page else 404)
                if policy:
                    self.send_header("Content-Security-Policy", policy)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.origin = f"http://portal.test:{self._server.server_port}"

    def put(self, path: str, body: str, *, lang: str = "vi", head: str = "", policy: str = "") -> str:
        """Serve a page; its address."""
        head += '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        page = f'<!doctype html><html lang="{lang}"><head><title>{path}</title>{head}</head><body>{body}</body></html>'
        self.pages[path] = page, policy
        return self.origin + path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Reader:
    """One person at a browser with one tab. A context manager: at its end the browser is closed."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self._context = browser.new_context(**{"user_agent": CHROME, "locale": "en-GB", **options})
        self.page = self._context.new_page()
        self.events: list[str] = []
        """Names of the events the page has sent."""
        self.bodies: list[dict[str, Any]] = []
        """Of these events."""
        self.asked: list[str] = []
        """Addresses that the page has asked the service for, without the service's own."""
        self.warnings: list[str] = []
        self.errors: list[str] = []
        """What scripts threw, and what the page's own policy refused."""
        self.page.on("request", self._sent)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _sent(self, request: Request) -> None:
        if "//stats.test" in request.url:
            self.asked.append("/" + request.url.split("/", 3)[3])
        if request.url.endswith("/api/event") and request.method == "POST":
            self.bodies.append(json.loads(request.post_data or "{}"))
            self.events.append(self.bodies[-1]["n"])

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "warning":
            self.warnings.append(message.text)
        # That a service which is down could not be reached is the browser's line, and not the script's.
        elif message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def wait_for_events(self, names: list[str]) -> None:
        """Until the page has sent as many as `names`; they must be these."""
        while len(self.events) < len(names):
            self.page.wait_for_event("request")
        assert self.events == names

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


BASE_VISITS = 1_055_567
BASE_PAGEVIEWS = 3_000_000
HIDE = """state => {
    Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""


def show_page(page: Page, state: str) -> None:
    """Headless Chromium shows every page at once, so being `hidden` or `visible` is told to the page here."""
    page.evaluate(HIDE, state)


def origin(service: Service) -> str:
    """The service, as pages call it: an origin other than the portal's."""
    return f"http://stats.test:{service.public.rpartition(':')[2]}"


def script(service: Service, domain: str = "portal.test", attributes: str = "") -> str:
    """The line an editor pastes."""
    return f'<script defer src="{origin(service)}/counter.js" data-domain="{domain}" {attributes}></script>'


def totals(service: Service, path: str = "/", site: str = "portal.test") -> Any:
    query = urlencode({"site": site, "path": path})
    with urllib.request.urlopen(f"http://{service.public}/api/totals?{query}") as answer:
        return json.load(answer)


def set_window(service: Service, seconds: int) -> None:
    """A visitor is current for so long; returns when the service knows it."""
    command(service.store, "site", "set", "portal.test", "--window", str(seconds))
    eventually(lambda: totals(service)["current"]["window_seconds"] == seconds)


def add_site(service: Service, domain: str, *options: str) -> None:
    """Returns when the service knows it."""
    command(service.store, "site", "add", domain, *options)

    def is_known() -> bool:
        try:
            return bool(totals(service, site=domain))
        except HTTPError:
            return False

    eventually(is_known)


def new_store(path: Path) -> Path:
    """With the site portal.test, as its old counter left it."""
    command(path, "site", "add", "portal.test")
    counts = ("--visits", str(BASE_VISITS), "--pageviews", str(BASE_PAGEVIEWS))
    command(path, "site", "baseline", "portal.test", *counts, "--reason", "the old counter")
    return path
