"""The gateway's page and the browser client: static files, served as in `web/`.

/            web/page/index.html
/page/…      web/page/…           the page's own modules
/client.js   web/client.js        the script for other pages
/src/…       web/src/…            the modules of the published client
"""

from __future__ import annotations

from pathlib import Path

from starlette.staticfiles import StaticFiles

from ..transports.asgi_types import Scope

__all__ = ["static_files"]

SERVED_PARTS = frozenset(("client.js", "page", "src"))
"""The parts of `web/` that are served; in a checkout it contains others."""


def static_files() -> StaticFiles:
    """Returns the application that serves the files: those in the package if it was installed from
    a wheel, otherwise those in the checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "web"
    return _WebFiles(directory=packaged if packaged.is_dir() else package.parent / "web")


class _WebFiles(StaticFiles):
    def get_path(self, scope: Scope) -> str:
        parts = Path(super().get_path(scope)).parts
        if not parts:
            return "page/index.html"
        return str(Path(*parts)) if parts[0] in SERVED_PARTS else "not served"
