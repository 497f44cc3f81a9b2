"""Reports of the results: tables with the medians and the ratios, JSON, plots, and the README's
table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from .harness import Outcome, Results
from .plot import Bar, plot
from .servers import IN_MEMORY, OURS
from .workloads import LESS_IS_BETTER, WORKLOADS, Workload

__all__ = ["number", "ratio", "show", "summary", "write", "write_readme"]

BUSY_FROM = 0.5
"""The load average above which other programs count as using the machine."""


UNITS = {
    "cpu": "% of a core",
    "per_second": "a second",
    "kib": "KiB each",
    "ratio": "p99, times that without",
}


def show(results: Results, console: Console) -> None:
    """Prints a table for each workload, with servers as rows; a single server as a list."""
    for name, outcomes in results.outcomes.items():
        console.print(_table(WORKLOADS[name], outcomes))
    everything = [o for outcomes in results.outcomes.values() for o in outcomes.values()]
    if any(outcome.medians.get("generator_limited") for outcome in everything):
        console.print("* the generator was the limit: the server can do more")
    if results.load > BUSY_FROM:
        console.print(f"[red]Others used the machine (load {results.load:.1f}): do not trust this.")
    for server, why in results.skipped.items():
        console.print(f"[yellow]skipped[/] {server}: {why}")


def _table(workload: Workload, outcomes: dict[str, Outcome]) -> Table:
    alone = len(outcomes) == 1
    table = Table(title=f"{workload.name}: {workload.title}", title_justify="left")
    names = list(dict.fromkeys(name for o in outcomes.values() for name in o.medians))
    if alone:
        [(server, outcome)] = outcomes.items()
        table.add_column(server)
        table.add_column(outcome.failed or "", justify="right")
        for name, value in outcome.medians.items():
            table.add_row(name, number(value))
        return table
    table.add_column("server")
    table.add_column("ours is", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for server, outcome in outcomes.items():
        medians = outcome.medians
        shown = (number(medians[name]) if name in medians else "" for name in names)
        limited = "*" if medians.get("generator_limited") else ""
        table.add_row(server + limited, ratio(workload, outcomes, server), *shown)
        if outcome.failed:
            table.add_row(f"  [red]{outcome.failed}[/]")
    return table


def ratio(workload: Workload, outcomes: dict[str, Outcome], server: str) -> str:
    """Returns how many times better than `server` the gateway is, as text."""
    own_median = (
        outcomes[OURS.name].medians.get(workload.main_metric) if OURS.name in outcomes else None
    )
    theirs = outcomes[server].medians.get(workload.main_metric)
    if server == OURS.name or not own_median or not theirs:
        return ""
    better = theirs / own_median if workload.main_metric in LESS_IS_BETTER else own_median / theirs
    return f"{better:.3g} ×"


def number(value: float) -> str:
    """Formats a number with three significant digits and thousands separators."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


ROWS = (
    ("updates", "cpu", "20 updates/s to 1,000 clients: CPU, %"),
    ("updates", "p99", "– p99, ms"),
    ("spread", "cpu", "2 updates/s to 10,000 clients: CPU, %"),
    ("spread", "p99", "– p99, ms"),
    ("posts", "per_second", "POSTs/s, without Redis"),
    ("posts", "watched", "– while 1,000 clients watch the job"),
    ("published", "per_second", "1,000 jobs through the Redis script: events/s"),
    ("fanout", "per_second", "1 job, 1,000 clients: events/s"),
    ("jobs", "per_second", "1,000 jobs, one client each: events/s"),
    ("pages", "p99", "pages of 50 jobs: p99, ms"),
    ("arrival", "per_second", "new clients/s"),
    ("idle", "kib", "memory per connection, KiB"),
)
"""The workload, the metric, and the name of each row in the summary."""


def summary(document: Mapping[str, Any]) -> str:
    """Returns a table in Markdown of the contents of `results.json`, with workloads as rows and
    servers as columns. The column of the gateway also has what was measured without Redis."""
    workloads = document["workloads"]
    rows = [row for row in ROWS if row[0] in workloads]
    found = dict.fromkeys(server for workload, *_ in rows for server in workloads[workload])
    servers = [server for server in found if server != IN_MEMORY.name]
    lines = [
        "| | "
        + " | ".join(
            f"**{server_name}**" if server_name == OURS.name else server_name
            for server_name in servers
        )
        + " |",
        "|---|" + "---:|" * len(servers),
    ]
    for workload, figure, name in rows:
        outcomes = dict(workloads[workload])
        if IN_MEMORY.name in outcomes:
            outcomes[OURS.name] = outcomes.pop(IN_MEMORY.name)
        values = [
            outcomes.get(server_name, {}).get("median", {}).get(figure) for server_name in servers
        ]
        figures = [number(value) if value else "" for value in values]
        lines.append(f"| {name} | " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n"


def write_readme(results: Results, folder: Path, readme: Path) -> None:
    """Writes the same as `write`, and replaces the table in the README."""
    before = summary(msgspec.json.decode((folder / "results.json").read_bytes()))
    text = readme.read_text()
    if before not in text:
        raise ValueError(f"{readme.name} does not have the table of {folder}/results.json")
    write(results, folder)
    readme.write_text(text.replace(before, summary(_document(results))))


def write(results: Results, folder: Path) -> None:
    """Writes `results.json`, `summary.md`, and a plot of each workload with several servers."""
    folder.mkdir(parents=True, exist_ok=True)
    document = _document(results)
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)))
    (folder / "summary.md").write_text(summary(document))
    for name, outcomes in results.outcomes.items():
        figure = WORKLOADS[name].main_metric
        medians = {server: o.medians[figure] for server, o in outcomes.items() if o.medians}
        if len(medians) > 1:
            order = sorted(medians, key=medians.__getitem__, reverse=figure not in LESS_IS_BETTER)
            bars = [Bar(server, medians[server], ours=server == OURS.name) for server in order]
            title = f"{WORKLOADS[name].title} ({UNITS.get(figure, figure)})"
            (folder / f"{name}.svg").write_text(plot(title, bars))
    if "growth" in results.outcomes:
        (folder / "growth.svg").write_text(_growth(results.outcomes["growth"][OURS.name]))


def _growth(outcome: Outcome) -> str:
    """Returns a plot of the CPU at each size, in percent of a core."""
    lines = {"clients": "clients of one job", "jobs": "jobs at 20 events/s", "rate": "events/s"}
    bars = [
        Bar(f"{int(name.split('_')[1]):,} {lines[name.split('_')[0]]}", 100 * value)
        for name, value in outcome.medians.items()
        if name.count("_") == 1
    ]
    return plot("ten times more: CPU in % of a core", bars)


def _document(results: Results) -> dict[str, object]:
    return {
        "load_before": results.load,
        "skipped": results.skipped,
        "workloads": {
            workload: {
                server: {
                    "median": outcome.medians,
                    "rounds": list(outcome.rounds),
                    "failed": outcome.failed,
                }
                for server, outcome in outcomes.items()
            }
            for workload, outcomes in results.outcomes.items()
        },
    }
