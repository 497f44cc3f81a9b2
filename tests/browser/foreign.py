"""Responses in the place of an unavailable gateway: pages of proxies, portals, firewalls and other
applications, as bytes."""

from __future__ import annotations

import gzip

__all__ = ["PAGES"]

EVERY_PAGE_MAY_READ = "access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"
"""The gateway is of another origin in these tests: without this the client could not read the
answers, as it can in an application whose gateway has the page's own origin."""


def answer(status: str, body: str | bytes, *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    own = "".join(f"{header}\r\n" for header in headers)
    head = (
        f"HTTP/1.1 {status}\r\n{EVERY_PAGE_MAY_READ}{own}content-length: {len(content)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + content


HTML = "content-type: text/html; charset=utf-8"
TEXT = "content-type: text/plain; charset=utf-8"
JSON = "content-type: application/json"
PROBLEM = "content-type: application/problem+json"
STREAM = "content-type: text/event-stream"
CHALLENGE = "<!DOCTYPE html><title>Just a moment...</title><script>cType='managed'</script>"
INDEX = '<!doctype html><div id="root"></div><script type="module" src="/app.js"></script>'
STATE = '{"job":"video:42","epoch":9,"seq":9,"state":{"status":"failed","error":"not ours"}}'

PAGES = {
    "nginx 404": answer("404 Not Found", "<center><h1>404 Not Found</h1></center>", HTML),
    "nginx 502": answer("502 Bad Gateway", "<center><h1>502 Bad Gateway</h1></center>", HTML),
    "nginx 504": answer("504 Gateway Time-out", "<center>nginx</center>", HTML),
    "nginx 403": answer("403 Forbidden", "<center><h1>403 Forbidden</h1></center>", HTML),
    "Traefik 404": answer("404 Not Found", "404 page not found\n", TEXT),
    "Traefik 502": answer("502 Bad Gateway", "Bad Gateway", TEXT),
    "Traefik 503": answer("503 Service Unavailable", "no available server\n", TEXT),
    "Caddy 502": answer("502 Bad Gateway", "", "server: Caddy"),
    "Caddy 200": answer("200 OK", "", "server: Caddy"),
    "HAProxy 503": answer("503 Service Unavailable", "No server is available", HTML),
    "Cloudflare challenge 403": answer(
        "403 Forbidden", CHALLENGE, HTML, "cf-mitigated: challenge", "server: cloudflare"
    ),
    "Cloudflare challenge 503": answer("503 Service Unavailable", CHALLENGE, HTML),
    "Cloudflare challenge 200": answer("200 OK", CHALLENGE, HTML, "server: cloudflare"),
    "Cloudflare 1015": answer("429 Too Many Requests", "error code: 1015", "retry-after: 30"),
    "Cloudflare 530": answer("530 Origin DNS Error", "error code: 1016", HTML),
    "portal 302": answer("302 Found", "", "location: /welcome-to-the-airport"),
    "portal 307": answer("307 Temporary Redirect", "", "location: http://portal.invalid/"),
    "portal 200": answer("200 OK", "<html>Welcome to the airport</html>", HTML),
    "portal 511": answer("511 Network Authentication Required", "<html>Sign in</html>", HTML),
    "index.html": answer("200 OK", INDEX, HTML),
    "login 401": answer("401 Unauthorized", '{"detail":"Not authenticated"}', JSON),
    "proxy 407": answer("407 Proxy Authentication Required", "", "proxy-authenticate: Basic"),
    "another JSON": answer("200 OK", '{"status":"ok","jobs":[]}', JSON),
    "a state of another": answer("200 OK", STATE, JSON, 'etag: "9-9"'),
    "another problem": answer("404 Not Found", '{"type":"about:blank","status":404}', PROBLEM),
    "a refusal like ours": answer(
        "403 Forbidden", '{"status":403,"close_code":4501,"detail":"no"}', PROBLEM
    ),
    "another stream": answer(
        "200 OK", f'data: {{"type":"welcome","node":"x","time":1}}\n\ndata: {STATE}\n\n', STREAM
    ),
    "another gzip": answer("200 OK", gzip.compress(b"{}"), JSON, "content-encoding: gzip"),
    "gzip that is none": answer("200 OK", b"\x8f\x00nonsense", JSON, "content-encoding: gzip"),
    "204": answer("204 No Content", ""),
    "304": answer("304 Not Modified", "", 'etag: "1-1"'),
    "426": answer("426 Upgrade Required", "", "upgrade: h2c"),
    "500": answer("500 Internal Server Error", "Internal Server Error", TEXT),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{",
    "101 without a key": (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    ),
    "nothing": b"",
}
"""Each is the complete response to any request; then the connection is closed."""
