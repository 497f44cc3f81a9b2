"""The tests, several times in a row: `python -m tests.faults.repeat 10 [pytest's own …]`.

Prints a table with a line for each test, a column for each run, and the durations; then the output
of the tests that failed. Exits with 1 if any test has failed. A skipped test counts as failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import click
from attrs import frozen

HERE = Path(__file__).parent
TEST_FILES = sorted(path for path in HERE.glob("test_*.py") if path.name != "test_rules.py")


@frozen
class Run:
    """One test, once."""

    test: str
    seconds: float
    problem: str | None


def run_all(arguments: tuple[str, ...]) -> list[Run]:
    """Runs all tests once."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run(
            [sys.executable, "-m", "pytest", *TEST_FILES, "-q", "-p", "no:cacheprovider",
             f"--junitxml={report}", *arguments],
            cwd=HERE.parents[1],
            env=os.environ | {"CI": "true"},
            stdout=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        return [_read(case) for case in ElementTree.parse(report).iter("testcase")]  # noqa: S314 - written by our own pytest


def _read(case: ElementTree.Element) -> Run:
    problems = [child.text or "" for child in case if child.tag in ("failure", "error")]
    name = case.get("name", "").removeprefix("test_")
    return Run(name, float(case.get("time", 0)), "\n".join(problems) if problems else None)


@click.command()
@click.argument("times", type=click.IntRange(min=1))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def repeat(times: int, arguments: tuple[str, ...]) -> None:
    """Run all tests TIMES times, with further ARGUMENTS for pytest (after `--`)."""
    runs: dict[str, list[Run]] = {}
    for number in range(times):
        results = run_all(arguments)
        for run in results:
            runs.setdefault(run.test, []).append(run)
        wrong = ", ".join(run.test for run in results if run.problem)
        click.echo(f"{number + 1} of {times}: {wrong or 'all well'}", err=True)
    width = max(map(len, runs), default=0)
    for test, runs_of_test in runs.items():
        marks = "".join("F" if run.problem else "." for run in runs_of_test)
        slowest = max(run.seconds for run in runs_of_test)
        click.echo(f"{test:{width}}  {marks}  {slowest:5.1f} s")
    failed = [run for runs_of_test in runs.values() for run in runs_of_test if run.problem]
    for run in failed:
        click.echo(f"\n== {run.test}\n{run.problem}")
    sys.exit(1 if failed or not runs else 0)


if __name__ == "__main__":
    repeat()
