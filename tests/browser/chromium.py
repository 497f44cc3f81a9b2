"""The system's Chromium, and what it noticed while a test looked at a page.

Playwright's names come from here: importing this skips a test module if it is not
installed. Its own download of browsers is not used: what is tested is the browser that people have.
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
    "WebSocket",
    "expect",
    "launched",
    "sync_playwright",
]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SOON = 10_000
"""Milliseconds that something may take which happens at once: the machine may be loaded."""


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium with an empty profile of its own, or a skip."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium on the PATH: apt install chromium")
    expect.set_options(timeout=SOON)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """Everything the pages of one context complain of: exceptions that nobody caught,
    console errors and warnings, and with them violations of the content security policy."""

    def __init__(self, context: BrowserContext) -> None:
        self._heard: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        context.on("console", self._console)
        context.on("weberror", self._error)

    def expect(self, pattern: str) -> None:
        """A complaint that matches this is what the test is about, or follows from it."""
        self._expected.append(re.compile(pattern))

    @property
    def unexpected(self) -> list[str]:
        return [
            text
            for text in self._heard
            if not any(pattern.search(text) for pattern in self._expected)
        ]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self._heard.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _error(self, error: WebError) -> None:
        self._heard.append(f"exception: {error.error}")
