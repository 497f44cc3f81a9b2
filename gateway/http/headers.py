"""The headers of every HTTP response: which node answered, and what a browser may do with the
response. Starlette adds the headers that let other pages read it (CORS)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

from ..transports.asgi_types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NODE_HEADER", "GatewayHeaders"]

NODE_HEADER = "progress-gateway"
"""The header with the name of the node. Only a gateway sends it, so clients can distinguish its 404
from that of a proxy."""

HEADERS = {
    # No inline scripts and nothing from other sites, so that texts of workers cannot run as code.
    "content-security-policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # revalidate, so that new and old files are never mixed
}
_READABLE = (".js", ".css", ".svg", "/healthz")


class GatewayHeaders:
    """ASGI middleware that adds the headers.

    Pages of every origin may load scripts such as `client.js`, and may read `/healthz`, which
    says why a page was refused. Of other responses a browser tells them only that they failed.
    """

    def __init__(self, app: ASGIApp, *, node: str) -> None:
        self._app = app
        self._node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                headers[NODE_HEADER] = self._node
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].endswith(_READABLE):
                    headers.setdefault("access-control-allow-origin", "*")
                    headers.setdefault("access-control-expose-headers", f"date, {NODE_HEADER}")
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, send_with_headers)
