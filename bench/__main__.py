"""`python -m bench [WORKLOAD…]`: runs the workloads and shows the results."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .harness import Step, measure
from .peers import PEERS
from .report import show, write, write_readme
from .servers import OURS
from .workloads import WORKLOADS

HERE = Path(__file__).parent
SHOWN = ("updates", "spread", "posts", "published", "jobs", "fanout", "pages", "arrival", "idle")
"""Workloads in the README's table."""
SHOWN_SERVERS = (OURS.name, "websockets", "Node ws", "Centrifugo", "nats", "uWebSockets")


@click.command()
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--quick", is_flag=True, help="One short round for each workload: two minutes.")
@click.option("--only", multiple=True, help="Only servers whose name contains this text.")
@click.option(
    "--readme",
    is_flag=True,
    help="Measure the README's table, with five peers, and write it to the README and to "
    "bench/results. Takes a quarter of an hour.",
)
@click.option("--out", type=click.Path(path_type=Path), help="A folder for JSON and plots.")
def main(
    workloads: tuple[str, ...],
    quick: bool,
    only: tuple[str, ...],
    readme: bool,
    out: Path | None,
) -> None:
    """Measure the gateway and its peers, one after the other, each on one core."""
    unknown = [name for name in workloads if name not in WORKLOADS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]}: there are {', '.join(WORKLOADS)}")
    if readme:
        workloads, only = workloads or SHOWN, only or SHOWN_SERVERS
    max_tier = 1 if quick and not only else 3
    servers = [
        server
        for server in (OURS, *PEERS)
        if server.tier <= max_tier and (not only or any(part in server.name for part in only))
    ]
    names = workloads or [name for name, found in WORKLOADS.items() if found.quick or not quick]
    console = Console()
    with Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("start", total=None)

        def report(step: Step) -> None:
            progress.update(task, description=step.description, completed=step.done, total=step.of)

        results = measure(
            [WORKLOADS[name] for name in names],
            servers,
            quick=quick,
            report=report,
        )
    show(results, console)
    if readme:
        write_readme(results, HERE / "results", HERE.parent / "README.md")
    if out is not None:
        write(results, out)
        console.print(f"written to {out}")


if __name__ == "__main__":
    main()
