"""The system's Chromium, and the errors that it reports during a test.

Import Playwright's names from here: this skips a test module if Playwright is not installed. The
tests use the installed browser instead of Playwright's own download.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    Route,
    WebError,
    WebSocket,
    expect,
    sync_playwright,
)

__all__ = [
    "SOON",
    "Browser",
    "BrowserContext",
    "Complaints",
    "Locator",
    "Page",
    "Playwright",
    "Route",
    "WebSocket",
    "expect",
    "launched",
    "sync_playwright",
]

EXECUTABLES = ("chromium-headless-shell", "chromium", "google-chrome")
"""In this order: the first has no windows, and needs half as much CPU time for these tests."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SOON = 30_000
"""Milliseconds that an immediate effect may take, because the machine may be loaded."""


@contextmanager
def launched() -> Iterator[Browser]:
    """Yields a headless Chromium with an empty profile of its own, or skips the test."""
    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        pytest.skip("needs Chromium on the PATH: apt install chromium")
    expect.set_options(timeout=SOON)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


CLOSED_EARLY = "WebSocket is closed before the connection is established"
"""Chromium's message for each socket that a page closes while it connects. The client does that
when it gets a new token, or when the page is left."""


class Complaints:
    """All errors of the pages of one context: uncaught exceptions, console errors and warnings, and
    violations of the content security policy."""

    def __init__(self, context: BrowserContext) -> None:
        self._received: list[str] = []
        self._expected = [re.compile(CLOSED_EARLY)]
        context.on("console", self._console)
        context.on("weberror", self._error)

    def expect(self, pattern: str) -> None:
        """Expects an error that matches this pattern."""
        self._expected.append(re.compile(pattern))

    @property
    def unexpected(self) -> list[str]:
        return [
            text
            for text in self._received
            if not any(pattern.search(text) for pattern in self._expected)
        ]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self._received.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _error(self, error: WebError) -> None:
        self._received.append(f"exception: {error.error}")
