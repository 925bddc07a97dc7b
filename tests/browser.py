"""A real Chromium, and a portal on an origin of its own for it to open."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, sync_playwright

from tests.process import CHROME

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
    "--host-resolver-rules=MAP portal.test 127.0.0.1, MAP stats.test 127.0.0.1, MAP * ~NOTFOUND",
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
        self.pages: dict[str, str] = {}
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path)
                body = (page or "").encode()
                self.send_response(404 if page is None else 200)
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

    def put(self, path: str, body: str, *, lang: str = "vi") -> str:
        """Serve a page; its address."""
        icon = '<link rel="icon" href="data:,">'
        self.pages[path] = f'<!doctype html><html lang="{lang}"><title>{path}</title>{icon}{body}</html>'
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
        self.warnings: list[str] = []
        self.errors: list[str] = []
        """What scripts threw, and what the page's own policy refused."""
        self.page.on("request", self._sent)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _sent(self, request: Request) -> None:
        if request.url.endswith("/api/event") and request.method == "POST":
            self.events.append(json.loads(request.post_data or "{}")["n"])

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
