"""`python -m docs.generate` writes what follows from the code: tables and schemas in the
documentation, alert rules, the dashboard, and the constants for other languages.

A table stands between `<!-- name -->` and `<!-- end -->`; other files are written whole. A test
fails when a file is out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .alerts import rules
from .constants import javascript, javascript_fallback, javascript_page, lua
from .dashboard import dashboard
from .schemas import asyncapi, openapi
from .tables import fields, metrics, values

__all__ = ["PAGES", "ROOT", "written"]

ROOT = Path(__file__).parents[2]
PARTS = {"values": values, "limits": fields, "metrics": metrics}
WHOLE: dict[str, Callable[[], Any]] = {
    "docs/alerts.yml": rules,
    "docs/asyncapi.json": asyncapi,
    "docs/grafana.json": dashboard,
    "docs/openapi.json": openapi,
    "gateway/brokers/redis/lua/constants.lua": lua,
    "web/page/constants.js": javascript_page,
    "web/src/constants.js": javascript,
    "web/src/http-constants.js": javascript_fallback,
}
PAGES = ("docs/limits.md", "docs/operations.md", *WHOLE)


def written(page: str) -> str:
    """The page as it should be."""
    if page in WHOLE:
        whole = WHOLE[page]()
        return whole if isinstance(whole, str) else json.dumps(whole, indent=2) + "\n"

    def part(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    text = (ROOT / page).read_text()
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)
