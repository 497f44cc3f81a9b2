"""The page at `/` and the browser client: static files, and the headers they go with."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles

from .transports.http import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SecurityHeaders", "page_files"]

HEADERS = {
    # Nothing inline, nothing from elsewhere: whatever a worker sends stays text.
    "content-security-policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def page_files() -> StaticFiles:
    """The files of `web/src`: beside this module in a wheel, in the checkout otherwise."""
    here = Path(__file__).parent
    packaged = here / "web"
    directory = packaged if packaged.is_dir() else here.parent / "web" / "src"
    return StaticFiles(directory=directory, html=True)


class SecurityHeaders:
    """ASGI middleware: the headers above on every response.

    Scripts may also be loaded by pages of other origins (that is what `client.js` is
    for), and every file is revalidated, so that a new version is never mixed with an old.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].endswith((".js", ".css", ".svg")):
                    headers.setdefault("access-control-allow-origin", "*")
                headers.setdefault("cache-control", "no-cache")
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, send_with_headers)
