"""Prometheus's rules, from the page that explains each alert: one cannot be without the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Alert", "alerts", "rules"]

PAGE = Path(__file__).parents[1] / "alerts.md"
_SECTION = re.compile(
    r"^## (?P<name>\w+)\n\n```promql\n(?P<expr>.+?)\n```\n\n"
    r"After `(?P<after>\d+[smh])`, `(?P<severity>page|ticket)`: (?P<summary>[^\n]+)\.\n\n"
    r"\*\*It means\*\*",
    re.MULTILINE | re.DOTALL,
)


class Alert(NamedTuple):
    """What Prometheus needs of a section."""

    name: str
    expr: str
    after: str
    severity: str
    summary: str


def alerts() -> Iterator[Alert]:
    """The alert in each section of the page. Raises ValueError if a section has another form."""
    page = PAGE.read_text()
    found = [Alert(*match.groups()) for match in _SECTION.finditer(page)]
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    if headings != [alert.name for alert in found]:
        raise ValueError(f"not all of these sections are alerts: {', '.join(headings)}")
    yield from found


def rules() -> str:
    """The alerts as YAML. Texts are quoted as in JSON, which YAML understands."""
    lines = ["groups:", "  - name: progress-gateway", "    rules:"]
    for alert in alerts():
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expr)}",
            f"        for: {alert.after}",
            f"        labels: {{severity: {alert.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          runbook: docs/alerts.md#{alert.name.lower()}",
        ]
    return "\n".join(lines) + "\n"
