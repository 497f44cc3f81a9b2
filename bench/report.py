"""What came out, as tables: the medians, and how many times better ours is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .harness import Outcome, Results
from .servers import OURS
from .workloads import LESS_IS_BETTER, WORKLOADS, Workload

__all__ = ["number", "ratio", "show"]


def show(results: Results, console: Console) -> None:
    """Print it all: a table each workload, servers as rows; one server alone, as a list."""
    for name, outcomes in results.outcomes.items():
        console.print(_table(WORKLOADS[name], outcomes))
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
        table.add_row(server, ratio(workload, outcomes, server), *shown)
        if outcome.failed:
            table.add_row(f"  [red]{outcome.failed}[/]")
    return table


def ratio(workload: Workload, outcomes: dict[str, Outcome], server: str) -> str:
    """How many times better than `server` ours is."""
    ours = outcomes[OURS.name].medians.get(workload.figure) if OURS.name in outcomes else None
    theirs = outcomes[server].medians.get(workload.figure)
    if server == OURS.name or not ours or not theirs:
        return ""
    better = theirs / ours if workload.figure in LESS_IS_BETTER else ours / theirs
    return f"{better:.3g} ×"


def number(value: float) -> str:
    """Three significant digits, with thousands marked."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
