"""Writes the parts of the documentation that the code says already: `python -m docs.generate`.

A part stands between `<!-- name -->` and `<!-- end -->`; some files are written whole. A
test compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from .dashboard import dashboard
from .schemas import asyncapi, openapi
from .tables import fields, values

__all__ = ["PAGES", "ROOT", "written"]

ROOT = Path(__file__).parents[2]
PARTS = {"values": values, "limits": fields}
WHOLE = {
    "docs/asyncapi.json": asyncapi,
    "docs/grafana.json": dashboard,
    "docs/openapi.json": openapi,
}
PAGES = ("docs/limits.md", *WHOLE)


def written(page: str) -> str:
    """The page as it should be."""
    if page in WHOLE:
        return json.dumps(WHOLE[page](), indent=2) + "\n"

    def part(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    text = (ROOT / page).read_text()
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)
