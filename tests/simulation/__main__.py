"""`python -m tests.simulation`: run seeds, print what fails, and shrink it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from attrs import evolve

from .runs import Outcome, run, version
from .scenario import Scenario, draw


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=None, help="the first; default: by the clock")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this time")
    parser.add_argument(
        "--only", nargs="*", default=[], help="faults of these kinds; memory: on that broker"
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="leave out the rare faults, like the tests of each commit",
    )
    parser.add_argument("--trace", action="store_true", help="print the trace of every run")
    parser.add_argument("--keep-going", action="store_true", help="only count what fails")
    parser.add_argument("--no-shrink", action="store_true", help="print the failure as it is")
    options = parser.parse_args(arguments)
    start = int(time.time()) if options.start is None else options.start
    print(f"seeds {start} to {start + options.seeds - 1}", flush=True)
    return run_seeds(start, options)


def run_seeds(start: int, options: argparse.Namespace) -> int:
    began = time.monotonic()
    virtual, frames, done = 0.0, 0, 0
    failures: Counter[str] = Counter()
    for seed in range(start, start + options.seeds):
        if time.monotonic() - began > options.minutes * 60:
            break
        outcome = run(draw(seed, options.only, rare=not options.common))
        done += 1
        virtual += outcome.seconds
        frames += outcome.frames
        if options.trace:
            print("\n".join(outcome.trace))
        if outcome.violation is not None:
            failures[outcome.violation.partition(":")[0]] += 1
            if not (options.keep_going or options.no_shrink):
                report(outcome)
                break
            print(f"seed {seed}: {outcome.violation}", flush=True)
            if not options.keep_going:
                break
    took = time.monotonic() - began
    print(
        f"{done} seeds, {virtual / 3600:.2f} virtual hours in {took:.1f} s "
        f"({virtual / took:.0f} times real time), {frames} frames checked, "
        f"{failures.total()} failed {dict(failures) or ''}; code version {version()}"
    )
    return 1 if failures else 0


def report(outcome: Outcome) -> None:
    """Print the failed scenario, shrunk as far as possible."""
    small = shrink(outcome)
    print(f"\nseed {outcome.scenario.seed}: {outcome.violation}")
    print("\n".join(small.trace[-400:]))
    print(f"{small.scenario}")
    print(f"seed {outcome.scenario.seed}: {small.violation}", flush=True)


def shrink(outcome: Outcome) -> Outcome:
    """Remove faults, watchers and workers as long as it fails in the same way."""
    kind = (outcome.violation or "").partition(":")[0]
    smallest = outcome
    again = True
    while again:
        again = False
        for candidate in _smaller(smallest.scenario):
            tried = run(candidate)
            if tried.violation is not None and tried.violation.partition(":")[0] == kind:
                smallest, again = tried, True
                break
    return smallest


def _smaller(scenario: Scenario) -> list[Scenario]:
    found = [scenario.without(index) for index in range(len(scenario.faults))]
    if len(scenario.watchers) > 1:
        found.append(evolve(scenario, watchers=scenario.watchers[:-1]))
    if len(scenario.workers) > 1:
        found.append(evolve(scenario, workers=scenario.workers[:-1]))
    if scenario.nodes > 1:
        found.append(evolve(scenario, nodes=scenario.nodes - 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
