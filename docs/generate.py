"""Writes the parts of the documentation that the code says already.

    python docs/generate.py

A part stands between `<!-- name -->` and `<!-- end -->`; some files are written whole. A
test compares.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from gateway import limits

ROOT = Path(__file__).parent.parent


def values() -> str:
    """The constants at the top of `limits.py`, with the comment beside each."""
    rows = ["| what | at most | why |", "|---|---|---|"]
    for name, why in re.findall(r"^(MAX_\w+) = [^#\n]+#(.+)$", _source(), re.MULTILINE):
        rows.append(f"| `{name}` | {_shown(getattr(limits, name))} | {why.strip()} |")
    return "\n".join(rows)


def fields() -> str:
    """The fields of `Limits`, with the docstring below each."""
    rows = ["| limit | default | what it bounds, what happens past it, and why |", "|---|---|---|"]
    for name, why in described():
        rows.append(f"| `{name}` | {_shown(getattr(limits.DEFAULT_LIMITS, name))} | {why} |")
    return "\n".join(rows)


def described() -> Iterator[tuple[str, str]]:
    """The name of each field, and its docstring, which only the source has."""
    tree = ast.parse(_source())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    for above, below in pairwise(body):
        match above, below:
            case (
                ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _source() -> str:
    return (ROOT / "gateway/limits.py").read_text()


def _shown(value: float | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return "–".join(f"{part:g}" for part in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


PANELS = (
    ("Clients", "short", {"{{instance}}": "gateway_connections"}),
    (
        "Clients that come, and how they end",
        "ops",
        {
            "come": "sum(rate(gateway_connected_total[$__rate_interval]))",
            "{{code}}": "sum by (code) (rate(gateway_ended_total[$__rate_interval]))",
        },
    ),
    (
        "Jobs watched",
        "short",
        {"topics": "sum(gateway_topics)", "subscriptions": "sum(gateway_subscriptions)"},
    ),
    (
        "Events from the broker",
        "ops",
        {"{{instance}}": "rate(gateway_events_total[$__rate_interval])"},
    ),
    (
        "Age of an update when it is fanned out",
        "s",
        {
            f"p{quantile}": f"histogram_quantile(0.{quantile}, sum by (le) "
            "(rate(gateway_event_age_seconds_bucket[$__rate_interval])))"
            for quantile in (50, 99)
        },
    ),
    (
        "Updates over HTTP",
        "ops",
        {"{{result}}": "sum by (result) (rate(gateway_updates_total[$__rate_interval]))"},
    ),
    (
        "Ready, and stale",
        "short",
        {"ready {{instance}}": "gateway_ready", "stale {{instance}}": "gateway_stale"},
    ),
    (
        "Silence and loss",
        "ops",
        {
            "reaped": "sum(rate(gateway_reaped_total[$__rate_interval]))",
            "feed lost": "sum(rate(gateway_feed_lost_total[$__rate_interval]))",
        },
    ),
    ("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="gateway"}'}),
    (
        "CPU",
        "percentunit",
        {"{{instance}}": 'rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])'},
    ),
)
"""Of the dashboard: title, unit, and a query for each legend."""


def dashboard() -> str:
    """Grafana's JSON of `PANELS`, two in a row."""
    panels = [
        {
            "id": number + 1,
            "title": title,
            "type": "timeseries",
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
                for index, (legend, query) in enumerate(queries.items())
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    document = {
        "title": "progress-gateway",
        "uid": "progress-gateway",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


PARTS = {"values": values, "limits": fields}
WHOLE = {"docs/grafana.json": dashboard}
PAGES = ("docs/limits.md", *WHOLE)


def written(page: str) -> str:
    """The page as it should be."""
    if page in WHOLE:
        return WHOLE[page]()

    def part(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    text = (ROOT / page).read_text()
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(written(page))
