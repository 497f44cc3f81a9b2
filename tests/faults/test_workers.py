"""Faults of a worker, which do not affect the clients that watch other jobs."""

from __future__ import annotations

from itertools import groupby

from .scenario import Scenario, run_scenario


def healths(scenario: Scenario, job: str) -> set[tuple[tuple[str, int], ...]]:
    """Returns the health values that clients in mode `every` received, each with the number of
    consecutive events."""
    health_runs = set()
    for watcher in scenario.watchers:
        if watcher.mode == "every":
            message = [state["health"] for _, state in watcher.client_log.states(job) if state]
            runs = [(health, len(list(run))) for health, run in groupby(message)]
            health_runs.add(tuple((health, n if health != "ok" else 1) for health, n in runs))
    return health_runs


async def test_a_killed_worker_is_stalled_and_then_lost_once_each() -> None:
    """Each of the two events occurs once, although both nodes check leases."""
    async with run_scenario(worker_options={"meanwhile": {"lease": 1.0}}) as scenario:
        async with scenario.fault():
            scenario.workers["meanwhile"].kill()
        await scenario.wait_for_ends("meanwhile")
        await scenario.progress_continues()
        scenario.expect(
            healths(scenario, "meanwhile") == {(("ok", 1), ("stalled", 1), ("lost", 1))},
            f"stalled and lost are told once each: {healths(scenario, 'meanwhile')}",
        )


async def test_two_workers_of_different_attempts_at_once() -> None:
    """The older worker continues and ends, and is rejected. The end of the newer worker counts."""
    async with run_scenario() as scenario:
        async with scenario.fault():
            scenario.add_worker("rival", "meanwhile")
            await scenario.wait_until(
                "every client sees the second attempt",
                lambda: all(
                    (w.states["meanwhile"] or {}).get("attempt") == 2 for w in scenario.watchers
                ),
            )
        scenario.end("meanwhile", "succeed")
        old = await scenario.workers["meanwhile"].report(within=10)
        scenario.expect(old["superseded"], f"the older one knows that it is superseded: {old}")
        scenario.end("rival", "fail")
        await scenario.wait_for_ends("rival")
        scenario.expect(
            scenario.ends["meanwhile"]["status"] == "failed", f"the end is: {scenario.ends}"
        )


async def test_the_clock_of_a_worker_is_wrong_by_an_hour() -> None:
    """The clock of a worker does not affect times, leases or estimates."""
    client_may_be_ahead, behind = {"skew": 3_600.0, "lease": 5.0}, {"skew": -3_600.0, "lease": 5.0}
    async with run_scenario(
        worker_options={"meanwhile": client_may_be_ahead, "late:1": behind}
    ) as scenario:
        async with scenario.fault():
            await scenario.progress_continues(job="meanwhile")
            await scenario.progress_continues()
        await scenario.wait_for_ends("meanwhile")
        health_runs = healths(scenario, "meanwhile") | healths(scenario, "late:1")
        scenario.expect(
            health_runs == {(("ok", 1),)}, f"nobody is told that they are silent: {health_runs}"
        )
