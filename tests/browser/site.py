"""A web site on another origin than the gateway's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

__all__ = ["serve_site"]


@contextmanager
def serve_site(
    html: str,
    *,
    policy: str = "",
    scripts: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yields the URL of a web server with one page, and with scripts and parts of pages by their
    paths. Its port, and so its origin, is another one than the gateway's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            script = (scripts or {}).get(path)
            part = (parts or {}).get(path, html)
            body = (part if script is None else script).encode()
            kind = "html" if script is None else "javascript"
            self.send_response(200)
            self.send_header("content-type", f"text/{kind}; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            if policy:
                self.send_header("content-security-policy", policy)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.do_GET()

        def log_message(self, *args: object) -> None:
            """Logs nothing, to keep the output of the tests readable."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()
